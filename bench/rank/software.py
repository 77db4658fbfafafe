"""Facts about the software and the device of a rank that only torch can tell."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

# Packages whose version decides on how a model trains, by the name under which they are imported.
TRAINING_PACKAGES = (
    *("accelerate", "bitsandbytes", "deepspeed", "diffusers", "flash_attn", "lightning", "open_clip", "peft"),
    *("pytorch_lightning", "sentence_transformers", "timm", "torch_geometric", "torchao", "torchaudio", "torchdata"),
    *("torchrec", "torchtitan", "torchtune", "transformers", "trl", "xformers"),
)
# The file of a plugin at the end of a line of /proc/PID/maps: networks, tuners and profilers.
NCCL_PLUGIN = re.compile(r"/(lib(?:nccl|rccl)-(?:net|tuner|profiler)[^/\n]*?\.so)[^/\n]*$", re.MULTILINE)
NEVER_THE_USERS = {*sys.stdlib_module_names, "__main__", "__mp_main__", "bench", "launch", "workloads"}


def software() -> dict[str, str]:
    """Return versions by column of a row; empty if there is none."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),  # the two sides of a comparison may differ
        "torch": torch.__version__,
        "torchvision": importlib.metadata.version("torchvision"),
        "packages": ";".join(f"{name} {version}" for name in TRAINING_PACKAGES if (version := _version(name))),
        "cuda": (torch.version.cuda or "") if cuda else "",
        "cudnn": str(torch.backends.cudnn.version() or "") if cuda else "",
        "nccl": _nccl() if cuda and dist.is_nccl_available() else "",
        "backend": dist.get_backend() if dist.is_initialized() else "",
        "loader_start_method": torch.multiprocessing.get_start_method(),
    }


def _nccl() -> str:
    """Return the version of NCCL, and the plugins that this process has loaded: ``2.27.5 (libnccl-net-ofi.so)``."""
    version, plugins = ".".join(map(str, torch.cuda.nccl.version())), ""
    with contextlib.suppress(OSError):
        plugins = nccl_plugins(Path("/proc/self/maps").read_text(errors="replace"))
    return f"{version} ({plugins})" if plugins else version


def nccl_plugins(maps: str) -> str:
    """Return the plugins of NCCL or RCCL among the files that a process has mapped, in order, joined by commas."""
    return ", ".join(sorted({match[1] for match in NCCL_PLUGIN.finditer(maps)}))


def _version(package: str) -> str:
    """Return the version of a package that this process has imported; empty for another."""
    version = getattr(sys.modules.get(package), "__version__", "")
    return version if isinstance(version, str) else ""


def device_facts(devices: Sequence[torch.device]) -> tuple[str, list[str]]:
    """Return the first device's name and all UUIDs.

    For the CPU they are ``cpu`` and none, as rows have the processor's model.
    """
    if devices[0].type == "cpu":
        return devices[0].type, []
    properties = [torch.get_device_module(device).get_device_properties(device) for device in devices]
    return properties[0].name, [f"GPU-{p.uuid}" for p in properties]


def imported(folders: Sequence[str]) -> list[str]:
    """Return the files that were imported from some checkouts.

    Files of an environment inside a checkout do not count. The file of a top-level module that a checkout has but that
    was imported from elsewhere, such as an installed copy, does.
    """
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())} if folders else {}
    environments = _environments(folders)
    found = set()
    for name, file in files.items():
        if not file or not Path(file).is_absolute():  # torch.ops has "_ops.py"
            continue
        path = Path(file).resolve()
        if _of_any(folders, path, environments) or (
            # a link that leads out of the checkout is part of it
            _has(folders, name) and not _of_any(folders, Path(file), environments)
        ):
            found.add(str(path))
    return sorted(found)


def _environments(folders: Sequence[str]) -> list[Path]:
    """Return the interpreter's environments under all their names.

    One that contains a checkout is left out, as /usr may contain /usr/src.
    """
    prefixes = {place for prefix in (sys.prefix, sys.base_prefix) for place in (Path(prefix), Path(prefix).resolve())}
    return [prefix for prefix in prefixes if not any(Path(folder).is_relative_to(prefix) for folder in folders)]


def _of_any(folders: Sequence[str], path: Path, environments: Sequence[Path]) -> bool:
    inside = [path.relative_to(folder).parts for folder in folders if path.is_relative_to(folder)]
    return any("site-packages" not in parts for parts in inside) and not any(map(path.is_relative_to, environments))


def _has(folders: Sequence[str], name: str) -> bool:
    """Return whether a checkout has a top-level module or package of that name."""
    if "." in name or name in NEVER_THE_USERS:
        return False
    places = [os.path.join(folder, inner, name) for folder in folders for inner in ("", "src")]
    return any(os.path.isfile(f"{place}.py") or os.path.isfile(f"{place}/__init__.py") for place in places)
