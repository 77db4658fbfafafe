"""Verdicts as people see them, on a terminal and in a comment, and as JSON."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable

import pytest
from made_up_gates import FLAGGED, GATE, GOOD, HOSTILE, MISSING, MORE, ODD, SAME, SLOWER, many
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from bench.report.gate import (
    COMMENT_BYTES,
    MARKER,
    change,
    comment,
    gate_json,
    gate_markdown,
    header_lines,
    message,
    noteworthy,
    outcome,
    print_gate,
    table,
    throughput,
)
from bench.stats.verdict import Gate, Verdict

Golden = Callable[[str, str], None]


def shown(gate: Gate, width: int = 160, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=colour, color_system="standard" if colour else None)
    print_gate(gate, console)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


# -- what is said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (None, ""),
        (1.0, "+0.0%"),
        (0.9996, "+0.0%"),  # -0.04 %: no minus sign before nothing
        (0.96, "-4.0%"),
        (1.0349, "+3.5%"),
        (3.0, "+200.0%"),
        (float("nan"), "+nan%"),
    ],
)
def test_a_ratio_is_told_as_a_change(ratio: float | None, words: str) -> None:
    assert change(ratio) == words


def test_the_head_of_a_gate() -> None:
    assert header_lines(GATE) == [
        "worse: 7 cases: 1 faster, 1 slower, 1 same, 1 inconclusive, 1 missing, 1 new, 1 broken, 1 with more memory",
        "A: HEAD^1 (1f3a9c2); B: HEAD (77d0e41) (run 20261102-090000-5e1f)",
        "throughput, geometric mean over the cases: -1.2% (-1.9%…-0.6%)",
        "A and B differ: torch: 2.11.0 in A, 2.12.0 in B",
        "control pair: gpt-nano-single-x1 against itself: +0.1% (-0.4%…+0.6%) on 8 blocks",
        "2 blocks of resnet18-ddp-x2 have no number",
    ]
    assert header_lines(Gate("A", "B", ())) == ["failed: 0 cases: none", "A: A; B: B"]
    one_case = dataclasses.replace(GOOD, ratio=0.9, low=None, high=None)
    assert not [line for line in header_lines(one_case) if "geometric mean" in line]


def test_of_many_differences_some_are_told() -> None:
    gate = dataclasses.replace(GOOD, differences=tuple(f"d{n}" for n in range(25)))
    told = [line for line in header_lines(gate) if line.startswith("A and B differ: ")]
    assert told == [*(f"A and B differ: d{n}" for n in range(20)), "A and B differ: and 5 more"]


@pytest.mark.parametrize(
    ("gate", "word"),
    [
        (GOOD, "good"),
        (GATE, "worse"),
        (dataclasses.replace(GOOD, control=FLAGGED), "undecided"),
        (Gate("A", "B", (Verdict("x", "incomparable", ""),)), "incomparable"),
        (dataclasses.replace(GOOD, failed=True), "failed"),
    ],
)
def test_the_outcome_is_a_word(gate: Gate, word: str) -> None:
    assert outcome(gate) == word


def test_messages_have_the_numbers_once() -> None:
    assert message(SLOWER) == (
        "slower: -4.0% (-5.0%…-3.0%) on 16 blocks; confirmed by fresh launches; 1,500 → 1,440 samples/s"
    )
    assert message(MORE) == "faster, more memory: +5.0% (+4.0%…+6.0%); memory +5.0% (1,000 → 1,050 MiB)"
    assert message(MISSING) == "missing: not in B"
    assert message(dataclasses.replace(MISSING, samples_per_s_a=1500.0)) == "missing: not in B; A 1,500 samples/s"
    unknown = dataclasses.replace(MORE, ratio=None, memory_ratio=None, memory_mib_a=None)
    assert message(unknown) == "faster, more memory: memory (— → 1,050 MiB)"
    loads = dataclasses.replace(unknown, memory_measure="peak_host_mib")
    assert message(loads) == "faster, more memory: memory (— → 1,050 MiB, DataLoader workers included)"


def test_what_needs_a_word_the_worst_first() -> None:
    assert [one.case for one in noteworthy(GATE)] == [
        "resnet18-fsdp-x2",  # broken
        "gpt-nano-ddp-x2",  # slower
        "mlp-fsdp-x2",  # more memory
        "dlrm-ddp-x2",  # missing
        "resnet18-ddp-x2",  # inconclusive
    ]


def test_columns_that_say_nothing_are_left_out() -> None:
    columns, rows = table(Gate("A", "B", (MISSING,)))
    assert [column.title for column in columns] == ["case", "verdict"]
    assert rows == [["dlrm-ddp-x2", "missing"]]
    assert table(Gate("A", "B", ())) == ([], [])


# -- terminal ------------------------------------------------------------------------------------------------------


def test_terminal(golden: Golden) -> None:
    golden("gate.txt", shown(GATE))


def test_a_good_gate_is_short() -> None:
    assert shown(GOOD).replace("━", "").splitlines() == [
        "good: 1 case: 1 same",
        "A: A; B: B",
        "control pair: gpt-nano-single-x1 against itself: +0.1% (-0.4%…+0.6%) on 8 blocks",
        "",
        "case               ┃ verdict ┃   throughput (95 %) ┃      memory ┃ blocks/launches ┃ detectable ┃ A samples/s ┃ B samples/s",
        "╇╇╇╇╇╇╇",
        "gpt-nano-single-x1 │ same    │ +0.0% (-0.8%…+0.7%) │ -10.0% less │            8/32 │       1.8% │       89.35 │       89.31",
    ]


def test_colours_are_of_verdicts_not_of_texts() -> None:
    gate = Gate("A", "B", (dataclasses.replace(SLOWER, case="same"), dataclasses.replace(SAME, case="slower")))
    text = shown(gate, colour=True)
    assert re.search(r"\x1b\[31mslower", text)
    assert re.search(r"\x1b\[32msame", text)
    assert not re.search(r"^\x1b\[3[12]m", text, re.MULTILINE)  # the first column has none


def test_hostile_texts_on_a_terminal() -> None:
    text = shown(ODD, width=4000)
    assert "\x1b" not in text
    assert "\0" not in text
    text.encode()
    assert not [line for line in text.splitlines() if line.startswith(("::", "##["))]


# -- Markdown ------------------------------------------------------------------------------------------------------


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def rows_of(text: str) -> list[list[str]]:
    """The cells of the tables, as a reader sees them."""
    tokens = parsed(text)
    rows: list[list[str]] = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def test_a_comment(golden: Golden) -> None:
    text = comment(GATE)
    assert text.startswith(f"{MARKER}\n## stepbench: worse\n")
    golden("gate.md", text)
    header, *rows = rows_of(text)
    assert header == ["case", "verdict", "throughput (95 %)", "memory", "blocks/launches", "detectable", "A samples/s", "B samples/s"]  # fmt: skip
    assert rows[1] == ["gpt-nano-ddp-x2", "slower", "-4.0% (-5.0%…-3.0%)", "+0.0%", "16/64", "2.1%", "1,500", "1,440"]
    assert [row[1] for row in rows] == ["broken", "slower", "faster", "missing", "inconclusive", "same", "new"]


def test_commands_are_there_to_be_copied() -> None:
    (block,) = [token for token in parsed(comment(GATE)) if token.type == "fence"]
    assert block.content == f"{SLOWER.command}\n{MORE.command}\n"
    ticks = dataclasses.replace(SLOWER, command="bench run --workload '```'\n@x")
    (block,) = [token for token in parsed(comment(Gate("A", "B", (ticks,)))) if token.type == "fence"]
    assert block.content == "bench run --workload '```' @x\n"


def test_hostile_texts_are_only_texts_and_call_nobody() -> None:
    text = comment(ODD)
    kinds = {token.type for token in parsed(text)} | {c.type for t in parsed(text) for c in t.children or []}
    assert not kinds & {"link_open", "em_open", "code_inline", "html_inline", "image"}
    assert [t.content for t in parsed(text) if t.type == "html_block"] == [MARKER + "\n"]
    bold = [c for t in parsed(text) for c in t.children or [] if c.type == "strong_open"]
    assert len(bold) == 1  # the sentence
    prose = text.partition("\n```")[0]
    assert "@team" not in prose
    assert "@\u200bteam" in prose
    line = "<script>]]>&\"%0A::error::x,y:z =cmd|' /C calc'!A0 \ufffd[31m\ufffd\ufffd\ufffd @\u200bteam `a` **b**"
    assert [row[0] for row in rows_of(text)] == ["case", "—", line, line]


@pytest.mark.parametrize("gate", [many(2000), dataclasses.replace(GOOD, notes=("@#" * 5000,) * 100, a=HOSTILE * 9000)])
def test_a_comment_fits(gate: Gate) -> None:
    text = comment(gate)
    assert len(text.encode()) <= COMMENT_BYTES + len(MARKER) + 1 < 65536
    assert text.startswith(MARKER)


def test_a_comment_is_cut_at_a_row() -> None:
    text = comment(many(2000))
    assert len(text.encode()) > 0.98 * COMMENT_BYTES
    rows = rows_of(text)
    assert {len(row) for row in rows} == {2}
    # 6,000 rows, and two reasons that 2,000 cases share each; the header of the table is no row of it
    found = re.search(r"\n\n\*\*(\d+) more lines do not fit here\.\*\* The JUnit file and .*\n$", text)
    assert found
    assert int(found[1]) == 6000 - (len(rows) - 1) + 2
    assert "do not fit" not in gate_markdown(many(2000))


def test_commands_are_left_out_before_verdicts_are() -> None:
    long = Gate("A", "B", (dataclasses.replace(SLOWER, command="x" * COMMENT_BYTES),))
    text = comment(long)
    assert "```" not in text
    assert "do not fit" not in text
    assert "gpt-nano-ddp-x2" in text


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_json_has_all_of_it() -> None:
    said = json.loads(gate_json(GATE))
    assert (said["outcome"], said["exit_code"], said["sentence"]) == ("worse", 1, GATE.sentence)
    assert said["verdicts"][1] == dataclasses.asdict(SLOWER)
    assert said["verdicts"][4]["seconds"] is None  # not a number
    assert said["rules"] == {"floor": 0.01, "floor_memory": 0.02, "detect": 0.03, "strict": False}
    assert said["control"] == {
        "case": "gpt-nano-single-x1",
        "flagged": False,
        "words": "gpt-nano-single-x1 against itself: +0.1% (-0.4%…+0.6%) on 8 blocks",
        "why": "",
    }
    assert said["differences"] == ["torch: 2.11.0 in A, 2.12.0 in B"]
    assert (said["ratio"], said["run_id"]) == (0.9876, "20261102-090000-5e1f")


def test_json_keeps_every_text() -> None:
    text = gate_json(ODD)
    assert text.isascii()
    assert json.loads(text)["verdicts"][0]["case"] == HOSTILE


def test_what_cannot_be_decided_still_shows_how_large_the_change_is() -> None:
    one = Verdict("a", "inconclusive", "1 session; 5 are needed", samples_per_s_a=15586.0, samples_per_s_b=5712.0)
    assert throughput(one) == "-63.4% (medians)"  # 5,712 / 15,586 = 0.3665
    assert "15,586 → 5,712 samples/s" in message(one)
    assert "-63.4% (medians)" in message(one)


def test_cases_that_failed_alike_share_a_line_and_keep_their_commands() -> None:
    broken = [Verdict(f"c{n}", "broken", f"crashed: rank {n}: ValueError: no", command=f"bench {n}") for n in range(5)]
    text = shown(Gate("A", "B", tuple(broken)))
    assert "5 cases (c0; c1; c2 and 2 more): broken: crashed: rank 0: ValueError: no" in text
    assert all(f"  bench {n}\n" in text for n in range(5))
