"""``--port-range``: where ranks meet, and what Linux chooses."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from bench.nodes.ports import ports_warning
from launch.ports import free_port
from launch.rendezvous import host_store


@pytest.mark.parametrize(
    ("ports", "chosen", "warned"),
    [
        ((0, 0), "32768\t60999\n", False),
        ((32768, 60999), "32768\t60999\n", False),
        ((40000, 41000), "32768\t60999\n", True),
        ((40000, 41000), "40100 40900", False),
        ((40000, 41000), "", False),
    ],
)
def test_ports_of_libraries_are_told_unless_they_are_in_the_range(
    ports: tuple[int, int], chosen: str, warned: bool, tmp_path: Path
) -> None:
    (file := tmp_path / "ip_local_port_range").write_text(chosen)
    words = ports_warning(ports, file)
    assert bool(words) == warned
    assert not warned or "from 32768-60999 on this node" in words


def test_ranks_meet_at_a_free_port_of_the_range() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"no port from {port} to {port} is free at 127.0.0.1") as error:
            host_store(5, ports=(port, port))
        assert error.value.errno == errno.EADDRINUSE
        free = free_port()
        assert host_store(5, ports=(free, free)).port == free
    assert host_store(5).port > 0
