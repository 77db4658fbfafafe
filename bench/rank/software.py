"""What only torch can say about the software and the device that a rank runs on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torchvision

NEVER_THE_USERS = {*sys.stdlib_module_names, "__main__", "__mp_main__", "bench", "launch", "workloads"}


def software() -> dict[str, str]:
    """Versions, as columns of a row; empty where there is none."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),  # that of a side of a comparison may be another than ours
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": (torch.version.cuda or "") if cuda else "",
        "cudnn": str(torch.backends.cudnn.version() or "") if cuda else "",
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda and dist.is_nccl_available() else "",
        "backend": dist.get_backend() if dist.is_initialized() else "",
        "loader_start_method": torch.multiprocessing.get_start_method(),
    }


def device_facts(devices: Sequence[torch.device]) -> tuple[str, list[str]]:
    """The first device's name and all UUIDs; for the CPU ``cpu`` and none (the row has the processor's model)."""
    if devices[0].type == "cpu":
        return devices[0].type, []
    properties = [torch.get_device_module(device).get_device_properties(device) for device in devices]
    return properties[0].name, [f"GPU-{p.uuid}" for p in properties]


def imported(folders: Sequence[str]) -> list[str]:
    """The files of some checkouts that have been imported, but for those of an environment inside of them; and the file
    of each top-level module that they have and that was imported from elsewhere, as an installed copy is."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())} if folders else {}
    environments = _environments(folders)
    found = set()
    for name, file in files.items():
        if not file or not Path(file).is_absolute():  # torch.ops: "_ops.py"
            continue
        path = Path(file).resolve()
        if _of_any(folders, path, environments) or (
            _has(folders, name) and not _of_any(folders, Path(file), environments)  # a link that leads out of it is its
        ):
            found.add(str(path))
    return sorted(found)


def _environments(folders: Sequence[str]) -> list[Path]:
    """The interpreter's, under all their names, but for one that holds a checkout, as /usr does that of /usr/src."""
    prefixes = {place for prefix in (sys.prefix, sys.base_prefix) for place in (Path(prefix), Path(prefix).resolve())}
    return [prefix for prefix in prefixes if not any(Path(folder).is_relative_to(prefix) for folder in folders)]


def _of_any(folders: Sequence[str], path: Path, environments: Sequence[Path]) -> bool:
    inside = [path.relative_to(folder).parts for folder in folders if path.is_relative_to(folder)]
    return any("site-packages" not in parts for parts in inside) and not any(map(path.is_relative_to, environments))


def _has(folders: Sequence[str], name: str) -> bool:
    """Whether a checkout has a top-level module or package of that name."""
    if "." in name or name in NEVER_THE_USERS:
        return False
    places = [os.path.join(folder, inner, name) for folder in folders for inner in ("", "src")]
    return any(os.path.isfile(f"{place}.py") or os.path.isfile(f"{place}/__init__.py") for place in places)
