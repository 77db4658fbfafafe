"""The launches of a side of a comparison: a run, a file, a folder with the runs of several sessions, or a baseline."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api.comms import comms_rows
from bench.errors import ResultsError
from bench.store import baselines
from bench.store.columns import FILES, LaunchRow
from bench.store.comms_rates import figures, is_comms, with_rates
from bench.store.reader import read_launches
from bench.store.runs import find

KIND = "launches.csv"
INSIDE = ("*", "runs/*", "slurm/*/runs/*")  # Where a folder has its runs: its own, those of `bench run`, those of jobs.
Warn = Callable[[str], None]


@dataclass(frozen=True)
class SideRows:
    """The launches as they were recorded, of collectives a row for each rate, and the rows of comms.csv."""

    launches: Sequence[LaunchRow]
    comms: Sequence[dict[str, Any]] = ()


def side_rows(out: Path, name: str, warn: Warn) -> SideRows:
    """Return the launches that a name of a side means; ResultsError if there is nothing of that name.

    It is a run's id, ``latest`` or a path as in ``find``, any file with the columns of launches.csv, a folder with runs
    at INSIDE, or the name of a baseline in ``out``; the first of these that exists.
    """
    file = Path(name)
    if os.path.isfile(name) and file.name not in FILES:
        return _read([file], warn)
    try:
        run = find(out, name)
    except ResultsError as error:
        if sessions := _sessions(file):
            return _without_comparisons(_read(sessions, warn), name, warn)
        if name in baselines.names(out):
            return SideRows(figures(baselines.settled(baselines.load(out, name, warn), warn).rows))
        allowed = f"{error.allowed}, a folder with runs, or the name of a baseline"
        raise ResultsError(option="run", given=name, allowed=allowed, hint=error.hint) from None
    return _read([run / KIND], warn)


def _sessions(folder: Path) -> list[Path]:
    """Return the files of launches of a folder's runs, in the order of their names."""
    inside = [file for where in INSIDE for file in folder.glob(f"{where}/{KIND}")] if os.path.isdir(folder) else []
    return sorted((file for file in inside if file.parent.name[0] != "."), key=lambda file: file.parent.name)


def _read(files: Sequence[Path], warn: Warn) -> SideRows:
    rows = [row for file in files for row in read_launches(file, warn)]
    if not any(map(is_comms, rows)):
        return SideRows(rows)
    comms = comms_rows(dict.fromkeys(file.parent for file in files), warn)
    return SideRows(with_rates(rows, comms), comms)


def _without_comparisons(found: SideRows, name: str, warn: Warn) -> SideRows:
    """Return a folder's launches without those of comparisons, which have two sides of their own."""
    left_out = list(dict.fromkeys(str(row.run_id) for row in found.launches if row.side))
    if left_out:
        warn(f"{name}: without {', '.join(left_out)}, which bench ab measured for a comparison of its own")
    return SideRows([row for row in found.launches if not row.side], found.comms)
