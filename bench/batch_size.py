"""``--batch-size auto``: the largest batch that fits, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GRAIN = 32  # the answer is exact up to here, and within 1/32 above
CEILING = 1 << 20
FITS = ("ok", "invalid")  # a loss that is not finite needs no less memory


@dataclass(frozen=True)
class Search:
    """``answer`` is the largest batch that fits, None if there is none; ``tried`` has each try and how it ended."""

    answer: int | None
    tried: tuple[tuple[int, str], ...]

    @property
    def words(self) -> str:
        return ", ".join(f"{batch} {status}" for batch, status in self.tried)


def search(first: int, ceiling: int, attempt: Callable[[int], str]) -> Search:
    """Double from ``first`` until something does not fit or ``ceiling`` is reached, then halve the gap.

    ``attempt`` tries a batch and gives a status. Where ``first`` does not fit for want of memory it is halved; if it
    fails otherwise there is nothing to look for. Above a batch that fits, every failure is a limit.
    """
    tried: dict[int, str] = {}

    def fits(batch: int) -> bool:
        tried[batch] = attempt(batch)
        return tried[batch] in FITS

    fit, limit = _bracket(min(first, ceiling), ceiling, fits, tried)
    while fit and limit and limit - fit > max(1, fit // GRAIN):
        middle = (fit + limit) // 2
        fit, limit = (middle, limit) if fits(middle) else (fit, middle)
    return Search(fit or None, tuple(tried.items()))


def _bracket(batch: int, ceiling: int, fits: Callable[[int], bool], tried: dict[int, str]) -> tuple[int, int | None]:
    """(largest that is known to fit or 0, smallest that is known not to or None)."""
    if fits(batch):
        while batch < ceiling:
            larger = min(2 * batch, ceiling)
            if not fits(larger):
                return batch, larger
            batch = larger
        return batch, None
    while batch > 1 and tried[batch] == "oom":
        smaller = batch // 2
        if fits(smaller):
            return smaller, batch
        batch = smaller
    return 0, batch
