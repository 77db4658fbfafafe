"""The verdicts of `bench ab` so far, with ranks that keep a given pace: what files say after each block, and after SIGKILL."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fake_ranks import Quiet, Turns, command, plain, wanted

from bench.comparison.setup import Gating, compete
from bench.comparison.sides import Side
from bench.errors import IncomparableError
from bench.plan.case import Case
from bench.runner.run_session import Session
from bench.stats.verdict import Gate, Rules
from bench.store.columns import LaunchRow, Row

OPTIONS = ("--workload", "mlp", "--strategy", "single", "--gpus", "1", "--device", "cpu", "--steps", "5")
FILES = ("--md", "gate.md", "--junit", "gate.xml", "--json-file", "gate.json")
SIDES = (Side("A"), Side("B", {"seed": ["1"]}))


def half(case: Case, number: int) -> float:
    """Side B (seed 1) has half the pace."""
    return 0.5 if case.seed == 1 else 1.0


def killed_in(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """This process is killed when the launch of that number begins, from 0."""
    launch, count = Session.launch, itertools.count()

    def launched(self: Session, case: Case, more: Row, *rest: Any) -> LaunchRow:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return launch(self, case, more, *rest)

    monkeypatch.setattr(Session, "launch", launched)


def test_after_each_block_it_is_said_what_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of half the pace: five blocks of the pair and of its control, then ten and five. Nothing is `slower` before five fresh
    blocks of the pair."""
    plain(monkeypatch, Turns(tmp_path, [[]], pace=half))
    told: list[Gate] = []
    final = compete(wanted(), SIDES, tmp_path, Gating(Rules(), 5, so_far=told.append), Quiet())
    words = [gate.so_far.words for gate in told if gate.so_far]
    assert words == [
        *(f"so far: {n} of 10 blocks (first stage)" for n in range(1, 11)),
        *(f"so far: {n} of 15 blocks (second stage)" for n in range(1, 16)),
    ]
    kinds = [gate.verdicts[0].verdict for gate in told]
    first = kinds.index("slower")
    assert set(kinds[:first]) == {"inconclusive"}
    assert set(kinds[first:]) == {"slower"}
    assert told[first].verdicts[0].blocks == 5
    assert told[first].so_far is not None
    assert told[first].so_far.part == "second stage"
    assert "it may differ, and only fresh launches could decide" in told[9].verdicts[0].reason
    assert told[0].sentence.startswith("so far: 1 of 10 blocks (first stage); ")
    assert (final.so_far, final.sentence, final.exit_code) == (None, "1 case: 1 slower", 1)


def test_cases_that_have_no_launch_yet_are_undecided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the first block of two cases and the control pair at most one case has launches."""
    plain(monkeypatch, Turns(tmp_path, [[]]))
    told: list[Gate] = []
    compete(wanted({"batch_size": "32,64"}), SIDES, tmp_path, Gating(Rules(), 5, so_far=told.append), Quiet())
    reasons = [one.reason for one in told[0].verdicts]
    assert (len(reasons), reasons.count("not measured yet") >= 1, told[0].exit_code) == (2, True, 3)
    assert [one.reason for gate in told[2:] for one in gate.verdicts if one.reason == "not measured yet"] == []


def test_blocks_that_a_failure_saves_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """B of the pair fails in its first block: the control has its five."""
    plain(monkeypatch, Turns(tmp_path, [[]], fails_at=lambda case, _: case.seed == 1))
    told: list[Gate] = []
    compete(wanted(), SIDES, tmp_path, Gating(Rules(), 5, so_far=told.append), Quiet())
    last = told[-1].so_far
    assert last is not None
    assert (len(told), last.blocks, last.of) == (6, 6, 6)


@pytest.mark.parametrize(
    ("number", "words", "outcome"),
    [
        (4 * 9 + 2, "so far: 9 of 10 blocks (first stage)", "undecided"),  # in the middle of the tenth block
        (4 * 25 - 1, "so far: 14 of 15 blocks (second stage)", "worse"),  # in the last launch of all
    ],
)
def test_a_job_that_is_killed_has_its_verdict(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: int,
    words: str,
    outcome: str,
) -> None:
    """By SIGKILL, after which no line of the program runs. The three files are whole, and of the block before."""
    plain(monkeypatch, Turns(tmp_path, [[]], pace=half))
    child = os.fork()
    if not child:
        killed_in(monkeypatch, number)
        command(monkeypatch, capsys, tmp_path, "ab", *OPTIONS, "--b", "seed=1", "--blocks", "5", "--quiet", *FILES)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    told = json.loads((tmp_path / "gate.json").read_text())
    assert (told["outcome"], told["sentence"].partition(";")[0]) == (outcome, words)
    assert f"{told['so_far']['blocks']} of {told['so_far']['of']} blocks" in words
    comment = (tmp_path / "gate.md").read_text()
    assert comment.startswith(f"<!-- stepbench -->\n## stepbench: {outcome}\n\n**{words}; 1 case: ")
    [suite] = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert {one.get("name"): one.get("value") for one in suite.iter("property")}["so_far"] == words
    assert words in str(suite.findtext("system-out"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["gate.json", "gate.md", "gate.xml"]


def test_a_final_file_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plain(monkeypatch, Turns(tmp_path, [[]], pace=half))
    done = command(monkeypatch, capsys, tmp_path, "ab", *OPTIONS, "--b", "seed=1", "--blocks", "5", "--quiet", *FILES)
    assert done.code == 1
    assert done.out.startswith("worse: 1 case: 1 slower\n")
    assert [line for line in done.err.splitlines() if line.startswith("wrote")] == [
        *("wrote gate.xml", "wrote gate.md", "wrote gate.json"),
    ]
    for name in ("gate.md", "gate.xml"):
        assert "so far" not in (tmp_path / name).read_text()
    told = json.loads((tmp_path / "gate.json").read_text())
    assert (told["so_far"], told["exit_code"]) == (None, 1)


def test_a_file_that_cannot_be_written_is_a_warning_until_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The comparison goes on, the other file is written, and the exit code is that of the file."""
    plain(monkeypatch, Turns(tmp_path, [[]]))
    (tmp_path / "file").touch()
    words = ("--md", "file/gate.md", "--json-file", "gate.json")
    done = command(monkeypatch, capsys, tmp_path, "ab", *OPTIONS, "--blocks", "5", "--quiet", *words)
    assert done.code == 5
    assert done.err.count("warning: cannot write file/gate.md") == 1
    assert json.loads((tmp_path / "gate.json").read_text())["outcome"] == "good"


def test_a_pipe_gets_the_final_verdicts_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plain(monkeypatch, Turns(tmp_path, [[]]))
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    done = command(monkeypatch, capsys, tmp_path, "ab", *OPTIONS, "--blocks", "5", "--quiet", "--json-file", "pipe")
    assert done.code == 0
    assert json.loads(os.read(reader, 1 << 16))["so_far"] is None
    os.close(reader)


def test_nothing_is_left_of_a_comparison_that_is_impossible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As after a side turned out to import the other one's files, in its sixth block: the exit code is 4, and no file
    says anything else."""
    plain(monkeypatch, Turns(tmp_path, [[]]))
    launch, count = Session.launch, itertools.count()

    def launched(self: Session, case: Case, more: Row, *rest: Any) -> LaunchRow:
        if next(count) == 21:
            assert (tmp_path / "gate.md").exists()
            raise IncomparableError("net.py was imported, which is not of the checkout")
        return launch(self, case, more, *rest)

    monkeypatch.setattr(Session, "launch", launched)
    done = command(monkeypatch, capsys, tmp_path, "ab", *OPTIONS, "--blocks", "5", "--quiet", *FILES)
    assert done.code == 4
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
