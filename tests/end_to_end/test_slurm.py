"""Runs as jobs of a real Slurm with four nodes, which are names of this host (`make test-slurm`)."""

from __future__ import annotations

import contextlib
import csv
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import cluster, missing

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "helpers" / "faulty.py"
pytestmark = [pytest.mark.launch, pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]
WHERE = ("--scheduler", "slurm", "--nodes", "2", "--gpus", "4", "--device", "cpu", "--quiet")
SLEEPING = (*WHERE, f"--workload={FAULTY}:Faulty:sleep_ms=50", "--steps=30", "--batch-size=4")  # takes 1.6 s or more
BRIEF = ("--device", "cpu", "--launches", "1", "--steps", "4", "--quiet")
LIMIT_S = 280


@pytest.fixture(scope="module")
def slurm(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        try:
            variables = stack.enter_context(cluster(tmp_path_factory.mktemp("slurm"), 4))
        except (subprocess.SubprocessError, TimeoutError) as error:
            pytest.skip(f"Slurm does not start on this machine: {error}")
        yield {**variables, "PYTHONPATH": str(ROOT)}


def begun(slurm: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "bench", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    hears = {
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    }  # which a job in the background ignores
    return subprocess.Popen(command, cwd=folder, env=slurm, text=True, **pipes, **hears)  # type: ignore[call-overload,no-any-return]


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


def job_in(folder: Path) -> str:
    """Return the number of the first job of a folder."""
    return min((file.stem for file in folder.glob("results/slurm/*.log")), key=int)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def fail(slurm: dict[str, str], job: str) -> None:
    """Set the second node of a job down. It is in service again as soon as its daemon answers."""
    [first, second] = re.findall(r" NodeList=n\[(\d)-(\d)\]", show(slurm, job))[0]
    assert int(second) == int(first) + 1
    subprocess.run(["scontrol", "update", f"nodename=n{second}", "state=down", "reason=a test"], env=slurm, check=True)


def start_again(slurm: dict[str, str], job: str, *updates: str) -> None:
    """Start a job that was requeued, without the two minutes that Slurm holds it.

    Nodes refuse a job that starts in the second in which it was ended ("Job credential revoked").
    """
    until(lambda: "JobState=PENDING Reason=BeginTime" in show(slurm, job))
    time.sleep(2)
    subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now", *updates], env=slurm, check=True)


def end_soon(slurm: dict[str, str], job: str) -> None:
    """Give a job a time limit that is nearer than the 120 s of the signal; Slurm looks at it every half a minute."""
    [(hours, minutes)] = re.findall(r"RunTime=(\d+):(\d+)", show(slurm, job))
    limit = int(hours) * 60 + int(minutes) + 2
    subprocess.run(["scontrol", "update", f"jobid={job}", f"timelimit={limit}"], env=slurm, check=True)


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
    code, said = bench(slurm, tmp_path, "run", *SLEEPING, "--launches", "50", "--detach")
    job = number(said)
    assert (code, f"bench attach {job}" in said) == (0, True)
    attached = begun(slurm, tmp_path, "attach", job)
    until(lambda: len(rows(tmp_path)) > 0)
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
    assert {row["reason"] for row in rows(tmp_path)} <= {"", "the run was stopped by SIGTERM (Slurm: cancelled)"}


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


@pytest.mark.timeout(600)
def test_a_job_that_was_preempted_or_whose_node_failed_resumes(slurm: dict[str, str], tmp_path: Path) -> None:
    following = begun(slurm, tmp_path, "run", *SLEEPING, "--launches", "4", "--requeue")
    until(lambda: len(rows(tmp_path)) > 0)
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap=sleep 1"], env=slurm, check=True)
    start_again(slurm, job_in(tmp_path))
    until(lambda: [row["session"] for row in rows(tmp_path)].count("1") > 0)
    fail(slurm, job_in(tmp_path))
    start_again(slurm, job_in(tmp_path))
    said, _ = following.communicate(timeout=LIMIT_S)
    assert following.returncode == 0, said
    found = rows(tmp_path)
    assert len({row["run_id"] for row in found}) == 1
    assert [row["status"] for row in found].count("ok") == 4
    assert found[-1]["session"] == "2"
    for session, why in (("0", "preemption"), ("1", "node failure")):
        for row in found:  # none, if it came between two launches
            if (row["status"], row["session"]) == ("interrupted", session):
                assert row["reason"] == f"the run was stopped by SIGTERM (Slurm: {why})"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_another_job_goes_on_with_the_run_of_one_whose_node_failed(slurm: dict[str, str], tmp_path: Path) -> None:
    following = begun(slurm, tmp_path, "run", *SLEEPING, "--launches", "3")
    until(lambda: len(rows(tmp_path)) > 0)
    fail(slurm, job_in(tmp_path))
    said, _ = following.communicate(timeout=LIMIT_S)
    assert following.returncode == 143, said
    assert "node_fail (NodeDown)" in said
    script = f"results/slurm/{job_in(tmp_path)}.sh"
    submitted = subprocess.run(
        ["sbatch", "--parsable", script], cwd=tmp_path, env=slurm, capture_output=True, text=True
    )
    code, said = bench(slurm, tmp_path, "attach", submitted.stdout.strip())
    assert code == 0, said
    found = rows(tmp_path)
    assert len({row["run_id"] for row in found}) == 1
    assert [row["status"] for row in found].count("ok") == 3
    for row in found:
        assert row["reason"] in ("", "the run was stopped by SIGTERM (Slurm: node failure)")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_reaches_its_time_limit_resumes(slurm: dict[str, str], tmp_path: Path) -> None:
    following = begun(slurm, tmp_path, "run", *SLEEPING, "--launches", "24", "--requeue", "--slurm-option", "time=60")
    until(lambda: len(rows(tmp_path)) > 0)
    job = job_in(tmp_path)
    end_soon(slurm, job)
    start_again(slurm, job, "timelimit=60")
    said, _ = following.communicate(timeout=LIMIT_S)
    assert following.returncode == 0, said
    found = rows(tmp_path)
    assert len({row["run_id"] for row in found}) == 1
    assert [row["status"] for row in found].count("ok") == 24
    assert {row["session"] for row in found} == {"0", "1"}
    assert {row["reason"] for row in found} <= {"", "the run was stopped by SIGTERM"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_whose_time_limit_is_too_short_ends(slurm: dict[str, str], tmp_path: Path) -> None:
    """One with --requeue is not started for ever."""
    slow = [*WHERE, "--workload", f"{FAULTY}:Faulty:sleep_ms=1000", "--steps", "60", "--launches", "2"]
    following = begun(slurm, tmp_path, "run", *slow, "--batch-size", "4", "--requeue", "--slurm-option", "time=60")
    until(lambda: bool(list(tmp_path.glob("results/slurm/*/runs/*/logs/*/rank0.log"))))
    end_soon(slurm, job_in(tmp_path))
    said, _ = following.communicate(timeout=LIMIT_S)
    assert following.returncode == 143, said
    assert "not requeued; to go on: sbatch --time=LONGER" in said
    assert "SIGTERM ended the run, as Slurm sends it ahead of the time limit" in said
    assert [(row["status"], row["reason"]) for row in rows(tmp_path)] == [
        ("interrupted", "the run was stopped by SIGTERM")
    ]
