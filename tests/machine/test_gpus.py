"""The GPUs of this machine, by an NVML made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import fake_nvml
import pynvml
import pytest

from bench.machine.gpus import Gpu, Machine, this_machine, visible

A = Gpu("GPU-aaaa-1", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
B = Gpu("GPU-aabb-2", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
C = Gpu("GPU-cccc-3", "Tesla T4", 15360.0, (7, 5))
ALL = (A, B, C)


def device(gpu: Gpu, **facts: object) -> fake_nvml.Device:
    total = int(gpu.memory_mib) * 1024 * 1024
    return fake_nvml.Device(gpu.uuid, facts={"name": gpu.name, "total": total, "capability": gpu.capability, **facts})


def machine(monkeypatch: pytest.MonkeyPatch, library: fake_nvml.Library, setting: str | None = None) -> Machine:
    library.load(monkeypatch)
    if setting is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    return this_machine()


@pytest.mark.parametrize("bytes_for_text", [False, True])
def test_all_gpus_and_their_driver(monkeypatch: pytest.MonkeyPatch, bytes_for_text: bool) -> None:
    library = fake_nvml.Library(*map(device, ALL))
    if bytes_for_text:  # older bindings; what convertStrBytes wraps is the function without the conversion
        for name in ("nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlSystemGetDriverVersion"):
            monkeypatch.setattr(pynvml, name, getattr(pynvml, name).__wrapped__)
    assert machine(monkeypatch, library) == Machine(ALL, "550.54.15")
    assert (library.opened, library.open) == (1, 0)


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library()
    library.init = fake_nvml.DRIVER_NOT_LOADED
    assert machine(monkeypatch, library) == Machine((), "", "")
    assert library.open == 0  # what was never opened is not closed


def test_without_the_library_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", missing)
    assert this_machine() == Machine((), "", "")


MISMATCH = 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH: the driver was updated under a running kernel module
LISTS_TWO = """
import json
print(json.dumps([["GPU-aaaa-1", "NVIDIA A100-SXM4-80GB", 81920.0, [8, 0]], ["GPU-cccc-3", "Tesla T4", 15360.0, [7, 5]]]))
"""


@pytest.mark.parametrize("script", ["print('[]')", "raise SystemExit(1)", "print('no json')"])
def test_a_driver_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    library = fake_nvml.Library(device(A))
    library.init = MISMATCH
    monkeypatch.setattr("bench.machine.gpus.LIST_BY_TORCH", script)
    note = "NVML cannot be used (RM has detected an NVML/RM version mismatch.), and torch sees no GPU either"
    assert machine(monkeypatch, library) == Machine((), "", note)


def test_where_nvml_is_missing_torch_lists_the_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that was given the driver's compute part and not its utilities."""
    library = fake_nvml.Library()
    library.init = fake_nvml.DRIVER_NOT_LOADED
    monkeypatch.setattr("bench.machine.gpus.LIST_BY_TORCH", LISTS_TWO)
    monkeypatch.setattr("bench.machine.gpus.DRIVER_FILES", (str(tmp_path / "nvidiactl"),))
    assert machine(monkeypatch, library) == Machine()
    (tmp_path / "nvidiactl").touch()
    note = "NVML cannot be used (Driver Not Loaded): torch listed the GPUs, NVML's columns stay empty"
    assert machine(monkeypatch, library) == Machine((A, C), "", note)


def test_driver_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine(monkeypatch, fake_nvml.Library()) == Machine((), "550.54.15")


def test_driver_that_does_not_tell_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(device(A), driver=fake_nvml.Error(999))
    assert machine(monkeypatch, library) == Machine((A,), "")


def test_a_gpu_that_cannot_be_read_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, forbidden = device(B), device(B, capability=fake_nvml.Error(4))
    lost.handle = fake_nvml.LOST
    library = fake_nvml.Library(device(A), lost, forbidden, device(C))
    note = (
        "GPU 1 is left out, as NVML cannot read it: GPU is lost; "
        "GPU 2 is left out, as NVML cannot read it: Insufficient Permissions"
    )
    assert machine(monkeypatch, library) == Machine((A, C), "550.54.15", note)
    assert library.open == 0


def test_a_gpu_that_shares_the_memory_of_the_cpu_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (gpu,) = machine(monkeypatch, fake_nvml.Library(device(A, total=fake_nvml.Error(fake_nvml.NOT_SUPPORTED)))).gpus
    assert (gpu.uuid, gpu.name, gpu.capability) == ("GPU-aaaa-1", "NVIDIA A100-SXM4-80GB", (8, 0))
    assert math.isnan(gpu.memory_mib)


def test_what_cuda_visible_devices_hides_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(*map(device, ALL))
    assert machine(monkeypatch, library, "2,0") == Machine((C, A), "550.54.15")
    assert machine(monkeypatch, library, "") == Machine((), "550.54.15")


@pytest.mark.parametrize(
    ("setting", "left"), [(None, ()), ("0", ()), ("0,2", ()), ("1", (B,)), ("1,2", (B, C)), ("GPU-cccc-3", (C,))]
)
def test_where_mig_divides_a_gpu_the_others_are_to_be_named(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, left: tuple[Gpu, ...]
) -> None:
    """CUDA shows a process one part of it, and a rank for each GPU would find none."""
    library = fake_nvml.Library(device(A, mig=1), device(B, mig=0), device(C))
    seen = machine(monkeypatch, library, setting)
    assert (seen.gpus, seen.note.partition(",")[0]) == (left, "" if left else "MIG divides a GPU")


def test_mig_devices_are_named_as_what_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    note = "CUDA_VISIBLE_DEVICES names MIG devices, which are not supported: they count as no GPU"
    seen = machine(monkeypatch, fake_nvml.Library(device(A)), "MIG-5c6a4f8e-9b0d-5f3a-8a11-0a2b3c4d5e6f")
    assert seen == Machine((), "550.54.15", note)


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
        ("0,0", ()),  # a GPU that is named twice leaves none, in torch's own reading as well
        ("1,0,1", ()),
        ("GPU-cccc-3,GPU-c", ()),
    ],
)
def test_setting_leaves(setting: str | None, left: tuple[Gpu, ...]) -> None:
    assert visible(ALL, setting) == left
