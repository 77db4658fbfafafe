"""How long launches are going to take, by what earlier runs in the results folder took here."""

from __future__ import annotations

import socket
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ResultsError
from bench.read import read
from bench.record import Row
from bench.runs import folders
from bench.suite import Plan, Protocol

RUNS = 50  # the newest: more would take seconds to read


@dataclass(frozen=True)
class Estimate:
    """``launch_s``: case_id -> seconds of a launch, None where nothing is known, for each case that can run."""

    launch_s: Mapping[str, float | None]
    protocol: Protocol

    @property
    def missing(self) -> int:
        """Cases of which nothing is known."""
        return sum(seconds is None for seconds in self.launch_s.values())

    @property
    def round_s(self) -> float | None:
        """Seconds of a round over the cases that are known, None if none is."""
        known = [seconds for seconds in self.launch_s.values() if seconds is not None]
        return sum(known) if known else None

    @property
    def launches(self) -> int | None:
        """Of each case: as many as fit the budget and were asked for; None if it cannot be known."""
        budget, most = self.protocol.budget, self.protocol.launches
        if budget is None:
            return most
        if self.missing or not self.round_s:
            return None
        fit = max(1, int(budget / self.round_s))
        return fit if most is None else min(fit, most)

    @property
    def total_s(self) -> float | None:
        """Seconds of all rounds, cases of which nothing is known left out; None if all are, or the rounds unknown."""
        return None if self.launches is None or self.round_s is None else self.launches * self.round_s


def estimate(plan: Plan, out: Path, warn: Callable[[str], None]) -> Estimate:
    """For the cases of a plan that can run, from the rows in ``out``; ``warn`` is told of runs that cannot be read."""
    ids = dict.fromkeys(planned.case.case_id for planned in plan.cases if planned.skip is None)
    rows = earlier_rows(out, set(ids), socket.gethostname(), warn)
    return Estimate({case_id: launch_seconds(rows[case_id], plan.protocol) for case_id in ids}, plan.protocol)


def earlier_rows(out: Path, case_ids: set[str], hostname: str, warn: Callable[[str], None]) -> Mapping[str, list[Row]]:
    """case_id -> its launches on this host that were ok, of the newest runs. A run that is damaged is left out."""
    found: dict[str, list[Row]] = defaultdict(list)
    try:
        newest = folders(out)[:RUNS]
    except ResultsError as error:
        warn(str(error))
        newest = []
    for folder in newest if case_ids else []:
        try:
            rows = read(folder / "launches.csv", lambda _: None)  # one that is being written ends where it ends
        except ResultsError as error:
            warn(f"{error}; the run is left out of the estimate")
            continue
        for row in rows:
            if row["case_id"] in case_ids and row["hostname"] == hostname and _is_timed(row):
                found[row["case_id"]].append(row)
    return found


def _is_timed(row: Row) -> bool:
    known = all(row[name] for name in ("launch_s", "window_s", "window_steps"))
    return known and (row["role"], row["status"]) == ("measure", "ok")


def launch_seconds(rows: Sequence[Row], protocol: Protocol) -> float | None:
    """Seconds of a launch by this protocol, the median over what earlier ones say; None if there are none.

    What surrounds the window is taken to stay as it was: start, warm-up and the gathering of what ranks left.
    """
    said = []
    for row in rows:
        window_s = max(protocol.steps * row["window_s"] / row["window_steps"], protocol.min_seconds)
        said.append(row["launch_s"] - row["window_s"] + window_s)
    return statistics.median(said) if said else None
