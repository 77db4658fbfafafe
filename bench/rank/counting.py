"""The FLOPs of a step of a workload: counted without computing anything if possible, else in a real step.

The first of these ways that works gives the count: on the meta device; with fake tensors, which claim to be on the CPU;
in one step of one rank on the device, outside of every window.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bench.errors import shorten
from bench.rank.build import AUTOCAST
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.flops import UnknownOperationError, flops_of, without_checkpoints
from bench.rank.initialization import META, as_one
from bench.rank.model_calls import ModelCalls, noted
from bench.rank.own_step import CountedContext
from bench.rank.private import FakeTensorMode
from workloads.base import Batch
from workloads.batches import map_tensors, tensors_of
from workloads.checks import Checked, WorkloadError, collated

SECONDS = 90  # limit of counting, as a launch waits for it
MEMORY_SHARE = 0.8  # limit of counting, as a share of the host's free memory
SEED = 0
ADVICE = "say flops_per_sample in the workload"


@dataclass(frozen=True)
class Count:
    """FLOPs of one micro-batch. ``hardware`` adds what activation checkpointing recomputes.

    ``how`` is one of WAYS, or the reason why the FLOPs could not be counted. ``recomputes`` is whether there is any
    checkpointing, by the model itself or by the case; None if this is unknown.
    """

    how: str
    model: int | None = None
    hardware: int | None = None
    recomputes: bool | None = None


class UnknownStepError(Exception):
    """A step has operations without a known cost; ``recomputes`` is as in Count."""

    def __init__(self, words: str, recomputes: bool | None) -> None:
        super().__init__(words)
        self.recomputes = recomputes


class TooLongError(Exception):
    """Counting takes longer than its limit."""


@dataclass(frozen=True)
class Micro:
    """The micro-batch of one rank whose FLOPs are counted, and how the rank trains on it."""

    samples: int
    checkpointing: str
    data: str
    device: str = "cpu"
    precision: str = "fp32"
    world_size: int = 1


@dataclass
class Models:
    """The models of one workload, each built once, when it is first needed.

    ``calls`` is what the last step used of each model by its name, "" if there is one; ``used_ranks`` is whether it
    depends on the number of ranks.
    """

    workload: Checked
    calls: dict[str, ModelCalls] = field(default_factory=dict)
    used_ranks: bool = False

    @functools.cached_property
    def on_meta(self) -> nn.Module:
        """The model on the meta device."""
        with META:
            return as_one(self.workload.build()).train()

    @functools.cached_property
    def real(self) -> nn.Module:
        """The model with real parameters."""
        with _limited_memory():
            return as_one(self.workload.build()).train()

    @functools.cached_property
    def fake(self) -> tuple[nn.Module, FakeTensorMode]:
        """The model with fake tensors, and their mode."""
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            with mode:
                return as_one(self.workload.build()).train(), mode
        except Exception:  # for example if building needs the value of a tensor
            return _faked(self.real, mode), mode


def count(models: Models, micro: Micro, to_the_end: bool = False) -> Count:
    """Count the FLOPs of a micro-batch in training mode. Raise WorkloadError if the workload returns invalid values.

    ``to_the_end``: if an operation is unknown, try further ways until the step runs to its end, to learn whether it
    recomputes anything.
    """
    batches, why, unknown = Batches(models.workload, micro), "", None
    try:
        with _limited_time(), torch.random.fork_rng(devices=()):
            for how, way in WAYS.items():
                try:
                    flops, hardware = way(models, batches)
                    return Count(how, flops, hardware, flops != hardware)
                except UnknownStepError as error:
                    unknown = error
                    if error.recomputes is not None or not to_the_end:
                        break
                except (TooLongError, WorkloadError):
                    raise
                except Exception as error:
                    traceback.print_exc()
                    why = f"one step on the {micro.device} raised {_in_words(error)}"
    except TooLongError:
        why = f"counting takes longer than {SECONDS} s"
    if unknown:
        return Count(f"{unknown}: {ADVICE}", recomputes=unknown.recomputes)
    return Count(f"{why}; {ADVICE}")


@dataclass
class Batches:
    """The micro-batch as meta, fake or real tensors."""

    workload: Checked
    micro: Micro

    def _first(self, samples: int) -> Batch:
        """Return the first samples as a batch; a loader's first batch has as many as it decides on."""
        if self.workload.has_loader:
            return next(iter(self.workload.loader(0, 1, samples)))
        return collated(self.workload, self.workload.samples(self.micro.data), samples)

    def empty(self) -> Batch:
        """Return meta tensors with the shapes of the first sample, or of the whole batch if they are the workload's."""
        if self.workload.has_own_batches:
            batch = self.real()
            self.workload.batch_size_of(batch)  # raises WorkloadError before anything is launched
            if self.workload.counts_tokens:
                self.workload.tokens_of(batch)
            return map_tensors(lambda t: torch.empty(t.shape, dtype=t.dtype, device=META), batch)
        samples, one = self.micro.samples, self._first(1)
        return map_tensors(lambda t: torch.empty((samples, *t.shape[1:]), dtype=t.dtype, device=META), one)

    def real(self) -> Batch:
        """Return the first samples as a real batch."""
        return self._first(self.micro.samples)


def _on_meta(models: Models, batches: Batches) -> tuple[int, int]:
    return _count_both(models, models.on_meta, batches.empty(), batches.micro)


def _with_fake_tensors(models: Models, batches: Batches) -> tuple[int, int]:
    model, mode = models.fake
    sizes = batches.empty()
    with mode:
        batch = map_tensors(lambda t: torch.empty(t.shape, dtype=t.dtype), sizes)
        return _count_both(models, model, batch, batches.micro)


def _in_a_step(models: Models, batches: Batches) -> tuple[int, int]:
    """Count with the model, batch and precision that a rank would have."""
    micro, model = batches.micro, models.real
    device = torch.device("cpu") if micro.device == "cpu" else torch.device("cuda", 0)
    narrow = torch.bfloat16 if micro.precision == "bf16" else None
    autocast = AUTOCAST.get(micro.precision)
    with (
        _limited_memory() if micro.device == "cpu" else contextlib.nullcontext(),
        torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext(),
    ):
        batch = map_tensors(lambda t: t.to(device, narrow if t.is_floating_point() else None), batches.real())
        return _count_both(models, model.to(device, narrow), batch, micro)


WAYS: dict[str, Callable[[Models, Batches], tuple[int, int]]] = {
    "counted on the meta device": _on_meta,
    "counted with fake tensors": _with_fake_tensors,
    "counted in one step of one rank": _in_a_step,
}


def _count_both(models: Models, model: nn.Module, batch: Batch, micro: Micro) -> tuple[int, int]:
    """Return the FLOPs without any checkpointing, and with it where there is some."""
    workload, mode = models.workload, micro.checkpointing
    step = _own_step(models, model, batch, micro) if workload.has_step else _loss(models, model, batch)
    torch.manual_seed(SEED)  # a model may drop layers at random
    with without_checkpoints() as calls:
        try:
            plain = flops_of(step)
        except UnknownOperationError as error:
            again = mode != "none" or bool(calls)
            raise UnknownStepError(str(error), None if error.__cause__ else again) from error
    if mode == "none" and not calls:
        return plain, plain
    if workload.has_checkpointing and mode != "none":
        workload.activation_checkpoint(model)
    else:
        checkpoint_layers(workload.layers(model), mode)
    torch.manual_seed(SEED)
    return plain, flops_of(step)


def _loss(models: Models, model: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        with noted(model) as models.calls[""]:
            return models.workload.loss(model, batch)

    return loss


def _own_step(models: Models, model: nn.Module, batch: Batch, micro: Micro) -> Callable[[], None]:
    workload, several = models.workload, isinstance(model, nn.ModuleDict)

    def optimizers() -> list[torch.optim.Optimizer]:
        if workload.has_optimizers:
            return [optimizer for optimizer, _ in workload.optimizers(model)]
        return [torch.optim.SGD(model.parameters())]

    def step() -> None:
        device = next((tensor.device for tensor in tensors_of(batch)), META)
        context = CountedContext(optimizers, micro.world_size, device)
        with contextlib.ExitStack() as stack:
            for name, one in model.items() if several else [("", model)]:  # type: ignore[operator]
                models.calls[name] = stack.enter_context(noted(one))
            stack.callback(lambda: setattr(models, "used_ranks", models.used_ranks or context.used_ranks))
            workload.step(model, batch, context)

    return step


def _faked(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return the model with fake tensors as its parameters and buffers; shared tensors stay shared."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = mode.from_tensor(tensor)  # type: ignore[assignment]
    return model


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def end(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # repeated, as a model may catch the exception
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Make allocations beyond most of the free memory fail inside, so that the kernel does not kill any process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(psutil.Process().memory_info().data + MEMORY_SHARE * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _in_words(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 160)
