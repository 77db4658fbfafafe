"""Baselines through the command: made, added to, listed, deleted, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import in_process
import pytest
from in_process import Done
from made_up_rows import block, launch, session, write

from bench.errors import IncomparableError, UsageError
from bench.store.baselines import add, check_alike, load, names
from bench.store.columns import LAUNCHES, SCHEMA, LaunchRow
from bench.store.reader import read_launches

A, B, C, D, E = (f"2026010{day}-000000-{letter * 4}" for day, letter in enumerate("abcde", 1))
HERE = {"device_name": "CPU X", "torch": "2.11.0", "driver": "570", "settings": '{"OMP_NUM_THREADS": "1"}'}


def bench(cwd: Path, *words: str, **known: Any) -> Done:
    return in_process.bench(cwd, "baseline", *words, **known)


def run(
    cwd: Path, run_id: str, rows: Iterable[LaunchRow] | None = None, columns: Iterable[str] = tuple(LAUNCHES)
) -> Path:
    made = (
        session([100.0, 101.0], started_at=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T09:00:00", **HERE)
        if rows is None
        else rows
    )
    return write(cwd / "results" / "runs" / run_id, [row.but(run_id=run_id) for row in made], columns)


def held(cwd: Path, name: str = "main") -> list[LaunchRow]:
    return read_launches(cwd / "results" / "baselines" / f"{name}.csv", pytest.fail)


@pytest.fixture
def five(tmp_path: Path) -> Path:
    for run_id in (A, B, C, D, E):
        run(tmp_path, run_id)
    return tmp_path


# -- add -----------------------------------------------------------------------------------------------------------


def test_runs_are_added_one_by_one_and_together(five: Path) -> None:
    """Until there are five, it says how many are lacking, and how to measure the next: by the command of the rows."""
    file = "results/baselines/main.csv"
    steps = "  bench run a\n  bench baseline add main latest\n"
    said = f"{file}: 1 of 5 sessions; four more are needed for verdicts. On other days:\n{steps}"
    assert bench(five, "add", "main", A) == (0, said, "")
    assert bench(five, "add", "main", B, f"results/runs/{C}") == (
        *(0, f"{file}: 3 of 5 sessions; two more are needed for verdicts. On other days:\n{steps}"),
        "",
    )
    said = f"{file}: 4 of 5 sessions; one more is needed for verdicts. On another day:\n{steps}"
    assert bench(five, "add", "main", D) == (0, said, "")
    assert bench(five, "add", "main", "latest") == (0, f"{file}: 5 sessions\n", "")
    assert [row.run_id for row in held(five)] == [A, A, B, B, C, C, D, D, E, E]
    assert [path.name for path in (five / "results" / "baselines").iterdir()] == ["main.csv"]


def test_several_cases_are_measured_again_by_a_check(tmp_path: Path) -> None:
    """Each row has a command of its own, so that the baseline itself says what to measure."""
    both = [launch(seed=seed, command=f"bench run --seed {seed}", **HERE) for seed in (1, 2)]
    run(tmp_path, A, both)
    (tmp_path / "results").rename(tmp_path / "my results")
    done = bench(tmp_path, "add", "main", A, "--out", "my results")
    assert done.out.splitlines()[1:] == [
        "  bench check --out 'my results' --baseline main",
        "  bench baseline add --out 'my results' main latest",
    ]


def test_the_arguments_of_a_script_stay_last(tmp_path: Path) -> None:
    run(tmp_path, A, [launch(command="bench run --script t.py -- --name 'a b'", **HERE)])
    (tmp_path / "results").rename(tmp_path / "r")
    done = bench(tmp_path, "add", "main", A, "--out", "r")
    assert done.out.splitlines()[1] == "  bench run --out r --script t.py -- --name 'a b'"


def test_a_case_that_fewer_sessions_have_is_named(tmp_path: Path) -> None:
    """Four of the five sessions have only the case `a`; the last has another as well."""
    for run_id in (A, B, C, D):
        run(tmp_path, run_id)
    run(tmp_path, E, [launch(**HERE), launch(seed=1, **HERE)])
    done = bench(tmp_path, "add", "main", A, B, C, D, E)
    first, *_ = done.out.splitlines()
    assert first == (
        "results/baselines/main.csv: 5 sessions, 1 with a-seed=1; four more are needed for verdicts. On other days:"
    )


def test_every_cell_of_a_launch_is_kept(tmp_path: Path) -> None:
    """A quote, a comma, a line end and no value at all among them; by the csv module."""
    file = run(tmp_path, A, [launch(reason='a "b", c\nd', samples_per_s=1 / 3, steady=True, **HERE)])
    assert bench(tmp_path, "add", "main", A).code == 0
    made, kept = (
        list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
        for path in (file, tmp_path / "results" / "baselines" / "main.csv")
    )
    assert made == kept
    assert kept[0] == list(LAUNCHES)


def test_only_measured_launches_are_kept_and_failed_ones_among_them(tmp_path: Path) -> None:
    rows = [
        launch(launch_id="probe", role="probe"),
        launch(launch_id="control", role="control"),
        launch(launch_id="skipped", status="skipped", order=None, block=None),
        launch(launch_id="crashed", status="crashed", samples_per_s=None),
        launch(launch_id="ok", block=1),
    ]
    run(tmp_path, A, rows)
    assert bench(tmp_path, "add", "main", A).code == 0
    assert [row.launch_id for row in held(tmp_path)] == ["crashed", "ok"]


def test_the_same_run_twice_is_refused(five: Path) -> None:
    bench(five, "add", "main", A)
    before = (five / "results" / "baselines" / "main.csv").read_bytes()
    refused = (2, "", f"bench: run {A} is in baseline main already. Add another run.\n")
    assert bench(five, "add", "main", A) == refused
    assert bench(five, "add", "main", B, A) == refused
    assert bench(five, "add", "other", B, B) == (
        2,
        "",
        f"bench: run {B} is in baseline other already. Add another run.\n",
    )
    assert (five / "results" / "baselines" / "main.csv").read_bytes() == before  # all of them or none
    assert not (five / "results" / "baselines" / "other.csv").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"torch": "2.12.0", "env_key": "other"}, "torch: 2.11.0 in the baseline, 2.12.0 now"),
        (
            {"torch": "2.12.0", "driver": "575", "hostname": "elsewhere", "env_key": "other"},
            "driver: 570 in the baseline, 575 now; torch: 2.11.0 in the baseline, 2.12.0 now",
        ),
        (
            {"settings": '{"OMP_NUM_THREADS": "1", "NCCL_ALGO": "Ring"}', "env_key": "other"},
            "NCCL_ALGO: not set in the baseline, Ring now",
        ),
        ({"env_key": "other"}, "env_key"),
        ({"env_key": None}, "env_key"),
    ],
    ids=["torch", "several", "setting", "unknown", "empty"],
)
def test_another_machine_or_software_is_refused_and_what_differs_named(five: Path, more: Any, said: str) -> None:
    bench(five, "add", "main", A)
    run(five, B, session([100.0], **{**HERE, **more}))
    assert bench(five, "add", "main", B) == (
        *(4, ""),
        f"bench: baseline main was measured on another machine, or with other software or settings: {said}. "
        "Create one by another name (bench baseline add NAME RUN), or bench baseline rm main.\n",
    )
    assert len(held(five)) == 2


def test_other_hardware_is_refused_but_not_where_the_baseline_has_no_facts(five: Path) -> None:
    fast, slow = (json.dumps({"cpu_governor": said}) for said in ("performance", "powersave"))
    run(five, B, session([100.0], **{**HERE, "hardware": fast, "env_key": "fast"}))
    run(five, C, session([100.0], **{**HERE, "hardware": slow, "env_key": "slow"}))
    old = [launch(run_id="old", started_at="2025-12-31T23:00:00", **{**HERE, "schema": 8})]
    write(five / "results" / "baselines", old, [name for name in LAUNCHES if name != "hardware"], "main.csv")
    assert bench(five, "add", "main", B).code == 0
    assert bench(five, "add", "other", B).code == 0
    refused = bench(five, "add", "other", C)
    assert refused.code == 4
    assert "cpu_governor: performance in the baseline, powersave now" in refused.err


def test_another_host_of_the_same_kind_is_none_of_another_machine(five: Path) -> None:
    bench(five, "add", "main", A)
    run(five, B, session([100.0], **{**HERE, "hostname": "elsewhere"}))
    assert bench(five, "add", "main", B).code == 0


OMP2 = {**HERE, "settings": '{"OMP_NUM_THREADS": "2"}', "env_key": "env2", "case_id": "b"}


def test_each_case_has_settings_of_its_own(tmp_path: Path) -> None:
    """OMP_NUM_THREADS is an axis and a setting: a case is held against itself, not against all."""
    run(tmp_path, A, session([100.0], **HERE))
    run(tmp_path, B, [*session([100.0], **HERE), *session([100.0], **OMP2)])  # one case more
    run(tmp_path, C, session([100.0], **{**OMP2, "case_id": "a"}))  # a with the settings of b
    assert bench(tmp_path, "add", "main", A, B).code == 0
    done = bench(tmp_path, "add", "main", C)
    assert done.code == 4
    assert "settings: OMP_NUM_THREADS: 1 in the baseline, 2 now. Create" in done.err
    run(tmp_path, D, session([100.0], **{**OMP2, "case_id": "c", "env_key": "env3"}))  # no case in both
    assert bench(tmp_path, "add", "main", D).code == 4


def test_other_work_is_refused(five: Path) -> None:
    bench(five, "add", "main", A)
    run(five, B, session([100.0], work_key="other", **HERE))
    assert bench(five, "add", "main", B) == (
        *(4, ""),
        "bench: a does other work than in baseline main: its data changed, or this version of stepbench measures "
        "differently. Create a new baseline: bench baseline add NAME RUN.\n",
    )


def test_only_launches_that_were_ok_are_held_against_each_other(five: Path) -> None:
    """One that crashed early does not know its environment."""
    bench(five, "add", "main", A)
    run(five, B, [*session([100.0], **HERE), launch(block=1, status="crashed", samples_per_s=None, env_key=None)])
    assert bench(five, "add", "main", B).code == 0
    check_alike(load(five / "results", "main", pytest.fail), [launch(status="oom", env_key="other")])
    with pytest.raises(IncomparableError):
        check_alike(load(five / "results", "main", pytest.fail), [launch(env_key="other")])


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [launch(status="crashed", samples_per_s=None)],
        [launch(role="probe")],
        [launch(status="skipped", order=None)],
    ],
    ids=["none", "crashed", "probe", "skipped"],
)
def test_a_run_without_a_launch_that_was_ok_is_refused(tmp_path: Path, rows: list[LaunchRow]) -> None:
    run(tmp_path, A, rows)
    said = "no launch has status ok. Add a run that has one."
    assert bench(tmp_path, "add", "main", A) == (5, "", f"bench: {A}: {said}\n")
    assert not (tmp_path / "results" / "baselines").exists()


def test_a_run_of_two_sides_is_refused(tmp_path: Path) -> None:
    run(tmp_path, A, block(0, [100.0] * 4))
    said = "a run of bench run or bench check, not a comparison of two sides."
    assert bench(tmp_path, "add", "main", A) == (2, "", f"bench: run: got '{A}'; allowed: {said}\n")


def test_a_run_that_is_not_there(five: Path) -> None:
    done = bench(five, "add", "main", "nowhere")
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("bench: run: got 'nowhere'; allowed: a run's id, latest, or a path")


NO_NAMES = ("../x", "a/b", "/x", "", ".", "..", ".x", "_x", "a b", "ä", "a\n", "x" * 101, "a\0")


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_by_every_command(five: Path, name: str) -> None:
    for words in (("add", name, A), ("rm", "--yes", name)):
        done = bench(five, *words)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"bench: baseline: got {name!r:.50}"[:60])
    assert sorted(path.name for path in five.iterdir()) == ["results"]
    with pytest.raises(UsageError) as raised:
        load(five / "results", name, pytest.fail)
    assert (raised.value.option, raised.value.given) == ("baseline", name)
    assert str(raised.value.allowed).startswith("a name of 1 to 100 characters of a-z, A-Z, 0-9,")


@pytest.mark.parametrize("name", ["a", "7", "main.2026-11_x", "x" * 100])
def test_names(five: Path, name: str) -> None:
    assert bench(five, "add", name, A).code == 0
    assert names(five / "results") == [name]


def test_a_folder_that_cannot_be_written_is_told(five: Path) -> None:
    (five / "results" / "baselines").write_text("a file")
    assert bench(five, "add", "main", A) == (
        *(5, ""),
        "bench: cannot write results/baselines/main.csv: File exists. Choose another --out.\n",
    )
    assert bench(five, "list") == (
        *(5, ""),
        "bench: cannot read results/baselines: Not a directory. Name another folder with --out.\n",
    )


def test_a_folder_in_the_place_of_a_baseline_is_told(five: Path) -> None:
    (five / "results" / "baselines" / "main.csv").mkdir(parents=True)
    for words in (("add", "main", A), ("rm", "--yes", "main")):
        done = bench(five, *words)
        assert (done.code, done.out) == (5, "")
        assert done.err.startswith("bench: cannot ")
    assert bench(five, "list").out == NONE


# -- what lies there -----------------------------------------------------------------------------------------------

NONE = "no baselines; add one: bench baseline add NAME RUN\n"
OLD = [
    name
    for name in LAUNCHES
    if name not in ("session", "hang_timeout", "order_seed", "budget", "launch_s", "side", "stage")
]


def test_a_baseline_of_an_older_version_is_read_and_added_to(five: Path) -> None:
    rows = [launch(run_id="old", schema=2, started_at="2025-12-31T23:00:00", **HERE)]
    write(five / "results" / "baselines", rows, OLD, "main.csv")
    assert bench(five, "list").code == 0
    assert bench(five, "add", "main", A).code == 0
    assert [(row.run_id, row.schema, row.stage) for row in held(five)] == [
        ("old", 2, None),
        *[(A, SCHEMA, None)] * 2,
    ]


def test_a_run_of_an_older_version_is_added(tmp_path: Path) -> None:
    run(tmp_path, A, [launch(schema=2, **HERE)], OLD)
    assert bench(tmp_path, "add", "main", A).code == 0
    assert [row.run_id for row in held(tmp_path)] == [A]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"",
            "has no launch with status ok. Restore it from a copy, or delete it (bench baseline rm main) and add the runs again.",
        ),
        (
            b"hello\n",
            "line 1: got 'hello'; allowed: a header with columns of launches.csv. Restore the file from a copy.",
        ),
        (b"run_id,status\r\nr,ok\r\n", "has no launch with status ok"),  # of no case
        (b"run_id,samples_per_s\r\nr,fast\r\n", "line 2, column samples_per_s: got 'fast'; allowed: a number"),
        (b"schema,run_id\r\n99,r\r\n", "column schema: got 99; allowed: "),
        (b"run_id,status\r\nr\xff,ok\r\n", "byte 0xff, which is not UTF-8"),
        (b"run_id,status\r\nr,ok,more\r\n", "line 2: the row has 3 cells, the header 2"),
    ],
)
def test_a_damaged_baseline_is_told_listed_and_can_be_deleted(five: Path, content: bytes, said: str) -> None:
    file = five / "results" / "baselines" / "main.csv"
    file.parent.mkdir()
    file.write_bytes(content)
    done = bench(five, "add", "main", A)
    assert (done.code, done.out) == (5, "")
    assert said in done.err
    assert "main.csv" in done.err
    assert file.read_bytes() == content
    assert bench(five, "add", "other", A).code == 0
    done = bench(five, "list")
    assert [line[0] for line in cells(done)] == ["main", "other"]
    assert said in done.err
    assert bench(five, "rm", "main", "--yes").code == 0
    assert names(five / "results") == ["other"]


def test_a_torn_last_row_is_left_out_and_told(five: Path) -> None:
    bench(five, "add", "main", A)
    file = five / "results" / "baselines" / "main.csv"
    file.write_bytes(file.read_bytes()[:-20])
    done = bench(five, "add", "main", B)
    assert done.code == 0
    assert "warning: results/baselines/main.csv, line 3: the last row is not whole" in done.err
    assert [row.run_id for row in held(five)] == [A, B, B]


# -- list and rm ---------------------------------------------------------------------------------------------------


def cells(done: Done) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")] for line in done.out.splitlines() if "│" in line]


def test_baselines_are_listed(five: Path) -> None:
    assert bench(five, "list") == (0, NONE, "")
    run(five, E, [launch(case_id=case, started_at="2026-02-03T09:00:00", **HERE) for case in "ab"])
    bench(five, "add", "main", A, B, E)
    bench(five, "add", "b.2", C)
    (five / "results" / "baselines" / "my notes.csv").write_text("mine")
    (five / "results" / "baselines" / ".hidden.csv").write_text("mine")
    assert cells(bench(five, "list")) == [
        ["b.2", "1", "1", "CPU X", "2.11.0", "2026-01-03", "2026-01-03"],
        ["main", "3", "2", "CPU X", "2.11.0", "2026-01-01", "2026-02-03"],
    ]


def test_a_baseline_is_deleted(five: Path) -> None:
    bench(five, "add", "main", A)
    bench(five, "add", "other", A)
    assert bench(five, "rm", "--yes", "main") == (0, "deleted results/baselines/main.csv\n", "")
    assert names(five / "results") == ["other"]
    assert bench(five, "rm", "--yes", "main") == (
        *(4, ""),
        "bench: baseline: got 'main'; allowed: one in results/baselines (other). Create it: bench baseline add main RUN.\n",
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_somebody_is_asked_before_a_baseline_is_deleted(five: Path, answer: str, gone: bool) -> None:
    bench(five, "add", "main", A)
    done = bench(five, "rm", "main", stdin=Terminal(answer))
    assert (done.code, "delete results/baselines/main.csv? [y/N]" in done.err) == (0, True)
    assert (names(five / "results") == []) is gone


def test_nothing_is_deleted_if_nobody_can_be_asked(five: Path) -> None:
    bench(five, "add", "main", A)
    assert bench(five, "rm", "main") == (
        *(2, ""),
        "bench: bench baseline rm asks before it deletes, but stdin is not a terminal. Add --yes.\n",
    )
    assert names(five / "results") == ["main"]


def test_a_baseline_that_is_near_is_proposed(five: Path) -> None:
    bench(five, "add", "main", A)
    bench(five, "add", "nightly", A)
    with pytest.raises(IncomparableError) as raised:
        load(five / "results", "mian", pytest.fail)
    assert str(raised.value.allowed).endswith("(main, nightly)")
    assert raised.value.hint == "Did you mean 'main'? Create it: bench baseline add mian RUN."


def test_nothing_is_left_if_a_baseline_cannot_be_written(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full."""
    bench(five, "add", "main", A)
    before = held(five)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = bench(five, "add", "main", B)
    assert (done.code, done.err) == (
        *(5,),
        "bench: cannot write results/baselines/main.csv: No space left on device. Choose another --out.\n",
    )
    assert held(five) == before


def test_add_gives_the_baseline(five: Path) -> None:
    rows = session([100.0], run_id="r")
    found = add(five / "results", "main", [("r", rows), ("s", session([99.0], run_id="s"))], pytest.fail)
    assert (found.sessions, len(found.rows)) == (["r", "s"], 2)
    assert load(five / "results", "main", pytest.fail).sessions == ["r", "s"]


# -- judged by it --------------------------------------------------------------------------------------------------


def check(cwd: Path, run_id: str, *words: str) -> Done:
    return in_process.bench(cwd, "check", "--baseline", "main", "--run", run_id, "--json", *words)


def test_a_run_is_judged_by_five_sessions_and_by_four_it_is_not(tmp_path: Path) -> None:
    """98, 99, 100, 101, 102, and 90 against them."""
    for run_id, rate in zip((A, B, C, D, E), (98.0, 99.0, 100.0, 101.0, 102.0), strict=True):
        run(tmp_path, run_id, session([rate], **HERE))
    run(tmp_path, "later", session([90.0], **HERE))
    bench(tmp_path, "add", "main", A, B, C, D)
    done = check(tmp_path, "later")
    assert (done.code, [one["verdict"] for one in done.told["verdicts"]]) == (3, ["inconclusive"])
    bench(tmp_path, "add", "main", E)
    done = check(tmp_path, "later")
    assert (done.code, [one["verdict"] for one in done.told["verdicts"]]) == (1, ["slower"])
    assert json.loads(done.out)["a"] == "baseline main"


def test_a_run_of_another_machine_or_of_the_baseline_is_not_judged(five: Path) -> None:
    assert check(five, A).code == 4
    bench(five, "add", "main", A, B)
    assert check(five, A).code in (2, 5)
    run(five, C, session([100.0], **{**HERE, "torch": "2.12.0", "env_key": "other"}))
    done = check(five, C)
    assert (done.code, done.out) == (4, "")
    assert "torch: 2.11.0 in the baseline, 2.12.0 now" in done.err
