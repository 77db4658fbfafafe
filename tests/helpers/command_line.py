"""The ``bench`` command, run as a user does."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Run(NamedTuple):
    """A finished command, and the folder of the latest run there."""

    code: int
    stdout: str
    stderr: str
    folder: Path | None

    def rows(self, name: str = "launches.csv") -> list[dict[str, str]]:
        assert self.folder is not None, self.stderr
        with (self.folder / name).open(newline="") as stream:
            return list(csv.DictReader(stream))

    def by_case(self) -> list[dict[str, str]]:
        """The launches in the order of the plan's cases; they were made in an order that is shuffled."""
        assert self.folder is not None, self.stderr
        return by_case(self.folder, self.rows())


def by_case(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of the plan's cases; those of one case stay in theirs."""
    planned = [case["case_id"] for case in json.loads((folder / "plan.json").read_text())["cases"]]
    return sorted(rows, key=lambda row: planned.index(row["case_id"]))


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, less what importing torch in a test process has set in it."""
    inherited = {**os.environ, **(more or {})}
    inherited.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch._dynamo sets it
    return inherited


def run_bench(
    cwd: Path, *words: str, more: Mapping[str, str] | None = None, timeout: float = 280, python: Sequence[str] = ()
) -> Run:
    """``bench`` in ``cwd``; ``--out`` is ``results`` there. ``python``: options of the interpreter."""
    done = subprocess.run(
        [sys.executable, *python, "-m", "bench", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(more),
    )
    return Run(done.returncode, done.stdout, done.stderr, latest(cwd))


def start_bench(cwd: Path, *words: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The same without waiting for its end, and with no signal ignored, as from a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(more),
        preexec_fn=_hear_signals,
    )


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def latest(cwd: Path) -> Path | None:
    runs = sorted((cwd / "results" / "runs").glob("*"))
    return runs[-1] if runs else None
