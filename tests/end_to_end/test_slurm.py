"""Runs as jobs of a real Slurm with four nodes, which are names of this host (`make test-slurm`)."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import cluster, missing

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "helpers" / "faulty.py"
pytestmark = [pytest.mark.launch, pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]
BRIEF = ("--device", "cpu", "--launches", "1", "--steps", "4", "--quiet")
LIMIT_S = 200


@pytest.fixture(scope="module")
def slurm(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with cluster(tmp_path_factory.mktemp("slurm"), 4) as variables:
        yield {**variables, "PYTHONPATH": str(ROOT)}


def begun(slurm: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "bench", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, env=slurm, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def bench(slurm: dict[str, str], folder: Path, *words: str) -> tuple[int, str]:
    process = begun(slurm, folder, *words)
    said, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, said


def rows(folder: Path, name: str = "launches.csv") -> list[dict[str, str]]:
    return [row for file in folder.glob(f"results/slurm/*/runs/*/{name}") for row in csv.DictReader(file.open())]


def number(said: str) -> str:
    found = re.search(r"submitted job (\d+)", said)
    assert found, said
    return found[1]


def show(slurm: dict[str, str], job: str) -> str:
    return subprocess.run(["scontrol", "-o", "show", "job", job], env=slurm, capture_output=True, text=True).stdout


def test_a_run_on_two_nodes_of_a_job(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["--scheduler", "slurm", "--nodes", "2", "--workload", "mlp", "--strategy", "ddp", "--gpus", "4"]
    hostile = 'it\'s a $(touch hacked); "b" #c'
    code, said = bench(slurm, tmp_path, "run", *words, *BRIEF, "--slurm-option", f"comment={hostile}")
    assert code == 0, said
    assert "running" in said
    assert "completed" in said
    assert "mlp-ddp-x4-cpu" in said  # node 0's table
    [row] = rows(tmp_path)
    assert (row["status"], row["nodes"], row["world_size"]) == ("ok", "2", "4")
    assert sorted(one["node"] for one in rows(tmp_path, "ranks.csv")) == ["0", "0", "1", "1"]
    assert hostile in show(slurm, number(said))
    assert not list(tmp_path.rglob("hacked"))
    token = re.compile(r"STEPBENCH_TOKEN=(?!\$\()")
    assert not any(token.search(file.read_text()) for file in tmp_path.rglob("*") if file.is_file())


def test_a_job_ends_with_the_exit_code_of_its_run(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["--scheduler", "slurm", "--nodes", "2", "--workload", f"{FAULTY}:Faulty:fault=raise:rank=3", "--gpus", "4"]
    code, said = bench(slurm, tmp_path, "run", *words, *BRIEF, "--batch-size", "4")
    assert code == 5, said
    [row] = rows(tmp_path)
    assert row["status"] == "crashed"
    assert "rank 3" in row["reason"]


def test_a_job_that_was_detached_is_attached_and_cancelled(slurm: dict[str, str], tmp_path: Path) -> None:
    words = [
        "--scheduler",
        "slurm",
        "--nodes",
        "2",
        "--workload",
        f"{FAULTY}:Faulty:sleep_ms=50",
        "--gpus",
        "4",
        "--detach",
    ]
    more = ["--device", "cpu", "--launches", "50", "--batch-size", "4", "--quiet"]
    code, said = bench(slurm, tmp_path, "run", *words, *more)
    job = number(said)
    assert (code, f"bench attach {job}" in said) == (0, True)
    attached = begun(slurm, tmp_path, "attach", job)
    deadline = time.monotonic() + LIMIT_S
    while not rows(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    attached.send_signal(signal.SIGINT)
    said, _ = attached.communicate(timeout=LIMIT_S)
    assert (attached.returncode, f"job {job} goes on" in said) == (130, True), said
    assert "JobState=RUNNING" in show(slurm, job)
    again = begun(slurm, tmp_path, "attach", job)
    time.sleep(2)
    subprocess.run(["scancel", job], env=slurm, check=True)
    said, _ = again.communicate(timeout=LIMIT_S)
    assert "cancelled" in said
    assert again.returncode != 0
    measured = [row["status"] for row in rows(tmp_path)]
    assert measured[0] == "ok"
    assert set(measured) <= {"ok", "interrupted"}


def test_a_job_that_cannot_start_says_so(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["--scheduler", "slurm", "--nodes", "2", "--workload", "mlp", "--gpus", "2", "--device", "cpu"]
    code, said = bench(slurm, tmp_path, "run", *words, "--slurm-option", "partition=none")
    assert (code, "invalid partition" in said.lower()) == (5, True), said
    waiting = begun(slurm, tmp_path, "run", *words, "--slurm-option", "partition=small")
    time.sleep(4)
    waiting.send_signal(signal.SIGINT)
    said, _ = waiting.communicate(timeout=LIMIT_S)
    if waiting.returncode == 5:  # this Slurm refuses it at once
        assert "node" in said.lower()
    else:
        assert "it will never start" in said
        subprocess.run(["scancel", number(said)], env=slurm, check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_is_requeued_resumes(slurm: dict[str, str], tmp_path: Path) -> None:
    """Slurm holds a job that was requeued for two minutes."""
    words = ["--scheduler", "slurm", "--nodes", "2", "--workload", f"{FAULTY}:Faulty:sleep_ms=50", "--gpus", "4"]
    more = ["--device", "cpu", "--launches", "6", "--steps", "60", "--batch-size", "4", "--quiet", "--requeue"]
    following = begun(slurm, tmp_path, "run", *words, *more)
    deadline = time.monotonic() + LIMIT_S
    while len(rows(tmp_path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    [log] = tmp_path.glob("results/slurm/*.log")
    subprocess.run(["scontrol", "requeue", log.stem], env=slurm, check=True)
    said, _ = following.communicate(timeout=500)
    assert following.returncode == 0, said
    found = rows(tmp_path)
    assert len({row["run_id"] for row in found}) == 1
    assert [row["status"] for row in found].count("ok") == 6
    assert {row["session"] for row in found} == {"0", "1"}
