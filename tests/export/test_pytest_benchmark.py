"""A run as JSON of pytest-benchmark: its own statistics and its own ``compare`` are the judge."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import run_bench
from made_up_gates import HOSTILE
from pytest_benchmark.stats import Stats

from bench.export.pytest_benchmark import pytest_benchmark, stats
from bench.store.columns import LaunchRow

DATA = Path(__file__).parents[1] / "data" / "results"
RUNS = ("20260904-141500-07b2", "20261102-090000-5e1f")


def row(samples_per_s: float | None, case: str = "mlp-ddp-x2", **more: Any) -> LaunchRow:
    """A launch of 32 samples a step."""
    said = {"case_id": case, "role": "measure", "status": "ok", "side": None, "run_id": "r", "workload": "mlp"}
    said |= {"strategy": "ddp", "gpus": 2, "global_batch": 32, "samples_per_s": samples_per_s}
    return LaunchRow.of({**said, **more})


def exported(*rows: LaunchRow) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(pytest_benchmark(rows))
    return said


# -- statistics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [*range(1, 14), 20, 101])
@pytest.mark.parametrize("kind", ["spread", "equal", "ties", "outliers"])
def test_statistics_are_those_of_pytest_benchmark(count: int, kind: str) -> None:
    rng = random.Random(count)
    values = {
        "spread": lambda: rng.lognormvariate(-3, 0.1),
        "equal": lambda: 0.1,
        "ties": lambda: rng.choice((0.1, 0.2, 0.3)),
        "outliers": lambda: 0.1 * (30 if rng.random() < 0.2 else 1) + rng.random() / 1000,
    }
    theirs = Stats()
    for _ in range(count):
        theirs.update(values[kind]())
    assert stats(theirs.data) == {**theirs.as_dict(), "data": theirs.data, "iterations": 1}


def test_statistics_by_hand() -> None:
    # sorted 1 2 3 4 5 6 7 100: halves 1 2 3 4 and 5 6 7 100; q1 2.5, q3 6.5, fences -3.5 and 12.5
    found = stats([3, 1, 2, 100, 5, 4, 7, 6])
    assert (found["q1"], found["q3"], found["iqr"], found["median"]) == (2.5, 6.5, 4, 4.5)
    assert (found["ld15iqr"], found["hd15iqr"], found["outliers"]) == (1, 7, "1;1")
    assert (found["total"], found["mean"], found["ops"], found["rounds"]) == (128, 16, 0.0625, 8)
    assert found["stddev"] == pytest.approx(math.sqrt(sum((x - 16) ** 2 for x in (1, 2, 3, 4, 5, 6, 7, 100)) / 7))


# -- what is in it -------------------------------------------------------------------------------------------------


def test_a_number_is_a_launchs_seconds_a_step() -> None:
    (benchmark,) = exported(row(320.0), row(160.0))["benchmarks"]
    assert benchmark["stats"]["data"] == [0.1, 0.2]  # 32 / 320, 32 / 160
    assert benchmark["stats"]["ops"] == pytest.approx(2 / 0.3)
    assert benchmark["fullname"] == "stepbench::mlp-ddp-x2"
    assert (benchmark["name"], benchmark["group"], benchmark["param"]) == ("mlp-ddp-x2", "mlp", None)
    assert benchmark["params"] == {"workload": "mlp", "strategy": "ddp", "gpus": 2}
    assert benchmark["extra_info"] == {"samples_per_s": 240.0, "global_batch": 32, "run_id": "r"}


@pytest.mark.parametrize(
    "other",
    [
        row(100.0, role="control"),
        row(100.0, role="probe"),
        row(None, status="crashed"),
        row(100.0, status="invalid"),
        row(None),
        row(0.0),
        row(math.inf),
        row(math.nan),
        row(100.0, global_batch=None),
    ],
)
def test_only_measured_launches_that_were_ok_are_in_it(other: LaunchRow) -> None:
    (benchmark,) = exported(other, row(320.0), other)["benchmarks"]
    assert benchmark["stats"]["data"] == [0.1]
    assert exported(other)["benchmarks"] == []


def test_cases_and_sides_are_benchmarks_of_their_own() -> None:
    rows = [row(320.0), row(160.0, "b"), row(320.0, "c", side="A"), row(320.0, "c", side="B"), row(160.0)]
    found = exported(*rows)["benchmarks"]
    assert [one["name"] for one in found] == ["mlp-ddp-x2", "b", "c[A]", "c[B]"]
    assert [one["stats"]["rounds"] for one in found] == [2, 1, 1, 1]
    assert [one["param"] for one in found] == [None, None, "A", "B"]


def test_memory_is_the_largest_and_the_rest_a_median() -> None:
    launches = [(1000.0, 0.1), (1200.0, 0.3), (1100.0, 0.2), (None, math.nan)]
    (one,) = exported(*(row(320.0, peak_allocated_mib=m, mfu=u, tokens_per_s=None) for m, u in launches))["benchmarks"]
    assert (one["extra_info"]["peak_allocated_mib"], one["extra_info"]["mfu"]) == (1200.0, 0.2)
    assert "tokens_per_s" not in one["extra_info"]


def test_machine_and_commit_are_those_of_the_rows() -> None:
    facts = {"hostname": "n1", "cpu_model": "EPYC", "cpu_threads": 8, "python": "3.11.7", "torch": "2.11.0", "os": "L"}
    said = exported(row(320.0, **facts, work_commit="abc", work_dirty=True, started_at="2026-11-02T09:00:00+00:00"))
    machine = said["machine_info"]
    assert (machine["node"], machine["processor"], machine["python_version"], machine["torch"], machine["cpu"]) == (
        *("n1", "EPYC", "3.11.7", "2.11.0"),
        {"brand_raw": "EPYC", "count": 8},
    )
    assert said["commit_info"] == {
        **{"id": "abc", "time": None, "author_time": None, "dirty": True},
        **{"project": "stepbench", "branch": "(unknown)"},
    }
    assert (said["datetime"], said["version"]) == ("2026-11-02T09:00:00+00:00", "5.3.1")
    assert exported(row(320.0))["commit_info"]["id"] == "unversioned"


def test_hostile_names_come_back_and_no_number_is_no_json() -> None:
    text = pytest_benchmark([row(320.0, HOSTILE, workload=HOSTILE, ram_gib=math.nan)])
    assert text.isascii()
    said = json.loads(text, parse_constant=pytest.fail)
    assert (said["benchmarks"][0]["name"], said["machine_info"]["ram_gib"]) == (HOSTILE, None)


# -- who reads it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both made-up runs, exported by the command."""
    folder = tmp_path_factory.mktemp("exported")
    found = [folder / "1-old.json", folder / "2-new.json"]
    for run, file in zip(RUNS, found, strict=True):
        done = run_bench(folder, "results", "export", run, "--out", str(DATA), "--pytest-benchmark", file.name)
        assert (done.code, done.stdout) == (0, ""), done.stderr
        assert f"wrote {file.name}" in done.stderr
    return found


def test_pytest_benchmark_compares_two_runs(files: list[Path]) -> None:
    command = [str(Path(sys.executable).parent / "pytest-benchmark"), "compare", "1-old.json", "2-new.json"]
    folder = files[0].parent  # they are compared in the order of their names
    words = ("--columns=mean,stddev,ops,rounds", "--group-by=name", "-k", "7c3e083d")
    done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    case = "gpt-124m-ddp-x8-cuda-amp-bf16-7c3e083d"
    table = [line.split() for line in done.stdout.splitlines() if line.startswith(case)]
    # 64 samples a step; old: 61.464639, 61.160825, 62.011567 ms, so a mean of 61.545677 and 16.248095 steps a second
    shown = {words[1]: (float(words[2]), float(words[4]), float(words[6]), int(words[8])) for words in table}
    assert shown == {"(1-old)": (61.5457, 0.4311, 16.2481, 3), "(2-new)": (61.5163, 0.3739, 16.2559, 3)}
    between = subprocess.run([*command, "--between=mean", "-k", "e1e4235d"], cwd=folder, capture_output=True, text=True)
    assert between.returncode == 0, between.stderr
    (line,) = [
        line for line in between.stdout.splitlines() if line.startswith("gpt-124m-fsdp-x8-cuda-amp-bf16-e1e4235d")
    ]
    assert line.split()[1:] == ["69.0806", "107.9713", "+56.3%"]  # 107.9713 / 69.0806 = 1.56298


def test_github_action_benchmark_reads_it(files: list[Path]) -> None:
    """What its ``extractPytestResult`` takes: fullname, and of stats ops, stddev, mean and rounds."""
    benchmarks = json.loads(files[1].read_text())["benchmarks"]
    for benchmark in benchmarks:
        assert isinstance(benchmark["fullname"], str)
        for name in ("ops", "stddev", "mean", "rounds"):
            assert isinstance(benchmark["stats"][name], int | float), name
    with (DATA / "runs" / RUNS[1] / "launches.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["role"], row["status"]) == ("measure", "ok")]
    assert [one["fullname"] for one in benchmarks] == [
        f"stepbench::{case}" for case in dict.fromkeys(r["case_id"] for r in rows)
    ]


def test_bencher_reads_it(files: list[Path]) -> None:
    """What its adapter ``python_pytest`` requires: two objects, and numbers of each benchmark."""
    said = json.loads(files[0].read_text())
    assert isinstance(said["machine_info"], dict)
    assert isinstance(said["commit_info"], dict)
    for benchmark in said["benchmarks"]:
        assert isinstance(benchmark["fullname"], str)
        for name in ("mean", "stddev", "median", "iqr"):
            assert isinstance(benchmark["stats"][name], int | float), name


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([RUNS[0]], 2, "bench results export needs a format. Add --pytest-benchmark FILE."),
        (["nowhere", "--pytest-benchmark", "x.json"], 5, "run: got 'nowhere'"),
        ([RUNS[0], "--pytest-benchmark", "/dev/full"], 5, "cannot write /dev/full: No space left on device"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    done = run_bench(tmp_path, "results", "export", *words, "--out", str(DATA))
    assert (done.code, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_without_a_number_is_not_exported(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "launches.csv").write_text("run_id,case_id,role,status\r\nx,a,measure,crashed\r\n")
    done = run_bench(tmp_path, "results", "export", "x", "--pytest-benchmark", "x.json")
    assert done.code == 5
    assert "no launch of x was ok, so nothing can be exported. Choose another run." in done.stderr
    assert not (tmp_path / "x.json").exists()
