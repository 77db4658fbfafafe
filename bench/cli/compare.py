"""``bench compare``: two results side by side, a verdict for each case."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.asks import Out
from bench.cli.judging import Judging, judges, share
from bench.cli.talk import warn
from bench.errors import ResultsError, UsageError, near
from bench.files import read_json
from bench.options import AXES
from bench.read import read
from bench.record import FILES, LAUNCHES, Row
from bench.runs import find
from bench.store import cell

if TYPE_CHECKING:
    from bench.analysis.power import Blocks
    from bench.analysis.sessions import Spread

KIND = "launches.csv"
Condition = Callable[[Row], bool]
Column = Annotated[str | None, typer.Option(help="A column of which A and B are values.", metavar="COLUMN")]
Runs = Annotated[list[str] | None, typer.Option("--run", help="With --by: of these runs (default: the latest).")]


@judges
def compare(
    judging: Judging,
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
    out: Out = Path("results"),
) -> int:
    """Compare two results case by case: is B slower than A?

    Launches that share blocks are compared block by block; others are unpaired, and only as sure as sessions are alike.
    """
    spread = share("--session-spread", session_spread) if session_spread else None
    conditions = [_condition(text) for text in where or []]
    if run and not by:
        raise UsageError("--run goes with --by COLUMN; without it A and B are the runs.")
    from bench.analysis.comparison import compare as compared
    from bench.analysis.gate import gate
    from bench.analysis.sessions import Spread

    if b is None:
        if by or spread:
            raise UsageError(
                f"compare {a}: {'--by' if by else '--session-spread'} needs two arguments; give B as well."
            )
        return judging.tell(gate(_of_ab(out, a, conditions), judging.rules, *_words(out, a), _blocks(out, a)))
    column = _column("--by", by) if by else None
    sides = _groups(out, a, b, column, run) if column else (_rows(out, a), _rows(out, b))
    chosen = [_measured(side, conditions) for side in sides]
    for name, side in zip((a, b), chosen, strict=True):
        _check(name, side, where or [])
    spreads = {str(row["case_id"]): Spread(spread) for row in chosen[0]} if spread else _known(out, chosen)
    names = (f"{column}={a}", f"{column}={b}") if column else (a, b)
    return judging.tell(compared(chosen[0], chosen[1], judging.rules, names, [column] if column else [], spreads))


def _known(out: Path, sides: Sequence[Sequence[Row]]) -> dict[str, Spread]:
    """How far sessions differ by case_id, as calibrations of this machine, torch, data and window say: each was a
    session. Nothing of another's."""
    import socket

    from bench.analysis.sessions import Spread
    from bench.contest import calibrations

    if {row["hostname"] for side in sides for row in side} != {socket.gethostname()}:
        return {}
    rows = {str(row["case_id"]): row for row in sides[0] if row["torch"]}
    return {
        name: Spread(noise.between_sessions, noise.sessions - 1, noise.between_launches)
        for name, noise in calibrations(out, duet=False).items()
        if noise.between_sessions is not None and noise.between_launches is not None
        if name in rows and noise.is_of(rows[name])
    }


def _of_ab(out: Path, run: str, conditions: Sequence[Condition]) -> list[Row]:
    """The launches of a run of `bench ab`, its control pair in any case."""
    rows = [row for row in _rows(out, run) if row["side"]]
    if not any(row["role"] == "measure" for row in rows):
        raise UsageError(f"compare {run}: with what? Give B as well (one argument is a run of `bench ab`).")
    chosen = [row for row in rows if row["role"] != "measure" or all(holds(row) for holds in conditions)]
    if not any(row["role"] == "measure" for row in chosen):
        raise ResultsError(f"{run}: no launch fits --where; bench results show {run} lists them")
    return chosen


def _check(name: str, rows: Sequence[Row], where: Sequence[str]) -> None:
    """Whether there is one side to be compared, and not none or two."""
    if not rows:
        fits = f" that fits --where {' --where '.join(where)}" if where else ""
        raise ResultsError(f"{name}: there is no measured launch{fits}; see bench results show, or name another run")
    sides = sorted({row["side"] for row in rows if row["side"]})
    if len(sides) > 1:
        raise UsageError(
            f"{name} is a run of `bench ab`, and has two sides; allowed: compare it alone, or --where side={sides[0]}, "
            f"or compare {sides[0]} {sides[1]} --by side."
        )


def _words(out: Path, run: str) -> tuple[str, str]:
    """What a run of `bench ab` calls its sides."""
    sides = _plan(out, run).get("sides")
    words = [_at(_at(sides, side), "words") for side in ("A", "B")]
    return str(words[0] or "A"), str(words[1] or "B")


def _blocks(out: Path, run: str) -> dict[str, Blocks]:
    """How many blocks it had for each pair, of both stages."""
    from bench.analysis.power import Blocks

    planned = _plan(out, run).get("blocks")
    counts = planned.items() if isinstance(planned, dict) else ()
    return {name: Blocks(*of) for name, of in counts if isinstance(of, list) and [type(n) for n in of] == [int, int]}


def _plan(out: Path, run: str) -> dict[str, Any]:
    """Its plan; an empty one where a file has none, or none that can be read."""
    try:
        plan = read_json(find(out, run) / "plan.json")
    except ResultsError:
        return {}
    return plan if isinstance(plan, dict) else {}


def _at(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _rows(out: Path, run: str) -> list[Row]:
    """Of a run, or of any file with the columns of its launches."""
    file = Path(run)
    if not os.path.isfile(run) or file.name in FILES:
        file = find(out, run) / KIND
    return read(file, warn, KIND)


def _groups(out: Path, a: str, b: str, name: str, run: Sequence[str] | None) -> tuple[list[Row], list[Row]]:
    """The launches of some runs by the value of a column."""
    rows = [row for one in dict.fromkeys(run or ["latest"]) for row in _rows(out, one)]
    texts = [cell(row[name], LAUNCHES[name]) for row in rows]
    there = list(dict.fromkeys(filter(None, texts)))
    for value in (a, b):
        if value not in there:
            known = ", ".join(there) or "nothing"
            raise UsageError(f"--by {name}: no launch has {value!r}; there is {known}.{near(value, there)}")
    sides = [[row for row, text in zip(rows, texts, strict=True) if text == value] for value in (a, b)]
    return sides[0], sides[1]


def _condition(text: str) -> Condition:
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


def _measured(rows: Sequence[Row], conditions: Sequence[Condition]) -> list[Row]:
    return [row for row in rows if row["role"] == "measure" and all(holds(row) for holds in conditions)]
