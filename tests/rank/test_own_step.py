"""The clock of steps of a workload's own, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.messages.rank_record import PARTS
from bench.rank.own_step import CountedContext, PartsClock, StepContext
from workloads.checks import Checked, WorkloadError
from workloads.mlp import MLP


class Spans:
    """A clock whose spans take 1, 2, 3 … ns."""

    def __init__(self) -> None:
        self.marks = 0

    def start(self) -> None:
        self.marks = 0

    def mark(self, part: str = "") -> None:
        self.marks += 1

    def close(self) -> None: ...

    def window_ns(self) -> int:
        return sum(self.parts_ns())

    def waited_ns(self) -> int:
        return 7

    def parts_ns(self) -> list[int]:
        return list(range(1, self.marks + 1))

    def host_ns(self) -> list[int]:
        return [10 * ns for ns in self.parts_ns()]


def test_parts_that_come_several_times_are_summed() -> None:
    clock = PartsClock(Spans())
    clock.start()
    for part in (
        "data_wait",
        "copy",
        "forward",
        "backward",
        "forward",
        "optimizer",
        "forward",
        "backward",
        "optimizer",
    ):
        clock.mark(part)
    clock.end_step()
    clock.mark("data_wait")
    clock.mark("optimizer")
    clock.end_step()
    assert PARTS == ("data_wait", "copy", "forward", "backward", "optimizer")
    assert clock.parts_ns() == [1, 2, 3 + 5 + 7, 4 + 8, 6 + 9, 10, 0, 0, 0, 11]
    assert clock.host_ns() == [10 * ns for ns in clock.parts_ns()]
    assert (sum(clock.parts_ns()), clock.waited_ns()) == (clock.window_ns(), 7)


def changed(**members: Any) -> Checked:
    return Checked("mine.py:Net", type("Net", (MLP,), members)())


@pytest.mark.parametrize("given", [None, 1.5, torch.ones(2)])
def test_a_step_returns_a_loss(given: Any) -> None:
    with pytest.raises(WorkloadError, match=r"mine.py:Net: step\(\) returned"):
        changed(step=lambda self, model, batch, ctx: given).step(None, None, None)


def test_several_models_need_a_step_of_their_own() -> None:
    models = {"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}
    with pytest.raises(WorkloadError, match=r"build\(\) returned a value of type dict; allowed: a torch.nn.Module$"):
        changed(build=lambda self: models).build()
    assert changed(build=lambda self: models, step=lambda *_: None).build() is models
    for wrong in ({}, {"a": 1}):
        with pytest.raises(WorkloadError, match=r"allowed: a torch.nn.Module, or a dictionary of them"):
            changed(build=lambda self, wrong=wrong: wrong, step=lambda *_: None).build()


def test_a_workload_with_a_step_needs_no_loss() -> None:
    members = {name: getattr(MLP, name) for name in ("unit", "batch_size", "build", "samples", "layers", "__init__")}
    with pytest.raises(WorkloadError, match="it lacks loss"):
        Checked("mine.py:Net", type("Net", (), members)())
    assert Checked("mine.py:Net", type("Net", (), {**members, "step": lambda *_: None})()).has_step


def test_the_time_since_the_last_mark_is_the_named_part() -> None:
    turns: list[tuple[str, str]] = []
    training: Any = SimpleNamespace(device=torch.device("cpu"), distributed=False)
    context = StepContext(training, lambda ended, begins: turns.append((ended, begins)))
    context.mark("copy")
    assert turns == [("copy", "forward")]
    with pytest.raises(ValueError, match=r"ctx.mark\('sampling'\): allowed are data_wait, copy, forward"):
        context.mark("sampling")


def test_a_counted_step_stands_for_one_of_several_ranks() -> None:
    weight = nn.Parameter(torch.ones(3))
    context = CountedContext(lambda: [torch.optim.SGD([weight])], 4, torch.device("cpu"))
    assert context.used_ranks is False
    gathered = context.all_gather(2 * weight)
    assert (gathered.tolist(), context.used_ranks) == ([2.0] * 12, True)
    context.backward(gathered.sum())
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0] * 3  # of the rank's own part
    context.update()
    assert (weight.grad, weight.tolist()) == (None, [1.0] * 3)


def test_activation_checkpoint_changes_the_model_that_it_is_given() -> None:
    model = nn.Linear(1, 1)
    for same in (None, model):
        changed(activation_checkpoint=lambda self, model, same=same: same).activation_checkpoint(model)
    for given in (nn.Linear(1, 1), True):
        with pytest.raises(WorkloadError, match=r"mine.py:Net: activation_checkpoint\(\) returned .*; allowed: None"):
            changed(activation_checkpoint=lambda self, model, given=given: given).activation_checkpoint(model)
    with pytest.raises(WorkloadError, match=r"mine.py:Net: activation_checkpoint is a value of type dict"):
        changed(activation_checkpoint={})


def test_optimizers_whose_step_needs_something_are_refused() -> None:
    model = nn.Linear(1, 1)
    sgd = torch.optim.SGD(model.parameters())
    for given, name in (
        (torch.optim.LBFGS(model.parameters()), "LBFGS, whose step\\(\\) needs 'closure'"),
        ((sgd, torch.optim.lr_scheduler.ReduceLROnPlateau(sgd)), "ReduceLROnPlateau, whose step\\(\\) needs 'metrics'"),
    ):
        with pytest.raises(WorkloadError, match=rf"mine.py:Net: optimizers\(\) returned {name}"):
            changed(optimizers=lambda self, model, given=given: given).optimizers(model)
    allowed = [(sgd, torch.optim.lr_scheduler.StepLR(sgd, 1)), torch.optim.Adam(model.parameters(), fused=True)]
    assert len(changed(optimizers=lambda self, model: allowed).optimizers(model)) == 2
    lbfgs = torch.optim.LBFGS(model.parameters())  # a step of its own may give it what it needs
    own = changed(optimizers=lambda self, model: lbfgs, step=lambda *_: None)
    assert own.optimizers(model) == [(lbfgs, None)]
