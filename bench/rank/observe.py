"""Takes one more step after the window and notes its operations, to learn which options took effect.

The step is not timed and is part of no statistic; peaks of memory have been read before. All ranks take it, as it needs
their collectives. Compiled parts run eagerly, as operations inside a compiled graph cannot be seen.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from bench.messages.counts import Counts
from bench.messages.rank_record import Observed
from bench.rank.build import Training
from bench.rank.checkpointing import watch_layers
from bench.rank.distributed_tensors import whole_of
from bench.rank.extra_step import BACKWARD, take_step
from bench.rank.mesh import of_tensor
from bench.rank.private import TorchDispatchMode, dispatches
from bench.rank.work.collectives import group_in
from bench.rank.work.step import Held, StepCounter, compiled

MATMULS = {
    *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "_scaled_mm", "_grouped_mm", "_scaled_grouped_mm"),
    *("convolution", "_convolution", "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"),
}
ATTENTION = "_scaled_dot_product_"  # prefix of the operators' names
KERNELS = ("flash", "efficient", "cudnn", "fused")  # what follows the prefix; any other operator, or none, is "math"
COLLECTIVES = {
    **{"allreduce": "all-reduce", "all_reduce": "all-reduce"},
    **{"reduce_scatter": "reduce-scatter", "allgather": "all-gather", "all_gather": "all-gather"},
    **{"broadcast": "broadcast", "alltoall": "all-to-all", "all_to_all": "all-to-all"},
    **{"send": "send", "recv": "receive"},
}


def observe(training: Training, counts: bool = False) -> tuple[Observed, Counts | None]:
    """Take one more step. Return the observations and, if ``counts`` is set, the work of the step.

    The work inside of compiled code cannot be seen, and is not counted.
    """
    tensor = of_tensor(training.mesh)
    watch = _Watch(None if tensor is None else tensor.get_group().group_name)
    counter = StepCounter(Held.by(training)) if counts and training.case.compile == "off" else None
    recomputed: set[int] = set()
    offload = training.offload
    moved = (offload.tensors, offload.bytes) if offload else (0, 0)
    own = training.workload.has_checkpointing and training.case.activation_checkpointing != "none"

    def turn(part: str) -> None:
        watch.phase = part
        if counter:
            counter.turn(part)

    def ran(layer: nn.Module) -> None:
        if watch.phase.endswith(BACKWARD):
            recomputed.add(id(layer))

    with contextlib.ExitStack() as stack:
        if training.case.compile != "off":
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        checkpointed = stack.enter_context(watch_layers(training.model, ran))
        if own:
            stack.callback(register_module_forward_pre_hook(lambda module, _: ran(module)).remove)
        if counter:
            stack.enter_context(counter.active())
        stack.enter_context(watch)
        stack.enter_context(_Attention(watch))
        gradients, norm = take_step(training, turn, counter.batch_came if counter else lambda _: None)
    checkpointed = len(recomputed) if own else checkpointed
    observed = Observed(
        matmuls=dict(watch.matmuls),
        attention=dict(watch.attention),
        convolutions=watch.convolutions,
        collectives=watch.collectives,
        gradients=gradients,
        gradient_norm=None if norm is None else _number(norm),
        checkpointed=checkpointed,
        recomputed=min(len(recomputed), checkpointed),  # replicas of nn.DataParallel have layers of their own
        offloaded=[offload.tensors - moved[0], offload.bytes - moved[1]] if offload else [0, 0],
    )
    if not counts:
        return observed, None
    if counter:
        counter.close()
    return observed, counter.counts() if counter else compiled(training.compile_log)


class _Watch(TorchDispatchMode):
    """Notes each operation that reaches the device, in autograd's threads as well.

    ``tensor_group`` is the name of the group of ranks that share layers, if there is one.
    """

    def __init__(self, tensor_group: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensor_group = tensor_group
        self.phase = ""
        self.matmuls: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()
        self.convolutions = [0, 0]
        self.collectives: dict[str, list[int]] = {}
        self.kernel = "math"

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(map(dispatches, types)):
            return NotImplemented  # comes again as operations on what such a tensor is made of
        result = operation(*args, **(kwargs or {}))
        with contextlib.suppress(Exception):  # an operation that cannot be noted is not counted
            self._note(operation, args, kwargs or {})
        return result

    def _note(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        namespace, _, name = operation.name().partition(".")[0].partition("::")
        if "c10d" in namespace:
            self._note_collective(name, args, kwargs)
        elif self.phase.endswith("forward") and namespace == "aten":
            if name.startswith(ATTENTION):
                self.kernel = next((kernel for kernel in KERNELS if name.startswith(ATTENTION + kernel)), "math")
            if name in MATMULS or name.startswith(ATTENTION):
                self.matmuls[_type(next(_tensors(args)))] += 1
            if name == "convolution":
                self._note_layout(args[0])

    def _note_collective(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        kind = next((kind for part, kind in COLLECTIVES.items() if part in name), "")
        tensors = list(_tensors(args[:2]))  # the larger tensor is the result of a gather, the argument of a scatter
        if not kind or not tensors:
            return
        # An all-reduce has a list of tensors; other collectives have one input and one output.
        numbers = sum(t.numel() for t in tensors) if kind == "all-reduce" else max(t.numel() for t in tensors)
        if self.tensor_group is not None and group_in(args, kwargs).group_name == self.tensor_group:
            kind = f"tensor {kind}"
        seen = self.collectives.setdefault(f"{self.phase} {kind} {_type(tensors[0])}", [0, 0])
        seen[0] += 1
        seen[1] += numbers

    def _note_layout(self, images: Tensor) -> None:
        if images.dim() != 4:
            return
        nhwc, nchw = images.is_contiguous(memory_format=torch.channels_last), images.is_contiguous()
        if nhwc != nchw:  # an image of one channel or one pixel has both layouts
            self.convolutions[0] += nhwc
            self.convolutions[1] += 1


class _Attention(TorchFunctionMode):
    """Counts the calls of attention by their kernel; ``math`` is attention without a kernel of its own."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not F.scaled_dot_product_attention or not self.watch.phase.endswith("forward"):
            return function(*args, **(kwargs or {}))
        self.watch.kernel = "math"
        result = function(*args, **(kwargs or {}))
        self.watch.attention[self.watch.kernel] += 1
        return result


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _number(norm: Tensor) -> float:
    return float(whole_of(norm))
