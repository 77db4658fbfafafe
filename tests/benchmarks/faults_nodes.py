"""Faults between nodes: what becomes of the launch, how soon, and whether the next one works (`make faults-nodes`).

    python tests/benchmarks/faults_nodes.py [NAME ...]
    python tests/benchmarks/faults_nodes.py --random 100 --seed 1

Two hosts as network namespaces, which needs root; `bench run` with two ranks on each. The table is Markdown. The clock
that is set is that of Python, as hosts on one machine share the real one. With `--random` one run goes on while
processes are killed at random moments.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from namespaces import Hosts, hosts, missing

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "helpers" / "faulty.py"
MARK = "STEPBENCH_FAULTS"
LIMIT_S = 240.0
HANG_S = 6


@dataclass(frozen=True)
class Far:
    """How ``bench`` is started on node 1: with a clock of its own, and a ``disk`` of so many bytes for temporary files."""

    own_clock: bool = False
    disk: int = 0


@dataclass
class Trial:
    """Two nodes with a run of three launches."""

    at: Hosts
    out: Path
    far: Far = field(default_factory=lambda: Far())
    nodes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of node 1, if that has a disk of its own."""
        return self.out.parent / "disk"

    @property
    def clock(self) -> Path:
        """The file that says how many seconds node 1's clock is ahead."""
        return self.out.parent / "clock"

    def start(self, node: int, *more: str, token: str = "secret", **variables: str) -> None:
        options = {
            **{"workload": f"{FAULTY}:Faulty:sleep_ms=50", "strategy": "ddp", "gpus": "4", "batch-size": "4"},
            **{"device": "cpu", "launches": "3", "steps": "60", "hang-timeout": str(HANG_S), "out": str(self.out)},
            **{"nnodes": "2", "node-rank": str(node), "nproc-per-node": "2", "rdzv-endpoint": "n1:29500"},
            "join-timeout": "30",
        }
        given = dict(zip(more[::2], more[1::2], strict=True))
        words = [word for name, value in {**options, **given}.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-P", "-m", "bench", "run", *words, "--quiet"]
        environment = {**os.environ, "STEPBENCH_TOKEN": token, MARK: str(self.out), "PYTHONPATH": str(ROOT)}
        if node == 1:
            if self.far.own_clock:
                self.clock.write_text("0")
                (self.out.parent / "sitecustomize.py").write_text(SET_CLOCK)
                environment |= {"FAULTS_CLOCK": str(self.clock), "PYTHONPATH": f"{self.out.parent}:{ROOT}"}
            if self.far.disk:
                self.temporary.mkdir(exist_ok=True)
                environment["TMPDIR"] = str(self.temporary)
                mount = f'mount -t tmpfs -o size={self.far.disk} tmpfs "$TMPDIR" && exec "$0" "$@"'
                command = ["sh", "-c", mount, *command]
        environment |= variables
        log = (self.out.parent / f"node{node}.log").open("ab")
        command = self.at.command(f"n{node + 1}", command)
        self.nodes[node] = subprocess.Popen(command, env=environment, cwd=self.out.parent, stdout=log, stderr=log)

    def ours(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.out) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def processes(self, node: int, kind: str) -> list[psutil.Process]:
        """The ranks, launch server or ``bench`` of a node."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.out) and _kind(process) == kind and _node(process) == node:
                    found.append(process)
        return found

    def rows(self) -> list[dict[str, str]]:
        files = list(self.out.glob("runs/*/launches.csv"))
        return [row for file in files for row in csv.DictReader(file.open())]

    def rows_ok(self) -> int:
        return [row["status"] for row in self.rows()].count("ok")

    def await_(self, what: Callable[[], bool], words: str, limit_s: float = LIMIT_S) -> float:
        began = time.monotonic()
        while not what():
            if time.monotonic() - began > limit_s:
                logs = "".join(file.read_text()[-1500:] for file in sorted(self.out.parent.glob("node*.log")))
                raise TimeoutError(f"{words}\n{logs}")
            time.sleep(0.05)
        return time.monotonic() - began

    def await_training(self) -> None:
        """Wait until all ranks of a launch train."""
        begun = len(self.rows())

        def training() -> bool:
            folder = next(iter(sorted(self.out.glob(f"runs/*/logs/{begun:04}-*"))), None)
            return folder is not None and all((folder / f"rank{rank}.json").exists() for rank in range(4))

        self.await_(training, "no launch trains")
        time.sleep(1.0)


def _code(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _kind(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    if "launch.guard" in words:
        return "guard"
    if "launch.server_process" in words:
        return "server"
    if "forkserver" in words:
        parent = process.parent()
        return "rank" if parent and "forkserver" in " ".join(parent.cmdline()) else "fork server"
    return "bench" if "-m bench run" in words and "nsenter" not in words and "unshare" not in words else "other"


def _node(process: psutil.Process) -> int:
    words = next(
        (found for one in (process, *process.parents()) if "--node-rank" in (found := one.cmdline())),
        ["--node-rank", "-1"],
    )
    return int(words[words.index("--node-rank") + 1])


def kill(kind: str, node: int, number: int = signal.SIGKILL) -> Callable[[Trial], None]:
    """One rank, or all launch servers, of which node 0 has one more for launches of its own."""

    def act(trial: Trial) -> None:
        found = trial.processes(node, kind)
        for process in found if kind == "server" else found[:1]:
            process.send_signal(number)

    return act


def far_bench_again(trial: Trial) -> None:
    kill("bench", 1)(trial)
    trial.start(1)


def stopped_and_started_again(trial: Trial) -> None:
    for process in trial.processes(1, "bench")[:1]:
        process.send_signal(signal.SIGSTOP)
        time.sleep(12)
        process.send_signal(signal.SIGCONT)


def link_down(trial: Trial) -> None:
    trial.at.link("n2", "down")
    time.sleep(12)
    trial.at.link("n2", "up")


def near_bench_again(trial: Trial) -> None:
    kill("bench", 0)(trial)
    trial.start(0, "resume", "latest")


def both_again(trial: Trial) -> None:
    kill("bench", 0)(trial)
    kill("bench", 1)(trial)
    trial.start(1)
    trial.start(0, "resume", "latest")


def another_machine_comes(trial: Trial) -> None:
    kill("bench", 1)(trial)
    trial.start(1, NCCL_DEBUG="INFO")


def clock_is_set(trial: Trial) -> None:
    trial.clock.write_text("3600")


def disk_is_full(trial: Trial) -> None:
    """Fill the disk of node 1's temporary files until the launch has failed."""
    [process] = trial.processes(1, "bench")[:1]
    before = len(trial.rows())
    for word in (f"head -c {trial.far.disk} /dev/zero > {trial.temporary}/full", f"rm {trial.temporary}/full"):
        subprocess.run(["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "sh", "-c", word], capture_output=True)
        trial.await_(lambda: len(trial.rows()) > before, "no row while the disk is full")


def strangers(trial: Trial) -> None:
    """One that stays silent, one that sends a gigabyte, one with another token, one without any."""
    said = "import socket, time; s = socket.create_connection(('n1', 29500)); "
    for words in ("time.sleep(20)", "[s.sendall(bytes(1 << 20)) for _ in range(1024)]"):
        python = trial.at.command("n2", [sys.executable, "-c", said + words])
        subprocess.Popen(python, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    far = trial.nodes[1]
    for token in ("another", ""):
        trial.start(1, "join-timeout", "5", token=token)
        if _code(trial.nodes[1], 60) not in (2, 5):
            raise RuntimeError(f"with the token {token!r} it ended with {trial.nodes[1].poll()}")
    trial.nodes[1] = far


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in words and in fact, and how node 1 is started for it."""

    words: str
    act: Callable[[Trial], None]
    far: Far = field(default_factory=Far)


# What all Python processes of node 1 begin with: their wall clock is as far ahead as a file says.
SET_CLOCK = """
import os, time
real = time.time_ns
def time_ns():
    with open(os.environ["FAULTS_CLOCK"]) as file:
        return real() + int(file.read() or 0) * 10**9
time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
"""
FAULTS: dict[str, Fault] = {
    "far rank": Fault("a rank of node 1 is killed", kill("rank", 1)),
    "near rank": Fault("a rank of node 0 is killed", kill("rank", 0)),
    "far rank stopped": Fault(
        f"a rank of node 1 is stopped (--hang-timeout {HANG_S})", kill("rank", 1, signal.SIGSTOP)
    ),
    "far server": Fault("the launch server of node 1 is killed", kill("server", 1)),
    "near server": Fault("the launch server of node 0 is killed", kill("server", 0)),
    "far bench": Fault("bench of node 1 is killed, and started again", far_bench_again),
    "far stopped": Fault("bench of node 1 is stopped for 12 s", stopped_and_started_again),
    "link": Fault("the link of node 1 is down for 12 s", link_down),
    "far term": Fault("bench of node 1 gets SIGTERM", kill("bench", 1, signal.SIGTERM)),
    "near bench": Fault("bench of node 0 is killed, and started again with --resume latest", near_bench_again),
    "both": Fault("bench of both nodes is killed, and started again, node 0 with --resume latest", both_again),
    "other machine": Fault("bench of node 1 is killed, and started again with NCCL_DEBUG=INFO", another_machine_comes),
    "clock": Fault("the clock of node 1 is set ahead by an hour", clock_is_set, Far(own_clock=True)),
    "disk": Fault(
        "the disk of node 1's temporary files is full until the launch has failed", disk_is_full, Far(disk=16 << 20)
    ),
    "strangers": Fault("strangers: silent, a gigabyte, another token, none", strangers),
}


def tried(fault: Fault, at: Hosts) -> tuple[float, str, str, str]:
    """(seconds from the fault to the row, its reason, the statuses of all launches, what was left)"""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(at, Path(folder) / "out", fault.far)
        trial.start(0)
        trial.start(1)
        trial.await_training()
        before, began = len(trial.rows()), time.monotonic()
        acting = threading.Thread(target=fault.act, args=(trial,))
        acting.start()
        trial.await_(lambda: len(trial.rows()) > before, "no row after the fault")
        seconds = time.monotonic() - began
        acting.join()
        trial.await_(lambda: all(one.poll() is not None for one in trial.nodes.values()), "a node does not end")
        rows = trial.rows()
        codes = {node: one.poll() for node, one in trial.nodes.items()}
        left = [" ".join(process.cmdline())[:80] for process in trial.ours()]
        statuses = ", ".join(row["status"] for row in rows) + f"; exit codes {codes[0]} and {codes[1]}"
        if os.environ.get("KEEP"):
            print("".join(f.name + "\n" + f.read_text() for f in sorted(trial.out.parent.glob("node*.log"))))
        return seconds, rows[before]["reason"], statuses, "; ".join(left) or "nothing"


KINDS = ("rank", "server", "fork server", "guard", "bench")


def _alive(processes: list[psutil.Process]) -> list[str]:
    """The command lines of those that have not ended; one that nobody waits for has."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:80])
    return found


def kills(number: int, dice: random.Random, at: Hosts) -> list[str]:
    """Kill processes of one run at random moments, in every fifth case two at once, and return what goes wrong.

    After each kill a launch must be ok, all rows must be there that were there before, and nothing may be left of a
    ``bench`` that was killed, which is started again.
    """
    wrong: list[str] = []
    endless = ("launches", "10000", "steps", "10")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(at, Path(folder) / "out")
        for node in (0, 1):
            trial.start(node, *endless)
        for turn in range(number):
            ok = trial.rows_ok()
            trial.await_(lambda ok=ok: trial.rows_ok() > ok, "no launch is ok any more")  # type: ignore[misc]
            time.sleep(dice.uniform(0, 2))
            before = {row["launch_id"] for row in trial.rows()}
            words, dead = [], []
            for _ in range(2 if turn % 5 == 0 else 1):
                there = [(kind, node) for kind in KINDS for node in (0, 1) if trial.processes(node, kind)]
                kind, node = dice.choice(there)
                words.append(f"{kind} of node {node}")
                for process in trial.processes(node, kind)[:1]:
                    with suppress(psutil.NoSuchProcess):
                        dead += [process, *process.children(recursive=True)] if kind == "bench" else [process]
                        process.kill()
            for node, one in trial.nodes.items():
                if _code(one, 1.0) is not None:
                    trial.start(node, *endless, *(("resume", "latest") if node == 0 else ()))
            left = _alive(dead)
            deadline = time.monotonic() + 15
            while left and time.monotonic() < deadline:
                time.sleep(0.1)
                left = _alive(dead)
            lost = before - {row["launch_id"] for row in trial.rows()}
            found = [f"lost {sorted(lost)}"] if lost else []
            found += [f"left {left}"] if left else []
            wrong += [f"{turn}: {one}" for one in found]
            print(f"{turn}: {' and '.join(words)}: {'; '.join(found) or 'well'}", flush=True)
        ok = trial.rows_ok()
        trial.await_(lambda: trial.rows_ok() > ok, "no launch is ok any more")
        trial.processes(0, "bench")[0].send_signal(signal.SIGTERM)
        trial.await_(lambda: all(one.poll() is not None for one in trial.nodes.values()), "a node does not end")
        time.sleep(2)
        if left := [" ".join(process.cmdline())[:80] for process in trial.ours()]:
            wrong.append(f"left in the end: {left}")
        statuses = Counter(row["status"] for row in trial.rows())
        print(f"{number} kills: {dict(statuses)} launches; {'; '.join(wrong) or 'nothing lost, nothing left'}")
    return wrong


def main(names: list[str]) -> None:
    if why := missing():
        sys.exit(f"faults between nodes: {why}")
    if names[:1] == ["--random"]:
        dice = random.Random(int(names[3]))
        with hosts(2) as at:
            sys.exit(1 if kills(int(names[1]), dice, at) else 0)
    print("| fault | row after | reason | launches | left |\n|---|---|---|---|---|")
    with hosts(2) as at:
        for name in names or FAULTS:
            fault = FAULTS[name]
            seconds, reason, statuses, left = tried(fault, at)
            print(f"| {fault.words} | {seconds:.1f} s | {reason} | {statuses} | {left} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
