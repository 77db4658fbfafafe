"""The launch server and torchrun: fresh processes, contained faults, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import processes
import psutil
import pytest

from launch import LaunchError, Request, folders
from launch.guard import SOCKET_PATH_LIMIT, private_folder
from launch.processes import end, is_resource_tracker
from launch.server_launcher import LAUNCHES_PER_SERVER, ServerLauncher
from launch.torchrun import TorchrunLauncher

pytestmark = pytest.mark.launch
HELPERS = Path(__file__).parents[1] / "helpers"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HELPERS), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
GONE_WITHIN_S = 10


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServerLauncher]:
    """A launcher of this test's own, which it may break."""
    launcher = ServerLauncher(ENVIRONMENT, ["torch", "bench.rank.main"], tmp_path / "launcher.log")
    yield launcher
    launcher.close()


def request(entry: str, argument: object, folder: Path, **more: object) -> Request:
    given = {"timeout_s": 60.0, "log": folder, "environment": {"OMP_NUM_THREADS": "1"}, **more}
    return Request(f"rank_entries:{entry}", str(argument), 2, **given)  # type: ignore[arg-type]


def facts(folder: Path) -> list[dict[str, object]]:
    return [json.loads((folder / f"facts{rank}.json").read_text()) for rank in range(2)]


def alive(pids: list[int]) -> list[int]:
    return [process.pid for process in processes.alive(list(psutil.process_iter())) if process.pid in pids]


def test_every_launch_is_new_processes_of_one_fork_server(launcher: ServerLauncher, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
        seen += facts(tmp_path)
    assert len({rank["pid"] for rank in seen}) == 4
    assert len({rank["parent"] for rank in seen}) == 1
    assert all(rank["preloaded"] and rank["session"] == rank["pid"] for rank in seen)
    assert all(rank["stdin"] == "/dev/null" for rank in seen)


def test_ranks_look_for_garbage_among_their_own_objects_only(launcher: ServerLauncher, tmp_path: Path) -> None:
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    for rank in facts(tmp_path):
        own, imported = rank["objects"]  # type: ignore[misc]
        assert rank["collects"]
        assert own < imported / 20


def test_the_fork_server_has_one_thread_and_no_cuda(launcher: ServerLauncher, tmp_path: Path) -> None:
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    forkserver = int(str(facts(tmp_path)[0]["parent"]))
    assert psutil.Process(forkserver).num_threads() == 1
    assert "libcuda.so" not in Path(f"/proc/{forkserver}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{forkserver}/maps").read_text()
    assert not any(rank["cuda_initialized"] for rank in facts(tmp_path))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_omp_num_threads_reaches_the_ranks(launcher: ServerLauncher, tmp_path: Path, threads: str) -> None:
    asked = request("facts", tmp_path, tmp_path, environment={"OMP_NUM_THREADS": threads})
    assert launcher.launch(asked).ok
    assert [(rank["omp"], rank["threads"]) for rank in facts(tmp_path)] == [(threads, int(threads))] * 2


def test_a_fault_in_a_rank_is_told_and_leaves_the_server_alone(launcher: ServerLauncher, tmp_path: Path) -> None:
    launcher.launch(request("facts", tmp_path, tmp_path, measures=False))
    before = facts(tmp_path)[0]["parent"]
    for code in (-signal.SIGKILL, -signal.SIGSEGV, 3):
        outcome = launcher.launch(request("die", int(code), tmp_path))
        assert not outcome.ok
        assert outcome.exit_codes[1] == code
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    assert facts(tmp_path)[0]["parent"] == before


SPY = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "torch._dynamo":
            open({file!r}, "a").write(name)
if "launch.server_process" in " ".join(sys.orig_argv):
    sys.meta_path.insert(0, Finder())
"""


def test_a_failed_launch_makes_the_server_import_nothing(tmp_path: Path) -> None:
    """torch's own formatter of log messages would import torch._dynamo for the first exception, in 4 to 7 s."""
    (tmp_path / "sitecustomize.py").write_text(SPY.format(file=str(tmp_path / "imported")))
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    with contextlib.closing(ServerLauncher(environment, ["torch"], tmp_path / "launcher.log")) as launcher:
        outcome = launcher.launch(request("die", -signal.SIGKILL, tmp_path))
    assert (outcome.exit_codes[1], outcome.stopped) == (-signal.SIGKILL, False)
    assert not (tmp_path / "imported").exists()
    # either this rank's failure, or that of the other rank, which missed it
    told = (tmp_path / "launcher.log").read_text()
    assert "exitcode: -9" in told or "ProcessExitedException" in told


def test_no_name_server_is_asked(tmp_path: Path) -> None:
    """Without one that answers, the name of the host would take ten seconds and more, several times for each rank."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, socket, sys\n"
        "def asked(name):\n"
        f"    open({str(tmp_path / 'asked')!r}, 'a').write(f'{{sys.argv}} {{name}}')\n"
        "    return name, [], []\n"
        "socket.gethostbyaddr = asked\n"
    )
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.getfqdn()"], env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    )
    assert (tmp_path / "asked").read_text()  # it would be told
    (tmp_path / "asked").unlink()
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    with contextlib.closing(ServerLauncher(environment, ["torch"], tmp_path / "launcher.log")) as launcher:
        assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("does", "told"),
    [("raise SystemExit(3)", "ended before it was ready"), ("time.sleep(60)", "has not imported torch within 0.5 s")],
)
def test_a_server_that_does_not_come_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str, told: str
) -> None:
    monkeypatch.setattr("launch.server_launcher.BOOT_SECONDS", 0.5 if "sleep" in does else 60.0)
    (tmp_path / "sitecustomize.py").write_text(f"import sys, time\nif sys.orig_argv[2] == '-c': {does}\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    log = tmp_path / "launcher.log"
    with contextlib.closing(ServerLauncher(environment, [], log)) as launcher, pytest.raises(LaunchError) as error:
        launcher.launch(request("facts", tmp_path, tmp_path, timeout_s=0.1))
    assert str(error.value) == f"the launch server {told}; see {log}"


def test_a_fork_server_that_dies_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise KeyError('getpwuid(): uid not found: 4711')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    with contextlib.closing(ServerLauncher(environment, ["broken"], tmp_path / "launcher.log")) as launcher:
        outcome = launcher.launch(request("facts", tmp_path, tmp_path))
    assert outcome.error == (
        "the process that ranks are forked from ended, or could not fork; logs/launcher.log has its last words"
    )
    assert "uid not found: 4711" in (tmp_path / "launcher.log").read_text()


@pytest.mark.slow
def test_a_server_is_replaced_after_some_launches_and_when_it_dies(own: ServerLauncher, tmp_path: Path) -> None:
    servers = []
    for n in range(LAUNCHES_PER_SERVER + 2):
        assert own.launch(request("facts", tmp_path, tmp_path)).ok
        servers.append(int(str(facts(tmp_path)[0]["parent"])))
        if n == LAUNCHES_PER_SERVER:
            os.kill(psutil.Process(servers[-1]).ppid(), signal.SIGKILL)
            time.sleep(0.5)
    assert len(set(servers[:LAUNCHES_PER_SERVER])) == 1
    assert len(set(servers)) == 3


def test_a_launch_that_is_ended_leaves_nothing(launcher: ServerLauncher, tmp_path: Path) -> None:
    scratch = launcher.prepare(request("hang", tmp_path, tmp_path)).scratch
    outcome = launcher.launch(request("hang", tmp_path, tmp_path), lambda: len(list(tmp_path.glob("child*"))) == 2)
    assert outcome.stopped
    pids = [int(file.read_text()) for file in [*tmp_path.glob("rank*"), *tmp_path.glob("child*")]]
    assert len(pids) == 4
    assert not alive(pids)
    assert scratch.exists()  # the server has ended its ranks and goes on
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok


ORPHANER = """
import sys
from pathlib import Path
from launch import LaunchError, Request, folders
from launch.guard import private_folder
from launch.processes import end
from launch.server_launcher import ServerLauncher
import os
folder = Path(sys.argv[1])
launcher = ServerLauncher(dict(os.environ), ["torch"], folder / "launcher.log")
launcher.launch(Request("rank_entries:hang", str(folder), 2, 600.0, folder))
"""


class Orphaner:
    """A process that has launched ranks which hang; its guard, its server, and all process ids below it."""

    def __init__(self, folder: Path, tmp: Path) -> None:
        self.folder, self.tmp = folder, tmp
        environment = {**ENVIRONMENT, "TMPDIR": str(self.tmp)}
        self.parent = psutil.Popen([sys.executable, "-P", "-c", ORPHANER, str(folder)], env=environment)
        deadline = time.monotonic() + 120
        while len(list(folder.glob("child*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        [self.guard] = self.parent.children()
        [self.server] = [p for p in self.guard.children() if "launch.server_process" in " ".join(p.cmdline())]
        self.of_ranks = [int(file.read_text()) for file in folder.glob("child*")]
        self.tree = [p.pid for p in self.parent.children(recursive=True)]
        assert len({*self.tree, *self.of_ranks}) >= 7  # guard, server, tracker, fork server, ranks and their children

    def kill(self, *processes: psutil.Process) -> None:
        for process in (*processes, self.parent):
            process.kill()
        self.parent.wait()


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A TMPDIR with so short a path that private folders are made in it, and not in /tmp."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        assert len(folder) < SOCKET_PATH_LIMIT
        yield Path(folder)


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pids)


@pytest.mark.parametrize("also", ["nobody", "its guard"])
def test_killing_the_parent_leaves_nothing(tmp_path: Path, short_tmp: Path, also: str) -> None:
    """All that it has started ends, even if the process responsible for that is killed at the same time."""
    orphans = Orphaner(tmp_path, short_tmp)
    assert list(orphans.tmp.glob("bench-*"))
    orphans.kill(*([orphans.guard] if also == "its guard" else []))
    wait_until_gone([*orphans.tree, *orphans.of_ranks])
    processes.wait_for(lambda: not list(orphans.tmp.glob("bench-*")), why="a folder is left")


@pytest.mark.slow
def test_what_nobody_was_left_to_end_is_ended_by_the_next(
    tmp_path: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If server and guard are dead, the kernel ends the ranks.

    The next run removes their folder and ends their children.
    """
    orphans = Orphaner(tmp_path, short_tmp)
    # the resource tracker ends with the last process that has its pipe, which is a child of a rank
    spared = {*orphans.of_ranks, *(pid for pid in orphans.tree if is_resource_tracker(psutil.Process(pid)))}
    orphans.kill(orphans.guard, orphans.server)
    wait_until_gone([pid for pid in orphans.tree if pid not in spared])
    [left] = orphans.tmp.glob("bench-*")
    assert alive(orphans.of_ranks)
    monkeypatch.setattr("tempfile.tempdir", str(orphans.tmp))
    made = private_folder()
    assert list(orphans.tmp.glob("bench-*")) == [made]
    assert made != left
    wait_until_gone([*spared])
    folders.remove(made)
    assert not list(orphans.tmp.iterdir())


@pytest.mark.slow
def test_torchrun_starts_the_same_entry_and_tells_exit_codes(tmp_path: Path) -> None:
    launcher = TorchrunLauncher(ENVIRONMENT, (), tmp_path / "launcher.log")
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    assert len({rank["pid"] for rank in facts(tmp_path)}) == 2
    outcome = launcher.launch(request("die", 3, tmp_path))
    assert not outcome.ok
    assert outcome.exit_codes[1] == 3


def test_nothing_is_left_in_shared_memory(own: ServerLauncher, tmp_path: Path) -> None:
    before = processes.traces(tmp_path)
    own.launch(request("facts", tmp_path, tmp_path))
    with contextlib.suppress(Exception):
        own.launch(request("hang", tmp_path, tmp_path), lambda: len(list(tmp_path.glob("child*"))) == 2)
    own.close()

    def left() -> set[str]:
        return {path for path in processes.traces(tmp_path) if path.startswith("/dev/shm/")} - before

    # What another test uses meanwhile is gone a little later.
    processes.wait_for(lambda: not left(), 30.0, "shared memory is left")


def test_a_python_without_pidfd_open_ends_everything_as_well(tmp_path: Path) -> None:
    """As the Pythons of uv and conda."""
    (tmp_path / "sitecustomize.py").write_text("import os\ndel os.pidfd_open\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    launcher = ServerLauncher(environment, ["torch", "bench.rank.main"], tmp_path / "launcher.log")
    assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
    server = psutil.Process(int(str(facts(tmp_path)[0]["parent"]))).ppid()
    os.kill(server, signal.SIGKILL)
    outcome = launcher.launch(request("facts", tmp_path, tmp_path))
    assert outcome.ok or outcome.error == "the launch server was killed by SIGKILL"
    pid = int(str(facts(tmp_path)[0]["parent"]))
    launcher.close()
    assert not alive([pid, server])


POLITE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).write_text("asked"), sys.exit()))
print("ready", flush=True)
time.sleep(1000)
"""
DEAF = POLITE.replace('lambda *_: (pathlib.Path(sys.argv[1]).write_text("asked"), sys.exit())', "signal.SIG_IGN")


def test_processes_are_asked_before_they_are_killed(tmp_path: Path) -> None:
    words = [(sys.executable, "-c", code, str(tmp_path / name)) for code, name in ((POLITE, "polite"), (DEAF, "deaf"))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in words]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert end(lambda: [psutil.Process(process.pid) for process in both])
    assert [process.wait() for process in both] == [0, -signal.SIGKILL]
    assert [path.name for path in tmp_path.iterdir()] == ["polite"]


def slow_import(folder: Path, seconds: float) -> None:
    (folder / "slow_import.py").write_text(
        f"import pathlib, time\ntime.sleep({seconds})\npathlib.Path({str(folder)!r}, f'{{time.time_ns()}}.done').touch()\n"
    )


FORK_ONCE = """
from multiprocessing import forkserver
from pathlib import Path
from launch import server_process
forkserver.set_forkserver_preload(["slow_import"])
forkserver.ensure_running()
before = len(list(Path().glob("*.done")))
server_process._fork_once()
print(before, len(list(Path().glob("*.done"))))
"""


def test_a_first_fork_waits_for_the_modules(tmp_path: Path) -> None:
    slow_import(tmp_path, 0.5)
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS.parents[1]}"}
    words = [sys.executable, "-P", "-c", FORK_ONCE]
    said = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (said.stdout, said.returncode) == ("0 1\n", 0), said.stderr


@pytest.mark.slow
def test_a_server_is_ready_when_its_modules_are_imported(tmp_path: Path) -> None:
    """Its imports count towards the wait for the server, each time it is replaced, and not towards a launch."""
    slow_import(tmp_path, 15)
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    log = tmp_path / "launcher.log"
    with contextlib.closing(ServerLauncher(environment, ["slow_import"], log, launches_per_server=1)) as launcher:
        for servers in (1, 2):
            launcher.prepare(request("facts", tmp_path, tmp_path))
            assert len(list(tmp_path.glob("*.done"))) == servers
            assert launcher.launch(request("facts", tmp_path, tmp_path)).ok
            assert len(list(tmp_path.glob("*.done"))) == servers  # ranks found it imported
