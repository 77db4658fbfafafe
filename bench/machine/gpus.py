"""The GPUs of this machine, as NVML sees them: without torch and without a CUDA context."""

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

# The driver's own files, there in a container without NVML's library and under WSL as well.
DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")
LIST_BY_TORCH = """
import json, torch
found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([[f"GPU-{p.uuid}", p.name, p.total_memory / 2**20, [p.major, p.minor]] for p in found]))
"""
TORCH_SECONDS = 120.0


@dataclass(frozen=True)
class Gpu:
    """``capability`` is CUDA's compute capability, as (major, minor); ``memory_mib`` is NaN where NVML cannot say."""

    uuid: str
    name: str
    memory_mib: float
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """The GPUs that a rank started here may use, and their driver's version (empty without NVML).

    ``note`` says in one line why a GPU that one would expect is not among them; else it is empty.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    note: str = ""


def this_machine() -> Machine:
    """What NVML says, less what CUDA_VISIBLE_DEVICES hides; no GPUs where there is no NVML."""
    import pynvml

    try:
        with nvml() as library:
            return _listed(library, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except pynvml.NVMLError as error:
        absent = isinstance(error, (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded))
        if absent and not any(Path(file).exists() for file in DRIVER_FILES):
            return Machine()  # a machine without NVIDIA's driver is nothing to write home about
        gpus = _listed_by_torch()
        if not gpus:
            return Machine(note=f"NVML cannot be used ({error}), and torch sees no GPU either")
        return Machine(gpus, note=f"NVML cannot be used ({error}): torch listed the GPUs, NVML's columns stay empty")


def _listed_by_torch() -> tuple[Gpu, ...]:
    """The GPUs that a process with torch sees (CUDA_VISIBLE_DEVICES applied); none if it cannot say."""
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
    """What a value of CUDA_VISIBLE_DEVICES leaves of ``gpus``: indices or UUID prefixes, up to the first unknown one;
    nothing if a GPU is named twice.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables". With unlike GPUs, CUDA's indices follow NVML's
    order only under CUDA_DEVICE_ORDER=PCI_BUS_ID; the count is right in any case, and rows take names from ranks.
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
    """The pynvml module, initialised. Raises its NVMLError where there is no driver that works."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # a GPU that fell off the bus; what was read stays true
            pynvml.nvmlShutdown()


def _listed(library: Any, setting: str | None) -> Machine:
    """A GPU that cannot be read is left out, with a note: the others are still there. One that MIG divides leaves none:
    a process then sees one of its parts, whatever else there is."""
    gpus, notes, divided = [], [], set()
    for index in range(library.nvmlDeviceGetCount()):
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            mode, _ = _known(library, functools.partial(library.nvmlDeviceGetMigMode, handle), (0, 0))
            gpus.append(_gpu(library, handle))
            if mode == library.NVML_DEVICE_MIG_ENABLE:
                divided.add(gpus[-1].uuid)
        except library.NVMLError as error:
            notes.append(f"GPU {index} is left out, as NVML cannot read it: {error}")
    if setting and "MIG-" in setting:
        notes.append("CUDA_VISIBLE_DEVICES names MIG devices, which are not supported: they count as no GPU")
    driver = _known(library, lambda: _text(library.nvmlSystemGetDriverVersion()), "")
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
        # not supported where CPU and GPU share one memory (GB10, Jetson)
        memory_mib=_known(library, lambda: library.nvmlDeviceGetMemoryInfo(handle).total / 2**20, math.nan),
        capability=tuple(library.nvmlDeviceGetCudaComputeCapability(handle)),
    )


def _known(library: Any, read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except library.NVMLError:
        return otherwise


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
