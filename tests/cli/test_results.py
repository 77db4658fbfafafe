"""The runs in a folder of results: found, listed, shown, compared and deleted."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import in_process
import pytest

from bench.cli.results import _size
from bench.errors import EXIT_FAILED, ResultsError
from bench.machine.hardware import FACTS
from bench.store.runs import Run, busy, find, folders, look, runs

OLD, NEW = "20260101-120000-00aa", "20260102-080000-00bb"
HEAD = "run_id,launch_id,case_id,role,order,block,status,reason,samples_per_s,step_ms,hostname\r\n"
OK = "r,0000-a,a,measure,0,0,ok,,100,10,node1\r\n"
OOM = "r,0001-b,b,measure,1,0,oom,rank 0: CUDA out of memory,,,node1\r\n"
LEFT_OUT = "r,,b,measure,,1,skipped,it ran out of memory,,,node1\r\n"


def make_run(results: Path, run_id: str, launches: str) -> Path:
    """A run's folder with this launches.csv and nothing else."""
    folder = results / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "launches.csv").write_bytes(launches.encode())
    return folder


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """As if another process was writing the run."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Done(NamedTuple):
    code: int
    out: str
    err: str


def bench(cwd: Path, *words: str, answer: bytes | None = None, path: Path | None = None) -> Done:
    """Run the command without a terminal or, if there is an answer, with one on which it is typed.

    It runs in a process of its own where it needs a terminal or modules of ``path``.
    """
    if answer is None and path is None:
        return Done(*in_process.bench(cwd, *words))
    ours, theirs = pty.openpty() if answer is not None else (-1, subprocess.DEVNULL)
    if answer is not None:
        os.write(ours, answer)
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=cwd, stdin=theirs, capture_output=True, text=True, timeout=60, env=environment)
    if answer is not None:
        os.close(ours)
        os.close(theirs)
    return Done(done.returncode, done.stdout, done.stderr)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# -- find ----------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_id_by_latest_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = make_run(tmp_path, OLD, HEAD), make_run(tmp_path, NEW, HEAD)
    (new / "steps.csv").touch()
    elsewhere = make_run(tmp_path / "elsewhere", OLD, HEAD)
    assert find(tmp_path, OLD) == old
    assert find(tmp_path, "latest") == new
    assert find(tmp_path, str(elsewhere)) == elsewhere
    assert find(tmp_path, f"{elsewhere}/") == elsewhere
    assert find(tmp_path, f"{new}/steps.csv") == new
    assert find(tmp_path, f"elsewhere/runs/{OLD}/launches.csv") == Path("elsewhere/runs", OLD)
    monkeypatch.chdir(old)
    assert find(tmp_path, "launches.csv") == find(tmp_path, ".") == Path()


def test_an_id_comes_before_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, OLD, HEAD)
    make_run(tmp_path / "cwd", OLD, HEAD).rename(tmp_path / "cwd" / OLD)
    monkeypatch.chdir(tmp_path / "cwd")
    assert find(tmp_path, OLD) == run


def test_the_latest_is_told_by_the_time_in_the_name(tmp_path: Path) -> None:
    for name in (NEW, "zz-renamed", OLD, ".hidden"):
        make_run(tmp_path, name, HEAD)
    (tmp_path / "runs" / "20270101-000000-file").touch()
    assert [folder.name for folder in folders(tmp_path)] == [NEW, OLD, "zz-renamed"]
    assert [run.started for run in runs(tmp_path)] == [
        datetime(2026, 1, 2, 8, tzinfo=UTC),
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        None,
    ]


ALLOWED = "a run's id, latest, or a path to its folder or to a CSV file in it"


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "x" * 5000, "empty", "other.csv", "there/nowhere", "a\0b"])
def test_what_is_no_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, OLD, HEAD)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.csv").write_text(HEAD)
    with pytest.raises(ResultsError) as error:
        find(Path(), name)
    assert (error.value.option, error.value.given, error.value.allowed) == ("run", name, ALLOWED)
    assert error.value.hint == f"Runs in runs: {OLD}."
    assert error.value.exit_code == EXIT_FAILED


def test_a_name_that_is_near_is_proposed_and_few_are_listed(tmp_path: Path) -> None:
    for day in range(1, 9):
        make_run(tmp_path, f"2026010{day}-120000-{day}{day}{day}{day}", HEAD)
    with pytest.raises(ResultsError) as error:
        find(tmp_path, "20260103-120000-3343")
    assert error.value.hint == (
        f"Runs in {tmp_path}/runs: 20260108-120000-8888, 20260107-120000-7777, "
        "20260106-120000-6666, 20260105-120000-5555, 20260104-120000-4444 and 3 more. "
        "Did you mean '20260103-120000-3333' or '20260104-120000-4444'?"
    )


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as error:
        find(tmp_path, "latest")
    assert (error.value.given, error.value.allowed) == ("latest", ALLOWED)
    assert error.value.hint == f"There are no runs in {tmp_path}/runs; name another folder with --out."


def test_a_folder_of_results_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ResultsError) as error:
        runs(tmp_path)
    assert error.value.message == f"cannot read {tmp_path}/runs: Not a directory"
    assert error.value.hint == "Name another folder with --out."


# -- what a run holds ----------------------------------------------------------------------------------------------


def test_a_run_in_a_few_words(tmp_path: Path) -> None:
    again = OOM.replace("0001-b", "0002-b").replace("b,measure,1", "b,measure,2").replace("node1", "node2")
    folder = make_run(tmp_path, OLD, HEAD + OK + OOM + LEFT_OUT + again.replace("oom", "crashed"))
    (folder / "logs").mkdir()
    (folder / "logs" / "rank0.log").write_bytes(b"x" * 1000)
    assert look(folder) == Run(
        run_id=OLD,
        folder=folder,
        started=datetime(2026, 1, 1, 12, tzinfo=UTC),
        cases=2,
        launches=3,
        statuses={"ok": 1, "crashed": 1, "skipped": 1},  # the oom was launched again: same case, same block
        hostname="node1;node2",
        bytes=1000 + (folder / "launches.csv").stat().st_size,
        busy=False,
        trouble=None,
    )


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    torn, damaged = make_run(tmp_path, OLD, HEAD + OK + OOM[:9]), make_run(tmp_path, NEW, HEAD + OK + "x\r\n")
    gone = make_run(tmp_path, "no-time", HEAD)
    (gone / "launches.csv").unlink()
    listed = runs(tmp_path)
    assert [run.trouble for run in listed] == [
        f"{damaged}/launches.csv, line 3: the row has 1 cells, the header 11. Restore the file from a copy, or delete that row.",
        f"{torn}/launches.csv, line 3: the last row is not whole (its writer was killed, or is at work) and is left out",
        f"cannot read {gone}/launches.csv: No such file or directory",
    ]
    assert [(run.cases, run.launches) for run in listed] == [(None, None), (1, 1), (None, None)]


def test_a_run_is_busy_while_somebody_holds_its_lock(tmp_path: Path) -> None:
    assert not busy(tmp_path)
    assert list(tmp_path.iterdir()) == []  # looking makes no file
    with written(tmp_path):
        assert busy(tmp_path)
        assert busy(tmp_path)
    assert not busy(tmp_path)
    with written(tmp_path):  # to have looked keeps nobody from writing
        pass


# -- list ----------------------------------------------------------------------------------------------------------

# 88 bytes of header, 41 of OK, 63 of OOM, 54 of LEFT_OUT: OLD has 246; NEW has 129, and an empty lock.
LISTED = """\
run                  ┃ machine ┃ cases ┃ launches ┃ status                 ┃  size ┃ note
╇╇╇╇╇╇
20260102-080000-00bb │ node1   │     1 │        1 │ 1 ok                   │ 129 B │ being written
20260101-120000-00aa │ node1   │     2 │        2 │ 1 ok, 1 oom, 1 skipped │ 246 B │
empty                │ —       │     — │        — │ —                      │   0 B │ cannot read results/runs/empty/launches.csv: No such file or directory
"""


def test_runs_are_listed_the_newest_first(tmp_path: Path) -> None:
    make_run(tmp_path / "results", OLD, HEAD + OK + OOM + LEFT_OUT)
    new = make_run(tmp_path / "results", NEW, HEAD + OK)
    (tmp_path / "results" / "runs" / "empty").mkdir()
    with written(new):
        done = bench(tmp_path, "results")
    assert (done.code, done.err) == (0, "")
    assert lines(done.out.replace("━", "")) == lines(LISTED)


def test_without_notes_there_is_no_column_for_them(tmp_path: Path) -> None:
    make_run(tmp_path / "results", OLD, HEAD + OK)
    assert lines(bench(tmp_path, "results").out.replace("━", "")) == [
        "run                  ┃ machine ┃ cases ┃ launches ┃ status ┃  size",
        "╇╇╇╇╇",
        "20260101-120000-00aa │ node1   │     1 │        1 │ 1 ok   │ 129 B",
    ]


def test_runs_are_listed_as_json(tmp_path: Path) -> None:
    make_run(tmp_path / "there", OLD, HEAD + OK + OOM + LEFT_OUT)
    done = bench(tmp_path, "results", "--json", "--out", "there")
    assert (done.code, json.loads(done.out), done.err) == (
        0,
        [
            {
                "run_id": OLD,
                "folder": f"there/runs/{OLD}",
                "started": "2026-01-01T12:00:00+00:00",
                "cases": 2,
                "launches": 2,
                "statuses": {"ok": 1, "oom": 1, "skipped": 1},
                "hostname": "node1",
                "bytes": 246,
                "busy": False,
                "trouble": None,
            }
        ],
        "",
    )


def test_no_runs_are_no_error(tmp_path: Path) -> None:
    assert bench(tmp_path, "results") == (
        0,
        "no runs in results/runs; start one with bench run, or choose another folder with --out\n",
        "",
    )
    assert bench(tmp_path, "results", "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.9766 KiB"), (253 * 1024, "253 KiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5,120 GiB")],
)  # fmt: skip
def test_sizes(count: int, words: str) -> None:
    assert _size(count) == words


# -- show ----------------------------------------------------------------------------------------------------------

MACHINE = (
    "hostname,cpu_model,cpu_cores,ram_gib,os,device_name,driver,python,torch,torchvision,cuda,cudnn,nccl,tool_version"
)
SEEN = "node1,AMD EPYC 9654,96,755.2,Linux,NVIDIA H100 80GB HBM3,550.54,3.11.7,2.11.0,0.26.0,12.8,91002,2.27.3,0.1.0"
UNSEEN = "node1,AMD EPYC 9654,96,755.2,Linux,,550.54,3.11.7,,,,,,0.1.0"
SHOW_HEAD = f"run_id,launch_id,case_id,role,order,block,status,reason,samples_per_s,step_ms,{MACHINE}\r\n"
SHOW_ROWS = (
    f"r,0000-a,a,measure,0,0,ok,,100,10,{SEEN}\r\n"
    f"r,0001-b,b,measure,1,0,crashed,rank 1: [red]no[/red],,,{SEEN}\r\n"
    f"r,0002-a,a,measure,2,1,ok,,104,12,{SEEN}\r\n"
    f"r,,c,measure,,,skipped,c is too big,,,{UNSEEN}\r\n"
)
# 102 = (100 + 104) / 2; 11 = (10 + 12) / 2; spread 4 / 102 = 3.9 %
SHOWN = f"""\
what     ┃ value
╇
run      │ {OLD}
folder   │ results/runs/{OLD} (SIZE)
started  │ 2026-01-01 12:00:00 UTC
machine  │ node1, AMD EPYC 9654, 96 cores, 755.2 GiB, Linux
devices  │ NVIDIA H100 80GB HBM3, driver 550.54
software │ Python 3.11.7, torch 2.11.0, torchvision 0.26.0, CUDA 12.8, cuDNN 91002, NCCL 2.27.3, stepbench 0.1.0
protocol │ PROTOCOL
launches │ 3 (cases: 3)

case ┃ status  ┃ samples/s ┃ spread ┃ step p50 ms
╇╇╇╇
a    │ ok      │       102 │   3.9% │          11
b    │ crashed │         — │      — │           —
c    │ skipped │         — │      — │           —
crashed: b: rank 1: [red]no[/red]
skipped: c: c is too big

failed launches, and their logs:
crashed: rank 1: [red]no[/red]
  results/runs/{OLD}/logs/0001-b
"""


def shown(out: str, size: str) -> list[str]:
    return lines(out.replace("━", "").replace(f"({size})", "(SIZE)"))


def test_a_run_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results", OLD, SHOW_HEAD + SHOW_ROWS)
    plan = '{"protocol": {"warmup_steps": 5, "timeout": 600.0, "launcher": "server"}, "cases": []}'
    (folder / "plan.json").write_text(plan)
    size = _size(len(SHOW_HEAD) + len(SHOW_ROWS) + len(plan))
    done = bench(tmp_path, "results", "show", OLD)
    assert (done.code, done.err) == (0, "")
    protocol = "--warmup-steps 5 --timeout 600.0 --launcher server"
    assert shown(done.out, size) == lines(SHOWN.replace("PROTOCOL", protocol))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (None, "not known: cannot read results/runs/{}/plan.json: No such file or directory"),
        (b"", "not known: results/runs/{}/plan.json is damaged"),
        (b"[]", "not known: results/runs/{}/plan.json is damaged"),
        (b'{"protocol": 3}', "not known: results/runs/{}/plan.json is damaged"),
        (b"\xff", "not known: results/runs/{}/plan.json is damaged"),
    ],
)
def test_a_run_without_its_plan_and_without_rows_is_shown(tmp_path: Path, plan: bytes | None, said: str) -> None:
    folder = make_run(tmp_path / "results", OLD, HEAD)
    if plan is not None:
        (folder / "plan.json").write_bytes(plan)
    with written(folder):
        done = bench(tmp_path, "results", "show", "latest")
    assert (done.code, done.err) == (0, "")
    assert shown(done.out, _size(88 + len(plan or b""))) == [
        "what     ┃ value",
        "╇",
        f"run      │ {OLD} (being written)",
        f"folder   │ results/runs/{OLD} (SIZE)",
        "started  │ 2026-01-01 12:00:00 UTC",
        "machine  │ —",
        "devices  │ —",
        "software │ —",
        f"protocol │ {said.format(OLD)}",
        "launches │ none recorded",
    ]


@pytest.mark.parametrize(
    "words", [["show", "latest", "--json", "--out", "there"], ["--json", "--out", "there", "show", "latest"]]
)
def test_rows_as_json_and_options_before_the_subcommand(tmp_path: Path, words: list[str]) -> None:
    make_run(tmp_path / "there", OLD, HEAD + OK + OOM)
    done = bench(tmp_path, "results", *words)
    told = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert (told["run_id"], told["launches_csv"]) == (OLD, f"there/runs/{OLD}/launches.csv")
    assert [(row["status"], row["samples_per_s"], row["order"]) for row in told["launches"]] == [
        ("ok", 100.0, 0),
        ("oom", None, 1),
    ]


def test_a_torn_row_is_told_and_a_damaged_one_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "results", OLD, HEAD + OK + OOM[:9])
    make_run(tmp_path / "results", NEW, HEAD + OK.replace("100", "fast"))
    torn = bench(tmp_path, "results", "show", OLD)
    assert torn.code == 0
    assert torn.err == (
        f"warning: results/runs/{OLD}/launches.csv, line 3: the last row is not whole "
        "(its writer was killed, or is at work) and is left out\n"
    )
    assert bench(tmp_path, "results", "show", NEW) == (
        5,
        "",
        f"bench: results/runs/{NEW}/launches.csv, line 2, column samples_per_s: got 'fast'; allowed: a number, "
        "or nothing. Restore the file from a copy, or delete that row.\n",
    )


@pytest.mark.launch
def test_listing_and_comparing_import_neither_torch_nor_pandas(tmp_path: Path) -> None:
    for module in ("torch", "pandas"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('it was imported')\n")
    make_run(tmp_path / "results", OLD, HEAD + OK)
    for words in (["results"], ["results", "show", OLD, "--json"], ["env", "--diff", OLD, OLD]):
        done = bench(tmp_path, *words, path=tmp_path)
        assert (done.code, done.err) == (0, "")


# -- delete --------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder whose results are two runs: OLD of 2 launches and 246 bytes, NEW of 1 launch and 129 bytes."""
    make_run(tmp_path / "results", OLD, HEAD + OK + OOM + LEFT_OUT)
    make_run(tmp_path / "results", NEW, HEAD + OK)
    return tmp_path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results" / "runs").iterdir())


def test_a_run_is_deleted_without_asking(two: Path) -> None:
    logs = two / "results" / "runs" / OLD / "logs"
    logs.mkdir()
    (two / "kept").mkdir()
    (two / "kept" / "file").touch()
    (logs / "link").symlink_to(two / "kept")
    assert bench(two, "results", "rm", OLD, "--yes") == (0, f"deleted results/runs/{OLD}\n", "")
    assert left(two) == [NEW]
    assert (two / "kept" / "file").exists()  # a link in the run is deleted, not what it points to


@pytest.mark.launch
@pytest.mark.parametrize("answer", [b"y\n", b"YES\n"])
def test_a_run_is_deleted_if_somebody_says_yes(two: Path, answer: bytes) -> None:
    done = bench(two, "results", "rm", "latest", answer=answer)
    assert done == (
        0,
        f"deleted results/runs/{NEW}\n",
        f"results/runs/{NEW}: launches: 1, size: 129 B\ndelete this run? [y/N] ",
    )
    assert left(two) == [OLD]


@pytest.mark.launch
@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"yep\n", b"\x04"])  # the last: end of input
def test_nothing_is_deleted_unless_somebody_says_yes(two: Path, answer: bytes) -> None:
    (two / "results" / "runs" / NEW / "launches.csv").unlink()
    done = bench(two, "results", "rm", OLD, NEW, OLD, answer=answer)
    assert done == (
        0,
        "",
        f"results/runs/{OLD}: launches: 2, size: 246 B\nresults/runs/{NEW}: launches: ?, size: 0 B\n"
        "delete these 2 runs? [y/N] nothing was deleted\n",
    )
    assert left(two) == [OLD, NEW]


def test_nothing_is_deleted_if_nobody_can_be_asked(two: Path) -> None:
    assert bench(two, "results", "rm", OLD) == (
        2,
        "",
        "bench: bench results rm asks before it deletes, but stdin is not a terminal. Add --yes.\n",
    )
    assert left(two) == [OLD, NEW]


def test_a_run_that_is_being_written_is_not_deleted_nor_those_named_with_it(two: Path) -> None:
    with written(two / "results" / "runs" / NEW):
        done = bench(two, "results", "rm", "--yes", OLD, NEW)
    assert done == (
        5,
        "",
        f"bench: run {NEW} is being written by bench run. Wait until it has ended, or end it, first.\n",
    )
    assert left(two) == [OLD, NEW]


def test_only_runs_in_the_folder_of_results_are_deleted(two: Path) -> None:
    elsewhere = make_run(two / "elsewhere", OLD, HEAD)
    home = two / "results" / "runs"
    (home / "20250101-000000-link").symlink_to(elsewhere)
    (home / "20250101-000000-twin").symlink_to(home / OLD)
    (two / "link").symlink_to(home / OLD)
    nested = make_run(home / OLD / "logs", OLD, HEAD)
    for name in (
        str(elsewhere),
        "20250101-000000-link",
        "20250101-000000-twin",
        "link",
        f"results/runs/{OLD}/../../../elsewhere/runs/{OLD}",
        str(nested),
    ):
        done = bench(two, "results", "rm", "--yes", NEW, name)
        folder = f"results/runs/{name}" if name.startswith("2025") else name
        assert done == (
            2,
            "",
            f"bench: {folder} is a link, or is not in results/runs; only runs in that folder are deleted. "
            "Choose the folder of results with --out, or delete it yourself.\n",
        )
    assert left(two) == ["20250101-000000-link", "20250101-000000-twin", OLD, NEW]
    assert (elsewhere / "launches.csv").exists()


def test_a_run_may_be_named_by_a_path_and_the_results_be_a_link(two: Path) -> None:
    (two / "results").rename(two / "disk")
    (two / "results").symlink_to(two / "disk")
    assert bench(two / "disk" / "runs" / OLD, "results", "rm", "--yes", ".", "--out", "../..") == (
        0,
        f"deleted ../../runs/{OLD}\n",
        "",
    )
    assert bench(two, "results", "rm", "--yes", f"disk/runs/{NEW}/launches.csv").out == f"deleted results/runs/{NEW}\n"
    assert left(two) == []


def test_a_run_that_is_not_there_is_not_deleted(two: Path) -> None:
    done = bench(two, "results", "rm", "--yes", OLD, "20260102-080000-00bc")
    assert done == (
        5,
        "",
        f"bench: run: got '20260102-080000-00bc'; allowed: {ALLOWED}. Runs in results/runs: {NEW}, {OLD}. "
        f"Did you mean '{NEW}' or '{OLD}'?\n",
    )
    assert left(two) == [OLD, NEW]


# -- env --diff ----------------------------------------------------------------------------------------------------

ENV_HEAD = "run_id,launch_id,hostname,torch,settings\r\n"
ENV_A = 'r,l,node1,2.11.0,"{""OMP_NUM_THREADS"": ""1""}"\r\n'
ENV_B = 'r,l,node2,2.15.0,"{""NCCL_ALGO"": ""[Ring]"", ""OMP_NUM_THREADS"": ""1""}"\r\n'


def test_what_differs_between_two_runs_is_said_in_words(tmp_path: Path) -> None:
    make_run(tmp_path / "results", OLD, ENV_HEAD + ENV_A)
    make_run(tmp_path / "results", NEW, ENV_HEAD + ENV_B)
    assert bench(tmp_path, "env", "--diff", OLD, "latest") == (
        0,
        f"""\
A: results/runs/{OLD}
B: results/runs/{NEW}

bench check refuses a baseline with these differences:
  torch: 2.11.0 in A, 2.15.0 in B
  NCCL_ALGO: not set in A, [Ring] in B

other differences:
  hostname: node1 in A, node2 in B
""",
        "",
    )


def test_what_differs_as_json(tmp_path: Path) -> None:
    make_run(tmp_path / "there", OLD, ENV_HEAD + ENV_A)
    make_run(tmp_path / "there", NEW, ENV_HEAD + ENV_B)
    done = bench(tmp_path, "env", "--json", "--out", "there", "--diff", NEW, OLD)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "a": NEW,
        "b": OLD,
        "differences": [
            {"name": "torch", "a": ["2.15.0"], "b": ["2.11.0"], "in_env_key": True},
            {"name": "NCCL_ALGO", "a": ["[Ring]"], "b": [None], "in_env_key": True},
            {"name": "hostname", "a": ["node2"], "b": ["node1"], "in_env_key": False},
        ],
        "nodes": {NEW: {}, OLD: {}},
    }


def test_nodes_of_a_run_that_are_unlike_are_named(tmp_path: Path) -> None:
    far = json.dumps([{"hostname": "n2\x1b[2J", "driver": "560", "settings": "{}"}])
    with io.StringIO(newline="") as text:
        table = csv.writer(text)
        table.writerows([["run_id", "hostname", "driver", "settings", "node_facts"], [OLD, "n1", "550", "{}", far]])
        make_run(tmp_path / "results", OLD, text.getvalue())
    assert bench(tmp_path, "env", "--diff", OLD, OLD).out == (
        f"A: results/runs/{OLD}\nB: results/runs/{OLD}\n\nno recorded difference\n\n"
        f"n2\\x1b[2J differs from node 0 of {OLD}:\n  driver: 550 on node 0, 560 on n2\\x1b[2J\n"
    )


def test_nothing_that_differs_is_said_too_and_a_run_without_rows_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "results", OLD, ENV_HEAD + ENV_A)
    make_run(tmp_path / "results", NEW, ENV_HEAD)
    assert bench(tmp_path, "env", "--diff", OLD, OLD) == (
        0,
        f"A: results/runs/{OLD}\nB: results/runs/{OLD}\n\nno recorded difference\n",
        "",
    )
    assert bench(tmp_path, "env", "--diff", OLD, NEW) == (
        5,
        "",
        f"bench: run {NEW} has no launches, so its environment is not known. Choose another run.\n",
    )


def test_env_without_diff_shows_this_machine(tmp_path: Path) -> None:
    done = bench(tmp_path, "env", "--json")
    facts = json.loads(done.out)
    assert done.code == 0
    assert {"hostname", "cpu_model", "settings", "torch", "gpus", "note"} <= facts.keys()
    table = bench(tmp_path, "env").out.splitlines()
    assert [line.split()[0] for line in table if line.split()[0] in FACTS] == list(json.loads(facts["hardware"]))


def test_hardware_that_differs_is_said_fact_by_fact(tmp_path: Path) -> None:
    for run_id, governor, kernel in ((OLD, "performance", "6.8"), (NEW, "powersave", "6.9\x1b")):
        with io.StringIO(newline="") as text:
            facts = json.dumps({"cpu_governor": governor, "kernel": kernel, "smt": "on"})
            csv.writer(text).writerows([["run_id", "launch_id", "settings", "hardware"], [run_id, "l", "{}", facts]])
            make_run(tmp_path / "results", run_id, text.getvalue())
    assert bench(tmp_path, "env", "--diff", OLD, NEW).out == (
        f"A: results/runs/{OLD}\nB: results/runs/{NEW}\n\n"
        "bench check refuses a baseline with these differences:\n  cpu_governor: performance in A, powersave in B\n\n"
        "other differences:\n  kernel: 6.8 in A, '6.9\\x1b' in B\n"
    )
