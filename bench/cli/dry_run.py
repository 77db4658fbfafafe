"""What ``bench run --dry-run`` shows: the plan, what does not fit the machine, and the time it may take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from bench.cli.console import warn
from bench.machine.gpus import Machine, this_machine
from bench.plan.duration import words
from bench.plan.plan import Asked, Plan, Planned, make_plan
from bench.report.format import SafeConsole, case_or_cases, wide_console
from bench.report.progress import observer
from bench.report.wide_tables import print_table
from bench.runner.dry_description import described
from bench.runner.estimate import Estimate, estimate
from bench.runner.machine_survey import Survey
from bench.runner.row_recorder import Notes
from bench.runner.schedule import spent
from bench.store.counting_rows import Key
from bench.store.plan_file import plan_json
from bench.store.reader import read_launches
from bench.store.resume import Earlier, so_far


def show_plan(wanted: Asked, out: Path, as_json: bool, earlier: Earlier | None = None) -> None:
    """Print what would run here and why the rest would not, with warnings, and its time by earlier runs in ``out``.

    For a run that is resumed, ``earlier``: what is left of it. ResultsError if it cannot be read. In a new run a
    workload of the user's own is built once, in a process of its own, to check it and to have the final ids.
    """
    machine = this_machine()
    notes = Notes(observer(SafeConsole(stderr=True), quiet=False))
    plan, parameters = make_plan(wanted, machine), dict[str, int]()
    done, spent_s = set[Key](), 0.0
    if not earlier:
        plan, parameters = described(plan, machine, notes)
    else:
        earlier = dataclasses.replace(earlier, rows=tuple(read_launches(earlier.folder / "launches.csv", warn)))
        plan, done, spent_s = so_far(plan, earlier), set(earlier.done()), spent(earlier.rows)
    expected = estimate(plan, out, machine, warn, done, spent_s)
    found = _warnings(plan, machine, out, parameters)
    if as_json:
        print(json.dumps(_with_times(plan_json(plan), plan.cases, expected, found)))
        return
    print_table(_plan_table(plan.cases, expected), wide_console())
    print(_launches_of(plan, expected, resumed=earlier is not None))
    if expected.launch_s:
        print(_time_of(expected))
    for warning in dict.fromkeys(text for texts in found.values() for text in texts):  # its numbers are of these cases
        warn(f"{case_or_cases([case_id for case_id, texts in found.items() if warning in texts])}: {warning}")


def _warnings(plan: Plan, machine: Machine, out: Path, parameters: Mapping[str, int]) -> dict[str, list[str]]:
    """Return by case_id what does not fit this machine, of the cases that can run."""
    cases = [planned.case for planned in plan.cases if planned.skip is None]
    survey = Survey.taken(machine, cases, out)
    return {case.case_id: survey.of_case(case, parameters.get(case.case_id)) for case in cases}


def _launches_of(plan: Plan, expected: Estimate, resumed: bool) -> str:
    runs, launches = len(expected.launch_s), expected.launches
    said = f"{runs} of {len(plan.cases)} cases x"
    if launches is None:
        return f"{said} as many launches as fit the budget"
    left = f", {expected.launches_left} of them still to be made" if resumed else ""
    return f"{said} {launches} launches = {runs * launches}{left}"


def _plan_table(cases: Sequence[Planned], expected: Estimate) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title, justify in (("case", "left"), ("world size", "left"), ("s a launch", "right"), ("runs", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for planned in cases:
        case, seconds = planned.case, expected.launch_s.get(planned)
        base = f", with the global batch of {planned.strong_from}" if planned.strong_from else ""
        table.add_row(
            case.case_id,
            str(case.world_size),
            "" if seconds is None else f"{seconds:.1f}",
            Text(planned.skip or f"yes{base}"),
        )
    return table


def _time_of(expected: Estimate) -> str:
    """Return the line about time below a plan."""
    if expected.round_s is None:
        return "time: not known, as no earlier run tells it"
    missing = f"; of {expected.missing} of the cases nothing is known" if expected.missing else ""
    if searches := sum(planned.case.auto_batch for planned in expected.launch_s):
        missing += f"; the search for {searches} batch size{'s' if searches > 1 else ''} is not counted"
    least = "at least " if missing else "about "
    if expected.total_s is None:
        return f"time: {least}{words(expected.round_s)} a launch of each{missing}"
    left = expected.budget_left_s
    budget = "" if left is None else f" of {words(left)}{' that are left' if expected.done else ''}"
    return f"time: {least}{words(expected.total_s)}{budget}{missing}"


def _with_times(
    plan: dict[str, Any], cases: Sequence[Planned], expected: Estimate, warnings: Mapping[str, list[str]]
) -> dict[str, Any]:
    for case, planned in zip(plan["cases"], cases, strict=True):
        case["estimated_launch_s"] = expected.launch_s.get(planned)
        case["warnings"] = warnings.get(planned.case.case_id, [])
    total = {
        "round_s": expected.round_s,
        "launches": expected.launches,
        "launches_left": expected.launches_left,
        "total_s": expected.total_s,
        "cases_missing": expected.missing,
    }
    return {**plan, "estimate": total}
