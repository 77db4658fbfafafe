"""`bench check` with ranks that keep a given pace: what is launched for a gate, and what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_ranks import Done, Quiet, Turns, command, plain, wanted

from bench.machine.gpus import Machine
from bench.plan.plan import make_plan
from bench.runner.machine_survey import Survey
from bench.runner.run_session import Session
from bench.runner.schedule import Rounds
from bench.store import baselines
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches
from bench.store.writer import Store

CASE = "mlp-single-x1-cpu-84c3a454"
RATE = 640.0  # samples/s at a pace of 1
SPREAD = (-0.02, -0.01, 0.0, 0.01, 0.02)  # of five sessions, in the log
# Their standard deviation is sqrt(10e-4 / 4) = 0.0158114, the error of one more sqrt(1.2) times that: 0.0173205. With 4
# degrees of freedom t is 2.1318 at 5 %: beyond 3.7 % a case is a candidate. It is 4.6041 at 0.5 %: beyond 8.0 % it is
# slower. Within 3 % (0.0304592) of no change t is 1.7586, and p 0.077; within 5 % (0.0512933) 2.9614, and p 0.021.
SLOW = 0.9  # -0.105361 in the log: t is 6.0830, and p 0.00184


class Place:
    """A folder of results, the ranks that are asked next, and a baseline `b` of sessions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        self.ranks = Turns(folder, [[]])
        plain(monkeypatch, self.ranks)

    def session(self, log: float = 0.0, launches: int = 1, **axes: str) -> Path:
        """A run of `bench run`."""
        self.ranks.pace = lambda *_: math.exp(log)
        store = Store.create(self.folder / "results")
        try:
            plan = make_plan(wanted(axes, launches=str(launches)), Machine())
            Rounds(Session(plan, Survey(Machine()), store, Quiet())).run()
        finally:
            store.close()
        return store.folder

    def baseline(self, spread: Iterable[float] = SPREAD, launches: int = 1, **axes: str) -> None:
        self.add(*(self.session(log, launches, **axes) for log in spread))

    def add(self, *runs: Path) -> None:
        self.ranks.launched.clear()
        done = command(self.monkeypatch, self.capsys, self.folder, "baseline", "add", "b", *map(str, runs))
        assert done.code == 0, done.err

    def check(self, *words: str) -> Done:
        return command(self.monkeypatch, self.capsys, self.folder, "check", "--baseline", "b", *words)

    def gate(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = self.check("--json", "--quiet", *words)
        return done.code, json.loads(done.out)

    def rows(self) -> list[LaunchRow]:
        """The launches of the latest run."""
        runs = sorted((self.folder / "results" / "runs").iterdir(), key=lambda run: (run / "plan.json").stat().st_mtime)
        return read_launches(runs[-1] / "launches.csv", print)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Place:
    return Place(monkeypatch, capsys, tmp_path)


def launches(rows: list[LaunchRow]) -> list[tuple[int, int, str]]:
    return [(row.stage, row.block, row.role) for row in rows]


# -- what is launched --------------------------------------------------------------------------------------------------


def in_turns(blocks: int) -> list[tuple[int, int, str]]:
    """The first stage of one case and its control, each of which comes first in every other block."""
    roles = ("measure", "control")
    return [(1, block, role) for block in range(blocks) for role in (roles if block % 2 == 0 else roles[::-1])]


def test_a_case_is_launched_five_times_and_as_often_as_its_control(place: Place) -> None:
    """The sessions of the baseline have one launch; a control of fewer than five blocks says nothing."""
    place.baseline()
    place.ranks.pace = lambda *_: 1.0
    code, gate = place.gate("--detect", "5%")
    assert launches(place.rows()) == in_turns(5)
    assert [server for server, _ in place.ranks.launched] == [
        place.ranks.launched[0][0] + round_ for round_ in range(5) for _ in range(2)
    ]
    assert {row.case_id for row in place.rows()} == {CASE}
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"], verdict["launches"], verdict["blocks"]) == (0, "same", 5, 5)
    assert verdict["ratio"] == pytest.approx(1.0, abs=1e-6)
    half = 2.7764451 * math.sqrt(1.2 * 2.5e-4)  # t at 97.5 %
    assert (verdict["low"], verdict["high"]) == (
        pytest.approx(math.exp(-half), abs=1e-6),
        pytest.approx(math.exp(half), abs=1e-6),
    )
    assert gate["control"]["flagged"] is False
    assert (gate["a"], gate["b"]) == ("baseline b", gate["run_id"])


def test_a_candidate_is_launched_again_and_decided_by_that(place: Place) -> None:
    place.baseline()
    place.ranks.pace = lambda *_: SLOW
    done = place.check("--junit", "j.xml", "--md", "m.md")
    assert "1 of 1 cases may differ: fresh launches decide" in done.err
    first = in_turns(5)
    assert launches(place.rows()) == [*first, *((2, block, "measure") for block in range(5, 10))]
    assert done.code == 1
    assert done.out.startswith("worse: 1 case: 1 slower\n")
    assert "-10.0%" in done.out
    [suite] = ElementTree.parse(place.folder / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "**1 case: 1 slower**" in (place.folder / "m.md").read_text()


def test_what_fresh_launches_do_not_confirm_is_no_change(place: Place) -> None:
    """The first ten launches are slow, the five of the second stage are not."""
    place.baseline()
    place.ranks.pace = lambda _, number: SLOW if number < 10 else 1.0
    code, gate = place.gate("--detect", "5%")
    assert len(place.rows()) == 15
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"]) == (0, "same")
    assert verdict["ratio"] == pytest.approx(1.0, abs=1e-6)


def test_what_sessions_differ_by_is_undecided(place: Place) -> None:
    place.baseline()
    place.ranks.pace = lambda *_: 1.0
    code, gate = place.gate()
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"]) == (3, "inconclusive")
    assert "within what sessions differ by" in verdict["reason"]


def test_a_machine_that_differs_from_itself_decides_nothing(place: Place) -> None:
    """Every other launch is the control's, which comes first in every other block, and slower."""
    place.baseline()
    place.ranks.pace = lambda _, number: SLOW if number < 10 and number % 4 in (1, 2) else 1.0
    code, gate = place.gate("--detect", "5%")
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"], gate["control"]["flagged"]) == (3, "inconclusive", True)
    assert gate["control"]["words"].startswith(f"{CASE} against itself: -10.0% (-10.0%…-10.0%) on 5 blocks")


def test_several_cases_and_only_the_first_has_a_control(place: Place) -> None:
    place.baseline(seed="0,1")
    place.ranks.pace = lambda case, _: SLOW if case.seed == 1 else 1.0
    _, gate = place.gate("--detect", "5%")
    counts: dict[tuple[int, str, int], int] = {}
    for row in place.rows():
        key = (row.stage, row.role, row.seed)
        counts[key] = counts.get(key, 0) + 1
    control = next(row.seed for row in place.rows() if row.role == "control")
    assert counts == {(1, "measure", 0): 5, (1, "measure", 1): 5, (1, "control", control): 5, (2, "measure", 1): 5}
    assert {one["case"][:24]: one["verdict"] for one in gate["verdicts"]} == {
        "mlp-single-x1-cpu-84c3a4": "same",
        "mlp-single-x1-cpu-seed1-": "slower",
    }


def test_as_many_launches_as_sessions_have(place: Place) -> None:
    """The median of them: two of 1 and three of 7. Those of a second stage are not counted."""
    place.baseline(SPREAD[:2])
    for log in (0.02, 0.01, 0.0):
        place.add(place.session(log, launches=7))
    place.ranks.pace = lambda *_: 1.0
    place.gate("--detect", "5%")
    assert launches(place.rows()) == in_turns(7)
    assert {(row.steps, row.launches) for row in place.rows()} == {(5, 7)}


def test_a_check_that_joined_its_baseline_makes_the_next_no_longer(place: Place) -> None:
    """It had five launches and, in its second stage, five more."""
    place.baseline(launches=5)
    place.ranks.pace = lambda *_: SLOW
    place.check("--quiet")
    assert max(row.block for row in place.rows()) == 9
    place.add(max((place.folder / "results" / "runs").iterdir(), key=lambda run: run.stat().st_mtime_ns))
    place.check("--quiet")
    assert {row.launches for row in place.rows()} == {5}


def test_a_case_that_fails_is_broken_and_not_launched_again(place: Place) -> None:
    place.baseline(seed="0,1")
    place.ranks.pace = lambda *_: 1.0
    place.ranks.fails_at = lambda case, _: case.seed == 1
    code, gate = place.gate("--detect", "5%")
    failed = [row for row in place.rows() if row.seed == 1]
    assert [row.status for row in failed] == ["oom"]
    verdicts = {one["case"][:23]: one["verdict"] for one in gate["verdicts"]}
    assert verdicts["mlp-single-x1-cpu-seed1"] == "broken"
    assert code == 1


# -- what cannot be decided --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [1, 4])
def test_fewer_than_five_sessions_decide_nothing(place: Place, sessions: int) -> None:
    """A tenth of the pace is shown as what it is. Of four sessions the bounds are those of their prediction."""
    place.baseline(SPREAD[:sessions])
    place.ranks.pace = lambda *_: 0.1
    code, gate = place.gate()
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"]) == (3, "inconclusive")
    assert verdict["reason"].endswith(f"{sessions} of 5 sessions")
    middle = 0.1 / math.exp(sum(SPREAD[:sessions]) / sessions)
    assert verdict["ratio"] == pytest.approx(middle, rel=1e-4)
    half = 3.1824463 * math.sqrt(1.25) * 0.0129099445  # t at 97.5 % with 3 degrees of freedom; s of the first four
    bounds = verdict["low"], verdict["high"]
    if sessions == 1:
        assert bounds == (None, None)
    else:
        assert bounds == pytest.approx((middle * math.exp(-half), middle * math.exp(half)), rel=1e-4)
    assert {row.stage for row in place.rows()} == {1}


def test_the_table_of_too_few_sessions_has_change_and_interval(place: Place) -> None:
    place.baseline(SPREAD[:4])
    place.ranks.pace = lambda *_: 0.5
    done = place.check()
    assert done.code == 3
    assert "warning: baseline b has 4 of 5 sessions: changes are shown and nothing is decided" in done.err
    assert done.out.startswith("undecided: 1 case: 1 inconclusive\n")
    [row] = [line for line in done.out.splitlines() if "│ inconclusive │" in line]
    assert "-49.7% (-52.0%…-47.4%)" in row  # 0.5 / exp(-0.005), and 4.59 % either way in the log


def test_another_machine_ends_with_four_after_one_launch(place: Place) -> None:
    place.baseline()
    place.ranks.name = "NVIDIA H100"
    done = place.check()
    assert (done.code, done.out) == (4, "")
    assert done.err.splitlines()[-1] == (
        "bench: baseline b was measured on another machine, or with other software or settings: device_name: NVIDIA H200 "
        "in the baseline, NVIDIA H100 now. Create one by another name (bench baseline add NAME RUN), or bench baseline rm b."
    )
    assert len(place.ranks.launched) == 1


def test_other_settings_are_another_environment(place: Place) -> None:
    place.baseline()
    place.monkeypatch.setenv("NCCL_ALGO", "Ring")
    done = place.check()
    assert done.code == 4
    assert "NCCL_ALGO: not set in the baseline, Ring now" in done.err


def test_without_a_baseline_there_is_no_gate(place: Place) -> None:
    done = place.check()
    assert done.code == 4
    assert "baseline: got 'b'; allowed: one in results/baselines" in done.err
    assert "bench baseline add b RUN" in done.err
    assert place.ranks.launched == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--detect", "0"), "--detect: got '0'; allowed: a share above 0 and below 100%, such as 3%."),
        (
            ("--detect", "1%"),
            "--detect: got '1%'; allowed: a share above --floor, which is 1.00%. Give a larger --detect, or a smaller --floor.",
        ),
        (("--floor-memory", "a"), "--floor-memory: got 'a'; allowed: a share above 0 and below 100%, such as 3%."),
    ],
)
def test_rules_that_make_no_sense_are_refused(place: Place, words: tuple[str, str], message: str) -> None:
    done = place.check(*words)
    assert (done.code, done.err) == (2, f"bench: {message}\n")


# -- a run that is there -----------------------------------------------------------------------------------------------


def test_a_run_that_is_there_is_judged_without_a_control(place: Place) -> None:
    place.baseline()
    run = place.session(math.log(SLOW), launches=3)
    place.ranks.launched.clear()
    code, gate = place.gate("--run", run.name)
    [verdict] = gate["verdicts"]
    assert (code, verdict["verdict"], verdict["launches"], gate["control"]) == (1, "slower", 3, None)
    assert verdict["ratio"] == pytest.approx(SLOW, abs=1e-6)
    assert verdict["p"] == pytest.approx(0.00184, abs=1e-5)
    assert (verdict["samples_per_s_a"], verdict["samples_per_s_b"]) == (
        pytest.approx(RATE, rel=1e-6),
        pytest.approx(SLOW * RATE, rel=1e-6),
    )
    assert place.ranks.launched == []


def test_a_run_of_the_baseline_is_not_judged_by_it(place: Place) -> None:
    place.baseline()
    [*_, last] = baselines.load(place.folder / "results", "b", print).sessions
    done = place.check("--run", last)
    assert done.code == 2
    assert f"run {last} is part of baseline b. Name a later run." in done.err


def test_a_run_of_another_machine_ends_with_four(place: Place) -> None:
    place.baseline()
    place.ranks.name = "NVIDIA H100"
    done = place.check("--run", str(place.session()))
    assert done.code == 4
    assert "device_name: NVIDIA H200 in the baseline, NVIDIA H100 now" in done.err


def test_a_run_with_other_cases(place: Place) -> None:
    """One that the baseline does not know is new; one that the run lacks is missing, which counts with --strict."""
    place.baseline(seed="0,1")
    run = str(place.session(0.0, seed="0,2"))
    code, gate = place.gate("--run", run, "--detect", "5%")
    assert {one["case"][17:23]: one["verdict"] for one in gate["verdicts"]} == {
        CASE[17:23]: "same",
        "-seed1": "missing",
        "-seed2": "new",
    }
    assert code == 0
    assert place.gate("--run", run, "--detect", "5%", "--strict")[0] == 1


def test_a_run_that_is_none(place: Place) -> None:
    place.baseline()
    done = place.check("--run", "nowhere")
    assert done.code == 5
    assert done.err.startswith("bench: run: got 'nowhere'")
