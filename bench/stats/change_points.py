"""Change points: where a series of sessions takes a step. They are advice, never a verdict.

A series is cut where it differs most, and the cut is compared with those of the same sessions in random order. Sessions
that resemble their neighbours look like steps, so the figure is made smaller by what a session may keep of the one
before it. ``docs/history.md`` says how often a step is seen where there is none, and which steps are found.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

LEVEL = 0.05  # Of all pages without a change, at most this share has a change point.
LEAST = 10  # Sessions that a series needs.
EDGE = 3  # Sessions on each side of a change point.
EXACT = 5  # Sessions in which all launches must be equal for a figure, unless it is a count, to be without noise.
FLOOR = math.log1p(0.01)  # A smaller change of a logarithm is of no interest.
CLIP = 3.0  # Robust deviations from the median, beyond which sessions are clipped.
ENOUGH = 10  # Random orders with a larger figure, after which no more are drawn (Besag & Clifford 1991).
BATCH, MOST = 500, 20_000  # Random orders at once, and in all, unless the level needs more.
BOUND, LARGEST_RHO = 3.0, 0.95  # Standard errors that are added to the correlation of neighbours, and its bound.

Floats = NDArray[np.floating]


class Found(NamedTuple):
    """A change point.

    ``at``: the first session after it. ``before`` and ``after``: medians of the sessions up to the neighbouring change
    points. ``p``: how often sessions in random order look as different, None for an exact one. ``kind``: ``step``;
    ``drift`` if a straight line describes the sessions better, and then ``at`` is the last one; ``exact`` if all
    launches of each session are equal.
    """

    at: int
    before: float
    after: float
    p: float | None
    kind: str


def of_series(
    series: Sequence[Sequence[float]], floors: Sequence[float] = (), level: float = LEVEL
) -> list[list[Found]]:
    """Return the change points of each series of one page, in their order.

    ``level`` is shared by all series that have LEAST sessions or more. ``floors``: for each series the size up to which
    changes are left out, by default 0.
    """
    every = [np.asarray(values, float) for values in series]
    share = level / max(sum(len(values) >= LEAST for values in every), 1)
    return [
        _with_levels(values, list(_search(values, share, 0)), floor)
        for values, floor in zip(every, floors or [0.0] * len(every), strict=True)
    ]


def exact(sessions: Sequence[Sequence[float]], is_count: bool) -> list[Found] | None:
    """Return the change points of a figure without noise, None if it has noise.

    It has none if all launches of every session are equal, and if it seldom changes from session to session. Unless it
    is a count, equal launches may be a coincidence: that takes EXACT sessions with two launches or more, and changes of
    up to FLOOR are left out.
    """
    few = len(sessions) < EXACT or any(len(launches) < 2 for launches in sessions)
    if any(len(set(launches)) != 1 for launches in sessions) or (few and not is_count):
        return None
    values = [launches[0] for launches in sessions]
    places = [at for at in range(1, len(values)) if values[at] != values[at - 1]]
    if len(places) > 1 + len(values) // 10:
        return None
    found = [Found(at, values[at - 1], values[at], None, "exact") for at in places]
    return [one for one in found if is_count or abs(one.after - one.before) > math.expm1(FLOOR) * abs(one.before)]


# -- the search ----------------------------------------------------------------------------------------------------


def _search(values: Floats, level: float, begin: int) -> Iterator[tuple[int, float, str]]:
    """Yield place, p and kind of change points in their order: cut, and search both parts with shares of ``level``."""
    count = len(values)
    if count < LEAST:
        return
    scores = scored(values)
    if not scores.any():
        return
    p = p_value(scores, level)
    if p > level:
        return
    at = _place(values)
    if _is_line(scores, at):
        yield begin + count - 1, p, "drift"
        return
    yield from _search(values[:at], level * at / count, begin)
    yield begin + at, p, "step"
    yield from _search(values[at:], level * (count - at) / count, begin + at)


def _place(values: Floats) -> int:
    """Return the cut whose sides are closest to their medians, by absolute deviations of the unclipped values."""

    def away(part: Floats) -> float:
        return float(np.abs(part - np.median(part)).sum())

    return min(range(EDGE, len(values) - EDGE + 1), key=lambda at: away(values[:at]) + away(values[at:]))


def _is_line(scores: Floats, at: int) -> bool:
    """Return whether a straight line is closer to the scores than two levels are."""
    place = np.arange(len(scores)) - (len(scores) - 1) / 2
    line = place * (place @ scores) / (place @ place)
    levels = np.where(np.arange(len(scores)) < at, scores[:at].mean(), scores[at:].mean())
    return bool(((scores - line) ** 2).sum() < ((scores - levels) ** 2).sum())


def _with_levels(values: Floats, found: Sequence[tuple[int, float, str]], floor: float) -> list[Found]:
    """Return the change points with the medians on both sides, without those up to the floor."""
    while True:
        ends = [0, *(at for at, _, kind in found if kind == "step"), len(values)]
        points = [_leveled(values, one, ends) for one in found]
        small = [n for n, one in enumerate(points) if abs(one.after - one.before) <= floor]
        if not small:
            return points
        smallest = min(small, key=lambda n: abs(points[n].after - points[n].before))
        found = [one for n, one in enumerate(found) if n != smallest]  # Its neighbours now have longer levels.


def _leveled(values: Floats, one: tuple[int, float, str], ends: Sequence[int]) -> Found:
    at, p, kind = one
    if kind == "step":
        place = ends.index(at)
        before, after = (float(np.median(values[ends[n] : ends[n + 1]])) for n in (place - 1, place))
    else:  # The ends of a line through the sessions of the drift, by the medians of their thirds.
        begin = max(end for end in ends if end <= at)
        part = values[begin : at + 1]
        third = len(part) // 3
        slope = (np.median(part[-third:]) - np.median(part[:third])) / (len(part) - third)
        middle, half = float(np.median(part)), float(slope) * (len(part) - 1) / 2
        before, after = middle - half, middle + half
    return Found(at, before, after, p, kind)


# -- the test ------------------------------------------------------------------------------------------------------


def scored(values: Floats) -> Floats:
    """Return deviations from the median, clipped at CLIP robust deviations, with mean 0.

    If more than half of the values are equal, return their ranks, as there is no robust deviation.
    """
    away = values - np.median(values)
    deviation = 1.4826 * np.median(np.abs(away))
    scores = np.clip(away, -CLIP * deviation, CLIP * deviation) if deviation else np.asarray(rankdata(values), float)
    return np.asarray(scores - scores.mean())


def statistic(scores: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the largest t of all cuts of each row, made smaller for autocorrelation, and its place.

    t compares the means of both sides. It is multiplied by √((1 - r) / (1 + r)), where r bounds the correlation of
    neighbours from above: D2 / D1 - 1 + BOUND / √n, with the mean squared differences of sessions at distances of two
    and of one, after the means are taken out; other steps have little effect on them.
    """
    count = scores.shape[-1]
    cuts = np.arange(EDGE, count - EDGE + 1)
    sums = np.cumsum(scores, axis=-1)[..., cuts - 1]
    between = sums**2 * count / (cuts * (count - cuts))
    total = (scores**2).sum(axis=-1)
    place = between.argmax(axis=-1)[..., None]
    at, left = cuts[place], np.take_along_axis(sums, place, -1)
    within = np.maximum(total - np.take_along_axis(between, place, -1)[..., 0], 1e-12 * total)
    rest = scores - np.where(np.arange(count) < at, left / at, -left / (count - at))
    one, two = (((rest[..., far:] - rest[..., :-far]) ** 2).mean(axis=-1) for far in (1, 2))
    rho = np.clip(two / np.maximum(one, 1e-12 * total) - 1 + BOUND / math.sqrt(count), 0, LARGEST_RHO)
    return np.sqrt((total - within) / within * (count - 2) * (1 - rho) / (1 + rho)), at[..., 0]


def p_value(scores: Floats, level: float) -> float:
    """Return the share of random orders of the scores whose statistic is as large; the orders are always the same.

    As many are drawn as ``level`` needs, and fewer if ENOUGH of them are as large.
    """
    scores = scores.astype("float32")
    seen = float(statistic(scores[None])[0][0]) * (1 - 1e-5)
    most = max(min(math.ceil(ENOUGH / level), MOST), math.ceil(1 / level))
    larger = drawn = 0
    for batch in itertools.count():
        orders = scores[_orders(len(scores), batch)]
        hits = np.flatnonzero(statistic(orders)[0] >= seen)
        if larger + len(hits) >= ENOUGH:
            return ENOUGH / (drawn + int(hits[ENOUGH - larger - 1]) + 1)
        larger, drawn = larger + len(hits), drawn + len(orders)
        if drawn >= most:
            break
    return (larger + 1) / (drawn + 1)


@functools.lru_cache(128)
def _orders(count: int, batch: int) -> NDArray[np.int32]:
    """Return BATCH random orders of so many sessions, the first batch fewer, as most series end there."""
    rows = BATCH if batch else BATCH // 5
    random = np.random.default_rng([count, batch])
    return random.permuted(np.broadcast_to(np.arange(count, dtype="int32"), (rows, count)), axis=1)
