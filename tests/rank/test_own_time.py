"""The steps that find a rank's own time: which cases take them, how many, and what they wait for."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from made_up_plans import case
from torch.distributed import _functional_collectives as functional

from bench.rank import own_time
from bench.rank.own_time import _Waiting, has_own_steps


@pytest.fixture
def group() -> Iterator[None]:
    """Make this process the only rank of a group over Gloo."""
    limit = datetime.timedelta(seconds=30)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=limit)
    yield
    dist.destroy_process_group()


def training(forward_is_local: bool | None, **axes: Any) -> Any:
    planned = case(**axes)
    return SimpleNamespace(case=planned, distributed=planned.gpus > 1, forward_is_local=forward_is_local, pipeline=None)


@pytest.mark.parametrize(
    ("forward_is_local", "gpus", "in_duet", "expected"),
    [(False, 2, False, True), (True, 2, False, False), (None, 1, False, False), (False, 2, True, False)],
)
def test_they_are_taken_where_the_window_does_not_show_it(
    forward_is_local: bool | None, gpus: int, in_duet: bool, expected: bool
) -> None:
    assert has_own_steps(training(forward_is_local, strategy="fsdp", gpus=gpus), in_duet) is expected


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("window_s", "steps", "expected"),
    [
        (1.0, 100, 30),  # 0.3 s of steps of 10 ms
        (30.0, 100, 10),  # a tenth of the window
        (60.0, 10, 5),  # at least
        (1.0, 1000, 50),  # at most
    ],
)
def test_their_number_is_by_the_length_of_the_window(window_s: float, steps: int, expected: int) -> None:
    here: Any = SimpleNamespace(device=torch.device("cpu"))
    assert own_time._steps(here, int(window_s * 1e9), steps) == expected


@pytest.mark.usefixtures("group")
def test_a_collective_is_done_when_it_returns() -> None:
    synchronized: list[float] = []
    tensor = torch.ones(4)
    with (waiting := _Waiting(lambda: synchronized.append(time.perf_counter()))):
        work = dist.all_reduce(tensor, async_op=True)
        assert work is not None
        assert work.is_completed()
        gathered = torch.empty(4)
        dist.all_gather_into_tensor(gathered, tensor)
        (tensor + 1).sum()
    assert gathered.tolist() == [1.0] * 4
    assert len(synchronized) == 4  # before and after each, and at no other operation
    assert waiting.ns > 0


@pytest.mark.usefixtures("group")
def test_functional_collectives_are_waited_for_as_well() -> None:
    with (waiting := _Waiting(lambda: None)):
        found = functional.all_reduce(torch.ones(4), "sum", dist.group.WORLD)
    assert found.tolist() == [1.0] * 4
    assert waiting.ns > 0
