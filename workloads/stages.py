"""Cuts a model into the stages of a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

from torch import nn


def stages_of(
    model: nn.Module, count: int, blocks: str, first: Collection[str], last: Collection[str]
) -> list[nn.Module]:
    """Return a model as ``count`` stages of as many blocks each, as far as that is possible.

    ``blocks`` is the name of the module whose children are the blocks; ``first`` and ``last`` are names of modules or
    parameters that only the first stage has, or only the last one. A stage is a copy of the model with the same
    parameters under the same names, in which all that belongs to other stages is None: the model's ``forward`` has to
    leave that out.
    """
    names = [f"{blocks}.{name}" for name, _ in model.get_submodule(blocks).named_children()]
    stages = []
    for number in range(count):
        own = names[len(names) * number // count : len(names) * (number + 1) // count]
        without = [name for name in names if name not in own]
        without += [] if number == 0 else first
        without += [] if number == count - 1 else last
        stages.append(_copy_without(model, without))
    return stages


def _copy_without(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Return a copy of a model that shares its parameters and buffers, without modules or parameters of these names."""
    shared = {id(one): one for one in (*model.parameters(), *model.buffers())}
    found: nn.Module = copy.deepcopy(model, shared)
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(found.get_submodule(parent), child, None)
    return found
