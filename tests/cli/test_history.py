"""`bench history`: a run goes in, a page and a summary come out; and the same from Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from in_process import bench
from made_up_rows import block, session, write

import bench as package


def make_run(folder: Path, day: int, rates: tuple[float, ...] = (100.0, 101.0, 99.0), **known: Any) -> str:
    """A run in the results of a folder; its id."""
    run_id = f"202601{day:02}-030000-00aa"
    known = {"run_id": run_id, "started_at": f"2026-01-{day:02}T03:00:00Z", "settings": "{}", "torch": "2.11", **known}
    write(folder / "results" / "runs" / run_id, session(rates, **known))
    return run_id


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "remote.git"], check=True)
    subprocess.run(
        ["git", "clone", "--quiet", tmp_path / "remote.git", tmp_path / "here"], check=True, capture_output=True
    )
    return tmp_path / "here"


def test_runs_are_added_and_shown(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, 1), make_run(tmp_path, 2)
    added = bench(tmp_path, "history", "add", first, "latest")
    assert (added.code, added.out) == (0, f"{first}: added to results/history\nlatest: added to results/history\n")
    again = bench(tmp_path, "history", "add", second)
    assert (again.code, again.out) == (0, f"{second}: is already in results/history\n")
    done = bench(tmp_path, "history", "page")
    assert (done.code, done.err) == (0, "wrote history.html\n")
    assert "Sessions: 2, 2026-01-01 to 2026-01-02, with 1 case" in done.out
    assert "Throughput, samples/s" in done.out
    assert (tmp_path / "history.html").read_text().startswith("<!doctype html>")


def test_a_folder_of_ones_own_and_other_figures(tmp_path: Path) -> None:
    make_run(tmp_path, 1, step_p95_ms=12.5)
    assert bench(tmp_path, "history", "add", "latest", "--folder", "kept/here").code == 0
    done = bench(
        tmp_path,
        *["history", "page", "--folder", "kept/here", "--metrics", "step-p95-ms", "--html", "out/page.html", "--json"],
    )
    assert done.code == 0
    assert done.told["history"] == "kept/here"
    assert [(point["metric"], point["value"]) for point in done.told["points"]] == [("step_p95_ms", 12.5)]
    assert (tmp_path / "out" / "page.html").exists()


def test_json_is_strict_and_whole(tmp_path: Path) -> None:
    make_run(tmp_path, 1, (100.0,))
    bench(tmp_path, "history", "add", "latest")
    done = bench(tmp_path, "history", "page", "--json")
    told = json.loads(done.out, parse_constant=lambda name: pytest.fail(name))
    assert told.keys() == {"history", "earlier", "findings", "sessions", "points", "changes", "marks"}
    assert told["points"][0]["low"] is None  # one launch has no interval
    assert told["sessions"][0]["run_id"] == "20260101-030000-00aa"


def test_only_the_latest_sessions(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, day) for day in range(1, 6)]
    bench(tmp_path, "history", "add", *runs)
    done = bench(tmp_path, "history", "page", "--last", "2", "--json")
    assert [one["run_id"] for one in done.told["sessions"]] == runs[-2:]
    assert done.told["earlier"] == 3
    assert done.told["findings"][0].endswith("; 3 earlier ones are not shown (--last)")


def test_a_branch_is_pushed_and_read(repository: Path) -> None:
    run = make_run(repository, 1)
    words = ["history", "add", "latest", "--branch", "bench-history", "--push", "origin"]
    added = bench(repository, *words)
    assert (added.code, added.out) == (0, "latest: added to branch bench-history, pushed to origin\n")
    assert bench(repository, *words).out == "latest: is already in branch bench-history, pushed to origin\n"
    done = bench(repository, "history", "page", "--branch", "bench-history", "--json")
    assert (done.told["history"], done.told["sessions"][0]["run_id"]) == ("branch bench-history", run)
    names = subprocess.run(
        ["git", "-C", repository.parent / "remote.git", "ls-tree", "-r", "--name-only", "bench-history"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert names.stdout == f"sessions/{run}.csv\n"


def test_side_b_of_a_comparison_is_a_session(tmp_path: Path) -> None:
    rows = [*block(0, [100, 80, 81, 101]), *block(1, [100, 82, 83, 101])]
    write(tmp_path / "results" / "runs" / "20260101-120000-00aa", rows)
    bench(tmp_path, "history", "add", "latest")
    [point] = bench(tmp_path, "history", "page", "--json").told["points"]
    assert (point["value"], point["launches"]) == (81.5, 4)


def test_change_points_do_not_change_the_exit_code(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, day, (100.0, 100.0, 100.0) if day < 12 else (50.0, 50.0, 50.0)) for day in range(1, 21)]
    bench(tmp_path, "history", "add", *runs)
    done = bench(tmp_path, "history", "page", "--json")
    assert done.code == 0
    [change] = done.told["changes"]
    assert (change["session"], change["ratio"], change["kind"]) == ("20260112-030000-00aa", 0.5, "exact")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("history add latest --push origin", 2, "--push has no effect without --branch"),
        ("history add latest --folder a --branch b", 2, "--folder and --branch both say where the history is"),
        ("history add latest --branch b", 2, "--branch needs a git repository"),
        ("history add nothing", 5, "run: got 'nothing'"),
        ("history page", 5, "results/history has no session of a history"),
        ("history page --folder kept --metrics samples_per_ss", 2, "Did you mean 'samples_per_s'"),
        ("history page --folder kept --metrics strategy", 2, "allowed: numeric columns of launches.csv"),
        ("history page --folder kept --last 0", 2, "--last: got 0; allowed: a whole number from 1"),
        ("history page --folder kept --html /dev/null/page.html", 5, "cannot write /dev/null/page.html"),
    ],
)
def test_what_is_refused(tmp_path: Path, words: str, code: int, said: str) -> None:
    make_run(tmp_path, 1)
    bench(tmp_path, "history", "add", "latest", "--folder", "kept")
    done = bench(tmp_path, *words.split())
    assert (done.code, said in done.err) == (code, True), done.err


def test_a_damaged_session_is_left_out_with_a_warning(tmp_path: Path) -> None:
    bench(tmp_path, "history", "add", make_run(tmp_path, 1), make_run(tmp_path, 2))
    file = tmp_path / "results" / "history" / "20260102-030000-00aa.csv"
    file.write_bytes(file.read_bytes().replace(b"101", b"fast"))
    done = bench(tmp_path, "history", "page", "--json")
    assert done.code == 0
    assert len(done.told["sessions"]) == 1
    assert "warning: a session is left out: results/history/20260102-030000-00aa.csv, line 3, column" in done.err
    (tmp_path / "results" / "history" / "20260101-030000-00aa.csv").unlink()
    done = bench(tmp_path, "history", "page")
    assert (done.code, "results/history: no session can be read" in done.err) == (5, True)


# -- from Python ---------------------------------------------------------------------------------------------------


def test_python_does_the_same(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for day in range(1, 4):
        run = package.load(make_run(tmp_path, day), out=results)
        assert package.add_to_history(run, out=results)
        assert not package.add_to_history(run, out=results)
    found = package.trend(out=results, last=2, metrics="samples_per_s")
    assert found.points["value"].tolist() == [100, 100]
    assert list(found.sessions["run_id"]) == ["20260102-030000-00aa", "20260103-030000-00aa"]
    for frame in (found.changes, found.marks):
        assert isinstance(frame, pd.DataFrame)
        assert frame.empty
    assert found.html().startswith("<!doctype html>")
    assert found._repr_html_().startswith("<ul><li>Sessions: 2")


@pytest.mark.parametrize(
    "given",
    [{"branch": 5}, {"push": True, "branch": "b"}, {"folder": 5}, {"metrics": 5}, {"last": "5"}, {"last": True}],
)
def test_keywords_of_other_types_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    make_run(tmp_path, 1)
    package.add_to_history("latest", out=tmp_path / "results")
    does = package.add_to_history if "push" in given else package.trend
    words = ["latest"] if "push" in given else []
    with pytest.raises(package.UsageError):
        does(*words, out=tmp_path / "results", **given)
