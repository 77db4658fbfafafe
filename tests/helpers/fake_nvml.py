"""A libnvidia-ml.so.1 made by hand: C functions with NVML's signatures, over GPUs whose readings were recorded.

It takes the place of the library that pynvml loads, below pynvml: its ctypes calls, structures, buffers and errors are
the real ones. The signatures and codes are those of nvml.h.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char, c_char_p, c_int, c_uint, c_uint64, c_ulonglong
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

Handle = pynvml.c_nvmlDevice_t
SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE = 0, 2, 3, 6, 7
AGGREGATE = 1  # NVML_AGGREGATE_ECC: errors in the life of the device
DRIVER_NOT_LOADED, LOST, VERSION_MISMATCH = 9, 15, 25
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

# A reading, in NVML's own units. What a frame leaves out is not supported; an Error is the code that the call returns.
Frame = dict[str, Any]


@dataclass(frozen=True)
class Error:
    code: int


@dataclass
class Device:
    """A GPU. Each time its energy counter is asked, it goes on to its next frame; the last one stays.

    ``began`` is set then for the first time, and ``ended`` when all frames have been read.
    """

    uuid: str
    frames: list[Frame] = field(default_factory=list)
    facts: Frame = field(default_factory=dict)  # name, total (bytes), capability: what never changes
    handle: int = SUCCESS  # what asking for its handle returns
    asked: int = 0
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def advance(self) -> None:
        self.asked += 1
        self.began.set()
        if self.asked > len(self.frames):
            self.ended.set()

    def now(self, name: str) -> Any:
        frame = self.frames[min(max(self.asked, 1), len(self.frames)) - 1] if self.frames else {}
        return {**self.facts, **frame}.get(name, Error(NOT_SUPPORTED))


class Library:
    """``lacks`` are functions that this driver does not have; ``init`` is what nvmlInit returns.

    ``opened`` counts the calls of nvmlInit, and ``open`` those that worked and were not yet shut down.
    """

    def __init__(self, *devices: Device, driver: str | Error = "550.54.15", lacks: tuple[str, ...] = ()) -> None:
        self.devices, self.driver, self.init = devices, driver, SUCCESS
        self.open = self.opened = 0
        self.uuids_asked: list[bytes] = []
        number, wide, text = POINTER(c_uint), POINTER(c_ulonglong), POINTER(c_char)
        memory, memory_v2 = POINTER(pynvml.c_nvmlMemory_t), POINTER(pynvml.c_nvmlMemory_v2_t)
        utilisation, temperature = POINTER(pynvml.c_nvmlUtilization_t), POINTER(pynvml.c_nvmlTemperature_v1_t)
        processes = POINTER(pynvml.c_nvmlProcessInfo_v3_t)
        functions: dict[str, tuple[Any, ...]] = {
            "nvmlInitWithFlags": (self._init, c_uint),
            "nvmlShutdown": (self._shutdown,),
            "nvmlSystemGetDriverVersion": (self._driver_version, text, c_uint),
            "nvmlDeviceGetCount_v2": (self._count, number),
            "nvmlDeviceGetHandleByIndex_v2": (self._by_index, c_uint, POINTER(Handle)),
            "nvmlDeviceGetHandleByUUID": (self._by_uuid, c_char_p, POINTER(Handle)),
            "nvmlDeviceGetUUID": (self._uuid, Handle, text, c_uint),
            "nvmlDeviceGetName": (self._name, Handle, text, c_uint),
            "nvmlDeviceGetCudaComputeCapability": (self._capability, Handle, POINTER(c_int), POINTER(c_int)),
            "nvmlDeviceGetMigMode": (self._mig, Handle, number, number),
            "nvmlDeviceGetEnforcedPowerLimit": (self._number("limit_milliwatts"), Handle, number),
            "nvmlDeviceGetMaxClockInfo": (self._of_kind("max_clocks"), Handle, c_uint, number),
            "nvmlDeviceGetApplicationsClock": (self._of_kind("application_clocks"), Handle, c_uint, number),
            "nvmlDeviceGetEccMode": (self._ecc, Handle, number, number),
            "nvmlDeviceGetTotalEccErrors": (self._ecc_errors, Handle, c_uint, c_uint, wide),
            "nvmlDeviceGetPersistenceMode": (self._number("persistence"), Handle, number),
            "nvmlDeviceGetMaxPcieLinkGeneration": (self._number("pcie_generation"), Handle, number),
            "nvmlDeviceGetCurrPcieLinkWidth": (self._number("pcie_width"), Handle, number),
            "nvmlDeviceGetNvLinkState": (self._of_kind("nvlinks"), Handle, c_uint, number),
            "nvmlDeviceGetTopologyCommonAncestor": (self._ancestor, Handle, Handle, number),
            "nvmlDeviceGetPciInfo_v3": (self._pci, Handle, POINTER(pynvml.nvmlPciInfo_t)),
            "nvmlDeviceGetMemoryInfo": (self._memory, Handle, memory),
            "nvmlDeviceGetMemoryInfo_v2": (self._memory_v2, Handle, memory_v2),
            "nvmlDeviceGetTotalEnergyConsumption": (self._energy, Handle, POINTER(c_uint64)),
            "nvmlDeviceGetPowerUsage": (self._number("milliwatts"), Handle, number),
            "nvmlDeviceGetUtilizationRates": (self._utilisation, Handle, utilisation),
            "nvmlDeviceGetClockInfo": (self._clock, Handle, c_uint, number),
            "nvmlDeviceGetTemperature": (self._temperature, Handle, c_uint, number),
            "nvmlDeviceGetTemperatureV": (self._temperature_v, Handle, temperature),
            "nvmlDeviceGetCurrentClocksEventReasons": (self._number("reasons"), Handle, wide),
            "nvmlDeviceGetCurrentClocksThrottleReasons": (self._number("reasons"), Handle, wide),
            "nvmlDeviceGetComputeRunningProcesses_v3": (self._processes, Handle, number, processes),
        }
        self._functions = {
            name: ctypes.CFUNCTYPE(c_int, *types)(function)
            for name, (function, *types) in functions.items()
            if name not in lacks
        }

    def __getattr__(self, name: str) -> Any:
        """As a CDLL: an AttributeError for a symbol that is not there."""
        try:
            return self.__dict__["_functions"][name]
        except KeyError:
            raise AttributeError(name) from None

    def load(self, monkeypatch: pytest.MonkeyPatch) -> Library:
        """Have pynvml find this library instead of the driver's."""
        monkeypatch.setattr(pynvml, "nvmlLib", self)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
        return self

    # -- the C functions -----------------------------------------------------------------------------------------

    def _init(self, flags: int) -> int:
        self.opened += 1
        self.open += self.init == SUCCESS
        return self.init

    def _shutdown(self) -> int:
        self.open -= 1
        return SUCCESS

    def _driver_version(self, out: Any, size: int) -> int:
        return _write(self.driver, out, size)

    def _count(self, out: Any) -> int:
        out[0] = len(self.devices)
        return SUCCESS

    def _by_index(self, index: int, out: Any) -> int:
        out[0] = ctypes.cast(index + 1, Handle)  # as 0 would be a null pointer
        return self.devices[index].handle

    def _by_uuid(self, uuid: bytes, out: Any) -> int:
        self.uuids_asked.append(uuid)
        for index, device in enumerate(self.devices):
            if device.uuid.encode() == uuid:
                return self._by_index(index, out)
        return NOT_FOUND

    def _device(self, handle: Any) -> Device:
        address = ctypes.cast(handle, ctypes.c_void_p).value
        assert address is not None
        return self.devices[address - 1]

    def _uuid(self, handle: Any, out: Any, size: int) -> int:
        return _write(self._device(handle).uuid, out, size)

    def _name(self, handle: Any, out: Any, size: int) -> int:
        return _write(self._device(handle).now("name"), out, size)

    def _capability(self, handle: Any, major: Any, minor: Any) -> int:
        value = self._device(handle).now("capability")
        if isinstance(value, Error):
            return value.code
        major[0], minor[0] = value
        return SUCCESS

    def _mig(self, handle: Any, current: Any, pending: Any) -> int:
        value = self._device(handle).now("mig")
        if isinstance(value, Error):
            return value.code
        current[0], pending[0] = value, 0
        return SUCCESS

    def _ecc(self, handle: Any, current: Any, pending: Any) -> int:
        pending[0] = 0
        return _put(self._device(handle).now("ecc"), current)

    def _ecc_errors(self, handle: Any, kind: int, counter: int, out: Any) -> int:
        if counter != AGGREGATE:
            return INVALID_ARGUMENT
        return self._of_kind("ecc_errors")(handle, kind, out)

    def _ancestor(self, one: Any, other: Any, out: Any) -> int:
        levels = self._device(one).now("ancestors")
        return _put(levels if isinstance(levels, Error) else levels[self._device(other).uuid], out)

    def _pci(self, handle: Any, out: Any) -> int:
        place = self._device(handle).now("pci")
        if isinstance(place, Error):
            return place.code
        return _fill(out[0], **dict(zip(("domain", "bus", "device"), place, strict=True)))

    def _memory(self, handle: Any, out: Any) -> int:
        return _fill(out[0], total=self._device(handle).now("total"))

    def _memory_v2(self, handle: Any, out: Any) -> int:
        if out[0].version != (2 << 24 | ctypes.sizeof(pynvml.c_nvmlMemory_v2_t)):  # NVML_STRUCT_VERSION of nvml.h
            return VERSION_MISMATCH
        return _fill(out[0], used=self._device(handle).now("used"))

    def _energy(self, handle: Any, out: Any) -> int:
        self._device(handle).advance()
        return _put(self._device(handle).now("millijoules"), out)

    def _utilisation(self, handle: Any, out: Any) -> int:
        return _fill(out[0], gpu=self._device(handle).now("busy"), memory=99)

    def _clock(self, handle: Any, kind: int, out: Any) -> int:
        return _put(self._device(handle).now("sm_clock"), out) if kind == NVML_CLOCK_SM else INVALID_ARGUMENT

    def _temperature(self, handle: Any, sensor: int, out: Any) -> int:
        return _put(self._device(handle).now("celsius"), out) if sensor == NVML_TEMPERATURE_GPU else INVALID_ARGUMENT

    def _temperature_v(self, handle: Any, out: Any) -> int:
        if out[0].version != (1 << 24 | ctypes.sizeof(pynvml.c_nvmlTemperature_v1_t)):
            return VERSION_MISMATCH
        return _fill(out[0], temperature=self._device(handle).now("celsius"))

    def _processes(self, handle: Any, count: Any, out: Any) -> int:
        pids = self._device(handle).now("pids")
        if isinstance(pids, Error):
            return pids.code
        room, count[0] = count[0], len(pids)
        if room < len(pids):
            return INSUFFICIENT_SIZE
        for index, pid in enumerate(pids):
            out[index].pid = pid
        return SUCCESS

    def _of_kind(self, name: str) -> Callable[[Any, int, Any], int]:
        """A number for each kind (of clock, of error) or link, by its number; others are invalid."""

        def call(handle: Any, kind: int, out: Any) -> int:
            numbers = self._device(handle).now(name)
            return _put(numbers if isinstance(numbers, Error) else numbers.get(kind, Error(INVALID_ARGUMENT)), out)

        return call

    def _number(self, name: str) -> Any:
        return lambda handle, out: _put(self._device(handle).now(name), out)


def _put(value: Any, out: Any) -> int:
    if isinstance(value, Error):
        return value.code
    out[0] = value
    return SUCCESS


def _fill(structure: Any, **values: Any) -> int:
    for name, value in values.items():
        if isinstance(value, Error):
            return value.code
        setattr(structure, name, value)
    return SUCCESS


def _write(text: str | Error, out: Any, size: int) -> int:
    if isinstance(text, Error):
        return text.code
    raw = text.encode() + b"\0"
    if len(raw) > size:
        return INSUFFICIENT_SIZE
    ctypes.memmove(out, raw, len(raw))
    return SUCCESS
