"""What only torch can say about the software and the device that a rank runs on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torchvision


def software() -> dict[str, str]:
    """Versions, as columns of a row; empty where there is none."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),  # that of a side of a comparison may be another than ours
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": (torch.version.cuda or "") if cuda else "",
        "cudnn": str(torch.backends.cudnn.version() or "") if cuda else "",
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else "",
        "backend": dist.get_backend() if dist.is_initialized() else "",
        "loader_start_method": torch.multiprocessing.get_start_method(),
    }


def device_facts(devices: Sequence[torch.device]) -> tuple[str, list[str]]:
    """The first device's name and all UUIDs; for the CPU ``cpu`` and none (the row has the processor's model)."""
    if devices[0].type != "cuda":
        return devices[0].type, []
    properties = [torch.cuda.get_device_properties(device) for device in devices]
    return properties[0].name, [f"GPU-{p.uuid}" for p in properties]


def imported(folders: Sequence[str]) -> list[str]:
    """The files in some folders that have been imported, but for those of the interpreter's own environment."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())] if folders else []
    found = {str(Path(file).resolve()) for file in files if file and Path(file).is_absolute()}  # torch.ops: "_ops.py"
    inside = [file for file in found if any(Path(file).is_relative_to(folder) for folder in folders)]
    return sorted(file for file in inside if not Path(file).is_relative_to(sys.prefix))
