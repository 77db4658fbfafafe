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


def even(ranks: int, capacities: Sequence[int]) -> list[int]:
    """Return the ranks of each node if all nodes have as many, the first ones one more if it does not divide."""
    each, rest = divmod(ranks, len(capacities))
    found = [each + (node < rest) for node in range(len(capacities))]
    if any(number > capacity for number, capacity in zip(found, capacities, strict=True)):
        raise ValueError(f"{ranks} ranks do not fit evenly into {list(capacities)} places")
    return [number for number in found if number]
