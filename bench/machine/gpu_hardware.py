"""Facts about the GPUs of this machine, by NVML."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.machine.gpus import nvml
from bench.machine.kernel_files import SYS, distinct, on_off, text_of

# How the path between two GPUs is called, by NVML's level; the words are those of `nvidia-smi topo -m`.
LEVELS = {0: "one board", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}


def _power_limit(library: Any, gpu: Any) -> str:
    return f"{library.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000:g}"


def _max_clocks(library: Any, gpu: Any) -> str:
    return _clocks(library, lambda kind: library.nvmlDeviceGetMaxClockInfo(gpu, kind))


def _application_clocks(library: Any, gpu: Any) -> str:
    return _clocks(library, lambda kind: library.nvmlDeviceGetApplicationsClock(gpu, kind))


def _clocks(library: Any, clock: Callable[[int], int]) -> str:
    return f"SM {clock(library.NVML_CLOCK_SM)} / memory {clock(library.NVML_CLOCK_MEM)}"


def _ecc(library: Any, gpu: Any) -> str | None:
    return on_off(str(library.nvmlDeviceGetEccMode(gpu)[0]))


def _ecc_errors(library: Any, gpu: Any) -> str:
    """Return the errors in the life of the GPU."""
    corrected, uncorrected = (
        library.nvmlDeviceGetTotalEccErrors(gpu, kind, library.NVML_AGGREGATE_ECC)
        for kind in (library.NVML_MEMORY_ERROR_TYPE_CORRECTED, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
    )
    return f"{corrected} corrected / {uncorrected} not"


def _persistence(library: Any, gpu: Any) -> str | None:
    return on_off(str(library.nvmlDeviceGetPersistenceMode(gpu)))


def _mig(library: Any, gpu: Any) -> str | None:
    return on_off(str(library.nvmlDeviceGetMigMode(gpu)[0]))


def _pcie_generation(library: Any, gpu: Any) -> str:
    """Return the largest generation of the GPU in its slot, as an idle GPU lowers the present one to save power."""
    return str(library.nvmlDeviceGetMaxPcieLinkGeneration(gpu))


def _pcie_width(library: Any, gpu: Any) -> str:
    """Return the present width, which shows a card that is badly seated."""
    return str(library.nvmlDeviceGetCurrPcieLinkWidth(gpu))


def _nvlinks(library: Any, gpu: Any) -> str | None:
    """Return how many NVLinks are active; None if NVML knows no link of this GPU."""
    states = []
    for link in range(library.NVML_NVLINK_MAX_LINKS):
        with contextlib.suppress(library.NVMLError):
            states.append(library.nvmlDeviceGetNvLinkState(gpu, link))
    return str(sum(states)) if states else None


OF_A_GPU: dict[str, Callable[[Any, Any], str | None]] = {
    "gpu_power_limit_w": _power_limit,
    "gpu_max_clocks_mhz": _max_clocks,
    "gpu_application_clocks_mhz": _application_clocks,
    "gpu_ecc": _ecc,
    "gpu_ecc_errors": _ecc_errors,
    "gpu_persistence": _persistence,
    "gpu_mig": _mig,
    "gpu_pcie_generation": _pcie_generation,
    "gpu_pcie_width": _pcie_width,
    "gpu_nvlinks": _nvlinks,
}
OF_ALL_GPUS = ("gpu_numa_nodes", "gpu_topology")


def gpu_hardware(uuids: Sequence[str], sys: Path = SYS) -> dict[str, str | None]:
    """Return the facts of these GPUs by name, distinct values joined by ``, ``; None for those that cannot be read.

    Without GPUs there are no facts. ``sys``: where the kernel's files are.
    """
    if not uuids:
        return {}
    import pynvml

    try:
        with nvml() as library:
            return _read(library, uuids, sys)
    except pynvml.NVMLError:
        return dict.fromkeys([*OF_A_GPU, *OF_ALL_GPUS])


def _read(library: Any, uuids: Sequence[str], sys: Path) -> dict[str, str | None]:
    gpus = []
    for uuid in uuids:
        with contextlib.suppress(library.NVMLError):
            gpus.append(library.nvmlDeviceGetHandleByUUID(uuid.encode()))  # Older bindings accept only bytes.
    facts = {name: distinct(_each(library, gpus, read)) for name, read in OF_A_GPU.items()}
    numa = distinct(_each(library, gpus, lambda library, gpu: _numa_node(library, gpu, sys)))
    return {**facts, "gpu_numa_nodes": numa, "gpu_topology": _topology(library, gpus)}


def _each(library: Any, gpus: Iterable[Any], read: Callable[[Any, Any], str | None]) -> Iterable[str | None]:
    for gpu in gpus:
        with contextlib.suppress(library.NVMLError):
            yield read(library, gpu)


def _numa_node(library: Any, gpu: Any, sys: Path) -> str | None:
    pci = library.nvmlDeviceGetPciInfo(gpu)
    node = text_of(sys / f"bus/pci/devices/{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0/numa_node")
    return None if node == "-1" else node  # -1 if the firmware does not tell.


def _topology(library: Any, gpus: Sequence[Any]) -> str | None:
    """Return how many pairs of GPUs are how far from each other, such as ``NODE x12, SYS x16``; None for one GPU."""
    levels: Counter[str] = Counter()
    for one, other in itertools.combinations(gpus, 2):
        with contextlib.suppress(library.NVMLError):
            level = library.nvmlDeviceGetTopologyCommonAncestor(one, other)
            levels[LEVELS.get(level, str(level))] += 1
    return ", ".join(f"{level} x{pairs}" for level, pairs in sorted(levels.items())) or None
