"""Facts about network cards, RDMA devices and GPUDirect, from /sys and the command ethtool."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from bench.machine.kernel_files import SYS, text_of

GPUDIRECT_MODULES = ("nvidia_peermem", "nv_peer_mem")
ETHTOOL_SECONDS = 2.0
ADMIN_PATH = "/usr/sbin:/sbin"  # Not in the PATH of every user.


def network_hardware(sys: Path = SYS) -> dict[str, str | None]:
    """Return the facts by name; None for those that cannot be read. ``sys``: where the kernel's files are."""
    cards = (card for card in _folders(sys / "class/net") if _in_use(card))
    loaded = [module for module in GPUDIRECT_MODULES if (sys / "module" / module).is_dir()]
    return {
        "network_cards": _listed(sys / "class", map(_card, cards)),
        "rdma_devices": _listed(sys / "class", map(_rdma, _folders(sys / "class/infiniband"))),
        "gpudirect_module": _listed(sys / "module", loaded),
    }


def _folders(parent: Path) -> list[Path]:
    return sorted(parent.iterdir()) if parent.is_dir() else []


def _listed(known_by: Path, found: Iterable[str]) -> str | None:
    """Join what was found: ``none`` if there is nothing, None if the folder that would tell is missing."""
    return ("; ".join(found) or "none") if known_by.is_dir() else None


def _in_use(card: Path) -> bool:
    """Return whether a network interface is of a device, unlike loopback and bridges, and is up."""
    return (card / "device").exists() and text_of(card / "operstate") == "up"


def _card(card: Path) -> str:
    """Return a card in words, such as ``eth0: mlx5_core, 100000 Mbit/s, firmware 20.31.1014``."""
    driver = card / "device/driver"
    speed = text_of(card / "speed")
    said = [
        driver.resolve().name if driver.exists() else "",
        f"{speed} Mbit/s" if (speed or "").isdecimal() else "",  # -1 if the driver does not know.
        f"firmware {firmware}" if (firmware := _firmware(card.name)) else "",
    ]
    return f"{card.name}: {', '.join(word for word in said if word)}"


def _firmware(name: str) -> str:
    """Return the version of a card's firmware by ``ethtool -i``, which needs no root; an empty text if unknown."""
    ethtool = shutil.which("ethtool", path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")
    if not ethtool:
        return ""
    try:
        done = subprocess.run([ethtool, "-i", name], capture_output=True, text=True, timeout=ETHTOOL_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    said = dict(line.partition(": ")[::2] for line in done.stdout.splitlines())
    version = said.get("firmware-version", "").strip()
    return "" if version == "N/A" else version


def _rdma(device: Path) -> str:
    """Return an RDMA device and its active ports in words, such as ``mlx5_0: InfiniBand 200 Gb/sec (4X HDR)``."""
    ports = [port for port in _folders(device / "ports") if "ACTIVE" in (text_of(port / "state") or "")]
    said = [f"{text_of(port / 'link_layer') or ''} {text_of(port / 'rate') or ''}".strip() for port in ports]
    if firmware := text_of(device / "fw_ver"):
        said.append(f"firmware {firmware}")
    return f"{device.name}: {', '.join(said)}"
