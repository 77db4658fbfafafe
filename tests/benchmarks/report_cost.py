"""What a report costs: 20,000 launches and 1,000,000 steps of made-up rows, read and reported.

    python tests/benchmarks/report_cost.py

Prints wall time and peak memory of `bench report`, to the terminal alone and with every file, and the size of the page;
and the same for 200 cases of 5 launches.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MADE_UP = Path(__file__).parents[1] / "data" / "results" / "runs" / "20261102-090000-5e1f"


def main() -> None:
    for cases, launches, steps in ((200, 100, 50), (200, 5, 50)):
        with tempfile.TemporaryDirectory() as out:
            _make(Path(out), cases, launches, steps)
            print(f"{cases} cases x {launches} launches x {steps} steps")
            _time(Path(out), "terminal")
            _time(
                Path(out),
                "CSV, Markdown and page",
                "--csv",
                f"{out}/csv",
                "--md",
                f"{out}/r.md",
                "--html",
                f"{out}/r.html",
            )
            print(f"  page: {(Path(out) / 'r.html').stat().st_size / 1e6:.2f} MB")


def _make(out: Path, cases: int, launches: int, steps: int) -> None:
    """One run, its cases told apart by their seed, which no chart mistakes for anything else."""
    folder = out / "runs" / "20261102-090000-0000"
    folder.mkdir(parents=True)
    header, rows = _rows("launches.csv")
    place = {name: header.index(name) for name in header}
    good = [row for row in rows if row[place["status"]] == "ok" and row[place["role"]] == "measure"]
    names: dict[str, list[str]] = {}
    for row in good:
        names.setdefault(row[place["case_id"]], row)
    templates = list(names.values())
    with (folder / "launches.csv").open("w", newline="") as one, (folder / "steps.csv").open("w", newline="") as other:
        to_launches, to_steps = csv.writer(one), csv.writer(other)
        to_launches.writerow(header)
        to_steps.writerow(_rows("steps.csv")[0])
        for number in range(cases * launches):
            case, block = number % cases, number // cases
            row = list(templates[case % len(templates)])
            seed = case // len(templates)
            launch_id = f"{number:05}-{row[place['case_id']]}-seed{seed}"
            wobble = 1 + (number * 7919 % 101 - 50) / 5000
            changes = {
                **{"run_id": folder.name, "launch_id": launch_id, "case_id": f"{row[place['case_id']]}-seed{seed}"},
                **{"order": number, "block": block, "seed": seed},
                "samples_per_s": f"{float(row[place['samples_per_s']]) * wobble:.10g}",
            }
            for name, value in changes.items():
                row[place[name]] = str(value)
            to_launches.writerow(row)
            step = float(row[place["step_ms"]])
            to_steps.writerows(
                [folder.name, launch_id, i, f"{step * (1 + (i * 31 % 17) / 400):.10g}", f"{step:.10g}", 0.1, 0, 10]
                for i in range(steps)
            )


def _rows(name: str) -> tuple[list[str], list[list[str]]]:
    with (MADE_UP / name).open(newline="") as stream:
        header, *rows = csv.reader(stream)
    return header, [row for row in rows if len(row) == len(header)]


def _time(out: Path, what: str, *words: str) -> None:
    began = time.perf_counter()
    command = [sys.executable, "-m", "bench", "report", "--out", str(out), *words]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    print(f"  {what}: {seconds:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB, exit code {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
