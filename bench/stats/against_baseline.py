"""Compares a new session with those of a baseline, by a prediction interval.

Sessions differ for more reasons than launches of one session do.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev

from bench.stats.ab_gate import CaseRows, failures, flagged, geometric_mean, has_rate, log_rate, memory
from bench.stats.between_sessions import Change
from bench.stats.between_sessions import judged as judged_changes
from bench.stats.decision import Found, Name
from bench.stats.intervals import exp
from bench.stats.power import FIRST_LEVEL
from bench.stats.verdict import Control, Gate, Rules, Verdict
from bench.store.baselines import LEAST_SESSIONS
from bench.store.code_versions import Identity, identities
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted
from bench.store.environment_diff import differences


def of_sessions(rows: Iterable[LaunchRow]) -> dict[str, list[float]]:
    """Return by case_id the median log of throughput of each run's successful launches."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.role == "measure" and has_rate(row):
            found[str(row.case_id), str(row.run_id)].append(log_rate(row))
    sessions: dict[str, list[float]] = defaultdict(list)
    for (case_id, _), logs in found.items():
        sessions[case_id].append(median(logs))
    return dict(sessions)


def candidates(baseline: Mapping[str, Sequence[float]], now: Mapping[str, float]) -> list[str]:
    """Return the cases that are outside of their baseline's prediction at the loose level."""
    return [name for name, change in _changes(baseline, now).items() if change.p <= FIRST_LEVEL]


def judged(baseline: Mapping[Name, Sequence[float]], now: Mapping[Name, float], rules: Rules) -> dict[Name, Found]:
    """Return a verdict for each case of both, by the prediction interval of its sessions."""
    few = {
        name: _undecided(sessions, now[name])
        for name, sessions in baseline.items()
        if name in now and len(sessions) < LEAST_SESSIONS
    }
    return few | judged_changes(_changes(baseline, now), rules)


def _undecided(sessions: Sequence[float], now: float) -> Found:
    """Return the change against too few sessions for a verdict; from two on it has an interval."""
    why = f"{len(sessions)} of {LEAST_SESSIONS} sessions"
    if len(sessions) < 2:
        return Found("inconclusive", why, exp(now - fmean(sessions)), blocks=len(sessions))
    change = _change(sessions, now)
    low, high = change.interval()
    said = f"{math.expm1(change.log):+.1%} ({low - 1:+.1%}…{high - 1:+.1%}); {why}"
    return Found("inconclusive", said, exp(change.log), low, high, blocks=len(sessions))


def _changes(baseline: Mapping[Name, Sequence[float]], now: Mapping[Name, float]) -> dict[Name, Change]:
    """Return the changes of cases with enough sessions for a verdict."""
    return {
        name: _change(sessions, now[name])
        for name, sessions in baseline.items()
        if name in now and len(sessions) >= LEAST_SESSIONS
    }


def _change(sessions: Sequence[float], now: float) -> Change:
    """Return the change of a case against its sessions, two or more.

    With m and s of the n sessions' log throughputs, (y - m) / (s sqrt(1 + 1 / n)) has Student's t distribution with n -
    1 degrees of freedom for another session y (Hahn & Meeker 1991, 4.8).
    """
    return Change(
        log=now - fmean(sessions),
        error=stdev(sessions) * math.sqrt(1 + 1 / len(sessions)),
        freedom=len(sessions) - 1,
        sessions=len(sessions),
        words=f"against {len(sessions)} sessions",
    )


def against(
    baseline: Sequence[LaunchRow], rows: Sequence[LaunchRow], rules: Rules, name: str, checked: Control | None
) -> Gate:
    """Return the comparison of a run with a baseline: every case of both.

    If a case was launched again, the second stage decides on it.
    """
    rows = counted(rows)
    baseline = _with_same_code(baseline, rows)
    before = of_sessions(baseline)
    now = {case_id: fmean(sessions) for case_id, sessions in of_sessions(_deciding(rows)).items()}
    found = judged(before, now, rules) | _too_few(baseline, _deciding(rows)) | _edited(rows)
    if checked and checked.flagged:
        found = {case_id: flagged(one, checked) for case_id, one in found.items()}
    cases = dict.fromkeys(str(row.case_id) for row in (*baseline, *rows) if row.role == "measure")
    verdicts = tuple(_verdict(case_id, baseline, rows, found.get(case_id), rules) for case_id in cases)
    ratio, low, high = geometric_mean(verdicts)
    return Gate(
        a=f"baseline {name}",
        b=str(rows[0].run_id) if rows else "",
        verdicts=verdicts,
        rules=rules,
        control=checked,
        differences=tuple(d.words() for d in differences(baseline, rows) if d.name == "code_key"),
        failed=_has_failed(rows, verdicts),
        run_id=str(rows[0].run_id) if rows else "",
        ratio=ratio,
        low=low,
        high=high,
    )


def _with_same_code(baseline: Sequence[LaunchRow], rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    """Return the baseline's launches of the run's own code, for each case where enough sessions have it.

    For other cases return all launches: they are a history, whose sessions also differ by changes of the code.
    """
    own = {(row.case_id, row.code_key) for row in rows if row.role == "measure" and has_rate(row)}
    sessions = {(row.case_id, row.code_key, row.run_id) for row in baseline if has_rate(row)}
    enough = {
        kind for kind, count in Counter((case, code) for case, code, _ in sessions).items() if count >= LEAST_SESSIONS
    }
    cases = {case for case, _ in own & enough}
    return [row for row in baseline if row.case_id not in cases or (row.case_id, row.code_key) in own]


def _edited(rows: Sequence[LaunchRow]) -> dict[str, Found]:
    """Return the cases of which the run has several environments or versions of code, by case_id, as inconclusive."""
    of_cases: dict[str, set[Identity]] = defaultdict(set)
    for row, identity in zip(rows, identities(rows), strict=True):
        if row.role == "measure" and has_rate(row):
            of_cases[str(row.case_id)].add(identity)
    return {
        case_id: Found("inconclusive", f"the run's launches of it differ: {_words(found)}; measure it again")
        for case_id, found in of_cases.items()
        if len(found) > 1
    }


def _words(found: Iterable[Identity]) -> str:
    return " and ".join(sorted(one.words for one in found))


def launches_of(rows: Iterable[LaunchRow]) -> dict[str, float]:
    """Return by case_id the median number of successful launches in a session, without second stages."""
    counts = Counter(
        (str(row.case_id), row.run_id) for row in rows if row.role == "measure" and row.stage != 2 and has_rate(row)
    )
    of_cases: dict[str, list[int]] = defaultdict(list)
    for (case_id, _), count in counts.items():
        of_cases[case_id].append(count)
    return {case_id: median(found) for case_id, found in of_cases.items()}


def _too_few(baseline: Sequence[LaunchRow], deciding: Sequence[LaunchRow]) -> dict[str, Found]:
    """Return the cases with fewer launches than the baseline's sessions. The run's median is noisier than theirs."""
    needed = launches_of(baseline)
    counts = Counter(str(row.case_id) for row in deciding if row.role == "measure" and has_rate(row))
    return {
        case_id: Found(
            "inconclusive",
            f"{count} launch{'es' if count > 1 else ''} of it; sessions of the baseline have {needed[case_id]:g}",
        )
        for case_id, count in counts.items()
        if count < needed.get(case_id, 0)
    }


def _has_failed(rows: Sequence[LaunchRow], verdicts: Iterable[Verdict]) -> bool:
    """Return whether a launch failed without making a case broken, or nothing could run."""
    broken = {one.case for one in verdicts if one.verdict == "broken"}
    failed = [row for row in failures(rows) if row.role in ("measure", "control")]
    alone = any(row.case_id not in broken for row in failed)
    return alone or not (broken or any(map(has_rate, rows)))


def _deciding(rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    """Return the launches of the second stage of cases that have one, else all launches."""
    again = {row.case_id for row in rows if row.stage == 2}
    return [row for row in rows if row.stage == 2 or row.case_id not in again]


def _verdict(
    case_id: str, baseline: Sequence[LaunchRow], rows: Sequence[LaunchRow], found: Found | None, rules: Rules
) -> Verdict:
    a, b = ([row for row in side if row.case_id == case_id and row.role == "measure"] for side in (baseline, rows))
    good_a, good_b = list(filter(has_rate, a)), list(filter(has_rate, _deciding(b)))
    said = _without_numbers(a, b) or found or Found("inconclusive", "no launch was ok")
    verdict = CaseRows(a, b, good_a, good_b).verdict(
        case_id, "sessions", said, memory(good_a, good_b, rules), len(good_b)
    )
    # time of the run only: that of the baseline was spent earlier
    return dataclasses.replace(verdict, seconds=sum(row.launch_s or 0.0 for row in b))


def _without_numbers(a: Sequence[LaunchRow], b: Sequence[LaunchRow]) -> Found | None:
    """Return the result for a case that one side lacks, or that failed in the run; None if both have numbers."""
    bad = failures(b)
    said = f"{bad[0].status}: {bad[0].reason}" if bad else ""
    if not b or all(row.status == "skipped" for row in b):
        why = f"; skipped: {b[0].reason}" if b else ""
        return Found("missing", f"the run has no launch of it{why}")
    if not a:
        return Found("new", f"the baseline has no launch of it{'; ' if said else ''}{said}")
    if not any(map(has_rate, a)):
        return Found("inconclusive", f"the baseline has no launch of it that was ok{'; ' if said else ''}{said}")
    if bad and not failures(a):
        return Found("broken", said)
    return None if any(map(has_rate, b)) or not bad else Found("inconclusive", f"both failed; {said}")
