"""Cold launches: the same entry under the plain ``torchrun`` command."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch import (
    POLL_SECONDS,
    Elsewhere,
    Launcher,
    LaunchError,
    Outcome,
    Prepared,
    Request,
    Watch,
    folders,
    never_stop,
)
from launch.guard import Guarded, private_folder

FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*exitcode\s*:\s*(-?\d+) \(pid: \d+\)")


def command(request: Request, python: str = sys.executable) -> list[str]:
    """Return the torchrun command line. ``launch.cold`` runs the code of ``torchrun``."""
    return [
        *(python, "-P", "-m", "launch.cold", str(request.timeout_s)),
        *("--nnodes", "1", "--nproc-per-node", str(request.ranks), "--max-restarts", "0"),
        *(("--numa-binding", request.numa_binding) if request.numa_binding else ()),
        *("-m", "launch.rank_entry", request.entry, request.argument),
    ]


class TorchrunLauncher(Launcher):
    """Starts every rank from nothing, as users do."""

    def __init__(
        self,
        environment: Mapping[str, str],
        preload: object,
        log: Path,
        python: str = sys.executable,
        cwd: Path | None = None,
    ) -> None:
        self._environment, self._log, self._python, self._cwd = dict(environment), log, python, cwd
        self._started: list[_Torchrun] = []

    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        """Make the folder of a launch."""
        environment = {**self._environment, **request.environment}
        try:
            one = _Torchrun(request, command(request, self._python), environment, self._cwd)
        except OSError as error:
            raise LaunchError(f"cannot start torchrun: {error.strerror}") from None
        self._started = [one]  # the previous launch has ended
        return one

    def close(self) -> None:
        """End the latest launch."""
        for one in self._started:
            one.close()


class _Torchrun:
    """One torchrun command, with its folder."""

    elsewhere: Elsewhere | None = None

    def __init__(
        self, request: Request, words: Sequence[str], environment: Mapping[str, str], cwd: Path | None
    ) -> None:
        self._request, self._words, self._environment, self._cwd = request, words, environment, cwd
        self._guarded: Guarded | None = None
        self.scratch = private_folder()

    def launch(self, watch: Watch = never_stop) -> Outcome:
        log = self._request.log / "torchrun.log"
        try:
            self._guarded = Guarded(
                self._words, environment=self._environment, log=log, tmp=self.scratch, cwd=self._cwd
            )
        except OSError as error:
            self.close()
            raise LaunchError(f"cannot start torchrun: {error.strerror}") from None
        try:
            while not self._guarded.wait(POLL_SECONDS):
                if watch():
                    return Outcome({}, stopped=True)
            return self._outcome(self._guarded.returncode, log)
        finally:
            self.close()

    def close(self) -> None:
        """End it if it runs, and remove its folder."""
        if self._guarded is not None:
            self._guarded.kill()
        else:
            folders.remove(self.scratch)

    @staticmethod
    def _outcome(returncode: int | None, log: Path) -> Outcome:
        if returncode == 0:
            return Outcome({})
        text = log.read_text(errors="replace")
        codes = {int(rank): int(code) for rank, code in FAILURE.findall(text)}
        lines = text.strip().splitlines() or [""]
        return Outcome(codes, f"torchrun ended with exit code {returncode}: {lines[-1][:200]}")
