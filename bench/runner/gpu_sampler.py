"""Samples the GPUs of a node during a launch: a thread queries NVML, and pure functions compute columns.

GPUs are identified by their UUIDs throughout, as CUDA and NVML may number them differently.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import time_ns
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine.gpus import Gpu, nvml
from bench.store.columns import Row

PERIOD_S = 0.1  # the counters of power and energy refresh every 20 to 100 ms: more readings would tell no more
PASSES_A_PROCESS_LIST = 5  # the most expensive query; processes that compute for half a second are still seen
PATIENCE_S = 5.0  # NVML may hang on a GPU that fell off the bus, and the run must not

# Bits of nvmlClocksEventReasons (formerly nvmlClocksThrottleReasons) in nvml.h for clocks that are lowered
# involuntarily. The other bits mean an idle GPU (GpuIdle), or a setting (ApplicationsClocksSetting, SyncBoost,
# Display...).
THROTTLES = {
    "SwPowerCap": 0x04,
    "HwSlowdown": 0x08,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
_THROTTLED = sum(THROTTLES.values())

# Energy is reported if it is accurate to 5 %. The counter lags by up to 0.1 s; power is the mean of the last second
# (nvmlDeviceGetPowerUsage, on Ampere and later except GA100), so it lags by half a second. 20 times that is long
# enough.
ENERGY_WINDOW_S = {"counter": 2.0, "power": 10.0}
GAP_S = 0.5  # between readings; the power in a longer gap is unknown

Array = NDArray[np.float64]
Window = tuple[int, int]  # wall-clock nanoseconds, as of ``time.time_ns``


@dataclass(frozen=True)
class DeviceSample:
    """One reading of one GPU. None is what NVML does not report; ``pids`` is also None if it was not queried.

    ``energy_j`` counts from the load of the driver. ``utilisation`` is the share of the last 1/6 to 1 s in which a
    kernel ran. ``memory_used_mib`` is as in nvidia-smi: all processes, without the driver's own memory.
    """

    time_ns: int  # wall clock just before the reading
    uuid: str
    energy_j: float | None = None
    power_w: float | None = None
    memory_used_mib: float | None = None
    utilisation: float | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: int | None = None
    pids: tuple[int, ...] | None = None


class Sampler:
    """Readings of ``gpus`` from ``start`` to ``stop``, for one launch. Neither raises, whatever NVML does."""

    def __init__(self, gpus: Iterable[Gpu]) -> None:
        self._uuids = [gpu.uuid for gpu in gpus]
        self._samples: list[DeviceSample] = []
        self._trouble: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread."""
        if self._uuids:
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()

    def stop(self) -> tuple[list[DeviceSample], str | None]:
        """Take one last reading, and return all readings and a line on what could not be read. May be called again."""
        self._stopping.set()
        if self._thread:
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive():
                self._trouble.setdefault("", f"NVML did not answer within {PATIENCE_S:g} s")
        return list(self._samples), "; ".join(self._trouble.values()) or None

    def _run(self) -> None:
        try:
            with nvml() as library:
                self._sample(library)
        except Exception as error:  # from NVML's start, or a bug; in both cases the launch goes on
            self._trouble.setdefault("", f"NVML cannot be used: {str(error) or type(error).__name__}")

    def _sample(self, library: Any) -> None:
        handles = self._handles(library)
        for number in itertools.count():
            last = self._stopping.is_set()  # one reading follows the end of the launch
            for uuid, handle in handles.items():
                try:
                    sample = read(library, uuid, handle, processes=number % PASSES_A_PROCESS_LIST == 0)
                    self._samples.append(sample)
                except library.NVMLError as error:
                    self._trouble.setdefault(uuid, f"NVML lost {uuid}: {error}")
            if last or not handles:
                return
            self._stopping.wait(PERIOD_S)  # between passes, so that a slow NVML is queried less often

    def _handles(self, library: Any) -> dict[str, Any]:
        handles = {}
        for uuid in self._uuids:
            try:
                handles[uuid] = library.nvmlDeviceGetHandleByUUID(uuid.encode())  # older bindings accept only bytes
            except library.NVMLError as error:
                self._trouble[uuid] = f"NVML does not find {uuid}: {error}"
        return handles


def read(library: Any, uuid: str, handle: Any, processes: bool) -> DeviceSample:
    """Return a reading of one GPU. Raise NVMLError if NVML reports nothing of it."""
    now, values, errors = time_ns(), {}, []
    for name, ask in _QUESTIONS.items():
        if name == "pids" and not processes:
            continue
        try:
            values[name] = ask(library, handle)
        except library.NVMLError as error:
            errors.append(error)
    if not values:
        raise errors[0]
    return DeviceSample(now, uuid, **values)


def _reasons(library: Any, handle: Any) -> Any:
    """Query by the function's new name, or by its old one if the bindings or the driver have no other."""
    try:
        return library.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except (AttributeError, library.NVMLError_FunctionNotFound):
        return library.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _temperature(library: Any, handle: Any) -> Any:
    """Query by the old function, or by the new one if the old one is gone, as it will be in CUDA 14."""
    try:
        return library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)
    except (AttributeError, library.NVMLError_FunctionNotFound):
        return library.nvmlDeviceGetTemperatureV(handle, library.NVML_TEMPERATURE_GPU)


# Energy comes first, right after the clock was read. NVML reports millijoules, milliwatts, bytes and per cent.
_QUESTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "energy_j": lambda library, handle: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
    "power_w": lambda library, handle: library.nvmlDeviceGetPowerUsage(handle) / 1e3,
    # version 2 reports the driver's own memory (0.9 GiB of an A100) in a field of its own
    "memory_used_mib": lambda library, handle: (
        library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2).used / 2**20
    ),
    "utilisation": lambda library, handle: library.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
    "sm_clock_mhz": lambda library, handle: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM),
    "temperature_c": _temperature,
    "throttle_reasons": _reasons,
    "pids": lambda library, handle: tuple(p.pid for p in library.nvmlDeviceGetComputeRunningProcesses(handle)),
}


# -- from readings to columns: pure functions ----------------------------------------------------------------------


def device_metrics(samples: Sequence[DeviceSample], gpus: Collection[str], window: Window, total_samples: int) -> Row:
    """Return the device columns of a launch over the GPUs of its ranks on all nodes; ``gpus`` has their UUIDs.

    ``window`` is that of the timed steps, and ``total_samples`` is what all ranks trained in it. A column is None
    unless it is known of every GPU.
    """
    start, end = window
    devices = [[s for s in samples if s.uuid == uuid] for uuid in gpus]
    inside = [[s for s in device if start <= s.time_ns <= end] for device in devices]
    joules, source = _energy(devices, window)
    throttled_share, throttle_reasons = _throttling(inside)
    return {
        "energy_j": joules,
        "energy_source": source,
        "joules_per_sample": None if joules is None else joules / total_samples,
        "power_mean_w": None if joules is None else joules / ((end - start) / 1e9),
        "sm_clock_min_mhz": _over(inside, "sm_clock_mhz", min),
        "utilisation_mean": _over(inside, "utilisation", fmean),
        "temperature_max_c": _over(inside, "temperature_c", max),
        "device_memory_peak_mib": _over(inside, "memory_used_mib", max),
        "throttled_share": throttled_share,
        "throttle_reasons": throttle_reasons,
    }


def of_ranks(samples: Sequence[DeviceSample], gpus: Collection[str]) -> list[DeviceSample]:
    """Return a node's readings of the GPUs of its ranks; all of them if no rank has said which GPU it has."""
    return [sample for sample in samples if sample.uuid in gpus or not gpus]


def device_rows(samples: Sequence[DeviceSample], requested_at_ns: int, window: Window | None = None) -> list[Row]:
    """Return the DEVICES columns, one row for each reading.

    Without a window (a failed launch) ``in_window`` is unknown.
    """
    return [
        {
            "device_uuid": s.uuid,
            "time_s": (s.time_ns - requested_at_ns) / 1e9,
            "in_window": None if window is None else window[0] <= s.time_ns <= window[1],
            "energy_j": s.energy_j,
            "power_w": s.power_w,
            "memory_used_mib": s.memory_used_mib,
            "utilisation": s.utilisation,
            "sm_clock_mhz": s.sm_clock_mhz,
            "temperature_c": s.temperature_c,
            "throttled": None if s.throttle_reasons is None else bool(s.throttle_reasons & _THROTTLED),
            "clock_reasons_mask": s.throttle_reasons,
            "processes": None if s.pids is None else len(s.pids),
        }
        for s in samples
    ]


def foreign_processes(samples: Sequence[DeviceSample], ranks: Mapping[str, Collection[int]]) -> bool | None:
    """Return whether a process of another program computed on a GPU of the ranks of a node; None if NVML cannot tell.

    ``ranks`` has the process ids of the node's ranks by UUID, and ``samples`` are the node's own readings.
    In a container NVML may list the host's process ids, or none. If it never lists a process of ours, ids cannot be
    compared, and only a GPU with more processes than ranks has a foreign one for certain.
    """
    lists = [(s.uuid, set(s.pids)) for s in samples if s.uuid in ranks and s.pids is not None]
    ours = set(itertools.chain.from_iterable(ranks.values()))
    comparable = any(pids & ours for _, pids in lists)
    if any(pids - ours if comparable else len(pids) > len(ranks[uuid]) for uuid, pids in lists):
        return True
    return False if comparable and {uuid for uuid, _ in lists} == set(ranks) else None


def _energy(devices: Sequence[Sequence[DeviceSample]], window: Window) -> tuple[float | None, str | None]:
    """Return the joules of all GPUs in the window, and NVML's source for them; None unless all are known."""
    found = [_energy_of_one(device, window) for device in devices]
    known = [one for one in found if one is not None]
    if not found or len(known) < len(found):
        return None, None
    return sum(joules for joules, _ in known), ";".join(sorted({source for _, source in known}))


def _energy_of_one(device: Sequence[DeviceSample], window: Window) -> tuple[float, str] | None:
    """Return the joules by the counter if possible, else by power; None if the window or the readings are too short."""
    window_s = (window[1] - window[0]) / 1e9
    if window_s >= ENERGY_WINDOW_S["counter"]:
        times, counts = _around(device, "energy_j", window)
        # it restarts with the driver, and stands still without a meter; between its ends gaps do not matter
        if _dense(times[:2]) and _dense(times[-2:]) and (np.diff(counts) >= 0).all() and counts[-1] > counts[0]:
            at_start, at_end = np.interp([0, window_s], times, counts)
            return float(at_end - at_start), "counter"
    if window_s >= ENERGY_WINDOW_S["power"]:
        times, watts = _around(device, "power_w", window)
        if _dense(times):
            points = np.array([0, *times[1:-1], window_s])
            power = np.interp(points, times, watts)
            return float(((power[1:] + power[:-1]) / 2 * np.diff(points)).sum()), "power"
    return None


def _around(device: Sequence[DeviceSample], field: str, window: Window) -> tuple[Array, Array]:
    """Return times and values from the last reading before the window to the first one after it.

    Times are seconds from the window's start. Both are empty if the readings do not cover the window, or if the wall
    clock was set back between them.
    """
    known = [(s.time_ns, value) for s in device if (value := getattr(s, field)) is not None]
    before = [i for i, (at, _) in enumerate(known) if at <= window[0]]
    after = [i for i, (at, _) in enumerate(known) if at >= window[1]]
    taken = known[before[-1] : after[0] + 1] if before and after else []
    if any(later <= earlier for (earlier, _), (later, _) in itertools.pairwise(taken)):
        taken = []
    return np.array([(at - window[0]) / 1e9 for at, _ in taken]), np.array([value for _, value in taken])


def _dense(times: Array) -> bool:
    """Return whether there are readings, without long gaps between them."""
    return len(times) > 1 and bool((np.diff(times) <= GAP_S).all())


def _over(devices: Sequence[Sequence[DeviceSample]], field: str, reduce: Callable[[list[Any]], Any]) -> Any:
    """Apply ``reduce`` to the readings of each GPU and then to the results; None unless every GPU has a reading."""
    known = [[v for s in device if (v := getattr(s, field)) is not None] for device in devices]
    return reduce([reduce(values) for values in known]) if known and all(known) else None


def _throttling(devices: Sequence[Sequence[DeviceSample]]) -> tuple[float | None, str | None]:
    """Return the largest share of readings with a lowered clock of any GPU, and all reasons."""
    masks = [[s.throttle_reasons for s in device if s.throttle_reasons is not None] for device in devices]
    if not masks or not all(masks):
        return None, None
    share = max(fmean(bool(mask & _THROTTLED) for mask in of_one) for of_one in masks)
    names = [name for name, bit in THROTTLES.items() if any(mask & bit for of_one in masks for mask in of_one)]
    return share, ";".join(names) or None
