"""Trains one more step after the window, for what watches it: it is neither timed nor part of any statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.messages.rank_record import BUBBLE
from bench.rank.build import Training
from bench.rank.own_step import StepContext
from bench.rank.pipeline import Pipeline
from workloads.base import Batch

# What a step does, as ``turn`` is told. Of the micro-batches before the last one, the passes are ``early``.
BETWEEN, FORWARD, BACKWARD, OPTIMIZER, EARLY = "between", "forward", "backward", "optimizer", "early "


class Taken(NamedTuple):
    """A step that was taken: how many numbers its gradients had, and their norm before clipping if that is known."""

    gradients: int
    norm: Tensor | None


def take_step(
    training: Training, turn: Callable[[str], None], batch_came: Callable[[Batch], None] = lambda _: None
) -> Taken:
    """Train a step.

    ``turn`` is called before each of its parts, ``batch_came`` with each batch on the device.
    """
    if training.pipeline:
        return _take_pipeline_step(training, training.pipeline, turn, batch_came)
    context = _Counting(training, turn)
    micro_batches = training.case.micro_batches
    for number in range(1, micro_batches + 1):
        last = number == micro_batches
        context.early = "" if last else EARLY
        turn(BETWEEN)
        batch = training.to_device(next(training.batches))
        batch_came(batch)
        with training.gradient_sync(last):
            turn(context.early + FORWARD)
            if training.workload.has_step:
                context.last = last
                training.workload.step(training.model, batch, context)
            else:
                loss = training.loss(batch)
                turn(context.early + BACKWARD)
                training.backward(loss)
                del loss
    if training.workload.has_step:
        context.end()
        turn(BETWEEN)
        return Taken(context.gradients, None)
    return _updated(training, turn)


def _take_pipeline_step(
    training: Training, pipeline: Pipeline, turn: Callable[[str], None], batch_came: Callable[[Batch], None]
) -> Taken:
    """Train a step of a pipeline. All its passes are those of the last micro-batch, as they follow in any order."""
    turn(BETWEEN)
    batches = [training.to_device(next(training.batches)) for _ in range(training.case.micro_batches)]
    for batch in batches:
        batch_came(batch)
    pipeline.step(batches, lambda part: turn(BETWEEN if part == BUBBLE else part))
    return _updated(training, turn)


def _updated(training: Training, turn: Callable[[str], None]) -> Taken:
    gradients = _numbers(training.model.parameters())
    turn(OPTIMIZER)
    norm = training.update()
    turn(BETWEEN)
    return Taken(gradients, norm)


def _numbers(parameters: Iterable[Tensor]) -> int:
    """Return how many numbers the gradients of some parameters have."""
    return sum(parameter.numel() for parameter in parameters if parameter.grad is not None)


class _Counting(StepContext):
    """Tells which part of a step of the workload's own begins, and counts the gradients that each update receives."""

    def __init__(self, training: Training, turn: Callable[[str], None]) -> None:
        super().__init__(training, lambda _, begins: turn(OPTIMIZER if begins == OPTIMIZER else self.early + begins))
        self.early, self.gradients = "", 0

    def update(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        if self.last:
            for one in self.optimizers if optimizer is None else [optimizer]:
                self.gradients += _numbers(p for group in one.param_groups for p in group["params"])
        super().update(optimizer)
