"""Ranks in place of a launcher that keep a pace of their own in each launch: comparisons without torch."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import cli
from bench.comparison.abba import Ab
from bench.comparison.setup import Contest
from bench.comparison.sides import Side
from bench.machine.gpus import Machine
from bench.machine.preflight import Look
from bench.messages.counts import CountLine, Counts
from bench.messages.matmul_peak import MatmulPeak, Product
from bench.messages.rank_record import MEMORY, PARTS, Failure, Measurement, RankRecord
from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.description import Description
from bench.plan.plan import Asked, asked
from bench.runner.launch_request import DESCRIBE_ENTRY, MATMUL_ENTRY
from bench.runner.run_session import Session
from bench.stats.power import Blocks
from bench.store.columns import LaunchRow
from launch import Elsewhere, Launcher, LaunchError, Outcome, Prepared, Request, Watch, never_stop

STEP_NS = 10**8  # at a pace of 1
MLP = {"workload": "mlp", "strategy": "single", "gpus": "1", "device": "cpu"}

RANK_PIDS, STRANGER = (501, 502), 999
SECONDS = 10**9
TORCH = importlib.metadata.version("torch")

Pace = Callable[[Case, int], float]  # of a case in the launch of that number, from 0
COUNTS = Counts([CountLine("forward", "operation", "addmm", "float32", calls=3, bytes_read=96, bytes_written=32)])


class Quiet:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def launch_begins(self, *_: object) -> None: ...
    def progress(self, *_: object) -> None: ...
    def launch_ends(self, row: LaunchRow) -> None: ...


@dataclasses.dataclass
class Ranks(Launcher):
    """In place of a launcher: each rank writes its record, computes on the GPU that CUDA gives it, and is done."""

    folder: Path
    uuids: list[list[str]]
    fails: bool = False
    name: str = "NVIDIA H200"
    fits: int = 1 << 30  # a larger batch runs out of memory
    units: tuple[str, ...] = ("resident",)
    multiplies: bool = True  # else the rank that measures the matmul peak exits with 1
    multiplied: int = 0  # times
    product_s: list[float] = dataclasses.field(default_factory=lambda: [1e-3])  # of each measurement, the last again
    waited: float = 0.0  # share of that time

    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        return _Ready(self, request)

    def close(self) -> None: ...

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        spec = Spec.read(request.argument)
        if request.entry == DESCRIBE_ENTRY:
            Description("samples", 64, self.units, None, 10, 2, 6e9, 6e9).write(request.log)
            return Outcome({})
        if request.entry == MATMUL_ENTRY:
            return self._multiply(spec, request)
        for rank, uuids in enumerate(self.uuids[: request.ranks]):
            record = RankRecord(rank, rank, "host", RANK_PIDS[rank], True, self.name, uuids, {"torch": TORCH})
            if self.fails or (spec.case.batch_size or 0) > self.fits:
                done = dataclasses.replace(record, failure=Failure("oom", "OutOfMemoryError: too much", 1))
            else:
                done = dataclasses.replace(record, measurement=self._measured(spec), counts=COUNTS)
            done.write(request.log)
        failed = self.fails or (spec.case.batch_size or 0) > self.fits
        return Outcome(dict.fromkeys(range(request.ranks), 1) if failed else {})

    def _multiply(self, spec: Spec, request: Request) -> Outcome:
        """One product of 2 x 1000 x 500 x 1000 FLOPs, by default in a millisecond: a peak of 1 TFLOP/s."""
        threads, self.multiplied = int(request.environment["OMP_NUM_THREADS"]), self.multiplied + 1
        if self.multiplies:
            seconds = self.product_s.pop(0) if len(self.product_s) > 1 else self.product_s[0]
            products = [Product(1000, 500, 1000, 5, seconds)]
            peak = MatmulPeak(self.name, str(spec.case.precision), threads, TORCH, products, self.waited)
            peak.write(request.log)
        return Outcome({} if self.multiplies else {0: 1})

    def _measured(self, spec: Spec) -> Measurement:
        step_ns = 5 * len(PARTS) * SECONDS // 10
        assert spec.case.rank_batch is not None
        return Measurement(
            first_step_at_ns=time.time_ns(),
            window_at_ns=time.time_ns()
            - 40 * SECONDS,  # of 75 s: all readings fall into it, none lies before or after it
            first_step_ns=step_ns,
            warmup_steps=3,
            window_ns=spec.steps * step_ns,
            steps_ns=[step_ns] * spec.steps,
            parts_ns={part: [step_ns // len(PARTS)] * spec.steps for part in PARTS},
            data_wait_host_ns=[0] * spec.steps,
            samples=spec.case.rank_batch * spec.steps,
            losses=[1.0] * (3 + spec.steps),
            forward_is_local=True,
            steps_per_epoch=None,
            memory={**dict.fromkeys(MEMORY), "device_used_mib": 7000.0},
        )


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A launch of ranks that are no processes."""

    ranks: Ranks
    request: Request
    elsewhere: Elsewhere | None = None

    @property
    def scratch(self) -> Path:
        return self.ranks.folder

    def launch(self, watch: Watch = never_stop) -> Outcome:
        return self.ranks.launch(self.request, watch)


@dataclasses.dataclass
class Turns(Ranks):
    """``launched`` has what was launched, each with the number of the launcher's server, from 1; a launch whose number
    is in ``fails_at`` runs out of memory, one in ``never_starts`` does not come to be."""

    pace: Pace = lambda case, number: 1.0
    fails_at: Callable[[Case, int], bool] = lambda case, number: False
    never_starts: bool = False
    launched: list[tuple[int, Case]] = dataclasses.field(default_factory=list)
    servers: int = 0
    is_up: bool = False

    def close(self) -> None:
        self.is_up = False

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        spec = Spec.read(request.argument)
        if request.entry not in (DESCRIBE_ENTRY, MATMUL_ENTRY):
            if self.never_starts:
                raise LaunchError("the launch server did not start")
            self.servers += not self.is_up
            self.is_up = True
            self.fails = self.fails_at(spec.case, len(self.launched))
            self.launched.append((self.servers, spec.case))
        return super().launch(request, watch)

    def _measured(self, spec: Spec) -> Measurement:
        one = super()._measured(spec)
        part = round(STEP_NS / len(PARTS) / self.pace(spec.case, len(self.launched) - 1))
        step = part * len(PARTS)
        return dataclasses.replace(
            one,
            window_ns=spec.steps * step,
            steps_ns=[step] * spec.steps,
            parts_ns={name: [part] * spec.steps for name in PARTS},
        )


def plain(monkeypatch: pytest.MonkeyPatch, ranks: Ranks) -> None:
    """Every launch from now on is made by ``ranks``, on a machine without GPUs that nobody looks at."""
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(ranks.folder / "cache"))  # where no real peak is
    for module in ("bench.comparison.setup", "bench.machine.gpus"):
        monkeypatch.setattr(f"{module}.this_machine", Machine)
    monkeypatch.setattr("bench.runner.machine_survey.look", lambda *_: Look())


def wanted(axes: dict[str, str] | None = None, **settings: str) -> Asked:
    """Five steps of mlp on one CPU rank, and what is given over that."""
    return asked({name: [text] for name, text in {**MLP, **(axes or {})}.items()}, {"steps": "5", **settings})


@contextmanager
def turns(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    ranks: Turns,
    a: dict[str, str],
    b: dict[str, str],
    blocks: Blocks | dict[str, Blocks],
    axes: dict[str, str] | None = None,
    **settings: str,
) -> Iterator[tuple[Ab, dict[str, Session], list[str]]]:
    """A comparison that is ready to run, its sessions, and what it tells."""
    plain(monkeypatch, ranks)
    sides = [Side(name, {axis: [text] for axis, text in own.items()}) for name, own in (("A", a), ("B", b))]
    contest, told = Contest.planned("ab", wanted(axes, **settings), sides, out), list[str]()
    with contest.begun(Quiet()) as (store, sessions):
        try:
            pairs, _ = contest.completed(sessions)
            counts = blocks if isinstance(blocks, dict) else {pair.name: blocks for pair in pairs}
            seed = contest.plans["A"].protocol.order_seed
            yield Ab(pairs, sessions, counts, seed, told.append), sessions, told
        finally:
            store.close()


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cwd: Path, *words: str) -> Done:
    """`bench` in this process, whose ranks are those of ``plain``; results are in ``cwd``."""
    monkeypatch.chdir(cwd)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    monkeypatch.setattr("bench.interrupts.install", lambda: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert "Traceback" not in err, err
    return Done(int(end.value.code or 0), out, err)
