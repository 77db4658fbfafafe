"""The store at which ranks meet: on one host it listens on the loopback interface alone.

A TCPStore asks nobody who he is. Left to itself it listens on all addresses of the host, and whoever reaches one of
them can read and write its keys.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

ADDRESS = "127.0.0.1"


def hosted(timeout_s: float) -> Any:
    """A TCPStore at a port that was free, ``.port``. Stores that elastic asks for at that port are this one, as long as
    it is held. OSError if there is no port left."""
    import torch.distributed as dist

    listening = socket.create_server((ADDRESS, 0))
    return dist.TCPStore(  # type: ignore[attr-defined]
        ADDRESS,
        listening.getsockname()[1],
        is_master=True,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listening.detach(),
    )
