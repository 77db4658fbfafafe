"""A history for people: findings in sentences, and tables of the latest sessions, change points and what changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from bench.analysis.trend import Change, Point, Series, Trend
from bench.report.charts.trend import change_words, date, known, metric_words, when
from bench.report.format import case_or_cases, first_few, number
from bench.report.html import OTHERS, Sections
from bench.report.tables import Column, Table
from bench.stats.change_points import LEAST, LEVEL
from bench.store.columns import LAUNCHES

SECTIONS: Sections = (
    ("latest", "The latest session", ()),
    ("changes", "Change points", ()),
    ("trends", "Trends", ("trend",)),
    ("marks", "What changed between sessions", ()),
    ("gaps", "Sessions without a figure", ()),
    ("sessions", "Sessions", ()),
    (OTHERS, "More", ()),
)
SPARKS, GAP = "▁▂▃▄▅▆▇█", "×"
SPARKED = 24  # Sessions in a sparkline.
# Units of which more is better, and of which it is worse.
HIGHER, LOWER = ("samples/s", "tokens/s", "TFLOP/s"), ("ms", "s", "MiB", "J", "W")
SHARES = ("mfu", "hfu", "mfu_achievable")

ADVICE = (
    f"Change points are advice and not a verdict: where nothing changes, and sessions are independent, at most "
    f"{LEVEL * 100:.0f} of 100 pages have one by chance; a machine that drifts has more. bench ab tells whether a "
    f"change of the code made training slower."
)


def sentences(found: Trend, left_out: int = 0) -> list[str]:
    """Return the findings. ``left_out``: earlier sessions that are not on the page."""
    return [*_about_sessions(found, left_out), *_about_changes(found), *_about_the_latest(found)]


def _about_sessions(found: Trend, left_out: int) -> list[str]:
    first, last = found.sessions[0], found.sessions[-1]
    count = len(found.sessions)
    more = f"; {left_out:,} earlier ones are not shown (--last)" if left_out else ""
    days = date(first) if date(first) == date(last) else f"{date(first)} to {date(last)}"
    said = [f"Sessions: {count:,}, {days}, with {_count(len(found.labels), 'case')}{more}"]
    letters = list(dict.fromkeys(session.environment for session in found.sessions))
    if len(letters) > 1:
        said.append(f"Environments: {', '.join(letters)}; sessions of different ones are never compared")
    return said


def _about_changes(found: Trend) -> list[str]:
    points = [(series, change) for series in found.series for change in series.changes]
    if not points:
        searched = f"in {_count(found.tested, 'trend')}"
        too_few = f"looked for yet: that takes {LEAST} sessions of a case in one environment"
        return [f"Change points: none {searched if found.tested else too_few}", ADVICE]
    latest = sorted(points, key=lambda one: -one[1].session)
    words = [
        f"{_short(series)} {change_words(change)}{_judged(series, change)} since {date(found.sessions[change.session])}"
        for series, change in latest
    ]
    return [f"Change points: {len(points)}, the latest: {first_few(words)}", ADVICE]


def _about_the_latest(found: Trend) -> list[str]:
    last = len(found.sessions) - 1
    lost = {series.label: point for series in found.series for point in series.points[-1:]
            if point.session == last and not known(point)}  # fmt: skip
    without = [name for name in found.labels.values() if name not in {series.label for series in found.series}]
    said = [f"No figure in the latest session: {case_or_cases(list(lost))}"] if lost else []
    return [*said, *([f"No figure in any session: {case_or_cases(without)}"] if without else [])]


def _short(series: Series) -> str:
    return f"{series.metric} of {series.label}"


def _judged(series: Series, change: Change) -> str:
    """Return whether a change is for the better, if the unit says so."""
    unit = LAUNCHES[series.metric].unit
    way = 1 if unit in HIGHER or series.metric in SHARES else -1 if unit in LOWER else 0
    if not way:
        return ""
    return " (better)" if (change.after > change.before) == (way > 0) else " (worse)"


def _count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'s' if number_of != 1 else ''}"


# -- tables --------------------------------------------------------------------------------------------------------


def tables(found: Trend) -> list[Table]:
    """Return the tables that have rows."""
    every = (
        Table("latest", "The latest session", _LATEST_NOTE, LATEST, _frame(_latest(found), LATEST_NAMES)),
        Table("changes", "Change points", ADVICE, CHANGES, _frame(_changes(found), CHANGES_NAMES)),
        Table("marks", "What changed between sessions", _MARKS_NOTE, MARKS, _frame(_marks(found), MARKS_NAMES)),
        Table("gaps", "Sessions without a figure", "", GAPS, _frame(_gaps(found), GAPS_NAMES)),
        Table("sessions", "Sessions", "", SESSIONS, _frame(_sessions(found), SESSIONS_NAMES)),
    )
    return [table for table in every if len(table.frame)]


_LATEST_NOTE = (
    "The latest session with a figure, against the median of the earlier sessions of the same environment and work. "
    "The interval is that of the session's own launches: it says nothing of how far sessions differ."
)
_MARKS_NOTE = "Against the session before of the same case. Code: the contents of the user's files (code_key)."


def _text(title: str, name: str, brief: bool = True) -> Column:
    return Column(title, lambda row: row[name] or "", name, numeric=False, brief=brief)


def _number(title: str, name: str, show: Any = number, brief: bool = True) -> Column:
    return Column(title, lambda row: "" if row[name] is None else show(row[name]), name, brief=brief)


def _percent(value: float) -> str:
    return f"{round(value, 3) + 0:+.1%}"


LATEST_NAMES = ("label", "metric", "value", "interval", "change", "sessions", "began", "sparks")
LATEST = (
    _text("case", "label"),
    _text("figure", "metric"),
    _number("latest", "value"),
    _text("95 % interval", "interval"),
    _number("against before", "change", _percent),
    _number("sessions", "sessions", lambda value: f"{int(value):,}"),
    _text("began, UTC", "began", brief=False),
    _text(f"last {SPARKED}", "sparks"),
)
CHANGES_NAMES = ("label", "metric", "began", "run_id", "change", "judged", "before", "after", "kind", "p", "why")
CHANGES = (
    _text("case", "label"),
    _text("figure", "metric"),
    _text("since, UTC", "began"),
    _text("session", "run_id", brief=False),
    _text("change", "change"),
    _text("", "judged"),
    _number("before", "before"),
    _number("after", "after"),
    _text("kind", "kind"),
    _number("p by chance", "p", lambda value: f"{value:.1g}", brief=False),
    _text("changed before that session", "why", brief=False),
)
MARKS_NAMES = ("began", "run_id", "words", "cases")
MARKS = (
    _text("since, UTC", "began"),
    _text("session", "run_id", brief=False),
    _text("what", "words"),
    _text("cases", "cases"),
)
GAPS_NAMES = ("began", "run_id", "label", "status", "reason")
GAPS = (
    _text("began, UTC", "began"),
    _text("session", "run_id", brief=False),
    _text("case", "label"),
    _text("status", "status"),
    _text("reason", "reason"),
)
SESSIONS_NAMES = ("began", "run_id", "environment", "hostname", "tool_version", "commit", "statuses")
SESSIONS = (
    _text("began, UTC", "began"),
    _text("session", "run_id"),
    _text("environment", "environment"),
    _text("host", "hostname"),
    _text("stepbench", "tool_version"),
    _text("commit", "commit"),
    _text("launches", "statuses"),
)


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(names), dtype="object")


def _latest(found: Trend) -> list[dict[str, Any]]:
    rows = []
    for series in found.series:
        last = [point for point in series.points if known(point)][-1]
        before = [point.value for point in series.points if _comparable(point, last)]
        middle = median(before) if before else math.nan
        rows.append(
            {
                "label": series.label,
                "metric": metric_words(series.metric),
                "value": last.value,
                "interval": "" if math.isnan(last.low) else f"{number(last.low)}…{number(last.high)}",
                "change": last.value / middle - 1 if middle > 0 else None,
                "sessions": len(before) + 1,
                "began": when(found.sessions[last.session]),
                "sparks": sparkline(series.points[-SPARKED:]),
            }
        )
    return rows


def _comparable(point: Point, last: Point) -> bool:
    alike = (point.environment, point.work_key) == (last.environment, last.work_key)
    return known(point) and alike and point.session < last.session


def sparkline(points: Sequence[Point]) -> str:
    """Return a character for each session, the higher the larger its figure; × for a session without one."""
    values = [point.value for point in points if known(point)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high == low:
        return "".join(SPARKS[3] if known(point) else GAP for point in points)
    share = (len(SPARKS) - 1) / (high - low)
    return "".join(SPARKS[round((point.value - low) * share)] if known(point) else GAP for point in points)


def _changes(found: Trend) -> list[dict[str, Any]]:
    rows = []
    points = [(series, change) for series in found.series for change in series.changes]
    for series, change in sorted(points, key=lambda one: -one[1].session):
        session = found.sessions[change.session]
        why = [mark.words for mark in found.marks[series.case_id] if mark.session == change.session]
        rows.append(
            {
                "label": series.label,
                "metric": metric_words(series.metric),
                "began": when(session),
                "run_id": session.run_id,
                "change": change_words(change),
                "judged": _judged(series, change).strip(" ()"),
                "before": change.before,
                "after": change.after,
                "kind": f"drift up to {date(session)}" if change.kind == "drift" else change.kind,
                "p": change.p,
                "why": "; ".join(why),
            }
        )
    return rows


def _marks(found: Trend) -> list[dict[str, Any]]:
    """Return what changed, the latest first; cases with the same words share a row.

    A return to an earlier environment has none: machines of a pool take turns.
    """
    cases: dict[tuple[int, str], list[str]] = {}
    for case_id, marks in found.marks.items():
        for mark in (mark for mark in marks if mark.kind != "back"):
            cases.setdefault((mark.session, mark.words), []).append(found.labels[case_id])
    return [
        {
            "began": when(found.sessions[session]),
            "run_id": found.sessions[session].run_id,
            "words": words,
            "cases": "all" if len(names) == len(found.labels) > 1 else first_few(names),
        }
        for (session, words), names in sorted(cases.items(), key=lambda one: -one[0][0])
    ]


def _gaps(found: Trend) -> list[dict[str, Any]]:
    seen = {
        (point.session, series.label): point for series in found.series for point in series.points if not known(point)
    }
    return [
        {
            "began": when(found.sessions[session]),
            "run_id": found.sessions[session].run_id,
            "label": label,
            "status": point.status,
            "reason": point.reason,
        }
        for (session, label), point in sorted(seen.items(), key=lambda one: -one[0][0])
    ]


def _sessions(found: Trend) -> list[dict[str, Any]]:
    return [{name: getattr(one, name) for name in SESSIONS_NAMES[1:]} | {"began": when(one)}
            for one in reversed(found.sessions)]  # fmt: skip
