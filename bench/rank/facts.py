"""What only torch can say about the software and the device that a rank runs on."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torchvision


def software() -> dict[str, str]:
    """Versions, as columns of a row; empty where there is none."""
    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": (torch.version.cuda or "") if cuda else "",
        "cudnn": str(torch.backends.cudnn.version() or "") if cuda else "",
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else "",
        "backend": dist.get_backend() if dist.is_initialized() else "",
        "cudnn_benchmark": ("on" if torch.backends.cudnn.benchmark else "off") if cuda else "",
        "loader_start_method": torch.multiprocessing.get_start_method(),
    }


def device_facts(device: torch.device) -> tuple[str, str]:
    """The device's name and its UUID; for the CPU ``cpu`` and nothing (the row has the processor's model)."""
    if device.type != "cuda":
        return device.type, ""
    properties = torch.cuda.get_device_properties(device)
    return properties.name, f"GPU-{properties.uuid}"
