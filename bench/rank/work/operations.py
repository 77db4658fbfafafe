"""Counts each operation of a step, by its name, type and part of the step."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.messages.counts import CountLine
from bench.rank.flops import FlopCounter
from bench.rank.private import OpOverload, tree_leaves
from bench.rank.work.collectives import Collectives
from bench.rank.work.live_memory import LiveMemory

# Operations that return a view although their schema does not say so, and those that only allocate.
VIEWS = {"aten::_unsafe_view", "aten::lift_fresh", "aten::_reshape_alias", "aten::detach", "aten::alias"}
ALLOCATIONS = {
    *("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::empty_permuted", "aten::new_empty"),
    *("aten::new_empty_strided", "aten::_efficientzerotensor"),
}
# Operations whose result the host waits for, as it needs a value or a shape that depends on values.
SYNCHRONISING = {
    *("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::bincount"),
    *(
        "aten::_unique",
        "aten::_unique2",
        "aten::unique_dim",
        "aten::unique_consecutive",
        "aten::unique_dim_consecutive",
    ),
    "aten::repeat_interleave",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
WORDS = {"aten::_local_scalar_dense": "item"}
MASKS = (torch.bool, torch.uint8)


@dataclass
class Count:
    """How often an operation ran, and the bytes that it read and wrote."""

    calls: int = 0
    read: int = 0
    written: int = 0


@dataclass
class Part:
    """The work of one part of a step.

    ``operations``: (name, type) -> Count. ``copies``: ``to device`` or ``to host`` -> [copies, bytes].
    ``synchronisations``: name of the operation -> times that the host waits for the device. ``allocated``: new
    tensors' [number, bytes].
    """

    operations: dict[tuple[str, str], Count] = field(default_factory=dict)
    copies: dict[str, list[int]] = field(default_factory=dict)
    synchronisations: dict[str, int] = field(default_factory=dict)
    allocated: list[int] = field(default_factory=lambda: [0, 0])
    flops: int = 0

    def lines(self, part: str) -> Iterator[CountLine]:
        """Yield what was counted in this part."""
        for (name, type_), one in self.operations.items():
            rest = {"calls": one.calls, "bytes_read": one.read, "bytes_written": one.written}
            yield CountLine(part, "operation", name, type_, **rest)
        for name, (calls, size) in self.copies.items():
            yield CountLine(part, "copy", name, calls=calls, bytes=size)
        for name, calls in self.synchronisations.items():
            yield CountLine(part, "wait", name, calls=calls)
        if self.allocated[0]:
            yield CountLine(part, "allocation", "", calls=self.allocated[0], bytes=self.allocated[1])
        if self.flops:
            yield CountLine(part, "flops", "", flops=self.flops)


class Operations(FlopCounter):
    """Counts all operations in ``parts`` under the name ``part``, and leaves collectives and memory to their counters.

    Views cost nothing and are not counted. ``host_values`` are tensors that lie on the host under every device, such as
    an optimizer's number of steps: their value is read without waiting.
    """

    def __init__(self, memory: LiveMemory, collectives: Collectives) -> None:
        super().__init__()
        self.memory, self.collectives = memory, collectives
        self.part = ""
        self.parts: dict[str, Part] = {}
        self.host_values: set[int] = set()
        self.failed = ""  # why an operation could not be counted

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        out = func(*args, **kwargs)
        try:
            self._note(func, args, kwargs, out)
            self.memory.see(_tensors(out))
        except Exception as error:  # the step itself shall go on
            self.failed = self.failed or f"{func.name()} raised {type(error).__name__} when it was counted: {error}"
        return out

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = self.flops
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if out is not NotImplemented:
            self._part().flops += self.flops - before
            self.flops = before
        return out

    def _part(self) -> Part:
        return self.parts.setdefault(self.part, Part())

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        name = func._schema.name if isinstance(func, OpOverload) else func.name()
        inputs = list(_tensors((args, kwargs)))
        if name.startswith("profiler::"):
            return
        if name.partition("::")[0] in ("c10d", "_c10d_functional", "_dtensor", "symm_mem"):
            self.collectives.note(self.part, name, args, kwargs, out)
            return
        part = self._part()
        kind = _kind(func) if isinstance(func, OpOverload) else "computes"
        outputs = list(_tensors(out))
        self.memory.see(inputs)
        if kind != "view":
            new = self.memory.see(outputs, made=True)
            part.allocated[0] += len(new)
            part.allocated[1] += sum(new)
        if kind != "computes":
            return
        written = list(_written(func, args, kwargs)) if isinstance(func, OpOverload) else []
        key = name.removeprefix("aten::"), _type(outputs or written or inputs)
        count = part.operations.setdefault(key, Count())
        count.calls += 1
        count.read += sum(map(_bytes, inputs))
        count.written += sum(map(_bytes, {id(t): t for t in (*outputs, *written)}.values()))
        self._note_host(part, name, inputs, outputs, written)

    def _note_host(
        self, part: Part, name: str, inputs: list[Tensor], outputs: list[Tensor], written: list[Tensor]
    ) -> None:
        """Count a copy between host and device, and whether the host waits."""
        if name in ("aten::_to_copy", "aten::copy_") and inputs:
            source = inputs[-1] if name == "aten::copy_" else inputs[0]
            target = (written or outputs)[0]
            if (source.device.type == "cpu") != (target.device.type == "cpu"):
                way = part.copies.setdefault("to device" if source.device.type == "cpu" else "to host", [0, 0])
                way[0] += 1
                way[1] += _bytes(source)
        masks = name in INDEXING and any(tensor.dtype in MASKS for tensor in inputs[1:])
        waits = name in SYNCHRONISING and not any(id(tensor) in self.host_values for tensor in inputs)
        if masks or waits:
            short = WORDS.get(name, name.removeprefix("aten::")) + (" by a mask" if masks else "")
            part.synchronisations[short] = part.synchronisations.get(short, 0) + 1


@functools.cache
def _kind(func: OpOverload) -> str:
    """Return whether an operation ``computes`` values, only ``allocates`` memory, or returns a ``view``."""
    name = func._schema.name
    if name in ALLOCATIONS:
        return "allocates"
    returns = [one.alias_info for one in func._schema.returns]
    views = bool(returns) and all(info is not None and not info.is_write for info in returns)
    return "view" if views or name in VIEWS else "computes"


def _written(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the arguments that the operation changes in place."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[place] if place < len(args) else kwargs.get(argument.name))


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _type(tensors: list[Tensor]) -> str:
    return str(tensors[0].dtype).removeprefix("torch.") if tensors else ""
