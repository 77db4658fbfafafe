"""What a session of a history is made of, and a history in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_rows import RUN, block, launch, session

from bench.errors import BenchError, ResultsError, UsageError
from bench.history import folder
from bench.history.sessions import in_trend, read_sessions, session_of
from bench.store.columns import SCHEMA, LaunchRow

RATES = [100.0, 101.0, 99.5]


def silent(text: str) -> None:
    raise AssertionError(text)


def stored(rows: list[LaunchRow]) -> list[LaunchRow]:
    """The rows as a history has them."""
    made = session_of("a run", rows)
    return read_sessions([(made.name, made.content)], silent)


def test_a_session_has_the_launches_that_count() -> None:
    rows = [
        launch(role="probe", block=None, samples_per_s=1.0),
        launch(status="crashed", samples_per_s=None),  # of block 0, which was launched again
        *session(RATES),
        launch(role="control", block=7, samples_per_s=2.0),
        launch(seed=9, status="skipped", reason="no GPU", order=None, block=None, samples_per_s=None),
    ]
    kept = stored(rows)
    assert [(row.status, row.samples_per_s) for row in kept] == [
        *(("ok", rate) for rate in RATES),
        ("skipped", None),
    ]
    told = ("run_id", "case_id", "workload", "gpus", "pin_memory", "work_key", "launch_s", "command", "tokens_per_s")
    assert [[getattr(row, name) for name in told] for row in kept[:3]] == [
        [getattr(row, name) for name in told] for row in session(RATES)
    ]


def test_a_comparison_gives_its_side_b() -> None:
    kept = stored([*block(0, [100, 90, 91, 101]), *block(1, [100, 92, 93, 101])])
    assert [(row.side, row.samples_per_s) for row in kept] == [("B", 90), ("B", 91), ("B", 92), ("B", 93)]


def test_columns_without_a_value_are_not_written() -> None:
    header = session_of("a run", session(RATES)).content.partition(b"\r\n")[0].decode().split(",")
    assert {"run_id", "samples_per_s", "workload"} < set(header)
    assert not {"tokens_per_s", "reason", "side"} & set(header)


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ([launch(role="probe")], ResultsError, "a run: no launch of a case is recorded"),
        (block(0, [1, 2], bursts=8), UsageError, "a run is a duet, whose two sides were up at once"),
        ([launch(), launch(run_id="other", block=1)], UsageError, "allowed: rows with one run_id"),
        ([launch(run_id="../../etc/passwd")], UsageError, r"a run: run_id: got '\.\./\.\./etc/passwd'"),
        ([launch(run_id="-n")], UsageError, "a run: run_id: got '-n'"),
        ([launch(run_id=None)], UsageError, "a run: run_id"),
        ([launch(run_id="a" * 101)], UsageError, "of 1 to 100 characters"),
    ],
)
def test_what_is_no_session(rows: list[LaunchRow], kind: type[BenchError], words: str) -> None:
    with pytest.raises(kind, match=words):
        session_of("a run", rows)


# -- a folder ------------------------------------------------------------------------------------------------------


def test_a_session_is_added_once(tmp_path: Path) -> None:
    made = session_of("a run", session(RATES))
    there = tmp_path / "new" / "history"
    assert folder.add(there, made)
    content = (there / f"{RUN}.csv").read_bytes()
    assert not folder.add(there, made)
    assert [path.name for path in there.iterdir()] == [f"{RUN}.csv"]
    assert (there / f"{RUN}.csv").read_bytes() == content == made.content


def test_the_same_rows_in_other_bytes_are_the_same_session(tmp_path: Path) -> None:
    """Another version of stepbench may have written other columns, and an editor other line ends."""
    made = session_of("a run", session(RATES))
    (tmp_path / made.name).write_bytes(made.content.replace(b"\r\n", b"\n"))
    assert not folder.add(tmp_path, made)


def test_other_rows_of_a_run_are_refused(tmp_path: Path) -> None:
    folder.add(tmp_path, session_of("a run", session(RATES[:2])))
    before = (tmp_path / f"{RUN}.csv").read_bytes()
    with pytest.raises(UsageError, match=f"has other rows of run {RUN} already; .* Add a run once, when it has ended."):
        folder.add(tmp_path, session_of("a run", session(RATES)))
    assert (tmp_path / f"{RUN}.csv").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot write .*Choose another --folder"):
        folder.add(tmp_path / "file" / "history", session_of("a run", session(RATES)))


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_a_folder_without_sessions_is_told(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "history")
    with pytest.raises(ResultsError, match=r"has no session of a history\. Add a run: bench history add latest\."):
        folder.kept(tmp_path / "history", 5, silent)


def test_the_latest_sessions_are_read_and_other_files_are_not(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        folder.add(tmp_path, session_of("a run", session(RATES, run_id=f"2026010{day}-000000-00aa")))
    for name in ("README.md", ".hidden.csv", "a b.csv", "notes.txt"):
        (tmp_path / name).write_text("not a session")
    found = folder.kept(tmp_path, 2, silent)
    assert found.earlier == 1
    assert [Path(name).name for name, _ in found.files] == ["20260102-000000-00aa.csv", "20260103-000000-00aa.csv"]


def test_files_that_cannot_be_read_are_left_out_with_a_warning(tmp_path: Path) -> None:
    made = session_of("a run", session(RATES))
    folder.add(tmp_path, made)
    os.mkfifo(tmp_path / "20260102-000000-00aa.csv")
    (tmp_path / "20260103-000000-00aa.csv").write_bytes(made.content.replace(b"101", b"fast"))
    newer = made.content.replace(b"schema,", b"schema,", 1).replace(f"\r\n{SCHEMA},".encode(), b"\r\n999,")
    (tmp_path / "20260104-000000-00aa.csv").write_bytes(newer)
    warnings: list[str] = []
    rows = read_sessions(folder.kept(tmp_path, 9, warnings.append).files, warnings.append)
    assert [row.samples_per_s for row in rows] == RATES
    assert len(warnings) == 3
    assert "20260102-000000-00aa.csv: it is a FIFO" in warnings[0]
    assert "column samples_per_s: got 'fast'" in warnings[1]
    assert "Upgrade stepbench." in warnings[2]


def test_a_session_with_settings_or_hardware_that_are_not_json_is_left_out() -> None:
    made = session_of("a run", session(RATES, settings="{}"))
    warnings: list[str] = []
    assert read_sessions([("a.csv", made.content.replace(b"{}", b"oops"))], warnings.append) == []
    assert "column settings: got 'oops'" in warnings[0]
    told = session_of("a run", session(RATES, settings="{}", hardware="[]"))
    assert read_sessions([("a.csv", told.content)], warnings.append) == []
    assert "column hardware: got '[]'" in warnings[1]


def test_rows_of_older_versions_keep_their_schema() -> None:
    old = [row.but(schema=1, device_name=None) for row in session(RATES)]
    assert [row.schema for row in in_trend(stored(old))] == [1, 1, 1]
