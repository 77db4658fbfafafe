"""Linear modules that multiply in float8, by torchao."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from bench.plan.options import FLOAT8

RECIPES = dict(zip(FLOAT8, ("tensorwise", "rowwise"), strict=True))  # By the values of --precision.
MULTIPLE = 16  # The matrix products of float8 need sizes that this divides (torchao, float8/README.md).


def to_float8(
    model: nn.Module, layers: Sequence[nn.Module], precision: str, device: torch.device, rows: int = MULTIPLE
) -> None:
    """Make Linear modules inside of the layers multiply float8; what is outside, as the head of a model, stays.

    The weights stay the same parameters. The number of rows that modules get is a multiple of ``rows``; if 16 does not
    divide it, they are padded, which takes a copy. The CPU, which has no such products, computes the same numbers in
    another type. Raise RuntimeError if there is no module that can.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    recipe = Float8LinearConfig.from_recipe_name(RECIPES[precision])
    config = dataclasses.replace(recipe, emulate=device.type == "cpu", pad_inner_dim=rows % MULTIPLE > 0)
    inside = {id(part) for layer in layers for part in layer.modules() if part is not layer}
    chosen = {id(part) for part in model.modules() if id(part) in inside and _fits(part)}
    if not chosen:
        raise RuntimeError(f"--precision {precision}: no layer has a Linear whose sizes {MULTIPLE} divides")
    convert_to_float8_training(model, module_filter_fn=lambda part, _: id(part) in chosen, config=config)


def _fits(part: nn.Module) -> bool:
    return type(part) is nn.Linear and part.in_features % MULTIPLE == 0 and part.out_features % MULTIPLE == 0
