"""Batches of any nesting: tensors in tuples, lists, dictionaries, named tuples, dataclasses and their like."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate


def collate(items: Sequence[Any]) -> Any:
    """Return items as one batch, as PyTorch's ``default_collate`` does; dataclasses and None are allowed as well."""
    first = items[0]
    if first is None:
        return None
    parts = _parts(first)
    if parts is None:
        return default_collate(list(items))
    return _with_parts(first, {key: collate([_parts(item)[key] for item in items]) for key in parts})  # type: ignore[index]


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Return the batch with ``function`` of each tensor; everything else, such as a text, is the same object."""
    if isinstance(batch, Tensor):
        return function(batch)
    parts = _parts(batch)
    if parts is None:
        return batch
    return _with_parts(batch, {key: map_tensors(function, part) for key, part in parts.items()})


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif parts := _parts(batch):
        for part in parts.values():
            yield from tensors_of(part)


def first_length(batch: Any) -> int | None:
    """Return the length of the first tensor with dimensions; None without one."""
    return next((tensor.shape[0] for tensor in tensors_of(batch) if tensor.dim()), None)


def _parts(node: Any) -> dict[Any, Any] | None:
    """Return the parts of a container by key or place; None for anything else."""
    if isinstance(node, Mapping):
        return dict(node.items())
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return dict(enumerate(node)) if isinstance(node, (list, tuple)) else None


def _with_parts(node: Any, parts: Mapping[Any, Any]) -> Any:
    """Return a container of the same kind with other parts."""
    if type(node) in (dict, list, tuple):
        return dict(parts) if isinstance(node, dict) else type(node)(parts.values())
    if isinstance(node, tuple):
        return type(node)(*parts.values())  # a named tuple
    if isinstance(node, list):
        return type(node)(parts.values())
    found = copy.copy(node)
    for key, part in parts.items():
        if isinstance(node, Mapping):
            found[key] = part
        else:
            object.__setattr__(found, key, part)  # a dataclass may be frozen
    return found
