"""What `bench ab` says of its time and of what it detects, and how many blocks a budget alone has; every launch takes 10 s."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import pytest
from fake_ranks import Done, Turns, command, plain
from made_up_rows import blocks, launch

from bench.comparison.block_time import seconds_a_block
from bench.comparison.outlook import Outlook
from bench.machine.gpus import Machine
from bench.plan.plan import asked, make_plan
from bench.runner.run_session import Opened
from bench.stats.calibration import Noise
from bench.stats.power import Blocks, detectable, needed
from bench.stats.verdict import Gate
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches

CASE = "mlp-single-x1-cpu-84c3a454"
OPTIONS = ("--workload", "mlp", "--strategy", "single", "--gpus", "1", "--device", "cpu", "--steps", "5")
BOUND = math.sqrt(2 / (-2 * math.log(0.95)))  # of a deviation with two degrees of freedom: see test_first_look.py
STEP = 0.002


def outlook(blocks: dict[str, Blocks] | None, budget: float | None, detect: float = 0.03) -> tuple[Outlook, list[str]]:
    told: list[str] = []
    return Outlook(blocks, budget, detect, told.append, now=lambda: datetime(2026, 1, 1, 12)), told


def rows(step: float = STEP, pairs: str = "a") -> list[LaunchRow]:
    """Two blocks of each pair and of the control, in which they differ by 2 steps: a deviation of sqrt(2) steps."""
    ratios = [1.0, math.exp(2 * step)]
    return [*(row for pair in pairs for row in blocks(ratios, pair=pair)), *blocks(ratios, pair="a", role="control")]


def percent(deviation: float, count: int) -> str:
    return f"{detectable(deviation, Blocks(count, 2 * count)):.1%}"


# -- after two blocks --------------------------------------------------------------------------------------------------


def test_a_budget_becomes_blocks_with_what_they_detect_and_their_end() -> None:
    """A block takes 40 s, each of the first stage 3 · 40 + 2 · 40 = 200 s with the second: 2100 s are 10. Of these two are
    made: 8 · 80 = 640 s are left, and 20 · 40 + 10 · 40 = 1200 s of the second stage."""
    one, told = outlook(None, 2100.0)
    assert one.after(rows()) == {"a": Blocks(10, 20)}
    spread = STEP * math.sqrt(2)
    assert told == [
        "10 blocks of each pair, and 20 more where it may differ, of 40s a block: 10m40s (until 12:10), or at most 30m40s "
        "(until 12:30) if cases may differ",
        f"they detect a slowdown of {percent(spread * BOUND, 10)} by the upper bound of the spread of the first blocks, "
        f"and of {percent(spread, 10)} if these show the true spread",
    ]
    assert one.too_short == ""


def test_what_was_spent_on_other_things_is_not_there_for_blocks() -> None:
    one, _ = outlook(None, 2100.0)
    one.overhead = lambda: 101.0  # 1999 s: nine blocks
    assert one.after(rows()) == {"a": Blocks(9, 18)}


def test_what_the_budget_will_not_find_is_said_with_the_budget_that_would() -> None:
    """A step of 0.01: the spread is 1.41 %, its bound 6.2 %. The spread itself is found by ten blocks, so that it is no
    warning. The budget is that of the blocks at 200 s, a tenth more, in whole minutes."""
    one, told = outlook(None, 2100.0, detect=0.05)
    one.after(rows(0.01))
    both = needed(0.01 * math.sqrt(2) * BOUND, 0.05)
    assert both is not None
    minutes = math.ceil(1.1 * 200 * max(both.first, math.ceil(both.second / 2)) / 60)
    budget = f"{minutes // 60}h{minutes % 60:02}m00s" if minutes >= 60 else f"{minutes}m00s"
    assert told[2] == f"to be sure of 5.0% by that bound, give --budget {budget}"
    one, told = outlook(None, 2100.0, detect=0.006)
    one.after(rows(0.003))
    assert told[2].startswith("warning: to be sure of 0.6% by that bound, give --budget ")
    one, told = outlook(None, 2100.0)
    one.after(rows(1.0))
    assert told[2] == "warning: to be sure of 3.0% by that bound, no number of blocks is enough"


def test_blocks_that_were_asked_for_are_told_of_as_well() -> None:
    one, told = outlook({"a": Blocks(8, 16)}, None)
    assert one.after(rows(0.01)) == {"a": Blocks(8, 16)}
    both = needed(0.01 * math.sqrt(2) * BOUND, 0.03)
    assert both is not None
    assert told[0].startswith(
        "8 blocks of each pair, and 16 more where it may differ, of 40s a block: 8m00s (until 12:08)"
    )
    assert told[2].endswith(f"give --blocks {max(both.first, math.ceil(both.second / 2))}")


def test_a_budget_for_fewer_than_five_blocks_ends_the_comparison_and_says_what_would_do() -> None:
    """999 s are four blocks at 200 s. Five are 1000 s, with a tenth more 1100 s: 19 minutes."""
    one, told = outlook(None, 999.0)
    assert one.after(rows()) == {"a": Blocks(2, 0)}
    assert told == [f"warning: {one.too_short}"]
    assert one.too_short == (
        "a budget of 16m39s is too short: each block of 1 case and the control pair, with a second stage, takes 3m20s, and "
        "a test takes 5: give --budget 19m00s"
    )


def test_all_pairs_share_the_budget_and_a_failed_one_takes_none() -> None:
    """Two pairs: 2 · 3 · 40 + 2 · 40 = 320 s."""
    one, told = outlook(None, 1920.0)
    assert one.after(rows(pairs="ab")) == dict.fromkeys("ab", Blocks(6, 12))
    assert told[0].startswith("6 blocks of each pair, and 12 more where it may differ, of 40s a block: 8m00s")
    one, _ = outlook(None, 1920.0)
    failed = [row.but(status="oom") if (row.pair, row.side) == ("b", "B") else row for row in rows(pairs="ab")]
    assert one.after(failed) == {"a": Blocks(9, 18)}
    one, told = outlook(None, 1920.0)
    assert (one.after([row.but(status="oom") for row in rows()]), told) == ({}, [])


# -- before it starts --------------------------------------------------------------------------------------------------

QUIET = Noise("a", "h", None, None, False, 30, 16, 0.01, 0.003, 0.005, None, 10.0, 0.01, 100.0)


def test_a_calibration_says_all_before_the_first_launch_and_nothing_is_added_later() -> None:
    """Blocks of 10 s: 8 of the pair and of the control are 160 s; 16 and 8 more are 240 s."""
    one, told = outlook({"a": Blocks(8, 16)}, None)
    one.before(["a"], {"a": QUIET}, {})
    assert told == [
        "8 blocks of each pair, and 16 more where it may differ: 2m40s (until 12:02), or at most 6m40s (until 12:06) if "
        "cases may differ, by the calibration",
        f"they detect a slowdown of {QUIET.detectable(Blocks(8, 16)):.1%}",
    ]
    one.after(rows())
    assert len(told) == 2


def test_without_one_it_is_said_how_long_the_first_blocks_take_if_that_is_known() -> None:
    """Two of the pair and of its control, of 20 s. Five blocks would take 5 · 100 s."""
    one, told = outlook(None, 480.0)
    one.before(["a"], {}, {})
    assert told == [
        "2 blocks of each case and of the control pair come first (no earlier launch says how long that takes); then it "
        "is known how many fit 8m00s, and what they detect"
    ]
    one, told = outlook(None, 480.0)
    one.before(["a"], {}, {"a": 20.0})
    assert told == [
        "2 blocks of each case and of the control pair come first (about 1m20s by earlier launches); then it is known how "
        "many fit 8m00s, and what they detect",
        "warning: by earlier launches 8m00s are too short for a test, which takes about 8m20s",
    ]


def test_blocks_without_a_calibration() -> None:
    one, told = outlook({"a": Blocks(8, 16)}, None)
    one.before(["a"], {}, {"a": 20.0})
    assert told == [
        "8 blocks of each pair, and 16 more where it may differ: 5m20s (until 12:05), or at most 13m20s (until 12:13) if "
        "cases may differ, by earlier launches",
        "what they detect is known after 2 blocks of each pair",
    ]
    one, told = outlook({}, None)
    one.before([], {}, {})
    assert told == []


PROTOCOL = make_plan(
    asked({"workload": ["mlp"], "device": ["cpu"], "gpus": ["1"]}, {"steps": "10"}), Machine()
).protocol


def earlier(seconds: float, **known: object) -> LaunchRow:
    """A launch of which the window had its ten steps."""
    timed = {"window_s": 1.0, "window_steps": 10, "warmup_steps": 5, "warmup_steps_done": 5}
    return launch(launch_s=seconds, case_id="a", **{**timed, **known})


def test_a_block_takes_four_launches_and_the_start_of_a_server() -> None:
    """Launches of 3 s: 12 s. Earlier blocks tell that the first of a block takes 8 s longer."""
    runs = [earlier(3.0)] * 5
    ab = [earlier(11.0 if turn == 0 else 3.0, turn=turn) for turn in range(4)]
    both = {"A": "a", "B": "a"}
    assert seconds_a_block(both, runs, PROTOCOL, duet=False) == pytest.approx(12.0)
    assert seconds_a_block(both, [*runs, *ab], PROTOCOL, duet=False) == pytest.approx(20.0)
    assert seconds_a_block({"A": "a", "B": "other"}, runs, PROTOCOL, duet=False) is None


def test_a_duet_takes_what_earlier_duets_took() -> None:
    duets = [earlier(13.0, bursts=10, turn=0), earlier(14.0, bursts=10, turn=1)]
    both = {"A": "a", "B": "a"}
    assert seconds_a_block(both, [*duets, earlier(3.0)], PROTOCOL, duet=True) == pytest.approx(13.5)
    assert seconds_a_block(both, [earlier(3.0)], PROTOCOL, duet=True) == pytest.approx(6.0)
    assert seconds_a_block(both, [*duets, earlier(3.0)], PROTOCOL, duet=False) == pytest.approx(12.0)


# -- the command -------------------------------------------------------------------------------------------------------


class Place:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        self.ranks = Turns(folder, [[]])
        plain(monkeypatch, self.ranks)
        monkeypatch.setattr(Opened, "seconds", property(lambda _: 10.0))

    def ab(self, *words: str) -> Done:
        return command(self.monkeypatch, self.capsys, self.folder, "ab", *OPTIONS, *words)

    def run(self) -> Path:
        return max((self.folder / "results" / "runs").iterdir(), key=lambda run: (run / "plan.json").stat().st_mtime_ns)

    def counts(self) -> dict[tuple[str, int], int]:
        """Launches by role and stage."""
        found: dict[tuple[str, int], int] = {}
        for row in read_launches(self.run() / "launches.csv", print):
            found[str(row.role), row.stage or 0] = found.get((str(row.role), row.stage or 0), 0) + 1
        return found


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Place:
    return Place(monkeypatch, capsys, tmp_path)


def test_a_budget_alone_is_enough(place: Place) -> None:
    """1399 s are six blocks at 200 s, with room for what is not a launch. Nothing differs: there is no second stage."""
    done = place.ab("--budget", "1399")
    assert (done.code, done.out.splitlines()[0]) == (0, "good: 1 case: 1 same")
    assert place.counts() == {("measure", 1): 24, ("control", 1): 24}
    assert json.loads((place.run() / "plan.json").read_text())["blocks"] == {CASE: [6, 12]}
    assert "2 blocks of each case and of the control pair come first (no earlier launch says how long" in done.err
    assert "6 blocks of each pair, and 12 more where it may differ, of 40s a block: 5m20s (until " in done.err
    assert "they detect a slowdown of 0.0%" in done.err  # all are equal
    assert "bench calibrate" not in done.err


def test_a_change_that_is_found_has_twice_the_blocks_in_the_second_stage(place: Place) -> None:
    """The number of blocks is that of sides that do not differ."""
    place.ranks.pace = lambda case, _: 0.8 if case.seed == 1 else 1.0
    done = place.ab("--budget", "1399", "--b", "seed=1")
    assert done.code == 1
    assert place.counts() == {
        ("measure", 1): 24,
        ("control", 1): 24,
        ("measure", 2): 48,
        ("control", 2): 24,
    }


def test_a_budget_that_is_too_short_is_undecided(place: Place) -> None:
    done = place.ab("--budget", "999", "--quiet", "--md", "gate.md")
    assert done.code == 3
    assert place.counts() == {("measure", 1): 8, ("control", 1): 8}
    warning = "a budget of 16m39s is too short: "
    assert f"warning: {warning}" in done.err
    text = (place.folder / "gate.md").read_text()
    assert f"- {warning}" in text
    assert "give --budget 19m00s" in text
    assert "so far" not in text


def test_verdicts_so_far_say_which_blocks_are_meant(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Gate] = []
    monkeypatch.setattr("bench.cli.verdict_options.VerdictOptions.so_far", lambda _, gate, warn: told.append(gate))
    place.ab("--budget", "1399", "--quiet", "--md", "gate.md")
    assert [gate.so_far.words for gate in told if gate.so_far] == [
        *(f"so far: {n} of 4 blocks (first look)" for n in range(1, 5)),
        *(f"so far: {n} of 12 blocks (first stage)" for n in range(5, 13)),
    ]


def test_several_cases_of_which_one_fails(place: Place) -> None:
    """B of the batch of 64 fails at once: the other has the budget with the control pair."""
    place.ranks.fails_at = lambda case, _: (case.seed, case.batch_size) == (1, 64)
    done = place.ab("--batch-size", "32,64", "--b", "seed=1", "--budget", "1399", "--quiet")
    assert done.out.splitlines()[0] == "worse: 2 cases: 1 same, 1 broken"
    assert list(json.loads((place.run() / "plan.json").read_text())["blocks"].values()) == [[6, 12]]
    rows = read_launches(place.run() / "launches.csv", print)
    assert sum(row.role == "measure" and row.batch_size == 32 for row in rows) == 24
