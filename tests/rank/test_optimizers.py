"""The optimizers of --optimizer, their schedules, and those of a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made_up_plans import case
from torch import nn

from bench.errors import UsageError
from bench.plan.optimizers import OPTIMIZERS, optimizer_spec, parse_optimizer
from bench.rank.optimizers import PERIOD, Optimizers, optimizers_of
from workloads.checks import Checked, WorkloadError
from workloads.mlp import MLP

GRADIENT = 0.25


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def updated(model: nn.Module, optimizers: Optimizers, steps: int = 1) -> dict[str, torch.Tensor]:
    """The changes of the parameters in some steps with a constant gradient."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, GRADIENT)
        optimizers.step(torch.amp.GradScaler("cpu", enabled=False))
    assert all(parameter.grad is None for parameter in model.parameters())
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def built_in(model: nn.Module, **axes: Any) -> Optimizers:
    return optimizers_of(Checked("mlp", MLP()), model, case(**axes))


WAYS = [(name, way) for name, one in OPTIMIZERS.items() for way in one.ways]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_every_way_makes_the_same_update(name: str, way: str) -> None:
    changes = []
    for one in (OPTIMIZERS[name].ways[-1], way):
        model = net()
        changes.append(updated(model, built_in(model, optimizer=f"{name}:{one}"), steps=3))
    for parameter, change in changes[0].items():
        torch.testing.assert_close(changes[1][parameter], change, atol=1e-7, rtol=1e-5)
        assert change.abs().min() > 0


def test_first_steps_worked_out_by_hand() -> None:
    """Adam moves by the learning rate; RMSprop's mean of squares is 0.01 g² then; SGD has a weight decay of 1e-4."""
    adam, rms, sgd = net(), net(), net()
    torch.testing.assert_close(updated(adam, built_in(adam, optimizer="adam"))["bias"], torch.full((3,), -1e-4))
    change = updated(rms, built_in(rms, optimizer="rmsprop"))["bias"]
    torch.testing.assert_close(change, torch.full((3,), -1e-4 / 0.1), rtol=1e-4, atol=0)
    start = net().bias.detach()  # type: ignore[union-attr]
    change = updated(sgd, built_in(sgd, optimizer="sgd"))["bias"]
    torch.testing.assert_close(change, -0.01 * (GRADIENT + 1e-4 * start), rtol=1e-4, atol=0)


def test_muon_takes_the_matrices() -> None:
    found = built_in(net(), optimizer="muon").optimizers
    kinds = {type(o).__name__: [p.dim() for group in o.param_groups for p in group["params"]] for o in found}
    assert kinds == {"Muon": [2], "AdamW": [1]}


@pytest.mark.parametrize(("name", "rate"), [("none", 1e-4), ("linear", 1e-4 * 0.55), ("cosine", 1e-4 / 2)])
def test_schedules_halfway(name: str, rate: float) -> None:
    found = built_in(model := net(), lr_scheduler=name)
    for _ in range(PERIOD // 2):
        found.step(torch.amp.GradScaler("cpu", enabled=False))
    assert found.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate, rel=1e-6)
    assert model is not None


@pytest.mark.parametrize(
    ("text", "spec"),
    [("adamw", "adamw"), ("adamw:fused", "adamw"), ("adamw:foreach", "adamw:foreach"), ("sgd:foreach", "sgd")],
)
def test_the_default_way_is_not_said(text: str, spec: str) -> None:
    assert optimizer_spec(text) == spec
    assert parse_optimizer(spec) == parse_optimizer(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adamx", "got 'adamx'; allowed: adamw, sgd, adam, rmsprop, adafactor, muon. Did you mean 'adam' or 'adamw'?"),
        ("muon:fused", "muon: got 'fused'; allowed: for-loop"),
        ("sgd:", "sgd: got ''; allowed: foreach, fused, for-loop"),
    ],
)
def test_other_optimizers_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_optimizer(text)
    assert message in str(error.value)


# -- a workload's own ------------------------------------------------------------------------------------------------


def own(optimizers: Callable[[Any], Any]) -> Checked:
    return Checked("mine.py:Net", type("Net", (MLP,), {"optimizers": lambda self, model: optimizers(model)})())


def one(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1.0)


def with_schedule(model: nn.Module) -> Any:
    optimizer = one(model)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)


@pytest.mark.parametrize(
    ("optimizers", "change"),
    [
        (one, 2 * GRADIENT),
        (lambda model: [one(model)], 2 * GRADIENT),
        (with_schedule, 1.5 * GRADIENT),
        (lambda model: [with_schedule(model), one(model)], 3.5 * GRADIENT),
        (lambda model: (one(model), one(model)), 4 * GRADIENT),
    ],
    ids=["one", "a list", "with a scheduler", "two", "a tuple"],
)
def test_a_workload_may_have_its_own(optimizers: Callable[[Any], Any], change: float) -> None:
    """Two steps, the second with half of the rate where there is a scheduler."""
    model = net()
    found = optimizers_of(own(optimizers), model, case(optimizer=None, lr_scheduler=None))
    torch.testing.assert_close(updated(model, found, steps=2)["bias"], torch.full((3,), -change))


@pytest.mark.parametrize("given", ["adamw", None, [], (1, 2), [nn.Linear(1, 1)]])
def test_what_is_no_optimizer_is_refused(given: Any) -> None:
    with pytest.raises(WorkloadError, match=r"mine.py:Net: optimizers\(\) returned"):
        own(lambda model: given).optimizers(net())
