"""The GPUs of this machine, as NVML sees them: without torch and without a CUDA context."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


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
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return Machine()  # a machine without NVIDIA's driver is nothing to write home about
    except pynvml.NVMLError as error:
        return Machine(note=f"NVML cannot be used, so no GPU is seen: {error}")


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
    """A GPU that cannot be read is left out, with a note: the others are still there."""
    gpus, notes = [], []
    for index in range(library.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(library, library.nvmlDeviceGetHandleByIndex(index)))
        except library.NVMLError as error:
            notes.append(f"GPU {index} is left out, as NVML cannot read it: {error}")
    if setting and "MIG-" in setting:
        notes.append("CUDA_VISIBLE_DEVICES names MIG devices, which are not supported: they count as no GPU")
    driver = _known(library, lambda: _text(library.nvmlSystemGetDriverVersion()), "")
    return Machine(visible(tuple(gpus), setting), driver, "; ".join(notes))


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
