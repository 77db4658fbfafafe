"""Which node has which ranks."""

from __future__ import annotations

import pytest

from bench.nodes.placement import even, packed


@pytest.mark.parametrize(
    ("ranks", "places", "expected"),
    [
        (1, [2, 2], [1]),
        (2, [2, 2], [2]),
        (3, [2, 2], [2, 1]),
        (4, [2, 2], [2, 2]),
        (5, [4, 2, 8], [4, 1]),
        (9, [4, 2, 8], [4, 2, 3]),
        (8, [8], [8]),
    ],
)
def test_node_0_is_filled_first(ranks: int, places: list[int], expected: list[int]) -> None:
    assert packed(ranks, places) == expected
    assert sum(expected) == ranks


@pytest.mark.parametrize(
    ("ranks", "places", "expected"),
    [(4, [4, 4], [2, 2]), (3, [4, 4], [2, 1]), (1, [4, 4], [1]), (7, [4, 4, 4], [3, 2, 2])],
)
def test_all_nodes_have_as_many(ranks: int, places: list[int], expected: list[int]) -> None:
    assert even(ranks, places) == expected


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="5 ranks do not fit into 4 places"):
        packed(5, [2, 2])
    with pytest.raises(ValueError, match="6 ranks do not fit evenly"):
        even(6, [4, 2])
