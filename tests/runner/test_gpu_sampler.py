"""NVML's readings, through pynvml over a fake library, and the columns made of them."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import fake_nvml
import pynvml
import pytest

from bench.machine.gpus import Gpu
from bench.runner import gpu_sampler
from bench.runner.gpu_sampler import (
    THROTTLES,
    DeviceSample,
    Sampler,
    device_metrics,
    device_rows,
    foreign_processes,
    of_ranks,
)

A, B = "GPU-aaaa-1", "GPU-bbbb-2"
SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND  # a wall clock, far from 0
EVERYTHING: fake_nvml.Frame = {
    "millijoules": 5_000_250,
    "milliwatts": 312_500,
    "used": 3 * 2**30,
    "busy": 87,
    "sm_clock": 1410,
    "celsius": 64,
    "reasons": 0x24,
    "pids": [4711, 4712],
}


def gpu(uuid: str) -> Gpu:
    return Gpu(uuid, "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be patient, so that a slow machine is not taken for a library that hangs."""
    monkeypatch.setattr(gpu_sampler, "PATIENCE_S", 60.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make readings that are 0.1 s apart by the clock, without waiting."""
    ticks: Iterator[int] = itertools.count(BEGIN, SECOND // 10)
    monkeypatch.setattr(gpu_sampler, "time_ns", lambda: next(ticks))
    monkeypatch.setattr(gpu_sampler, "PERIOD_S", 0.0)


def play(*devices: fake_nvml.Device, order: tuple[str, ...] = ()) -> tuple[list[DeviceSample], str | None]:
    """Return what a sampler reads until every recording has ended."""
    running = Sampler(gpu(uuid) for uuid in order or [device.uuid for device in devices])
    running.start()
    for device in devices:
        assert device.ended.wait(30)
    return running.stop()


# -- readings, through the C functions -----------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_units(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [EVERYTHING])).load(monkeypatch)
    samples, note = play(*library.devices)
    assert note is None
    # 5 000 250 mJ, 312 500 mW, 3 GiB, 87 %; 0x24 is SwPowerCap and SwThermalSlowdown
    assert samples[0] == DeviceSample(BEGIN, A, 5000.25, 312.5, 3072.0, 0.87, 1410, 64, 0x24, (4711, 4712))
    assert (library.opened, library.open) == (1, 0)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("missing", "field"),
    [
        ("millijoules", "energy_j"),
        ("milliwatts", "power_w"),
        ("used", "memory_used_mib"),
        ("busy", "utilisation"),
        ("sm_clock", "sm_clock_mhz"),
        ("celsius", "temperature_c"),
        ("reasons", "throttle_reasons"),
        ("pids", "pids"),
    ],
)
def test_what_a_gpu_does_not_support_is_unknown_and_the_rest_is_known(
    monkeypatch: pytest.MonkeyPatch, missing: str, field: str
) -> None:
    everything = DeviceSample(BEGIN, A, 5000.25, 312.5, 3072.0, 0.87, 1410, 64, 0x24, (4711, 4712))
    frame = {name: value for name, value in EVERYTHING.items() if name != missing}
    library = fake_nvml.Library(fake_nvml.Device(A, [frame])).load(monkeypatch)
    samples, note = play(*library.devices)
    unknown: dict[str, Any] = {field: None}
    assert (samples[0], note) == (dataclasses.replace(everything, **unknown), None)


@pytest.mark.usefixtures("clock")
def test_a_single_error_is_a_single_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[fake_nvml.Frame] = [
        {"milliwatts": 100_000, "busy": 50},
        {"milliwatts": fake_nvml.Error(10), "busy": 60},
        {"milliwatts": 120_000},
    ]
    library = fake_nvml.Library(fake_nvml.Device(A, frames)).load(monkeypatch)
    samples, note = play(*library.devices)
    assert [(s.power_w, s.utilisation) for s in samples[:3]] == [(100.0, 0.5), (None, 0.6), (120.0, None)]
    assert [s.time_ns for s in samples[:3]] == [BEGIN, BEGIN + SECOND // 10, BEGIN + SECOND // 5]
    assert note is None


@pytest.mark.usefixtures("clock")
def test_a_gpu_lost_in_the_middle_leaves_its_past_and_the_other_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = dict.fromkeys(EVERYTHING, fake_nvml.Error(fake_nvml.LOST))
    first, second = {"milliwatts": 100_000}, {"milliwatts": 200_000}
    library = fake_nvml.Library(
        fake_nvml.Device(A, [first, second, gone]), fake_nvml.Device(B, [first, first, first, second])
    )
    samples, note = play(*library.load(monkeypatch).devices)
    assert [s.power_w for s in samples if s.uuid == A] == [100.0, 200.0]
    assert [s.power_w for s in samples if s.uuid == B][:4] == [100.0, 100.0, 100.0, 200.0]
    assert note == f"NVML lost {A}: GPU is lost"
    assert library.open == 0


@pytest.mark.usefixtures("clock")
def test_gpus_are_found_by_uuid_in_whatever_order_cuda_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = fake_nvml.Device(A, [{"celsius": 40}]), fake_nvml.Device(B, [{"celsius": 70}])  # NVML's order
    library = fake_nvml.Library(*devices).load(monkeypatch)
    samples, _ = play(*devices, order=(B, A))  # CUDA's
    assert [(s.uuid, s.temperature_c) for s in samples[:2]] == [(B, 70), (A, 40)]
    assert library.uuids_asked == [B.encode(), A.encode()]


@pytest.mark.usefixtures("clock")
def test_bindings_that_take_only_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    only_bytes = pynvml.nvmlDeviceGetHandleByUUID.__wrapped__  # without convertStrBytes, as in older versions
    with pytest.raises(TypeError):
        only_bytes(A)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", only_bytes)
    library = fake_nvml.Library(fake_nvml.Device(A, [{"celsius": 40}])).load(monkeypatch)
    samples, note = play(*library.devices)
    assert (samples[0].temperature_c, note) == (40, None)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("lacks", ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperature"])
@pytest.mark.parametrize("where", ["driver", "bindings"])
def test_names_that_came_and_go(monkeypatch: pytest.MonkeyPatch, lacks: str, where: str) -> None:
    device = fake_nvml.Device(A, [{"reasons": 0x80, "celsius": 91}])
    fake_nvml.Library(device, lacks=(lacks,) if where == "driver" else ()).load(monkeypatch)
    if where == "bindings":
        monkeypatch.delattr(pynvml, lacks)
    samples, note = play(device)
    assert (samples[0].throttle_reasons, samples[0].temperature_c, note) == (0x80, 91, None)


@pytest.mark.usefixtures("clock")
def test_processes_are_listed_in_every_fifth_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [{"celsius": 40, "pids": [100 + number]} for number in range(11)]
    library = fake_nvml.Library(fake_nvml.Device(A, frames)).load(monkeypatch)
    samples, _ = play(*library.devices)
    listed = {number: s.pids for number, s in enumerate(samples[:11]) if s.pids is not None}
    assert listed == {0: (100,), 5: (105,), 10: (110,)}


@pytest.mark.usefixtures("clock")
def test_a_gpu_without_processes_has_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [{"pids": []}])).load(monkeypatch)
    samples, _ = play(*library.devices)
    assert samples[0].pids == ()


# -- the sampler never raises --------------------------------------------------------------------------------------


def test_without_gpus_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [EVERYTHING])).load(monkeypatch)
    before = threading.active_count()
    with Sampler(()) as running:
        assert threading.active_count() == before
    assert running.stop() == ([], None)
    assert library.opened == 0


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library()
    library.init = fake_nvml.DRIVER_NOT_LOADED
    library.load(monkeypatch)
    with Sampler([gpu(A)]) as running:
        pass
    assert running.stop() == ([], "NVML cannot be used: Driver Not Loaded")


@pytest.mark.usefixtures("clock")
def test_gpus_that_nvml_does_not_know_or_says_nothing_of(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [{}])).load(monkeypatch)
    samples, note = play(*library.devices, order=(A, B))
    assert (samples, note) == ([], f"NVML does not find {B}: Not Found; NVML lost {A}: Not Supported")


def test_with_no_gpu_that_nvml_knows_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml.Library().load(monkeypatch)
    running = Sampler([gpu(A)])
    running.start()
    assert running._thread is not None
    running._thread.join(30)
    assert not running._thread.is_alive()
    assert running.stop() == ([], f"NVML does not find {A}: Not Found")


def test_a_fault_of_the_bindings_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [EVERYTHING])).load(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: [][0])
    with Sampler([gpu(A)]) as running:
        pass
    assert running.stop() == ([], "NVML cannot be used: list index out of range")
    assert library.open == 0


def test_a_library_that_hangs_does_not_hold_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml.Library(fake_nvml.Device(A, [EVERYTHING])).load(monkeypatch)
    answer, initialise = threading.Event(), pynvml.nvmlInit
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: answer.wait(30) and initialise())
    monkeypatch.setattr(gpu_sampler, "PATIENCE_S", 0.01)
    running = Sampler([gpu(A)])
    running.start()
    assert running.stop() == ([], "NVML did not answer within 0.01 s")
    answer.set()  # the thread must not outlive the test's library
    assert running._thread is not None
    running._thread.join(30)


def test_an_error_in_the_launch_comes_through_and_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library(fake_nvml.Device(A, [EVERYTHING])).load(monkeypatch)
    running = Sampler([gpu(A)])
    with pytest.raises(KeyboardInterrupt), running:
        raise KeyboardInterrupt
    assert running._thread is not None
    assert not running._thread.is_alive()
    assert library.open == 0


def test_a_reading_follows_the_end_of_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake_nvml.Device(A, [{"celsius": 40}, {"celsius": 41}])
    fake_nvml.Library(device).load(monkeypatch)
    monkeypatch.setattr(gpu_sampler, "PERIOD_S", 3600.0)  # no second reading on a timer
    with Sampler([gpu(A)]) as running:
        assert device.began.wait(30)
    samples, _ = running.stop()
    assert [s.temperature_c for s in samples] == [40, 41]
    assert running.stop()[0] == samples


# -- energy --------------------------------------------------------------------------------------------------------


def at(seconds: float, uuid: str = A, **values: Any) -> DeviceSample:
    return DeviceSample(BEGIN + round(seconds * SECOND), uuid, **values)


def window(start_s: float, end_s: float) -> tuple[int, int]:
    return BEGIN + round(start_s * SECOND), BEGIN + round(end_s * SECOND)


def energy(samples: list[DeviceSample], start_s: float, end_s: float, uuids: tuple[str, ...] = (A,)) -> tuple[Any, Any]:
    row = device_metrics(samples, uuids, window(start_s, end_s), 100)
    return row["energy_j"], row["energy_source"]


def counter(*readings: tuple[float, float], uuid: str = A) -> list[DeviceSample]:
    return [at(seconds, uuid, energy_j=joules) for seconds, joules in readings]


def power(watts: Any, until_s: float, uuid: str = A, step_s: float = 0.25) -> list[DeviceSample]:
    """Return readings of the function ``watts`` of time; a quarter of a second is exact in binary."""
    times = [number * step_s for number in range(round(until_s / step_s) + 1)]
    return [at(t, uuid, power_w=watts(t)) for t in times]


def test_energy_is_interpolated_at_both_ends() -> None:
    # 0.25 s of a bracket of 0.5 s: 1000 + (1100 - 1000) / 2 = 1050 J at the start, 1600 + (1800 - 1600) / 4 = 1650 J
    # at the end, so 600 J; what lies between the brackets does not matter
    readings = counter((1.0, 1000), (1.5, 1100), (2.5, 1111), (3.5, 1600), (3.9, 1800))
    row = device_metrics(readings, [A], window(1.25, 3.6), 300)
    assert row["energy_j"] == pytest.approx(600)
    assert row["energy_source"] == "counter"
    assert row["joules_per_sample"] == pytest.approx(2)
    assert row["power_mean_w"] == pytest.approx(600 / 2.35)


def test_a_reading_on_the_end_is_taken_as_it_is() -> None:
    readings = counter((0.5, 0), (1, 10), (1.5, 500), (3, 500), (3.5, 710), (4, 9999))
    assert energy(readings, 1, 3.5) == (pytest.approx(700), "counter")


def test_energy_through_the_library(monkeypatch: pytest.MonkeyPatch, clock: None) -> None:
    # 60 J a reading, each 0.1 s after the other: 600 W; a window of 2.5 s that begins and ends between readings
    frames = [{"millijoules": 7_000_000 + 60_000 * number} for number in range(31)]
    library = fake_nvml.Library(fake_nvml.Device(A, frames)).load(monkeypatch)
    samples, _ = play(*library.devices)
    row = device_metrics(samples[:31], [A], window(0.25, 2.75), 75)
    assert row["energy_j"] == pytest.approx(1500)
    assert (row["joules_per_sample"], row["power_mean_w"]) == (pytest.approx(20), pytest.approx(600))


def test_energy_sums_over_the_gpus_of_the_ranks() -> None:
    first = counter((0.5, 100), (0.75, 150), (3.25, 650), (3.5, 700))
    second = counter((0.5, 50), (0.75, 75), (3.25, 325), (3.5, 350), uuid=B)
    idle = counter((0.5, 1e6), (0.75, 2e6), (3.25, 3e6), (3.5, 4e6), uuid="GPU-not-ours")
    samples = [s for several in zip(first, second, idle, strict=True) for s in several]
    assert energy(samples, 0.5, 3.5, (A, B)) == (pytest.approx(600 + 300), "counter")
    row = device_metrics(samples, [A, B], window(0.5, 3.5), 100)
    assert row["power_mean_w"] == pytest.approx(300)  # of both together


def test_energy_of_all_gpus_is_unknown_if_that_of_one_is() -> None:
    known = counter((0.5, 100), (0.75, 150), (3.25, 650), (3.5, 700))
    assert energy(known, 0.5, 3.5) == (pytest.approx(600), "counter")
    assert energy(known, 0.5, 3.5, (A, B)) == (None, None)
    assert energy(known, 0.5, 3.5, ()) == (None, None)


def test_a_window_that_the_counter_cannot_resolve_has_no_energy() -> None:
    # up to 0.1 s behind: 5 % of 2 s
    readings = counter(*((number / 4, 100 * number) for number in range(20)))
    assert energy(readings, 1, 3) == (pytest.approx(800), "counter")
    assert energy(readings, 1, 2.99) == (None, None)


@pytest.mark.parametrize(("start_s", "end_s"), [(0.9, 3.5), (1.5, 4.1), (0.5, 4.5)])
def test_a_window_beyond_the_readings_has_no_energy(start_s: float, end_s: float) -> None:
    readings = counter((1, 0), (1.4, 100), (2, 200), (3.6, 300), (4, 400))
    assert energy(readings, 1.2, 3.8) == (pytest.approx(350 - 50), "counter")
    assert energy(readings, start_s, end_s) == (None, None)


def test_an_end_in_a_gap_between_readings_has_no_energy() -> None:
    readings = counter((0, 0), (0.5, 100), (1.0, 200), (1.6, 300), (4.0, 800), (4.5, 900), (5.1, 1000))
    assert energy(readings, 0.5, 4.5) == (pytest.approx(800), "counter")  # a gap of 2.4 s inside does not matter
    assert energy(readings, 1.3, 4.25) == (None, None)  # 0.6 s
    assert energy(readings, 0.75, 4.75) == (None, None)


def test_a_counter_that_goes_backwards_is_not_used() -> None:
    readings = [
        at(t / 4, energy_j=(t - 20) * 50 if t >= 20 else 10 + t * 50, power_w=200.0)  # the driver came back after 5 s
        for t in range(60)
    ]
    assert energy(readings, 1, 4.5) == (pytest.approx(50 * 4 * 3.5), "counter")  # all before that
    assert energy(readings, 6, 9) == (pytest.approx(50 * 4 * 3), "counter")  # all after it
    assert energy(readings, 4, 7) == (None, None)  # across; and too short for power
    assert energy(readings, 2, 13) == (pytest.approx(200 * 11), "power")  # although its last value is above the first


def test_a_counter_that_stands_still_is_not_used() -> None:
    readings = [at(t / 4, energy_j=0.0, power_w=80.0) for t in range(60)]
    assert energy(readings, 1, 4) == (None, None)  # 0 J would be wrong
    assert energy(readings, 1, 12) == (pytest.approx(880), "power")


def test_without_a_counter_energy_is_the_integral_of_power() -> None:
    # 100 W + 20 W/s x t from 1.1 s to 13.1 s: 100 x 12 + 10 x (13.1^2 - 1.1^2) = 1200 + 1704; trapezoids are exact
    readings = power(lambda t: 100 + 20 * t, 14)
    assert energy(readings, 1.1, 13.1) == (pytest.approx(2904), "power")


def test_power_steps_between_readings() -> None:
    # 100 W to 6 s, 300 W from 6.25 s: 500 + 50 + 1725 J, as the readings know it
    assert energy(power(lambda t: 100 if t < 6.25 else 300, 13), 1, 12) == (pytest.approx(500 + 50 + 1725), "power")


def test_power_needs_a_longer_window_and_no_gap() -> None:
    # the mean of the last second is half a second behind: 5 % of 10 s
    readings = power(lambda t: 250, 12)
    assert energy(readings, 1, 11) == (pytest.approx(2500), "power")
    assert energy(readings, 1, 10.9) == (None, None)
    assert energy([s for s in readings if not 5 < (s.time_ns - BEGIN) / SECOND < 5.75], 1, 11) == (None, None)


def test_two_gpus_may_have_two_sources() -> None:
    readings = [at(t / 4, energy_j=25.0 * t) for t in range(60)] + power(lambda t: 50, 14, uuid=B)
    assert energy(readings, 1, 12, (A, B)) == (pytest.approx(100 * 11 + 50 * 11), "counter;power")


def test_a_wall_clock_that_was_set_back_leaves_no_energy() -> None:
    readings = counter((0, 0), (0.4, 100), (0.8, 200), (0.6, 300), (2.8, 400), (3.2, 500))
    assert energy(readings, 0.2, 3) == (None, None)


# -- clocks, heat, memory, throttling ------------------------------------------------------------------------------


def test_other_columns_are_those_of_the_window_and_the_ranks_gpus() -> None:
    before = at(0.9, sm_clock_mhz=210, temperature_c=99, memory_used_mib=9e4, utilisation=0.0, throttle_reasons=0x88)
    samples = [
        before,
        at(1.0, sm_clock_mhz=1400, temperature_c=60, memory_used_mib=1000.0, utilisation=0.5, throttle_reasons=0),
        at(1.1, sm_clock_mhz=1300, temperature_c=61, memory_used_mib=1500.0, utilisation=1.0, throttle_reasons=0x04),
        at(1.0, B, sm_clock_mhz=1350, temperature_c=70, memory_used_mib=900.0, utilisation=0.25, throttle_reasons=0x01),
        at(1.1, "GPU-not-ours", sm_clock_mhz=5, temperature_c=105, memory_used_mib=9e4, throttle_reasons=0x40),
        dataclasses.replace(before, time_ns=window(1.2, 1.2)[0] + 1),
    ]
    assert device_metrics(samples, [A, B], window(1.0, 1.2), 64) == {
        "energy_j": None,
        "energy_source": None,
        "joules_per_sample": None,
        "power_mean_w": None,
        "sm_clock_min_mhz": 1300,
        "utilisation_mean": 0.5,  # (0.5 + 1) / 2 = 0.75 and 0.25: each GPU counts once
        "temperature_max_c": 70,
        "device_memory_peak_mib": 1500.0,
        "throttled_share": 0.5,  # A in 1 of 2; B, which was idle, in 0 of 1
        "throttle_reasons": "SwPowerCap",
    }


def test_no_column_is_known_of_gpus_without_readings() -> None:
    assert set(device_metrics([], [], window(1, 2), 10).values()) == {None}
    assert set(device_metrics([], [A], window(1, 2), 10).values()) == {None}
    one_of_two = [
        at(1.5, sm_clock_mhz=1400, temperature_c=60, memory_used_mib=1.0, utilisation=1.0, throttle_reasons=4)
    ]
    assert set(device_metrics(one_of_two, [A, B], window(1, 2), 10).values()) == {None}


@pytest.mark.parametrize(
    ("reason", "throttles"),
    [
        ("GpuIdle", False),
        ("ApplicationsClocksSetting", False),
        ("SwPowerCap", True),
        ("HwSlowdown", True),
        ("SyncBoost", False),
        ("SwThermalSlowdown", True),
        ("HwThermalSlowdown", True),
        ("HwPowerBrakeSlowdown", True),
        ("DisplayClockSetting", False),
        ("None", False),
    ],
)
@pytest.mark.parametrize("family", ["nvmlClocksEventReason", "nvmlClocksThrottleReason"])
def test_reasons_are_those_of_nvml(reason: str, throttles: bool, family: str) -> None:
    mask = getattr(pynvml, family + reason)
    row = device_metrics([at(1.5, throttle_reasons=mask)], [A], window(1, 2), 1)
    expected = (1.0, reason) if throttles else (0.0, None)
    assert (row["throttled_share"], row["throttle_reasons"]) == expected


def test_throttled_share_is_that_of_the_worst_gpu_and_reasons_are_all() -> None:
    masks = {A: [0, 0, 0x04, 0], B: [0x48, 0x48, 0x01, 0x03]}  # 1 of 4; HwSlowdown with HwThermalSlowdown in 2 of 4
    samples = [at(1 + t / 10, uuid, throttle_reasons=m) for uuid, of in masks.items() for t, m in enumerate(of)]
    samples.append(at(1.5, B))  # a reading without the mask counts neither way
    row = device_metrics(samples, [A, B], window(1, 2), 1)
    assert row["throttled_share"] == 0.5
    assert row["throttle_reasons"] == "SwPowerCap;HwSlowdown;HwThermalSlowdown"
    assert list(THROTTLES.values()) == sorted(THROTTLES.values())


# -- who else computed ---------------------------------------------------------------------------------------------

# Ranks 11 and 12 have a GPU each, in one namespace of pids with NVML or in another one
OURS = {A: [11], B: [12]}


@pytest.mark.parametrize(
    ("on_a", "on_b", "foreign"),
    [
        ([(), (11,)], [(), (12,)], False),
        ([(11,)], [(12,), (12, 99)], True),
        ([(99,), (11,)], [(12,)], True),  # before the ranks came
        ([(11, 12)], [(12,)], False),  # a rank on a GPU of another rank
        ([(11,)], [None, ()], False),  # lists our ranks only
        ([(11,)], [None], None),  # B is unknown
        ([None], [(12, 99)], True),  # a foreign process is foreign in any case
        ([(31,)], [(32,)], None),  # the host's process ids: one on each, which may be ours
        ([(31,), (31, 33)], [(32,)], True),  # more than our one rank
        ([()], [()], None),  # our ranks ran, but NVML lists no process
        ([None], [None], None),
    ],
)
def test_foreign_processes(on_a: list[Any], on_b: list[Any], foreign: bool | None) -> None:
    samples = [at(t, uuid, pids=pids) for uuid, lists in ((A, on_a), (B, on_b)) for t, pids in enumerate(lists)]
    samples.append(at(0, "GPU-not-ours", pids=(77, 78, 79)))
    assert foreign_processes(samples, OURS) is foreign


def test_ranks_that_share_a_gpu_are_counted_together() -> None:
    shared = {A: [11, 12]}
    assert foreign_processes([at(0, pids=(31, 32))], shared) is None
    assert foreign_processes([at(0, pids=(31, 32, 33))], shared) is True


def test_readings_of_a_node_are_those_of_its_ranks_gpus_and_all_if_no_rank_told_of_one() -> None:
    samples = [at(0, A), at(0, B)]
    assert of_ranks(samples, {B}) == [at(0, B)]
    assert of_ranks(samples, ()) == samples


# -- devices.csv ---------------------------------------------------------------------------------------------------


def test_device_rows() -> None:
    samples = [
        DeviceSample(BEGIN, A, 5000.25, 312.5, 3072.0, 0.87, 1410, 64, 0x24, (4711, 4712)),
        DeviceSample(BEGIN + SECOND, B, throttle_reasons=0x01, pids=()),
    ]
    first, second = device_rows(samples, BEGIN - 2 * SECOND, window(1, 2))
    assert first == {
        "device_uuid": A,
        "time_s": 2.0,
        "in_window": False,
        "energy_j": 5000.25,
        "power_w": 312.5,
        "memory_used_mib": 3072.0,
        "utilisation": 0.87,
        "sm_clock_mhz": 1410,
        "temperature_c": 64,
        "throttled": True,
        "clock_reasons_mask": 0x24,
        "processes": 2,
    }
    assert (second["time_s"], second["in_window"], second["throttled"], second["processes"]) == (3.0, True, False, 0)
    assert second["power_w"] is None
    assert [row["in_window"] for row in device_rows(samples, BEGIN)] == [None, None]
