"""Fixtures for tests that start ranks."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.session import PRELOAD
from launch.server import ServerLauncher

TESTS = Path(__file__).parent


class Run(NamedTuple):
    """A finished ``bench run``."""

    code: int
    stdout: str
    stderr: str
    folder: Path | None

    def rows(self, name: str = "launches.csv") -> list[dict[str, str]]:
        assert self.folder is not None, self.stderr
        with (self.folder / name).open(newline="") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """Run the command as a user does, in a folder of its own; ``--out`` is ``results`` there."""

    def run(*words: str, cwd: Path = tmp_path, environment: dict[str, str] | None = None, timeout: float = 280) -> Run:
        inherited = {**os.environ, **(environment or {})}
        inherited.pop("TORCHINDUCTOR_CACHE_DIR", None)  # importing torch._dynamo in a test sets it for this process
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=inherited,
        )
        runs = sorted((cwd / "results" / "runs").glob("*"))
        return Run(done.returncode, done.stdout, done.stderr, runs[-1] if runs else None)

    return run


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerLauncher]:
    """A warm launcher whose ranks can import the modules of this folder; its servers last, as nothing is timed."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONSAFEPATH": "1"}
    launcher = ServerLauncher(environment, PRELOAD, tmp_path_factory.mktemp("launcher") / "launcher.log", 40)
    yield launcher
    launcher.close()
