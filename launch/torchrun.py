"""Cold launches: the same entry under the plain ``torchrun`` command."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from launch import POLL_SECONDS, LaunchError, Outcome, Request, Watch, folders, never
from launch.guard import Guarded, private_folder

FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*exitcode\s*:\s*(-?\d+) \(pid: \d+\)")


def command(request: Request, python: str = sys.executable) -> list[str]:
    """The torchrun command line: ``launch.cold`` runs what ``torchrun`` runs."""
    return [
        *(python, "-P", "-m", "launch.cold", str(request.timeout_s)),
        *("--nnodes", "1", "--nproc-per-node", str(request.ranks), "--max-restarts", "0"),
        *(("--numa-binding", request.numa_binding) if request.numa_binding else ()),
        *("-m", "launch.ranks", request.entry, request.argument),
    ]


class TorchrunLauncher:
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
        self._tmp: Path | None = None
        self._guarded: Guarded | None = None

    def launch(self, request: Request, watch: Watch = never) -> Outcome:
        log = request.log / "torchrun.log"
        environment = {**self._environment, **request.environment}
        try:
            tmp = self.scratch(request)
            words = command(request, self._python)
            self._guarded = Guarded(words, environment=environment, log=log, tmp=tmp, cwd=self._cwd)
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

    def scratch(self, request: Request, watch: Watch = never) -> Path:
        self._tmp = self._tmp or private_folder()
        return self._tmp

    def close(self) -> None:
        if self._guarded is not None:
            self._guarded.kill()
        elif self._tmp is not None:  # it never came to a launch
            folders.remove(self._tmp)
        self._guarded = self._tmp = None

    @staticmethod
    def _outcome(returncode: int | None, log: Path) -> Outcome:
        if returncode == 0:
            return Outcome({})
        text = log.read_text(errors="replace")
        codes = {int(rank): int(code) for rank, code in FAILURE.findall(text)}
        lines = text.strip().splitlines() or [""]
        return Outcome(codes, f"torchrun ended with exit code {returncode}: {lines[-1][:200]}")
