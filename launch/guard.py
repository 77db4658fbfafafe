"""A small process between ``bench run`` and what it starts, so that nothing outlives it.

The guard holds the read end of a pipe from its parent. When that pipe closes (the parent is done, or died, however),
or when its command ends, it kills every descendant and removes the private temporary folder. As a child subreaper it
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
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
KILL_PATIENCE_S = 5.0
TRACKER_PATIENCE_S = 2.0
SOCKET_PATH_LIMIT = 60  # a Unix socket's path has 107 characters; multiprocessing appends about 40


class Guarded:
    """A command whose whole process tree ends with us, with a private temporary folder as its TMPDIR."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, pass_fds: Sequence[int] = ()
    ) -> None:
        self.tmp = Path(tempfile.mkdtemp(prefix="bench-", dir=_short_tmp()))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "launch.guard", str(self.tmp), "--", *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**environment, "TMPDIR": str(self.tmp)},
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )

    @property
    def returncode(self) -> int | None:
        """The command's exit code once it ended and its tree is gone, else None."""
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
        if not self.wait(KILL_PATIENCE_S + TRACKER_PATIENCE_S + 3):
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.tmp, ignore_errors=True)


def _short_tmp() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > SOCKET_PATH_LIMIT and os.path.isdir("/tmp") else None


def _is_resource_tracker(process: psutil.Process) -> bool:
    """multiprocessing's tracker: once everything else is dead it unlinks the semaphores and ends by itself."""
    with contextlib.suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_descendants() -> None:
    me = psutil.Process()
    deadline = time.monotonic() + KILL_PATIENCE_S
    while time.monotonic() < deadline:
        _reap()
        alive = [p for p in me.children(recursive=True) if not _is_resource_tracker(p)]
        if not alive:
            break
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)
    deadline = time.monotonic() + TRACKER_PATIENCE_S
    while (trackers := me.children(recursive=True)) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.01)
    for process in trackers:
        with contextlib.suppress(psutil.Error):
            process.kill()


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
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    ended = os.pidfd_open(child.pid)
    poll.register(ended, select.POLLIN)
    while not poll.poll():
        pass
    code = child.poll()
    _end_descendants()
    shutil.rmtree(tmp, ignore_errors=True)
    return 1 if code is None or code < 0 else code


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
