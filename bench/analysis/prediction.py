"""Is a new session like those of a baseline? Sessions differ for more reasons than launches: a prediction interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev

from bench.analysis.decision import Found, Name, holm
from bench.analysis.gate import geometric_mean, memory, undecided
from bench.analysis.intervals import exp
from bench.analysis.power import FIRST_LEVEL, LEVEL
from bench.analysis.verdict import Control, Gate, Rules, Verdict
from bench.record import Row

LEAST_SESSIONS = 5


def of_sessions(rows: Iterable[Row]) -> dict[str, list[float]]:
    """By case_id, the median log of throughput of each run's launches that were ok."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["role"] == "measure" and row["status"] == "ok" and (row["samples_per_s"] or 0) > 0:
            found[str(row["case_id"]), str(row["run_id"])].append(math.log(row["samples_per_s"]))
    sessions: dict[str, list[float]] = defaultdict(list)
    for (case_id, _), logs in found.items():
        sessions[case_id].append(median(logs))
    return dict(sessions)


def candidates(baseline: Mapping[str, Sequence[float]], now: Mapping[str, float]) -> list[str]:
    """The cases that are outside of what their baseline predicts, at the loose level."""
    enough = {name: sessions for name, sessions in baseline.items() if len(sessions) >= LEAST_SESSIONS and name in now}
    return [name for name, sessions in enough.items() if _p(sessions, now[name]) <= FIRST_LEVEL]


def judged(baseline: Mapping[Name, Sequence[float]], now: Mapping[Name, float], rules: Rules) -> dict[Name, Found]:
    """A verdict for each case of both: outside of the prediction interval (LEVEL over all cases by Holm) and beyond
    the floor, or shown to be within ``detect`` of the baseline, or neither.

    With m and s of the n sessions' log throughputs, (y - m) / (s sqrt(1 + 1 / n)) has Student's t distribution with
    n - 1 degrees of freedom for one more session y (Hahn & Meeker 1991, 4.8).
    """
    both = {name: sessions for name, sessions in baseline.items() if name in now}
    enough = {name: sessions for name, sessions in both.items() if len(sessions) >= LEAST_SESSIONS}
    p_values = {name: _p(sessions, now[name]) for name, sessions in enough.items()}
    outside = dict(zip(p_values, holm(list(p_values.values()), LEVEL), strict=True))
    few = {
        name: Found("inconclusive", f"{len(sessions)} sessions in the baseline; {LEAST_SESSIONS} are needed")
        for name, sessions in both.items()
        if name not in enough
    }
    return few | {
        name: _judged(sessions, now[name], outside[name], p_values[name], rules) for name, sessions in enough.items()
    }


def _judged(sessions: Sequence[float], now: float, outside: bool, p: float, rules: Rules) -> Found:
    from scipy import stats

    change, error, freedom = now - fmean(sessions), _error(sessions), len(sessions) - 1
    half = float(stats.t.ppf(0.975, freedom)) * error
    low, high = exp(change - half), exp(change + half)
    smallest = -math.expm1(-(float(stats.t.isf(LEVEL, freedom)) + float(stats.t.isf(0.05, freedom))) * error)
    margin = -math.log1p(-rules.detect)
    same = error == 0 or stats.t.sf((margin - abs(change)) / error, freedom) <= 0.05
    if outside and abs(math.expm1(change)) > rules.floor:
        verdict, why = ("slower" if change < 0 else "faster"), "no session of the baseline's machine is expected there"
    elif same and abs(change) < margin:
        verdict, why = "same", f"no change of {rules.detect:.1%} or more"
    else:
        verdict, why = "inconclusive", "within what sessions differ by"
    said = f"{math.expm1(change):+.1%} ({low - 1:+.1%}…{high - 1:+.1%}) against {len(sessions)} sessions; {why}; "
    said += f"a slowdown of {smallest:.1%} could be detected"
    return Found(verdict, said, exp(change), low, high, p, len(sessions), smallest)


def _error(sessions: Sequence[float]) -> float:
    return stdev(sessions) * math.sqrt(1 + 1 / len(sessions))


def _p(sessions: Sequence[float], now: float) -> float:
    """One-sided, in the direction of the change."""
    from scipy import stats

    change, error = abs(now - fmean(sessions)), _error(sessions)
    return float(stats.t.sf(change / error, len(sessions) - 1)) if error else float(change == 0) / 2


def against(baseline: Sequence[Row], rows: Sequence[Row], rules: Rules, name: str, checked: Control | None) -> Gate:
    """A run against a baseline: every case of both. Where a case was launched again, the second stage decides on it."""
    before = of_sessions(baseline)
    now = {case_id: fmean(sessions) for case_id, sessions in of_sessions(_deciding(rows)).items()}
    found = judged(before, now, rules)
    if checked and checked.flagged:
        found = {case_id: undecided(one) for case_id, one in found.items()}
    cases = dict.fromkeys(str(row["case_id"]) for row in (*baseline, *rows) if row["role"] == "measure")
    verdicts = tuple(_verdict(case_id, baseline, rows, found.get(case_id), rules) for case_id in cases)
    ratio, low, high = geometric_mean(verdicts)
    return Gate(
        a=f"baseline {name}",
        b=str(rows[0]["run_id"]) if rows else "",
        verdicts=verdicts,
        rules=rules,
        control=checked,
        failed=any(one.verdict == "inconclusive" and not one.samples_per_s_b and one.case_b for one in verdicts),
        run_id=str(rows[0]["run_id"]) if rows else "",
        ratio=ratio,
        low=low,
        high=high,
    )


def _deciding(rows: Sequence[Row]) -> list[Row]:
    """The launches of the second stage, where a case has some, else all of it."""
    again = {row["case_id"] for row in rows if row["stage"] == 2}
    return [row for row in rows if row["stage"] == 2 or row["case_id"] not in again]


def _verdict(case_id: str, baseline: Sequence[Row], rows: Sequence[Row], found: Found | None, rules: Rules) -> Verdict:
    a, b = (
        [row for row in side if row["case_id"] == case_id and row["role"] == "measure"] for side in (baseline, rows)
    )
    good_a, good_b = ([row for row in side if row["status"] == "ok" and row["samples_per_s"]] for side in (a, b))
    bad = [row for row in b if row["status"] not in ("ok", "interrupted")]
    if bad and good_a:
        found = Found("broken", f"{bad[0]['status']}: {bad[0]['reason']}")
    elif not b:
        found = Found("missing", "the run has no launch of it")
    elif not a:
        found = Found("new", "the baseline has no launch of it")
    return Verdict(
        case=case_id,
        case_a=case_id if a else None,
        case_b=case_id if b else None,
        workload=str((b or a)[0]["workload"]),
        command=(b or a)[0]["command"],
        how="sessions",
        launches=len(good_b),
        samples_per_s_a=median(row["samples_per_s"] for row in good_a) if good_a else None,
        samples_per_s_b=median(row["samples_per_s"] for row in good_b) if good_b else None,
        seconds=sum(row["launch_s"] or 0.0 for row in b),
        **vars(found or Found("inconclusive", "no launch was ok")),
        **memory(good_a, good_b, rules),
    )
