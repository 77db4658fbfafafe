"""What a loss calls of a model besides the model itself, such as ``model.training_loss(batch)``.

A strategy works around the call of a model: DDP prepares its reduction there, FSDP gathers parameters, and --compile
compiles it. So a method that the loss calls is led through the model's call, under every strategy in the same way. A
part of the model that is called by itself goes around it; it is only noticed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

METHOD = "bench_method"  # name of the argument of a model's call that names one of its methods


@dataclass
class ModelCalls:
    """Names of what was used from outside of a model: methods and modules called, and parameters read."""

    methods: dict[str, None] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    parameters: dict[str, None] = field(default_factory=dict)


@contextlib.contextmanager
def noted(model: nn.Module) -> Iterator[ModelCalls]:
    """Note what is used of the model from outside of its own calls and methods.

    A method that uses no parameter, such as one that returns a mask, is none that a strategy needs to know.
    """
    calls, kind = ModelCalls(), type(model)
    inside: list[str] = []  # calls in progress
    used: list[bool] = [False]  # whether the outermost of them has used a parameter or module
    names = {id(part): name for name, part in model.named_modules() if part is not model}

    def enter(module: nn.Module, *_: Any) -> None:
        if not inside and id(module) in names:
            calls.modules[names[id(module)]] = None
        used[0] = True
        inside.append("")

    def leave(*_: Any) -> None:
        inside.pop()

    model.__class__ = _noting(kind, calls, inside, used)
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, model, "__class__", kind)
        stack.callback(register_module_forward_pre_hook(enter).remove)
        stack.callback(register_module_forward_hook(leave, always_call=True).remove)
        yield calls


def _noting(kind: type[nn.Module], calls: ModelCalls, inside: list[str], used: list[bool]) -> type[nn.Module]:
    """Return a subclass that notes which methods are called, and which parameters are read."""

    def around(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not inside:
                used[0] = False
            inside.append(name)
            try:
                return method(*args, **kwargs)
            finally:
                inside.pop()
                if not inside and used[0]:
                    calls.methods[name] = None

        return called

    class Noting(kind):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            own = getattr(value, "__self__", None) is self and not name.startswith("_") and not hasattr(nn.Module, name)
            return around(name, value) if own else value

        def __getattr__(self, name: str) -> Any:
            value = super().__getattr__(name)
            if isinstance(value, nn.Parameter):
                used[0] = True
                if not inside:
                    calls.parameters[name] = None
            return value

    Noting.__name__, Noting.__qualname__, Noting.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Noting


def lead_through_call(model: nn.Module, names: Sequence[str]) -> None:
    """Make the model's call run one of these methods if the argument METHOD names it."""
    kind: Any = type(model)

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        method = kind.forward if (name := kwargs.pop(METHOD, None)) is None else getattr(kind, name)
        before = self.in_call
        self.in_call = True  # type: ignore[assignment]
        try:
            return method(self, *args, **kwargs)
        finally:
            self.in_call = before

    if names:
        model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "in_call": False})


def expose(outermost: nn.Module, model: nn.Module, names: Sequence[str]) -> None:
    """Let these methods of a distributed model lead through its call."""
    for name in names:
        setattr(outermost, name, _through(outermost, model, name))


def _through(outermost: nn.Module, model: nn.Module, name: str) -> Callable[..., Any]:
    method = getattr(type(model), name)

    @functools.wraps(method)
    def through(*args: Any, **kwargs: Any) -> Any:
        if model.in_call:  # one method calls another
            return method(model, *args, **kwargs)
        return outermost(*args, **{METHOD: name}, **kwargs)

    return through
