"""The store at which ranks meet: on one host it listens on the loopback interface only, else on the one in use.

A TCPStore has no authentication. By default it listens on all addresses of the host, and any process that reaches one
of them can read and write its keys.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

ADDRESS = "127.0.0.1"


def host_store(timeout_s: float, address: str = ADDRESS) -> Any:
    """Return a TCPStore at a free port of an address of this host, ``.port``. Raise OSError if there is none.

    While it is held, elastic uses it in place of a store of its own at that port.
    """
    import torch.distributed as dist

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, 0), family=family)
    return dist.TCPStore(  # type: ignore[attr-defined]
        address,
        listening.getsockname()[1],
        is_master=True,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listening.detach(),
    )
