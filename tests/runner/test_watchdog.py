"""When a launch is ended from outside, and the reason that is given."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.messages.heartbeat import STAGE, Beat, Heartbeat
from bench.messages.rank_record import RankRecord
from bench.messages.spec import Turns
from bench.runner import stack_traces, watchdog
from bench.runner.launch_role import DuetSide
from bench.runner.watchdog import CUT, LOG_LIMIT, LOG_TAIL, Watchdog, cut, where

HANG_S, TIMEOUT_S = 60.0, 600.0


class Clock:
    """A fake time.monotonic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)


@dataclasses.dataclass
class Ranks:
    """Two ranks of a launch, as their parent sees them: heartbeats and records. Their process is this one."""

    folder: Path
    scratch: Path

    def __post_init__(self) -> None:
        self.beats = [Heartbeat(self.scratch, self.folder.name, rank) for rank in range(2)]

    def step(self, rank: int, done: int, stage: str = "forward") -> None:
        self.beats[rank].beat(done, 100, 1)
        self.beats[rank].synced(done, 0)
        self.beats[rank].enter(STAGE[stage])

    def record(self, rank: int, pid: int) -> None:
        RankRecord(rank, rank, "node1", pid, True).write(self.folder)


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    (tmp_path / "0000-case").mkdir()
    return Ranks(tmp_path / "0000-case", tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def dog(ranks: Ranks, told: list[Beat] | None = None) -> Watchdog:
    return Watchdog(ranks.folder, ranks.scratch, 2, HANG_S, TIMEOUT_S, (told if told is not None else []).append)


def looks(dog: Watchdog, clock: Clock, after: float) -> bool:
    clock.now += after
    return dog()


def test_the_other_sides_time_is_not_its_own(ranks: Ranks, clock: Clock) -> None:
    """It may run for 600 s. It waits for 1000 s while the other side runs, and then without a reason."""
    busy = True
    told: list[Beat] = []
    watched = Watchdog(ranks.folder, ranks.scratch, 2, 10_000.0, TIMEOUT_S, told.append, lambda: busy)
    for rank in range(2):
        ranks.step(rank, 1, "turn")
    for _ in range(11):
        assert not looks(watched, clock, 100)
    busy = False
    assert not looks(watched, clock, TIMEOUT_S)
    assert looks(watched, clock, 1)
    assert watched.verdict.startswith("still running after 600 s (--timeout): ")


def test_a_launch_that_steps_is_left_alone(ranks: Ranks, clock: Clock) -> None:
    told: list[Beat] = []
    watched = dog(ranks, told)
    for done in range(1, 10):
        ranks.step(0, done)
        assert not looks(watched, clock, 55)  # of 600 s in all
    assert told[-1] == (9, 100, 1, 9, 0, "forward")


def test_ranks_that_have_measured_all_have_five_seconds_to_end(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    ranks.step(0, 9, "done")
    ranks.step(1, 9, "ending")
    assert not looks(watched, clock, 1)
    ranks.step(1, 9, "done")
    assert not looks(watched, clock, 10)
    assert not looks(watched, clock, 5)
    assert looks(watched, clock, 1)
    assert (watched.verdict, watched.done) == ("", True)


def test_nonsense_ends_it_if_it_is_there_twice(ranks: Ranks, clock: Clock) -> None:
    """A look may happen in the middle of a write."""
    watched = dog(ranks)
    ranks.beats[1].enter(99)
    assert not looks(watched, clock, 1)
    ranks.beats[1].enter(STAGE["forward"])
    assert not looks(watched, clock, 1)
    ranks.beats[1].enter(99)
    assert not looks(watched, clock, 1)
    assert looks(watched, clock, 1)
    assert watched.nonsense == {1: "its heartbeat has stage 99, which does not exist"}
    assert watched.verdict == ""


def test_no_step_for_the_limit_ends_it(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    ranks.step(0, 1)
    ranks.step(1, 1, "data_wait")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, HANG_S)
    ranks.step(1, 1, "copy")  # another part of the step is no progress in steps
    assert looks(watched, clock, 1)
    assert watched.verdict == (
        "no progress for 61 s (--hang-timeout 60): rank 1 is copying a batch, step 2; the others are in the forward pass"
    )


def test_saving_may_take_as_long_as_the_launch(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    ranks.step(0, 1, "saving")
    ranks.step(1, 1, "ending")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, 4 * HANG_S)
    assert watched.limit_s == TIMEOUT_S
    assert watched.ending


def test_slow_steps_have_ten_times_as_long(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    for rank in (0, 1):
        ranks.step(rank, 1)
    assert not looks(watched, clock, 40)  # the first step, which may compile, is not counted
    assert watched.limit_s == HANG_S
    ranks.step(0, 2)
    assert not looks(watched, clock, 10)  # the slowest step: 10 s, so 100 s
    assert watched.limit_s == 100
    ranks.step(0, 3)
    assert not looks(watched, clock, 4)
    assert not looks(watched, clock, 100)
    assert looks(watched, clock, 1)


def test_a_host_that_has_queued_steps_waits_for_its_device(ranks: Ranks, clock: Clock) -> None:
    """30 steps are enqueued after a window of steps of 7 s: the device needs 210 s, and has ten steps more."""
    watched = dog(ranks)
    for rank in (0, 1):
        ranks.beats[rank].synced(5, 7 * 10**9)
        ranks.beats[rank].beat(35, 100, 1)
        ranks.beats[rank].enter(STAGE["sync"])
    assert not looks(watched, clock, 1)
    assert watched.limit_s == 280
    ranks.beats[0].enter(STAGE["data_wait"])
    ranks.beats[1].enter(STAGE["data_wait"])
    assert not looks(watched, clock, 1)
    assert watched.limit_s == 70


def test_one_rank_that_has_begun_is_not_all(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    ranks.step(0, 1)
    ranks.step(1, 0)
    assert not looks(watched, clock, 1)
    assert watched.limit_s == 5 * HANG_S


def test_before_the_first_step_there_is_five_times_as_long(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    assert not looks(watched, clock, 5 * HANG_S)
    ranks.beats[0].enter(STAGE["building"])  # which is progress
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, 200)
    ranks.beats[0].beat(0, 100, 1)
    assert not looks(watched, clock, 1)
    assert looks(watched, clock, 99)  # 600 s are over
    assert watched.verdict.startswith("still running after 600 s (--timeout): ")


def test_failed_rank_gives_the_others_three_seconds(ranks: Ranks, clock: Clock) -> None:
    watched = dog(ranks)
    ranks.step(0, 3, "backward")
    ranks.step(1, 3, "failed")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, 3)
    assert looks(watched, clock, 1)
    assert watched.verdict == ""  # the ranks' own records say why


def test_rank_that_is_gone_is_known_as_such(ranks: Ranks, clock: Clock) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ranks.record(0, os.getpid())
    ranks.record(1, dead.pid)
    watched = dog(ranks)
    ranks.step(0, 3, "backward")
    ranks.step(1, 3)
    assert not looks(watched, clock, 1)
    assert watched.gone == [1]
    assert watched.peak_rss_mib[0] > 10
    assert looks(watched, clock, 4)
    assert watched.verdict == ""


def test_rank_that_nobody_has_waited_for_is_gone(ranks: Ranks, clock: Clock) -> None:
    """A zombie: it has ended, and its process id is still there."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    ranks.record(1, dead.pid)
    watched = dog(ranks)
    ranks.step(0, 3)
    ranks.step(1, 3)
    looks(watched, clock, 1)
    dead.wait()
    assert watched.gone == [1]


def test_rank_that_is_done_may_go(ranks: Ranks, clock: Clock) -> None:
    ranks.record(1, 2**22 + 1)  # no process has such an id
    watched = dog(ranks)
    ranks.step(0, 100, "ending")
    ranks.step(1, 100, "done")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, 30)


def test_a_side_of_a_duet_may_wait_as_long_as_the_other_is_at_work(ranks: Ranks, clock: Clock) -> None:
    at_work = True
    watched = Watchdog(ranks.folder, ranks.scratch, 2, HANG_S, TIMEOUT_S, lambda beat: None, lambda: at_work)
    for rank in (0, 1):
        ranks.step(rank, 3, "turn")
    assert not looks(watched, clock, 1)
    assert watched.waiting
    assert not looks(watched, clock, 3 * HANG_S)
    ranks.step(0, 3, "sync")  # it is its turn, and rank 1 does not come
    assert not looks(watched, clock, HANG_S)
    assert not watched.waiting
    assert looks(watched, clock, 1)
    assert watched.verdict == (
        "no progress for 61 s (--hang-timeout 60): rank 0 is waiting for the device or for other ranks, step 4; "
        "the others are waiting for the other side of the duet"
    )


def test_a_launch_that_has_measured_may_end_by_itself(ranks: Ranks, clock: Clock, tmp_path: Path) -> None:
    role = DuetSide(Turns("127.0.0.1", 1, "A", 2, 0.1), tmp_path, ended="side B of the duet ended, crashed: why")
    watched = dog(ranks)
    ranks.step(0, 9, "ending")
    ranks.step(1, 9, "turn")
    assert role.ends(watched)
    ranks.step(1, 9, "done")
    assert not role.ends(watched)
    clock.now += HANG_S + 1
    assert role.ends(watched)


def test_if_both_sides_of_a_duet_wait_neither_may(ranks: Ranks, clock: Clock) -> None:
    watched = Watchdog(ranks.folder, ranks.scratch, 2, HANG_S, TIMEOUT_S, lambda beat: None, lambda: False)
    for rank in (0, 1):
        ranks.step(rank, 3, "turn")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, HANG_S)
    assert looks(watched, clock, 1)
    assert watched.verdict.endswith(": all ranks are waiting for the other side of the duet, step 4")


def test_time_spent_waiting_for_a_turn_is_no_slow_step(ranks: Ranks, clock: Clock) -> None:
    watched = Watchdog(ranks.folder, ranks.scratch, 2, HANG_S, TIMEOUT_S, lambda beat: None, lambda: True)
    for rank in (0, 1):
        ranks.step(rank, 3, "turn")
    assert not looks(watched, clock, 1)
    assert not looks(watched, clock, 50)
    for rank in (0, 1):
        ranks.step(rank, 4)
    assert not looks(watched, clock, 1)
    assert watched.limit_s == HANG_S  # not 10 times 51 s


HOSTS = {rank: "node1" for rank in range(8)}


def beats(**stages: tuple[int, str]) -> dict[int, Beat]:
    return {int(rank[1:]): Beat(done, 100, 1, done, 1, stage) for rank, (done, stage) in stages.items()}


def test_where_the_ranks_stand() -> None:
    two = beats(r0=(3, "backward"), r1=(3, "forward"))
    assert where(2, two, {1: "mine.py:7 in loss"}, [], HOSTS) == (
        "rank 1 on node1 is in the forward pass, step 4 (mine.py:7 in loss); the others are in the backward pass"
    )
    behind = beats(r0=(4, "data_wait"), r1=(3, "optimizer"), r2=(4, "sync"))
    stuck = beats(r0=(4, "forward"), r1=(4, "sync"))  # after the barrier
    assert where(2, stuck, {}, [], HOSTS).startswith("rank 1 on node1 is waiting for the device")
    assert where(3, behind, {}, [], HOSTS) == (
        "rank 1 on node1 is in the optimizer, step 4; "
        "the others are waiting for a batch or waiting for the device or for other ranks"
    )
    assert where(2, beats(r0=(3, "backward"), r1=(3, "backward")), {}, [], HOSTS) == (
        "all ranks are in the backward pass, step 4"
    )
    assert where(2, two, {}, [0], HOSTS) == (
        "rank 0 on node1 is stopped by a signal, in the backward pass, step 4; the others are in the forward pass"
    )
    assert where(4, beats(r0=(0, "starting")), {}, [], HOSTS) == "ranks 1, 2, 3 never started"
    many = beats(**{f"r{rank}": (2, "copy") for rank in range(6)}, r6=(2, "backward"))
    assert where(7, many, {}, [], HOSTS).startswith("ranks 0, 1, 2, 3 and 2 more are copying a batch, step 3; ")


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    log.write_bytes(b"a" * LOG_LIMIT + b"b" * (3 * LOG_TAIL) + b"c" * LOG_TAIL)
    lost = cut(log)
    assert lost == 3 * LOG_TAIL
    assert log.read_bytes() == b"a" * LOG_LIMIT + CUT % lost + b"c" * LOG_TAIL
    with log.open("ab") as stream:
        stream.write(b"d" * (3 * LOG_TAIL))
    again = cut(log, lost)
    assert log.read_bytes() == b"a" * LOG_LIMIT + CUT % again + b"d" * LOG_TAIL
    # all of c, two of the three d, and the first notice
    assert again == lost + LOG_TAIL + 2 * LOG_TAIL + len(CUT % lost)
    assert cut(log, again) == again


def test_a_log_of_the_usual_length_is_left_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    log.write_bytes(b"a" * (LOG_LIMIT + 2 * LOG_TAIL))
    assert cut(log) == 0
    assert log.stat().st_size == LOG_LIMIT + 2 * LOG_TAIL
    assert cut(tmp_path / "absent") == 0


HANGS = """
import faulthandler, signal, sys, time
faulthandler.register(signal.SIGUSR1)
def inner():
    print("ready", flush=True)
    time.sleep(1000)
def outer():
    inner()
outer()
"""


def hanging(tmp_path: Path, code: str) -> tuple[subprocess.Popen[str], Path]:
    script, log = tmp_path / "mine.py", tmp_path / "rank0.log"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process, log


def test_the_place_of_a_real_process(tmp_path: Path) -> None:
    process, log = hanging(tmp_path, HANGS)
    time.sleep(0.2)  # from the line to the sleep
    assert stack_traces.take({0: process.pid}, {0: log}) == {0: "mine.py:6 in inner"}
    assert log.read_text().count('mine.py", line') == 3
    process.kill()
    process.wait()


def test_a_process_that_would_die_of_the_signal_is_not_asked(tmp_path: Path) -> None:
    process, log = hanging(tmp_path, 'import time\nprint("ready", flush=True)\ntime.sleep(1000)\n')
    assert stack_traces.take({0: process.pid}, {0: log}) == {0: ""}
    assert process.poll() is None
    process.kill()
    process.wait()


def test_the_place_is_of_a_persons_code() -> None:
    torch = '  File "/x/lib/python3.12/site-packages/torch/autograd/graph.py", line 9 in backward\n'
    ours = f'  File "{Path(stack_traces.__file__).parents[1]}/rank/measure.py", line 120 in _step\n'
    mine = '  File "/home/a/model.py", line 12 in forward\n'
    worker = 'Current thread 0x01 (most recent call first):\n  File "/home/a/data.py", line 3 in __getitem__\n'
    head = "Current thread 0x02 (most recent call first):\n"
    assert stack_traces.place(head + torch + mine + ours) == "model.py:12 in forward"
    assert stack_traces.place(head + torch + ours + '  File "<string>", line 1 in <module>\n') == ""
    assert stack_traces.place(head + torch + ours + "\n" + worker) == "data.py:3 in __getitem__"
    assert stack_traces.place("") == ""
