"""Compares two results: paired if they share blocks, else by how far sessions differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import NormalDist, fmean, median, variance
from typing import Any, NamedTuple

from bench.plan.options import AXES, effective
from bench.stats.ab_gate import CaseRows, failures, geometric_mean, has_rate, log_rate, memory
from bench.stats.between_sessions import Change, Spread, judged
from bench.stats.decision import Found, compared, p_of
from bench.stats.intervals import exp
from bench.stats.power import LEVEL
from bench.stats.trimmed import LEAST_BLOCKS
from bench.stats.verdict import Gate, Rules, Verdict
from bench.store.code_versions import Identity, identities
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted
from bench.store.environment_diff import differences

Key = tuple[Any, ...]
Identified = tuple[LaunchRow, Identity]


class Pair(NamedTuple):
    """The launches of a case on both sides; ``shared`` says that all have the same environment."""

    a: list[LaunchRow]
    b: list[LaunchRow]
    shared: bool

    @property
    def sides(self) -> tuple[list[LaunchRow], list[LaunchRow]]:
        """The launches of A, and those of B."""
        return self.a, self.b


def compare(
    a_rows: Sequence[LaunchRow],
    b_rows: Sequence[LaunchRow],
    rules: Rules,
    names: tuple[str, str] = ("A", "B"),
    by: Sequence[str] = (),
    session_spread: Mapping[str, Spread] | None = None,
) -> Gate:
    """Compare every case of two groups of launches, matched by its axes except ``by``, by which the groups were made.

    ``session_spread`` says how far sessions differ, by case_id of A, if it is known. Cases are in the order of A,
    followed by those that only B has.
    """
    pairs = _pairs(a_rows, b_rows, by)
    measured = {key: pair for key, pair in pairs.items() if all(map(_good, pair.sides)) and not _not_comparable(pair)}
    found = _found(measured, rules, session_spread or {})
    verdicts = tuple(_verdict(pair, found.get(key), rules, _name(key, pair)) for key, pair in pairs.items())
    ratio, low, high = geometric_mean(verdicts)
    return Gate(
        a=names[0],
        b=names[1],
        verdicts=verdicts,
        rules=rules,
        differences=tuple(d.words() for d in differences(a_rows, b_rows)) if a_rows and b_rows else (),
        notes=_notes(verdicts, any(map(_distinction, pairs))),
        failed=_has_failed(pairs.values()),
        ratio=ratio,
        low=low,
        high=high,
    )


def matched(a_rows: Sequence[LaunchRow], b_rows: Sequence[LaunchRow], by: Sequence[str] = ()) -> dict[str, Pair]:
    """Return the launches with a number of each case that both sides have and that can be compared.

    The keys are the ``case`` of the verdicts of ``compare``.
    """
    return {
        _name(key, pair): Pair(_good(pair.a), _good(pair.b), pair.shared)
        for key, pair in _pairs(a_rows, b_rows, by).items()
        if all(map(_good, pair.sides)) and not _not_comparable(pair)
    }


def _name(key: Key, pair: Pair) -> str:
    return str((pair.a or pair.b)[0].case_id) + _distinction(key)


def _pairs(a_rows: Sequence[LaunchRow], b_rows: Sequence[LaunchRow], by: Sequence[str]) -> dict[Key, Pair]:
    """Return the launches of each case on both sides.

    The sides may differ in environment and code. Launches of one side that differ in them are not combined: each group
    is compared with the other side's launches of the same environment and code.
    """
    known = identities([*a_rows, *b_rows])
    a, b = _by_case(zip(a_rows, known, strict=False), by), _by_case(zip(b_rows, known[len(a_rows) :], strict=True), by)
    found: dict[Key, Pair] = {}
    for key in dict.fromkeys([*a, *b]):
        sides = a.get(key, []), b.get(key, [])
        several = dict.fromkeys(identity for side in sides for _, identity in side)
        if max(len({identity for _, identity in side}) for side in sides) < 2:
            shared = len({identity.environment for identity in several}) < 2
            of_a, of_b = ([row for row, _ in side] for side in sides)
            found[key] = Pair(of_a, of_b, shared)
            continue
        for one in several:
            of_a, of_b = ([row for row, identity in side if identity == one] for side in sides)
            found[(*key, one)] = Pair(of_a, of_b, shared=True)
    return found


def _distinction(key: Key) -> str:
    """Return what distinguishes cases with the same axes, if a side has several."""
    return f" ({key[-1].words})" if isinstance(key[-1], Identity) else ""


def _by_case(rows: Iterable[tuple[LaunchRow, Identity]], by: Sequence[str]) -> dict[Key, list[Identified]]:
    """Return the measured launches of each case: those with the same axes, except ``by``."""
    names = [name for name in (*AXES, "oversubscribe") if name not in by]
    known = {id(row): (row, identity) for row, identity in rows}
    found: dict[Key, list[Identified]] = defaultdict(list)
    for row in counted(row for row, _ in known.values()):
        if row.role == "measure":
            found[tuple(effective(name, getattr(row, name)) for name in names)].append(known[id(row)])
    return dict(found)


def _good(rows: Sequence[LaunchRow]) -> list[LaunchRow]:
    return list(filter(has_rate, rows))


def _has_failed(pairs: Collection[Pair]) -> bool:
    """Return whether a case has no number because launches failed, or no case has one."""
    both = [[*pair.a, *pair.b] for pair in pairs]
    return any(not _good(of) and failures(of) for of in both) or not any(map(_good, both))


def _not_comparable(pair: Pair) -> Found | None:
    """Return why the numbers of both sides are not compared: a launch failed in B only, or the work differs."""
    if failures(pair.b) and not failures(pair.a):
        bad = failures(pair.b)
        return Found("broken", f"{len(bad)} of {len(pair.b)} launches failed; {_first_reason(bad)}")
    keys = [{str(row.work_key) for row in _good(side)} for side in pair.sides]
    if keys[0] != keys[1]:
        in_a, in_b = (", ".join(sorted(side)) for side in keys)
        return Found("incomparable", f"other data, or another way of measuring: work_key {in_a} in A, {in_b} in B")
    return None


def _found(pairs: Mapping[Key, Pair], rules: Rules, spreads: Mapping[str, Spread]) -> dict[Key, Found]:
    """Decide on each case, with Holm's correction over all of them, however they were measured.

    If both sides share enough (run, block), each block has a log ratio, in which the machine's drift cancels. Otherwise
    each session is one number; two or more on a side show how far they differ, else that must be known.
    """
    shared = {key: _by_block(pair) for key, pair in pairs.items()}
    blocks = {key: ratios for key, ratios in shared.items() if len(ratios) >= LEAST_BLOCKS}
    rest = {key: pair for key, pair in pairs.items() if key not in blocks}
    changes = {
        key: _change(_sessions(pair.a), _sessions(pair.b), spreads.get(str(pair.a[0].case_id)))
        for key, pair in rest.items()
    }
    known = {key: change for key, change in changes.items() if change is not None}
    unknown = {key: _unknown_spread(pair, rules, len(pairs)) for key, pair in rest.items() if key not in known}
    paired = compared(blocks, rules, [change.p for change in known.values()])
    return paired | judged(known, rules, [p_of(ratios) for ratios in blocks.values()]) | unknown


# -- measured in the same blocks -----------------------------------------------------------------------------------


def _by_block(pair: Pair) -> list[float]:
    """Return the log ratio, B over A, of each block of a run that both sides share."""

    def blocks(rows: Sequence[LaunchRow]) -> dict[Key, list[float]]:
        found: dict[Key, list[float]] = defaultdict(list)
        for row in _good(rows):
            found[row.run_id, row.block].append(log_rate(row))
        return found

    in_a, in_b = map(blocks, pair.sides)
    return [fmean(in_b[block]) - fmean(logs) for block, logs in in_a.items() if block in in_b and pair.shared]


# -- measured in sessions of their own -----------------------------------------------------------------------------


def _sessions(rows: Sequence[LaunchRow]) -> list[list[float]]:
    """Return the logs of throughput of each run. A resumed run counts as one."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in _good(rows):
        found[str(row.run_id)].append(log_rate(row))
    return list(found.values())


def _change(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], spread: Spread | None) -> Change | None:
    """Return the change from the medians of the sessions' launches; None if the spread of sessions is unknown.

    With several sessions on both sides it uses Welch's statistic with the degrees of freedom of the smaller side (with
    Welch's own, 2 sessions against 20 give seven times too many alarms). With one on a side it uses the known spread.
    """
    sides, count = [[median(logs) for logs in side] for side in (a, b)], len(a) + len(b)
    change = fmean(sides[1]) - fmean(sides[0])
    if min(map(len, sides)) > 1:
        error = math.sqrt(sum(variance(side) / len(side) for side in sides))
        return Change(change, error, min(map(len, sides)) - 1, count, f"by {len(a)} and {len(b)} sessions")
    if spread is None:
        return None
    error = math.hypot(spread.sessions * _widening(a, b), spread.launches * math.sqrt(_of_medians(a) + _of_medians(b)))
    return Change(change, error, spread.freedom, count, f"by a session spread of {spread.sessions:.2%}")


def _of_medians(sessions: Sequence[Sequence[float]]) -> float:
    """Return the variance of the mean of the sessions' medians if launches have variance 1.

    The median of three or more normal values varies by up to pi / 2 times as much as their mean.
    """
    parts = [(math.pi / 2 if len(logs) > 2 else 1.0) / len(logs) for logs in sessions]
    return sum(parts) / len(parts) ** 2


def _widening(a: Sequence[object], b: Sequence[object]) -> float:
    """Return the error of a difference of means if sessions have a deviation of 1."""
    return math.sqrt(1 / len(a) + 1 / len(b))


def _unknown_spread(pair: Pair, rules: Rules, cases: int) -> Found:
    """Return the result if a side has one session and the spread of sessions is unknown.

    It says below which spread the change would be significant, if all of so many cases had that spread.
    """
    a, b = map(_sessions, pair.sides)
    change = fmean(map(median, b)) - fmean(map(median, a))
    said = f"unpaired, {math.expm1(change):+.1%}: how far sessions differ is not known"
    if abs(math.expm1(change)) > rules.floor:
        most = abs(change) / NormalDist().inv_cdf(1 - LEVEL / cases) / _widening(a, b)
        verb = "slower" if change < 0 else "faster"
        said += f"; it is {verb} if their standard deviation is below {math.floor(most * 1e4) / 1e4:.2%}"
    advice = "give --session-spread (bench calibrate shows it), or several runs a side (--by, --run)"
    if shared := len(_by_block(pair)):
        advice = f"{shared} blocks are shared, and {LEAST_BLOCKS} are enough (bench run --launches); else {advice}"
    return Found("inconclusive", f"{said}; {advice}", exp(change))


# -- in words ------------------------------------------------------------------------------------------------------


def _verdict(pair: Pair, found: Found | None, rules: Rules, name: str) -> Verdict:
    a, b = pair.sides
    good_a, good_b = _good(a), _good(b)
    how = "" if found is None else "blocks" if len(_by_block(pair)) >= LEAST_BLOCKS else "unpaired"
    case = CaseRows(a, b, good_a, good_b)
    of_memory = memory(good_a, good_b, rules)
    return case.verdict(name, how, found or _without_numbers(pair), of_memory, len(good_a) + len(good_b))


def _without_numbers(pair: Pair) -> Found:
    a, b = pair.sides
    bad = [*([] if _good(a) else a), *([] if _good(b) else b)]
    said = f"; {_first_reason(bad)}" if bad else ""
    if not a or not b:
        return Found("missing", f"B has no launch of it{said}") if a else Found("new", f"A has no launch of it{said}")
    if _good(a) and _good(b):
        unfit = _not_comparable(pair)
        assert unfit is not None
        return unfit
    if _good(a):
        stopped = all(row.status in ("interrupted", "skipped") for row in b)
        return Found("missing", f"B has no number for it{said}") if stopped else Found("broken", _first_reason(bad))
    return Found("new", f"A failed{said}") if _good(b) else Found("inconclusive", f"both failed{said}")


def _first_reason(bad: Sequence[LaunchRow]) -> str:
    """Return the reason of the first of some launches without a number."""
    return f"{bad[0].status}: {bad[0].reason or 'no throughput'}"


def _notes(verdicts: Iterable[Verdict], apart: bool) -> tuple[str, ...]:
    unpaired = (
        "unpaired: the sides were not measured in turns, so that what changed between their sessions is in the "
        "difference; bench ab measures them in turns"
    )
    several = (
        "a side has launches of several environments or of several versions of the user's files, which are not "
        "combined: each is compared with the same on the other side; --where chooses one (--where torch=…, code_key=…)"
    )
    found = {unpaired: any(one.how == "unpaired" for one in verdicts), several: apart}
    return tuple(note for note, holds in found.items() if holds)
