"""The verdicts of a gate: on a terminal, as Markdown, as a comment on a pull request, and as JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import EXIT_FAILED, EXIT_INCOMPARABLE, EXIT_OK, shorten
from bench.report.format import UNKNOWN, case_or_cases, number, to_json, without_numbers, xml_safe
from bench.report.markdown import escaped, fenced, table_lines
from bench.report.wide_tables import print_table
from bench.stats.verdict import EXIT_SLOWER, EXIT_UNDECIDED, Gate, Verdict, worst_first

OUTCOMES = {
    EXIT_OK: "good",
    EXIT_SLOWER: "worse",
    EXIT_UNDECIDED: "undecided",
    EXIT_INCOMPARABLE: "incomparable",
    EXIT_FAILED: "failed",
}
COLOURS = {"slower": "red", "broken": "red", "faster": "green", "same": "green", "new": "green"}
MARKER = "<!-- stepbench -->"  # Invisible; a job finds its own comment by it.
COMMENT_BYTES = 64_000  # GitHub refuses comments from 65,536 characters.
LISTED = 20  # Differences or notes that are shown; more would push the table out of sight.
CUT = 300  # Bytes reserved for the line that says how many lines were left out.


def outcome(gate: Gate) -> str:
    """Return the exit code as a word: one of OUTCOMES."""
    return OUTCOMES[gate.exit_code]


def header_lines(gate: Gate) -> list[str]:
    """Return the lines above the table, the gate's sentence first.

    They name the sides, the mean change of throughput (if it has bounds), the control pair, differences and notes.
    """
    sides = f"A: {gate.a}; B: {gate.b}" + (f" (run {gate.run_id})" if gate.run_id else "")
    mean = f"throughput, geometric mean over the cases: {_bounds(gate)}" if gate.low is not None else ""
    differences = _first_lines(gate.differences)
    lines = [f"{outcome(gate)}: {gate.sentence}", sides, mean, *(f"A and B differ: {d}" for d in differences)]
    lines += [f"control pair: {gate.control.words}"] if gate.control else []
    lines += _first_lines(gate.notes)
    return [shorten(xml_safe(line), 1000) for line in lines if line]


def title(verdict: Verdict) -> str:
    """Return the verdict in a word or two: ``slower``, ``same, more memory``."""
    return f"{verdict.verdict}, more memory" if verdict.memory == "more" else verdict.verdict


def message(verdict: Verdict) -> str:
    """Return one line: the change of throughput with its interval, the reason, and the figures of both sides."""
    change = throughput(verdict)
    parts = [change if change not in verdict.reason else "", verdict.reason, *_figures(verdict)]
    return shorten(xml_safe(f"{title(verdict)}: {'; '.join(filter(None, parts))}"), 1000)


def noteworthy(gate: Gate) -> list[Verdict]:
    """Return the verdicts that need an explanation, the worst first.

    These are all except ``faster``, ``same`` and ``new``, and also those if they need more memory.
    """
    good = ("faster", "same", "new")
    return [one for one in worst_first(gate.verdicts) if one.verdict not in good or one.memory == "more"]


def throughput(verdict: Verdict) -> str:
    """Return the change from A to B with 95 % bounds; for an undecided case without them, that of the medians."""
    a, b = verdict.samples_per_s_a, verdict.samples_per_s_b
    if verdict.ratio is None and verdict.verdict == "inconclusive" and a and b:
        return f"{change(b / a)} (medians)"
    return "" if verdict.ratio is None else _bounds(verdict)


def _bounds(found: Verdict | Gate) -> str:
    known = found.low is not None and found.high is not None
    return change(found.ratio) + (f" ({change(found.low)}…{change(found.high)})" if known else "")


def change(ratio: float | None) -> str:
    """Return a ratio as a signed percentage: ``+2.0%`` for 1.02; an empty text for None."""
    return "" if ratio is None else f"{round(ratio - 1, 3) + 0:+.1%}"  # + 0 turns -0.0 into 0.0.


def _figures(verdict: Verdict) -> Iterator[str]:
    if verdict.samples_per_s_a is not None and verdict.samples_per_s_b is not None:
        yield f"{number(verdict.samples_per_s_a)} → {number(verdict.samples_per_s_b)} {verdict.unit}"
    elif verdict.verdict in ("new", "missing"):
        rates = {"A": verdict.samples_per_s_a, "B": verdict.samples_per_s_b}
        yield from (f"{side} {number(rate)} {verdict.unit}" for side, rate in rates.items() if rate is not None)
    if verdict.memory in ("more", "less"):
        sides = (verdict.memory_mib_a, verdict.memory_mib_b)
        sizes = " → ".join(UNKNOWN if mib is None else number(mib) for mib in sides)
        of = ", DataLoader workers included" if verdict.memory_measure == "peak_host_mib" else ""
        yield f"memory {change(verdict.memory_ratio)} ({sizes} MiB{of})"


def _first_lines(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - LISTED
    return [*lines[:LISTED], *([f"and {rest} more"] if rest > 0 else [])]


# -- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of the table.

    ``show`` returns the cell of a verdict, empty if the value is unknown; ``numeric`` columns are right-aligned.
    """

    title: str
    show: Callable[[Verdict], str]
    numeric: bool = True


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _memory(verdict: Verdict) -> str:
    word = verdict.memory if verdict.memory in ("more", "less") else ""
    return f"{change(verdict.memory_ratio)} {word}".strip()


COLUMNS = (
    Column("case", lambda one: shorten(xml_safe(one.case)), numeric=False),
    Column("verdict", lambda one: one.verdict, numeric=False),
    Column("throughput (95 %)", throughput),
    Column("memory", _memory),
    Column("blocks/launches", lambda one: f"{one.blocks}/{one.launches}" if one.launches else ""),
    Column("detectable", lambda one: "" if one.detectable is None else f"{one.detectable:.1%}"),
    Column("A {unit}", lambda one: _number(one.samples_per_s_a)),
    Column("B {unit}", lambda one: _number(one.samples_per_s_b)),
)


def table(gate: Gate) -> tuple[list[Column], list[list[str]]]:
    """Return the columns that have a value for any case, and one row of cells for each case, the worst first."""
    verdicts = worst_first(gate.verdicts)
    shown = [column for column in COLUMNS if any(column.show(one) for one in verdicts)]
    units = " or ".join(dict.fromkeys(one.unit for one in verdicts))
    columns = [dataclasses.replace(column, title=column.title.format(unit=units)) for column in shown]
    return columns, [[column.show(one) or UNKNOWN for column in columns] for one in verdicts]


# -- forms ---------------------------------------------------------------------------------------------------------


def print_gate(gate: Gate, console: Console) -> None:
    """Print the header lines, the table, and a line for each noteworthy verdict."""
    first, *others = header_lines(gate)
    console.print(Text(first, "bold"), soft_wrap=True)
    for line in others:
        console.print(Text(line), soft_wrap=True)
    columns, rows = table(gate)
    if rows:
        console.print()
        print_table(_shown(columns, rows), console)
    for cases in _by_message(noteworthy(gate)):
        console.print(Text(f"{_names(cases)}: {message(cases[0])}"), soft_wrap=True)
        for one in cases:
            if one.fails and one.command:
                console.print(Text(f"  {_command(one)}", "dim"), soft_wrap=True)


def _by_message(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Return the verdicts grouped by message, without regard to numbers; a verdict with a figure stays alone."""
    found: dict[object, list[Verdict]] = {}
    for one in verdicts:
        alone = one.ratio is not None or one.memory_ratio is not None
        found.setdefault(id(one) if alone else without_numbers(message(one)), []).append(one)
    return list(found.values())


def _names(cases: Sequence[Verdict]) -> str:
    return case_or_cases([shorten(xml_safe(one.case)) for one in cases])


def _shown(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(show_edge=False, pad_edge=False)
    for column in columns:
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        shown.add_column(column.title, justify=justify, no_wrap=column.title != "case", overflow="fold")
    for cells in rows:
        styles = ["red" if cell.endswith("more") else COLOURS.get(cell, "") for cell in cells]
        verdict = [column.title in ("verdict", "memory") for column in columns]
        shown.add_row(*(Text(c, s if v else "") for c, s, v in zip(cells, styles, verdict, strict=True)))
    return shown


def gate_markdown(gate: Gate, limit: int | None = None) -> str:
    """Return header lines, table, reasons and the commands of failed cases as Markdown.

    Text from results is escaped, and an @ does not notify anybody. If it is longer than ``limit`` bytes (UTF-8), the
    last lines are left out, and a line says how many.
    """
    _, *others = header_lines(gate)
    columns, rows = table(gate)
    lines = [f"## stepbench: {outcome(gate)}", "", f"**{escaped(xml_safe(gate.sentence))}**", ""]
    lines += [*(f"- {escaped(line)}" for line in others), ""]
    lines += [*table_lines([(column.title, column.numeric) for column in columns], rows), ""] if rows else []
    found = noteworthy(gate)
    lines += [f"- {escaped(_names(cases))}: {escaped(message(cases[0]))}" for cases in _by_message(found)]
    text = _cut(list(map(not_notifying, lines)), limit)
    commands = [_command(one) for one in found if one.fails and one.command]
    block = "\nCommands to reproduce them:\n\n" + fenced(commands) + "\n" if commands else ""
    fits = limit is None or len((text + block).encode()) <= limit
    return text + block if fits else text


def not_notifying(text: str) -> str:
    """Return the text with a zero-width space after each @, so that it notifies nobody."""
    return text.replace("@", "@\u200b")


def comment(gate: Gate) -> str:
    """Return Markdown for a comment on a pull request: MARKER, then at most COMMENT_BYTES of ``gate_markdown``."""
    return f"{MARKER}\n{gate_markdown(gate, COMMENT_BYTES)}"


def gate_json(gate: Gate, more: Mapping[str, Any] | None = None) -> str:
    """Return everything about a gate as JSON, and ``more``; figures are not rounded, unknown values are null."""
    result = {"outcome": outcome(gate), "exit_code": gate.exit_code, "sentence": gate.sentence}
    return to_json(result | dataclasses.asdict(gate) | dict(more or {}))


def _command(verdict: Verdict) -> str:
    return " ".join(xml_safe(verdict.command or "").split())


def _cut(lines: Sequence[str], limit: int | None) -> str:
    """Return the lines as one text; if it is longer than ``limit`` bytes, the first lines and how many are missing."""
    ends = list(accumulate(len(line.encode()) + 1 for line in lines))
    if limit is None or ends[-1] <= limit:
        return _text(lines)
    kept = [line for line, end in zip(lines, ends, strict=True) if end <= limit - CUT]
    missing = sum(1 for line in lines[len(kept) :] if line)
    notice = f"**{missing} more lines do not fit here.** The JUnit file and the output of `--json` have all of them."
    return _text([*kept, "", notice])


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"
