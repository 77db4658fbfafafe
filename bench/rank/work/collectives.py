"""Counts the collectives of a step: their kind, group, bytes, and the bytes that a rank sends for them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages.counts import CountLine
from bench.rank.private import group_named, group_of, tree_leaves
from bench.rank.replaced import replaced


@dataclass(frozen=True)
class Kind:
    """A kind of collective; ``wire``: how many times its message a rank of n sends by the ring algorithm.

    The message is what all ranks have together after a gather, and before a scatter or reduction. The factors are those
    of nccl-tests (doc/PERFORMANCE.md).
    """

    name: str
    wire: Callable[[int], float]


def _once(n: int) -> float:
    return (n - 1) / n


ALL_REDUCE, ALL_GATHER = Kind("all-reduce", lambda n: 2 * (n - 1) / n), Kind("all-gather", _once)
REDUCE_SCATTER, ALL_TO_ALL = Kind("reduce-scatter", _once), Kind("all-to-all", _once)
BROADCAST, REDUCE = Kind("broadcast", lambda n: 1.0), Kind("reduce", lambda n: 1.0)
GATHER, SCATTER = Kind("gather", _once), Kind("scatter", _once)
SEND, RECEIVE = Kind("send", lambda n: 1.0), Kind("receive", lambda n: 0.0)
BARRIER = Kind("barrier", lambda n: 0.0)
# Operation -> its kind, and which argument has the tensors of the message: its position, or ``out`` for the result.
OPERATIONS: dict[str, tuple[Kind, str]] = {
    **{"c10d::allreduce_": (ALL_REDUCE, "0"), "c10d::allreduce_coalesced_": (ALL_REDUCE, "0")},
    **{"c10d::allgather_": (ALL_GATHER, "0"), "c10d::_allgather_base_": (ALL_GATHER, "0")},
    **{"c10d::allgather_into_tensor_coalesced_": (ALL_GATHER, "0"), "c10d::allgather_coalesced_": (ALL_GATHER, "0")},
    **{"c10d::reduce_scatter_": (REDUCE_SCATTER, "1"), "c10d::_reduce_scatter_base_": (REDUCE_SCATTER, "1")},
    "c10d::reduce_scatter_tensor_coalesced_": (REDUCE_SCATTER, "1"),
    **{"c10d::broadcast_": (BROADCAST, "0"), "c10d::reduce_": (REDUCE, "0")},
    **{"c10d::gather_": (GATHER, "1"), "c10d::scatter_": (SCATTER, "0")},
    **{"c10d::alltoall_": (ALL_TO_ALL, "1"), "c10d::alltoall_base_": (ALL_TO_ALL, "1")},
    **{"c10d::send": (SEND, "0"), "c10d::recv_": (RECEIVE, "0"), "c10d::recv_any_source_": (RECEIVE, "0")},
    "c10d::barrier": (BARRIER, ""),  # no message
    **{"_c10d_functional::all_reduce": (ALL_REDUCE, "0"), "_c10d_functional::all_reduce_": (ALL_REDUCE, "0")},
    "_c10d_functional::all_reduce_coalesced": (ALL_REDUCE, "0"),
    **{"_c10d_functional::all_gather_into_tensor": (ALL_GATHER, "out")},
    "_c10d_functional::all_gather_into_tensor_out": (ALL_GATHER, "out"),
    "_c10d_functional::all_gather_into_tensor_coalesced": (ALL_GATHER, "out"),
    "_c10d_functional::reduce_scatter_tensor": (REDUCE_SCATTER, "0"),
    "_c10d_functional::reduce_scatter_tensor_coalesced": (REDUCE_SCATTER, "0"),
    "_c10d_functional::all_to_all_single": (ALL_TO_ALL, "0"),
    **{"_c10d_functional::broadcast": (BROADCAST, "0"), "_c10d_functional::broadcast_": (BROADCAST, "0")},
}
NO_COLLECTIVES = ("_c10d_functional::wait_tensor", "_c10d_functional::_wrap_tensor_autograd")


@dataclass
class Sent:
    """Collectives of one kind and group: how many, the bytes of their messages, and those that a rank sends."""

    calls: int = 0
    bytes: int = 0
    wire: int = 0


@dataclass
class Collectives:
    """``found``: part -> (``kind ×ranks``, type) -> Sent. ``unknown``: operations that are not known."""

    found: dict[str, dict[tuple[str, str], Sent]] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)

    def lines(self) -> Iterator[CountLine]:
        """Yield what was counted."""
        for part, collectives in self.found.items():
            for (name, type_), sent in collectives.items():
                rest = {"calls": sent.calls, "bytes": sent.bytes, "wire_bytes": sent.wire}
                yield CountLine(part, "collective", name, type_, **rest)

    def note(self, part: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """Count one operation of a process group."""
        if name in NO_COLLECTIVES:
            return
        if name not in OPERATIONS:
            self.unknown[name] = None
            return
        kind, place = OPERATIONS[name]
        message = out if place == "out" else args[int(place)] if place else ()
        tensors = [leaf for leaf in tree_leaves(message) if isinstance(leaf, Tensor)]
        ranks = int(group_in(args, kwargs).size())
        type_ = str(tensors[0].dtype).removeprefix("torch.") if tensors else ""
        sent = self.found.setdefault(part, {}).setdefault((f"{kind.name} ×{ranks}", type_), Sent())
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        sent.calls += 1
        sent.bytes += size
        sent.wire += round(size * kind.wire(ranks))


def group_in(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the process group of an operation, which is one of its arguments; LookupError if none is."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.ScriptObject):
            if (group := group_of(value)) is not None:
                return group
        elif isinstance(value, str) and (group := group_named(value)) is not None:
            return group
    raise LookupError("an operation of a process group without a group")


@contextlib.contextmanager
def futures_of_done_work() -> Iterator[None]:
    """Let the future of a collective be given out only when the collective is done.

    What follows a future, such as the decompression in one of DDP's communication hooks, then runs in the thread that
    asks for it, where operations are counted. Else it may run there or in a thread of Gloo, whichever is first.
    """

    def waiting(get_future: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(get_future)
        def future_when_done(work: dist.Work) -> Any:
            future = get_future(work)
            if not future.done():
                future.wait()
            return future

        return future_when_done

    with replaced(dist.Work, "get_future", waiting):
        yield
