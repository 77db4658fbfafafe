"""Launches of collectives beside the rate of each, as baselines keep them; a check of a run of collectives."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from in_process import run_bench
from made_up_rows import launch, write

from bench.comparison.baseline_check import asked_again
from bench.store.baselines import load
from bench.store.columns import COMMS
from bench.store.comms_rates import beside_rates, figures, is_rate

WORKLOAD = "comms:collectives=all_reduce:sizes=1K+2K"
OF_COMMS = {"workload": WORKLOAD, "strategy": "none", "samples_per_s": None, "gpus": 2, "batch_size": None}
OF_COMMS |= {"precision": None, "data": None, "case_id": "comms-x2", "torch": "2.14", "device": "cpu"}


def session(out: Path, number: int, time_us: dict[str, float], launches: int = 5) -> str:
    """A run whose all-reduces take as long in each launch, but for a part in a thousand."""
    run = f"20260101-1200{number:02}-00aa"
    rows = [
        launch(**OF_COMMS, run_id=run, launch_id=f"{block:04}-a", block=block, order=block, launches=launches)
        for block in range(launches)
    ]
    write(folder := out / "runs" / run, rows)
    with (folder / "comms.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(COMMS), restval="")
        writer.writeheader()
        for block in range(launches):
            for size, time in time_us.items():
                own = {"run_id": run, "launch_id": f"{block:04}-a", "status": "ok", "collective": "all_reduce"}
                own |= {"group": "all", "group_ranks": "0-1", "dtype": "float32", "size_bytes": size}
                writer.writerow({**own, "time_us": time * (1 + 0.001 * ((block + number) % 3))})
    return run


def test_a_launch_of_collectives_has_no_figure_beside_its_rates(tmp_path: Path) -> None:
    run = session(tmp_path, 0, {"1024": 10.0, "2048": 20.0}, launches=1)
    [plain] = [launch(**OF_COMMS, run_id=run, launch_id="0000-a")]
    failed = launch(**OF_COMMS, run_id=run, launch_id="0001-a", status="crashed")
    training = launch(run_id=run, launch_id="0002-a")
    rows = beside_rates(tmp_path / "runs" / run, [plain, failed, training], print)
    assert [is_rate(row) for row in rows] == [False, False, False, True, True]
    assert [row.workload for row in rows[3:]] == [
        "comms:all_reduce:1K:float32:all:0-1",
        "comms:all_reduce:2K:float32:all:0-1",
    ]
    assert [row.samples_per_s for row in rows[3:]] == pytest.approx([1e5, 5e4])
    assert figures(rows) == rows[1:]
    assert beside_rates(tmp_path, [training], print) == [training]


def test_a_baseline_of_collectives_decides_on_each(tmp_path: Path) -> None:
    out = tmp_path / "results"
    runs = [session(out, n, {"1024": 10.0 * (1 + 0.002 * n), "2048": 20.0 * (1 - 0.002 * n)}) for n in range(5)]
    added = run_bench(tmp_path, "baseline", "add", "net", *runs)
    assert (added.code, added.stdout) == (0, "results/baselines/net.csv: 5 sessions\n")
    assert "│ 5        │ 2     │" in run_bench(tmp_path, "baseline", "list").stdout
    same = session(out, 10, {"1024": 10.05, "2048": 19.95})
    assert run_bench(tmp_path, "check", "--baseline", "net", "--run", same).code == 0
    slower = session(out, 11, {"1024": 10.05, "2048": 40.0})
    found: Any = run_bench(tmp_path, "check", "--baseline", "net", "--run", slower)
    assert found.code == 1
    assert "all_reduce-2K-float32-all-0-1-x2-cpu: slower" in found.stdout
    assert "all_reduce-1K-float32-all-0-1-x2-cpu: slower" not in found.stdout


def test_a_check_asks_for_the_launch_and_not_for_its_rates(tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert run_bench(tmp_path, "baseline", "add", "net", session(out, 0, {"1024": 10.0})).code == 0
    asked = asked_again(load(out, "net", print))
    assert [matrix["workload"] for matrix in asked.matrices] == [[WORKLOAD]]
