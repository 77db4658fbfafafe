"""A rank's way through the rounds: checks each collective, then times it.

All ranks must decide alike, or they would wait for each other for ever. So they agree after whatever may fail on some.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from bench.messages.comms_record import CommsTimes
from bench.messages.heartbeat import Heartbeat
from bench.messages.rank_record import RankRecord
from bench.messages.spec import Spec
from bench.plan.comms import BARRIER, COLLECTIVES, CommsSpec
from bench.plan.comms_rounds import Ranks, Round, message_bytes, rounds
from bench.rank.comms.collectives import Group, Operation, clear, fill, is_correct, make
from bench.rank.comms.timing import iterations, timed
from bench.rank.memory import free_bytes
from bench.rank.recorded import failure_of

SAVE_S = 2.0  # Seconds after which the record is written again: what was measured is kept if the process is killed.
FREE_SHARE = 0.8  # Of the free memory, what messages may take.
REASON = 300  # Characters.
GIB = 1 << 30
STAGING = 2  # Gloo and copies between host and device hold as much again.


class Sweep:
    """The rounds of one rank. ``record`` has what it measured so far."""

    def __init__(self, spec: Spec, record: RankRecord, heartbeat: Heartbeat, device: torch.device) -> None:
        comms = spec.case.spec.comms
        assert comms is not None
        self.comms: CommsSpec = comms
        self.spec, self.record, self.heartbeat, self.device = spec, record, heartbeat, device
        self.groups: dict[Ranks, Group | None] = {tuple(range(dist.get_world_size())): dist.group.WORLD}
        self.measured: list[CommsTimes] = []
        self._saved = time.monotonic()
        self._slowest_ns = 0
        # One number for all ranks, so that none runs out of memory where others do not.
        self.free = -self._most(-free_bytes(device) / _sharing(spec, device)) * FREE_SHARE

    def run(self) -> None:
        """Measure every round, and write the record."""
        planned = list(rounds(self.comms, self.spec.nodes))
        try:
            for number, one in enumerate(planned):
                self.heartbeat.beat(number, len(planned), time.time_ns())
                began = time.perf_counter_ns()
                self._round(number, one)
                self._slowest_ns = max(self._slowest_ns, time.perf_counter_ns() - began)
                self.heartbeat.synced(number + 1, self._slowest_ns)
                if time.monotonic() - self._saved > SAVE_S:
                    self._save()
        except BaseException:
            self._save()
            raise
        self.heartbeat.beat(len(planned), len(planned), time.time_ns())
        self._save(done=True)

    def _save(self, done: bool = False) -> None:
        self.record = dataclasses.replace(self.record, comms=self.measured, comms_done=done)
        self.record.write(self.spec.folder)
        self._saved = time.monotonic()

    def _round(self, number: int, one: Round) -> None:
        """Take part in a round: with a collective of this rank's group, or waiting for the others."""
        ranks = one.of(dist.get_rank())
        for members in one.groups:
            if members not in self.groups:  # every rank takes part in making a group
                made = dist.new_group(list(members))
                self.groups[members] = made if isinstance(made, Group) else None  # this rank is not in it
        why = self._misfit(one)
        found = CommsTimes(number, status="skipped", reason=why) if why else self._measured(number, one, ranks)
        if ranks:
            self.measured.append(found)

    def _measured(self, number: int, one: Round, ranks: Ranks | None) -> CommsTimes:
        operation: Operation | None = None

        def allocate() -> None:
            nonlocal operation
            if ranks:
                group = self.groups[ranks]
                assert group is not None
                operation = make(one.collective, one.dtype, one.size, ranks, group, self.device)
                fill(operation, dist.get_rank())

        correct: bool | None = None

        def check() -> None:
            nonlocal correct
            if operation:
                operation.call()
                correct = is_correct(operation)

        if failed := self._failed(allocate, number):
            return failed
        if failed := self._failed(check, number, ranks=sum(map(len, one.groups))):
            return failed
        if operation:
            clear(operation)
        times = self._times(operation, by_host=one.collective == BARRIER)
        return CommsTimes(number, times, correct)

    def _failed(self, attempt: Callable[[], None], number: int, ranks: int = 0) -> CommsTimes | None:
        """Return how an attempt failed on this rank or on another one; None if it succeeded on all.

        Raise the error of a call that failed on some of its ``ranks`` only: the group cannot be used any more.
        """
        error: Exception | None = None
        try:
            attempt()
        except Exception as raised:
            error = raised.with_traceback(None)  # it would keep the buffers
        failures = self._sum(error is not None)
        if not failures:
            return None
        if ranks and failures < ranks:
            raise error or RuntimeError("the collective failed on another rank")
        if error is None:
            return CommsTimes(number, status="skipped", reason="it failed on another rank")
        said = failure_of(error)
        kind = "skipped" if ranks else said.kind  # all ranks refuse what the backend does not have
        return CommsTimes(number, status=kind, reason=said.message[:REASON])

    def _times(self, operation: Operation | None, by_host: bool) -> list[int]:
        """Return the times of the iterations; none for a rank that waits for the others."""

        def run(number: int) -> list[int]:
            return timed(operation.call, number, self.device, by_host) if operation else []

        number = iterations(self.comms, self._most(sum(run(1))))
        run(min(max(self.comms.warmup_iters - 2, 0), number))
        self._most(0)  # all begin together
        return run(number)

    def _misfit(self, one: Round) -> str:
        """Return why the message is too small, or too large for the memory; an empty text if it fits."""
        ranks = min(map(len, one.groups))
        if one.collective == BARRIER:
            return ""
        if not message_bytes(one.collective, one.dtype, one.size, ranks):
            return f"{one.size} bytes are less than a number of {one.dtype} for each rank"
        on_host = dist.get_backend() != "nccl"
        needed = COLLECTIVES[one.collective].buffers * one.size * (STAGING if on_host else 1)
        if needed <= self.free:
            return ""
        return f"it needs {needed / GIB:.3g} GiB on each rank, and {self.free / GIB:.3g} GiB may be used (--sizes)"

    def _most(self, value: float) -> float:
        """Return the largest of the values of all ranks, when all have one."""
        return self._agreed(value, dist.ReduceOp.MAX)

    def _sum(self, value: float) -> float:
        return self._agreed(value, dist.ReduceOp.SUM)

    def _agreed(self, value: float, by: dist.ReduceOp.RedOpType) -> float:
        one = torch.tensor([float(value)], dtype=torch.float64, device=self.device)
        dist.all_reduce(one, by)
        return float(one.item())


def _sharing(spec: Spec, device: torch.device) -> int:
    """Return how many ranks share the memory that a rank sees as free: those on its host, or on its GPU."""
    on_node = int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cpu":
        return on_node
    return -(-on_node // torch.get_device_module(device).device_count()) if spec.case.oversubscribe else 1
