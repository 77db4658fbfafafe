"""`bench calibrate` with ranks that keep a given pace: the noise that it finds, and what `bench ab` makes of it."""

from __future__ import annotations

import inspect
import json
import math
import re
import socket
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fake_ranks import Done, Turns, command, plain

from bench.cli.calibrate import calibrate
from bench.plan.case import Case
from bench.runner.run_session import Session
from bench.stats.calibration import MEASURED_BLOCKS, Noise
from bench.stats.power import Blocks, detectable, needed, upper
from bench.store.columns import Row
from bench.store.reader import read

CASE = "mlp-single-x1-cpu-84c3a454"
RATE = 640.0  # samples/s at a pace of 1
OPTIONS = ("--workload", "mlp", "--strategy", "single", "--gpus", "1", "--device", "cpu", "--steps", "5")

# Five blocks are off by this much in the log, and in each both launches of a side by LAUNCH up and down.
OFF, LAUNCH = (-0.002, -0.001, 0.0, 0.001, 0.002), 0.001
# Winsorised, the blocks are -1, -1, 0, 1, 1 thousandths: 4e-6 squared, of three that are left, an error of
# sqrt(4e-6 / (3 · 2)) = 0.000816497. Of five standard normal ones it would be 0.524144: with z = 0.841621 the winsorised
# variance is 0.6 - 2 · 0.841621 · 0.279962 + 0.4 · 0.708326 = 0.412091, times 4 / (3 · 2) and of that the root.
OF_BLOCKS = 0.000816497 / 0.524144
OF_LAUNCHES = LAUNCH * math.sqrt(2)  # the deviation of two numbers that are 2 · LAUNCH apart


class Place:
    """A folder of results, and ranks whose pace is by the block and the side that they are launched for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        self.ranks, self.log, self.scale = Turns(folder, [[]]), 0.0, 1.0
        plain(monkeypatch, self.ranks)
        self.ranks.pace = lambda *_: math.exp(self.log)
        self._turns = count()
        launch = Session.launch

        def paced(session: Session, case: Case, more: Row, *rest: Any) -> Row:
            of_block = OFF[more["block"] % len(OFF)] if more["side"] == "B" else 0.0
            second = more["turn"] in (2, 3)  # of A B B A: the first launches of both sides are up, the others down
            self.log = self.scale * (of_block - LAUNCH if second else of_block + LAUNCH) + self.session
            return launch(session, case, more, *rest)

        self.session = 0.0  # all launches of a session are off by it
        monkeypatch.setattr(Session, "launch", paced)

    def bench(self, *words: str) -> Done:
        return command(self.monkeypatch, self.capsys, self.folder, *words)

    def calibrate(self, *words: str) -> dict[str, Any]:
        """One case's figures."""
        done = self.bench("calibrate", *OPTIONS, "--blocks", "5", "--quiet", "--json", *words)
        assert done.code == 0, done.err
        [figures] = json.loads(done.out)
        return dict(figures)

    def plan(self) -> dict[str, Any]:
        """That of the latest run."""
        return dict(json.loads((self.run() / "plan.json").read_text()))

    def run(self) -> Path:
        return max((self.folder / "results" / "runs").iterdir(), key=lambda run: (run / "plan.json").stat().st_mtime_ns)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Place:
    return Place(monkeypatch, capsys, tmp_path)


def test_the_figures(place: Place) -> None:
    found = place.calibrate()
    assert (found["case_id"], found["hostname"], found["duet"]) == (CASE, socket.gethostname(), False)
    assert (found["blocks"], found["steps"], found["between_sessions"]) == (5, 5, None)
    assert found["of_blocks"] == pytest.approx(OF_BLOCKS, rel=1e-4)
    assert found["between_launches"] == pytest.approx(OF_LAUNCHES, rel=1e-4)
    assert found["within_launch"] == 0.0
    assert found["samples_per_s"] == pytest.approx(RATE, rel=1e-4)
    assert found["step_s"] == pytest.approx(0.1, rel=1e-4)
    rows = read(place.run() / "launches.csv", print)
    assert len(rows) == 20
    assert found["seconds_a_block"] == pytest.approx(sum(row["launch_s"] for row in rows) / 5, rel=1e-6)
    assert found["blocks_needed"] == list(needed(upper(found["of_blocks"], 5), 0.03) or ())
    assert len(found["blocks_needed"]) == 2


def test_each_launch_is_of_the_case_against_itself(place: Place) -> None:
    place.calibrate()
    rows = read(place.run() / "launches.csv", print)
    assert {(r["role"], r["pair"], r["case_id"], r["stage"]) for r in rows} == {("control", CASE, CASE, 1)}
    assert [row["block"] for row in rows] == [block for block in range(5) for _ in range(4)]
    assert {"".join(row["side"] for row in rows[at : at + 4]) for at in range(0, 20, 4)} <= {"ABBA", "BAAB"}
    assert [server for server, _ in place.ranks.launched] == [1 + number // 4 for number in range(20)]
    plan = place.plan()
    assert (plan["kind"], plan["blocks"], plan["duet"]) == ("calibrate", 5, False)


def test_every_case_has_its_blocks(place: Place) -> None:
    done = place.bench("calibrate", *OPTIONS, "--batch-size", "32,64", "--blocks", "6", "--quiet", "--json")
    assert [(one["case_id"].partition("-b")[2][:2], one["blocks"]) for one in json.loads(done.out)] in (
        [("32", 6), ("", 6)],
        [("", 6), ("32", 6)],
    )


def test_as_many_blocks_as_certify_unless_asked_otherwise(place: Place) -> None:
    done = place.bench("calibrate", *OPTIONS, "--quiet", "--json")
    [found] = json.loads(done.out)
    assert found["blocks"] == MEASURED_BLOCKS
    assert len(place.ranks.launched) == 4 * MEASURED_BLOCKS
    [option] = inspect.signature(calibrate).parameters["blocks"].annotation.__metadata__
    assert option.help == rf"Blocks of each case. \[default: {MEASURED_BLOCKS}]"


def test_the_budget_is_that_of_a_gate(place: Place) -> None:
    """Half of it is the control pair's; a third of the rest the first stage's. It ends no calibration."""
    found = place.calibrate("--budget", "1h")
    noise = Noise(**{name: found[name] for name in Noise.__dataclass_fields__})
    blocks = noise.within(1800)
    assert blocks is not None
    assert blocks.first == int(600 / found["seconds_a_block"])
    assert found["detectable"] == pytest.approx(detectable(upper(found["of_blocks"], 5), blocks), abs=2e-5)
    assert found["blocks"] == 5
    few = place.calibrate("--budget", "0.001")
    assert few["detectable"] is None


def test_the_table(place: Place) -> None:
    done = place.bench("calibrate", *OPTIONS, "--blocks", "5", "--quiet", "--detect", "2%", "--budget", "0.001")
    assert done.code == 0
    needs = needed(upper(OF_BLOCKS, 5), 0.02)
    assert needs is not None
    table = [[cell.strip() for cell in re.split("[│┃]", line)] for line in done.out.splitlines()]
    [cells] = [cells for cells in table if CASE in cells]
    cells = cells[cells.index(CASE) :]
    assert cells[:5] == [CASE, "0.00%", "0.14%", "0.16%", "—"]
    assert cells[6:8] == ["too short", f"{needs.first} + {needs.second}"]
    assert "blocks for 2.0%" in done.out
    assert "found in 0.0s" in done.out


def test_sessions_differ_by_what_their_medians_do(place: Place) -> None:
    """The second is faster by 3 % in the log: a deviation of 0.03 / sqrt(2)."""
    assert place.calibrate()["between_sessions"] is None
    place.session = 0.03
    assert place.calibrate()["between_sessions"] == pytest.approx(0.03 / math.sqrt(2), rel=1e-4)


def test_launches_that_fail_end_with_five(place: Place) -> None:
    place.ranks.fails_at = lambda *_: True
    done = place.bench("calibrate", *OPTIONS, "--blocks", "5", "--quiet", "--json")
    assert (done.code, json.loads(done.out)) == (5, [])
    assert len(place.ranks.launched) == 2  # one of each side


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--blocks", "4"], "--blocks: got 4; allowed: a whole number from 5. With fewer"),
        (["--blocks", "0"], "--blocks: got 0; allowed: a whole number from 5. With fewer"),
        (["--blocks", "-5"], "--blocks: got -5; allowed: a whole number from 5. With fewer"),
        (["--budget", "soon"], "--budget: got 'soon'; allowed: a duration above 0, such as 90s, 30m or 1h30m."),
        (
            ["--detect", "3 per cent"],
            "--detect: got '3 per cent'; allowed: a share above 0 and below 100%, such as 3%.",
        ),
        (["--launches", "3"], "--launches: a calibration is measured in blocks of four launches. Give --blocks."),
        (
            ["--batch-size", "auto"],
            "side A has several cases that differ only in what the sides set, or --batch-size auto",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(place: Place, words: list[str], message: str) -> None:
    done = place.bench("calibrate", *OPTIONS, *words)
    assert done.code == 2
    assert f"bench: {message}" in done.err
    assert place.ranks.launched == []


# -- what `bench ab` makes of it ---------------------------------------------------------------------------------------


def test_a_comparison_has_the_blocks_that_its_calibration_asks_for(place: Place) -> None:
    place.scale = 2.0
    found = place.calibrate()
    place.bench("ab", *OPTIONS, "--quiet")
    assert place.plan()["kind"] == "ab"
    assert place.plan()["blocks"] == {CASE: list(needed(upper(found["of_blocks"], 5), 0.03) or ())}
    finer = needed(upper(found["of_blocks"], 5), 0.02)
    assert finer is not None
    place.bench("ab", *OPTIONS, "--quiet", "--detect", "2%")
    assert place.plan()["blocks"] == {CASE: list(finer)}
    assert list(finer) != found["blocks_needed"]


def test_the_latest_calibration_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of runs have seconds, so the first is made to be of an earlier one."""
    place.scale = 4.0
    place.calibrate()
    run = place.run()
    run.rename(run.with_name(f"20200101-000000-{run.name[-4:]}"))
    place.scale = 1.0
    found = place.calibrate()
    done = place.bench("ab", *OPTIONS)
    assert place.plan()["blocks"] == {CASE: found["blocks_needed"]}
    assert "not calibrated" not in done.err


def test_another_case_or_machine_is_not_calibrated(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.calibrate()
    done = place.bench("ab", *OPTIONS, "--seed", "1")
    assert f"warning: {'-'.join(CASE.split('-')[:-1])}-seed1-" in done.err
    assert f"is not calibrated on host {socket.gethostname()} with this data, torch and window, so it" in done.err
    assert list(place.plan()["blocks"].values()) == [[8, 16]]
    assert "is not calibrated on host" in place.bench("ab", *OPTIONS, "--min-seconds", "0.1").err
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert f"warning: {CASE} is not calibrated on host elsewhere" in place.bench("ab", *OPTIONS).err


def test_what_the_machine_cannot_find_is_refused_where_it_is_insisted_on(place: Place) -> None:
    place.scale = 4.0
    found = place.calibrate()
    spread = upper(found["of_blocks"], 5)
    smallest, needs = detectable(spread, Blocks(5, 10)), needed(spread, 0.012)
    assert needs is not None
    launched = len(place.ranks.launched)
    done = place.bench("ab", *OPTIONS, "--blocks", "5", "--detect", "1.2%")
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        f"bench: {CASE}: 5 and 10 blocks detect a slowdown of {smallest:.1%} on this machine, not of 1.2%: that needs "
        f"{needs.first} and {needs.second}. Change --blocks, --budget or --detect."
    )
    assert len(place.ranks.launched) == launched


def test_what_the_machine_cannot_find_is_warned_of_where_nothing_was_said(place: Place) -> None:
    place.scale = 12.0
    place.calibrate()
    done = place.bench("ab", *OPTIONS, "--blocks", "5")
    assert re.search(f"warning: {CASE}: 5 and 10 blocks detect a slowdown of .* on this machine, not of 3.0%", done.err)


def test_a_budget_pays_for_blocks(place: Place) -> None:
    """Half of it for the control pair; of the other a third for the first stage."""
    found = place.calibrate()
    budget = 36 * found["seconds_a_block"] + 0.01
    place.bench("ab", *OPTIONS, "--quiet", "--budget", f"{budget:.6f}")
    assert place.plan()["blocks"] == {CASE: [6, 12]}
    done = place.bench("ab", *OPTIONS, "--quiet", "--budget", f"{budget / 2:.6f}")
    assert done.code == 2
    assert f"are not enough for 5 blocks of {CASE} and twice as many more" in done.err
