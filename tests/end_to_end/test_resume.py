"""Runs that are cut short, by Ctrl-C, TERM, KILL or a full disk, and taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import in_process
import psutil
import pytest
from command_line import latest, run_bench, start_bench
from faults_page import Page
from processes import alive, marked, traces, wait_for

from bench.runner.batch_size import search
from bench.store.columns import LaunchRow
from bench.store.reader import read, read_launches
from bench.store.resume import Earlier, changed_facts, changed_plan, changed_rows, statuses
from launch import folders
from launch.guard import PREFIX

HELPERS = Path(__file__).parents[1] / "helpers"
FAULTY = f"{HELPERS}/faulty.py:Faulty"
BRIEF = ("--device", "cpu", "--steps", "5", "--warmup-steps", "3", "--quiet")
TWO_CASES = ("--workload", "mlp", "--strategy", "single,ddp", *BRIEF, "--launches", "2")


def launches(folder: Path) -> list[LaunchRow]:
    run = latest(folder)
    assert run is not None
    return read_launches(run / "launches.csv", lambda warning: None)


def begun(folder: Path, launch: str) -> bool:
    return bool(list(folder.glob(f"results/runs/*/logs/{launch}-*/rank0.json")))


@pytest.fixture
def own_tmp() -> Iterator[Path]:
    """A TMPDIR of the test's own, with a short name, as sockets are made in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
@pytest.mark.launch
def test_an_interrupt_is_a_row_and_the_run_goes_on_later(tmp_path: Path, page: Page, number: int, code: int) -> None:
    words = ("--workload", f"{FAULTY}:sleep_ms=400", "--strategy", "single", *BRIEF, "--launches", "2")
    process = start_bench(tmp_path, "run", *words, more={"BENCH_TEST": str(tmp_path)})
    wait_for(lambda: begun(tmp_path, "0001"), 120)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) >= 4  # guard, server, fork server, rank
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    first, second = launches(tmp_path)
    assert (first.status, second.status) == ("ok", "interrupted")
    assert second.reason == f"the run was stopped by {signal.Signals(number).name}"
    assert "interrupted" in stdout  # the table of what there is
    assert not alive(tree)
    assert not marked(str(tmp_path))
    again = run_bench(tmp_path, "run", "--resume", "latest", "--quiet")
    assert again.code == 0, again.stderr
    rows = launches(tmp_path)
    assert [(row.status, row.block, row.session) for row in rows] == [
        ("ok", 0, 0),
        ("interrupted", 1, 0),
        ("ok", 1, 1),
    ]
    assert [row.order for row in rows] == [0, 1, 2]
    assert "ok " in again.stdout
    page(f"{signal.Signals(number).name} for bench run", second.status, second.reason)
    assert "interrupted" not in again.stdout


@pytest.mark.slow
@pytest.mark.launch
def test_many_interrupts_corrupt_nothing(tmp_path: Path) -> None:
    process = start_bench(tmp_path, "run", "--workload", f"{FAULTY}:fault=hang", "--strategy", "ddp", *BRIEF)
    wait_for(lambda: begun(tmp_path, "0000"), 120)
    for _ in range(20):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [row.status for row in launches(tmp_path)] == ["interrupted"]


@pytest.mark.launch
def test_a_run_that_was_killed_goes_on_and_does_nothing_twice(tmp_path: Path, own_tmp: Path, page: Page) -> None:
    before = traces(own_tmp)
    more = {"BENCH_TEST": str(tmp_path), "TMPDIR": str(own_tmp)}
    process = start_bench(tmp_path, "run", *TWO_CASES, more=more)
    wait_for(lambda: begun(tmp_path, "0002"), 120)
    process.kill()
    process.wait()
    wait_for(lambda: not marked(str(tmp_path)), why="a process is left")
    wait_for(lambda: traces(own_tmp) <= before, why="something is left in a temporary folder or in shared memory")
    done = launches(tmp_path)
    assert len(done) in (2, 3)
    again = run_bench(tmp_path, "run", "--resume", latest(tmp_path).name, "--quiet")  # type: ignore[union-attr]
    assert again.code == 0, again.stderr
    rows = launches(tmp_path)
    assert rows[: len(done)] == done
    assert Counter((row.strategy, row.block) for row in rows) == Counter(
        [("single", 0), ("single", 1), ("ddp", 0), ("ddp", 1)]
    )
    assert len({row.launch_id for row in rows}) == 4
    assert len({row.env_key for row in rows}) == 1
    steps = read(latest(tmp_path) / "steps.csv", print)  # type: ignore[operator]
    assert Counter(step["launch_id"] for step in steps) == {row.launch_id: 5 for row in rows}
    nothing = in_process.run_bench(tmp_path, "run", "--resume", "latest", "--quiet")
    assert (nothing.code, launches(tmp_path)) == (0, rows)
    page("SIGKILL for bench run", "", "no row; `--resume` makes the launch")


@pytest.mark.slow
@pytest.mark.launch
def test_what_failed_is_launched_again_on_request_only(tmp_path: Path) -> None:
    """A marker makes the workload's rank 1 fail; it is taken away before the last try."""
    workload = tmp_path / "mine.py"
    workload.write_text(
        f"import os, sys\nsys.path.append({str(HELPERS)!r})\nfrom faulty import Faulty\n"
        "class Mine(Faulty):\n"
        "    def loss(self, model, batch):\n"
        f"        if os.path.exists({str(tmp_path / 'marker')!r}) and os.environ.get('RANK') == '0' and self.steps == 2:\n"
        "            raise ValueError('marked')\n"
        "        return super().loss(model, batch)\n"
    )
    (tmp_path / "marker").touch()
    words = ("--workload", f"{workload}:Mine", "--strategy", "single", *BRIEF, "--launches", "1")
    assert run_bench(tmp_path, "run", *words).code == 5
    assert run_bench(tmp_path, "run", "--resume", "latest", "--quiet").code == 5
    assert run_bench(tmp_path, "run", "--resume", "latest", "--retry", "oom,timeout", "--quiet").code == 5
    assert [row.status for row in launches(tmp_path)] == ["crashed"]
    (tmp_path / "marker").unlink()
    again = run_bench(tmp_path, "run", "--resume", "latest", "--retry", "failed", "--quiet")
    assert again.code == 0, again.stderr
    assert [(row.status, row.block) for row in launches(tmp_path)] == [("crashed", 0), ("ok", 0)]
    assert "crashed" not in again.stdout  # the row that was made again no longer counts


@pytest.mark.slow
@pytest.mark.launch
def test_a_changed_plan_is_refused_or_told_in_the_rows(tmp_path: Path) -> None:
    words = ("--workload", "mlp", "--strategy", "single", *BRIEF, "--launches", "1")
    assert run_bench(tmp_path, "run", *words).code == 0
    run_id = latest(tmp_path).name  # type: ignore[union-attr]
    more = ("run", "--resume", run_id, "--launches", "2", "--strategy", "single,ddp", "--quiet")
    refused = run_bench(tmp_path, *more)
    what = "launches: 1 when it began, 2 now; new cases: mlp-ddp-x2-cpu-1e4ba0c5"
    assert refused.code == 4
    assert (
        refused.stderr.splitlines()[-1].partition("mlp-ddp-x2-cpu-")[0]
        == (f"bench: run {run_id} has changed since it began: {what}".partition("mlp-ddp-x2-cpu-")[0])
    )
    assert "--resume-anyway" in refused.stderr
    allowed = run_bench(tmp_path, *more, "--resume-anyway")
    assert allowed.code == 0, allowed.stderr
    first, *others = launches(tmp_path)
    assert first.resumed_despite is None
    assert [row.block for row in others] == [0, 1, 1]
    assert sorted((row.block, row.strategy) for row in others) == [(0, "ddp"), (1, "ddp"), (1, "single")]
    assert {row.resumed_despite.partition("; new cases")[0] for row in others} == {"launches: 1 when it began, 2 now"}


@pytest.mark.slow  # test_session has the same with made-up ranks
@pytest.mark.launch
def test_another_environment_is_refused(tmp_path: Path) -> None:
    words = ("--workload", "mlp", "--strategy", "single", *BRIEF, "--launches", "2")
    process = start_bench(tmp_path, "run", *words)
    wait_for(lambda: begun(tmp_path, "0001"), 120)
    process.kill()
    process.communicate()
    refused = run_bench(tmp_path, "run", "--resume", "latest", "--quiet", more={"NCCL_ALGO": "Ring"})
    assert refused.code == 4
    assert "NCCL_ALGO: not set when it began, Ring now" in refused.stderr


@pytest.mark.launch
def test_two_runs_into_one_folder_never_mix(tmp_path: Path, page: Page) -> None:
    words = ("run", "--workload", "mlp", "--strategy", "single", *BRIEF, "--launches", "1")
    both = [start_bench(tmp_path, *words) for _ in range(2)]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    folders = sorted((tmp_path / "results" / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        rows = read_launches(folder / "launches.csv", print)
        assert [(row.run_id, row.order, row.status) for row in rows] == [(folder.name, 0, "ok")]
    for process in both:
        process.communicate()
    page("two runs into one folder at the same time", "ok", "")


@pytest.mark.slow
@pytest.mark.launch
def test_torn_rows_are_cut_off_and_made_again(tmp_path: Path, page: Page) -> None:
    assert run_bench(tmp_path, "run", *TWO_CASES).code == 0
    file = latest(tmp_path) / "launches.csv"  # type: ignore[operator]
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"\r\n", 0, -2) + 200])
    again = run_bench(tmp_path, "run", "--resume", "latest", "--quiet")
    assert again.code == 0
    assert f"warning: {file.resolve()}" in again.stderr
    assert "torn" in again.stderr
    rows = launches(tmp_path)
    assert [(row.block, row.session) for row in rows] == [(0, 0), (0, 0), (1, 0), (1, 1)]
    assert [{row.strategy for row in half} for half in (rows[:2], rows[2:])] == [{"single", "ddp"}] * 2
    page("a row that is torn in the file", "", "dropped with a warning; `--resume` makes the launch again")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 24 MiB at ``results``, and a file that fills it."""
    folder = tmp_path / "results"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)


@pytest.mark.slow
@pytest.mark.launch
def test_a_full_disk_stops_the_run_with_all_that_was_measured(tmp_path: Path, page: Page, small_disk: Path) -> None:
    words = ("--workload", f"{FAULTY}:sleep_ms=200", "--strategy", "ddp", *BRIEF, "--launches", "3")
    process = start_bench(tmp_path, "run", *words)
    wait_for(lambda: begun(tmp_path, "0001"), 120)
    fill(small_disk / "ballast")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 5
    assert "No space left on device. Free some space, then bench run --resume" in stderr
    assert "Traceback" not in stderr
    assert "crashed 1/2" in stdout  # the table of what there is, the launch whose row found no room included
    rows = launches(tmp_path)
    assert rows[0].status == "ok"
    (small_disk / "ballast").unlink()
    again = run_bench(tmp_path, "run", "--resume", "latest", "--retry", "failed", "--quiet")
    assert again.code == 0, again.stderr
    assert Counter(row.block for row in launches(tmp_path) if row.status == "ok") == Counter([0, 1, 2])
    page("a full disk", "", "bench run stops and says so; `--resume` makes the launch again")


# -- --batch-size auto -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "ceiling", "fits", "statuses", "answer", "tried"),
    [
        (32, 1 << 20, 100, "oom", 100, [32, 64, 128, 96, 112, 104, 100, 102]),  # within 1/32
        (64, 1 << 20, 10, "oom", 10, [64, 32, 16, 8, 12, 10, 11]),
        (8, 20, 1000, "oom", 20, [8, 16, 20]),
        (8, 4, 1000, "oom", 4, [4]),
        (2, 1 << 20, 0, "oom", None, [2, 1]),
        (16, 1 << 20, 0, "crashed", None, [16]),  # no want of memory: nothing to look for
        (16, 1 << 20, 40, "timeout", 40, [16, 32, 64, 48, 40, 44, 42, 41]),
    ],
)
def test_search(first: int, ceiling: int, fits: int, statuses: str, answer: int | None, tried: list[int]) -> None:
    found = search(first, ceiling, lambda batch: "ok" if batch <= fits else statuses)
    assert (found.answer, [batch for batch, _ in found.tried]) == (answer, tried)


def test_search_is_within_a_32nd_of_large_answers() -> None:
    found = search(32, 1 << 20, lambda batch: "ok" if batch <= 5000 else "oom")
    assert found.answer is not None
    assert 5000 * 31 / 32 <= found.answer <= 5000
    assert found.words.startswith("32 ok, 64 ok, 128 ok, ")
    assert len(found.tried) < 16


@pytest.mark.slow
@pytest.mark.launch
def test_the_largest_batch_that_fits_is_found_and_measured(tmp_path: Path) -> None:
    """Each sample takes 1 GiB of an address space that has 4.5 GiB left: 4 samples fit, 5 do not."""
    words = ("--workload", f"{FAULTY}:gib=4:gib_a_sample=1", "--strategy", "single", "--batch-size", "auto")
    run = run_bench(tmp_path, "run", *words, *BRIEF, "--launches", "2")
    assert run.code == 0, run.stderr
    rows = launches(tmp_path)
    probes, measured = ([row for row in rows if row.role == role] for role in ("probe", "measure"))
    assert [(row.batch_size, row.status) for row in probes] == [
        (2, "ok"),
        (4, "ok"),
        (8, "oom"),
        (6, "oom"),
        (5, "oom"),
    ]
    assert [(row.batch_size, row.status, row.samples) for row in measured] == [(4, "ok", 20), (4, "ok", 20)]
    assert {row.batch_search for row in measured} == {"2 ok, 4 ok, 8 oom, 6 oom, 5 oom"}
    assert measured[0].command.count("--batch-size 4") == 1
    again = run_bench(tmp_path, "run", "--resume", "latest", "--quiet")
    assert (again.code, launches(tmp_path)) == (0, rows)


@pytest.mark.launch
def test_the_batch_is_not_larger_than_the_data(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"x" * (16 * 10 + 1))  # ten sequences of 16
    words = ("--workload", "gpt:layers=1:width=16:heads=1:seq=16", "--strategy", "ddp", "--batch-size", "auto")
    run = run_bench(tmp_path, "run", *words, "--data", f"text={text}", "--num-workers", "0", *BRIEF, "--launches", "1")
    assert run.code == 0, run.stderr
    assert [(row.role, row.batch_size, row.global_batch) for row in launches(tmp_path)] == [
        ("probe", 5, 10),
        ("measure", 5, 10),
    ]


# -- what may differ, in words ------------------------------------------------------------------------------------------


def test_words_of_retry() -> None:
    assert statuses(["failed", "timeout"]) == {"crashed", "invalid", "timeout"}
    assert statuses([]) == frozenset()


def earlier(*rows: dict[str, Any], retry: frozenset[str] = frozenset()) -> set[tuple[str, int]]:
    common = {"role": "measure", "reason": None, "session": 0}
    return set(Earlier(Path("x"), {}, retry, rows=tuple(LaunchRow.of({**common, **row}) for row in rows)).done())


def test_each_session_has_a_number_of_its_own() -> None:
    rows = tuple(LaunchRow.of({"role": "measure", "session": number}) for number in (0, 2, 1))
    assert Earlier(Path("x"), {}, rows=rows).session == 3
    assert Earlier(Path("x"), {}).session == 1


def test_what_is_done() -> None:
    ok = {"case_id": "a", "block": 0, "status": "ok"}
    stopped = {"case_id": "a", "block": 1, "status": "interrupted"}
    died = {"case_id": "b", "block": 0, "status": "oom"}
    skipped = {"case_id": "b", "block": 1, "status": "skipped", "reason": "it ran out of memory in an earlier launch"}
    rows = (ok, stopped, died, skipped)
    assert earlier(*rows) == {("a", 0), ("b", 0), ("b", 1)}
    assert earlier(*rows, retry=statuses(["oom"])) == {("a", 0)}
    assert earlier(*rows, retry=statuses(["failed"])) == {("a", 0), ("b", 0), ("b", 1)}
    assert earlier(ok, {**ok, "status": "interrupted"}) == set()  # the last row of a launch counts
    assert earlier({**ok, "status": "interrupted"}, ok) == {("a", 0)}
    assert earlier({**ok, "role": "probe"}) == set()


def test_changes_of_the_plan_in_words() -> None:
    def plan(steps: int, *names: str) -> dict[str, Any]:
        return {"protocol": {"steps": steps, "launches": 3}, "cases": [{"case_id": name} for name in names]}

    assert changed_plan(plan(5, "a", "b"), plan(5, "b", "a")) == []
    assert changed_plan(plan(5, "a", "b"), plan(6, *"bcdefg")) == [
        "steps: 5 when it began, 6 now",
        "cases no longer asked for: a",
        "new cases: c, d, e and 2 more",
    ]


def test_changes_of_the_machine_in_words() -> None:
    old = {"torch": "2.11.0", "python": "3.12.1", "hostname": "a", "tool_version": "1", "settings": '{"OMP_X": "1"}'}
    assert changed_facts(old, {**old, "hostname": "b"}) == []
    assert changed_facts(old, {**old, "torch": "2.15.0", "settings": "{}"}) == [
        "torch: 2.11.0 when it began, 2.15.0 now",
        "OMP_X: 1 when it began, not set now",
    ]


def test_a_run_goes_on_with_other_hardware_only_if_that_changes_no_speed() -> None:
    old = {"torch": "2.11.0", "hardware": json.dumps({"cpu_governor": "performance", "kernel": "6.8"})}
    assert changed_facts(old, {**old, "hardware": json.dumps({"cpu_governor": "performance", "kernel": "6.9"})}) == []
    assert changed_facts(old, {**old, "hardware": json.dumps({"cpu_governor": "powersave", "kernel": "6.9"})}) == [
        "cpu_governor: performance when it began, powersave now"
    ]
    assert changed_facts({"torch": "2.11.0"}, old) == []  # It began with a version that did not record them.


def test_changes_that_only_ranks_can_tell() -> None:
    row = {"env_key": "e", "device": "cuda", "case_id": "a", "device_name": "NVIDIA H200", "settings": "{}"}
    other = {**row, "env_key": "f", "device_name": "NVIDIA H100"}
    before = [LaunchRow.of(row)]
    assert changed_rows(before, row) == []
    assert changed_rows(before, other) == ["device_name: NVIDIA H200 when it began, NVIDIA H100 now"]
    assert changed_rows(before, {**other, "device": "cpu"}) == []
    assert changed_rows(before, {**row, "env_key": None}) == []
    assert changed_rows(before, {**row, "settings": '{"OMP_NUM_THREADS": "2"}', "case_id": "b"}) == []  # another case


# -- at any moment -------------------------------------------------------------------------------------------------------

ONE = (
    *("TERM bench run", "KILL bench run", "INT bench run", "KILL guard", "TERM launch server", "KILL launch server"),
    *(
        "TERM fork server",
        "KILL fork server",
        "TERM rank",
        "KILL rank",
        "KILL worker",
        "STOP rank + KILL launch server",
    ),
)
TWO = (
    *("KILL bench run + KILL guard", "KILL guard + KILL launch server", "KILL bench run + KILL launch server"),
    *("KILL bench run + KILL fork server", "KILL guard + KILL fork server", "KILL launch server + KILL rank"),
)
ONE_IN = {"two": 20, "load": 4}  # points
KILLED = ("run", "--workload", "mlp", "--strategy", "ddp", "--data", "synthetic", "--num-workers", "1", *BRIEF)
BUSY = "while True: pass"
# from what on a moment is drawn: the start, looking at the workload, the first launch, a rank of the second
BEGINS, MOST_S = ("", "logs/describe-0", "logs/0000-*", "logs/0001-*/rank0.json"), 3.0


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.launch
def test_killed_at_random_moments_nothing_is_left_and_the_run_completes(tmp_path: Path, own_tmp: Path) -> None:
    """Any process of a run, or two at once, at any moment between its start and its end, and also on a busy machine.

    BENCH_TEST_KILLS is how many times (24 by default), BENCH_TEST_SEED what they are drawn from.
    """
    seed, points = int(os.environ.get("BENCH_TEST_SEED", time.time())), int(os.environ.get("BENCH_TEST_KILLS", 24))
    print(f"seed {seed}, {points} points", flush=True)
    chance, before, counts = random.Random(seed), traces(own_tmp), Counter[str]()
    for point in range(points):
        whom = chance.choice(TWO if point % ONE_IN["two"] == ONE_IN["two"] - 1 else ONE)
        begin, delay, loaded = chance.choice(BEGINS), chance.uniform(0.0, MOST_S), point % ONE_IN["load"] == 0
        said = f"seed {seed}, point {point}: {whom} {delay:.2f} s after {begin or 'the start'}"
        said += " on a busy machine" if loaded else ""
        folder = tmp_path / str(point)
        folder.mkdir()
        with busy(2 if loaded else 0):
            struck, began_in = kill_and_resume(folder, own_tmp, before, whom, (begin, delay), said)
        print(f"{said}: {began_in}{'' if struck else ' (there was no such process any more)'}", flush=True)
        counts.update([whom if struck else "nobody", began_in])
        shutil.rmtree(folder)
    print(dict(sorted(counts.items())), flush=True)


def kill_and_resume(
    folder: Path, own_tmp: Path, before: set[str], whom: str, when: tuple[str, float], said: str
) -> tuple[bool, str]:
    """Whether there was anybody to be killed, and how far the run had come. ``when``: so long after that is there."""
    more = {"BENCH_TEST": str(folder), "TMPDIR": str(own_tmp)}
    process = start_bench(folder, *KILLED, "--launches", "2", more=more)
    while process.poll() is None and when[0] and not list(folder.glob(f"results/runs/2*/{when[0]}")):
        time.sleep(0.02)
    time.sleep(when[1])
    while not (struck := strike(process, whom)) and process.poll() is None:
        time.sleep(0.02)  # who is to be killed is not there yet
    stderr = process.communicate(timeout=300)[1]
    assert "Traceback" not in stderr, said + stderr
    assert process.returncode in (0, 5, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT), said + stderr
    wait_for(lambda: not marked(str(folder)), why=f"{said}: a process is left")
    if whom == "KILL bench run + KILL guard":  # there may have been no launch server yet to do it: the next run does
        for left in folders.left_behind(PREFIX, str(own_tmp)):
            folders.remove(left)
    wait_for(lambda: traces(own_tmp) <= before, 30, why=f"{said}: {traces(own_tmp) - before} are left")
    return struck, resume_and_check(folder, said)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def strike(process: subprocess.Popen[str], whom: str) -> bool:
    """Send each signal of ``whom`` to its process, one right after the other; none, and False, if one of them is not there."""
    there, strokes = people(process), [one.partition(" ")[::2] for one in whom.split(" + ")]
    if not all(who in there for _, who in strokes):
        return False
    for name, who in strokes:
        with contextlib.suppress(psutil.Error):
            there[who][0].send_signal(signal.Signals[f"SIG{name}"])
    return True


def people(process: subprocess.Popen[str]) -> dict[str, list[psutil.Process]]:
    """The processes of a run, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    with contextlib.suppress(psutil.Error):
        if process.poll() is None:
            found["bench run"] = [psutil.Process(process.pid)]
            for child in found["bench run"][0].children(recursive=True):
                found.setdefault(kind_of(child), []).append(child)
    return found


def kind_of(process: psutil.Process) -> str:
    words, parent = " ".join(process.cmdline()), process.parent()
    if "launch.guard" in words:
        return "guard"
    if "launch.server_process" in words:
        return "launch server"
    if "multiprocessing.forkserver" not in words or parent is None:
        return "other"
    if "launch.server_process" in " ".join(parent.cmdline()):
        return "fork server"
    above = parent.parent()
    return "rank" if above and "launch.server_process" in " ".join(above.cmdline()) else "worker"


def resume_and_check(folder: Path, said: str) -> str:
    """Whatever happened, the rows are there and right, and the rest can be done; how far the run had come."""
    runs = sorted(folder.glob("results/runs/2*"))
    if not runs:
        return "no run yet"
    [run] = runs
    plan, rows_before = json.loads((run / "plan.json").read_text()), len(launches(folder))
    again = run_bench(folder, "run", "--resume", "latest", "--retry", "failed", "--quiet")
    assert again.code == 0, said + again.stderr
    rows = read_launches(run / "launches.csv", print)
    good = Counter((row.case_id, row.block) for row in rows if row.status == "ok")
    assert len(good) == 2, said
    assert set(good.values()) == {1}, said
    steps = Counter(step["launch_id"] for step in read(run / "steps.csv", print))
    assert all(steps[row.launch_id] == 5 for row in rows if row.status == "ok"), said
    assert json.loads((run / "plan.json").read_text())["protocol"]["launches"] == 2
    return f"{rows_before} rows" if plan["described"] else "not yet described"
