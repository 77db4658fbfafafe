"""Which node has which ranks."""

from __future__ import annotations

import pytest

from bench.nodes.placement import packed


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


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="5 ranks do not fit into 4 places"):
        packed(5, [2, 2])
