"""Which modules multiply float8."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from made_up_plans import case
from torch import nn
from torchao.float8.float8_linear import Float8Linear

from bench.messages.spec import Spec
from bench.rank.build import build
from bench.rank.float8 import to_float8
from bench.rank.observe import observe

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.odd = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 10)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.blocks, self.head = (
            nn.Embedding(8, 32),
            nn.ModuleList([Block(), Block()]),
            nn.Linear(32, 16),
        )


@pytest.mark.parametrize(("precision", "recipe"), [("fp8", "tensorwise"), ("fp8-rowwise", "axiswise")])
def test_linear_modules_of_the_layers_and_no_others(precision: str, recipe: str) -> None:
    model = Net()
    parameters = dict(model.named_parameters())
    to_float8(model, list(model.blocks), precision, CPU)
    converted = {name: part for name, part in model.named_modules() if isinstance(part, Float8Linear)}
    assert list(converted) == ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down"]
    for part in converted.values():
        assert part.config.cast_config_input.scaling_granularity.value == recipe
        assert part.config.emulate
    after = dict(model.named_parameters())
    assert {name: id(one) for name, one in after.items()} == {name: id(one) for name, one in parameters.items()}


def test_the_products_of_a_step_are_seen_in_the_type_that_they_are_computed_in(tmp_path: Path) -> None:
    """On a GPU this is float8. The CPU computes them in float32; attention and the head are in bfloat16."""
    asked = case(workload="gpt:layers=1:width=32:seq=16:heads=2", strategy="single", gpus=1, precision="fp8")
    asked = dataclasses.replace(asked, batch_size=2)
    spec = Spec(
        *(asked, asked.spec.target, asked.spec.options, "resident", 5, 5, 0.0, 60.0, str(tmp_path), str(tmp_path))
    )
    seen, counts = observe(build(spec, [CPU]), counts=True)
    assert seen.matmuls == {"float32": 4, "bfloat16": 2}
    assert counts is not None


@pytest.mark.parametrize(("rows", "pads"), [(16, False), (48, False), (8, True), (197, True)])
def test_rows_that_16_does_not_divide_are_padded(rows: int, pads: bool) -> None:
    model = Net()
    to_float8(model, list(model.blocks), "fp8", CPU, rows)
    assert {part.config.pad_inner_dim for part in model.modules() if isinstance(part, Float8Linear)} == {pads}


def test_a_layer_that_is_a_linear_itself_stays() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    with pytest.raises(RuntimeError, match="--precision fp8: no layer has a Linear whose sizes 16 divides"):
        to_float8(model, list(model), "fp8", CPU)


def test_a_product_is_rounded_to_float8() -> None:
    """By hand: each matrix is scaled so that its largest number is the largest of e4m3, 448, then rounded."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(32, 16, bias=False)))
    weight, x = model[0][0].weight.detach().clone(), torch.randn(8, 32)  # type: ignore[union-attr, operator]
    to_float8(model, list(model), "fp8", CPU)

    def rounded(matrix: torch.Tensor) -> torch.Tensor:
        scale = 448 / matrix.abs().max()
        return (matrix * scale).to(torch.float8_e4m3fn).double() / scale.double()

    exact = x.double() @ weight.double().t()
    by_hand = rounded(x) @ rounded(weight).t()
    found = model(x).double()
    assert (found - by_hand).abs().max() < (exact - by_hand).abs().max() / 4
    assert (found - exact).abs().max() > 1e-3
