"""Two launches that take turns: real ranks on the CPU, and the numbers that are made of their bursts."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import torch.distributed as dist
from fake_ranks import Ranks
from processes import alive, marked

from bench import interrupts
from bench.comparison import duet as module
from bench.comparison.duet import Duet, both_fit, interquartile_mean, log_ratios
from bench.machine.environment import rank_environment
from bench.machine.gpus import Gpu, Machine
from bench.messages.heartbeat import STAGES, Beat, Heartbeat
from bench.messages.rank_record import OTHER_IS_GONE, Failure, Measurement, RankRecord
from bench.messages.spec import Spec, Turns
from bench.plan.case import Case
from bench.plan.description import Description
from bench.plan.make_case import make_case
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import Protocol
from bench.rank import duet_turns as taking
from bench.rank.duet_turns import Pace, TakingTurns, plan
from bench.runner.failure_cause import Evidence
from bench.runner.gpu_sampler import DeviceSample
from bench.runner.launch_case import CaseLauncher
from bench.runner.launch_role import ALONE, OF_THE_DEVICE, DuetSide, Role
from bench.runner.launched import End, Judge, Launched
from bench.runner.node_sampler import NodeSamples
from bench.runner.rank_site import Site
from bench.store.columns import LaunchRow, Row
from launch import Outcome

FAULTY = f"{Path(__file__).parents[1]}/helpers/faulty.py:Faulty"
SHORT_S = 0.02  # of a burst
SOON_S = 60.0  # for what must not take the 660 s that a rank would wait for the other side
BRIEF = Protocol(
    **{name: option.default for name, option in SETTINGS.items()}  # type: ignore[arg-type]
    | {"warmup_steps": 3, "steps": 16, "launches": 1, "count_work": False, "stragglers": False}  # as comparisons do
)


def case(workload: str = "mlp", **axes: Any) -> Case:
    values = {name: option.default for name, option in AXES.items()}
    return make_case(values | {"workload": workload, "gpus": 1, "device": "cpu", "batch_size": 2, **axes}, Machine())


@dataclass
class Side:
    """One side: a case, and what it is launched by."""

    launcher: CaseLauncher
    case: Case
    description: Description
    folder: Path
    protocol: Protocol

    def launch(self, role: Role) -> Launched:
        return self.launcher.launch(self.case, self.description, self.folder, self.protocol, role)


class Played(NamedTuple):
    """What became of both sides."""

    a: Launched
    b: Launched


class Stage:
    """Where duets are played: a launcher a side, whose servers last; ``told`` is called with each side's beats."""

    def __init__(self, folder: Path) -> None:
        self.marker = f"duet-{os.getpid()}"
        environment = {**rank_environment(), "BENCH_TEST": self.marker}
        self.folder, self.numbers = folder, itertools.count()
        self.told: Callable[[str, Beat], None] = lambda side, beat: None
        self.launchers = [
            CaseLauncher(
                Machine(),
                environment,
                folder / f"{side}.log",
                BRIEF,
                print,
                lambda beat, side=side: self.told(side, beat),  # type: ignore[misc]
            )
            for side in "AB"
        ]
        for launcher in self.launchers:
            launcher._launcher._launches_per_server = 40  # type: ignore[attr-defined]
        self.descriptions: dict[tuple[int, str], Description] = {}

    def side(self, which: int, case: Case, **settings: Any) -> Side:
        launcher, key = self.launchers[which], (which, case.workload)
        if key not in self.descriptions:
            self.descriptions[key] = launcher.describe(case, self.new_folder)
        return Side(launcher, case, self.descriptions[key], self.new_folder(), replace(BRIEF, **settings))

    def play(self, a: Case, b: Case, seconds: float = SHORT_S, **settings: Any) -> tuple[Played, Side, Side]:
        sides = self.side(0, a, **settings), self.side(1, b, **settings)
        return Played(*Duet(*sides, seconds).launched()), *sides

    def new_folder(self) -> Path:
        folder = self.folder / f"{next(self.numbers):03}"
        folder.mkdir()
        return folder

    def ranks(self) -> list[psutil.Process]:
        """What the fork servers have forked; their own parents are the launch servers."""
        found = []
        for process in alive(marked(self.marker)):
            with contextlib.suppress(psutil.Error):
                if (parent := process.parent()) and "forkserver" in " ".join(parent.cmdline()):
                    found.append(process)
        return alive(found)

    def close(self) -> None:
        for launcher in self.launchers:
            launcher.close()


@pytest.fixture(scope="module")
def stage(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("duet"))
    yield stage
    stage.close()


def measurements(side: Side) -> list[Measurement]:
    records = RankRecord.read_all(side.folder, side.case.world_size)
    return [record.measurement for _, record in sorted(records.items()) if record.measurement]


# -- both sides are well -------------------------------------------------------------------------------------------


def check_turns(a: Side, b: Side) -> None:
    """A B B A by the wall clock, and no burst begins before all ranks have ended the one before it."""
    bursts = sorted(
        (at, at + took, name)
        for name, side in (("A", a), ("B", b))
        for m in measurements(side)
        for at, took in zip(m.bursts_at_ns, m.bursts_ns, strict=True)
    )
    order = [(name, list(group)) for name, group in itertools.groupby(bursts, key=lambda burst: burst[2])]
    ranks = {"A": a.case.world_size, "B": b.case.world_size}
    at_once = [len(group) // ranks[name] for name, group in order]
    assert "".join(name * number for (name, _), number in zip(order, at_once, strict=True)) == "ABBA" * (
        sum(at_once) // 4
    )
    for (_, before), (_, after) in itertools.pairwise(order):
        assert max(end for _, end, _ in before) < min(at for at, _, _ in after)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (case(), case()),
        (case("gpt-nano", gpus=2, strategy="ddp"), case("gpt-nano", gpus=2, strategy="fsdp")),
        (case(gpus=2, batch_size=4), case(batch_size=2, precision="amp-bf16")),
        (case(data="synthetic", num_workers=1, prefetch_factor=2), case(grad_accum_steps=2)),
    ],
    ids=["1+1", "2+2", "2+1", "loader"],
)
def test_two_sides_take_turns(stage: Stage, a: Case, b: Case) -> None:
    played, *sides = stage.play(a, b)
    bursts = {len(m.bursts_ns) for side in sides for m in measurements(side)}
    assert len(bursts) == 1
    assert len(log_ratios(*played)) == (count := bursts.pop()) >= 8
    assert count % 2 == 0
    check_turns(*sides)
    for side, launched in zip(sides, played, strict=True):
        row, steps = launched.row, launched.row["window_steps"]
        assert (row["status"], row["reason"]) == ("ok", None)
        assert row["samples"] == steps * side.case.global_batch
        assert steps == count * row["burst_steps"] >= BRIEF.steps
        assert row["burst_steps"] >= 2
        assert row["bursts"] == count
        assert row["window_s"] * 1e9 == pytest.approx(max(sum(m.bursts_ns) for m in measurements(side)))
        assert len(launched.others["steps.csv"]) == steps
        assert launched.row.get("startup_s") is None
        assert len(measurements(side)[0].losses) == steps + row["warmup_steps_done"]
        queued = 2 if side.case.data == "synthetic" else 0
        warmup = {0: 3, 2: 4}[queued]
        assert row["warmup_steps_done"] == warmup + count * (1 + queued)
    assert played.a.row["window_steps"] == played.b.row["window_steps"]
    assert played.a.row["duet_ratio"] == pytest.approx(math.exp(interquartile_mean(log_ratios(*played))))


def test_three_times_the_work_is_slower(stage: Stage) -> None:
    played, a, b = stage.play(case(f"{FAULTY}:sleep_ms=10"), case(f"{FAULTY}:sleep_ms=30"), 0.1)
    assert played.a.row["duet_ratio"] is not None
    assert math.log(played.a.row["duet_ratio"]) < 0
    assert all(ratio < 0 for ratio in log_ratios(*played))
    check_turns(a, b)


def test_min_seconds_are_of_each_sides_own(stage: Stage) -> None:
    slow, fast = case(f"{FAULTY}:sleep_ms=20"), case(f"{FAULTY}:sleep_ms=10")
    played, *_ = stage.play(slow, fast, 0.1, min_seconds=0.5)
    assert len(log_ratios(*played)) >= 8
    assert (played.b.row["window_s"], played.a.row["window_s"]) > (0.4, 0.8)  # by the warm-up's steps, so not exactly


def test_the_side_that_is_done_first_does_not_end_within_the_others_last_burst(stage: Stage) -> None:
    """A's last burst takes 4 x 30 ms; what B writes at its end comes after it (file times are coarse by some ms)."""
    _, a, b = stage.play(case(f"{FAULTY}:sleep_ms=30"), case(f"{FAULTY}:sleep_ms=30"), 0.12)
    [last] = [m.bursts_at_ns[-1] + m.bursts_ns[-1] for m in measurements(a)]
    [written] = [file.stat().st_mtime_ns for file in b.folder.glob("rank0.json")]
    assert written > last - 10 * MS


def test_both_sides_have_as_many_threads(stage: Stage) -> None:
    """The store has one, on side A; in a process that has another beside its main thread all counting is atomic."""
    seen: list[list[int]] = []

    def look(side: str, beat: Beat) -> None:
        with contextlib.suppress(psutil.Error):
            seen.append([rank.num_threads() for rank in stage.ranks()])

    stage.told = look
    try:
        stage.play(case(f"{FAULTY}:sleep_ms=30"), case(f"{FAULTY}:sleep_ms=30"), min_seconds=1.0)
    finally:
        stage.told = lambda side, beat: None
    training = [max(counts) - min(counts) for counts in seen if len(counts) == 2][len(seen) // 2 :]
    # One look may meet a thread that lives for a moment only, as at the end; the store's would be there at every look.
    assert statistics.median(training) == 0


# -- a side fails --------------------------------------------------------------------------------------------------

RAISED = "ValueError: the cause in one sentence."


FAILS = (
    ("A", "fault=raise:step=2", 1, RAISED),
    ("B", "fault=raise:step=2:rank=1", 2, RAISED),
    ("B", "fault=kill:step=11", 1, "killed by SIGKILL"),
    ("A", "fault=kill:step=11:rank=1", 2, "killed by SIGKILL"),
    ("B", "fault=exit:step=11:rank=0", 2, "exited with code 3"),
)


@pytest.mark.parametrize(
    ("failing", "fault", "ranks", "reason"),
    # each fault on one side; the same on the other side is slow
    [*FAILS, *(pytest.param("B" if side == "A" else "A", *fault, marks=pytest.mark.slow) for side, *fault in FAILS)],
)
def test_a_side_that_fails_ends_the_other(stage: Stage, failing: str, fault: str, ranks: int, reason: str) -> None:
    bad, well = case(f"{FAULTY}:{fault}", gpus=ranks), case(f"{FAULTY}:sleep_ms=5", gpus=ranks)
    began = time.monotonic()
    played, *_ = stage.play(*((bad, well) if failing == "A" else (well, bad)))
    assert time.monotonic() - began < SOON_S
    failed, other = (played.a, played.b) if failing == "A" else (played.b, played.a)
    assert failed.row["status"] == "crashed"
    assert failed.row["reason"].endswith(reason)
    assert other.row["status"] == "interrupted"
    assert other.row["reason"] == f"side {failing} of the duet ended, crashed: {failed.row['reason']}"
    assert [(one.row["duet_ratio"], one.bursts_ns, one.row["bursts"]) for one in played] == [(None, [], None)] * 2
    assert not stage.ranks()


def test_a_side_that_hangs_ends_itself_and_the_other(stage: Stage) -> None:
    """The other waits for longer than the limit, and is not the one that is found to hang."""
    bad, well = case(f"{FAULTY}:fault=hang:step=9"), case(f"{FAULTY}")
    played, *_ = stage.play(well, bad, hang_timeout=3.0)
    assert played.b.row["status"] == "timeout"
    assert "(--hang-timeout 3): all ranks" not in played.b.row["reason"]
    assert "in the forward pass" in played.b.row["reason"]
    assert played.a.row["status"] == "interrupted"
    assert played.a.row["reason"].startswith("side B of the duet ended, timeout: no progress for ")


def test_what_one_side_has_measured_is_kept(stage: Stage) -> None:
    """The last burst is A's: B has measured all when A fails in it. A's steps: 3 of warm-up, 8 bursts of 1 + 2."""
    played, *_ = stage.play(case(f"{FAULTY}:fault=raise:step=27"), case(FAULTY), 1e-9)
    assert played.a.row["reason"].endswith(RAISED)
    assert (played.b.row["status"], played.b.row["window_steps"]) == ("ok", 16)
    assert [one.row["duet_ratio"] for one in played] == [None] * 2


def test_a_port_that_is_taken_is_the_machines_fault(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(module, "free_port", lambda: taken.getsockname()[1])
        played, *_ = stage.play(case(), case())
    assert "Address already in use" in played.a.row["reason"]
    assert played.a.machine_failure
    assert not played.b.machine_failure
    assert played.b.row["reason"].startswith("side A of the duet ended, crashed: ")


def test_an_error_of_one_side_ends_the_other_and_is_raised(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    a, b = stage.side(0, case(f"{FAULTY}:sleep_ms=5")), stage.side(1, case(FAULTY))
    monkeypatch.setattr(b.launcher, "launch", fail)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        Duet(a, b).launched()
    assert time.monotonic() - began < SOON_S
    assert not stage.ranks()


# -- somebody ends the run -----------------------------------------------------------------------------------------


def test_a_signal_that_is_kept_ends_both(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_pending", None)

    def stop(side: str, beat: Beat) -> None:
        if side == "B" and beat.done > 3:
            interrupts._pending = signal.SIGINT

    monkeypatch.setattr(stage, "told", stop)
    played, *_ = stage.play(case(f"{FAULTY}:sleep_ms=50"), case(f"{FAULTY}:sleep_ms=50"), steps=1000)
    for launched in played:
        assert (launched.row["status"], launched.row["reason"]) == (
            "interrupted",
            "the run was stopped by SIGINT",
        )
    assert not stage.ranks()


def test_a_signal_that_is_raised_leaves_nothing_behind(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(*_: object) -> None:
        raise KeyboardInterrupt

    sent = threading.Event()

    def stop(side: str, beat: Beat) -> None:
        if side == "B" and beat.done > 3 and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr(stage, "told", stop)
    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with pytest.raises(KeyboardInterrupt):
            stage.play(case(f"{FAULTY}:sleep_ms=50"), case(f"{FAULTY}:sleep_ms=50"), steps=1000)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not stage.ranks()


# -- pure parts ----------------------------------------------------------------------------------------------------

MS = 1_000_000


def test_the_plan_of_the_bursts() -> None:
    uneven = {"A": Pace(10 * MS, 1), "B": Pace(30 * MS, 1)}
    # 0.4 s of 30 ms are 13 steps; 50 steps are 4 bursts, so 8
    assert plan(uneven, 0.4, 50, 0) == (13, 8)
    # 20 s of 10 ms are 2000 steps, 154 bursts of 13
    assert plan(uneven, 0.4, 50, 20.0) == (13, 154)
    # 105 steps are 9 bursts of 13, so 10
    assert plan({"A": Pace(30 * MS, 1), "B": Pace(30 * MS, 1)}, 0.4, 105, 0) == (13, 10)
    # never less than 2 steps a burst
    assert plan({"A": Pace(10 * MS, 1), "B": Pace(3000 * MS, 1)}, 0.4, 5, 0) == (2, 8)
    assert plan({"A": Pace(0, 1), "B": Pace(0, 1)}, 0.4, 5, 0)[1] == 8
    # nor less than are not timed on either side; 50 steps are 3 bursts of 17, so 8
    assert plan({"A": Pace(30 * MS, 1), "B": Pace(30 * MS, 17)}, 0.4, 50, 0) == (17, 8)
    # 5 s are 166 steps of the slower side: 12.8 bursts, so 14; and never fewer than eight
    assert plan(uneven, 0.4, 500, 0, 5.0) == (13, 14)
    assert plan(uneven, 0.4, 500, 0, 0.1) == (13, 8)
    assert plan(uneven, 0.4, 50, 0, 5.0) == (13, 8)


def test_turns_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks on side A and one on B, with a store of this process: who is active, in which order."""
    store, seen, active = dist.HashStore(), [], set()
    monkeypatch.setattr(taking, "_join", lambda turns, patience: store)
    monkeypatch.setattr(taking, "_unused_store", lambda turns: None)

    paces = {"A": Pace(7, 1), "B": Pace(9, 5)}

    def rank(side: str, ranks: int, number: int) -> None:
        turns = TakingTurns(Turns("", 0, side, ranks, SHORT_S), Heartbeat(tmp_path, side, number), 60.0)
        turns.await_models()
        turns.before_warm_up()
        assert turns.after_warm_up(paces[side]) == paces
        for place in turns.bursts(8):
            active.add(side)
            time.sleep(0.002)
            assert active == {side}
            seen.append((place, side))
            if len([one for one in seen if one == (place, side)]) == ranks:
                active.discard(side)

    threads = [threading.Thread(target=rank, args=args) for args in (("A", 2, 0), ("A", 2, 1), ("B", 1, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "".join(side for _, side in sorted(set(seen))) == "ABBA" * 4
    assert len(seen) == 8 * 3


def test_a_spec_keeps_its_turns(tmp_path: Path) -> None:
    plain = Spec(case(), "t", {}, "resident", 3, 5, 0.0, 60.0, str(tmp_path), "/tmp")
    for turns in (None, Turns("127.0.0.1", 4711, "B", 2, 0.3)):
        assert Spec.read(replace(plain, turns=turns).write()).turns == turns


def test_a_rank_that_waits_says_so() -> None:
    assert "turn" in STAGES


def launched(bursts_ms: list[int], samples: int = 100, **row: Any) -> Launched:
    values = {"status": "ok", "reason": None, "samples": samples, "window_steps": 3 * len(bursts_ms), **row}
    return Launched(values, bursts_ns=[ms * MS for ms in bursts_ms])


@dataclass
class Known:
    """A side of which it is known what becomes of it."""

    end: Launched
    case: Case = field(default_factory=case)
    folder: Path = Path()

    def launch(self, role: Role) -> Launched:
        return self.end


def test_ratios_are_of_throughput() -> None:
    """B takes twice as long for four times the samples: twice the throughput."""
    ratios = log_ratios(launched([100, 110]), launched([200, 220], samples=400))
    assert ratios == pytest.approx([math.log(2)] * 2)


def test_the_middle_of_the_pairs() -> None:
    """Of ten, two at each end are left out; of eight too."""
    assert interquartile_mean([-9.0, -9.0, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 9.0, 9.0]) == pytest.approx(0.2)
    assert interquartile_mean([-9.0, -9.0, 0.1, 0.2, 0.3, 0.4, 9.0, 9.0]) == pytest.approx(0.25)
    [_, b] = Duet(Known(launched([100] * 8)), Known(launched([50] * 8))).launched()
    columns = {name: b.row[name] for name in ("bursts", "burst_steps", "duet_ratio")}
    assert columns == {"bursts": 8, "burst_steps": 3, "duet_ratio": pytest.approx(2.0)}


def test_a_victim_names_the_side_that_failed() -> None:
    failed = Launched({"status": "oom", "reason": "rank 1: out of memory"})
    victim = Launched({"status": "crashed", "reason": f"rank 0: RuntimeError: {OTHER_IS_GONE}"}, machine_failure=True)
    a, b = module._with_true_reasons(failed, victim)
    assert a.row == {"status": "oom", "reason": "rank 1: out of memory"}
    assert b.row == {"status": "interrupted", "reason": "side A of the duet ended, oom: rank 1: out of memory"}
    assert not b.machine_failure
    stopped = Launched({"status": "interrupted", "reason": "the run was stopped by SIGINT"})
    victim = Launched({"status": "crashed", "reason": f"rank 0: RuntimeError: {OTHER_IS_GONE}"})
    assert module._with_true_reasons(victim, stopped)[0].row == stopped.row


DESCRIPTION = Description("samples", 64, (), None, 10, 2, 6e9, 6e9)
GPU = Gpu("GPU-a", "H200", 100_000.0, (9, 0))


def columns_of_devices(record: RankRecord, role: Role, row: Row, *pids: int) -> Row:
    """Those of a launch of this rank, where these processes were seen on the GPU."""
    samples = [DeviceSample(5, GPU.uuid, energy_j=1.0, memory_used_mib=2.0, pids=pids)]
    end = End(Evidence({0: record}, Outcome({}), 1), "", {0: NodeSamples(samples)}, 0, role)
    return Judge(case(), DESCRIPTION, Site(), print)._devices(end, row)[1]


def test_the_other_side_is_no_stranger_on_a_gpu(stage: Stage) -> None:
    own, others = stage.new_folder(), stage.new_folder()
    record = RankRecord(0, 0, "node1", 11, True, device_uuids=[GPU.uuid])
    replace(record, pid=22).write(others)
    turns = Turns("127.0.0.1", 1, "A", 1, 0.1)
    role = DuetSide(turns, own, other=DuetSide(replace(turns, side="B"), others))
    for pids, strange in (((11, 22), False), ((11, 22, 33), True)):
        assert columns_of_devices(record, role, {}, *pids) == {"foreign_processes": strange}


def test_what_is_of_both_sides_is_no_sides_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory that is in use on the device holds the other side's; clocks and what lowers them are the device's own."""
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: Ranks(tmp_path, [[GPU.uuid]]))
    launcher = CaseLauncher(Machine(), {}, tmp_path / "log", BRIEF, print, lambda beat: None)
    side = DuetSide(Turns("127.0.0.1", 1, "A", 1, 0.1), tmp_path)
    names = ("device_used_mib", "startup_s")
    for role, known in ((ALONE, True), (side, False)):
        folder = tmp_path / f"{known}"
        folder.mkdir()
        launched = launcher.launch(case(), DESCRIPTION, folder, BRIEF, role)
        assert launched.row["status"] == "ok"
        assert [name in launched.row for name in names] == [known] * 2
        assert "device_used_mib" not in launched.others["ranks.csv"][0] or known
    monkeypatch.setattr("bench.runner.launched.window_of", lambda records: (0, 10))
    record = RankRecord(0, 0, "node1", 11, True, device_uuids=[GPU.uuid])
    columns = columns_of_devices(record, side, {"samples": 8}, 11)
    assert columns.keys() == set(OF_THE_DEVICE)
    assert not columns.keys() & {"energy_j", "device_memory_peak_mib"}
    columns = columns_of_devices(record, ALONE, {"samples": 8}, 11)
    assert (columns["device_memory_peak_mib"], columns["foreign_processes"]) == (2.0, False)


def test_a_side_with_a_failure_of_its_own_is_no_victim() -> None:
    """One of its ranks ran out of memory, and its other side ended before it did."""
    record = RankRecord(1, 1, "node1", 11, True)
    role = DuetSide(Turns("127.0.0.1", 1, "A", 2, 0.1), Path())
    role.end("side B of the duet ended, crashed: it is gone")
    because = {"status": "interrupted", "reason": role.ended}
    assert role.stopped({1: record}) == role.stopped() == because
    gone = Failure("crashed", f"RuntimeError: {OTHER_IS_GONE}", 1)
    assert role.stopped({1: replace(record, failure=gone)}) == because
    as_it_was_ended = Failure("crashed", "RuntimeError: Connection closed by peer", role.ended_at_ns + 1)
    assert role.stopped({1: replace(record, failure=as_it_was_ended)}) == because
    its_own = Failure("oom", "OutOfMemoryError: 2 GiB", 1)
    assert role.stopped({1: replace(record, failure=its_own)}) == {}


# -- memory --------------------------------------------------------------------------------------------------------


def peaks(**row: Any) -> LaunchRow:
    known = {"world_size": 2, "rss_growth_mib": 900.0, "peak_rss_mib": 1200.0, "life_peak_rss_mib": 1300.0}
    return LaunchRow.of({**known, **row})


def test_both_sides_must_fit_into_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank grows by 900 MiB in the window and 100 more before it: 4000 MiB for four. 9 / 10 of all but 1 GiB is ours."""
    monkeypatch.setattr(module, "available_mib", lambda: 1024 + 4445.0)
    assert both_fit(peaks(), peaks(), Machine(), {}) is None
    monkeypatch.setattr(module, "available_mib", lambda: 1024 + 4444.0)
    assert both_fit(peaks(), peaks(), Machine(), {}) == (
        "both sides need 4,000 MiB of host memory, and 4,000 MiB can be used"
    )
    monkeypatch.setattr(module, "available_mib", lambda: 500.0)
    assert "and 0 MiB can be used" in (both_fit(peaks(), peaks(), Machine(), {}) or "")
    loads = peaks(num_workers=2, peak_host_mib=3000.0)  # with what its workers take: 2 x 3000 + 2 x 1000
    assert "both sides need 8,000 MiB" in (both_fit(loads, peaks(), Machine(), {}) or "")
    assert "both sides need 4,000 MiB" in (both_fit(loads.but(num_workers=None), peaks(), Machine(), {}) or "")


def test_memory_that_is_not_known_does_not_fit() -> None:
    unknown = peaks(rss_growth_mib=None, peak_rss_mib=None, life_peak_rss_mib=None)
    assert both_fit(peaks(), unknown, Machine(), {}) == "it is not known how much host memory side B needs"
    with_life = peaks(rss_growth_mib=None, peak_rss_mib=None)
    assert module._host_mib(with_life) == 2600.0


def test_both_sides_must_fit_into_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_mib", lambda: 1e6)
    on = peaks(device_uuids="GPU-a;GPU-b", device_memory_peak_mib=44_000.0)
    more = on.but(life_peak_allocated_mib=43_500.0, peak_reserved_mib=41_000.0)
    machine = Machine((GPU, replace(GPU, uuid="GPU-b"), replace(GPU, uuid="GPU-c", memory_mib=math.nan)), "1")
    assert both_fit(on, on, machine, {}) is None
    assert both_fit(on, more, machine, {}) == ("both sides need 90,500 MiB of H200 (GPU-a), and 90,000 MiB can be used")
    elsewhere = peaks(device_uuids="GPU-a", device_memory_peak_mib=80_000.0)
    assert both_fit(elsewhere, elsewhere.but(device_uuids="GPU-b"), machine, {}) is None
    by_torch = on.but(device_memory_peak_mib=None, device_used_mib=60_000.0)
    assert "both sides need 104,000" in (both_fit(on, by_torch, machine, {}) or "")
    unknown = on.but(device_memory_peak_mib=None)
    assert both_fit(on, unknown, machine, {}) == "it is not known how much memory of H200 side B needs"
    shared = on.but(device_uuids="GPU-c")
    assert both_fit(shared, shared, machine, {}) == "it is not known how much memory of H200 there is"
    nowhere = "it is not known which GPUs side A uses"
    for uuids in ("", "GPU-d", "GPU-a;GPU-d"):
        assert both_fit(on.but(device="cuda", device_uuids=uuids), on, machine, {}) == nowhere


def test_what_others_hold_of_a_gpu_is_no_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 GB others hold 40: sides of 27 each fit into 9 / 10 of the 60 that are left, and 27.1 do not."""
    monkeypatch.setattr(module, "available_mib", lambda: 1e6)
    held, machine = {"GPU-a": 40_000.0}, Machine((GPU,), "1")
    on = peaks(device_uuids="GPU-a", device_memory_peak_mib=67_000.0)
    assert both_fit(on, on, machine, held) is None
    more = on.but(device_memory_peak_mib=67_100.0)
    assert both_fit(on, more, machine, held) == (
        "both sides need 54,100 MiB of H200 (GPU-a), and 54,000 MiB can be used"
    )
