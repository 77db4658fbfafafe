"""Hooks in PyTorch that tell an observer what a script does, without the script's help."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from bench.rank.private import disable_dynamo, loader_iterator
from bench.rank.replaced import Wrap, replaced
from bench.rank.script.steps import BACKWARD, DATA_WAIT
from workloads.batches import first_length

# Attributes of a loader's iterator: the sizes of batches that were requested from its workers, and whether a method of
# a class below is running that calls the same of a class above.
SIZES, INSIDE = "_stepbench_sizes", "_stepbench_inside"
OWN_RANKS = "the script starts its own ranks (mp.spawn); bench starts them: let it read RANK, LOCAL_RANK and WORLD_SIZE"
# Functions that write a checkpoint: module and name. They are replaced where the module is loaded.
SAVES = (
    *(("torch", "save"), ("torch.distributed.checkpoint", "save"), ("torch.distributed.checkpoint", "async_save")),
    *(("safetensors.torch", "save_file"), ("safetensors.torch", "save_model")),
)


class Watcher(Protocol):
    """What is told of a script's calls."""

    def enter(self, part: str) -> None:
        """Note that a part of a step begins."""

    def leave(self) -> None:
        """Note that the innermost part ends."""

    def built(self, optimizer: Any) -> None:
        """Note an optimizer that was made."""

    def updates(self, optimizer: Any) -> None:
        """Note that an optimizer's step begins."""

    def updated(self, optimizer: Any) -> None:
        """Note that an optimizer's step has ended."""

    def fetching(self, iterator: Any) -> None:
        """Note that a batch is requested."""

    def fetched(self, iterator: Any, samples: int | None, trains: bool) -> None:
        """Note a batch that was read; ``samples`` is None if its size is unknown."""

    def new_iterator(self) -> None:
        """Note that an iteration over a DataLoader begins."""

    def saves(self) -> None:
        """Note that a checkpoint is written."""


class Hooks:
    """All hooks of one watcher, until ``close``.

    Functions of torch that the script has imported by name meanwhile stay wrapped; they then do what they did before.
    """

    def __init__(self, watcher: Watcher, spawns: bool = False) -> None:
        """``spawns``: the script may start ranks of its own."""
        self._wrappers, self._stack = _Wrappers(watcher), contextlib.ExitStack()
        self._saves: set[tuple[str, str]] = set()
        self._covered: set[type] = set()  # classes of loaders' iterators
        wrappers = self._wrappers
        for handle in (
            register_optimizer_step_pre_hook(disable_dynamo(lambda optimizer, *_: wrappers.watcher.updates(optimizer))),
            register_optimizer_step_post_hook(
                disable_dynamo(lambda optimizer, *_: wrappers.watcher.updated(optimizer))
            ),
        ):
            self._stack.callback(handle.remove)
        for kind in _with_subclasses(loader_iterator()):  # of iterators that exist already
            self._cover(kind)
        for owner, name, wrap in wrappers.replacements(self._cover):
            self._stack.enter_context(replaced(owner, name, wrap))
        if not spawns:
            self._stack.enter_context(
                replaced(sys.modules["torch.multiprocessing.spawn"], "start_processes", _refusing)
            )
        self.see_saves()

    def _cover(self, iterator: type) -> None:
        """Wrap the methods of an iterator's class, and of those above it: torchdata's, for example, has its own."""
        wrappers, base = self._wrappers, loader_iterator()
        methods = {"_reset": wrappers.resets, "_next_index": wrappers.next_index, "__next__": wrappers.next_batch}
        for kind in iterator.__mro__:
            if kind not in self._covered and issubclass(kind, base):
                self._covered.add(kind)
                for name in methods.keys() & vars(kind).keys():
                    self._stack.enter_context(replaced(kind, name, methods[name]))

    def see_saves(self) -> None:
        """Notice checkpoints that are written by the functions in SAVES whose modules are loaded by now."""
        for module, name in SAVES:
            if (module, name) not in self._saves and hasattr(sys.modules.get(module), name):
                self._saves.add((module, name))
                self._stack.enter_context(replaced(sys.modules[module], name, self._wrappers.saves))

    def close(self) -> None:
        """Remove all hooks."""
        self._wrappers.end()
        self._stack.close()


def _with_subclasses(kind: type) -> list[type]:
    subclasses: list[type] = type.__subclasses__(kind)
    return [kind, *(one for below in subclasses for one in _with_subclasses(below))]


def _refusing(_: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(OWN_RANKS)

    return refuse


class _Ended:
    """Does nothing: takes the place of the watcher when it is no longer interested."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class _Wrappers:
    """Wrappers of torch's functions. Each calls the original one and tells ``watcher``."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher: Any = watcher

    def end(self) -> None:
        """Tell nothing any more."""
        self.watcher = _Ended()

    def replacements(self, cover: Callable[[type], None]) -> list[tuple[Any, str, Wrap]]:
        """Return what is replaced: its owner, its name and the wrapper. ``cover`` wraps a class of iterators."""
        return [
            (torch.optim.Optimizer, "__init__", self.builds),
            (torch.amp.GradScaler, "step", self.scaled_step),
            (torch.autograd, "backward", self.backward),
            (loader_iterator(), "__init__", functools.partial(self.iterates, cover)),
        ]

    def builds(self, init: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(init)
        def build(optimizer: Any, /, *args: Any, **kwargs: Any) -> None:
            init(optimizer, *args, **kwargs)
            self.watcher.built(optimizer)

        return build

    def scaled_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap GradScaler's step, which leaves the optimizer's out after an overflow."""

        @functools.wraps(step)
        def scaled(scaler: Any, optimizer: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.watcher.updates(optimizer)
            result = step(scaler, optimizer, *args, **kwargs)
            self.watcher.updated(optimizer)
            return result

        return disable_dynamo(scaled)

    def backward(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def timed(*args: Any, **kwargs: Any) -> Any:
            watcher = self.watcher
            watcher.enter(BACKWARD)
            try:
                return backward(*args, **kwargs)
            finally:
                watcher.leave()

        return disable_dynamo(timed)

    def iterates(self, cover: Callable[[type], None], init: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(init)
        def begin(iterator: Any, /, *args: Any, **kwargs: Any) -> None:
            cover(type(iterator))
            self.watcher.new_iterator()
            init(iterator, *args, **kwargs)

        return begin

    def resets(self, reset: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(reset)
        def begin_anew(iterator: Any, /, *args: Any, **kwargs: Any) -> Any:
            iterator.__dict__[SIZES] = deque()
            self.watcher.new_iterator()
            return reset(iterator, *args, **kwargs)

        return begin_anew

    def next_index(self, next_index: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the request of a batch's indices: workers answer in the same order."""

        @functools.wraps(next_index)
        def noting(iterator: Any) -> Any:
            with _outermost(iterator, "_next_index") as outermost:
                index = next_index(iterator)
            if outermost:
                size = len(index) if isinstance(index, (list, tuple)) else None
                iterator.__dict__.setdefault(SIZES, deque()).append(size)
            return index

        return noting

    def next_batch(self, fetch: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fetch)
        def timed(iterator: Any) -> Any:
            with _outermost(iterator, "__next__") as outermost:
                if not outermost:
                    return fetch(iterator)
                watcher = self.watcher
                watcher.fetching(iterator)
                watcher.enter(DATA_WAIT)
                try:
                    batch = fetch(iterator)
                finally:
                    watcher.leave()
            watcher.fetched(iterator, _size(iterator, batch), torch.is_grad_enabled())
            return batch

        return timed

    def saves(self, save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.watcher.saves()
            return save(*args, **kwargs)

        return noted


@contextlib.contextmanager
def _outermost(iterator: Any, method: str) -> Iterator[bool]:
    """Return whether no other call of the same method of this iterator has begun."""
    inside: set[str] = iterator.__dict__.setdefault(INSIDE, set())
    if method in inside:
        yield False
        return
    inside.add(method)
    try:
        yield True
    finally:
        inside.discard(method)


def _size(iterator: Any, batch: Any) -> int | None:
    """Return the number of samples of a batch; None if unknown.

    It is the number of indices that it was made of. For an iterable dataset, whose last batch may be shorter, and
    without automatic batching it is the length of the first tensor.
    """
    sizes = iterator.__dict__.get(SIZES)
    size = sizes.popleft() if sizes else None
    by_index = size is not None and iterator._dataset_kind == 0  # _DatasetKind.Map
    return size if by_index else leading(batch)


def leading(batch: Any) -> int | None:
    """Return the length of the first tensor in a batch of any nesting; without one that of a list of plain values."""
    if (length := first_length(batch)) is not None:
        return length
    plain = isinstance(batch, (list, tuple)) and all(isinstance(one, (str, int, float)) for one in batch)
    return len(batch) if plain else None
