"""The GPUs of this machine by NVML: without torch and without a CUDA context."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# Files of the driver, which exist under WSL and in containers without the NVML library as well.
DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")
LIST_BY_TORCH = """
import json, torch
found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([[f"GPU-{p.uuid}", p.name, p.total_memory / 2**20, [p.major, p.minor]] for p in found]))
"""
TORCH_SECONDS = 120.0


@dataclass(frozen=True)
class Gpu:
    """A GPU. ``memory_mib``: NaN if NVML cannot tell. ``capability``: CUDA's compute capability (major, minor)."""

    uuid: str
    name: str
    memory_mib: float
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """The GPUs that a rank may use, and the version of their driver (empty without NVML).

    ``note``: one line that says why an expected GPU is missing, else empty. ``nodes``: how many nodes have these GPUs.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    note: str = ""
    nodes: int = 1


def device_names(machine: Machine) -> str:
    """Return the distinct names of a machine's GPUs, joined by ``;``, as in the column ``device_name``."""
    return ";".join(dict.fromkeys(gpu.name for gpu in machine.gpus))


def this_machine() -> Machine:
    """Return the GPUs that NVML lists and CUDA_VISIBLE_DEVICES does not hide; no GPUs without NVML."""
    import pynvml

    try:
        with nvml() as library:
            return _listed(library, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except pynvml.NVMLError as error:
        absent = isinstance(error, (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded))
        if absent and not any(Path(file).exists() for file in DRIVER_FILES):
            return Machine()  # No NVIDIA driver: expected, no note.
        gpus = _listed_by_torch()
        if not gpus:
            return Machine(note=f"NVML cannot be used ({error}), and torch sees no GPU either")
        return Machine(gpus, note=f"NVML cannot be used ({error}): torch listed the GPUs, NVML's columns stay empty")


def _listed_by_torch() -> tuple[Gpu, ...]:
    """Return the GPUs that torch lists in a process (CUDA_VISIBLE_DEVICES applied); none if that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", LIST_BY_TORCH], capture_output=True, check=True, timeout=TORCH_SECONDS
        )
        return tuple(
            Gpu(uuid, name, mib, (major, minor)) for uuid, name, mib, (major, minor) in json.loads(done.stdout)
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def visible(gpus: tuple[Gpu, ...], setting: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES leaves visible.

    The value has indices or UUID prefixes; those after the first unknown one are ignored, and no GPU is visible if one
    is named twice. Source: CUDA C++ Programming Guide, "CUDA Environment Variables". If the GPUs differ, CUDA's indices
    have NVML's order only with CUDA_DEVICE_ORDER=PCI_BUS_ID; the number of GPUs is right in any case, and rows have
    the names that ranks report.
    """
    if setting is None:
        return gpus
    chosen: list[Gpu] = []
    for word in setting.split(","):
        word = word.strip()
        if word.isdecimal():
            found = gpus[int(word) : int(word) + 1]
        else:
            found = tuple(g for g in gpus if word.startswith("GPU-") and g.uuid.startswith(word))
        if len(found) != 1:
            break
        if found[0] in chosen:
            return ()
        chosen += found
    return tuple(chosen)


@contextlib.contextmanager
def nvml() -> Iterator[Any]:
    """Initialise NVML and give the pynvml module; its NVMLError if there is no working driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # A GPU may have failed meanwhile; what was read remains valid.
            pynvml.nvmlShutdown()


def _listed(library: Any, setting: str | None) -> Machine:
    """List the GPUs. A GPU that cannot be read is left out, with a note.

    If MIG divides a visible GPU, no GPU is left, as processes would see only one part of it.
    """
    gpus, notes, divided = [], [], set()
    for index in range(library.nvmlDeviceGetCount()):
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            mode, _ = _or_default(library, functools.partial(library.nvmlDeviceGetMigMode, handle), (0, 0))
            gpus.append(_gpu(library, handle))
            if mode == library.NVML_DEVICE_MIG_ENABLE:
                divided.add(gpus[-1].uuid)
        except library.NVMLError as error:
            notes.append(f"GPU {index} is left out, as NVML cannot read it: {error}")
    if setting and "MIG-" in setting:
        notes.append("CUDA_VISIBLE_DEVICES names MIG devices, which are not supported: they count as no GPU")
    driver = _or_default(library, lambda: _text(library.nvmlSystemGetDriverVersion()), "")
    chosen = visible(tuple(gpus), setting)
    if divided & {gpu.uuid for gpu in chosen}:
        notes.append(
            "MIG divides a GPU, which is not supported: no GPU is used; turn it off (nvidia-smi -mig 0), or name the "
            "others in CUDA_VISIBLE_DEVICES by their UUIDs"
        )
        chosen = ()
    return Machine(chosen, driver, "; ".join(notes))


def _gpu(library: Any, handle: Any) -> Gpu:
    return Gpu(
        uuid=_text(library.nvmlDeviceGetUUID(handle)),
        name=_text(library.nvmlDeviceGetName(handle)),
        # Not supported where CPU and GPU share memory (GB10, Jetson).
        memory_mib=_or_default(library, lambda: library.nvmlDeviceGetMemoryInfo(handle).total / 2**20, math.nan),
        capability=tuple(library.nvmlDeviceGetCudaComputeCapability(handle)),
    )


def _or_default(library: Any, read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except library.NVMLError:
        return otherwise


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
