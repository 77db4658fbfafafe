"""Cold launches: the same entry under the plain ``torchrun`` command."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from launch import POLL_SECONDS, Outcome, Request
from launch.guard import Guarded
from launch.ports import free_port

FAILURE = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*exitcode\s*:\s*(-?\d+) \(pid: \d+\)")


def command(request: Request, port: int) -> list[str]:
    """The torchrun command line (``python -m torch.distributed.run`` is what ``torchrun`` runs)."""
    return [
        *(sys.executable, "-P", "-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(request.ranks), "--max-restarts", "0"),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
        *(("--numa-binding", request.numa_binding) if request.numa_binding else ()),
        *("-m", "launch.ranks", request.entry, request.argument),
    ]


class TorchrunLauncher:
    """Starts every rank from nothing, as users do."""

    def __init__(self, environment: Mapping[str, str], preload: object, log: Path) -> None:
        self._environment, self._log = dict(environment), log
        self._guarded: Guarded | None = None

    def launch(self, request: Request, watch: Callable[[], None] = lambda: None) -> Outcome:
        log = request.log / "torchrun.log"
        deadline = time.monotonic() + request.timeout_s
        self._guarded = Guarded(
            command(request, free_port()), environment={**self._environment, **request.environment}, log=log
        )
        try:
            while not self._guarded.wait(POLL_SECONDS):
                watch()
                if time.monotonic() > deadline:
                    return Outcome({}, timed_out=True)
            return self._outcome(self._guarded.returncode, log)
        finally:
            self.close()

    def scratch(self, request: Request) -> Path:
        return request.log  # torchrun's own folder does not exist yet when the argument must be written

    def close(self) -> None:
        if self._guarded is not None:
            self._guarded.kill()
            self._guarded = None

    @staticmethod
    def _outcome(returncode: int | None, log: Path) -> Outcome:
        if returncode == 0:
            return Outcome({})
        text = log.read_text(errors="replace")
        codes = {int(rank): int(code) for rank, code in FAILURE.findall(text)}
        lines = text.strip().splitlines() or [""]
        return Outcome(codes, error=f"torchrun ended with exit code {returncode}: {lines[-1][:200]}")
