"""Two results side by side: paired where they share blocks, else only as sure as their sessions are alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist, fmean, median, variance
from typing import Any

from bench.analysis.decision import Found, compared
from bench.analysis.gate import geometric_mean, memory
from bench.analysis.intervals import exp
from bench.analysis.power import LEVEL
from bench.analysis.trimmed import LEAST_BLOCKS
from bench.analysis.verdict import Gate, Rules, Verdict
from bench.differences import differences
from bench.options import AXES
from bench.record import Row

Key = tuple[Any, ...]


def compare(
    a_rows: Sequence[Row],
    b_rows: Sequence[Row],
    rules: Rules,
    names: tuple[str, str] = ("A", "B"),
    by: Sequence[str] = (),
    session_spread: Mapping[str, float] | None = None,
) -> Gate:
    """Every case of two groups of launches, matched by its axes but those of ``by``, which the groups were made by.

    ``session_spread``: the standard deviation of the log of throughput between sessions, by case_id of A, where it is
    known. The order of the cases is that of A, then what only B has.
    """
    sides = [_by_case(rows, by) for rows in (a_rows, b_rows)]
    cases = list(dict.fromkeys([*sides[0], *sides[1]]))
    pairs = {key: (sides[0].get(key, []), sides[1].get(key, [])) for key in cases}
    measured = {key: pair for key, pair in pairs.items() if all(map(_good, pair)) and not _other_work(pair)}
    found = _paired(measured, rules) | _sessions(measured, rules, session_spread or {})
    verdicts = tuple(_verdict(pairs[key], found.get(key), rules) for key in cases)
    ratio, low, high = geometric_mean(verdicts)
    return Gate(
        a=names[0],
        b=names[1],
        verdicts=verdicts,
        rules=rules,
        differences=tuple(d.words() for d in differences(a_rows, b_rows)) if a_rows and b_rows else (),
        notes=_notes(verdicts),
        failed=any(not _good(a) and not _good(b) for a, b in pairs.values()),
        ratio=ratio,
        low=low,
        high=high,
    )


def _by_case(rows: Iterable[Row], by: Sequence[str]) -> dict[Key, list[Row]]:
    """The measured launches of each case: one is what has the same axes, but for those of ``by``."""
    names = [name for name in (*AXES, "oversubscribe") if name not in by]
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        if row["role"] == "measure":
            found[tuple(row[name] for name in names)].append(row)
    return dict(found)


def _good(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "ok" and (row["samples_per_s"] or 0) > 0]


def _other_work(pair: tuple[Sequence[Row], Sequence[Row]]) -> bool:
    keys = [{row["work_key"] for row in _good(side)} for side in pair]
    return keys[0] != keys[1]


# -- measured in the same blocks -----------------------------------------------------------------------------------


def _paired(pairs: Mapping[Key, tuple[list[Row], list[Row]]], rules: Rules) -> dict[Key, Found]:
    """Where both sides share enough (run, block): one log ratio a block, in which the machine's drift cancels."""
    shared = {key: [log_ratio for log_ratio in _by_block(*pair)] for key, pair in pairs.items()}
    return compared({key: blocks for key, blocks in shared.items() if len(blocks) >= LEAST_BLOCKS}, rules)


def _by_block(a: Sequence[Row], b: Sequence[Row]) -> list[float]:
    def blocks(rows: Sequence[Row]) -> dict[Key, list[float]]:
        found: dict[Key, list[float]] = defaultdict(list)
        for row in _good(rows):
            found[row["run_id"], row["block"]].append(math.log(row["samples_per_s"]))
        return found

    in_a, in_b = blocks(a), blocks(b)
    return [fmean(in_b[block]) - fmean(logs) for block, logs in in_a.items() if block in in_b]


# -- measured in sessions of their own -----------------------------------------------------------------------------


def _sessions(
    pairs: Mapping[Key, tuple[list[Row], list[Row]]], rules: Rules, spreads: Mapping[str, float]
) -> dict[Key, Found]:
    """The rest: each session is one number. Two or more of a side say how far they differ; else it must be known."""
    return {
        key: _unpaired(_of_sessions(a), _of_sessions(b), rules, spreads.get(str(a[0]["case_id"])))
        for key, (a, b) in pairs.items()
        if len(_by_block(a, b)) < LEAST_BLOCKS
    }


def _of_sessions(rows: Sequence[Row]) -> list[float]:
    """The median log of throughput of each run, and of each session of a run that was resumed."""
    found: dict[Key, list[float]] = defaultdict(list)
    for row in _good(rows):
        found[row["run_id"], row["session"]].append(math.log(row["samples_per_s"]))
    return [median(logs) for logs in found.values()]


def _unpaired(a: Sequence[float], b: Sequence[float], rules: Rules, spread: float | None) -> Found:
    """Welch's t over the sessions of both sides (Welch 1947); with one session a side by a spread that is known."""
    change = fmean(b) - fmean(a)
    error, freedom, how = _error(a, b, spread)
    if error is None:
        need = abs(change) / NormalDist().inv_cdf(1 - LEVEL) / math.sqrt(1 / len(a) + 1 / len(b))
        said = f"unpaired, {math.expm1(change):+.1%}: how far sessions differ here is not known"
        verb = "slower" if change < 0 else "faster"
        if abs(math.expm1(change)) > rules.floor:
            said += f"; it is {verb} if their standard deviation is below {need:.1%}"
        return Found("inconclusive", f"{said} (bench calibrate, or more runs of each)", math.exp(change), blocks=0)
    from scipy import stats

    p = float(stats.t.sf(abs(change) / error, freedom)) if error else 0.0
    half = float(stats.t.ppf(0.975, freedom)) * error
    low, high = exp(change - half), exp(change + half)
    said = f"unpaired, {math.expm1(change):+.1%} ({low - 1:+.1%}…{high - 1:+.1%}) by {how}"
    verdict = _of_change(change, error, freedom, p, rules)
    return Found(verdict, said, math.exp(change), low, high, p, len(a) + len(b))


def _error(a: Sequence[float], b: Sequence[float], spread: float | None) -> tuple[float | None, float, str]:
    """The standard error of the difference, its degrees of freedom, and where they come from."""
    if len(a) > 1 and len(b) > 1:
        parts = [variance(side) / len(side) for side in (a, b)]
        below = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
        return math.sqrt(sum(parts)), sum(parts) ** 2 / below if below else 1.0, f"{len(a)} and {len(b)} sessions"
    if spread is not None:
        return spread * math.sqrt(1 / len(a) + 1 / len(b)), math.inf, f"a session spread of {spread:.1%}"
    return None, math.nan, ""


def _of_change(change: float, error: float, freedom: float, p: float, rules: Rules) -> str:
    """Significant and beyond the floor; or within the margin by two one-sided tests; or neither."""
    from scipy import stats

    if p <= LEVEL and abs(math.expm1(change)) > rules.floor:
        return "slower" if change < 0 else "faster"
    margin = -math.log1p(-rules.detect)
    outside = stats.t.sf((margin - abs(change)) / error, freedom) if error else float(abs(change) > margin)
    return "same" if outside <= 0.05 else "inconclusive"


# -- in words ------------------------------------------------------------------------------------------------------


def _verdict(pair: tuple[list[Row], list[Row]], found: Found | None, rules: Rules) -> Verdict:
    a, b = pair
    good_a, good_b = _good(a), _good(b)
    found = found or _without_numbers(pair)
    paired = len(_by_block(a, b)) >= LEAST_BLOCKS
    some = (b or a)[0]
    return Verdict(
        case=str((a or b)[0]["case_id"]),
        case_a=str(a[0]["case_id"]) if a else None,
        case_b=str(b[0]["case_id"]) if b else None,
        workload=str(some["workload"]),
        command=some["command"],
        how="blocks" if paired else "unpaired",
        launches=len(good_a) + len(good_b),
        samples_per_s_a=median(row["samples_per_s"] for row in good_a) if good_a else None,
        samples_per_s_b=median(row["samples_per_s"] for row in good_b) if good_b else None,
        seconds=sum(row["launch_s"] or 0.0 for row in (*a, *b)),
        **vars(found),
        **memory(good_a, good_b, rules),
    )


def _without_numbers(pair: tuple[list[Row], list[Row]]) -> Found:
    a, b = pair
    if not a or not b:
        return Found("missing", "B has no launch of it") if a else Found("new", "A has no launch of it")
    if _good(a) and _good(b):
        keys = [", ".join(sorted({str(row["work_key"]) for row in _good(side)})) for side in pair]
        return Found(
            "incomparable", f"other data, or another way of measuring: work_key {keys[0]} in A, {keys[1]} in B"
        )
    bad = next(row for row in (a if not _good(a) else b) if row["status"] != "ok")
    said = f"{bad['status']}: {bad['reason']}"
    if _good(a):
        return Found("broken", said)
    return Found("new" if _good(b) else "inconclusive", f"A failed: {said}" if _good(b) else f"both failed; {said}")


def _notes(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    if any(one.how == "unpaired" and one.ratio for one in verdicts):
        return (
            "unpaired: the sides were not measured in turns, so that what changed between their sessions is in the "
            "difference; bench ab measures them in turns",
        )
    return ()


def chosen(rows: Iterable[Row], conditions: Sequence[Callable[[Row], bool]]) -> list[Row]:
    return [row for row in rows if all(holds(row) for holds in conditions)]
