"""How many FLOPs a step of a workload costs: counted without computing anything where that works, else in a real step.

The first of these ways that works gives the count: all on the meta device; with fake tensors, which claim to be on the
CPU; one step of one rank on the device, outside of every window.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bench.errors import shorten
from bench.rank.build import AUTOCAST
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.flops import UnknownOperationError, flops_of, without_checkpoints
from bench.rank.private import FakeTensorMode
from workloads.base import Batch, Workload
from workloads.checks import WorkloadError, collated

SECONDS = 90  # that counting may take; a launch is waiting for it
MEMORY_SHARE = 0.8  # of the free memory of the host that it may take
SEED = 0
ADVICE = "say flops_per_sample in the workload"
META = torch.device("meta")


@dataclass(frozen=True)
class Count:
    """FLOPs of one micro-batch. ``hardware`` has in addition what checkpointing recomputes, the model's own and ours.

    ``how`` is one of WAYS, or says why they could not be counted. ``recomputes``: whether there is any checkpointing;
    None if that is not known either.
    """

    how: str
    model: int | None = None
    hardware: int | None = None
    recomputes: bool | None = None


class UnknownStepError(Exception):
    """A step has unknown operations; ``recomputes`` as in Count."""

    def __init__(self, words: str, recomputes: bool | None) -> None:
        super().__init__(words)
        self.recomputes = recomputes


class TooLongError(Exception):
    """Counting has taken longer than it may."""


@dataclass(frozen=True)
class Micro:
    """The micro-batch of one rank that is to be counted, and how the rank trains on it."""

    samples: int
    checkpointing: str
    data: str
    device: str = "cpu"
    precision: str = "fp32"


@dataclass
class Models:
    """Models of one workload, each built when it is asked for, and once."""

    workload: Workload

    @functools.cached_property
    def on_meta(self) -> nn.Module:
        with META:
            return self.workload.build().train()

    @functools.cached_property
    def real(self) -> nn.Module:
        with _limited_memory():
            return self.workload.build().train()

    @functools.cached_property
    def fake(self) -> tuple[nn.Module, FakeTensorMode]:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            with mode:
                return self.workload.build().train(), mode
        except Exception:  # it asks a tensor for its value, say
            return _faked(self.real, mode), mode

    def any(self) -> nn.Module:
        """The first that can be built: on the meta device, or for real. Raises what the real one raises."""
        try:
            return self.on_meta
        except Exception:
            traceback.print_exc()
            return self.real


def count(models: Models, micro: Micro, to_the_end: bool = False) -> Count:
    """The FLOPs of a micro-batch, in training mode. WorkloadError if the workload gives what it must not.

    ``to_the_end``: if an operation is unknown, find a way in which the step still runs to its end, to learn whether it
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
                    why = f"one step on the {micro.device} gives {_said(error)}"
    except TooLongError:
        why = f"counting takes longer than {SECONDS} s"
    if unknown:
        return Count(f"{unknown}: {ADVICE}", recomputes=unknown.recomputes)
    return Count(f"{why}; {ADVICE}")


@dataclass
class Batches:
    """The micro-batch, as meta, fake or real tensors."""

    workload: Workload
    micro: Micro

    @functools.cached_property
    def _dataset(self) -> Any:
        return self.workload.samples(self.micro.data)

    def empty(self) -> Batch:
        """Meta tensors of the right shapes, by the first sample."""
        one = collated(self._dataset, 1)
        return [torch.empty((self.micro.samples, *t.shape[1:]), dtype=t.dtype, device=META) for t in one]

    def real(self) -> Batch:
        return collated(self._dataset, self.micro.samples)


def _on_meta(models: Models, batches: Batches) -> tuple[int, int]:
    return _both(models, models.on_meta, batches.empty(), batches.micro)


def _with_fake_tensors(models: Models, batches: Batches) -> tuple[int, int]:
    model, mode = models.fake
    sizes = batches.empty()
    with mode:
        return _both(models, model, [torch.empty(t.shape, dtype=t.dtype) for t in sizes], batches.micro)


def _in_a_step(models: Models, batches: Batches) -> tuple[int, int]:
    """Of the model and the batch that a rank would have, with its precision."""
    micro, model = batches.micro, models.real
    device = torch.device("cpu") if micro.device == "cpu" else torch.device("cuda", 0)
    narrow = torch.bfloat16 if micro.precision == "bf16" else None
    autocast = AUTOCAST.get(micro.precision)
    with (
        _limited_memory() if micro.device == "cpu" else contextlib.nullcontext(),
        torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext(),
    ):
        batch = [t.to(device, narrow if t.is_floating_point() else None) for t in batches.real()]
        return _both(models, model.to(device, narrow), batch, micro)


WAYS: dict[str, Callable[[Models, Batches], tuple[int, int]]] = {
    "counted on the meta device": _on_meta,
    "counted with fake tensors": _with_fake_tensors,
    "counted in one step of one rank": _in_a_step,
}


def _both(models: Models, model: nn.Module, batch: Batch, micro: Micro) -> tuple[int, int]:
    """Without any checkpointing and, where there is some, with it."""
    workload, mode = models.workload, micro.checkpointing
    step: Callable[[], Tensor] = functools.partial(workload.loss, model, batch)
    torch.manual_seed(SEED)  # a model may leave out layers at random
    with without_checkpoints() as calls:
        try:
            plain = flops_of(step)
        except UnknownOperationError as error:
            again = mode != "none" or bool(calls)
            raise UnknownStepError(str(error), None if error.__cause__ else again) from error
    if mode == "none" and not calls:
        return plain, plain
    checkpoint_layers(workload.layers(model), mode)
    torch.manual_seed(SEED)
    return plain, flops_of(step)


def _faked(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The model with fake tensors in the place of its parameters and buffers; one that is shared stays so."""
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
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # again and again: a model may catch it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """An allocation beyond most of the free memory fails inside, and the kernel does not have to end anybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(psutil.Process().memory_info().data + MEMORY_SHARE * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _said(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 160)
