"""What GitHub reads of a gate: workflow commands that cannot be escaped from, a summary that fits, outputs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_gates import CONTROL, FLAGGED, GATE, GOOD, MISSING, ODD, UNLIKE, many

from bench.export.github import SUMMARY_BYTES, annotations, publish, summary
from bench.stats.verdict import Gate, Rules

COMMAND = re.compile(r"::(error|warning|notice) title=([^\r\n:,]*)::([^\r\n]*)")


def read(command: str) -> tuple[str, str, str]:
    """A command as the runner understands it: kind, title, message."""
    found = COMMAND.fullmatch(command)
    assert found, command
    kind, title, text = found.groups()
    assert not re.search(r"%(?!25|0D|0A|3A|2C)", title + text)
    for escape, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        title, text = title.replace(escape, character), text.replace(escape, character) if escape[1] in "02" else text
    return kind, title, text


def test_every_annotation_of_a_gate(golden: Callable[[str, str], None]) -> None:
    assert [read(line) for line in annotations(GATE)] == [
        ("notice", "stepbench", "worse: 7 cases: 1 faster, 1 slower, 1 same, 1 inconclusive, 1 missing, 1 new, 1 broken, 1 with more memory"),
        ("error", "broken: resnet18-fsdp-x2", "broken: rank 1: RuntimeError: no"),
        ("error", "slower: gpt-nano-ddp-x2", "slower: -4.0% (-5.0%…-3.0%) on 16 blocks; confirmed by fresh launches; 1,500 → 1,440 samples/s"),
        ("error", "faster, more memory: mlp-fsdp-x2", "faster, more memory: +5.0% (+4.0%…+6.0%); memory +5.0% (1,000 → 1,050 MiB)"),
        ("warning", "missing: dlrm-ddp-x2", "missing: not in B"),
        ("warning", "inconclusive: resnet18-ddp-x2", "inconclusive: -2.0%; within the noise"),
    ]  # fmt: skip
    golden("gate.github", "\n".join(annotations(GATE)) + "\n")


def test_a_good_gate_is_one_notice() -> None:
    assert annotations(GOOD) == ["::notice title=stepbench::good: 1 case: 1 same"]


@pytest.mark.parametrize(
    ("gate", "second"),
    [
        (Gate("A", "B", (MISSING,), Rules(strict=True)), ("error", "missing: dlrm-ddp-x2", "missing: not in B")),
        (Gate("A", "B", (UNLIKE,)), ("error", "incomparable: llama-ddp-x2", "incomparable: global_batch: 8 in A, 16 in B")),
        (Gate("A", "B", ()), ("error", "stepbench", "a launch failed, or nothing could run")),
        (dataclasses.replace(GOOD, failed=True), ("error", "stepbench", "a launch failed, or nothing could run")),
        (dataclasses.replace(GOOD, control=FLAGGED), ("warning", "control pair", f"equal sides differ: {FLAGGED.words}")),
    ],
)  # fmt: skip
def test_what_else_is_told(gate: Gate, second: tuple[str, str, str]) -> None:
    assert [read(line) for line in annotations(gate)][1:] == [second]


def test_ten_of_each_and_the_rest_in_one_line() -> None:
    lines = [read(line) for line in annotations(many(13))]
    assert [kind for kind, _, _ in lines] == ["notice"] + 10 * ["error"] + 10 * ["warning"]
    assert lines[0][2] == (
        "worse: 39 cases: 13 slower, 13 same, 13 inconclusive; 3 more errors and 3 more warnings are in the job's summary"
    )
    assert "more" not in annotations(many(10))[0]


def test_no_text_ends_a_command_or_begins_another() -> None:
    lines = annotations(ODD)
    line = "<script>]]>&\"%0A::error::x,y:z =cmd|' /C calc'!A0 \ufffd[31m\ufffd\ufffd\ufffd @team `a` **b**"
    assert [read(one)[1] for one in lines] == [
        "stepbench",
        "broken:",
        f"slower: {line}",
        "control pair",
        f"inconclusive: {line}",
    ]
    assert "%250A%3A%3Aerror%3A%3Ax%2Cy%3Az" in lines[2].split("::")[1]
    "\n".join(lines).encode()  # no half of a pair


# -- summary -------------------------------------------------------------------------------------------------------


def test_a_summary_fits_and_says_what_is_missing() -> None:
    whole = summary(many(20_000))
    assert SUMMARY_BYTES * 0.99 < len(whole.encode()) <= SUMMARY_BYTES
    *lines, empty, last = whole.splitlines()
    found = re.fullmatch(r"\*\*(\d+) more lines do not fit here\.\*\* The JUnit .*", last)
    assert found
    assert empty == ""
    rows = [line for line in lines if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {3}  # no row is cut
    # 60,000 rows below a header of two lines, and two reasons that 20,000 cases share each.
    assert int(found[1]) == 60_000 - (len(rows) - 2) + 2


def test_a_summary_that_fits_is_whole() -> None:
    assert "do not fit" not in summary(many(100))
    assert summary(GATE).startswith("## stepbench: worse\n\n**7 cases: 1 faster, 1 slower")


# -- publish -------------------------------------------------------------------------------------------------------


def files(tmp_path: Path) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


@pytest.mark.parametrize("value", [None, "", "false", "1"])
def test_elsewhere_nothing_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str | None) -> None:
    environ = {name: text for name, text in {**files(tmp_path), "GITHUB_ACTIONS": value}.items() if text is not None}
    publish(GATE, environ)
    assert (list(tmp_path.iterdir()), *capsys.readouterr()) == ([], "", "")


def test_all_is_published_and_stdout_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary").write_text("what another command said\n")
    (tmp_path / "output").write_text("x=y\n")
    publish(GATE, files(tmp_path))
    assert (tmp_path / "summary").read_text() == "what another command said\n" + summary(GATE)
    assert (tmp_path / "output").read_text() == "x=y\nverdict=worse\nexit_code=1\n"
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", annotations(GATE))


@pytest.mark.parametrize(
    ("gate", "output"),
    [
        (GOOD, "verdict=good\nexit_code=0\n"),
        (dataclasses.replace(GOOD, control=FLAGGED), "verdict=undecided\nexit_code=3\n"),
        (Gate("A", "B", (UNLIKE,), control=CONTROL), "verdict=incomparable\nexit_code=4\n"),
        (Gate("A", "B", ()), "verdict=failed\nexit_code=5\n"),
        (ODD, "verdict=worse\nexit_code=1\n"),
    ],
)
def test_outputs(tmp_path: Path, gate: Gate, output: str) -> None:
    publish(gate, files(tmp_path))
    assert (tmp_path / "output").read_text() == output


@pytest.mark.parametrize("place", ["/proc/none/summary", "/dev/full", "a\0b", "."])
def test_what_cannot_be_written_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    publish(GATE, {**files(tmp_path), "GITHUB_OUTPUT": place})
    assert (tmp_path / "summary").read_text() == summary(GATE)
    assert f"warning: cannot write {place}: " in capsys.readouterr().err
    publish(GATE, {**files(tmp_path), "GITHUB_STEP_SUMMARY": place})
    assert (tmp_path / "output").read_text() == "verdict=worse\nexit_code=1\n"
    assert f"warning: cannot write {place}: " in capsys.readouterr().err


def test_variables_that_are_not_set_are_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    publish(GATE, {"GITHUB_ACTIONS": "true"})
    assert capsys.readouterr().err.splitlines() == annotations(GATE)


def test_a_summary_shares_the_room_of_its_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary").write_bytes(b"x" * (SUMMARY_BYTES - 5000))
    publish(many(100), files(tmp_path))
    assert SUMMARY_BYTES - 700 < (tmp_path / "summary").stat().st_size <= SUMMARY_BYTES
    publish(GOOD, files(tmp_path))
    assert (tmp_path / "summary").stat().st_size <= SUMMARY_BYTES
    assert "the job's summary is full, so the verdicts are not in it" in capsys.readouterr().err
