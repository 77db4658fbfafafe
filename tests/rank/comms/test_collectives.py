"""The values that results are checked against, and how a wrong one is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from bench.plan.comms import DTYPES, parse_comms
from bench.rank.comms.collectives import CHUNK, Expected, Operation, clear, fill, is_correct, make
from bench.rank.comms.timing import iterations, timed

CPU = torch.device("cpu")


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def holding(values: torch.Tensor, expected: list[Expected]) -> Operation:
    return Operation(lambda: None, [], values, expected)


def test_values_differ_by_place_and_rank() -> None:
    """(i mod 5 + r) mod 3, by hand."""
    message = torch.zeros(7)
    operation = Operation(lambda: None, [message], None, [])
    fill(operation, 0)
    assert message.tolist() == [0, 1, 2, 0, 1, 0, 1]
    fill(operation, 1)
    assert message.tolist() == [1, 2, 0, 1, 2, 1, 2]
    clear(operation)
    assert not message.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_ranks_are_exact_in_every_type(dtype: str) -> None:
    """Over ranks 0 and 1 element i is the sum of both lists above."""
    right = torch.tensor([1, 3, 2, 1, 3, 1, 3]).to(getattr(torch, dtype))
    assert is_correct(holding(right, [Expected([0, 1])])) is True
    right[6] += 1
    assert is_correct(holding(right, [Expected([0, 1])])) is False


def test_a_part_begins_where_its_rank_says() -> None:
    """Elements 2 and 3 of ranks 1 and 0: an all-gather whose parts came in the wrong order is wrong."""
    parts = torch.tensor([0.0, 1.0, 2.0, 0.0])
    assert is_correct(holding(parts, [Expected([1], 2), Expected([0], 2)])) is True
    assert is_correct(holding(parts, [Expected([0], 2), Expected([1], 2)])) is False


def test_long_messages_are_checked_to_their_end() -> None:
    message = torch.zeros(CHUNK + 3)
    operation = Operation(lambda: None, [message], message, [Expected([2])])
    fill(operation, 2)
    assert is_correct(operation) is True
    message[-1] += 1
    assert is_correct(operation) is False


def test_sums_of_many_ranks_may_be_rounded_in_short_types() -> None:
    """bfloat16 has eight binary digits: whole numbers above 256 are rounded."""
    ranks = range(600)  # element 0 is 0 + 1 + 2, 200 times
    assert is_correct(holding(torch.tensor([602.0], dtype=torch.bfloat16), [Expected(ranks)])) is True
    assert is_correct(holding(torch.tensor([602.0]), [Expected(ranks)])) is False


@pytest.mark.parametrize(
    "collective", ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "barrier"]
)
def test_collectives_of_one_rank(alone: None, collective: str) -> None:
    assert dist.group.WORLD is not None
    operation = make(collective, "float32", 40, [0], dist.group.WORLD, CPU)
    fill(operation, 0)
    operation.call()
    assert is_correct(operation) is (None if collective == "barrier" else True)


@pytest.mark.parametrize(
    ("options", "once_s", "number"),
    [
        ("", 0.001, 20),
        ("", 0.25, 8),  # 2 s
        ("", 60.0, 3),
        (":max_seconds=0", 60.0, 20),
        (":max_seconds=0.5:iters=100", 0.01, 50),
    ],
)
def test_as_many_iterations_as_fit(options: str, once_s: float, number: int) -> None:
    assert iterations(parse_comms(f"comms{options}")[1], once_s * 1e9) == number


def test_each_call_has_a_time() -> None:
    calls: list[int] = []
    found = timed(lambda: calls.append(1), 5, CPU)
    assert (len(calls), len(found)) == (5, 5)
    assert min(found) > 0
