"""Estimates how long launches will take, from earlier runs in the results folder on this machine."""

from __future__ import annotations

import math
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import ResultsError
from bench.machine.environment import host_facts
from bench.machine.gpus import Machine
from bench.plan.options import AXES, LEAST_WARMUP_STEPS, show
from bench.plan.plan import Plan, Planned, Protocol
from bench.store.columns import LaunchRow
from bench.store.counting_rows import Key
from bench.store.reader import read_launches
from bench.store.runs import folders

RUNS = 50  # the newest; more would take seconds to read
COLUMNS = (  # that are read
    *("hostname", "cpu_model", "device_name", "launcher", "role", "status", "case_id", "batch_search", "oversubscribe"),
    *("launch_s", "window_s", "window_steps", "warmup_steps", "warmup_steps_done", "turn", "bursts"),
    *AXES,
)
LEAST_STEPS = 2  # in a window that max_seconds limits


@dataclass(frozen=True)
class Estimate:
    """``launch_s`` has the seconds of a launch, None if unknown, for each case that can run.

    For a resumed run ``done`` has the launches that remain valid, and ``spent_s`` the seconds that all launches took.
    """

    launch_s: Mapping[Planned, float | None]
    protocol: Protocol
    done: Collection[Key] = ()
    spent_s: float = 0.0

    @property
    def missing(self) -> int:
        """Number of cases without an estimate."""
        return sum(seconds is None for seconds in self.launch_s.values())

    @property
    def round_s(self) -> float | None:
        """Seconds of a round over the cases with an estimate; None if there is none."""
        known = [seconds for seconds in self.launch_s.values() if seconds is not None]
        return sum(known) if known else None

    @property
    def budget_left_s(self) -> float | None:
        """Seconds of the budget that are left; None without a budget."""
        return None if self.protocol.budget is None else max(0.0, self.protocol.budget - self.spent_s)

    @property
    def launches(self) -> int | None:
        """Launches of each case: as many as fit the budget and were asked for; None if unknown."""
        left, most = self.budget_left_s, self.protocol.launches
        if left is None:
            return most
        if self.missing or not self.round_s:
            return None
        # rounds that have begun are completed
        begun = max((block + 1 for _, block in self.done if block is not None), default=1)
        fit = begun + max(0, int((left - self._seconds(self._due(begun))) / self.round_s))
        return fit if most is None else min(fit, most)

    @property
    def launches_left(self) -> int | None:
        """Launches of all cases together that are still to be made; None if unknown."""
        return None if self.launches is None else len(self._due(self.launches))

    @property
    def total_s(self) -> float | None:
        """Seconds of all launches that are still to be made, without cases that have no estimate; None if unknown."""
        return None if self.launches is None or self.round_s is None else self._seconds(self._due(self.launches))

    def _due(self, rounds: int) -> list[Planned]:
        return [p for block in range(rounds) for p in self.launch_s if (p.case.case_id, block) not in self.done]

    def _seconds(self, due: Sequence[Planned]) -> float:
        return sum(self.launch_s[planned] or 0.0 for planned in due)


def estimate(
    plan: Plan,
    out: Path,
    machine: Machine,
    warn: Callable[[str], None],
    done: Collection[Key] = (),
    spent_s: float = 0.0,
) -> Estimate:
    """Return the estimate for the cases of a plan that can run, from the rows in ``out``.

    ``warn`` is called with runs that cannot be read.
    """
    cases = [planned for planned in plan.cases if planned.skip is None]
    rows = [r for r in earlier_rows(out, machine, warn) if r.launcher == plan.protocol.launcher] if cases else []
    by_case: dict[str | None, list[LaunchRow]] = defaultdict(list)
    by_axes: dict[Hashable, list[LaunchRow]] = defaultdict(list)
    for row in rows:
        by_case[row.case_id].append(row)
        by_axes[_key_without_batch(row.columns(), bool(row.batch_search))].append(row)
    of = {p: by_case[p.case.case_id] if p.case.batch_size else _rows_with_any_batch(p, by_axes) for p in cases}
    return Estimate({p: launch_seconds(of[p], plan.protocol) for p in cases}, plan.protocol, done, spent_s)


def earlier_rows(out: Path, machine: Machine, warn: Callable[[str], None]) -> list[LaunchRow]:
    """Return the successful launches on this machine from the newest runs. A damaged run is left out."""
    try:
        newest = folders(out)[:RUNS]
    except ResultsError as error:
        warn(str(error))
        return []
    host, found = host_facts(machine, {}), []
    devices = {"cpu", *(gpu.name for gpu in machine.gpus)}
    for folder in newest:
        file = folder / "launches.csv"
        if not os.path.lexists(file):  # a run that is just being made, or was stopped meanwhile
            continue
        try:
            # A run that is being written may end with half a row, which is no reason for a warning.
            rows = read_launches(file, lambda _: None, only=COLUMNS)
        except ResultsError as error:
            warn(f"{error.message.rstrip('.')}; the run is left out of the estimate")
            continue
        here = [r for r in rows if all(getattr(r, name) == host[name] for name in ("hostname", "cpu_model"))]
        found += [r for r in here if _is_timed(r) and devices.issuperset(str(r.device_name).split(";"))]
    return found


def _is_timed(row: LaunchRow) -> bool:
    known = all(0 < (getattr(row, name) or 0) < math.inf for name in ("launch_s", "window_s", "window_steps"))
    return known and (row.role, row.status) == ("measure", "ok")


def _rows_with_any_batch(planned: Planned, by_axes: Mapping[Hashable, list[LaunchRow]]) -> list[LaunchRow]:
    """Return the rows of a case with any batch, if its batch was searched for or is the workload's own.

    Return none if rows have several batches, or if strong scaling divides the batch: only torch knows which it will be.
    """
    case = planned.case
    alike = by_axes.get(_key_without_batch(vars(case), case.auto_batch), [])
    told = planned.strong_from is None and len({row.batch_size for row in alike}) == 1
    return alike if case.auto_batch or told else []


def _key_without_batch(of: Mapping[str, Any], searched: bool) -> Hashable:
    """Return what two launches share that differ only in their batch.

    Axes are texts, so that an empty cell equals an empty text.
    """
    return (searched, bool(of["oversubscribe"]), *(show(of[name]) for name in AXES if name != "batch_size"))


def launch_seconds(rows: Sequence[LaunchRow], protocol: Protocol) -> float | None:
    """Return the seconds of a launch by this protocol, the median over earlier ones; None if there are none.

    Warm-up steps are assumed to take as long as timed ones, and all else, such as the start, to take as long as before.
    """
    said = []
    for row in rows:
        launch_s, own_window_s = row.launch_s or 0.0, row.window_s or 0.0  # both are known here
        step_s = own_window_s / (row.window_steps or 1)
        more_s = _more_warmup(row, protocol) * step_s + _window_s(protocol, step_s) - own_window_s
        said.append(min(launch_s + more_s, protocol.timeout))
    return statistics.median(said) if said else None


def _window_s(protocol: Protocol, step_s: float) -> float:
    wanted_s = max(protocol.steps * step_s, protocol.min_seconds)
    return max(min(wanted_s, protocol.max_seconds), LEAST_STEPS * step_s) if protocol.max_seconds else wanted_s


def _more_warmup(row: LaunchRow, protocol: Protocol) -> int:
    """Return how many more warm-up steps there are than in the row.

    If the row has more than were asked for, a loader's queues need as many again.
    """
    done, wanted = row.warmup_steps_done, row.warmup_steps
    if done is None or wanted is None:
        return 0
    least = done if done > wanted else LEAST_WARMUP_STEPS
    return int(max(protocol.warmup_steps, least) - done)
