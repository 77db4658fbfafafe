"""A step of the workload's own: what it is given, and the clock that times its parts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages.rank_record import PARTS
from bench.rank.clock import Clock

if TYPE_CHECKING:
    from bench.rank.build import Training

_, _, FORWARD, BACKWARD, OPTIMIZER = PARTS


class StepContext:
    """The third argument of ``step(model, batch, ctx)``.

    What is neither ``backward`` nor ``update`` counts as the forward pass, unless ``mark`` says otherwise.
    """

    def __init__(self, training: Training, turn: Callable[[str, str], None]) -> None:
        """Take the training; ``turn`` is called with the part of the step that has ended, and that which begins."""
        self._training, self._turn = training, turn
        self._updated = False
        self.last = True  # whether this is the last micro-batch of the step
        self.device: torch.device = training.device
        self.rank = dist.get_rank() if training.distributed else 0
        self.world_size = dist.get_world_size() if training.distributed else 1

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimizers, those of the workload's ``optimizers(model)`` in its order."""
        return self._training.optimizers.optimizers

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of ``--precision amp-bf16`` and ``amp-fp16``; an empty one for others."""
        return self._training.autocasting()

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Compute gradients: the loss is scaled under amp-fp16, and divided by the number of micro-batches.

        ``options`` are those of ``Tensor.backward``, such as ``retain_graph``.
        """
        self._turn(FORWARD, BACKWARD)
        micro_batches = self._training.case.micro_batches
        self._training.scaler.scale(loss / micro_batches if micro_batches > 1 else loss).backward(**options)
        self._turn(BACKWARD, FORWARD)

    def update(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Clip gradients, update parameters and free gradients: of one optimizer, or of all one after the other.

        With several micro-batches in a step this is done in the last one only.
        """
        if not self.last:
            return
        self._turn(FORWARD, OPTIMIZER)
        training = self._training
        for one in self.optimizers if optimizer is None else [optimizer]:
            if training.case.max_grad_norm:
                training.scaler.unscale_(one)
                parameters = [parameter for group in one.param_groups for parameter in group["params"]]
                torch.nn.utils.clip_grad_norm_(parameters, training.case.max_grad_norm)
            training.scaler.step(one)
            one.zero_grad(set_to_none=True)
        self._updated = True
        self._turn(OPTIMIZER, FORWARD)

    def mark(self, part: str) -> None:
        """Count the time since the last mark, backward pass or update as a part of the step: one of PARTS."""
        if part not in PARTS:
            raise ValueError(f"ctx.mark({part!r}): allowed are {', '.join(PARTS)}")
        self._turn(part, FORWARD)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks one after the other; gradients flow back to each rank's own."""
        if self.world_size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.detach().contiguous())
        parts[self.rank] = tensor
        return torch.cat(parts)

    def end(self) -> None:
        """End a step: free all gradients, and change the loss scale and the learning rates.

        Raise RuntimeError if nothing was updated.
        """
        if not self._updated:
            raise RuntimeError("step() ended without ctx.update(): no optimizer has made a step")
        self._training.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)  # a loss may have reached models that it does not train
        self._training.optimizers.next_rates()
        self._updated = False
        self._turn(OPTIMIZER, FORWARD)


class CountedContext:
    """The context of a step whose operations are only counted: in one process that stands for a rank.

    Nothing is updated. ``used_ranks`` is whether the step depends on the number of ranks.
    """

    def __init__(self, optimizers: Callable[[], Sequence[torch.optim.Optimizer]], ranks: int, device: torch.device):
        """Take a function that makes the optimizers, which is called when they are first needed."""
        self._make, self._ranks, self.used_ranks = optimizers, ranks, False
        self.last, self.rank, self.device = True, 0, device

    @functools.cached_property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimizers."""
        return self._make()

    @property
    def world_size(self) -> int:
        """The number of ranks of the case."""
        self.used_ranks = True
        return self._ranks

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return an empty context, as the type does not change the FLOPs."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Compute gradients."""
        loss.backward(**options)

    def update(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Free the gradients of one optimizer, or of all."""
        for one in self.optimizers if optimizer is None else [optimizer]:
            one.zero_grad(set_to_none=True)

    def mark(self, part: str) -> None:
        """Do nothing."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensor as often as there are ranks."""
        return torch.cat([tensor, *[tensor.detach()] * (self.world_size - 1)])


class PartsClock:
    """A clock of steps whose parts come in any order and number: the parts of each step are summed."""

    def __init__(self, clock: Clock, parts: Sequence[str] = PARTS) -> None:
        """Take the clock of single parts, and the names of all ``parts`` of a step."""
        self._clock, self._names = clock, parts
        self._parts: list[str] = []
        self._steps: list[int] = []  # number of spans in each step

    def start(self) -> None:
        """Begin the first part."""
        self._clock.start()

    def mark(self, part: str = "") -> None:
        """End ``part``; the next one begins."""
        self._clock.mark(part)
        self._parts.append(part)

    def end_step(self) -> None:
        """End a step."""
        self._steps.append(len(self._parts) - sum(self._steps))

    def close(self) -> None:
        """Note that all steps so far are enqueued."""
        self._clock.close()

    def window_ns(self) -> int:
        """Return the nanoseconds from the start until now."""
        return self._clock.window_ns()

    def waited_ns(self) -> int:
        """Return how many nanoseconds outside of all steps this process waited for a processor."""
        return self._clock.waited_ns()

    def parts_ns(self) -> list[int]:
        """Return the nanoseconds of the parts of every step, in their order."""
        return self._summed(self._clock.parts_ns())

    def host_ns(self) -> list[int]:
        """Return the same as the host saw it."""
        return self._summed(self._clock.host_ns())

    def _summed(self, spans: Sequence[int]) -> list[int]:
        found: list[int] = []
        at = 0
        for number in self._steps:
            sums = dict.fromkeys(self._names, 0)
            for part, ns in zip(self._parts[at : at + number], spans[at : at + number], strict=True):
                sums[part] += ns
            found += sums.values()
            at += number
        return found
