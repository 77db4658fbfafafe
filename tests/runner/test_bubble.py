"""The bubble of a pipeline, with times that are worked out in the head."""

from __future__ import annotations

import pytest
from made_up_measurements import rank
from made_up_plans import case

from bench.messages.rank_record import Measurement
from bench.runner.bubble import bubble
from bench.runner.own_time import critical_rank


def waiting(bubble_ms: int, forward: int, backward: int) -> Measurement:
    parts = {"forward": forward, "backward": backward, "bubble": bubble_ms}
    return rank([100] * 12, parts_ms=parts, forward_is_local=False)


def test_the_share_of_each_rank_counts_as_much() -> None:
    asked = case(strategy="ddp:pp=2", gpus=2, grad_accum_steps=4)
    found = bubble(asked, [waiting(20, 20, 40), waiting(10, 30, 60)])  # 20 of 80, and 10 of 100
    assert found == {"bubble_share": pytest.approx(0.175), "bubble_share_ideal": pytest.approx(1 / 5)}


@pytest.mark.parametrize(
    ("strategy", "gpus", "micro_batches", "ideal"),
    [
        ("ddp:pp=2", 2, 1, 1 / 2),
        ("ddp:pp=4", 4, 4, 3 / 7),
        ("ddp:pp=4:schedule=1f1b", 8, 8, 3 / 11),
        ("fsdp:pp=4:schedule=interleaved", 8, 8, 3 / 19),
    ],
)
def test_equal_stages(strategy: str, gpus: int, micro_batches: int, ideal: float) -> None:
    asked = case(strategy=strategy, gpus=gpus, grad_accum_steps=micro_batches)
    found = bubble(asked, [waiting(10, 10, 10)] * gpus)
    assert found["bubble_share_ideal"] == pytest.approx(ideal)
    assert found["bubble_share"] == pytest.approx(1 / 3)


def test_without_a_pipeline_there_is_none() -> None:
    assert bubble(case(strategy="ddp", gpus=2), [rank([10] * 12)] * 2) == {}


def test_the_busiest_stage_is_the_critical_rank() -> None:
    assert critical_rank([waiting(60, 10, 20), waiting(10, 30, 60), waiting(40, 20, 30)]) == 1
