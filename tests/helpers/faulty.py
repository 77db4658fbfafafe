"""A user's workload that goes wrong, or takes known time and memory, on request: ``faulty.py:Faulty:fault=raise``."""

import atexit
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch import nn


class Data(torch.utils.data.Dataset):
    """``fault`` is ``worker-kill``, ``worker-hang`` or another one, which does nothing here, at sample ``index``."""

    def __init__(self, sleep_s: float, fault: str, index: int) -> None:
        self.sleep_s, self.fault, self.index = sleep_s, fault, index

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int):
        time.sleep(self.sleep_s)
        if self.fault == "worker-kill" and self._due():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "worker-hang" and self._due():
            time.sleep(1000)
        return (torch.full((4,), float(index)),)

    def _due(self) -> bool:
        self.index -= 1
        return self.index < 0


class Hungry(torch.utils.data.Dataset):
    """Each worker that reads it takes ``mib`` of its own."""

    def __init__(self, mib: int) -> None:
        self.mib, self.taken = mib, None

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int):
        if self.taken is None:
            self.taken = torch.ones(self.mib << 18)  # float32
        return (torch.full((4,), float(index)),)


class Faulty:
    """Goes wrong in step ``step`` of ``rank``, or nowhere, and then looks for what others left. ``tag`` does nothing.

    ``mib`` are taken in each step; ``gib_a_sample`` of an address space that has ``gib`` and a half left.
    """

    unit, batch_size = "samples", 2

    def __init__(self, fault="none", rank=0, step=4, sleep_ms=0, data_ms=0, mib=0, gib=0, gib_a_sample=0, tag=0):
        self.fault, self.rank, self.step = fault, rank, step
        self.sleep_s, self.data_s, self.mib = sleep_ms / 1000, data_ms / 1000, mib
        self.gib, self.gib_a_sample = gib, gib_a_sample
        self.steps = 0
        self.group = None

    def build(self):
        if self.fault == "none" and "RANK" in os.environ:
            look_for_leftovers()
        if self.gib:
            limit_address_space(self.gib << 30)
        return nn.Linear(4, 1)

    def loss(self, model, batch):
        loss = model(batch[0]).square().mean()
        if batch[0].device.type != "meta":
            self.steps += 1
            if self.fault == "skip" and self.group is None:
                self.group = dist.new_group()
            time.sleep(self.sleep_s)
            if self.mib:
                torch.ones(self.mib << 18)  # float32
            if self.gib_a_sample:
                torch.empty(self.gib_a_sample * len(batch[0]) << 28)  # never touched
            if self.steps >= self.step and self.fault != "none" and "RANK" in os.environ:
                loss = self.go_wrong(loss, int(os.environ["RANK"]) == self.rank)
        return loss

    def go_wrong(self, loss, mine):
        if self.fault == "skip" and not mine and self.steps == self.step:
            dist.barrier(self.group)
        if not mine and self.fault != "stop-and-raise":
            return loss
        if self.fault == "slow":
            time.sleep(0.03)
        if self.steps == self.step and self.fault in FAULTS:
            FAULTS[self.fault]()
        return loss * float("nan") if self.fault == "nan" else loss

    def samples(self, data):
        mine = int(os.environ["RANK"]) == self.rank
        return Data(self.data_s, self.fault if mine else "none", self.step)

    def layers(self, model):
        return []


class HungryLoader(Faulty):
    """Its data take ``worker_mib`` in each process that reads them."""

    def __init__(self, worker_mib=0, sleep_ms=0):
        super().__init__(sleep_ms=sleep_ms)
        self.worker_mib = worker_mib

    def samples(self, data):
        return Hungry(self.worker_mib)


class SlowAtFirst(Faulty):
    """A micro-batch takes 50 ms in warm-up, and 10 ms from the sixth step of two micro-batches on."""

    def loss(self, model, batch):
        self.sleep_s = 0.05 if self.steps < 10 else 0.01
        return super().loss(model, batch)


def raise_error() -> None:
    raise ValueError("the cause in one sentence. Details follow.\nMore details")


def hang() -> None:
    time.sleep(1000)


def stop_while_the_other_fails() -> None:
    """Rank 1 stops; rank 0 notices nothing of that, and has a fault of its own a little later."""
    if os.environ["RANK"] == "1":
        stop()
    time.sleep(1)
    raise ValueError("beside a stopped rank")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def limit_address_space(more: int) -> None:
    """Half a GiB beside ``more``, as libraries map some for themselves."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more + (1 << 29), resource.RLIM_INFINITY))


def past_the_address_space() -> None:
    limit_address_space(0)
    torch.ones(1 << 28)  # 1 GiB


def eat() -> None:
    """Take memory, 32 MiB at a time, until somebody stops it."""
    eaten = []
    while True:
        eaten.append(torch.ones(8 << 20))


def flood() -> None:
    line = b"a line that somebody forgot in a loop " * 25 + b"\n"
    for _ in range(105):
        os.write(1, line * 1024)  # 105 MB or so
    raise ValueError("after the flood")


def leave_children() -> None:
    """One that ignores SIGTERM in a session of its own, one that is stopped."""
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
    for code in (deaf, "import os; os.kill(os.getpid(), 19)"):
        subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    time.sleep(0.3)
    raise ValueError("with children")


def raise_hostile() -> None:
    raise ValueError("::error::a zero byte \0, an escape \x1b[2J, a turn \u202e\n::error::a second line")


def import_nothing() -> None:
    import no_such_module  # noqa: F401


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,)).start()


def leave_a_child() -> None:
    multiprocessing.Process(target=time.sleep, args=(1000,)).start()


def leave_an_exit_handler() -> None:
    atexit.register(time.sleep, 1000)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def raise_what_has_no_text() -> None:
    raise MuteError


def recurse() -> None:
    recurse()


def use_up_descriptors() -> None:
    kept = []
    while True:
        kept.append(open(os.devnull))


def write_past_the_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    for _ in range(10_000):
        os.write(1, b"x" * 64)


def lose_the_folder() -> None:
    shutil.rmtree(log_of_rank().parent)
    raise ValueError("without a folder")


def log_of_rank() -> Path:
    return Path(os.readlink("/proc/self/fd/1"))


def write_nonsense_beats(content: bytes) -> None:
    """Write over what the heartbeat says of the steps and the stage, and go on."""
    [beats] = Path(os.environ["TMPDIR"]).glob(f"heartbeat-{log_of_rank().parent.name}-{os.environ['RANK']}")
    with beats.open("r+b") as stream:
        stream.write(content)
    time.sleep(1000)


def heartbeat_becomes_a_pipe() -> None:
    [beats] = Path(os.environ["TMPDIR"]).glob(f"heartbeat-{log_of_rank().parent.name}-{os.environ['RANK']}")
    beats.unlink()
    os.mkfifo(beats)
    time.sleep(1000)


def write_a_nonsense_record(content: str) -> None:
    log_of_rank().with_suffix(".json").write_text(content)
    os._exit(0)


def record_becomes_a_pipe() -> None:
    record = log_of_rank().with_suffix(".json")
    record.unlink()
    os.mkfifo(record)
    os._exit(0)


FAULTS = {
    "thread": leave_a_thread,
    "child": leave_a_child,
    "at-exit": leave_an_exit_handler,
    "mute": raise_what_has_no_text,
    "recursion": recurse,
    "descriptors": use_up_descriptors,
    "file-size": write_past_the_file_size,
    "no-folder": lose_the_folder,
    "beats": lambda: write_nonsense_beats(b"\xff" * 48),
    "beats-pipe": heartbeat_becomes_a_pipe,
    "record-text": lambda: write_a_nonsense_record("{half a recor"),
    "record-shape": lambda: write_a_nonsense_record('{"rank": "one"}'),
    "record-pipe": record_becomes_a_pipe,
    "raise": raise_error,
    "oom": lambda: torch.empty(1 << 46),
    "exit": lambda: os._exit(3),
    "exit0": lambda: os._exit(0),
    "sys-exit": lambda: sys.exit(4),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "stop": stop,
    "stop-and-raise": stop_while_the_other_fails,
    "hang": hang,
    "address-space": past_the_address_space,
    "eat": eat,
    "flood": flood,
    "children": leave_children,
    "import": import_nothing,
    "hostile": raise_hostile,
}


def look_for_leftovers() -> None:
    """Raise if a process lives that an earlier launch of this server has left: below the guard, but not of this one."""
    rank = psutil.Process()
    forkserver = rank.parent()
    guard = forkserver.parent().parent() if forkserver.parent() else None
    if guard is None or "launch.guard" not in " ".join(guard.cmdline()):
        return  # under torchrun every launch has a guard of its own
    left = [p for p in guard.children() if p.pid != forkserver.ppid()]
    left += [p for p in forkserver.children() if p.create_time() < rank.create_time() - 2]
    said = [f"{p.name()} {p.status()}" for p in left if p.status() != psutil.STATUS_ZOMBIE]
    if said:
        raise RuntimeError(f"left over: {said}")
