"""The counters of one step, and what they have counted."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.messages.counts import KEPT, PEAK, CountLine, Counts
from bench.rank.activation_offload import ActivationOffload
from bench.rank.build import Training
from bench.rank.compiling import CompileLog
from bench.rank.distributed_tensors import local_of
from bench.rank.extra_step import BETWEEN, EARLY
from bench.rank.flops import counting
from bench.rank.optimizers import state_of
from bench.rank.private import generated_kernels
from bench.rank.work.collectives import Collectives, futures_of_done_work
from bench.rank.work.device import DeviceWatch
from bench.rank.work.live_memory import LiveMemory
from bench.rank.work.operations import Operations
from bench.rank.work.saved import SavedActivations
from workloads.base import Batch
from workloads.batches import tensors_of

STEP = "step"
COMPILED = "operations inside of compiled code cannot be seen"


@dataclass(frozen=True)
class Held:
    """What is in memory between two steps. ``layers`` are those by which activations are told apart, with names."""

    parameters: Sequence[Tensor]
    buffers: Sequence[Tensor]
    optimizers: Sequence[torch.optim.Optimizer]
    layers: Mapping[nn.Module, str]
    device: torch.device
    offload: ActivationOffload | None = None

    @classmethod
    def by(cls, training: Training) -> Held:
        """Return what a training of a workload holds."""
        model = training.model
        wanted = {id(layer) for layer in _layers(training)}
        layers = {part: name.removeprefix("module.") for name, part in model.named_modules() if id(part) in wanted}
        return cls(
            *(list(model.parameters()), list(model.buffers()), training.optimizers.optimizers, layers),
            *(training.device, training.offload),
        )


class StepCounter:
    """Counts the work of a step that is trained inside ``active``; tell it the parts and batches of the step."""

    def __init__(self, held: Held) -> None:
        self._of = held
        self._memory, self._collectives = LiveMemory(), Collectives()
        self._operations = Operations(self._memory, self._collectives)
        self._saved = SavedActivations(held.layers, held.buffers)
        self._device = DeviceWatch(held.device)
        self._held = {name: _bytes(tensors) for name, tensors in self._tensors()}
        self._gradients = self._kept = 0

    def turn(self, part: str) -> None:
        """Note that a part of the step begins."""
        part = part.removeprefix(EARLY)
        self._gradients = max(self._gradients, _bytes(p.grad for p in self._of.parameters))
        self._operations.part = self._device.part = part
        self._saved.on = part == "forward"

    def batch_came(self, batch: Batch) -> None:
        """Note that this batch is on the device."""
        tensors = list(tensors_of(batch))
        self._memory.see(tensors)
        self._saved.leave_out(tensors)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Count what happens inside."""
        for name, tensors in self._tensors():
            self._memory.see(tensors)
            if name == "optimizer state":
                self._operations.host_values = {id(local_of(tensor)) for tensor in tensors if tensor.numel() == 1}
        self._operations.part = self._device.part = BETWEEN
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._device.active())
            stack.enter_context(self._memory.following_sizes())
            stack.enter_context(self._saved.noting())
            if offload := self._of.offload:
                stack.callback(setattr, offload, "seen", offload.seen)
                offload.seen = self._saved.note
            stack.enter_context(futures_of_done_work())
            stack.enter_context(counting(self._operations))
            yield

    def close(self) -> None:
        """Note what is left of the step in memory. Gradients of the next step may be there, and are no part of it."""
        if dist.is_initialized():
            dist.barrier()  # until then the threads of the process group hold messages
        gc.collect()  # what only reference cycles hold is not kept
        self._kept = self._memory.made_without(p.grad for p in self._of.parameters if p.grad is not None)

    def counts(self) -> Counts:
        """Return what was counted; nothing if the count of any operation failed."""
        if self._operations.failed:
            return Counts([], self._operations.failed)
        found = [line for part, work in self._operations.parts.items() for line in work.lines(part)]
        found += [*self._collectives.lines(), *self._device.lines()]
        found += [CountLine("forward", "activation", layer, bytes=size) for layer, size in self._saved.bytes.items()]
        unknown = self._unknown()
        found += [CountLine(STEP, "uncounted", name, calls=1) for name in unknown]
        memory = {**self._held, "gradients": self._gradients, PEAK: self._memory.peak, KEPT: self._kept}
        found += [CountLine(STEP, "memory", name, bytes=size) for name, size in memory.items()]
        return Counts(_sorted(found), f"not counted in full: {', '.join(unknown)}" if unknown else "")

    def _unknown(self) -> list[str]:
        """Return what is not counted in full: operations without known FLOPs, and what leaves torch."""
        return sorted({**self._operations.unknown, **self._collectives.unknown})

    def _tensors(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Yield what is in memory between two steps."""
        yield "parameters", list(self._of.parameters)
        yield "buffers", list(self._of.buffers)
        states = [value for one in self._of.optimizers for state in state_of(one) for value in state.values()]
        yield "optimizer state", [value for value in states if isinstance(value, Tensor)]


def compiled(log: CompileLog | None) -> Counts:
    """Return what is known of a compiled step: its graphs, and the reasons for which they were divided."""
    graphs = log.graphs if log else None
    if log is None or graphs is None:
        return Counts([], COMPILED)
    found = [CountLine(STEP, "compile", "graphs", calls=graphs[0])]
    found += [CountLine(STEP, "compile", f"graph break: {reason}", calls=calls) for reason, calls in log.breaks.items()]
    if log.recompilations is not None:
        found.append(CountLine(STEP, "compile", "recompilations", calls=log.recompilations))
    if (kernels := generated_kernels()) is not None:
        found.append(CountLine(STEP, "compile", "generated kernels", calls=kernels))
    return Counts(_sorted(found), COMPILED)


def _sorted(lines: Iterable[CountLine]) -> list[CountLine]:
    return sorted(lines, key=lambda line: line.key)


def _layers(training: Training) -> Sequence[nn.Module]:
    """Return the layers of the model as the workload names them; none if the strategy's model is not known to it."""
    models = training.models if training.pipeline else [training.model]
    try:
        return [layer for model in models for layer in training.workload.layers(getattr(model, "module", model))]
    except Exception:
        traceback.print_exc()
        return []


def _bytes(tensors: Iterator[Tensor | None] | Sequence[Tensor]) -> int:
    local = [local_of(tensor) for tensor in tensors if tensor is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in local)
