"""The store at which ranks meet: on one host it listens on the loopback interface only, else on the one in use.

A TCPStore has no authentication. By default it listens on all addresses of the host, and any process that reaches one
of them can read and write its keys.
"""

from __future__ import annotations

import errno
import random
import socket
from datetime import timedelta
from typing import Any

ADDRESS = "127.0.0.1"


def host_store(timeout_s: float, address: str = ADDRESS, ports: tuple[int, int] = (0, 0)) -> Any:
    """Return a TCPStore at a free port of an address of this host, ``.port``. Raise OSError if there is none.

    ``ports``: the first and the last port that may be used; (0, 0) for any. While the store is held, elastic uses it in
    place of a store of its own at that port.
    """
    import torch.distributed as dist

    listening = _listening(address, ports)
    return dist.TCPStore(  # type: ignore[attr-defined]
        address,
        listening.getsockname()[1],
        is_master=True,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listening.detach(),
    )


def _listening(address: str, ports: tuple[int, int]) -> socket.socket:
    """Return a socket that listens at one of the ports, each in turn from a random one on, as other runs use some."""
    first, last = ports
    begin = random.randint(first, last)
    for port in (*range(begin, last + 1), *range(first, begin)):
        try:
            return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or ports == (0, 0):
                raise
    raise OSError(errno.EADDRINUSE, f"no port from {first} to {last} is free at {address} (--port-range)")
