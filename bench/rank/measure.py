"""Warm up, then measure: the loop whose time is the benchmark.

Nothing in the window waits for the device, allocates for the measurement's sake, or talks to another rank but for
training. A window opens with a barrier and one synchronisation and closes with one. In a duet there are many short
ones, with the other side's between them.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages import PARTS, STAGE, Heartbeat, Measurement, Spec
from bench.rank.build import PATIENCE_S, Training
from bench.rank.clock import Clock, CudaClock, HostClock, by_part, by_step
from bench.rank.memory import PeakMemory
from bench.rank.turns import Pace, TakingTurns, plan

# DDP rebuilds its buckets after the first step, and the optimizer makes its state in it.
LEAST_WARMUP_STEPS = 3
LENGTHEN_BY = 1.05  # a second window aims this much beyond min_seconds


DATA_WAIT, COPY, FORWARD, BACKWARD, OPTIMIZER = (STAGE[part] for part in PARTS)
SYNC = STAGE["sync"]


def measure(training: Training, spec: Spec, heartbeat: Heartbeat, rss_at_start: float | None = None) -> Measurement:
    """Warm up, measure ``spec.steps`` steps or as many as ``spec.min_seconds`` takes, and say what was seen."""
    return _Run(training, spec, heartbeat, rss_at_start).measure()


def warmup_steps(asked: int, queued: int) -> tuple[int, int]:
    """How many steps come before the window, and how many of those after the pause for cleaning up.

    While the process cleans up, a DataLoader fills its queues; the window must not find them full, so as many batches
    as it can hold (and one more) are trained on after the pause; at least two, to fill caches and allocator again.
    """
    after_pause = max(queued + 1, 2)
    return max(asked, LEAST_WARMUP_STEPS, after_pause + 1), after_pause


@dataclass
class _Seen:
    """What was measured: one window, or one a burst. ``losses`` are of all steps, those of the measured ones last."""

    warmup_steps: int
    losses: list[Tensor]
    samples: int = 0
    windows_ns: list[int] = field(default_factory=list)
    at_ns: list[int] = field(default_factory=list)  # wall clock when each began
    clocks: list[Clock] = field(default_factory=list)

    def add(self, window_ns: int, clock: Clock, samples: int) -> None:
        """A window that ended just now."""
        self.at_ns.append(time.time_ns() - window_ns)
        self.windows_ns.append(window_ns)
        self.clocks.append(clock)
        self.samples += samples


class _Run:
    def __init__(self, training: Training, spec: Spec, heartbeat: Heartbeat, rss_at_start: float | None = None) -> None:
        self.training, self.spec, self.heartbeat = training, spec, heartbeat
        self.cuda = training.device.type == "cuda"
        self.memory = PeakMemory(training.devices if self.cuda else [], rss_at_start)
        self.losses: list[Tensor] = []  # one tensor a window
        self.done = 0
        self.step_ns = 0  # the longest mean step of a window so far
        self.samples = 0
        self.planned = spec.steps
        self.micro = training.case.grad_accum_steps
        # the compiler's count and the scale when measuring began
        self.before: tuple[int | None, float] = (None, 1.0)

    def measure(self) -> Measurement:
        spec, queued = self.spec, math.ceil(self.training.batches.queued / self.micro)
        turns = TakingTurns(spec.turns, self.heartbeat, spec.timeout_s + PATIENCE_S) if spec.turns else None
        warmup, after_pause = warmup_steps(spec.warmup_steps, queued)
        self.planned = warmup + spec.steps
        if turns:
            turns.meet()
            turns.before_warm_up()
        self.heartbeat.beat(0, self.planned, time.time_ns())
        first_step_at_ns = time.time_ns()
        first_step_ns, _ = self._window(1)
        self._window(warmup - after_pause - 1)
        self._settle()
        warm_ns, _ = self._window(after_pause)
        step_ns = warm_ns / after_pause
        seen = self._in_turn(turns, step_ns, queued + 1) if turns else self._alone(step_ns)
        gc.enable()
        return self._measurement(seen, first_step_at_ns, first_step_ns)

    def _alone(self, step_ns: float) -> _Seen:
        """One window, long enough. ``step_ns``: what a step took in warm-up."""
        steps = self._steps_for(self.spec.min_seconds, self.spec.steps, step_ns)
        while True:
            self.planned = self.done + steps
            seen = _Seen(self.done, self.losses)
            self._begin_measuring()
            seen.add(*self._window(steps), self.samples)
            slowest_s = self._slowest(seen.windows_ns[0]) / 1e9
            if slowest_s >= self.spec.min_seconds:
                return seen
            # the steps so far become warm-up, and a longer window follows
            steps = self._steps_for(self.spec.min_seconds, steps + 1, slowest_s * 1e9 / steps)

    def _in_turn(self, turns: TakingTurns, step_ns: float, untimed: int) -> _Seen:
        """Bursts, each a window after ``untimed`` steps: the other side has left its data in the caches, and a loader
        had the time to fill its queues, which would flatter."""
        paces = turns.after_warm_up(Pace(int(self._slowest(int(step_ns))), untimed))
        assert self.spec.turns is not None
        steps, bursts = plan(paces, self.spec.turns.burst_seconds, self.spec.steps, self.spec.min_seconds * LENGTHEN_BY)
        seen = _Seen(self.done + bursts * untimed, self.losses)
        self.planned = self.done + bursts * (untimed + steps)
        self._begin_measuring()
        for _ in turns.bursts(bursts):
            self._window(untimed)
            seen.add(*self._window(steps), self.samples)
        warmup = len(self.losses) - 2 * bursts
        seen.losses = [*self.losses[:warmup], *self.losses[warmup::2], *self.losses[warmup + 1 :: 2]]
        return seen

    def _begin_measuring(self) -> None:
        self.before = self._compilations(), self.training.scaler.get_scale()

    def _measurement(self, seen: _Seen, first_step_at_ns: int, first_step_ns: int) -> Measurement:
        parts = [ns for clock in seen.clocks for ns in clock.parts_ns()]
        on_host = [ns for clock in seen.clocks for ns in clock.host_ns()]
        log, (compilations, scale) = self.training.compile_log, self.before
        return Measurement(
            first_step_at_ns=first_step_at_ns,
            window_at_ns=seen.at_ns[0],
            first_step_ns=first_step_ns,
            warmup_steps=seen.warmup_steps,
            window_ns=sum(seen.windows_ns),
            steps_ns=by_step(parts, self.micro),
            parts_ns=by_part(parts, self.micro),
            data_wait_host_ns=by_part(on_host, self.micro)["data_wait"],
            samples=seen.samples,
            losses=torch.cat(seen.losses).cpu().tolist(),
            forward_is_local=self.training.forward_is_local,
            steps_per_epoch=self.training.batches.steps_per_epoch,
            memory=self.memory.read(),
            compile_ns=log.total_ns if log else None,
            recompilations=log.recompilations if log else None,
            compile_cache_hits=log.cache_hits if log else None,
            window_compilations=None if compilations is None else (self._compilations() or 0) - compilations,
            optimizer_steps_skipped=self._skipped(scale),
            bursts_ns=seen.windows_ns if self.spec.turns else [],
            bursts_at_ns=seen.at_ns if self.spec.turns else [],
        )

    def _window(self, steps: int) -> tuple[int, Clock]:
        """Train ``steps`` steps between two synchronisations; the wall time in ns, and the clock of their parts."""
        clock: Clock = CudaClock() if self.cuda else HostClock()
        self.samples = 0
        # Keeping each step's own loss alive would pin the heap around it, and memory would grow with every step.
        losses = torch.zeros(steps, device=self.training.device)
        self.losses.append(losses)
        self._synchronize(barrier=True)
        start = time.perf_counter_ns()
        clock.start()
        for step in range(steps):
            self._step(clock, losses[step])
        self._synchronize()
        window_ns = time.perf_counter_ns() - start
        self.step_ns = max(self.step_ns, window_ns // max(steps, 1))
        self.heartbeat.synced(self.done, self.step_ns)
        return window_ns, clock

    def _step(self, clock: Clock, keep_loss: Tensor) -> None:
        training, enter = self.training, self.heartbeat.enter
        for micro_batch in range(1, self.micro + 1):
            enter(DATA_WAIT)
            batch = next(training.batches)
            clock.mark()
            enter(COPY)
            self.samples += batch[0].shape[0]
            batch = training.to_device(batch)
            clock.mark()
            enter(FORWARD)
            with training.gradient_sync(micro_batch == self.micro):
                loss = training.loss(batch)
                clock.mark()
                enter(BACKWARD)
                training.backward(loss)
            keep_loss.add_(loss.detach())
            clock.mark()
        enter(OPTIMIZER)
        training.update()
        self.done += 1
        self.heartbeat.beat(self.done, self.planned, time.time_ns())
        clock.mark()

    def _compilations(self) -> int | None:
        return self.training.compile_log.compilations if self.training.compile_log else None

    def _skipped(self, scale_before: float) -> int | None:
        """Steps in which the optimizer did nothing because float16 overflowed: each halved the scale."""
        scaler = self.training.scaler
        scale = scaler.get_scale()  # 0 after 166 of them
        return round(math.log2(scale_before / scale)) if scaler.is_enabled() and scale else None

    def _settle(self) -> None:
        """Python's collector runs now and not in the window; memory peaks start anew."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self.memory.reset()

    def _synchronize(self, barrier: bool = False) -> None:
        self.heartbeat.enter(SYNC)
        if barrier and self.training.distributed:
            dist.barrier()
        if self.cuda:
            for device in self.training.devices:
                torch.cuda.synchronize(device)

    def _slowest(self, window_ns: int) -> float:
        """The longest of all ranks' windows: all must agree on whether to go on."""
        longest = torch.tensor(float(window_ns), dtype=torch.float64, device=self.training.device)
        if self.training.distributed:
            dist.all_reduce(longest, dist.ReduceOp.MAX)
        return longest.item()

    def _steps_for(self, seconds: float, at_least: int, step_ns: float) -> int:
        """Steps that fill ``seconds`` at ``step_ns`` a step on the slowest rank."""
        if not seconds:
            return at_least
        return max(at_least, math.ceil(seconds * LENGTHEN_BY * 1e9 / max(self._slowest(int(step_ns)), 1)))
