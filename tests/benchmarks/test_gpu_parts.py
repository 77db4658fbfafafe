"""What ``make gpu`` runs: its plan, its limits, and how it judges; on a machine without a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gpu
import gpu_wheels
import nvidia_smi
import psutil
import pytest
from gpu_parts import Done, Found, Part, Setup, deadlines, parts, small

from bench.machine.gpus import Gpu, Machine
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import asked, make_plan

H200 = Machine((Gpu("GPU-1", "NVIDIA H200", 143771.0, (9, 0)),), "580.159.04")
READINGS = """\
GPU-1, 118.20, 4, 0, 345, 31
GPU-1, 640.51, 30112, 99, 1965, 48
GPU-1, 652.07, 30112, 100, 1980, 50
GPU-1, [N/A], 30112, 98, 1980, 51
GPU-1, 648.9
"""  # as nvidia-smi 580 prints uuid, power.draw, memory.used, utilization.gpu, clocks.sm and temperature.gpu


def options(words: tuple[str, ...]) -> dict[str, str]:
    """The options of a ``bench`` command that have values."""
    pairs = itertools.pairwise(words)
    return {
        a[2:].replace("-", "_"): b
        for a, b in pairs
        if a.startswith("--") and a[2:].replace("-", "_") in {*AXES, *SETTINGS}
    }


@pytest.mark.parametrize("make", [Setup, small])
def test_every_case_of_every_part_can_run(make: object, tmp_path: Path) -> None:
    on_gpu = make is Setup
    setup = make("cuda" if on_gpu else "cpu", 1, tmp_path)  # type: ignore[operator]
    machine, cases = H200 if on_gpu else Machine(), []
    for part in parts(setup):
        for words in part.commands:
            if "bench" in words and (on_gpu or not part.gpu_only):
                given = options(words)
                axes = {name: [value] for name, value in given.items() if name in AXES}
                settings = {name: value for name, value in given.items() if name in SETTINGS}
                cases += make_plan(asked(axes, settings), machine).cases
    assert [planned.skip for planned in cases if planned.skip] == []
    seen = {
        (planned.case.spread.name, planned.case.precision, planned.case.activation_checkpointing) for planned in cases
    }
    precisions = {"fp32", "tf32", "amp-bf16", "fp8", "fp8-rowwise"} if on_gpu else {"fp32"}
    assert {precision for _, precision, _ in seen} == precisions
    assert {strategy for strategy, _, _ in seen} == {"single", "ddp", "fsdp"}
    assert {checkpointing for _, _, checkpointing in seen} == {"none", "selective", "full"}


def test_all_parts_and_the_page_end_within_eight_minutes(tmp_path: Path) -> None:
    limits = [part.limit_s for part in parts(Setup("cuda", 1, tmp_path))]
    start_s = 10  # torch is imported once, to ask for the device's name
    assert start_s + sum(limits) + gpu.GRACE_S + gpu.PAGE_S <= 8 * 60
    assert deadlines([10, 5, 20], 2.0) == [20, 30, 70]


def test_readings_of_nvidia_smi() -> None:
    found = nvidia_smi.parse("Field x is not valid\n" + READINGS)
    assert [reading["power_w"] for reading in found] == [118.2, 640.51, 652.07, None]
    assert found[1] == {
        **{"device_uuid": "GPU-1", "power_w": 640.51, "memory_used_mib": 30112, "utilisation": 0.99},
        **{"sm_clock_mhz": 1965, "temperature_c": 48},
    }


def test_both_instruments_are_compared_where_the_model_trains() -> None:
    ours = [
        {"device_uuid": "GPU-1", "power_w": watts, "memory_used_mib": mib, "utilisation": "0.99"}
        | {"sm_clock_mhz": "1980", "temperature_c": "50"}
        for watts, mib in (("119", "4"), ("640", "30100"), ("650", "30100"), ("", "30100"))
    ]
    said, wrong = nvidia_smi.compared(ours, nvidia_smi.parse(READINGS))
    assert said[0] == "GPU-1 power_w: 645 by NVML, 646.3 by nvidia-smi"
    assert (len(said), wrong) == (5, [])
    for row in ours:
        row["memory_used_mib"], row["temperature_c"] = "31000", ""
    _, wrong = nvidia_smi.compared(ours, nvidia_smi.parse(READINGS))
    assert wrong == [
        "GPU-1 memory_used_mib: 3.1e+04 by NVML, 3.011e+04 by nvidia-smi",
        "GPU-1 temperature_c: nothing by NVML, 50 by nvidia-smi",
    ]
    assert nvidia_smi.compared([], [])[1] == ["devices.csv has no reading"]


def part(name: str, *scripts: str, limit_s: float = 60, check: object = None) -> Part:
    commands = tuple((sys.executable, "-S", "-c", script) for script in scripts)
    return Part(name, name, limit_s, commands, check or (lambda done: Found([one.stdout for one in done], [])), {})  # type: ignore[arg-type]


@pytest.mark.launch
def test_a_part_that_fails_or_is_cut_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    child = tmp_path / "child"
    hangs = (
        "import os, signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"child = subprocess.Popen(['sleep', '300'], start_new_session=True); open({str(child)!r}, 'w').write(str(child.pid));"
        "time.sleep(300)"
    )
    chosen = [
        part("good", "print('a')", "print('b')"),
        part("fails", "raise SystemExit(3)", "print('and goes on')"),
        part("odd", "print(1)", check=lambda done: done[5]),
        dataclasses.replace(part("lacks", "pass"), needs={"no_such_module": "no-such-package"}),
        dataclasses.replace(part("gpu", "pass"), gpu_only=True),
        part("slow", hangs, "print('never')", limit_s=-297),  # three seconds after the start
        part("last", "print('z')"),
    ]
    monkeypatch.setattr(gpu, "GRACE_S", 0.2)
    setup = dataclasses.replace(small("cpu", 1, tmp_path), patience=1.0)
    results = {result.part.name: result for result in gpu.run_all(setup, chosen)}
    assert {name: result.outcome for name, result in results.items()} == {
        **{"good": "passed", "fails": "failed", "odd": "failed", "lacks": "skipped", "gpu": "skipped"},
        **{"slow": "cut", "last": "passed"},
    }
    assert results["good"].said == ("a\n", "b\n")
    assert results["fails"].wrong[0].startswith("exit code 3")
    assert results["odd"].wrong == ("cannot be judged: IndexError: list index out of range",)
    assert "no-such-package" in results["lacks"].said[0]
    assert "make gpu-wheels" in results["lacks"].said[0]
    assert [one.code for one in results["slow"].done] == [None]
    left = [p for p in psutil.process_iter() if p.pid == int(child.read_text())]
    assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
    text = gpu.summary(list(results.values()), "NVIDIA H200", 12.0)
    assert "2 passed, 2 failed, 1 cut, 2 skipped, in 12 s" in text
    assert "- wrong: exit code 3" in text
    gpu.write_commands(list(results.values()), tmp_path / "commands.csv")
    assert (tmp_path / "commands.csv").read_text().splitlines()[6].startswith("slow,cut,")


def test_the_ratio_to_the_bare_loop_is_judged_on_a_gpu_alone(tmp_path: Path) -> None:
    bare = Done((), 0, 1.0, '{"samples_per_s": 100.0}\n')
    ours = '{"launches": [{"status": "ok", "samples_per_s": 96.0}, {"status": "ok", "samples_per_s": 94.0}]}'
    for setup, wrong in ((Setup("cuda", 1, tmp_path), 1), (small("cpu", 1, tmp_path), 0)):
        agreement = next(part for part in parts(setup) if part.name == "agreement")
        found = agreement.check([bare, Done((), 0, 1.0, ours)])
        assert found.said[0].startswith(f"{setup.gpt} ddp: ours / bare loop 0.9499")  # sqrt(0.96 x 0.94)
        assert len(found.wrong) == wrong


def test_what_the_wheels_are_for() -> None:
    first, second = gpu_wheels.downloads("3.12", "2.11", Path("wheels"))
    assert "torchvision==0.26.*" in second
    assert "--no-deps" in second
    assert {"pip", "nvidia-ml-py", "typer", "pytest-timeout"} <= set(first)
    assert not {"torch", "torchvision"} & set(first)


@pytest.mark.slow
def test_missing_modules_are_installed_without_a_network(tmp_path: Path) -> None:
    """Two wheels: one of a module that is missing, and one of pytest, which is there and must stay what it is."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this interpreter has no pip")
    for name in ("only_here", "pytest"):
        with zipfile.ZipFile(tmp_path / f"{name}-9.9-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "VALUE = 42\n")
            info = f"{name}-9.9.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    script = (
        "import sys; from pathlib import Path; from gpu_wheels import equip\n"
        "equip(Path(sys.argv[1]), Path(sys.argv[1], 'site'))\n"
        "import only_here, pytest; print(only_here.VALUE, pytest.__version__)"
    )
    words = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(gpu_wheels.__file__).parent, check=False)
    assert done.stdout.split() == ["42", pytest.__version__], done.stderr


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_all_parts_on_the_cpu(tmp_path: Path) -> None:
    words = [sys.executable, gpu.__file__, "--device", "cpu", "--small", "--out", str(tmp_path)]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, cwd=gpu_wheels.ROOT, check=False)
    text = (tmp_path / "README.md").read_text()
    outcomes = {line.split(" | ")[0][2:]: line.split(" | ")[2] for line in text.splitlines() if line.startswith("| ")}
    outcomes.pop("part")
    assert set(outcomes) == {part.name for part in parts(small("cpu", 2, tmp_path))}
    assert outcomes.pop("nvml") == "skipped"
    assert set(outcomes.values()) <= {"passed", "cut"}, (time.monotonic() - began, done.stdout)
    assert done.returncode == 1  # as not all passed
    assert (tmp_path / "page.html").exists() or "cut" in outcomes.values()
    assert len(list((tmp_path / "runs").glob("*/launches.csv"))) >= 8
