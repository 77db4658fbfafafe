"""How long a plan will take, by rows that earlier runs left."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.devices import Machine
from bench.estimate import Estimate, earlier_rows, estimate, launch_seconds
from bench.suite import Plan, asked, make_plan

HERE = socket.gethostname()
HEAD = "schema,run_id,launch_id,case_id,role,status,hostname,launch_s,window_s,window_steps"
RUN = "20260101-120000-00aa"


def plan(settings: dict[str, str], **axes: str) -> Plan:
    given = {"workload": "mlp", "device": "cpu", **axes}
    return make_plan(asked({name: [text] for name, text in given.items()}, settings), Machine())


def ids(made: Plan) -> list[str]:
    return [planned.case.case_id for planned in made.cases]


def write(out: Path, run_id: str, *rows: str) -> Path:
    folder = out / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "launches.csv").write_text("\n".join([HEAD, *rows, ""]))
    return folder


def row(case_id: str, launch_s: float, window_s: float = 2, steps: int = 10, role: str = "measure", status: str = "ok", host: str = HERE) -> str:  # fmt: skip
    return f"4,r,l,{case_id},{role},{status},{host},{launch_s},{window_s},{steps}"


def seconds(made: Plan, out: Path) -> list[float | None]:
    return list(estimate(made, out, pytest.fail).launch_s.values())


def test_the_window_is_scaled_to_the_steps_asked_for_now(tmp_path: Path) -> None:
    """A launch of 5 s had a window of 2 s with 10 steps of 0.2 s: 3 s around it."""
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    assert seconds(plan({"steps": "10"}), tmp_path) == [pytest.approx(5)]
    assert seconds(plan({"steps": "40"}), tmp_path) == [pytest.approx(3 + 8)]
    assert seconds(plan({"steps": "40", "min_seconds": "7.5"}), tmp_path) == [pytest.approx(3 + 8)]
    assert seconds(plan({"steps": "40", "min_seconds": "9"}), tmp_path) == [pytest.approx(3 + 9)]


def test_the_median_over_all_rows_of_the_case_counts(tmp_path: Path) -> None:
    one, two = ids(plan({}, seed="1,2"))
    write(tmp_path, RUN, row(one, 5), row(two, 50), row(one, 6))
    write(tmp_path, "20260102-120000-00aa", row(one, 100))
    assert seconds(plan({"steps": "10"}, seed="1,2"), tmp_path) == [pytest.approx(6), pytest.approx(50)]


@pytest.mark.parametrize(
    "other",
    [
        {"role": "probe"},
        {"role": "control"},
        {"status": "crashed"},
        {"host": "elsewhere"},
    ],
)
def test_rows_of_another_kind_do_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 100, **other))
    assert seconds(plan({}), tmp_path) == [None]


def test_rows_of_older_versions_and_without_a_window_do_not_count(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    folder = write(tmp_path, RUN, f"4,r,l,{name},measure,ok,{HERE},5,,")
    (folder.parent / "20250101-120000-old0").mkdir()
    old = f"schema,case_id,role,status,hostname,window_s,window_steps\n3,{name},measure,ok,{HERE},2,10\n"
    (folder.parent / "20250101-120000-old0" / "launches.csv").write_text(old)
    assert seconds(plan({}), tmp_path) == [None]


def test_only_the_newest_runs_are_looked_at(tmp_path: Path) -> None:
    for day in range(1, 52):
        write(tmp_path, f"2026{1 + day // 28:02}{1 + day % 28:02}-120000-00aa", row("a", day))
    found = earlier_rows(tmp_path, {"a"}, HERE, pytest.fail)
    assert [row["launch_s"] for row in found["a"]] == list(range(51, 1, -1))


def test_a_damaged_run_is_left_out_with_a_warning_and_one_that_is_being_written_is_read(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    damaged = write(tmp_path, "20260102-120000-00aa", row(name, 5), "4,r,l")
    torn = write(tmp_path, "20260103-120000-00aa", row(name, 7))
    with (torn / "launches.csv").open("a") as stream:
        stream.write("4,r,l,to")
    warnings: list[str] = []
    found = estimate(plan({"steps": "10"}), tmp_path, warnings.append)
    assert list(found.launch_s.values()) == [pytest.approx(6)]  # between 5 and 7
    assert warnings == [
        f"{damaged}/launches.csv, line 3: got 3 cells; the header has 10; restore the file from a copy, or delete that "
        "row; the run is left out of the estimate"
    ]


def test_no_folder_of_results_is_nothing_known(tmp_path: Path) -> None:
    assert seconds(plan({}), tmp_path / "none") == [None]


def expected(launch_s: dict[str, float | None], **settings: str) -> Estimate:
    return Estimate(launch_s, plan(settings).protocol)


@pytest.mark.parametrize(
    ("launch_s", "settings", "launches", "total_s", "missing"),
    [
        ({"a": 2.0, "b": 3.0}, {}, 3, 15.0, 0),
        ({"a": 2.0, "b": None}, {"launches": "4"}, 4, 8.0, 1),
        ({"a": None}, {}, 3, None, 1),
        ({}, {}, 3, None, 0),
        ({"a": 2.0, "b": 3.0}, {"budget": "29s"}, 5, 25.0, 0),
        ({"a": 2.0, "b": 3.0}, {"budget": "29s", "launches": "4"}, 4, 20.0, 0),
        ({"a": 2.0, "b": 3.0}, {"budget": "1s"}, 1, 5.0, 0),  # the first round always
        ({"a": 2.0, "b": None}, {"budget": "29s"}, None, None, 1),
    ],
)
def test_launches_and_total(
    launch_s: dict[str, float | None],
    settings: dict[str, str],
    launches: int | None,
    total_s: float | None,
    missing: int,
) -> None:
    found = expected(launch_s, **settings)
    assert (found.launches, found.total_s, found.missing) == (launches, total_s, missing)


def test_no_rows_no_seconds() -> None:
    assert launch_seconds([], plan({}).protocol) is None


# -- as a user sees it ------------------------------------------------------------------------------------------


def dry_run(cwd: Path, *words: str) -> tuple[str, str]:
    line = [sys.executable, "-m", "bench", "run", "--dry-run", "--workload", "mlp", "--device", "cpu", *words]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_dry_run_says_what_is_known_of_the_time(tmp_path: Path) -> None:
    (one, two) = ids(plan({}, seed="1,2"))
    write(tmp_path / "results", RUN, row(one, 65))
    some, _ = dry_run(tmp_path, "--seed", "1,2", "--steps", "10")
    assert some.splitlines()[-2:] == [
        "2 of 2 cases x 3 launches = 6",
        "time: at least 3m15s; of 1 of the cases nothing is known",
    ]
    assert [line.split(" │ ")[2].strip() for line in some.splitlines()[2:4]] == ["65.0", ""]
    write(tmp_path / "results", "20260102-120000-00aa", row(two, 30))
    (tmp_path / "results" / "runs" / "damaged").mkdir()
    every, warned = dry_run(tmp_path, "--seed", "1,2", "--steps", "10", "--budget", "5m")
    assert every.splitlines()[-2:] == ["2 of 2 cases x 3 launches = 6", "time: about 4m45s of 5m00s"]
    assert warned.startswith("warning: cannot read results/runs/damaged/launches.csv: No such file")
    said = json.loads(dry_run(tmp_path, "--seed", "1,2", "--steps", "10", "--budget", "5m", "--json")[0])
    assert [case["estimated_launch_s"] for case in said["cases"]] == [65.0, 30.0]
    assert said["estimate"] == {"round_s": 95.0, "launches": 3, "total_s": 285.0, "cases_missing": 0}
    nothing, _ = dry_run(tmp_path, "--seed", "3", "--budget", "5m")
    assert nothing.splitlines()[-2:] == [
        "1 of 1 cases x as many launches as fit the budget",
        "time: not known, as none of these cases was measured here before",
    ]
