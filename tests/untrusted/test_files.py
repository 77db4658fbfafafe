"""Files of results with any edit: every command reads them, or says which file is wrong and where. None hangs."""

from __future__ import annotations

import random
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_edits import damaged, replaced
from hostile_paths import Ended, run
from made_up_rows import blocks, launch, session, write

from bench.comparison.baseline_check import asked_again
from bench.errors import BenchError, ResultsError
from bench.machine import environment
from bench.machine.gpus import Machine
from bench.messages.matmul_peak import MatmulPeak
from bench.plan.description import Description
from bench.plan.options import AXES
from bench.plan.plan import asked, make_plan
from bench.runner.launch_case import CaseLauncher
from bench.runner.launched import Launched
from bench.store.baselines import Baseline
from bench.store.columns import DEVICES, LAUNCHES, RANKS, STEPS, LaunchRow
from bench.store.plan_file import plan_json
from bench.store.writer import Store

ONE, TWO, AB, CALIBRATION = (f"2026010{n}-120000-00aa" for n in range(1, 5))
KNOWN = Description(
    **{"unit": "samples", "batch_size": 64, "data": ("resident", "synthetic"), "tokens_per_sample": None},
    **{"parameters": 265_738, "layers": 4, "flops_per_sample": 1e6, "hardware_flops_per_sample": 1e6},
)
HOST = environment.host_facts(Machine(), {})
ENVIRONMENT = HOST | {"torch": "2.15.0", "ram_gib": 8.0, "settings": '{"OMP_NUM_THREADS": "1"}'}
RESUME = ["run", "--resume", ONE, "--resume-anyway", "--quiet"]
DRY = ["run", "--device", "cpu", "--workload", "mlp", "--strategy", "single,ddp", "--dry-run"]
# file -> the commands that read it
COMMANDS: dict[str, tuple[list[str], ...]] = {
    f"runs/{ONE}/plan.json": (
        ["run", "--resume", ONE, "--dry-run"],
        [*RESUME, "--retry", "all"],
        RESUME,
        ["results", "show", ONE],
    ),
    f"runs/{ONE}/launches.csv": (
        ["report", ONE, "--json"],
        ["report", ONE, TWO, "--md", "x.md", "--csv", "answers", "--within-gib", "1,80"],
        ["results"],
        ["results", "--json"],
        ["results", "show", ONE],
        ["results", "export", ONE, "--pytest-benchmark", "x.json"],
        RESUME,
        [*RESUME[:-2], "--retry", "failed", "--dry-run"],
        DRY,
        ["compare", ONE, TWO, "--junit", "x.xml", "--md", "x.md"],
        ["compare", TWO, ONE, "--json", "--session-spread", "1%"],
        ["compare", "single", "ddp", "--by", "strategy", "--run", ONE],
        ["check", "--baseline", "b", "--run", ONE],
        ["baseline", "add", "b", ONE],
        ["baseline", "add", "new", ONE],
        ["env", "--diff", ONE, TWO],
        ["env", "--diff", TWO, ONE, "--json"],
    ),
    f"runs/{ONE}/steps.csv": (RESUME,),
    f"runs/{ONE}/ranks.csv": (RESUME,),
    f"runs/{ONE}/devices.csv": (RESUME,),
    f"runs/{AB}/plan.json": (["compare", AB], ["results", "show", AB], ["run", "--resume", AB]),
    f"runs/{AB}/launches.csv": (["compare", AB], ["compare", AB, "--json", "--strict"], ["compare", "A", "B", "--by", "side", "--run", AB]),
    "baselines/b.csv": (["check", "--baseline", "b", "--run", TWO], ["baseline", "list"], ["baseline", "add", "b", ONE]),
    f"runs/{CALIBRATION}/plan.json": (["compare", ONE, TWO],),
    f"runs/{CALIBRATION}/launches.csv": (["compare", ONE, TWO], ["results", "show", CALIBRATION]),
}  # fmt: skip
PAGE = ["report", ONE, TWO, "--html", "x.html"]
HEAVY: dict[str, tuple[list[str], ...]] = {
    f"runs/{ONE}/launches.csv": (PAGE, ["report", ONE, "--plots", "plots"]),
    f"runs/{ONE}/steps.csv": (PAGE,),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two cases, a comparison, a calibration and a baseline, as their commands would have left them."""
    out = tmp_path_factory.mktemp("sound") / "results"
    plan = make_plan(asked({"workload": ["mlp"], "strategy": ["single,ddp"], "device": ["cpu"]}, {}), Machine())
    facts = {**HOST, **environment.installed(), "gpus": "", "workloads": {}}
    for name, rate in ((ONE, 100.0), (TWO, 99.0)):
        rows = [
            launch(
                **{name: value for name, value in vars(planned.case).items() if name in LAUNCHES}
                | ENVIRONMENT
                | {"run_id": name, "case_id": planned.case.case_id},
                **{"launch_id": f"{block}-{place}", "order": 2 * block + place, "block": block},
                **{"samples_per_s": rate + block + 9 * place, "step_ms": 10.0, "peak_rss_mib": 300.0, "step_cv": 0.1},
                **{"world_size": 1 + place, "global_batch": 64, "window_s": 1.0, "window_steps": 30, "samples": 1920},
                **{
                    "data_wait_share": 0.1,
                    "mfu": 0.5,
                    "steps": 30,
                    "min_seconds": 0.0,
                    "warmup_steps": 5,
                    "launches": 3,
                },
                **{"device_name": "cpu", "launcher": "server", "timeout": 600.0},
            )
            for place, planned in enumerate(plan.cases)
            for block in range(5)
        ]
        fill(out, name, {**plan_json(plan), "facts": facts}, rows)
    sides = {side: {**plan_json(plan), "words": side} for side in "AB"}
    gate = [row.but(**ENVIRONMENT) for row in blocks([0.9] * 5, run_id=AB)]
    gate += [row.but(role="control", case_id="b") for row in blocks([1.0] * 5, run_id=AB)]
    fill(out, AB, {"kind": "ab", "duet": False, "protocol": {}, "sides": sides, "blocks": {"a": [5, 10]}}, gate)
    told = {"window_steps": 30, "window_s": 1.0, "launch_s": 5.0, "hostname": socket.gethostname()}
    noise = [row.but(**told, role="control") for row in blocks([1.0] * 6, run_id=CALIBRATION)]
    fill(out, CALIBRATION, {"kind": "calibrate", "duet": False, "sides": sides, "blocks": 6}, noise)
    write(out / "baselines", [row for n in range(5) for row in session([100.0, 101.0], run_id=f"r{n}")], name="b.csv")
    return out


def fill(out: Path, name: str, plan: dict[str, Any], rows: list[LaunchRow]) -> None:
    (out / "runs" / name / "logs").mkdir(parents=True)
    store = Store(out / "runs" / name)
    for file, columns in (
        ("launches.csv", LAUNCHES),
        ("steps.csv", STEPS),
        ("ranks.csv", RANKS),
        ("devices.csv", DEVICES),
    ):
        store._write(file, [list(columns)])
    store.plan(plan)
    store.append("launches.csv", [row.columns() for row in rows])
    known = [{"run_id": name, "launch_id": row.launch_id} for row in rows]
    store.append("steps.csv", [{**one, "step": n, "step_ms": 10.0 + n, "loss": 1.0} for one in known for n in range(3)])
    store.append("ranks.csv", [{**one, "rank": 0, "pid": 7, "failure": "a\nb"} for one in known])
    store.append("devices.csv", [{**one, "device_uuid": "GPU-0", "time_s": 0.1, "throttled": False} for one in known])
    store.close()


def not_launched(*_: object) -> MatmulPeak:
    raise BenchError("not launched")


@pytest.fixture
def bench(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Path], str], list[str]], tuple[str, Ended]]:
    """Edit a copy of the results, and run a command on it that launches nothing."""
    monkeypatch.setattr(CaseLauncher, "describe", lambda *_: KNOWN)
    monkeypatch.setattr(CaseLauncher, "matmul_peak", not_launched)
    monkeypatch.setattr(CaseLauncher, "launch", lambda *_: Launched({"status": "crashed", "reason": "not launched"}))
    monkeypatch.chdir(tmp_path)

    def edited(edit: Callable[[Path], str], words: list[str]) -> tuple[str, Ended]:
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        shutil.copytree(sound, tmp_path / "results")
        said = edit(tmp_path / "results")
        return said, run(monkeypatch, *words)

    return edited


def held(said: str, ended: Ended, file: str) -> None:
    """What must be true however a file was edited."""
    about = f"{said}: {ended}"
    assert ended.code in (0, 1, 2, 3, 4, 5), about
    assert "Traceback" not in ended.said, about
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]|^\s*::", ended.said, re.MULTILINE), about
    told = re.search(r"^bench: (.*)", ended.said, re.MULTILINE | re.DOTALL)
    if told and ended.code == 5:
        assert Path(file).name in told[1] or Path(file).parent.name in told[1], about


@pytest.mark.slow
def test_sound_files_are_read_by_every_command(bench: Callable[..., tuple[str, Ended]]) -> None:
    for words in (words for commands in COMMANDS.values() for words in commands):
        _, ended = bench(lambda _: "sound", words)
        allowed = (
            (0, 1, 3, 4)
            if words[0] in ("compare", "check", "baseline")
            else (5,)
            if words == ["run", "--resume", AB]
            else (0,)
        )
        assert ended.code in allowed, (words, ended)
        assert "Traceback" not in ended.said, (words, ended)


def sequence(bench: Callable[..., tuple[str, Ended]], seed: int, heavy: bool) -> None:
    draw = random.Random(seed)
    place = draw.choice([*COMMANDS, *[f"runs/{ONE}/plan.json", f"runs/{ONE}/launches.csv"] * 5])
    kind = Path(place).suffix[1:]
    words = draw.choice(COMMANDS[place] + (HEAVY.get(place, ()) if heavy else ()))

    def edit(results: Path) -> str:
        file = results / place
        if draw.random() < 0.1:
            return f"{seed}: bench {' '.join(words)}: {replaced(file, draw)}"
        content, said = damaged(file.read_bytes(), kind, draw)
        file.write_bytes(content)
        return f"{seed}: bench {' '.join(words)}: {place}: {said}"

    held(*bench(edit, words), place)


def test_thirty_edits(bench: Callable[..., tuple[str, Ended]]) -> None:
    for seed in range(30):
        sequence(bench, seed, heavy=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_five_hundred_edits(bench: Callable[..., tuple[str, Ended]], first: int) -> None:
    for seed in range(first, first + 50):
        sequence(bench, seed, heavy=True)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"strategy": "nonsense"}, "b.csv, column strategy: got 'nonsense'; allowed: single, dp, ddp, zero1, fsdp."),
        ({"gpus": -5}, "b.csv, column gpus: got -5; allowed: a whole number from 1, all, 1..N, 1..all."),
        ({"seed": 2**63 - 1}, f"b.csv, column seed: got {2**63 - 1}; allowed: a whole number from 0. At most 4,294,967,295."),
        ({"steps": 10**9}, "b.csv, column steps: got 1000000000; allowed: a whole number from 2. At most 1,000,000."),
        ({"timeout": float("inf")}, "b.csv, column timeout: got inf; allowed: seconds from 1."),
    ],
)  # fmt: skip
def test_a_baseline_with_what_cannot_be_measured_again(edit: dict[str, Any], message: str) -> None:
    sound = session([100.0, 101.0], steps=30, timeout=60.0)
    asked = asked_again(Baseline("b", Path("b.csv"), sound))
    assert (asked.settings["steps"], asked.settings["timeout"]) == (30, 60.0)
    assert asked.matrices == ({name: [value] for name in AXES if (value := getattr(sound[0], name)) is not None},)
    with pytest.raises(ResultsError) as error:
        asked_again(Baseline("b", Path("b.csv"), [row.but(**edit) for row in sound]))
    assert str(error.value) == message
