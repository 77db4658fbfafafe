"""The GPUs of this machine, as NVML sees them: without torch and without a CUDA context."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """``capability`` is CUDA's compute capability, as (major, minor)."""

    uuid: str
    name: str
    memory_mib: float
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """The GPUs that a rank started here may use, and their driver's version (empty without NVML)."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""


def this_machine() -> Machine:
    """What NVML says, less what CUDA_VISIBLE_DEVICES hides; no GPUs where there is no NVML."""
    with _nvml() as nvml:
        if nvml is None:
            return Machine()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        gpus = tuple(
            Gpu(
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                name=_text(nvml.nvmlDeviceGetName(handle)),
                memory_mib=nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**20,
                capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
            )
            for handle in handles
        )
        return Machine(visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES")), _text(nvml.nvmlSystemGetDriverVersion()))


def visible(gpus: tuple[Gpu, ...], setting: str | None) -> tuple[Gpu, ...]:
    """What a value of CUDA_VISIBLE_DEVICES leaves of ``gpus``: indices or UUID prefixes, up to the first unknown one.

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
        chosen += found
    return tuple(chosen)


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The pynvml module, initialised; None where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
