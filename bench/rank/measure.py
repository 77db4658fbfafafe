"""Warm up, then measure: the loop whose time is the benchmark.

Inside a window nothing waits for the device, allocates memory for the measurement, or communicates with other ranks,
except as training needs. A window begins with a barrier and a synchronisation and ends with a synchronisation. If it is
shorter than ``min_seconds``, it goes on: ranks agree on the number of further steps, and as the clock keeps running the
next step includes the time for that (a fraction of a millisecond). In a duet there are many short windows, between
those of the other side.
"""

from __future__ import annotations

import gc
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import PARTS, PIPELINE_PARTS, Measurement
from bench.messages.sampling import MEASURING, tell
from bench.messages.spec import Spec
from bench.plan.options import LEAST_WARMUP_STEPS
from bench.rank.build import Training
from bench.rank.clock import AcceleratorClock, Clock, HostClock, by_part, by_step
from bench.rank.duet_turns import Pace, TakingTurns, plan
from bench.rank.memory import PeakMemory
from bench.rank.own_step import PartsClock, StepContext
from bench.rank.pipeline import Pipeline
from bench.rank.recorded import PATIENCE_S
from bench.rank.window_length import AIM_BEYOND, more_steps, warmup_steps_left, window_steps
from workloads.base import Batch

# In the first step the optimizer creates its state; after it DDP rebuilds its buckets.

DATA_WAIT, COPY, FORWARD, BACKWARD, OPTIMIZER = (STAGE[part] for part in PARTS)
SYNC = STAGE["sync"]


def measure(training: Training, spec: Spec, heartbeat: Heartbeat, rss_at_start: float | None = None) -> Measurement:
    """Warm up, measure ``spec.steps`` steps or as many as ``spec.min_seconds`` takes, and return the measurement."""
    return _Run(training, spec, heartbeat, rss_at_start).measure()


def warmup_steps(asked: int, queued: int) -> tuple[int, int]:
    """Return how many steps come before the window, and how many of them after the pause for garbage collection.

    During the pause a DataLoader fills its queues, and the window must not start with full ones. So after it ranks
    train on as many batches as the queues hold, and one more; at least on two, to fill caches and the allocator again.
    """
    after_pause = max(queued + 1, 2)
    return max(asked, LEAST_WARMUP_STEPS, after_pause + 1), after_pause


class _Window(NamedTuple):
    """One window. ``at_ns`` is the wall clock at its begin; for ``waited_ns`` see Clock."""

    at_ns: int
    ns: int
    waited_ns: int
    samples: int
    tokens: int
    clock: Clock


@dataclass
class _Seen:
    """The windows that were measured: one, or one for each burst.

    ``losses`` has the losses of all steps, those of the timed steps last.
    """

    warmup_steps: int
    losses: list[Tensor]
    windows: list[_Window] = field(default_factory=list)


class _Run:
    def __init__(self, training: Training, spec: Spec, heartbeat: Heartbeat, rss_at_start: float | None = None) -> None:
        self.training, self.spec, self.heartbeat = training, spec, heartbeat
        self.on_accelerator = training.case.on_accelerator
        self.memory = PeakMemory(training.devices if self.on_accelerator else [], rss_at_start)
        self.memory.built()
        self.losses: list[Tensor] = []  # one tensor for each window
        self.done = 0
        self.step_ns = 0  # the longest mean step of the windows so far
        self.samples = self.tokens = 0
        self.counts_tokens = training.workload.counts_tokens
        self.own_step, self.pipeline = training.workload.has_step, training.pipeline
        self.parts = PIPELINE_PARTS if self.pipeline else PARTS
        # Of the present window, for steps whose parts come in any order.
        self.parts_clock = PartsClock(HostClock(), self.parts) if self.own_step or self.pipeline else None
        self.context = StepContext(training, self._turn)
        self.planned = spec.steps
        self.micro = training.case.micro_batches
        # number of compilations, and the loss scale, at the start of measuring
        self.before: tuple[int | None, float] = (None, 1.0)

    def measure(self) -> Measurement:
        """Return the measurement of this rank."""
        spec, queued = self.spec, math.ceil(self.training.batches.queued / self.micro)
        turns = TakingTurns(spec.turns, self.heartbeat, spec.timeout_s + PATIENCE_S) if spec.turns else None
        warmup, after_pause = warmup_steps(spec.warmup_steps, queued)
        self.planned = warmup + spec.steps
        if turns:
            turns.await_models()
            turns.before_warm_up()
        self.heartbeat.beat(0, self.planned, time.time_ns())
        first_step_at_ns = time.time_ns()
        first_step_ns = self._window(1).ns
        if resident := self.training.batches.resident:
            resident.check()
        self._warm_up_more(warmup - after_pause - 1, first_step_ns)
        self._collect_garbage()
        step_ns = self._window(after_pause).ns / after_pause
        seen = self._in_bursts(turns, step_ns, queued + 1) if turns else self._in_one_window(step_ns)
        gc.enable()
        return self._measurement(seen, first_step_at_ns, first_step_ns)

    def _warm_up_more(self, steps: int, first_step_ns: int) -> None:
        """Train the optional warm-up steps: as many as ``max_seconds`` leaves time for."""
        if self.spec.max_seconds:
            steps = warmup_steps_left(steps, self._slowest(first_step_ns), self.spec.max_seconds)
        self._window(steps)

    def _in_one_window(self, step_ns: float) -> _Seen:
        """Train one window that is long enough; ``step_ns`` is the time of a step in warm-up."""
        spec = self.spec
        limits = spec.min_seconds, spec.max_seconds
        steps = window_steps(spec.steps, self._slowest(int(step_ns)), *limits) if any(limits) else spec.steps
        self.planned = self.done + steps
        seen = _Seen(self.done, self.losses)
        self._begin_measuring()
        seen.windows.append(self._window(steps, spec.min_seconds))
        return seen

    def _in_bursts(self, turns: TakingTurns, step_ns: float, untimed: int) -> _Seen:
        """Train bursts, each a window after ``untimed`` steps.

        Before a burst the other side has filled the caches with its data, and the loader has had time to fill its
        queues, which would make the first steps too fast.
        """
        paces = turns.after_warm_up(Pace(int(self._slowest(int(step_ns))), untimed))
        assert self.spec.turns is not None
        spec, burst_s = self.spec, self.spec.turns.burst_seconds
        steps, bursts = plan(paces, burst_s, spec.steps, spec.min_seconds * AIM_BEYOND, spec.max_seconds)
        seen = _Seen(self.done + bursts * untimed, self.losses)
        self.planned = self.done + bursts * (untimed + steps)
        self._begin_measuring()
        for _ in turns.bursts(bursts):
            self._window(untimed)
            seen.windows.append(self._window(steps))
        warmup = len(self.losses) - 2 * bursts
        seen.losses = [*self.losses[:warmup], *self.losses[warmup::2], *self.losses[warmup + 1 :: 2]]
        return seen

    def _begin_measuring(self) -> None:
        tell(self.spec.scratch, Path(self.spec.folder).name, int(os.environ.get("RANK", 0)), MEASURING)
        if resident := self.training.batches.resident:
            resident.begin_window()
        self.before = self._compilations(), self.training.scaler.get_scale()

    def _measurement(self, seen: _Seen, first_step_at_ns: int, first_step_ns: int) -> Measurement:
        windows = seen.windows
        parts = [ns for window in windows for ns in window.clock.parts_ns()]
        on_host = [ns for window in windows for ns in window.clock.host_ns()]
        log, (compilations, scale) = self.training.compile_log, self.before
        graphs = log.graphs if log else None
        repeated = 1 if self.parts_clock else self.micro  # how often the parts of a micro-batch follow each other
        has_loss = self.pipeline is None or self.pipeline.has_loss
        return Measurement(
            first_step_at_ns=first_step_at_ns,
            window_at_ns=windows[0].at_ns,
            first_step_ns=first_step_ns,
            warmup_steps=seen.warmup_steps,
            window_ns=sum(window.ns for window in windows),
            waited_ns=sum(window.waited_ns for window in windows),
            steps_ns=by_step(parts, repeated, self.parts),
            parts_ns=by_part(parts, repeated, self.parts),
            data_wait_host_ns=by_part(on_host, repeated, self.parts)["data_wait"],
            samples=sum(window.samples for window in windows),
            tokens=sum(window.tokens for window in windows) if self.counts_tokens else None,
            losses=torch.cat(seen.losses).cpu().tolist() if has_loss else [],
            has_loss=has_loss,
            forward_is_local=self.training.forward_is_local,
            steps_per_epoch=self.training.batches.steps_per_epoch,
            memory=self.memory.read(),
            compile_ns=log.total_ns if log else None,
            recompilations=log.recompilations if log else None,
            compile_cache_hits=log.cache_hits if log else None,
            graphs=graphs and graphs[0],
            graph_breaks=graphs and graphs[1],
            window_compilations=None if compilations is None else (self._compilations() or 0) - compilations,
            optimizer_steps_skipped=self._skipped(scale),
            bursts_ns=[window.ns for window in windows] if self.spec.turns else [],
            bursts_at_ns=[window.at_ns for window in windows] if self.spec.turns else [],
        )

    def _window(self, steps: int, min_seconds: float = 0.0) -> _Window:
        """Train ``steps`` steps between two synchronisations, and more until they have taken ``min_seconds``."""
        clock: Clock = AcceleratorClock(self.training.device) if self.on_accelerator else HostClock()
        if self.parts_clock:
            clock = self.parts_clock = PartsClock(clock, self.parts)
        self.samples = self.tokens = done = 0
        losses = self._keep_losses(steps)
        self._synchronize(barrier=True)
        at_ns = time.time_ns()
        clock.start()
        while True:
            for loss in losses:
                self._train(clock, loss)
            clock.close()
            self._synchronize()
            window_ns = clock.window_ns()
            done += len(losses)
            more = more_steps(done, self._slowest(window_ns), min_seconds) if min_seconds else 0
            if not more:
                break
            self.planned = self.done + more
            losses = self._keep_losses(more)
        self.step_ns = max(self.step_ns, window_ns // max(done, 1))
        self.heartbeat.synced(self.done, self.step_ns)
        return _Window(at_ns, window_ns, clock.waited_ns(), self.samples, self.tokens, clock)

    def _keep_losses(self, steps: int) -> tuple[Tensor, ...]:
        """Return a place for the loss of each of ``steps`` steps.

        Keeping the loss tensors themselves would pin the heap around them, and memory would grow with every step.
        """
        losses = torch.zeros(steps, device=self.training.device)
        self.losses.append(losses)
        return losses.unbind()

    def _batch(self, clock: Clock) -> Batch:
        """Return the next micro-batch on the device, with its samples and tokens counted."""
        training, enter = self.training, self.heartbeat.enter
        enter(DATA_WAIT)
        batch = next(training.batches)
        clock.mark("data_wait")
        enter(COPY)
        self.samples += training.workload.batch_size_of(batch)
        if self.counts_tokens:
            self.tokens += training.workload.tokens_of(batch)
        batch = training.to_device(batch)
        clock.mark("copy")
        return batch

    def _train(self, clock: Clock, keep_loss: Tensor) -> None:
        """Train a step."""
        if self.pipeline:
            self._pipeline_step(self.pipeline, clock, keep_loss)
        elif isinstance(clock, PartsClock):
            self._own_step(clock, keep_loss)
        else:
            self._step(clock, keep_loss)

    def _pipeline_step(self, pipeline: Pipeline, clock: Clock, keep_loss: Tensor) -> None:
        """Train a step whose micro-batches go through the stages of a pipeline."""
        training, enter = self.training, self.heartbeat.enter
        assert isinstance(clock, PartsClock)
        batches = [self._batch(clock) for _ in range(self.micro)]
        now = "copy"

        def turn(part: str) -> None:
            nonlocal now
            clock.mark(now)
            enter(STAGE[part])
            now = part

        loss = pipeline.step(batches, turn)
        clock.mark(now)
        if loss is not None:
            keep_loss.add_(loss.detach())
        del loss, batches
        enter(OPTIMIZER)
        training.update()
        self._beat()
        clock.mark(PARTS[-1])
        clock.end_step()

    def _step(self, clock: Clock, keep_loss: Tensor) -> None:
        training, enter = self.training, self.heartbeat.enter
        for micro_batch in range(1, self.micro + 1):
            batch = self._batch(clock)
            enter(FORWARD)
            with training.gradient_sync(micro_batch == self.micro):
                loss = training.loss(batch)
                clock.mark("forward")
                enter(BACKWARD)
                training.backward(loss)
            keep_loss.add_(loss.detach())
            del loss  # frees the graph here and not in the next step's wait for data
            clock.mark("backward")
        enter(OPTIMIZER)
        training.update()
        self._beat()
        clock.mark("optimizer")

    def _own_step(self, clock: PartsClock, keep_loss: Tensor) -> None:
        """Train a step as the workload says."""
        training, enter, ctx = self.training, self.heartbeat.enter, self.context
        for micro_batch in range(1, self.micro + 1):
            batch = self._batch(clock)
            enter(FORWARD)
            ctx.last = micro_batch == self.micro
            with training.gradient_sync(ctx.last):
                loss = training.workload.step(training.model, batch, ctx)
            keep_loss.add_(loss.detach() / self.micro)
            del loss
            clock.mark("forward")
        enter(OPTIMIZER)
        ctx.end()
        clock.end_step()
        self._beat()

    def _turn(self, ended: str, begins: str) -> None:
        """Note that a part of an own step has ended, and another begins."""
        assert self.parts_clock is not None
        self.parts_clock.mark(ended)
        self.heartbeat.enter(STAGE[begins])

    def _beat(self) -> None:
        self.done += 1
        self.heartbeat.beat(self.done, self.planned, time.time_ns())

    def _compilations(self) -> int | None:
        return self.training.compile_log.compilations if self.training.compile_log else None

    def _skipped(self, scale_before: float) -> int | None:
        """Return in how many steps the optimizer did nothing because float16 overflowed: each step halved the scale."""
        scaler = self.training.scaler
        scale = scaler.get_scale()  # 0 after 166 skipped steps
        return round(math.log2(scale_before / scale)) if scaler.is_enabled() and scale else None

    def _collect_garbage(self) -> None:
        """Collect garbage now rather than in the window, and reset the peaks of memory."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self.memory.reset()

    def _synchronize(self, barrier: bool = False) -> None:
        self.heartbeat.enter(SYNC)
        if barrier and self.training.distributed:
            dist.barrier()
        self.training.synchronize()

    def _slowest(self, ns: int) -> float:
        """Return the longest time of all ranks, as all must agree on the number of steps."""
        longest = torch.tensor(float(ns), dtype=torch.float64, device=self.training.device)
        if self.training.distributed:
            dist.all_reduce(longest, dist.ReduceOp.MAX)
        return longest.item()
