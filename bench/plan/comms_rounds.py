"""The rounds of a launch of ``bench comms``: what its ranks measure, one after the other.

Ranks and ``bench`` compute the same rounds from the same request, so that neither has to tell the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.plan.comms import BARRIER, COLLECTIVES, DTYPES, CommsSpec

MOST_PAIRED = 64  # Ranks, whose pairs are 2,016.
Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Round:
    """One collective of one size and type, in process groups that work at the same time.

    ``group`` is one of GROUPS, ``groups`` has the ranks of each. A barrier has no ``dtype`` and ``size`` 0.
    """

    group: str
    groups: tuple[Ranks, ...]
    collective: str
    dtype: str
    size: int

    def of(self, rank: int) -> Ranks | None:
        """Return the process group of a rank; None if the rank waits."""
        return next((ranks for ranks in self.groups if rank in ranks), None)


def rounds(spec: CommsSpec, nodes: Sequence[int]) -> Iterator[Round]:
    """Yield the rounds in their order; ``nodes`` has the node of each rank."""
    for group in spec.groups:
        for groups in groups_at_once(group, nodes):
            for collective in spec.collectives:
                if collective == BARRIER:
                    yield Round(group, groups, collective, "", 0)
                    continue
                for dtype, size in itertools.product(spec.dtypes, spec.sizes):
                    yield Round(group, groups, collective, dtype, size)


def groups_at_once(group: str, nodes: Sequence[int]) -> list[tuple[Ranks, ...]]:
    """Return the process groups of a kind: those in one tuple work at the same time. Each has two ranks or more."""
    of_node: dict[int, list[int]] = {}
    for rank, node in enumerate(nodes):
        of_node.setdefault(node, []).append(rank)
    if group == "all":
        found: list[Ranks] = [tuple(range(len(nodes)))]
    elif group == "node":
        found = [tuple(ranks) for ranks in of_node.values()]
    elif group == "across":
        by_local_rank = itertools.zip_longest(*of_node.values())
        found = [tuple(rank for rank in ranks if rank is not None) for ranks in by_local_rank]
    else:
        return [(pair,) for pair in itertools.combinations(range(len(nodes)), 2)] if len(nodes) <= MOST_PAIRED else []
    there = tuple(ranks for ranks in found if len(ranks) > 1)
    return [there] if there else []


def why_none(group: str, nodes: Sequence[int]) -> str:
    """Return in words why there are no process groups of a kind."""
    if group == "across":
        return "all ranks are on one node; add --nnodes"
    if group == "pairs" and len(nodes) > MOST_PAIRED:
        return f"{len(nodes)} ranks have {len(nodes) * (len(nodes) - 1) // 2:,} pairs; at most {MOST_PAIRED} ranks"
    return "no node has two ranks; give a larger --nproc-per-node or --gpus"


def message_bytes(collective: str, dtype: str, size: int, ranks: int) -> int:
    """Return the bytes of the message: ``size``, rounded down to whole numbers, or to as many for each rank."""
    if collective == BARRIER:
        return 0
    unit = DTYPES[dtype] * (ranks if COLLECTIVES[collective].parts else 1)
    return size // unit * unit


def ranks_text(ranks: Sequence[int]) -> str:
    """Return ranks in short: ``0-3`` for 0, 1, 2 and 3, ``0,4`` for two that do not follow each other."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][1] == rank - 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
