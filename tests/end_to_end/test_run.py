"""`bench run` from end to end: what is in the files, and what becomes of faults."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import in_process
import psutil
import pytest
from command_line import Run, latest, run_bench, start_bench
from processes import alive, wait_for

from bench.store.columns import SCHEMA

HELPERS = Path(__file__).parents[1] / "helpers"
FAULTY = f"{HELPERS}/faulty.py:Faulty"
HUNGRY = f"{HELPERS}/faulty.py:HungryLoader"
BRIEF = ("--device", "cpu", "--steps", "5", "--warmup-steps", "3", "--launches", "1", "--quiet")


def number(row: dict[str, str], name: str) -> float:
    return float(row[name])


CASES = f"""
[[matrix]]
workload = "mlp"
strategy = ["single", "ddp", "fsdp"]

[[matrix]]
workload = "{FAULTY}:data_ms=15:sleep_ms=20"
data = "synthetic"
num_workers = 0

[[matrix]]
workload = "{FAULTY}:data_ms=2"
strategy = "single"
data = "synthetic"
num_workers = 2
prefetch_factor = 3

[[matrix]]
workload = ["{HUNGRY}", "{HUNGRY}:worker_mib=150"]
data = "synthetic"
num_workers = 2
"""


class Measured:
    """One run of many cases, each launched once."""

    def __init__(self, run: Run) -> None:
        assert run.code == 0, run.stdout + run.stderr
        self.run = run

    def row(self, workload: str, strategy: str = "ddp") -> dict[str, str]:
        (row,) = [row for row in self.run.rows() if (row["workload"], row["strategy"]) == (workload, strategy)]
        return row

    def beside(self, row: dict[str, str], name: str) -> list[dict[str, str]]:
        """The rows of another file that are of a launch."""
        return [other for other in self.run.rows(name) if other["launch_id"] == row["launch_id"]]


@pytest.fixture(scope="module")
def measured(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("run")
    (folder / "cases.toml").write_text(CASES)
    return Measured(run_bench(folder, "run", "--suite", "cases.toml", *BRIEF, "--json", more={"NCCL_DEBUG": "WARN"}))


def test_a_row_agrees_with_the_steps_and_ranks_beside_it(measured: Measured) -> None:
    row = measured.row("mlp")
    steps, ranks = measured.beside(row, "steps.csv"), measured.beside(row, "ranks.csv")
    assert (row["status"], row["world_size"], row["global_batch"], row["backend"]) == ("ok", "2", "128", "gloo")
    assert number(row, "samples") == 5 * 2 * 64
    slowest = max(number(rank, "window_s") for rank in ranks)
    assert number(row, "samples_per_s") == pytest.approx(5 * 2 * 64 / slowest)
    assert number(row, "step_ms") == pytest.approx(statistics.median(number(step, "step_ms") for step in steps))
    assert [step["step"] for step in steps] == list("01234")
    critical = ranks[int(row["critical_rank"])]
    parts = ["data_wait_ms", "copy_ms", "forward_ms", "backward_ms", "optimizer_ms"]
    assert [row[part] for part in parts] == [critical[part] for part in parts]
    assert sum(number(row, part) for part in parts) * 5 / 1e3 == pytest.approx(number(critical, "window_s"), rel=0.01)
    assert number(row, "loss_last") == number(steps[-1], "loss")
    assert number(row, "launch_s") > number(row, "startup_s") + number(row, "window_s")
    assert (row["order_seed"], row["budget"], row["launches"], row["schema"]) == ("0", "", "1", str(SCHEMA))
    assert row["mfu"] == row["peak_tflops"] == row["peak_allocated_mib"] == row["num_workers"] == ""


def test_a_row_tells_software_machine_and_settings(measured: Measured) -> None:
    row = measured.row("mlp", "single")
    assert row["hostname"] == socket.gethostname()
    assert row["torch"].partition("+")[0] == importlib.metadata.version("torch").partition("+")[0]
    assert int(row["cpu_threads"]) == os.cpu_count()
    settings = json.loads(row["settings"])
    assert (settings["NCCL_DEBUG"], settings["OMP_NUM_THREADS"]) == ("WARN", "1")
    assert row["parameters"] == "265738"
    assert row["tool_version"] == importlib.metadata.version("stepbench")
    # 3 x 2 FLOPs a weight and sample, less the input's gradient of the first layer
    weights, first = 4 * 256 * 256 + 256 * 10, 256 * 256
    assert number(row, "flops_per_sample") == 6 * weights - 2 * first


def test_json_has_the_rows_and_nothing_else(measured: Measured) -> None:
    said = json.loads(measured.run.stdout)
    assert measured.run.folder is not None
    assert said["run_id"] == measured.run.folder.name
    rows = measured.run.rows()
    assert [row["status"] for row in said["launches"]] == ["ok"] * len(rows) == ["ok"] * 7
    for row, text in zip(said["launches"], rows, strict=True):
        assert row["samples_per_s"] == pytest.approx(number(text, "samples_per_s"))


@pytest.mark.slow
def test_the_command_in_a_row_gives_the_same_case_again(bench: Any) -> None:
    first = bench("run", "--workload", "gpt:layers=1:width=16:heads=1:seq=8", "--strategy", "single", *BRIEF).rows()
    command = first[0]["command"].split()[1:]
    again = bench(*command, "--quiet").rows()
    assert (again[0]["case_id"], again[0]["work_key"]) == (first[0]["case_id"], first[0]["work_key"])
    assert again[0]["loss_last"] == first[0]["loss_last"]


def test_torchrun_trains_the_same_and_fills_the_same_columns(measured: Measured, bench: Any) -> None:
    words = ("run", "--workload", "mlp", "--strategy", "fsdp", *BRIEF)
    server, (torchrun,) = measured.row("mlp", "fsdp"), bench(*words, "--launcher", "torchrun").rows()
    assert torchrun["status"] == "ok"
    assert torchrun["loss_last"] == server["loss_last"]
    by_server, by_torchrun = ({name for name in row if row[name]} for row in (server, torchrun))
    assert by_server ^ by_torchrun <= {"machine_warnings"}  # either may meet a busy machine


def test_known_waits_are_found_where_they_are(measured: Measured) -> None:
    """20 ms of sleep in the forward pass, 2 samples of 15 ms each in the loader: a sleep is never shorter."""
    row = measured.row(f"{FAULTY}:data_ms=15:sleep_ms=20")
    assert number(row, "forward_ms") >= 20
    assert number(row, "data_wait_ms") >= 30
    assert number(row, "samples_per_s") <= 2 * 2 / 0.050
    windows = [number(rank, "window_s") for rank in measured.beside(row, "ranks.csv")]
    assert len(windows) == 2
    assert number(row, "data_wait_share") == pytest.approx(
        number(row, "data_wait_ms") / (sum(windows) / 2 / 5 * 1e3), rel=0.02
    )


def test_queues_are_drained_before_the_window(measured: Measured) -> None:
    """2 workers x 3 batches ahead: 7 steps after the pause and one before it."""
    row = measured.row(f"{FAULTY}:data_ms=2", "single")
    assert (row["warmup_steps_done"], row["steps_per_epoch"]) == ("8", "128")


@pytest.fixture(scope="module")
def limited(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Windows of 30 steps that are to take from half a second to one; a step of one case is fast, of the other slow."""
    words = ("--workload", f"{FAULTY}:sleep_ms=5,{FAULTY}:sleep_ms=50", "--steps", "30", "--warmup-steps", "1000")
    words += ("--min-seconds", "0.5", "--max-seconds", "1", "--device", "cpu", "--launches", "1", "--quiet")
    return Measured(run_bench(tmp_path_factory.mktemp("limited"), "run", *words))


def test_min_seconds_lengthens_the_window(limited: Measured) -> None:
    row = limited.row(f"{FAULTY}:sleep_ms=5")
    assert number(row, "window_s") >= 0.5
    assert int(row["window_steps"]) > 30
    assert number(row, "samples") == 2 * 2 * int(row["window_steps"])


def test_max_seconds_leave_a_window_fewer_steps(limited: Measured) -> None:
    """A step sleeps for 50 ms: 19 or fewer fit into the second. Both ranks have as many, and so does each launch."""
    row = limited.row(f"{FAULTY}:sleep_ms=50")
    assert (row["status"], row["steps"], row["max_seconds"], row["window_cut"]) == ("ok", "30", "1", "true")
    assert 2 <= int(row["window_steps"]) <= 19
    assert 3 <= int(row["warmup_steps_done"]) <= 1 + 9 + 2  # half a second, before the last two
    assert number(row, "samples") == 2 * 2 * int(row["window_steps"])
    assert len(limited.beside(row, "steps.csv")) == int(row["window_steps"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single", "fsdp"])
def test_steps_that_take_longer_than_the_limit_are_two(bench: Any, strategy: str) -> None:
    words = ("--workload", f"{FAULTY}:sleep_ms=300", "--strategy", strategy, "--max-seconds", "0.1", "--steps", "20")
    run = bench("run", *words, "--grad-accum-steps", "2", "--device", "cpu", "--launches", "1", "--quiet")
    (row,) = run.rows()
    assert (row["status"], row["window_steps"], row["window_cut"]) == ("ok", "2", "true")
    assert row["warmup_steps_done"] == "3"


@pytest.mark.slow
def test_a_window_that_is_lengthened_has_no_seam(bench: Any) -> None:
    """Warm-up is five times as slow as the window, so that it is planned too short; its steps still fill it."""
    workload = f"{HELPERS}/faulty.py:SlowAtFirst"
    words = ("--strategy", "ddp", "--min-seconds", "1.5", "--grad-accum-steps", "2")
    run = bench("run", "--workload", workload, *words, *BRIEF)
    (row,), steps = run.rows(), run.rows("steps.csv")
    assert row["status"] == "ok"
    assert 1.5 <= number(row, "window_s") < 3
    assert int(row["window_steps"]) == len(steps) > 1.5 / 0.05  # as many as warm-up's pace would have filled it with
    assert number(row, "samples") == 2 * 2 * 2 * len(steps)
    for rank in run.rows("ranks.csv"):
        assert number(rank, "window_s") <= sum(number(step, "step_ms") for step in steps) / 1e3 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single", "ddp"])
def test_a_busy_machine_makes_no_launch_invalid(bench: Any, strategy: str) -> None:
    """Four processes a processor that want all of it, while windows have two steps."""
    hogs = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        words = ("--strategy", strategy, "--device", "cpu", "--steps", "2", "--launches", "4", "--quiet")
        rows = bench("run", "--workload", "mlp", *words).rows()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert [row["status"] for row in rows] == ["ok"] * 4, [row["reason"] for row in rows]


def memory_of_loaders(run: Run, small: dict[str, str], large: dict[str, str]) -> None:
    """Two ranks, each with two workers that take nothing of their own, or 150 MiB each."""
    assert number(large, "peak_host_mib") - number(small, "peak_host_mib") == pytest.approx(300, abs=40)
    assert number(large, "peak_rss_mib") == pytest.approx(number(small, "peak_rss_mib"), abs=40)  # of a rank alone
    ranks = [row for row in run.rows("ranks.csv") if row["launch_id"] == large["launch_id"]]
    assert max(number(rank, "peak_host_mib") for rank in ranks) == number(large, "peak_host_mib")


def test_what_loader_workers_take_is_the_hosts_memory(measured: Measured) -> None:
    memory_of_loaders(measured.run, measured.row(HUNGRY), measured.row(f"{HUNGRY}:worker_mib=150"))


@pytest.mark.slow
def test_what_loader_workers_take_is_the_hosts_memory_under_torchrun(bench: Any) -> None:
    words = ("--data", "synthetic", "--num-workers", "2", "--launcher", "torchrun", *BRIEF)
    run = bench("run", "--workload", f"{HUNGRY},{HUNGRY}:worker_mib=150", *words)
    memory_of_loaders(run, *run.by_case())


@pytest.mark.slow
def test_memory_that_is_taken_is_seen(bench: Any) -> None:
    (small,) = bench("run", "--workload", FAULTY, "--strategy", "single", *BRIEF).rows()
    (large,) = bench("run", "--workload", f"{FAULTY}:mib=300", "--strategy", "single", *BRIEF).rows()
    assert 290 <= number(large, "rss_growth_mib") - number(small, "rss_growth_mib") <= 330


@pytest.mark.slow  # real memory runs out in test_faults as well, and test_api leaves out the launches after it
def test_a_case_that_ran_out_of_memory_is_not_launched_again(bench: Any) -> None:
    run = bench("run", "--workload", f"{FAULTY}:fault=oom,mlp", "--strategy", "ddp", *BRIEF, "--launches", "2")
    assert run.code == 5
    first, left_out, *others = run.by_case()
    assert [row["status"] for row in (first, left_out, *others)] == ["oom", "skipped", "ok", "ok"]
    assert sorted(row["order"] for row in run.rows()) == ["", "0", "1", "2"]
    assert "allocate" in first["reason"]
    assert left_out["reason"] == "it ran out of memory in an earlier launch"


@pytest.mark.launch
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_run_is_its_own_until_an_interrupt_which_is_a_row_and_leaves_nothing(
    tmp_path: Path, number: int, code: int
) -> None:
    """Another command can neither resume nor remove a run that is being written."""
    words = ["--workload", f"{FAULTY}:fault=hang", "--strategy", "ddp", *BRIEF]
    process = start_bench(tmp_path, "run", *words)
    wait_for(lambda: bool(list(tmp_path.glob("results/runs/*/logs/0000-*/rank1.json"))), 120)
    folder = latest(tmp_path)
    assert folder is not None
    resumed = in_process.bench(tmp_path, "run", "--resume", folder.name, "--quiet")
    removed = in_process.bench(tmp_path, "results", "rm", folder.name, "--yes")
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) >= 5
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert "interrupted" in stdout
    assert (resumed.code, removed.code) == (5, 5)
    assert f"run {folder.name} is being written by another bench run" in resumed.err
    (row,) = csv.DictReader((folder / "launches.csv").open(newline=""))
    assert row["status"] == "interrupted"
    assert not alive(tree)


def test_a_machine_that_does_not_fit_is_told_in_the_rows_or_refused(tmp_path: Path) -> None:
    words = ("run", "--workload", "mlp", "--strategy", "single", "--omp-num-threads", "1000", *BRIEF)
    refused = in_process.bench(tmp_path, *words, "--strict-machine")
    assert (refused.code, latest(tmp_path)) == (5, None)
    assert refused.err.startswith("bench: --strict-machine: this machine does not fit the run:\n- ")
    threads = f"1 rank x 1000 OMP threads = 1000 threads on {len(os.sched_getaffinity(0))} processors"
    assert threads in refused.err
    dry = in_process.bench(tmp_path, *words, "--dry-run", "--strict-machine")
    assert dry.code == 0  # nothing is launched


def test_only_skipped_cases_exit_with_5(tmp_path: Path) -> None:
    done = in_process.bench(tmp_path, "run", "--workload", "mlp", "--data", "text=demo", *BRIEF)
    assert done.code == 5
    folder = latest(tmp_path)
    assert folder is not None
    (row,) = csv.DictReader((folder / "launches.csv").open(newline=""))
    assert row["status"] == "skipped"
    assert row["reason"] == "mlp cannot read text; it takes resident, synthetic"
