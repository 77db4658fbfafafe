"""Counts floating-point operations, one torch operation after the other, and notes those whose cost is unknown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.flop_counter import flop_registry

from bench.rank.flop_formulas import FORMULAS, Arguments
from bench.rank.free_operations import is_free
from bench.rank.private import (
    CHECKPOINT_FUNCTION,
    CHECKPOINT_GENERATORS,
    OpOverload,
    TorchDispatchMode,
    dispatches,
    tree_leaves,
)
from bench.rank.replaced import replaced

COMPLEX = 4  # real multiply-adds in a complex one
LEAVING = ("numpy", "__dlpack__", "data_ptr")  # methods that take a tensor's data out of torch


class UnknownOperationError(Exception):
    """Operations without a known cost ran; the message names them.

    Its cause is the error that ended the step, if there was one.
    """


class FlopCounter(TorchDispatchMode):
    """Sums ``flops``; ``unknown`` names operations that have no formula and are not known to be free.

    An operation counts by its formula in ``FORMULAS``, or by one that was registered with
    ``torch.utils.flop_counter.register_flop_formula``. An operation that PyTorch composes of others counts as those.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.unknown: dict[str, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):  # flex_attention, cond, a Triton kernel and others
            return self._registered(func, func.name(), func, args, kwargs)
        if any(kind is DTensor for kind in types):
            return NotImplemented  # its dispatch is in C++: it calls this mode with the operations on local tensors
        if wrapper := _wrapper(types):
            with self:  # counts the operations that the tensor subclass makes of it
                return wrapper.__torch_dispatch__(func, types, args, kwargs)
        name = _name(func)
        if name in FORMULAS:
            out = self._run(func, args, kwargs)
            self._add(name, _named(func, args, kwargs), out)
            return out
        if func._overloadpacket in flop_registry:
            return self._registered(func._overloadpacket, name, func, args, kwargs)
        if not is_free(func):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            self.unknown[name] = None
        return self._run(func, args, kwargs)

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation that is not divided any further."""
        return func(*args, **kwargs)

    def _add(self, name: str, arguments: Arguments, out: Any) -> None:
        tensors = [leaf for leaf in tree_leaves((dict(arguments), out)) if isinstance(leaf, Tensor)]
        if any(tensor.layout not in (torch.strided, torch.jagged) for tensor in tensors):
            self.unknown[f"{name} of a sparse tensor"] = None
            return
        factor = COMPLEX if any(tensor.is_complex() for tensor in tensors) else 1
        self.flops += factor * FORMULAS[name](arguments, out)

    def _registered(
        self, key: Any, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if key not in flop_registry:
            self.unknown[name] = None
        out = self._run(func, args, kwargs)
        if key in flop_registry:
            self.flops += flop_registry[key](*args, **kwargs, out_val=out)
        return out


@contextmanager
def counting(counter: FlopCounter) -> Iterator[None]:
    """Count all operations, those of compiled code as well.

    Operations of NumPy or of custom kernels on a tensor's data are not seen: when tensors leave torch, that is noted.
    """

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def noted(*args: Any, **kwargs: Any) -> Any:
            counter.unknown[f"what follows on Tensor.{method.__name__}, outside of torch"] = None
            return method(*args, **kwargs)

        return noted

    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name in LEAVING:
            stack.enter_context(replaced(Tensor, name, noting))
        stack.enter_context(counter)
        yield


def flops_of(step: Callable[[], Tensor | None]) -> int:
    """Return the FLOPs of the forward pass ``step``, which returns a loss, and of its backward pass.

    If ``step`` returns None, it has done its backward passes itself.

    Raise UnknownOperationError if an operation has no formula, even if the step fails. Raise what ``step`` raises.
    """
    counter = FlopCounter()
    try:
        with counting(counter):
            if (loss := step()) is not None:
                loss.backward()
    except Exception as error:
        if counter.unknown:
            raise UnknownOperationError(_words(counter.unknown)) from error
        raise
    if counter.unknown:
        raise UnknownOperationError(_words(counter.unknown))
    return counter.flops


@contextmanager
def without_checkpoints() -> Iterator[list[str]]:
    """Make ``torch.utils.checkpoint`` keep all activations, however a model has imported it.

    Yield a list with an entry for each call that would have recomputed. The functions that ``checkpoint`` looks up in
    its own module are replaced.
    """
    calls: list[str] = []

    class CallThrough:
        @staticmethod
        def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
            calls.append("reentrant")
            return function(*args)

    def nothing_around(*_: Any, **__: Any) -> Iterator[None]:
        calls.append("non-reentrant")
        yield

    module: Any = torch.utils.checkpoint
    replaced = {CHECKPOINT_FUNCTION: CallThrough, **dict.fromkeys(CHECKPOINT_GENERATORS, nothing_around)}
    kept = {name: getattr(module, name) for name in replaced if hasattr(module, name)}
    try:
        for name in kept:
            setattr(module, name, replaced[name])
        yield calls
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


@functools.cache
def _name(func: OpOverload) -> str:
    return str(func._schema.name)


def _wrapper(types: Sequence[type]) -> Any:
    """Return the tensor subclass that implements its operations by others, as nested tensors do, or None."""
    return next((kind for kind in types if dispatches(kind)), None)


def _named(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Return all arguments by their names in the schema."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
    defaults = {argument.name: argument.default_value for argument in func._schema.arguments}
    return {**defaults, **given, **kwargs}


def _words(unknown: Mapping[str, None]) -> str:
    names = [*unknown]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    kind = "operation" if len(names) == 1 else "operations"
    return f"unknown {kind} {', '.join(names[:3])}{more}"
