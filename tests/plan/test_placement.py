"""Which node has which ranks."""

from __future__ import annotations

import re

import pytest

from bench.plan.placement import per_node, placed


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
    assert placed(ranks, places) == expected
    assert sum(expected) == ranks


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="5 ranks do not fit into 4 places"):
        placed(5, [2, 2])


@pytest.mark.parametrize(
    ("ranks", "places", "expected"), [(4, [4, 4], [2, 2]), (3, [1, 2, 8], [1, 1, 1]), (8, [8], [8])]
)
def test_even_ranks_are_on_all_nodes(ranks: int, places: list[int], expected: list[int]) -> None:
    assert placed(ranks, places, even=True) == expected


@pytest.mark.parametrize(
    ("ranks", "places", "why"),
    [
        (3, [4, 4], "3 ranks cannot be divided evenly by 2 nodes"),
        (1, [4, 4], "1 ranks cannot be divided evenly by 2 nodes"),
        (8, [6, 3, 4, 4], None),
        (16, [6, 3, 4, 4], "4 ranks on each node do not fit into nodes that take 6,3,4(x2)"),
        (16, [4, 4], "16 ranks do not fit into 8 places"),
    ],
)
def test_what_cannot_be_divided_evenly(ranks: int, places: list[int], why: str | None) -> None:
    if why is None:
        assert placed(ranks, places, even=True) == [2, 2, 2, 2]
        return
    with pytest.raises(ValueError, match=re.escape(why)):
        placed(ranks, places, even=True)


def test_ranks_of_each_node_are_written_as_slurm_does() -> None:
    # man sbatch, SLURM_TASKS_PER_NODE: "2(x3),1" are the tasks of four nodes
    assert [per_node(ranks) for ranks in ([2, 2, 2, 1], [4], [2, 2], [3, 1], [])] == [
        "2(x3),1",
        "4",
        "2(x2)",
        "3,1",
        "",
    ]
