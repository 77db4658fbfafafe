"""Baselines: the launches of some sessions of one machine, to compare later ones with. Each is a CSV file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import IncomparableError, ResultsError, UsageError, did_you_mean
from bench.store.cells import cell
from bench.store.columns import LAUNCHES, SCHEMA, LaunchRow
from bench.store.environment_diff import differences
from bench.store.node_facts import differences_of_nodes
from bench.store.reader import read_launches

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KIND = "launches.csv"  # A baseline has its columns.
LEAST_SESSIONS = 5  # A verdict needs this many.


@dataclass(frozen=True)
class Baseline:
    """A baseline: its name, its file, and the launches of its sessions."""

    name: str
    file: Path
    rows: Sequence[LaunchRow]

    @property
    def sessions(self) -> list[str]:
        """Ids of its runs."""
        return list(dict.fromkeys(row.run_id for row in self.rows if row.run_id))


def sessions_of_cases(baseline: Baseline) -> dict[str, int]:
    """Return for each case of the last session in how many sessions one of its launches was ok."""
    good = {(row.case_id, row.run_id) for row in baseline.rows if row.status == "ok"}
    last = dict.fromkeys(row.case_id for row in baseline.rows if row.run_id == baseline.sessions[-1])
    return {str(case_id): sum(case_id == other for other, _ in good) for case_id in last}


def path(out: Path, name: str) -> Path:
    """Return the file of a baseline; UsageError for an invalid name."""
    if not NAME.fullmatch(name):
        allowed = "a name of 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-', the first a letter or digit"
        raise UsageError(option="baseline", given=name, allowed=allowed)
    return out / "baselines" / f"{name}.csv"


def names(out: Path) -> list[str]:
    """Return the names of all baselines; ResultsError if their folder cannot be read."""
    try:
        inside = [Path(entry.name) for entry in os.scandir(out / "baselines") if entry.is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResultsError(
            f"cannot read {out / 'baselines'}: {error.strerror}", given=str(out), hint="Name another folder with --out."
        ) from None
    return sorted(file.stem for file in inside if file.suffix == ".csv" and NAME.fullmatch(file.stem))


def existing(out: Path, name: str) -> Path:
    """Return the file of a baseline; IncomparableError if it does not exist, as a gate cannot decide without it."""
    file = path(out, name)
    if not os.path.exists(file):
        there = names(out)
        meant, add = did_you_mean(name, there), f"Create it: bench baseline add {name} RUN."
        raise IncomparableError(
            option="baseline",
            given=name,
            allowed=f"one in {out / 'baselines'} ({', '.join(there) or 'there are none'})",
            hint=f"{meant} {add}" if meant else add,
        )
    return file


def load(out: Path, name: str, warn: Callable[[str], None]) -> Baseline:
    """Read a baseline; IncomparableError if it does not exist, ResultsError if it has no launch with status ok."""
    file = existing(out, name)
    rows = read_launches(file, warn)
    if not any(row.case_id and row.run_id and row.status == "ok" for row in rows):
        raise ResultsError(
            f"{file} has no launch with status ok",
            option="baseline",
            given=name,
            hint=f"Restore it from a copy, or delete it (bench baseline rm {name}) and add the runs again.",
        )
    return Baseline(name, file, rows)


def settled(baseline: Baseline, warn: Callable[[str], None]) -> Baseline:
    """Return the baseline without launches that differ from the last one of their case in environment or work.

    ``add`` accepts no such launches, but older versions did, and users may join files.
    """
    from bench.store.code_versions import identities  # Imports pandas.

    letters = [one.environment for one in identities(baseline.rows)]
    told = [(row, (row.work_key, letter)) for row, letter in zip(baseline.rows, letters, strict=True)]
    last = {row.case_id: kind for row, kind in told if row.status == "ok"}
    rows = [row for row, kind in told if last.get(row.case_id, kind) == kind]
    if left := len(baseline.rows) - len(rows):
        warn(
            f"baseline {baseline.name}: {left} launch{'es are' if left > 1 else ' is'} left out, with another "
            "environment or other data than the last launch of the same case"
        )
    return Baseline(baseline.name, baseline.file, rows)


def add(out: Path, name: str, runs: Iterable[tuple[str, Sequence[LaunchRow]]], warn: Callable[[str], None]) -> Baseline:
    """Add the measured launches of all ``runs``, or of none, to a baseline, which is created if it does not exist.

    ``runs``: names and rows; launches of collectives have their rates beside them. UsageError if a run is in the
    baseline already, or is a comparison; ResultsError if none of its launches has status ok; IncomparableError if its
    machine, software or settings (env_key) or its work (work_key) differ from the baseline's, or within the run.
    Sessions of other code are accepted with a warning, as a baseline may be the history of a code base.
    """
    file = path(out, name)
    found = load(out, name, warn) if os.path.exists(file) else Baseline(name, file, [])
    for run, rows in runs:
        measured = _measured(run, rows)
        _check_one_kind(run, measured)
        if str(measured[0].run_id) in found.sessions:
            raise UsageError(
                f"run {measured[0].run_id} is in baseline {name} already",
                option="run",
                given=run,
                hint="Add another run.",
            )
        if found.rows:
            check_alike(found, measured)
            for words in _code_warnings(found, run, measured):
                warn(words)
        found = Baseline(name, file, [*found.rows, *measured])
    _write(file, found.rows)
    return found


def _measured(run: str, rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    if any(row.side for row in rows):
        allowed = "a run of bench run or bench check, not a comparison of two sides"
        raise UsageError(option="run", given=run, allowed=allowed)
    measured = [row for row in rows if row.role == "measure" and row.order is not None and row.case_id]
    if not any(row.status == "ok" for row in measured):
        raise ResultsError(f"{run}: no launch has status ok", option="run", given=run, hint="Add a run that has one.")
    return measured


def _check_one_kind(run: str, rows: Sequence[LaunchRow]) -> None:
    """Raise IncomparableError if launches of one case differ, as in a run that was resumed on another machine."""
    from bench.store.code_versions import Identity, identities  # Imports pandas.

    of_cases: dict[str, set[Identity]] = defaultdict(set)
    for row, one in zip(rows, identities(rows), strict=True):
        if row.status == "ok":
            of_cases[str(row.case_id)].add(one)
    for case_id, found in of_cases.items():
        if len(found) > 1:
            words = " and ".join(sorted(one.words for one in found))
            raise IncomparableError(
                f"{run}: the launches of {case_id} are of {words}",
                option="run",
                given=run,
                hint=f"Add a run whose launches are alike; bench report {run} shows what differs.",
            )


def _code_warnings(baseline: Baseline, run: str, rows: Sequence[LaunchRow]) -> list[str]:
    """Return a warning if cases of a run have other code than in the baseline."""
    before, now = (_by_case(row for row in of if row.status == "ok") for of in (baseline.rows, rows))
    other = [
        case_id
        for case_id in now
        if case_id in before and not {row.code_key for row in now[case_id]} <= {row.code_key for row in before[case_id]}
    ]
    if not other:
        return []
    more = f" and {len(other) - 1} more cases" if len(other) > 1 else ""
    return [
        f"{run}: {other[0]}{more} with other code (code_key) than in baseline {baseline.name}: differences between "
        "its sessions include the effect of the code"
    ]


def check_alike(baseline: Baseline, rows: Sequence[LaunchRow]) -> None:
    """Raise IncomparableError if launches ran on another kind of machine, or did other work, than the baseline.

    Each case is compared with itself, as a case has settings of its own, such as OMP_NUM_THREADS. If no case is in
    both, all launches are compared with each other.
    """
    sides = [[row for row in of if row.status == "ok"] for of in (baseline.rows, rows)]
    cases = [_by_case(side) for side in sides]
    both = [(cases[0][case_id], cases[1][case_id]) for case_id in cases[1] if case_id in cases[0]]
    for before, now in both or [(sides[0], sides[1])]:
        if not {row.env_key for row in now} <= {row.env_key for row in before}:
            unlike = [*differences(before, now), *differences_of_nodes(before, now)]
            found = [d.words("in the baseline", "now") for d in unlike if d.in_env_key]
            if not found and any((row.schema or 0) < SCHEMA for row in before):
                continue  # Keys of older versions cover fewer columns.
            raise IncomparableError(
                f"baseline {baseline.name} was measured on another machine, or with other software or settings: "
                f"{'; '.join(found) or 'env_key'}",
                hint=f"Create one by another name (bench baseline add NAME RUN), or bench baseline rm {baseline.name}.",
            )
    for before, now in both:
        if not {row.work_key for row in now} <= {row.work_key for row in before}:
            raise IncomparableError(
                f"{now[0].case_id} does other work than in baseline {baseline.name}: its data changed, or this "
                f"version of stepbench measures differently",
                hint="Create a new baseline: bench baseline add NAME RUN.",
            )


def _by_case(rows: Iterable[LaunchRow]) -> dict[str, list[LaunchRow]]:
    found: dict[str, list[LaunchRow]] = {}
    for row in rows:
        found.setdefault(str(row.case_id), []).append(row)
    return found


def _write(file: Path, rows: Sequence[LaunchRow]) -> None:
    """Write the file of a baseline atomically, with the current columns."""
    text = io.StringIO()
    lines = [[cell(getattr(row, name), column) for name, column in LAUNCHES.items()] for row in rows]
    csv.writer(text, lineterminator="\r\n").writerows([list(LAUNCHES), *lines])
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(text.getvalue().encode(errors="backslashreplace"))
        os.replace(partial, file)
    except OSError as error:
        raise ResultsError(f"cannot write {file}: {error.strerror}", hint="Choose another --out.") from None
