"""``bench.add_to_history`` and ``bench.trend``: keeps sessions of many days, and shows how figures move."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench
from bench.api.keywords import folder_of, run_name, words_of
from bench.api.runs import Run, warner
from bench.errors import ResultsError, UsageError, did_you_mean
from bench.history import branch as branches
from bench.history import folder as folders
from bench.history.repository import Repository
from bench.history.sessions import Kept, in_trend, read_sessions, session_of
from bench.store.columns import LAUNCHES
from bench.store.reader import read_launches
from bench.store.runs import busy, find

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis.trend import Trend as Found

LAST = 200  # Sessions of a page.
FOLDER = "history"  # The folder of a history in that of results.
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Trend:
    """How figures moved over the sessions of a history; ``found`` has all details.

    ``where``: the folder or branch; ``earlier``: sessions before those that were asked for.
    """

    found: Found
    where: str
    earlier: int = 0

    @property
    def points(self) -> pd.DataFrame:
        """A row for each case, figure and session: the median over its launches with its 95 % interval."""
        return _frame(
            [
                {"case_id": series.case_id, "label": series.label, "metric": series.metric}
                | {**dataclasses.asdict(point), "session": self.found.sessions[point.session].run_id}
                for series in self.found.series
                for point in series.points
            ],
            "case_id label metric session value low high launches status reason environment work_key",
        )

    @property
    def changes(self) -> pd.DataFrame:
        """A row for each change point, which is advice: the first session after it, and the figures on both sides."""
        return _frame(
            [
                {"case_id": series.case_id, "label": series.label, "metric": series.metric}
                | {**dataclasses.asdict(change), "session": self.found.sessions[change.session].run_id}
                | {"ratio": change.ratio}
                for series in self.found.series
                for change in series.changes
            ],
            "case_id label metric session before after ratio p kind",
        )

    @property
    def marks(self) -> pd.DataFrame:
        """A row for each change of environment, work, code or stepbench between two sessions of a case."""
        return _frame(
            [
                {"case_id": case_id, "session": self.found.sessions[mark.session].run_id}
                | {"kind": mark.kind, "words": mark.words}
                for case_id, marks in self.found.marks.items()
                for mark in marks
            ],
            "case_id session kind words",
        )

    @property
    def sessions(self) -> pd.DataFrame:
        """A row for each session, in the order in which they began."""
        rows = [dataclasses.asdict(session) for session in self.found.sessions]
        return _frame(rows, "run_id started_at environment hostname tool_version commit statuses")

    @property
    def sentences(self) -> list[str]:
        """The findings, one sentence each."""
        from bench.report.trend import sentences

        return sentences(self.found, self.earlier)

    def html(self) -> str:
        """Return a whole page that needs no network and no other file."""
        from bench.report.charts.trend import trends
        from bench.report.html import page
        from bench.report.trend import SECTIONS, tables

        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        about = [f"stepbench {bench.__version__}, {when}", f"history: {self.where}"]
        charts = list(trends(self.found))
        return page("Training speed over sessions", about, self.sentences, tables(self.found), charts, SECTIONS)

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        return f"<ul>{said}</ul>{self.changes.to_html(index=False, na_rep='', border=0)}"


def _frame(rows: Sequence[dict[str, Any]], names: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=names.split())


# -- adding --------------------------------------------------------------------------------------------------------


def add_to_history(
    run: Run | str | Path,
    *,
    folder: str | Path | None = None,
    branch: str | None = None,
    push: str | None = None,
    out: str | Path = "results",
) -> bool:
    """Add a run to a history as a session, of a comparison its side B, and return whether it is new there.

    The history is a ``folder``, by default ``history`` in ``out``, or a ``branch`` of the repository of the present
    folder, of which neither files nor the index change. ``push``: a remote to which the branch is pushed. Raises a
    child of BenchError.
    """
    return add(folder_of(out), run_name(run), _place(folder, branch, push, folder_of(out)), push, warner())


def add(out: Path, run: str, where: Path | branches.Branch, push: str | None, warn: Warn) -> bool:
    """Add a run to the history ``where``; see ``add_to_history``."""
    found = find(out, run)
    if busy(found):
        raise ResultsError(
            f"run {found.name} is being written by bench run", option="run", given=run, hint="Add it when it has ended."
        )
    session = session_of(run, read_launches(found / "launches.csv", warn))
    if isinstance(where, Path):
        return folders.add(where, session)
    return branches.add(where, session, push, warn).new


def place(folder: Path | None, branch: str | None, push: str | None, out: Path) -> Path | branches.Branch:
    """Return the folder or branch of a history; UsageError for both, and for a push of a folder."""
    if folder is not None and branch is not None:
        raise UsageError("--folder and --branch both say where the history is", option="--folder", hint="Give one.")
    if push is not None and branch is None:
        raise UsageError(
            "--push has no effect without --branch", option="--push", given=push, hint="Add --branch bench-history."
        )
    if branch is None:
        return folder if folder is not None else out / FOLDER
    return branches.branch(Repository(Path.cwd()), branch)


def _place(folder: Any, branch: Any, push: Any, out: Path) -> Path | branches.Branch:
    """Return the place of keyword arguments; UsageError for other types."""
    for name, given in (("branch", branch), ("push", push)):
        if given is not None and not isinstance(given, str):
            raise UsageError(option=name, given=given, allowed="a text")
    return place(None if folder is None else folder_of(folder), branch, push, out)


# -- reading -------------------------------------------------------------------------------------------------------


def trend(
    *,
    folder: str | Path | None = None,
    branch: str | None = None,
    metrics: str | Sequence[str] | None = None,
    last: int = LAST,
    out: str | Path = "results",
) -> Trend:
    """Return how figures moved over the ``last`` sessions of a history, and change points as advice.

    ``metrics``: names of numeric columns of ``launches.csv``, by default throughput, step time, peak memory and
    counts of a step. The history is that of ``add_to_history``. Raises a child of BenchError.
    """
    return read(_place(folder, branch, None, folder_of(out)), words_of("metrics", metrics), last, warner())


def read(where: Path | branches.Branch, metrics: Sequence[str], last: int, warn: Warn) -> Trend:
    """Return the trend of a history; see ``trend``."""
    from bench.analysis.trend import COLUMNS
    from bench.analysis.trend import trend as found_trend

    if not isinstance(last, int) or isinstance(last, bool) or last < 1:
        raise UsageError(option="--last", given=last, allowed="a whole number from 1")
    chosen = list(dict.fromkeys(map(_metric, metrics)))
    kept = _kept(where, last, warn)
    only = {*COLUMNS, *(chosen or _default_columns())}
    rows = in_trend(read_sessions(kept.files, warn, only))
    name = str(where) if isinstance(where, Path) else f"branch {where.name}"
    if not rows:
        raise ResultsError(f"{name}: no session can be read", hint="Restore it from a copy, or from git.")
    return Trend(found_trend(rows, chosen or None, warn), name, kept.earlier)


def _kept(where: Path | branches.Branch, last: int, warn: Warn) -> Kept:
    return folders.kept(where, last, warn) if isinstance(where, Path) else branches.kept(where, last)


def _default_columns() -> set[str]:
    from bench.analysis.trend import DEFAULT_METRICS, ON_THE_CPU

    return {*DEFAULT_METRICS, *ON_THE_CPU.values()}


def _metric(name: str) -> str:
    numeric = [column for column, of in LAUNCHES.items() if of.kind in ("int", "float") and column != "schema"]
    known = name.strip().replace("-", "_")
    if known not in numeric:
        raise UsageError(
            option="--metrics",
            given=name,
            allowed="numeric columns of launches.csv, such as samples_per_s,step_ms,peak_allocated_mib",
            hint=did_you_mean(known, numeric),
        )
    return known


def as_json(found: Trend) -> str:
    """Return the findings and all frames as JSON; unknown values are null."""
    from bench.report.format import to_json
    from bench.store.environments import known_values

    frames = {name: getattr(found, name) for name in ("sessions", "points", "changes", "marks")}
    tables = {
        name: [dict(zip(frame.columns, row, strict=True)) for row in known_values(frame)]
        for name, frame in frames.items()
    }
    return to_json({"history": found.where, "earlier": found.earlier, "findings": found.sentences, **tables})
