"""Which node has which ranks of a launch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence


def placed(ranks: int, capacities: Sequence[int], even: bool = False) -> list[int]:
    """Return the ranks of each node that has any.

    Node 0 is filled first, and no more nodes are used than needed; ``even``: all nodes have the same number. Raise
    ValueError, with the reason in words, if that is not possible.
    """
    if sum(capacities) < ranks:
        raise ValueError(f"{ranks} ranks do not fit into {sum(capacities)} places")
    if not even:
        before = [sum(capacities[:number]) for number in range(len(capacities))]
        return [min(own, ranks - taken) for own, taken in zip(capacities, before, strict=True) if taken < ranks]
    own, rest = divmod(ranks, len(capacities))
    if rest:
        raise ValueError(f"{ranks} ranks cannot be divided evenly by {len(capacities)} nodes")
    if own > min(capacities):
        raise ValueError(f"{own} ranks on each node do not fit into nodes that take {per_node(capacities)}")
    return [own] * len(capacities)


def per_node(ranks: Iterable[int]) -> str:
    """Return the number of ranks on each node as Slurm writes it in SLURM_TASKS_PER_NODE: ``2(x3),1``."""
    runs = [(number, len(list(alike))) for number, alike in itertools.groupby(ranks)]
    return ",".join(f"{number}(x{times})" if times > 1 else str(number) for number, times in runs)
