"""Finds a rank's own time by a few steps after the window, in which each collective is waited for at once.

Under a strategy whose forward pass communicates, every rank of the window waits for the slowest in each layer, and all
parts of a step take all ranks as long. In these steps what a rank spends outside of collectives is its own. Every rank
measures by its own clock, so that clocks of several hosts need not agree. The steps are part of no statistic of the
window.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from bench.rank.build import Training
from bench.rank.extra_step import take_step
from bench.rank.private import TorchDispatchMode, tree_leaves, wait_for_functional, work_of

LEAST_STEPS, MOST_STEPS = 5, 50
SECONDS = 0.3  # for all steps, if these are at least LEAST_STEPS
SHARE = 0.1  # of the window, if this is longer
# Operations between two ranks are not waited for: both may begin with sending.
BETWEEN_TWO = ("send", "recv")


def has_own_steps(training: Training, in_duet: bool) -> bool:
    """Return whether own time takes steps after the window: several ranks, whose forward pass communicates.

    Not for a pipeline: its ranks have different work, so that own times say nothing about which of them is slow.
    """
    case = training.case
    alone = not training.distributed or case.world_size == 1 or case.fake_ranks or training.pipeline
    return not alone and not in_duet and training.forward_is_local is False


def own_times_ns(training: Training, window_ns: int, window_steps: int, moved: Callable[[], None]) -> list[int]:
    """Take the steps, and return the nanoseconds that each took this rank outside of collectives.

    ``moved`` is called after each. Compiled parts run eagerly, as collectives inside a compiled graph cannot be seen.
    """
    synchronize = training.synchronize
    found = []
    with contextlib.ExitStack() as stack:
        if training.case.compile != "off":
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for _ in range(1 + _steps(training, window_ns, window_steps)):
            waiting = _Waiting(synchronize)
            dist.barrier()
            synchronize()
            started = time.perf_counter_ns()
            with waiting:
                take_step(training, lambda _: None)
            synchronize()
            found.append(time.perf_counter_ns() - started - waiting.ns)
            moved()
    return found[1:]  # the first one also does what only a first step does


def _steps(training: Training, window_ns: int, window_steps: int) -> int:
    """Return the number of steps on which all ranks agree."""
    longest = torch.tensor(float(window_ns), dtype=torch.float64, device=training.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    window_s = longest.item() / 1e9
    steps = max(SECONDS, SHARE * window_s) / (window_s / window_steps)
    return min(max(int(steps), LEAST_STEPS), MOST_STEPS)


class _Waiting(TorchDispatchMode):
    """Waits for each collective at once; ``ns`` is how long this took, with the wait for the other ranks."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.synchronize = synchronize
        self.ns = 0

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # comes again as operations on local tensors
        if "c10d" not in operation.namespace or operation.name().partition("::")[2].startswith(BETWEEN_TWO):
            return operation(*args, **(kwargs or {}))
        self.synchronize()
        arrived = time.perf_counter_ns()
        result = operation(*args, **(kwargs or {}))
        _wait_for(operation, result)
        self.synchronize()
        self.ns += time.perf_counter_ns() - arrived
        return result


def _wait_for(operation: Any, result: Any) -> None:
    """Wait for the works of a collective; a functional one has tensors to wait for instead."""
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.ScriptObject):
            if (work := work_of(leaf)) is not None:
                work.wait()
        elif operation.namespace == "_c10d_functional" and isinstance(leaf, torch.Tensor):
            wait_for_functional(leaf)
