"""The ports between nodes: which of them ``--port-range`` cannot choose."""

from __future__ import annotations

from pathlib import Path

CHOSEN_BY_LINUX = Path("/proc/sys/net/ipv4/ip_local_port_range")


def ports_warning(ports: tuple[int, int], file: Path = CHOSEN_BY_LINUX) -> str:
    """Return in words that libraries choose other ports than ``ports``; an empty text if they do not, or any may be.

    Gloo and NCCL let Linux choose the ports of ranks, which takes them from ``file``.
    """
    if ports == (0, 0):
        return ""
    try:
        first, last = map(int, file.read_text().split())
    except (OSError, ValueError):
        return ""
    if ports[0] <= first and last <= ports[1]:
        return ""
    return (
        f"--port-range {ports[0]}-{ports[1]} is for the port at which ranks meet; Gloo and NCCL choose theirs from "
        f"{first}-{last} on this node (sysctl net.ipv4.ip_local_port_range, which root may change)"
    )
