"""Follows a script from its first step to the end of its window."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.messages.counts import Counts
from bench.messages.rank_record import Measurement, ScriptRecord
from bench.plan.options import LEAST_WARMUP_STEPS
from bench.rank.memory import PeakMemory
from bench.rank.script.anchor import Anchor
from bench.rank.script.ended import WITHOUT_STEPS, no_steps
from bench.rank.script.flops import StepFlops
from bench.rank.script.hooks import Hooks
from bench.rank.script.seen import Seen
from bench.rank.script.steps import DATA_WAIT, NEW_EPOCH, OPTIMIZER, SAVE, VALIDATION, Steps
from bench.rank.script.surroundings import Surroundings
from bench.rank.script.timeline import Timeline
from bench.rank.script.work import StepWork
from bench.rank.window_length import more_steps, window_steps
from bench.rank.work.step import COMPILED

LEAST_AFTER_PAUSE = 2  # steps of warm-up after the pause for garbage collection
READ_AHEAD = 1  # batches that accelerate's loader reads before it hands out the first
MARKER = "stepbench.step"
MOST_COUNTED = 4  # steps after the window, until one only trains


@dataclass(frozen=True)
class Window:
    """What is measured: see the options of the same names."""

    warmup_steps: int
    steps: int
    min_seconds: float = 0.0
    max_seconds: float = 0.0
    count_flops: bool = False
    count_work: bool = False


class Observer:
    """Watches the calls of a script, and measures a window of its steps.

    In warm-up it finds the optimizer that makes the steps. After a pause for garbage collection, in which loaders fill
    their queues, it lets as many steps pass as empty them. All of this happens inside of the hooks: the script notices
    nothing.
    """

    def __init__(self, window: Window, around: Surroundings, rss_at_start: float | None = None) -> None:
        self.window, self.around = window, around
        self.steps, self.seen, self.flops = Steps(), Seen(), StepFlops() if window.count_flops else None
        self.anchor = Anchor(LEAST_WARMUP_STEPS)
        self.done = 0  # steps, warm-up included
        self.batches = self.backwards = 0
        self.measuring = self.over = False
        self._hooks: Hooks | None = None
        self._marked = False  # the script itself says where its steps end
        self._updating: list[int] = []  # optimizers whose step has begun
        self._queued = 0  # batches that loaders hold
        self._began_ns = self._began_at_ns = self._first_step_ns = self._step_ended_ns = self._longest_ns = 0
        self._memory, self._rss_at_start = PeakMemory([], rss_at_start), rss_at_start
        self._pause_at = self._window_at = self._planned = math.inf
        self._window_at_ns = 0
        self._asked_more = 0
        self._collects = False  # garbage was collected before the pause
        self._work: StepWork | None = None  # counts the present step
        self._counted = 0  # steps that were counted

    # -- hooks -------------------------------------------------------------------------------------------------------

    def install(self, spawns: bool = False) -> None:
        """Install the hooks; ``spawns``: the script may start ranks of its own."""
        self._hooks = Hooks(self, spawns)
        self.seen.install()

    def remove(self) -> None:
        """Remove the hooks."""
        if self._hooks:
            self._hooks.close()
        self.seen.remove()
        if self.flops:
            self.flops.stop()
        self._work = None
        if self._collects:
            gc.unfreeze()
            gc.enable()
        self.over, self.measuring = True, False

    def enter(self, part: str) -> None:
        """Note that a part of a step begins."""
        self.around.part(part)
        self.backwards += part == "backward"
        self.steps.enter(part)
        self._turn()

    def leave(self) -> None:
        """Note that the innermost part ends."""
        self.steps.leave()
        self._turn()

    def _turn(self) -> None:
        if self._work:
            self._work.turn(self.steps.part)

    def built(self, optimizer: Any) -> None:
        """Note an optimizer that exists."""
        self.anchor.built(identity(optimizer))

    def updates(self, optimizer: Any) -> None:
        """Note that an optimizer's step begins. Only the outermost one counts."""
        self._begin_first_step()
        self._updating.append(identity(optimizer))
        if len(self._updating) == 1:
            self.enter(OPTIMIZER)

    def updated(self, optimizer: Any) -> None:
        """Note that an optimizer's step has ended."""
        key = identity(optimizer)
        while self._updating and self._updating.pop() != key:
            pass  # its end was skipped by an exception
        if self._updating:
            return
        self.leave()
        if not self.measuring:
            self.seen.optimizer(key, optimizer)
        if self.anchor.updated(key) and not self._marked:
            self._step_ends()

    def fetching(self, iterator: Any) -> None:
        """Note that a batch is requested."""
        if torch.is_grad_enabled():
            self._begin_first_step()
        self.around.progress(self.done, self._shown_plan(), self._longest_ns)

    def fetched(self, iterator: Any, samples: int | None, trains: bool) -> None:
        """Note a batch that was read."""
        self.batches += 1
        if not self.measuring:
            ahead = getattr(iterator, "_num_workers", 0) * (getattr(iterator, "_prefetch_factor", 0) or 0)
            self._queued = max(self._queued, ahead + READ_AHEAD)
        self.steps.read(_kind(iterator._dataset), samples, trains)

    def new_iterator(self) -> None:
        """Note that an iteration over a DataLoader begins."""
        self.steps.apart(NEW_EPOCH if torch.is_grad_enabled() else VALIDATION)

    def saves(self) -> None:
        """Note that a checkpoint is written."""
        self.steps.apart(SAVE)

    def marked(self, samples: int | None) -> None:
        """Note that the script says that a step has ended. From the first time on only this ends a step."""
        if self.over:
            return
        if not self._marked and not self.measuring:
            self._marked, self.done = True, 0
            self._pause_at = self._window_at = self._planned = math.inf
        self._begin_first_step()
        if self._marked:
            self._step_ends(samples)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _begin_first_step(self) -> None:
        if not self._began_ns:
            self._began_ns, self._began_at_ns = time.perf_counter_ns(), time.time_ns()
            self._step_ended_ns = self._began_ns

    def _step_ends(self, samples: int | None = None) -> None:
        now = time.perf_counter_ns()
        self._first_step_ns = self._first_step_ns or now - self._began_ns
        self._longest_ns = max(self._longest_ns, now - self._step_ended_ns)
        last_ns, self._step_ended_ns = now - self._step_ended_ns, now
        self.done = self.done + 1 if self._marked or self.anchor.key is not None else self.anchor.steps
        self.steps.end_step(samples)
        if self._work:
            return self._end_of_counted_step(self._work)
        self.around.progress(self.done, self._shown_plan(), self._longest_ns)
        if self.measuring:
            if len(self.steps.intervals) == self._planned and not self._more():
                self._end()
            return
        if self.done >= LEAST_WARMUP_STEPS:
            self._warm_up(last_ns)

    def _warm_up(self, last_ns: int) -> None:
        """Do between two steps of warm-up what is due there."""
        if self._window_at == math.inf:
            after = max(self._batches_ahead() + 1, LEAST_AFTER_PAUSE)
            after = int(max(self.around.agree("warmup", after)))  # a rank may have no loader
            counting = 2 if self.flops else 0
            self._window_at = max(self.window.warmup_steps, self.done + counting + after)
            self._pause_at = self._window_at - after
        if self.flops and not self.flops.done:
            self.flops.next_step()
        if self.done == self._pause_at:
            self._pause()
        if self.done == self._window_at:
            self._begin(last_ns)
        self._step_ended_ns = time.perf_counter_ns()

    def _batches_ahead(self) -> int:
        """Return in how many steps the queues of the loaders are empty."""
        a_step = max(1, self.batches // max(self.done, 1))
        return math.ceil(self._queued / a_step)

    def _pause(self) -> None:
        """Collect garbage now rather than in the window, and reset the peaks of memory."""
        self._memory, self._collects = PeakMemory(devices_in_use(), self._rss_at_start), gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._memory.reset()

    def _begin(self, last_ns: int) -> None:
        """Begin the window: its number of steps is the same on all ranks."""
        assert self._hooks
        limits = self.window.min_seconds, self.window.max_seconds
        self.seen.remove()
        self._hooks.see_saves()
        synchronize()
        slowest_ns = max(self.around.agree("window", last_ns))
        self._planned = window_steps(self.window.steps, slowest_ns, *limits) if any(limits) else self.window.steps
        self.around.measuring()
        self.measuring = True
        self._window_at_ns = time.time_ns()
        self.steps.start(Timeline(module() if devices_in_use() else None))

    def _more(self) -> bool:
        """Return whether the window goes on because it is shorter than ``min_seconds``."""
        if not self.window.min_seconds:
            return False
        synchronize()
        self._asked_more += 1
        slowest_ns = max(self.around.agree(f"more{self._asked_more}", self.steps.timeline.elapsed_ns()))
        more = more_steps(len(self.steps.intervals), slowest_ns, self.window.min_seconds)
        self._planned += more
        return bool(more)

    def _end(self) -> None:
        synchronize()
        if not self.window.count_work:
            self.remove()
        self.measuring = False
        self.around.measured(self.measurement(), self.record())
        if not self.window.count_work:
            return self.around.ended(None)
        if self.seen.compiles():
            self.remove()
            return self.around.ended(Counts([], COMPILED))
        self._count()

    def _count(self) -> None:
        """Count the work of the next step."""
        self._counted += 1
        self._work = StepWork(*self.seen.held(), loads=self.batches > 0)
        self._work.begin()

    def _end_of_counted_step(self, work: StepWork) -> None:
        """Keep the count of an ordinary step; count the next one if the script did something else in this one."""
        work.end()
        apart = float(bool(self.steps.reasons()[-1]))
        if max(self.around.agree(f"counted{self._counted}", apart)) and self._counted < MOST_COUNTED:
            return self._count()
        self.remove()
        self.around.ended(work.counts())

    @property
    def needed(self) -> int:
        """Steps of warm-up, as far as it is known by now."""
        return int(self._window_at) if self._window_at < math.inf else 0

    def without_steps(self) -> str:
        """Return what to do if so many backward passes without a step mean that none will be seen, else nothing."""
        many = WITHOUT_STEPS * (self.window.warmup_steps + self.window.steps)
        return no_steps(self.batches, self.backwards) if not self.done and self.backwards > many else ""

    def _shown_plan(self) -> int:
        before = self._window_at if self._window_at < math.inf else self.window.warmup_steps
        return int(before + (self._planned if self._planned < math.inf else self.window.steps))

    # -- results -----------------------------------------------------------------------------------------------------

    def measurement(self) -> Measurement:
        """Return what the window took, with the intervals that will be set apart."""
        steps, timeline = self.steps, self.steps.timeline
        parts = steps.parts_ns(timeline.device_ns())
        return Measurement(
            first_step_at_ns=self._began_at_ns,
            window_at_ns=self._window_at_ns,
            first_step_ns=self._first_step_ns,
            warmup_steps=int(self._window_at),
            window_ns=sum(map(sum, parts.values())),
            steps_ns=[sum(step) for step in zip(*parts.values(), strict=True)],
            parts_ns=parts,
            data_wait_host_ns=steps.parts_ns(timeline.host_ns())[DATA_WAIT],
            samples=sum(steps.samples() or []),
            losses=[],
            forward_is_local=None,
            steps_per_epoch=None,
            memory=self._memory.read(),
        )

    def record(self) -> ScriptRecord:
        """Return what was seen of the script besides times."""
        assert self.anchor.key is not None or self._marked
        late = [] if self._marked else [(self.seen.name(key), number) for key, number in self.anchor.late()]
        return ScriptRecord(
            step=MARKER if self._marked or self.anchor.key is None else self.seen.name(self.anchor.key),
            apart=self.steps.reasons(),
            samples=self.steps.samples(),
            batches=self.batches,
            seen=self.seen.words(),
            precision=self.seen.precision(),
            parameters=self.seen.parameters(),
            late=[f"{name} was updated {number} times only" for name, number in late],
            flops=self.flops.record() if self.flops else None,
        )


def identity(optimizer: Any) -> int:
    """Return what identifies an optimizer, also behind a wrapper: its first parameter."""
    groups: Sequence[Any] = getattr(optimizer, "param_groups", None) or [{}]
    parameters = groups[0].get("params") or [optimizer]
    return id(parameters[0])


def _kind(dataset: Any) -> int:
    """Return what tells datasets apart: class and length, as each epoch may make its dataset anew."""
    try:
        length = len(dataset)
    except Exception:  # of an iterable dataset
        length = -1
    return hash((type(dataset), length))


def module() -> Any:
    """Return the module of the accelerator, such as ``torch.cuda``; None without one."""
    accelerator = torch.accelerator.current_accelerator()
    return torch.get_device_module(accelerator) if accelerator else None


def devices_in_use() -> list[torch.device]:
    """Return the accelerator that the script has used so far in this rank; none on the CPU."""
    accelerator, used = torch.accelerator.current_accelerator(), module()
    if accelerator is None or not used.is_initialized():
        return []
    return [torch.device(accelerator.type, used.current_device())]


def synchronize() -> None:
    """Wait for the accelerator, if the script uses one."""
    for device in devices_in_use():
        module().synchronize(device)
