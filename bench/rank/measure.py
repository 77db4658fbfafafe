"""Warm up, then measure: the loop whose time is the benchmark.

Nothing in the window waits for the device, allocates for the measurement's sake, or talks to another rank but for
training. A window opens with a barrier and one synchronisation and closes with one.
"""

from __future__ import annotations

import gc
import math
import time

import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages import PARTS, STAGE, Heartbeat, Measurement, Spec
from bench.rank.build import Training
from bench.rank.clock import Clock, CudaClock, HostClock, by_part, by_step
from bench.rank.memory import PeakMemory

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

    def measure(self) -> Measurement:
        warmup, after_pause = warmup_steps(self.spec.warmup_steps, math.ceil(self.training.batches.queued / self.micro))
        self.planned = warmup + self.spec.steps
        self.heartbeat.beat(0, self.planned, time.time_ns())
        first_step_at_ns = time.time_ns()
        first_step_ns, _ = self._window(1)
        self._window(warmup - after_pause - 1)
        self._settle()
        warm_ns, _ = self._window(after_pause)

        steps = self._steps_for(self.spec.min_seconds, self.spec.steps, warm_ns / after_pause)
        while True:
            self.planned = self.done + steps
            before = self.done
            compilations, scale = self._compilations(), self.training.scaler.get_scale()
            window_ns, clock = self._window(steps)
            window_at_ns = time.time_ns() - window_ns
            slowest_s = self._slowest(window_ns) / 1e9
            if slowest_s >= self.spec.min_seconds:
                break
            # the steps so far become warm-up, and a longer window follows
            steps = self._steps_for(self.spec.min_seconds, steps + 1, slowest_s * 1e9 / steps)
        gc.enable()
        parts = clock.parts_ns()
        log = self.training.compile_log
        return Measurement(
            first_step_at_ns=first_step_at_ns,
            window_at_ns=window_at_ns,
            first_step_ns=first_step_ns,
            warmup_steps=before,
            window_ns=window_ns,
            steps_ns=by_step(parts, self.micro),
            parts_ns=by_part(parts, self.micro),
            data_wait_host_ns=by_part(clock.host_ns(), self.micro)["data_wait"],
            samples=self.samples,
            losses=torch.cat(self.losses).cpu().tolist(),
            forward_is_local=self.training.forward_is_local,
            steps_per_epoch=self.training.batches.steps_per_epoch,
            memory=self.memory.read(),
            compile_ns=log.total_ns if log else None,
            recompilations=log.recompilations if log else None,
            compile_cache_hits=log.cache_hits if log else None,
            window_compilations=None if compilations is None else (self._compilations() or 0) - compilations,
            optimizer_steps_skipped=self._skipped(scale),
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
            torch.cuda.synchronize()

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
