"""Workloads from other packages: timm, torchvision and Hugging Face's transformers. None is needed by the rest."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from workloads.checks import WorkloadError

LEAST_SHARE = 0.3  # of a model's parameters that its blocks have together


def package(name: str, extra: str) -> Any:
    """Return a package; WorkloadError with the way to install it if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise WorkloadError(f"{name} is not installed; run pip install 'stepbench[{extra}]'") from None


def chosen(model: str, known: Sequence[str], where: str) -> str:
    """Return the name of a model; WorkloadError with similar names if there is none."""
    if model in known:
        return model
    similar = get_close_matches(model, known, 5, 0.5)
    hint = f"; similar names: {', '.join(similar)}" if similar else ""
    raise WorkloadError(f"model: {where} has no {model!r}{hint}")


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a model repeats, such as its transformer or residual blocks, in order; may be empty.

    They are the instances of the class with the most instances among those that have a large share of the parameters.
    Modules of ``torch.nn`` itself and sequences of them are too small to be blocks.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    found: dict[type, list[nn.Module]] = {}
    inside: dict[type, set[int]] = {}
    for module in model.modules():
        kind = type(module)
        if kind.__module__.startswith("torch.nn.") or isinstance(module, nn.Sequential) or module is model:
            continue
        if id(module) not in inside.setdefault(kind, set()):
            found.setdefault(kind, []).append(module)
        inside[kind] |= {id(part) for part in module.modules()}
    sizes = Counter({kind: sum(p.numel() for m in some for p in m.parameters()) for kind, some in found.items()})
    large = [kind for kind, size in sizes.items() if size >= LEAST_SHARE * total and len(found[kind]) > 1]
    best = max(large, key=lambda kind: (len(found[kind]), sizes[kind]), default=None)
    return without_shared(found[best], model) if best else []


def without_shared(blocks: Sequence[nn.Module], model: nn.Module) -> list[nn.Module]:
    """Return the blocks without those that share a parameter with the rest of the model: FSDP could not shard them."""
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return [
        block
        for block in blocks
        if all(uses[key] == number for key, number in Counter(map(id, _parameters(block))).items())
    ]


def _parameters(block: nn.Module) -> list[nn.Parameter]:
    return [parameter for _, parameter in block.named_parameters(remove_duplicate=False)]
