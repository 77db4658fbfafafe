"""A small process between ``bench run`` and what it starts, so that nothing outlives it.

The guard holds the read end of a pipe from its parent. When that pipe closes (the parent is done, or died, however),
or when its command ends, it ends every descendant and removes the private temporary folder. As a child subreaper it
keeps orphans and processes with sessions of their own in its tree. It imports no torch and starts in 0.1 s.
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
from launch.processes import GRACE_S, PATIENCE_S, descendants, end, is_resource_tracker, with_tmp

PR_SET_CHILD_SUBREAPER = 36
PREFIX = "bench-"
TRACKER_GRACE_S = 10.0
REAP_MS, POLL_MS = 1000, 50
SOCKET_PATH_LIMIT = 60  # a Unix socket's path has 107 characters; multiprocessing appends about 40


class Guarded:
    """A command whose whole process tree ends with us, with a private temporary folder ``tmp`` as its TMPDIR."""

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
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The command's exit code once it ended and its tree is gone (128 + n for signal n), else None."""
        return self._process.poll()

    def wait(self, timeout: float) -> bool:
        """True if the command has ended and its tree is gone."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the whole tree now, and return when it is gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if not self.wait(GRACE_S + TRACKER_GRACE_S + 2 * PATIENCE_S + 3):
            self._process.kill()
            self._process.wait()
        if self._process.returncode < 0:  # somebody killed the guard itself
            end(lambda: with_tmp(self.tmp))
        folders.remove(self.tmp)


def private_folder() -> Path:
    """A temporary folder of our own; the guard that it is given to removes it.

    One that was left behind, as its owner and its guard were killed at once, is removed with whatever still uses it.
    """
    short = "/tmp" if len(tempfile.gettempdir()) > SOCKET_PATH_LIMIT and os.path.isdir("/tmp") else None
    for left in folders.left_behind(PREFIX, short):
        end(lambda left=left: with_tmp(left))  # type: ignore[misc]
        folders.remove(left)
    return folders.make(PREFIX, short)


def _reap(but: int = 0) -> None:
    """Take in children that have ended, orphans among them, up to the one that is to be left."""
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
    """``TMP -- COMMAND...``: run the command until it ends or our standard input closes."""
    tmp, command = argv[0], argv[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the pipe ends us: whoever signals a group means bench run
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        close_fds=False,  # what our parent passed to us is for the command
        restore_signals=True,
        preexec_fn=_default_signals,
    )
    try:
        _wait(child)
    finally:
        code = child.poll()
        child.kill()  # it has nothing to lose; the ranks are asked first
        _end_descendants()
        shutil.rmtree(tmp, ignore_errors=True)
    return 1 if code is None else code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Until the command ends or our standard input closes. Orphans are taken in meanwhile."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    patience_ms = REAP_MS
    try:
        poll.register(os.pidfd_open(child.pid), select.POLLIN)
    except (AttributeError, OSError):  # Python as uv and conda ship it, Linux before 5.3, a sandbox
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
