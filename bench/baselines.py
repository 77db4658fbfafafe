"""Baselines: the launches of some sessions of one machine, kept to judge later ones by. One CSV file each."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.differences import differences
from bench.errors import IncomparableError, ResultsError, UsageError, near
from bench.read import read
from bench.record import LAUNCHES, Row
from bench.store import cell

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
KIND = "launches.csv"  # whose columns a baseline has


@dataclass(frozen=True)
class Baseline:
    name: str
    file: Path
    rows: Sequence[Row]

    @property
    def sessions(self) -> list[str]:
        """The ids of its runs."""
        return list(dict.fromkeys(str(row["run_id"]) for row in self.rows))


def path(out: Path, name: str) -> Path:
    """The file of a baseline; UsageError for what is no name."""
    if not NAME.fullmatch(name):
        raise UsageError(f"baseline {name!r}: allowed: a name of letters, digits, '.', '_' and '-'.")
    return out / "baselines" / f"{name}.csv"


def names(out: Path) -> list[str]:
    return sorted(file.stem for file in (out / "baselines").glob("*.csv"))


def load(out: Path, name: str, warn: Callable[[str], None]) -> Baseline:
    """IncomparableError if there is none of that name: a gate without a baseline decides nothing."""
    file = path(out, name)
    if not file.exists():
        there = names(out)
        raise IncomparableError(
            f"no baseline {name!r} in {out / 'baselines'}; there {'are' if there else 'is'} "
            f"{', '.join(there) or 'none'}. Add one: bench baseline add {name} RUN.{near(name, there)}"
        )
    return Baseline(name, file, read(file, warn, KIND))


def add(out: Path, name: str, rows: Sequence[Row], warn: Callable[[str], None]) -> Baseline:
    """Add a run's measured launches to a baseline, which is begun with them if there is none.

    UsageError if the run is in it; ResultsError if no launch of it was ok; IncomparableError if its machine, software
    or settings (env_key) or its work (work_key of a case) are others than the baseline's.
    """
    file = path(out, name)
    measured = [row for row in rows if row["role"] == "measure" and row["order"] is not None and row["side"] is None]
    if not any(row["status"] == "ok" for row in measured):
        raise ResultsError("no launch of the run was ok; a baseline is made of launches that were")
    before = Baseline(name, file, read(file, warn, KIND) if file.exists() else [])
    again = sorted({str(row["run_id"]) for row in measured} & set(before.sessions))
    if again:
        raise UsageError(f"run {again[0]} is in baseline {name} already; add another run.")
    if before.rows:
        check_alike(before, measured)
    _write(file, [*before.rows, *measured])
    return Baseline(name, file, [*before.rows, *measured])


def check_alike(baseline: Baseline, rows: Sequence[Row]) -> None:
    """IncomparableError, with what differs, if launches were made on another kind of machine or about other work."""
    sides = [[row for row in of if row["status"] == "ok"] for of in (baseline.rows, rows)]
    keys = [{row["env_key"] for row in side} for side in sides]
    if not keys[1] <= keys[0]:
        found = [d.words("in the baseline", "now") for d in differences(*sides) if d.in_env_key]
        raise IncomparableError(
            f"baseline {baseline.name} is of another machine, software or settings: {'; '.join(found) or 'env_key'}. "
            "Make one of this: bench baseline add NAME RUN."
        )
    works = {row["case_id"]: row["work_key"] for row in sides[0]}
    for row in sides[1]:
        if works.get(row["case_id"], row["work_key"]) != row["work_key"]:
            raise IncomparableError(
                f"{row['case_id']} is about other work than in baseline {baseline.name}: its data changed, or "
                "stepbench measures otherwise. Make a new baseline."
            )


def _write(file: Path, rows: Sequence[Row]) -> None:
    """All of it or nothing, with the columns of today."""
    text = io.StringIO()
    lines = [[cell(row.get(name), column) for name, column in LAUNCHES.items()] for row in rows]
    csv.writer(text, lineterminator="\r\n").writerows([list(LAUNCHES), *lines])
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(text.getvalue().encode(errors="backslashreplace"))
        os.replace(partial, file)
    except OSError as error:
        raise ResultsError(f"cannot write {file}: {error.strerror}") from None
