"""Trends: figures of every case over the sessions of a history, what changed between them, and change points."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.analysis.frames import launches
from bench.analysis.order import in_order, labels
from bench.plan.options import AXES
from bench.stats.change_points import FLOOR, LEAST, Found, exact, of_series
from bench.stats.intervals import of_median_log
from bench.store.code_versions import Identity, identities
from bench.store.columns import ENVIRONMENT, LAUNCHES, LaunchRow
from bench.store.counting_rows import PLACE
from bench.store.env_key import ENV_KEY_COLUMNS
from bench.store.environment_diff import differences

# The figures of a page, by the names of their columns. A case without values in a column, or with zeros only, has no
# trend of it. The last three are counts of the work of a step.
DEFAULT_METRICS = (
    *("samples_per_s", "step_ms", "peak_allocated_mib"),
    *("operations", "collective_bytes", "activation_bytes"),
)
ON_THE_CPU = {"peak_allocated_mib": "peak_rss_mib"}  # What a case on the CPU has instead.
# The columns that a trend needs beside its metrics.
COLUMNS = (
    *PLACE,
    *("launch_id", "order", "session", "started_at", "status", "reason", "bursts"),
    *(*AXES, *ENV_KEY_COLUMNS, *ENVIRONMENT),
)
SHORT = 9  # Digits of a commit.


@dataclass(frozen=True)
class Session:
    """A session of the history: its run, when it began, and what it ran on and measured with."""

    run_id: str
    started_at: str
    environment: str
    hostname: str
    tool_version: str
    commit: str
    statuses: str


@dataclass(frozen=True)
class Point:
    """A case in a session: the median over its launches that were ok, with its 95 % interval.

    ``session`` is its place among the sessions. All figures are NaN if no launch was ok; ``status`` and ``reason`` say
    how the first other launch ended.
    """

    session: int
    value: float
    low: float
    high: float
    launches: int
    status: str
    reason: str
    environment: str
    work_key: str


@dataclass(frozen=True)
class Change:
    """A change point; see ``bench.stats.change_points.Found``. ``ratio`` is after / before, NaN without a ratio."""

    session: int
    before: float
    after: float
    p: float | None
    kind: str

    @property
    def ratio(self) -> float:
        """After / before."""
        return self.after / self.before if self.before > 0 and self.after > 0 else math.nan


@dataclass(frozen=True)
class Mark:
    """Something that changed before a session of a case.

    ``kind``: environment, back (to an environment of an earlier session), work, code or tool (stepbench).
    """

    session: int
    kind: str
    words: str


@dataclass(frozen=True)
class Series:
    """The trend of one column of one case."""

    case_id: str
    label: str
    metric: str
    points: Sequence[Point]
    changes: Sequence[Change]


@dataclass(frozen=True)
class Trend:
    """All trends of a history. ``marks`` are by case_id; ``tested`` is the number of series that were searched."""

    sessions: Sequence[Session]
    labels: Mapping[str, str]
    series: Sequence[Series]
    marks: Mapping[str, Sequence[Mark]]
    tested: int


@dataclass(frozen=True)
class _Cell:
    """The launches of a case in a session that are of one environment, work and code, and what these are."""

    session: int
    rows: Sequence[LaunchRow]
    identity: Identity
    work_key: str

    @property
    def good(self) -> list[LaunchRow]:
        return [row for row in self.rows if row.status == "ok"]


def trend(rows: Sequence[LaunchRow], metrics: Sequence[str] | None, warn: Callable[[str], None]) -> Trend:
    """Return the trends of the rows of a history's sessions, in the order of the cases' axes.

    ``metrics``: numeric columns, by default DEFAULT_METRICS. Sessions are in the order in which they began.
    """
    rows = [row for row in rows if row.run_id and row.case_id and row.role == "measure"]
    order = _ordered(rows)
    told = identities(rows)
    cells = _cells(rows, told, order, warn)
    names = _labels(rows)
    drawn = [
        (case_id, metric, cells[case_id])
        for case_id in names
        for metric in (metrics or _default_metrics(cells[case_id]))
        if any(_values(cell, metric) for cell in cells[case_id])
    ]
    found, tested = _changes([(metric, of_case) for _, metric, of_case in drawn])
    series = [
        Series(case_id, names[case_id], metric, [_point(cell, metric) for cell in _with(metric, of_case)], changes)
        for (case_id, metric, of_case), changes in zip(drawn, found, strict=True)
    ]
    marks = {case_id: _marks(cells[case_id]) for case_id in names}
    return Trend(_sessions(rows, told, order), names, series, marks, tested)


# -- sessions and cases --------------------------------------------------------------------------------------------


def _ordered(rows: Iterable[LaunchRow]) -> dict[str, int]:
    """Return the place of each run by the time when it began; that of the id if no launch has a time."""
    began: dict[str, str] = {}
    for row in rows:
        run_id, time = str(row.run_id), row.started_at or ""
        began[run_id] = min(filter(None, (began.get(run_id, ""), time)), default="")
    return {
        run_id: place for place, run_id in enumerate(sorted(began, key=lambda one: (began[one] or _time(one), one)))
    }


def _time(run_id: str) -> str:
    """Return the time in a run's id as ISO 8601, as far as it has one."""
    digits = run_id[:8] + run_id[9:15]
    if len(digits) < 14 or not digits.isdecimal():
        return ""
    year, month, day, hour, minute, second = digits[:4], *(digits[at : at + 2] for at in range(4, 14, 2))
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}"


def _sessions(rows: Sequence[LaunchRow], told: Sequence[Identity], order: Mapping[str, int]) -> list[Session]:
    of_runs: dict[str, list[tuple[LaunchRow, Identity]]] = defaultdict(list)
    for row, identity in zip(rows, told, strict=True):
        of_runs[str(row.run_id)].append((row, identity))
    found = []
    for run_id in order:
        inside = [row for row, _ in of_runs[run_id]]
        times = sorted(row.started_at for row in inside if row.started_at)
        statuses = Counter(str(row.status) for row in inside)
        found.append(
            Session(
                run_id=run_id,
                started_at=times[0] if times else _time(run_id),
                environment=", ".join(dict.fromkeys(identity.environment for _, identity in of_runs[run_id])),
                hostname=_all_of(inside, "hostname"),
                tool_version=_all_of(inside, "tool_version"),
                commit=", ".join(dict.fromkeys(filter(None, map(_commit, inside)))),
                statuses=", ".join(f"{count} {status}" for status, count in statuses.most_common()),
            )
        )
    return found


def _all_of(rows: Iterable[LaunchRow], column: str) -> str:
    return ", ".join(dict.fromkeys(str(getattr(row, column)) for row in rows if getattr(row, column)))


def _commit(row: LaunchRow) -> str:
    return f"{row.work_commit[:SHORT]}{' with changes' if row.work_dirty else ''}" if row.work_commit else ""


def _labels(rows: Sequence[LaunchRow]) -> dict[str, str]:
    """Return the label of each case, in the order of the axes; equal labels get the case_id."""
    last = {str(row.case_id): row for row in rows}
    frame = in_order(launches(list(last.values())))
    names = labels(frame)
    alike = names.duplicated(keep=False)
    names = names.where(~alike, names + " " + frame["case_id"])
    return dict(zip(frame["case_id"].tolist(), names.tolist(), strict=True))


def _cells(
    rows: Sequence[LaunchRow], told: Sequence[Identity], order: Mapping[str, int], warn: Callable[[str], None]
) -> dict[str, list[_Cell]]:
    """Return the sessions of each case; if launches of a session are unlike, those like the last one that was ok."""
    found: dict[tuple[str, int], list[tuple[LaunchRow, Identity]]] = defaultdict(list)
    for row, identity in zip(rows, told, strict=True):
        found[str(row.case_id), order[str(row.run_id)]].append((row, identity))
    cells: dict[str, list[_Cell]] = defaultdict(list)
    left = 0
    for (case_id, session), inside in sorted(found.items(), key=lambda one: one[0]):
        last, kind = next(((row, of) for row, of in reversed(inside) if row.status == "ok"), inside[-1])
        alike = [row for row, of in inside if of[:3] == kind[:3] and row.work_key == last.work_key]
        left += len(inside) - len(alike)
        cells[case_id].append(_Cell(session, alike, kind, last.work_key or ""))
    if left:
        warn(f"launches are left out ({left}): they differ from later ones of their session in environment or code")
    return dict(cells)


def _default_metrics(cells: Sequence[_Cell]) -> list[str]:
    on_cpu = cells[-1].rows[-1].device == "cpu"
    names = [ON_THE_CPU.get(name, name) if on_cpu else name for name in DEFAULT_METRICS]
    return [name for name in names if any(any(_values(cell, name)) for cell in cells)]


# -- figures -------------------------------------------------------------------------------------------------------


def _values(cell: _Cell, metric: str) -> list[float]:
    values = [getattr(row, metric) for row in cell.good]
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _with(metric: str, cells: Iterable[_Cell]) -> list[_Cell]:
    """Return the sessions without those that were measured but not in this column: a comparison counts no work."""
    return [cell for cell in cells if not cell.good or any(getattr(row, metric) is not None for row in cell.good)]


def _point(cell: _Cell, metric: str) -> Point:
    values = _values(cell, metric)
    value = low = high = math.nan
    if values:
        value = median(values)
        logs = min(values) > 0
        low, high = of_median_log([math.log(one) for one in values] if logs else values)
        low, high = (math.exp(low), math.exp(min(high, 700.0))) if logs else (low, high)
    bad = next((row for row in cell.rows if row.status != "ok"), None)
    status = "ok" if bad is None else bad.status or "unknown"
    reason = (bad.reason or "") if bad else "" if values else f"no {metric}"
    return Point(cell.session, value, low, high, len(values), status, reason, cell.identity.environment, cell.work_key)


def _changes(drawn: Sequence[tuple[str, Sequence[_Cell]]]) -> tuple[list[list[Change]], int]:
    """Return the change points of each metric of a case, and how many series were searched for them.

    Only sessions of the same environment and the same work are compared.
    """
    found: list[list[Change]] = [[] for _ in drawn]
    searched: list[tuple[int, Sequence[_Cell], list[float], bool]] = []
    for number, (metric, cells) in enumerate(drawn):
        kinds: dict[tuple[str, str], list[tuple[_Cell, list[float]]]] = defaultdict(list)
        for cell in cells:
            if values := _values(cell, metric):
                kinds[cell.identity.environment, cell.work_key].append((cell, values))
        for inside in kinds.values():
            of_kind, values_of = [cell for cell, _ in inside], [values for _, values in inside]
            known = exact(values_of, LAUNCHES[metric].kind == "int")
            if known is not None:
                found[number] += [_change(one, of_kind, False) for one in known]
            elif len(inside) >= LEAST:
                medians = [median(values) for values in values_of]
                logs = min(medians) > 0
                searched.append((number, of_kind, [math.log(one) for one in medians] if logs else medians, logs))
    # A floor for logs only: it is a share.
    floors = [FLOOR if logs else 0.0 for _, _, _, logs in searched]  # It is a share.
    every = of_series([values for _, _, values, _ in searched], floors)
    for (number, compared, _, logs), changes in zip(searched, every, strict=True):
        found[number] += [_change(one, compared, logs) for one in changes]
    return [sorted(changes, key=lambda one: one.session) for changes in found], len(searched)


def _change(one: Found, cells: Sequence[_Cell], logs: bool) -> Change:
    before, after = (math.exp(one.before), math.exp(one.after)) if logs else (one.before, one.after)
    return Change(cells[one.at].session, before, after, one.p, one.kind)


# -- what changed --------------------------------------------------------------------------------------------------


def _marks(cells: Sequence[_Cell]) -> list[Mark]:
    """Return what differs from the session before in environment, work, code and version of stepbench."""
    reported = [cell for cell in cells if cell.good]
    known: set[str] = set()
    marks: list[Mark] = []
    for before, now in itertools.pairwise(reported):
        known.add(before.identity.environment)
        marks += [Mark(now.session, kind, words) for kind, words in _unlike(before, now, known)]
    return marks


def _unlike(before: _Cell, now: _Cell, known: set[str]) -> Iterable[tuple[str, str]]:
    letter = now.identity.environment
    if before.identity.environment != letter and letter in known:
        yield "back", f"back to environment {letter}"
    elif before.identity.environment != letter:
        found = [one.words("before", "now") for one in differences(before.good, now.good) if one.in_env_key]
        yield "environment", f"environment {letter}: {'; '.join(found) or 'env_key'}"
    if before.work_key != now.work_key:
        yield "work", "other data, or stepbench measures differently (work_key)"
    if before.identity.code_key != now.identity.code_key:
        commits = [_commit(cell.good[-1]) for cell in (before, now)]
        words = f": {commits[0] or 'unknown'} before, {commits[1] or 'unknown'} now" if any(commits) else ""
        packages = [_all_of(cell.good, "packages") for cell in (before, now)]
        more = f"; packages: {packages[0] or 'none'} before, {packages[1] or 'none'} now"
        yield "code", f"your code{words}{more if packages[0] != packages[1] else ''}"
    versions = [_all_of(cell.good, "tool_version") for cell in (before, now)]
    if versions[0] != versions[1]:
        yield "tool", f"stepbench: {versions[0] or 'unknown'} before, {versions[1] or 'unknown'} now"
