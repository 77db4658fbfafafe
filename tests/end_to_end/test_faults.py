"""The fault matrix: each fault happens for real, in real launches, and ends as a row that says what happened.

``docs/faults.md`` has a line for each, and every test compares its own with what it has just seen; ``make faults``
writes the page anew from that.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from command_line import Run, by_case, environment, latest, run_bench, start_bench
from faults_page import Page
from processes import alive, marked, wait_for

from bench.runner.watchdog import CUT, LOG_LIMIT, LOG_TAIL
from bench.store.reader import read

pytestmark = pytest.mark.launch
EACH = 3  # faults between two healthy launches
HELPERS = Path(__file__).parents[1] / "helpers"
FAULTY = f"{HELPERS}/faulty.py:Faulty"
BRIEF = ("--device", "cpu", "--steps", "5", "--warmup-steps", "3", "--launches", "1", "--quiet")
HEALTHY_SAMPLES = str(5 * 2 * 2)


class Fault(NamedTuple):
    """``words`` follow ``Faulty``; ``about`` is for people, ``status`` and ``reason`` are what the row must say.

    In a reason HOST and N stand for the host's name and for numbers that nobody can know beforehand.
    """

    about: str
    words: str
    status: str
    reason: str


FAULTS = (
    Fault(
        "an exception",
        "fault=raise:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ValueError: the cause in one sentence.",
    ),
    Fault("os._exit(3)", "fault=exit:rank=1", "crashed", "rank 1 on HOST, step 4: exited with code 3"),
    Fault("SIGKILL", "fault=kill:rank=1", "crashed", "rank 1 on HOST, step 4: killed by SIGKILL"),
    Fault(
        "children that ignore SIGTERM or are stopped, then an exception",
        "fault=children:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ValueError: with children",
    ),
    Fault(
        "an allocation past the address space",
        "fault=address-space:rank=1",
        "oom",
        "rank 1 on HOST, step 4: RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate N bytes. "
        "(peak before: N MiB resident)",
    ),
    Fault("a loss that is NaN", "fault=nan:rank=1", "invalid", "the loss of rank 1 is nan in step 4"),
    Fault(
        "time.sleep(1000)",
        "fault=hang:rank=1",
        "timeout",
        "no progress for N s (--hang-timeout N): rank 1 on HOST is in the forward pass, step 4 (faulty.py:N in hang); "
        "the others are in the backward pass",
    ),
    Fault(
        "a collective that one rank skips",
        "fault=skip:rank=1",
        "timeout",
        "no progress for N s (--hang-timeout N): rank 0 on HOST is in the forward pass, step 4 (faulty.py:N in "
        "go_wrong); the others are in the backward pass",
    ),
)
MORE_FAULTS = (
    Fault(
        "os._exit(0)",
        "fault=exit0:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ended with exit code 0 before it was done",
    ),
    Fault("sys.exit(4)", "fault=sys-exit:rank=1", "crashed", "rank 1 on HOST, step 4: SystemExit: 4"),
    Fault("SIGSEGV", "fault=segv:rank=1", "crashed", "rank 1 on HOST, step 4: killed by SIGSEGV"),
    Fault(
        "an import that fails in a rank",
        "fault=import:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    Fault(
        "a message with control characters",
        "fault=hostile:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ValueError: ::error::a zero byte \\x00, an escape \\x1b[2J, a turn \\u202e",
    ),
    Fault("a slow rank", "fault=slow:rank=1:step=1", "ok", ""),
    Fault(
        "SIGSTOP",
        "fault=stop:rank=1",
        "timeout",
        "no progress for N s (--hang-timeout N): rank 1 on HOST is stopped by a signal, in the forward pass, step 4 "
        "(faulty.py:N in stop); the others are in the backward pass",
    ),
    Fault(
        "an exception beside a stopped rank",
        "fault=stop-and-raise",
        "crashed",
        "rank 0 on HOST, step 4: ValueError: beside a stopped rank",
    ),
    Fault(
        "a log of 100 MB, then an exception",
        "fault=flood:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ValueError: after the flood",
    ),
)
LOADER_FAULTS = (
    Fault(
        "a DataLoader worker that dies",
        "fault=worker-kill:rank=1:step=12",
        "crashed",
        "rank 1 on HOST, step N: RuntimeError: DataLoader worker (pid N) is killed by signal: Killed.",
    ),
    Fault(
        "a DataLoader worker that dies in warm-up",
        "fault=worker-kill:rank=1:step=1",
        "crashed",
        "rank 1 on HOST, step N: RuntimeError: DataLoader worker (pid N) is killed by signal: Killed.",
    ),
    Fault(
        "a DataLoader worker that hangs",
        "fault=worker-hang:rank=1:step=12",
        "timeout",
        "no progress for N s (--hang-timeout N): rank 1 on HOST is waiting for a batch, step 7 (faulty.py:N in "
        "__getitem__); the others are in the backward pass",
    ),
)
LEFT_FAULTS = (
    Fault("a thread that does not end after the last step", "fault=thread:rank=1", "ok", ""),
    Fault("a child process that does not end after the last step", "fault=child:rank=1", "ok", ""),
    Fault("an exit handler that hangs", "fault=at-exit:rank=1", "ok", ""),
    Fault(
        "an exception whose text raises",
        "fault=mute:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: MuteError (its text is unavailable: ValueError)",
    ),
    Fault(
        "endless recursion",
        "fault=recursion:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: RecursionError: maximum recursion depth exceeded",
    ),
    Fault(
        "descriptors used up",
        "fault=descriptors:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: OSError: [Errno N] Too many open files: '/dev/null' (hint: raise the limit with ulimit -n, "
        "or lower --num-workers)",
    ),
    Fault(
        "a log past a limit of 64 bytes for files",
        "fault=file-size:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: OSError: [Errno N] File too large",
    ),
    Fault(
        "the launch's folder removed, then an exception",
        "fault=no-folder:rank=1",
        "crashed",
        "rank 1 on HOST, step 4: ValueError: without a folder",
    ),
    Fault(
        "a heartbeat overwritten",
        "fault=beats:rank=1",
        "crashed",
        "rank 1 on HOST, step N: its heartbeat has stage -1, which does not exist",
    ),
    Fault(
        "a pipe in the heartbeat's place",
        "fault=beats-pipe:rank=1",
        "crashed",
        "rank 1 on HOST, step N: its heartbeat is not a regular file",
    ),
    Fault(
        "half a record",
        "fault=record-text:rank=1",
        "crashed",
        "rank 1, step 4: its record rank1.json is not JSON",
    ),
    Fault(
        "a record of other fields",
        "fault=record-shape:rank=1",
        "crashed",
        "rank 1, step 4: its record rank1.json lacks local_rank",
    ),
    Fault(
        "a pipe in the record's place",
        "fault=record-pipe:rank=1",
        "crashed",
        "rank 1, step 4: its record rank1.json is not a regular file",
    ),
)
GROUPS = (FAULTS, MORE_FAULTS, LOADER_FAULTS, LEFT_FAULTS)  # each is one run


class Seen:
    """What a module's one long run of all faults left behind."""

    def __init__(self, run: Run, faults: tuple[Fault, ...]) -> None:
        self.run, self.rows = run, run.by_case()
        assert run.folder is not None
        self.folder = run.folder
        # in the plan a healthy case, then EACH faults, and so on; they are launched in an order that is shuffled
        self.places = {fault.about: i + 1 + i // EACH for i, fault in enumerate(faults)}

    def logs(self, about: str) -> Path:
        return self.folder / "logs" / self.rows[self.places[about]]["launch_id"]


@pytest.fixture(scope="module")
def run_all(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Seen]:
    """Run faults in one run, healthy cases before, between and after them."""
    done: dict[tuple[Fault, ...], Seen] = {}

    def run(faults: tuple[Fault, ...], *words: str) -> Seen:
        if faults not in done:
            workloads = []
            for first in range(0, len(faults), EACH):
                workloads += [f"{FAULTY}:tag={first}", *(f"{FAULTY}:{f.words}" for f in faults[first : first + EACH])]
            workloads.append(f"{FAULTY}:tag={len(faults)}")
            cases = [word for workload in workloads for word in ("--workload", workload)]
            folder = tmp_path_factory.mktemp("faults")
            more = {"BENCH_TEST": "faults"}
            finished = run_bench(folder, "run", *cases, "--hang-timeout", "4", *BRIEF, *words, more=more)
            done[faults] = Seen(finished, faults)
        return done[faults]

    return run


def told(reason: str) -> str:
    """A reason with HOST and N for what nobody can know."""
    text = reason.replace(f" on {socket.gethostname()}", " on HOST")
    for pattern in (
        r"(?<=pid )\d+",
        r"(?<=pid\(s\) )\d+",
        r"(?<=faulty\.py:)\d+",
        r"[\d.,]+(?= MiB)",
        r"(?<=Errno )\d+",
    ):
        text = re.sub(pattern, "N", text)
    text = re.sub(r"step \d+(?=: RuntimeError: DataLoader|: its heartbeat)", "step N", text)
    for pattern in (
        r"(?<=allocate )\d+(?= bytes)",
        r"\d+(?= s \()",
        r"(?<=--hang-timeout )\d+",
    ):
        text = re.sub(pattern, "N", text)
    return text


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, id=f.about, marks=() if group is FAULTS else pytest.mark.slow) for group in GROUPS for f in group],
)
def test_a_fault_is_a_row_that_says_what_happened(run_all: Callable[..., Seen], page: Page, fault: Fault) -> None:
    group = next(group for group in GROUPS if fault in group)
    seen = run_all(group, *(("--data", "synthetic", "--num-workers", "1") if group is LOADER_FAULTS else ()))
    assert seen.run.code == 5, seen.run.stderr
    row = seen.rows[seen.places[fault.about]]
    assert (row["status"], told(row["reason"])) == (fault.status, fault.reason)
    for name in ("device_name", "backend", "torch", "env_key"):  # known of a launch that failed as well
        assert row[name] == seen.rows[0][name] != "", name
    for healthy in (row for i, row in enumerate(seen.rows) if i not in seen.places.values()):
        assert (healthy["status"], healthy["reason"], healthy["samples"]) == ("ok", "", HEALTHY_SAMPLES)
        assert healthy["loss_last"] == seen.rows[0]["loss_last"]
    page(fault.about, row["status"], told(row["reason"]) or "—")


def fault_named(about: str) -> Fault:
    return next(fault for group in GROUPS for fault in group if fault.about == about)


@pytest.mark.parametrize(
    ("group", "about", "frame"),
    [
        pytest.param(FAULTS, "time.sleep(1000)", "in hang", id="sleep"),
        pytest.param(MORE_FAULTS, "SIGSTOP", "in stop", id="stop", marks=pytest.mark.slow),
    ],
)
def test_stacks_of_all_ranks_are_in_the_log_of_a_hang(
    run_all: Callable[..., Seen], group: tuple[Fault, ...], about: str, frame: str
) -> None:
    logs = run_all(group).logs(about)
    assert re.search(rf'File ".*faulty.py", line \d+ {frame}\n', (logs / "rank1.log").read_text())
    assert re.search(r'File ".*measure.py", line \d+ in _step\n', (logs / "rank0.log").read_text())


@pytest.mark.slow
def test_a_fatal_signal_leaves_the_stack_as_well(run_all: Callable[..., Seen]) -> None:
    log = (run_all(MORE_FAULTS).logs("SIGSEGV") / "rank1.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert re.search(r'File ".*faulty.py", line \d+ in <lambda>\n', log)


@pytest.mark.slow
def test_a_flood_is_cut_and_the_cut_says_so(run_all: Callable[..., Seen]) -> None:
    log = run_all(MORE_FAULTS).logs("a log of 100 MB, then an exception") / "rank1.log"
    content = log.read_bytes()
    assert len(content) <= LOG_LIMIT + 2 * LOG_TAIL
    [lost] = re.findall(rb"\[stepbench: this log grew too long; (\d+) bytes were cut out here\]", content)
    assert content.endswith(b"ValueError: after the flood\n")
    whole = 105 * 1024 * (25 * len("a line that somebody forgot in a loop ") + 1)
    traceback = len(content) - content.rindex(b"Traceback")
    notice = len(CUT % int(lost))
    assert len(content) - notice - traceback + int(lost) == whole


def test_what_a_rank_took_before_it_died_is_in_its_row(run_all: Callable[..., Seen]) -> None:
    seen = run_all(FAULTS)
    row = seen.rows[seen.places["an allocation past the address space"]]
    assert float(row["life_peak_rss_mib"]) == pytest.approx(
        float(re.findall(r"before: ([\d,]+) MiB", row["reason"])[0].replace(",", "")), abs=1
    )


def test_nothing_is_left_running_after_all_of_them(run_all: Callable[..., Seen]) -> None:
    run_all(FAULTS)
    assert not marked("faults")


# -- faults of what is around the ranks ------------------------------------------------------------------------------


def started(
    folder: Path, words: tuple[str, ...], launch: str = "0000-*", more: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """A run whose launch has two ranks that have written their records."""
    process = start_bench(folder, "run", *words, *BRIEF, more=more)
    wait_for(lambda: bool(list(folder.glob(f"results/runs/*/logs/{launch}/rank1.json"))), 120)
    return process


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The launch server: the child of the guard, which is the child of bench run."""
    [guard] = psutil.Process(process.pid).children()
    return next(child for child in guard.children() if "launch.server_process" in " ".join(child.cmdline()))


def listening(processes: list[psutil.Process]) -> list[tuple[str, int]]:
    """The addresses and ports at which processes listen, at least one."""
    found = [c.laddr for one in processes for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert found
    return [(address.ip, address.port) for address in found]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["server", "torchrun"])
def test_nobody_listens_but_on_the_loopback_interface(tmp_path: Path, launcher: str) -> None:
    """While ranks train: the store of the launch, Gloo's sockets, and whatever else."""
    words = ("--workload", f"{FAULTY}:fault=hang", "--strategy", "fsdp", "--launcher", launcher)
    process = started(tmp_path, (*words, "--data", "synthetic", "--num-workers", "1"))
    time.sleep(5)
    tree = psutil.Process(process.pid).children(recursive=True)
    found = listening(tree)
    process.terminate()
    process.communicate(timeout=60)
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert len(found) >= 3  # the store, and each rank's Gloo


@pytest.mark.parametrize(
    ("about", "fault"),
    [
        pytest.param("KILL of the launch server", "hang", marks=pytest.mark.slow),
        ("KILL of the launch server, a rank stopped", "stop"),
    ],
)
def test_the_launch_server_is_killed(tmp_path: Path, page: Page, about: str, fault: str) -> None:
    words = ("--workload", f"{FAULTY}:fault={fault}:rank=1,{FAULTY}", "--strategy", "ddp")
    process = started(tmp_path, words, f"*-fault-{fault}-*")
    tree = psutil.Process(process.pid).children(recursive=True)
    assert {address for address, _ in listening(tree)} == {"127.0.0.1"}
    server_of(process).kill()
    process.communicate(timeout=120)
    assert process.returncode == 5
    run = latest(tmp_path)
    assert run is not None
    bad, good = by_case(run, read(run / "launches.csv", print))
    assert (bad["status"], bad["reason"]) == ("crashed", "the launch server was killed by SIGKILL")
    assert (good["status"], good["samples"]) == ("ok", 20)
    assert not alive(tree)
    page(about, bad["status"], bad["reason"])


# Python imports sitecustomize before all else: here it makes the TAKEN-th port that a store asks for one that is in use.
TAKE_PORT = """
import errno, os, socket
create_server, counter = socket.create_server, os.environ["COUNTER"]
def sometimes_in_use(address, **more):
    with open(counter, "a") as file:
        file.write("x")
        file.flush()
        if file.tell() == int(os.environ["TAKEN"]):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    return create_server(address, **more)
socket.create_server = sometimes_in_use
"""


@pytest.mark.parametrize(
    ("launcher", "taken"),
    [
        ("server", "2"),
        pytest.param("server", "1", marks=pytest.mark.slow),
        pytest.param("torchrun", "2", marks=pytest.mark.slow),
    ],
)
def test_a_taken_port_is_tried_again_and_told(tmp_path: Path, page: Page, launcher: str, taken: str) -> None:
    """The first port is for describing the workload, which no row tells; the second is the launch's."""
    (tmp_path / "sitecustomize.py").write_text(TAKE_PORT)
    more = {"PYTHONPATH": str(tmp_path), "COUNTER": str(tmp_path / "counter"), "TAKEN": taken}
    run = run_bench(
        tmp_path,
        "run",
        "--workload",
        "mlp",
        "--strategy",
        "ddp",
        "--launcher",
        launcher,
        "--matmul-peak",
        "off",
        *BRIEF,
        more=more,
    )
    assert run.code == 0, run.stderr
    [row] = run.rows()
    assert (tmp_path / "counter").read_text() == "xxx"
    assert (row["status"], row["attempts"]) == ("ok", taken)
    assert ("Address already in use" in row["first_attempt"]) == (taken == "2")
    if taken == "2":
        page(
            f"no port left (--launcher {launcher})",
            row["status"],
            "— (`attempts` is 2, `first_attempt` says why)",
        )


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    """A memory cgroup (version 1) of this test's own, that ends with it."""
    group = Path("/sys/fs/cgroup/memory") / f"stepbench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("making a memory cgroup (version 1) needs root and a kernel that has them")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


@pytest.mark.slow
def test_the_kernel_kills_for_want_of_memory(tmp_path: Path, page: Page, memory_cgroup: Path) -> None:
    """All of bench run lives in a cgroup of 2.5 GiB; rank 1 eats until it is killed."""
    (memory_cgroup / "memory.limit_in_bytes").write_text(str(5 << 29))
    enter = 'echo $$ > "$0/cgroup.procs"; exec "$@"'
    words = ("--workload", f"{FAULTY}:fault=eat:rank=1,{FAULTY}", "--strategy", "ddp")
    done = subprocess.run(
        ["sh", "-c", enter, str(memory_cgroup), sys.executable, "-m", "bench", "run", *words, *BRIEF],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env=environment(),
    )
    assert done.returncode == 5, done.stderr
    run = latest(tmp_path)
    assert run is not None
    bad, good = by_case(run, read(run / "launches.csv", print))
    assert (bad["status"], told(bad["reason"])) == (
        "oom",
        "rank 1 on HOST, step 4: killed by the kernel, out of host memory (peak before: at least N MiB resident)",
    )
    assert 500 < bad["life_peak_rss_mib"] < 2560
    assert (good["status"], good["samples"]) == ("ok", 20)
    page("memory eaten past a cgroup's limit", bad["status"], told(bad["reason"]))


@pytest.mark.slow
def test_the_same_is_said_of_ranks_that_torchrun_started(run_all: Callable[..., Seen]) -> None:
    told_of = ("an exception", "sys.exit(4)", "time.sleep(1000)", "SIGSTOP", "SIGKILL", "SIGSEGV", "os._exit(3)")
    faults = tuple(fault_named(about) for about in told_of)
    seen = run_all(faults, "--launcher", "torchrun")
    for fault in faults:
        row = seen.rows[seen.places[fault.about]]
        assert (row["status"], told(row["reason"])) == (fault.status, fault.reason)
    assert [row["status"] for row in seen.rows[:: EACH + 1]] == ["ok"] * 3
    assert len(seen.rows) == 7 + 3 + 1
    assert seen.rows[-1]["status"] == "ok"
    assert not marked("faults")
