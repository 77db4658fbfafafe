"""Which node has which ranks of a launch."""

from __future__ import annotations

from collections.abc import Sequence


def packed(ranks: int, capacities: Sequence[int]) -> list[int]:
    """Return the ranks of each node that has any: node 0 is filled first, and no more nodes are used than needed."""
    found: list[int] = []
    for capacity in capacities:
        if ranks <= sum(found):
            break
        found.append(min(capacity, ranks - sum(found)))
    if sum(found) < ranks:
        raise ValueError(f"{ranks} ranks do not fit into {sum(capacities)} places")
    return found
