"""The GPUs of this machine, by an NVML made by hand."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from bench.devices import Gpu, Machine, this_machine, visible

A = Gpu("GPU-aaaa-1", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
B = Gpu("GPU-aabb-2", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
C = Gpu("GPU-cccc-3", "Tesla T4", 15360.0, (7, 5))
ALL = (A, B, C)


class NVMLError(Exception):
    """As pynvml's."""


class Nvml:
    """The part of pynvml's surface that is used, over ``gpus``; counts how often it is open."""

    NVMLError = NVMLError

    def __init__(self, gpus: tuple[Gpu, ...] = ALL, bytes_for_text: bool = False, driver: bool = True) -> None:
        self.gpus, self.bytes_for_text, self.driver, self.open = gpus, bytes_for_text, driver, 0

    def _text(self, text: str) -> str | bytes:
        return text.encode() if self.bytes_for_text else text

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:  # noqa: N802
        return self._text(self.gpus[handle].uuid)

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return self._text(self.gpus[handle].name)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=int(self.gpus[handle].memory_mib) * 1024 * 1024)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> list[int]:  # noqa: N802
        return list(self.gpus[handle].capability)

    def nvmlSystemGetDriverVersion(self) -> str | bytes:  # noqa: N802
        return self._text("550.54.15")


def machine(monkeypatch: pytest.MonkeyPatch, nvml: Nvml, setting: str | None = None) -> Machine:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    if setting is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    return this_machine()


@pytest.mark.parametrize("bytes_for_text", [False, True])
def test_all_gpus_and_their_driver(monkeypatch: pytest.MonkeyPatch, bytes_for_text: bool) -> None:
    nvml = Nvml(bytes_for_text=bytes_for_text)
    assert machine(monkeypatch, nvml) == Machine(ALL, "550.54.15")
    assert nvml.open == 0


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(driver=False)
    assert machine(monkeypatch, nvml) == Machine((), "")
    assert nvml.open == 0  # what was never opened is not closed


def test_driver_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine(monkeypatch, Nvml(gpus=())) == Machine((), "550.54.15")


def test_what_cuda_visible_devices_hides_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine(monkeypatch, Nvml(), "2,0") == Machine((C, A), "550.54.15")
    assert machine(monkeypatch, Nvml(), "") == Machine((), "550.54.15")


# The rules: CUDA C++ Programming Guide, "CUDA Environment Variables"
@pytest.mark.parametrize(
    ("setting", "left"),
    [
        (None, ALL),
        ("0", (A,)),
        ("1, 2", (B, C)),
        ("2,1,0", (C, B, A)),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", (A,)),  # nothing after the first unknown one
        ("1,7,0", (B,)),
        ("NoDevFiles", ()),
        ("GPU-cccc-3", (C,)),
        ("GPU-c", (C,)),  # a prefix that is unique
        ("GPU-aa", ()),  # A or B
        ("GPU-cccc-3,GPU-aaaa-1", (C, A)),
        ("GPU-zzzz,GPU-cccc-3", ()),
        ("cccc", ()),
    ],
)
def test_setting_leaves(setting: str | None, left: tuple[Gpu, ...]) -> None:
    assert visible(ALL, setting) == left
