"""What ``bench run --dry-run`` shows: the plan, and the time it may take."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from bench.devices import this_machine
from bench.duration import words
from bench.estimate import Estimate, estimate
from bench.report.words import wide_console
from bench.suite import Asked, Planned, make_plan, plan_json


def show_plan(wanted: Asked, out: Path, as_json: bool) -> None:
    """Print what would run here and why the rest would not, and its time by earlier runs in ``out``."""
    plan = make_plan(wanted, this_machine())
    expected = estimate(plan, out, lambda message: print(f"warning: {message}", file=sys.stderr))
    if as_json:
        print(json.dumps(_with_times(plan_json(plan), expected)))
        return
    wide_console().print(_plan_table(plan.cases, expected))
    runs = sum(planned.skip is None for planned in plan.cases)
    of = f"{runs} of {len(plan.cases)} cases x"
    print(f"{of} {n} launches = {runs * n}" if (n := expected.launches) else f"{of} as many launches as fit the budget")
    print(_time_of(expected))


def _plan_table(cases: Sequence[Planned], expected: Estimate) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title, justify in (("case", "left"), ("world size", "left"), ("s a launch", "right"), ("runs", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for planned in cases:
        case, seconds = planned.case, None if planned.skip else expected.launch_s[planned.case.case_id]
        base = f", with the global batch of {planned.strong_from}" if planned.strong_from else ""
        table.add_row(
            case.case_id,
            str(case.world_size),
            "" if seconds is None else f"{seconds:.1f}",
            Text(planned.skip or f"yes{base}"),
        )
    return table


def _time_of(expected: Estimate) -> str:
    """The line about time below a plan."""
    if expected.round_s is None:
        return "time: not known, as none of these cases was measured here before"
    missing = f"; of {expected.missing} of the cases nothing is known" if expected.missing else ""
    least = "at least " if expected.missing else "about "
    if expected.total_s is None:
        return f"time: {least}{words(expected.round_s)} a launch of each{missing}"
    budget = expected.protocol.budget
    return f"time: {least}{words(expected.total_s)}{f' of {words(budget)}' if budget else ''}{missing}"


def _with_times(plan: dict[str, Any], expected: Estimate) -> dict[str, Any]:
    for case in plan["cases"]:
        case["estimated_launch_s"] = None if case["skip"] else expected.launch_s[case["case_id"]]
    total = {
        "round_s": expected.round_s,
        "launches": expected.launches,
        "total_s": expected.total_s,
        "cases_missing": expected.missing,
    }
    return {**plan, "estimate": total}
