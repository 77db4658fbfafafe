"""Each rank's own time: what a step takes the rank itself, without its waits for other ranks."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.messages.rank_record import BUBBLE, Measurement, RankRecord
from bench.store.columns import AFTER_WINDOW, IN_WINDOW, Row

MOST_VALUES = 100  # in a cell of own_steps_ms

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OwnTimes:
    """The own times of a launch: ``ns`` of each of ``ranks`` in each step, (ranks, steps).

    ``method`` is IN_WINDOW, the time before a rank first waits for another, or AFTER_WINDOW, the time outside of
    collectives in a few steps more.
    """

    method: str
    ranks: Sequence[int]
    ns: Array

    @property
    def slowest(self) -> int:
        """The rank with the most own time over all steps."""
        return self.ranks[int(self.ns.sum(axis=1).argmax())]

    @functools.cached_property
    def _last(self) -> NDArray[np.int64]:
        """The position of the rank with the most own time, in each step."""
        last: NDArray[np.int64] = self.ns.argmax(axis=0)
        return last

    def of_rank(self, rank: int) -> Row:
        """Return the columns of a rank."""
        if rank not in self.ranks:
            return {}
        at = self.ranks.index(rank)
        ms = self.ns[at] / 1e6
        mean = float(ms.mean())
        return {
            "own_method": self.method,
            "own_ms": mean,
            "own_cv": float(ms.std(ddof=1)) / mean if len(ms) > 1 and mean else None,
            "last_share": float((self._last == at).mean()),
            "own_steps_ms": ";".join(f"{part.mean():.4g}" for part in _groups(ms)),
        }


def own_times(records: Mapping[int, RankRecord]) -> OwnTimes | None:
    """Return the own times of a launch's ranks; None if they are not known, or if there is one rank."""
    known = {rank: record for rank, record in sorted(records.items()) if record.measurement}
    measured = [record.measurement for record in known.values() if record.measurement]
    if len(known) < 2:
        return None
    after = [record.own_ns for record in known.values()]
    if after[0] and all(len(one) == len(after[0]) for one in after):
        return OwnTimes(AFTER_WINDOW, list(known), np.array(after, dtype=np.float64))
    ns = own_time_ns(measured)
    # In the first case all but the wait for data is common to all ranks; stages of a pipeline have different work.
    if ns is None or measured[0].forward_is_local is False:
        return None
    return OwnTimes(IN_WINDOW, list(known), ns)


def own_time_ns(ranks: Sequence[Measurement]) -> Array | None:
    """Return each rank's time before it first waits for another, (ranks, steps); None if there is no other.

    It has the wait and the copy, and the forward pass if it is free of collectives. Of a script it has the wait, and
    what comes before it. Of a rank of a pipeline it has all but the wait for other stages.
    """
    if "outside" in ranks[0].parts_ns:
        parts = ["data_wait", "outside"]
        if len(ranks) == 1:
            return None
    elif BUBBLE in ranks[0].parts_ns:
        parts = [part for part in ranks[0].parts_ns if part != BUBBLE]
    elif ranks[0].forward_is_local is None:
        return None
    else:
        parts = ["data_wait", "copy", *(["forward"] if ranks[0].forward_is_local else [])]
    return np.array([np.sum([m.parts_ns[part] for part in parts], axis=0) for m in ranks], dtype=np.float64)


def critical_rank(ranks: Sequence[Measurement]) -> int:
    """Return the rank that the others wait for: the one with most own time over the window."""
    own = own_time_ns(ranks)
    return 0 if own is None else int(own.sum(axis=1).argmax())


def _groups(steps: Array) -> list[Array]:
    """Return the steps one by one, or as MOST_VALUES groups of consecutive ones."""
    return np.array_split(steps, min(len(steps), MOST_VALUES))
