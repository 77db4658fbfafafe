"""Implements ``--batch-size auto``: finds the largest batch that fits, by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bench.machine.preflight import Look
from bench.plan.case import Case
from bench.runner.machine_warnings import ranks_here
from bench.store.columns import LaunchRow

GRAIN = 32  # the answer is exact up to this size, and within 1/32 above
CEILING = 1 << 20
FITS = ("ok", "invalid")  # a loss that is not finite needs no less memory
MEMORY_SHARE = 0.8  # share of the host's free memory; a batch that is expected to need more is not tried


@dataclass(frozen=True)
class Search:
    """The result of a search: ``answer`` is the largest batch that fits or None, ``tried`` has each try's status."""

    answer: int | None
    tried: tuple[tuple[int, str], ...]

    @property
    def words(self) -> str:
        """The tries in words."""
        return ", ".join(f"{batch} {status}" for batch, status in self.tried)


def search(first: int, ceiling: int, attempt: Callable[[int], str]) -> Search:
    """Double from ``first`` until a batch does not fit or ``ceiling`` is reached, then halve the gap.

    ``attempt`` tries a batch and returns a status. If ``first`` runs out of memory, it is halved; if it fails
    otherwise, the search ends. Above a batch that fits, every failure is a limit.
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
    """Return (largest batch that is known to fit or 0, smallest that is known not to fit or None)."""
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


@dataclass
class Probes:
    """An ``attempt``: launches ``case`` with a batch, unless on the CPU it would fill the memory of a host.

    ``looks`` has one for each node.
    """

    case: Case
    launch: Callable[[Case], LaunchRow]
    looks: Sequence[Look]
    grown_mib: dict[int, float] = field(default_factory=dict)  # by batch: growth of a rank's memory

    def __call__(self, batch: int) -> str:
        """Launch with a batch, and return the status."""
        if self.case.device == "cpu" and self._too_much(batch):
            return "not tried (would need most of the host's memory)"
        row = self.launch(replace(self.case, batch_size=batch, auto_batch=False, save_checkpoint="none"))
        if row.rss_growth_mib:
            self.grown_mib[batch] = row.rss_growth_mib
        return str(row.status)

    def _too_much(self, batch: int) -> bool:
        """Return whether a batch would fill the memory of a host, judged by the largest batch so far."""
        smaller = [b for b in self.grown_mib if b < batch]
        if not smaller:
            return False
        of_a_rank = self.grown_mib[max(smaller)] * batch / max(smaller)
        there = [(ranks_here(self.case, look), look.memory_available_mib) for look in self.looks]
        return any(mib is not None and ranks * of_a_rank > MEMORY_SHARE * mib for ranks, mib in there)
