"""What is refused of a workload with all members: hooks that are never called, and invalid layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from workloads.base import load
from workloads.checks import NOT_CALLED, Checked, WorkloadError

PLAIN = """
import torch
from torch import nn


class Net:
    unit, batch_size = "samples", 2

    def build(self):
        return nn.Linear(2, 1)

    def loss(self, model, batch):
        return model(batch[0]).sum()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.zeros(4, 2))

    def layers(self, model):
        return []
"""


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (
            "def optimizer(self, parameters): ...",
            "has a method optimizer, which bench does not use: write optimizers(model)",
        ),
        ("optimizer = torch.optim.SGD", "has a method optimizer,"),
        ("optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])", "has an attribute optimizer,"),
        (
            "def configure_optimizers(self): ...",
            "configure_optimizers, which bench does not use: write optimizers(model)",
        ),
        (
            "lr_scheduler = staticmethod(lambda step: 0.1)",
            "lr_scheduler, which bench does not use: optimizers(model) may return schedulers",
        ),
        ("def training_step(self, batch): ...", "training_step, which bench does not use: a step is loss"),
        ("collate = list", "collate, which bench does not use: a method that puts items together is named collate_fn"),
    ],
)
def test_a_member_that_nothing_would_call_is_refused(tmp_path: Path, member: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(f"{PLAIN}\n    {member}\n")
    with pytest.raises(WorkloadError, match="remove or rename it") as refused:
        load(f"{tmp_path}/mine.py:Net", {})
    assert said in str(refused.value)


def test_values_of_such_names_pass(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{PLAIN}\n    step, sampler, optimizer, collate = 3, 'random', 'sgd', None\n")
    load(f"{tmp_path}/mine.py:Net", {})
    assert {"optimizer", "configure_optimizers", "scheduler", "training_step", "collate"} <= set(NOT_CALLED)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])


def checked(layers: Callable[[Any], object]) -> Checked:
    class Net:
        unit, batch_size = "samples", 2
        build = loss = samples = print

        def layers(self, model: nn.Module) -> object:
            return layers(model)

    return Checked("mine.py:Net", Net())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (lambda model: [model.blocks[0], Block()], r"names a Block \(item 1\) that is not a module of the model"),
        (lambda model: Model().blocks, "names a Block .item 0. that is not a module"),
        (lambda model: [next(model.parameters())], "returned a value of type list"),
        (lambda model: ["blocks.0"], "returned .'blocks.0'.; allowed: a list of modules"),
        (lambda model: [model.blocks[1], model.blocks[1]], r"names blocks.1 twice \(items 0 and 1\)"),
        (lambda model: [model.blocks[0].inner, *model.blocks], "blocks.0.inner, which is inside blocks.0"),
        (lambda model: [*model.blocks, model], "names blocks.0, which is inside the whole model"),
        (lambda model: None, "layers.. returned None"),
    ],
)
def test_layers_that_are_none_are_refused(layers: Callable[[Any], object], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        checked(layers).layers(Model())


@pytest.mark.parametrize(
    "layers", [lambda model: [], lambda model: model.blocks, lambda model: iter(model.blocks), lambda model: [model]]
)
def test_layers_of_the_model_pass(layers: Callable[[Any], Sequence[nn.Module]]) -> None:
    model = Model()
    assert checked(layers).layers(model) == list(layers(model))


def test_a_model_that_is_the_only_layer_is_sharded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from made_up_plans import case

    from bench.strategies import fsdp

    sharded: list[nn.Module] = []
    monkeypatch.setattr(fsdp, "fully_shard", lambda part, **_: sharded.append(part))
    model = Model()
    fsdp.apply(model, [model], None, case(strategy="fsdp"), torch.device("cpu"))
    assert sharded == [model]
