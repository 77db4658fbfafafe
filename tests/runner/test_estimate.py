"""Estimates of a plan's time from the rows of earlier runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import in_process
import pytest
from plain_case import PLAIN

from bench.cli.dry_run import show_plan
from bench.machine.environment import host_facts
from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.options import AXES
from bench.plan.plan import Plan, Planned, asked, make_plan
from bench.runner.estimate import Estimate, earlier_rows, estimate, launch_seconds
from bench.store.cells import cell
from bench.store.columns import LAUNCHES
from bench.store.plan_file import plan_json
from bench.store.resume import Earlier, earlier_run

FACTS = host_facts(Machine(), {})
HERE, PROCESSOR = FACTS["hostname"], FACTS["cpu_model"]
COLUMNS = (
    *("schema", "run_id", "launch_id", "case_id", "role", "status", "hostname", "cpu_model", "device_name"),
    *("block", "launcher", "launch_s", "window_s", "window_steps", "warmup_steps", "warmup_steps_done"),
)
HEAD = ",".join(COLUMNS)
H200 = Gpu("GPU-0", "NVIDIA H200", 143_771.0, (9, 0))
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


def row(case_id: str, launch_s: float, **other: object) -> str:
    """A launch with a window of 2 s, of 10 steps, after 5 others."""
    known = {"schema": 4, "run_id": "r", "launch_id": "l", "case_id": case_id, "role": "measure", "status": "ok"}
    host = {"hostname": HERE, "cpu_model": PROCESSOR, "device_name": "cpu", "launcher": "server", "block": 0}
    times = {"launch_s": launch_s, "window_s": 2, "window_steps": 10, "warmup_steps": 5, "warmup_steps_done": 5}
    return ",".join(str({**known, **host, **times, **other}[name]) for name in COLUMNS)


def seconds(made: Plan, out: Path, machine: Machine = Machine()) -> list[float | None]:  # noqa: B008
    return list(estimate(made, out, machine, pytest.fail).launch_s.values())


def test_the_window_is_scaled_to_the_steps_asked_for_now(tmp_path: Path) -> None:
    """A launch of 5 s had a window of 2 s with 10 steps of 0.2 s: 3 s around it."""
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    assert seconds(plan({"steps": "10"}), tmp_path) == [pytest.approx(5)]
    assert seconds(plan({"steps": "40"}), tmp_path) == [pytest.approx(3 + 8)]
    assert seconds(plan({"steps": "40", "min_seconds": "7.5"}), tmp_path) == [pytest.approx(3 + 8)]
    assert seconds(plan({"steps": "40", "min_seconds": "9"}), tmp_path) == [pytest.approx(3 + 9)]
    assert seconds(plan({"steps": "40", "max_seconds": "6.5"}), tmp_path) == [pytest.approx(3 + 6.5)]
    assert seconds(plan({"steps": "40", "max_seconds": "0.1"}), tmp_path) == [pytest.approx(3 + 2 * 0.2)]


@pytest.mark.parametrize(
    ("asked_then", "done", "asked_now", "seconds_now"),
    [
        (5, 5, "25", 5 + 20 * 0.2),
        (25, 25, "5", 5 - 20 * 0.2),
        (5, 5, "0", 5 - 2 * 0.2),  # at least three
        (5, 8, "6", 5),  # a loader's queues took 8, and will again
        (5, 8, "10", 5 + 2 * 0.2),
        ("", "", "25", 5),  # its warm-up is unknown
    ],
)
def test_other_warm_up_steps_take_their_time(
    tmp_path: Path, asked_then: object, done: object, asked_now: str, seconds_now: float
) -> None:
    """A step takes 0.2 s."""
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5, warmup_steps=asked_then, warmup_steps_done=done))
    assert seconds(plan({"steps": "10", "warmup_steps": asked_now}), tmp_path) == [pytest.approx(seconds_now)]


def test_no_launch_takes_longer_than_it_may(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    assert seconds(plan({"steps": "1000", "timeout": "60"}), tmp_path) == [60]


def test_another_launcher_says_nothing(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5), row(name, 9, launcher="torchrun"))
    assert seconds(plan({"steps": "10"}), tmp_path) == [pytest.approx(5)]
    assert seconds(plan({"steps": "10", "launcher": "torchrun"}), tmp_path) == [pytest.approx(9)]


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
        {"hostname": "elsewhere"},
        {"cpu_model": "another"},
        {"device_name": "NVIDIA H100"},
        {"device_name": ""},
    ],
)
def test_rows_of_another_kind_do_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 100, **other))
    assert seconds(plan({}), tmp_path) == [None]


def test_rows_are_of_the_gpus_that_are_there(tmp_path: Path) -> None:
    node = Machine((H200, dataclasses.replace(H200, uuid="GPU-1")))
    made = make_plan(asked({"workload": ["mlp"]}, {"steps": "10"}), node)
    write(tmp_path, RUN, row(*ids(made), 5, device_name="NVIDIA H200"), row(*ids(made), 9, device_name="NVIDIA H100"))
    assert seconds(made, tmp_path, node) == [pytest.approx(5)]
    mixed = Machine((H200, dataclasses.replace(H200, name="NVIDIA H100")))
    write(tmp_path, "20260102-120000-00aa", row(*ids(made), 11, device_name="NVIDIA H200;NVIDIA H100"))
    assert seconds(made, tmp_path, mixed) == [pytest.approx(9)]  # the median of 5, 9 and 11


def test_rows_of_older_versions_and_without_a_window_do_not_count(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    folder = write(tmp_path, RUN, row(name, 5, window_s="", window_steps=""))
    (folder.parent / "20250101-120000-old0").mkdir()
    old = f"schema,case_id,role,status,hostname,window_s,window_steps\n3,{name},measure,ok,{HERE},2,10\n"
    (folder.parent / "20250101-120000-old0" / "launches.csv").write_text(old)
    assert seconds(plan({}), tmp_path) == [None]


def test_only_the_newest_runs_are_looked_at(tmp_path: Path) -> None:
    for day in range(1, 52):
        write(tmp_path, f"2026{1 + day // 28:02}{1 + day % 28:02}-120000-00aa", row("a", day))
    found = earlier_rows(tmp_path, Machine(), pytest.fail)
    assert [row.launch_s for row in found] == list(range(51, 1, -1))


def test_a_run_without_rows_yet_is_no_matter(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    (tmp_path / "runs" / "20260102-120000-00aa").mkdir()
    assert seconds(plan({"steps": "10"}), tmp_path) == [pytest.approx(5)]


def test_a_damaged_run_is_left_out_with_a_warning_and_one_that_is_being_written_is_read(tmp_path: Path) -> None:
    name, *_ = ids(plan({}))
    write(tmp_path, RUN, row(name, 5))
    damaged = write(tmp_path, "20260102-120000-00aa", row(name, 5), "4,r,l")
    torn = write(tmp_path, "20260103-120000-00aa", row(name, 7))
    with (torn / "launches.csv").open("a") as stream:
        stream.write("4,r,l,to")
    warnings: list[str] = []
    found = estimate(plan({"steps": "10"}), tmp_path, Machine(), warnings.append)
    assert list(found.launch_s.values()) == [pytest.approx(6)]  # between 5 and 7
    assert warnings == [
        f"{damaged}/launches.csv, line 3: the row has 3 cells, the header 16; the run is left out of the estimate"
    ]


def test_no_folder_of_results_is_nothing_known(tmp_path: Path) -> None:
    assert seconds(plan({}), tmp_path / "none") == [None]


# -- cases of which the batch is not known yet -------------------------------------------------------------------


def write_axes(out: Path, *launches: tuple[Case, float, str]) -> None:
    """Write a run of launches with all their axes.

    Each is a case as launched, its seconds, and how its batch was found.
    """
    head = f"{HEAD},oversubscribe,batch_search,{','.join(AXES)}"
    rows = [
        f"{row(case.case_id, launch_s)},false,{search},{','.join(cell(getattr(case, name), LAUNCHES[name]) for name in AXES)}"
        for case, launch_s, search in launches
    ]
    (write(out, RUN) / "launches.csv").write_text("\n".join([head, *rows, ""]))


def sized(case: Case, batch_size: int) -> Case:
    return dataclasses.replace(case, batch_size=batch_size, auto_batch=False)


def test_a_search_is_told_by_launches_of_what_one_has_found(tmp_path: Path) -> None:
    made = plan({"steps": "10"}, batch_size="auto", seed="1,2")
    one, two = (planned.case for planned in made.cases)
    found = [(sized(one, 64), 5.0, "64 ok"), (sized(one, 96), 7.0, "96 ok"), (sized(one, 8), 100.0, "")]
    write_axes(tmp_path, *found, (sized(two, 64), 50.0, ""))
    assert seconds(made, tmp_path) == [pytest.approx(6), None]


def test_a_users_own_batch_is_that_of_earlier_launches_if_there_is_one(tmp_path: Path) -> None:
    made = plan({"steps": "10"}, workload="net:Net", seed="1,2,3", precision="fp32", max_grad_norm="0.5")
    one, two, _ = (planned.case for planned in made.cases)
    write_axes(
        tmp_path,
        *[(sized(one, 64), 5.0, ""), (sized(one, 64), 7.0, ""), (sized(one, 96), 100.0, "96 ok")],
        *[(sized(two, 64), 5.0, ""), (sized(two, 32), 7.0, "")],  # which of them is the workload's own is unknown
    )
    assert seconds(made, tmp_path) == [pytest.approx(6), None, None]


def test_a_users_own_batch_that_is_to_be_shared_out_is_not_known(tmp_path: Path) -> None:
    made = plan({"steps": "10"}, workload="net:Net", gpus="1,2", scaling="weak,strong")
    write_axes(tmp_path, *((sized(planned.case, 64), 5.0, "") for planned in made.cases[:2]))
    assert seconds(made, tmp_path) == [pytest.approx(5), pytest.approx(5), None]


# -- how many, and how long --------------------------------------------------------------------------------------


def planned(seed: int) -> Planned:
    return Planned(dataclasses.replace(PLAIN, seed=seed), None, None)


def expected(launch_s: dict[str, float | None], **settings: str) -> Estimate:
    return Estimate({planned(ord(name)): s for name, s in launch_s.items()}, plan(settings).protocol)


@pytest.mark.parametrize(
    ("settings", "done", "spent_s", "found"),
    [
        # rounds, remaining launches of all cases, their seconds; a takes 2 s and b 3 s
        ({}, ["a0", "b0", "b1"], 8, (3, 3, 2 + 2 + 3)),
        ({}, ["a0", "b0", "a1", "b1", "a2", "b2"], 15, (3, 0, 0)),
        ({"budget": "29s"}, ["a0", "b0"], 5, (5, 8, 20)),  # 24 s are left: 4 rounds
        ({"budget": "29s"}, ["a0", "b0", "b1"], 8, (5, 7, 2 + 15)),  # of 21 s 2 complete the second
        ({"budget": "29s"}, ["a0", "b0", "b1"], 28.5, (2, 1, 2)),  # a round that has begun is completed in any case
        ({"budget": "29s"}, ["b0"], 40, (1, 1, 2)),
        ({"budget": "29s", "launches": "3"}, ["a0", "b0", "b1"], 8, (3, 3, 2 + 5)),
    ],
)
def test_what_is_left_of_a_run(
    settings: dict[str, str], done: list[str], spent_s: float, found: tuple[int, int, float]
) -> None:
    keys = {(planned(ord(name)).case.case_id, int(block)) for name, block in done}
    fresh = expected({"a": 2.0, "b": 3.0}, **settings)
    left = dataclasses.replace(fresh, done=keys, spent_s=spent_s)
    assert (left.launches, left.launches_left, left.total_s) == found


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
    done = in_process.bench(cwd, "run", "--dry-run", "--workload", "mlp", "--device", "cpu", *words)
    assert done.code == 0, done.err
    return done.out, done.err


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
    (tmp_path / "results" / "runs" / "empty").mkdir()
    every, warned = dry_run(tmp_path, "--seed", "1,2", "--steps", "10", "--budget", "5m")
    assert every.splitlines()[-2:] == ["2 of 2 cases x 3 launches = 6", "time: about 4m45s of 5m00s"]
    assert warned == ""
    said = json.loads(dry_run(tmp_path, "--seed", "1,2", "--steps", "10", "--budget", "5m", "--json")[0])
    assert [case["estimated_launch_s"] for case in said["cases"]] == [65.0, 30.0]
    total = {"round_s": 95.0, "launches": 3, "launches_left": 6, "total_s": 285.0, "cases_missing": 0}
    assert said["estimate"] == total
    nothing, _ = dry_run(tmp_path, "--seed", "3", "--budget", "5m")
    assert nothing.splitlines()[-2:] == [
        "1 of 1 cases x as many launches as fit the budget",
        "time: not known, as no earlier run tells it",
    ]


def shown(capsys: pytest.CaptureFixture[str], made: Plan, out: Path, earlier: Earlier | None = None) -> list[str]:
    """Return the lines below the table of a dry run."""
    show_plan(made.asked, out, False, earlier)
    return capsys.readouterr().out.splitlines()[2 + len(made.cases) :]


def test_cases_that_cannot_run_take_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, plan({}, precision="tf32"), tmp_path) == ["0 of 1 cases x 3 launches = 0"]


def test_a_search_is_said_not_to_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan({"steps": "10"}, batch_size="auto")
    write_axes(tmp_path, (sized(made.cases[0].case, 64), 65.0, "64 ok"))
    assert shown(capsys, made, tmp_path) == [
        "1 of 1 cases x 3 launches = 3",
        "time: at least 3m15s; the search for 1 batch size is not counted",
    ]


def begun(made: Plan, out: Path, found: Sequence[Planned], *rows: str) -> Earlier:
    """Write a run with the rows, and the cases of its plan as they were ``found`` to be."""
    folder = write(out, RUN, *rows)
    (folder / "plan.json").write_text(
        json.dumps({**plan_json(dataclasses.replace(made, cases=tuple(found))), "facts": {}})
    )
    return earlier_run(folder, frozenset(), False)


def test_a_dry_run_of_a_run_that_goes_on_counts_what_it_still_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two cases of 20 and 30 s; three launches and one that was stopped after 5 s, of ten, or of 3 minutes."""
    for settings, lines in (
        ({"launches": "5"}, ["2 of 2 cases x 5 launches = 10, 7 of them still to be made", "time: about 2m50s"]),
        (
            {"budget": "3m"},  # 95 s are left: 20 complete the second round, and one round more is 50
            [
                "2 of 2 cases x 3 launches = 6, 3 of them still to be made",
                "time: about 1m10s of 1m35s that are left",
            ],
        ),
    ):
        out = tmp_path / next(iter(settings))
        made = plan({"steps": "10", **settings}, seed="1,2")
        one, two = ids(made)
        done = [row(one, 20, block=0), row(two, 30, block=0), row(two, 30, block=1)]
        earlier = begun(made, out, made.cases, *done, row(one, 5, block=1, status="interrupted"))
        assert shown(capsys, made, out, earlier) == lines


def test_a_dry_run_of_a_run_that_goes_on_knows_what_it_has_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch that torch reported, one that a search found, and a case out of memory, which is not launched again."""
    for name in ("own", "auto"):
        axes = {"workload": "net:Net"} if name == "own" else {"batch_size": "auto"}
        made = plan({"steps": "10", "launches": "4"}, seed="1,2", **axes)
        found = [dataclasses.replace(p, case=sized(p.case, 48)) for p in made.cases]
        one, two = (p.case.case_id for p in found)
        rows = [row(one, 20, block=0), row(two, 30, block=0, status="oom", window_s="")]
        earlier = begun(made, tmp_path / name, found if name == "own" else made.cases, *rows)
        if name == "auto":
            cases = [{**case, "answer": 48, "search": "48 ok"} for case in earlier.plan["cases"]]
            earlier = dataclasses.replace(earlier, plan={**earlier.plan, "cases": cases})
        assert shown(capsys, made, tmp_path / name, earlier) == [
            "1 of 2 cases x 4 launches = 4, 3 of them still to be made",
            "time: about 1m00s",
        ]
