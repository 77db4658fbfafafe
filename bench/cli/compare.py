"""``bench compare``: two results side by side, a verdict for each case."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.asks import Out
from bench.cli.judging import Detect, Floor, FloorMemory, Json, Junit, Markdown, Strict, rules, share, tell
from bench.errors import ResultsError, UsageError, near
from bench.options import AXES
from bench.read import read
from bench.record import LAUNCHES, Row
from bench.runs import find
from bench.store import cell

Column = Annotated[str | None, typer.Option(help="A column of which A and B are values.", metavar="COLUMN")]
Runs = Annotated[list[str] | None, typer.Option("--run", help="With --by: of these runs (default: the latest).")]


def compare(
    a: Annotated[str, typer.Argument(help="A run's id, latest, a folder or a launches.csv; with --by a value.")],
    b: Annotated[str | None, typer.Argument(help="The same; without it A is a run of `bench ab`.")] = None,
    by: Column = None,
    run: Runs = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only launches with this value; repeatable.", metavar="COLUMN=VALUE")
    ] = None,
    session_spread: Annotated[
        str | None, typer.Option(help="How far sessions differ: standard deviation of throughput.", metavar="SHARE")
    ] = None,
    detect: Detect = None,
    floor: Floor = "1%",
    floor_memory: FloorMemory = "2%",
    strict: Strict = False,
    junit: Junit = None,
    md: Markdown = None,
    out: Out = Path("results"),
    as_json: Json = False,
) -> int:
    """Compare two results case by case: is B slower than A?

    Launches that share blocks are compared block by block; others are unpaired, and only as sure as sessions are alike.
    """
    law = rules(detect, floor, floor_memory, strict)
    spread = share("--session-spread", session_spread) if session_spread else None
    conditions = [_condition(text) for text in where or []]
    if run and not by:
        raise UsageError("--run goes with --by COLUMN; without it A and B are the runs.")
    from bench.analysis.comparison import compare as compared
    from bench.analysis.gate import gate

    if b is None:
        rows = [row for row in _rows(out, a) if row["side"]]
        if by or not rows:
            raise UsageError(f"compare {a}: with what? Give B as well (one argument is a run of `bench ab`).")
        return tell(gate(rows, law, *_words(out, a)), junit, md, as_json)
    sides = _groups(out, a, b, by, run) if by else (_rows(out, a), _rows(out, b))
    chosen = [_measured(side, conditions) for side in sides]
    for name, side in zip((a, b), chosen, strict=True):
        if not side:
            raise ResultsError(f"{name}: no launch fits{' ' + by if by else ''}; see bench results show")
    spreads = dict.fromkeys((str(row["case_id"]) for row in chosen[0]), spread) if spread else {}
    names = (f"{by}={a}", f"{by}={b}") if by else (a, b)
    return tell(compared(chosen[0], chosen[1], law, names, [by] if by else [], _known(spreads)), junit, md, as_json)


def _words(out: Path, run: str) -> tuple[str, str]:
    """What a run of `bench ab` calls its sides."""
    try:
        sides = json.loads((find(out, run) / "plan.json").read_text())["sides"]
        return str(sides["A"]["words"]), str(sides["B"]["words"])
    except (OSError, ValueError, KeyError, TypeError, ResultsError):  # a file without a plan
        return "A", "B"


def _known(spreads: Mapping[str, float | None]) -> dict[str, float]:
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _rows(out: Path, run: str) -> list[Row]:
    file = Path(run)
    if not file.is_file():
        file = find(out, run) / "launches.csv"
    return read(file, lambda message: print(f"warning: {message}", file=sys.stderr), "launches.csv")


def _groups(out: Path, a: str, b: str, by: str, run: Sequence[str] | None) -> tuple[list[Row], list[Row]]:
    """The launches of some runs by the value of a column."""
    name = _column("--by", by)
    rows = [row for one in dict.fromkeys(run or ["latest"]) for row in _rows(out, one)]
    texts = [cell(row[name], LAUNCHES[name]) for row in rows]
    for value in (a, b):
        if value not in texts:
            there = ", ".join(dict.fromkeys(filter(None, texts))) or "nothing"
            raise UsageError(f"--by {by}: no launch has {value!r}; there is {there}.{near(value, texts)}")
    sides = [[row for row, text in zip(rows, texts, strict=True) if text == value] for value in (a, b)]
    return sides[0], sides[1]


def _condition(text: str) -> Callable[[Row], bool]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--where: got {text!r}; allowed: COLUMN=VALUE.")
    column = _column("--where", name)
    return lambda row: cell(row[column], LAUNCHES[column]) == value


def _column(flag: str, name: str) -> str:
    known = name.replace("-", "_")
    if known not in LAUNCHES:
        allowed = ", ".join([*AXES, "hostname", "device_name", "torch", "driver"])
        raise UsageError(
            f"{flag}: no column {name!r}; allowed: those of launches.csv, as {allowed}.{near(known, LAUNCHES)}"
        )
    return known


def _measured(rows: Sequence[Row], conditions: Sequence[Callable[[Row], bool]]) -> list[Row]:
    return [row for row in rows if row["role"] == "measure" and all(holds(row) for holds in conditions)]
