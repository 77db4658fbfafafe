"""A small process between ``bench run`` and the processes that it starts, so that none outlives it.

The guard holds the read end of a pipe from its parent. When that pipe closes (the parent has ended in whatever way), or
when its command ends, it ends every descendant and removes the private temporary folder. As a child subreaper it keeps
orphans and processes with sessions of their own in its tree. It does not import torch and starts in 0.1 s.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from launch import folders
from launch.processes import GRACE_S, PATIENCE_S, descendants, end, is_resource_tracker, processes_with_tmpdir

PR_SET_CHILD_SUBREAPER = 36
PREFIX = "bench-"
TRACKER_GRACE_S = 10.0
REAP_MS, POLL_MS = 1000, 50
SOCKET_PATH_LIMIT = 60  # a Unix socket's path has 107 characters; multiprocessing appends about 40


class Guarded:
    """A command whose process tree ends with this process. Its TMPDIR is the private temporary folder ``tmp``."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        tmp: Path,
        pass_fds: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> None:
        self.tmp = tmp
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "launch.guard", str(self.tmp), "--", *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**environment, "TMPDIR": str(self.tmp)},
                pass_fds=tuple(pass_fds),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the guard."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code of the command once it and its tree have ended (128 + n for signal n), else None."""
        return self._process.poll()

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; return whether the command and its tree have ended."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the whole tree now, and return when it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if not self.wait(GRACE_S + TRACKER_GRACE_S + 2 * PATIENCE_S + 3):
            self._process.kill()
            self._process.wait()
        if self._process.returncode < 0:  # the guard itself was killed
            end(lambda: processes_with_tmpdir(self.tmp))
        folders.remove(self.tmp)


def private_folder() -> Path:
    """Make a private temporary folder, which its guard will remove.

    A folder that was left behind, because its owner and its guard were killed at once, is removed together with the
    processes that still use it.
    """
    short = "/tmp" if len(tempfile.gettempdir()) > SOCKET_PATH_LIMIT and os.path.isdir("/tmp") else None
    for left in folders.left_behind(PREFIX, short):
        end(lambda left=left: processes_with_tmpdir(left))  # type: ignore[misc]
        folders.remove(left)
    return folders.make(PREFIX, short)


def _reap(but: int = 0) -> None:
    """Collect the exit status of children that have ended, orphans among them, up to the child that is to be left."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != but:
            os.waitpid(ended.si_pid, 0)


def _end_descendants() -> None:
    def found(trackers: bool) -> list[psutil.Process]:
        _reap()
        return [p for p in descendants(os.getpid()) if trackers or not is_resource_tracker(p)]

    end(lambda: found(trackers=False))
    end(lambda: found(trackers=True), TRACKER_GRACE_S)  # ignores SIGTERM, and ends by itself when it has cleaned up


def main(argv: Sequence[str]) -> int:
    """Run a command, given as ``TMP -- COMMAND...``, until it ends or the standard input closes."""
    tmp, command = argv[0], argv[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # only the pipe ends the guard: signals to the process group are meant for bench run
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        close_fds=False,  # inherited descriptors are for the command
        restore_signals=True,
        preexec_fn=_default_signals,
    )
    try:
        _wait(child)
    finally:
        code = child.poll()
        child.kill()  # the command itself needs no SIGTERM; the ranks get one first
        _end_descendants()
        shutil.rmtree(tmp, ignore_errors=True)
    return 1 if code is None else code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Wait until the command ends or the standard input closes, and reap orphans meanwhile."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    patience_ms = REAP_MS
    try:
        poll.register(os.pidfd_open(child.pid), select.POLLIN)
    except (AttributeError, OSError):  # Python of uv and conda, Linux before 5.3, or a sandbox
        patience_ms = POLL_MS
    while not poll.poll(patience_ms) and not _has_ended(child.pid):
        _reap(but=child.pid)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
