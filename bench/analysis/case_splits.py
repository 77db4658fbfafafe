"""Where the difference of each case comes from: its launches' columns as parts of a step, or why they are not known."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.messages.step_profile import BY_ABLATION, BY_PROFILE
from bench.stats.comparison import Pair
from bench.stats.step_split import Split, Step, split
from bench.store.columns import LaunchRow

COLUMNS = (
    *("case", "label", "part", "a_ms", "b_ms", "change_ms", "change_ms_low", "change_ms_high", "share"),
    *("method", "count", "units"),
)
MEASURE = "measure both with bench run --profile on"
NO_COMMUNICATION = "one rank"  # The method of a case without collectives.


@dataclass(frozen=True)
class CaseSplit:
    """The split of a case's difference, and the method by which its communication is known; or ``why`` there is none.

    ``case`` is that of the verdict, ``label`` is for people, and ``first`` is a launch of A.
    """

    case: str
    label: str
    first: LaunchRow
    split: Split | None = None
    method: str = ""
    why: str = ""


def case_splits(pairs: Mapping[str, Pair], labels: Mapping[str, str]) -> list[CaseSplit]:
    """Return the split of each case of ``bench.stats.comparison.matched``."""
    return [_case_split(case, labels[case], pair) for case, pair in pairs.items()]


def _case_split(case: str, label: str, pair: Pair) -> CaseSplit:
    for method in (NO_COMMUNICATION, BY_PROFILE, BY_ABLATION):
        sides = [_sessions(side, method) for side in pair.sides]
        if all(sides):
            return CaseSplit(case, label, pair.a[0], split(*sides), method)
    return CaseSplit(case, label, pair.a[0], why=_why(pair))


def _sessions(rows: Iterable[LaunchRow], method: str) -> dict[str, list[Step]]:
    """Return the steps of the launches whose communication is known by a method, by session."""
    found: dict[str, list[Step]] = defaultdict(list)
    for row in rows:
        if _method(row) == method and (step := step_of(row)):
            found[str(row.run_id)].append(step)
    return dict(found)


def step_of(row: LaunchRow) -> Step | None:
    """Return the parts of a launch's mean step in ms; None if one is unknown.

    The wait for data is ``data_wait_share`` of ``step_mean_ms``: of a GPU it is the gap on the device. The exposed
    communication is ``exposed_comm_share`` of it, a share that the profiled steps after the window have; one rank has
    none. The rest is what remains.
    """
    step, wait = row.step_mean_ms, row.data_wait_share
    exposed = 0.0 if _method(row) == NO_COMMUNICATION else row.exposed_comm_share
    if step is None or wait is None or exposed is None or not all(map(math.isfinite, (step, wait, exposed))):
        return None
    return Step(wait * step, exposed * step, step - wait * step - exposed * step)


def _method(row: LaunchRow) -> str | None:
    return NO_COMMUNICATION if row.world_size == 1 else row.comm_method


def _why(pair: Pair) -> str:
    """Return why the parts of a pair's steps are not known, and what to do."""
    sides = dict(zip("AB", pair.sides, strict=True))
    if notes := [f"{name}: {note}" for name, rows in sides.items() if (note := _first(rows, _note))]:
        return "; ".join(notes)
    unknown = [name for name, rows in sides.items() if not any(row.exposed_comm_share is not None for row in rows)]
    if unknown:
        who = "neither side was" if len(unknown) == 2 else f"{unknown[0]} was not"
        return f"{who} profiled; {MEASURE}"
    methods = [_first(rows, lambda row: row.comm_method) for rows in sides.values()]
    if methods[0] != methods[1]:
        return f"A was profiled by {methods[0]} and B by {methods[1]}; {MEASURE}"
    return "rows without step_mean_ms or data_wait_share; measure both with this version of stepbench"


def _note(row: LaunchRow) -> str | None:
    return row.comm_note if row.exposed_comm_share is None else None


def _first(rows: Sequence[LaunchRow], of: Callable[[LaunchRow], str | None]) -> str | None:
    return next((value for row in rows if (value := of(row))), None)


def split_frame(found: Sequence[CaseSplit]) -> pd.DataFrame:
    """Return a row for each part of each split, and one for the whole step, with COLUMNS."""
    return pd.DataFrame([row for case in found if case.split for row in _rows(case, case.split)], columns=list(COLUMNS))


def _rows(case: CaseSplit, of: Split) -> list[dict[str, Any]]:
    return [
        {
            **{"case": case.case, "label": case.label, "part": part.name, "method": case.method},
            **{"a_ms": part.a_ms, "b_ms": part.b_ms, "change_ms": part.change_ms},
            **{"change_ms_low": part.low_ms, "change_ms_high": part.high_ms, "share": of.share(part)},
            **{"count": of.count, "units": of.units},
        }
        for part in (*of.parts, of.step)
    ]
