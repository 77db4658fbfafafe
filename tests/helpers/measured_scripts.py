"""Runs of the scripts in tests/scripts, compared with the stopwatch that each has of its own."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, run_bench

SCRIPTS = Path(__file__).parents[1] / "scripts"
STEPS = 30
BRIEF = ("--device", "cpu", "--launches", "1", "--quiet")


class Scripts:
    """One run of several scripts, each launched once in a folder of its own."""

    def __init__(self, folder: Path, names: list[str], *words: str) -> None:
        self.folder, self.laps = folder, folder / "laps"
        self.laps.mkdir(parents=True)
        self.home = folder / "home"
        shutil.copytree(SCRIPTS, self.home)
        (self.home / "configurator.py").write_text("batch_size = 8\n")
        (self.home / "out").mkdir()
        scripts = [word for name in names for word in ("--workload", f"script={name}.py")]
        words = ("run", *scripts, *BRIEF, "--steps", str(STEPS), *words)
        self.run: Run = run_bench(self.home, *words, more={"STOPWATCH": str(self.laps)}, python=("-P",))

    def row(self, name: str) -> dict[str, str]:
        [row] = [row for row in self.run.rows() if row["workload"] == f"script={name}.py"]
        return row

    def ranks(self, name: str) -> list[dict[str, Any]]:
        assert self.run.folder
        logs = self.run.folder / "logs" / self.row(name)["launch_id"]
        return [json.loads(file.read_text()) for file in sorted(logs.glob("rank?.json"))]

    def check(self, name: str, samples: int, ranks: int, least: int = STEPS // 2) -> dict[str, str]:
        """The row, after a comparison with the script's own stopwatch: ``samples`` a step on each rank."""
        row, records = self.row(name), self.ranks(name)
        assert (row["status"], row["reason"]) == ("ok", ""), self.run.stderr
        assert len(records) == ranks
        warmup, kept = int(row["warmup_steps_done"]), int(row["window_steps"])
        assert kept >= least
        assert kept + int(row["apart_steps"]) == STEPS
        for rank, record in enumerate(records):
            laps = [line.split() for line in (self.laps / f"{name}-{rank}").read_text().splitlines()]
            ends = [int(ns) for ns, _ in laps]
            theirs = [(after - before) / 1e6 for before, after in zip(ends[warmup - 1 :], ends[warmup:], strict=False)]
            ours = [ns / 1e6 for ns in record["measurement"]["steps_ns"]]
            # After the window comes a step whose work is counted, which ends the process before the script can note it.
            assert len(theirs) >= STEPS
            assert statistics.median(abs(a - b) for a, b in zip(theirs[:STEPS], ours, strict=True)) < 0.5
            assert {int(number) for _, number in laps} == {samples}
        assert int(row["samples"]) == samples * ranks * kept
        assert int(row["global_batch"]) == samples * ranks
        assert float(row["samples_per_s"]) == pytest.approx(int(row["samples"]) / float(row["window_s"]), rel=1e-6)
        return row
