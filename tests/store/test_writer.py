"""A run's folder: files that only grow."""

from __future__ import annotations

import json
import math
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest

from bench.errors import EXIT_FAILED, ResultsError
from bench.store.cells import cell
from bench.store.columns import FILES, Column
from bench.store.reader import read as read_file
from bench.store.runs import folders
from bench.store.writer import Store

STEPS_HEAD = b"run_id,launch_id,step,step_ms,step_min_ms,data_wait_ms,critical_rank,loss,apart\r\n"
STEP: dict[str, Any] = {"run_id": "r", "launch_id": "l", "step": 0, "step_ms": 12.5, "step_min_ms": 10.0, "loss": 2.25}


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file that is whole."""
    warnings: list[str] = []
    rows = read_file(file, warnings.append)
    assert warnings == []
    return rows


def rank_row(**changes: Any) -> dict[str, Any]:
    """A whole row of ranks.csv, empty but for its identity and what is given."""
    return {**dict.fromkeys(FILES["ranks.csv"]), "run_id": "r", "launch_id": "l", "rank": 0, **changes}


def test_new_run_has_every_file_with_its_header(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "deep" / "results")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", store.run_id)
    assert store.folder == tmp_path / "deep" / "results" / "runs" / store.run_id
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "comms.csv",
        "counts.csv",
        "devices.csv",
        "launches.csv",
        "lock",
        "logs",
        "ranks.csv",
        "steps.csv",
    ]
    assert (store.folder / "steps.csv").read_bytes() == STEPS_HEAD
    for name, columns in FILES.items():
        assert (store.folder / name).read_bytes() == ",".join(columns).encode() + b"\r\n"
        assert read(store.folder / name) == []


def test_appended_rows_only_grow(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    file = store.folder / "steps.csv"
    store.append("steps.csv", [STEP])
    first = file.read_bytes()
    assert first == STEPS_HEAD + b"r,l,0,12.5,10,,,2.25,\r\n"
    store.append("steps.csv", [{**STEP, "step": 1, "critical_rank": 1}, {**STEP, "step": 2, "data_wait_ms": 0.1}])
    assert file.read_bytes() == first + b"r,l,1,12.5,10,,1,2.25,\r\nr,l,2,12.5,10,0.1,,2.25,\r\n"
    store.append("steps.csv", [])
    assert file.read_bytes().startswith(first)


def test_text_with_comma_quote_and_newline_comes_back(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    words = 'ValueError: "a", b\n  at line 3\r\nü → 😀, done'
    store.append("ranks.csv", [rank_row(failure=words), rank_row(rank=1, failure="plain")])
    quoted = (
        'r,l,0,,,,,,,,"ValueError: ""a"", b\n  at line 3\r\nü → 😀, done",'
        + "," * (len(FILES["ranks.csv"]) - 12)
        + "\r\n"
    )
    head = ",".join(FILES["ranks.csv"]) + "\r\n"
    assert list(FILES["ranks.csv"]).index("failure") == 10  # of N columns: N - 11 come after it
    raw = (store.folder / "ranks.csv").read_bytes().decode()
    assert raw == head + quoted + "r,l,1,,,,,,,,plain," + "," * (len(FILES["ranks.csv"]) - 12) + "\r\n"
    assert read(store.folder / "ranks.csv") == [rank_row(failure=words), rank_row(rank=1, failure="plain")]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "text", ""),
        (None, "int", ""),
        (None, "float", ""),
        (None, "bool", ""),
        (True, "bool", "true"),
        (False, "bool", "false"),
        (3, "int", "3"),
        (3.0, "int", "3"),
        (2**40, "int", "1099511627776"),
        (3, "float", "3"),
        (0.1, "float", "0.1"),
        (1 / 3, "float", "0.3333333333"),  # ten digits
        (711.1111111111111, "float", "711.1111111"),
        (1234567.0, "float", "1234567"),
        (3.5e14, "float", "3.5e+14"),
        (0.0, "float", "0"),
        (math.nan, "float", "nan"),
        ("ddp", "text", "ddp"),
        (64, "text", "64"),
    ],
)
def test_cell(value: Any, kind: str, text: str) -> None:
    assert cell(value, Column(kind, "", "")) == text


def test_values_come_back_typed(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    given = {
        "schema": 1,
        "run_id": "007",  # text stays text
        "status": "ok",
        "gpus": 2,
        "pin_memory": False,
        "steady": True,
        "timeout": 600.0,
        "samples_per_s": 711.125,
        "loss_last": math.inf,
        "seed": 0,
    }
    store.append("launches.csv", [given])
    [row] = read(store.folder / "launches.csv")
    assert row == {**dict.fromkeys(FILES["launches.csv"]), **given}
    assert {name: type(row[name]) for name in given} == {name: type(value) for name, value in given.items()}


def test_unknown_column_is_a_bug_of_ours(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    with pytest.raises(AssertionError, match=re.escape("steps.csv has no columns ['sleep_ms']")):
        store.append("steps.csv", [{**STEP, "sleep_ms": 1.0}])
    assert (store.folder / "steps.csv").read_bytes() == STEPS_HEAD


def test_unwritable_out(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.touch()
    with pytest.raises(ResultsError) as error:
        Store.create(out)
    assert error.value.message == f"cannot write results to {out}: Not a directory"
    assert (error.value.option, error.value.given) == ("--out", str(out))
    assert error.value.exit_code == EXIT_FAILED


def test_run_whose_file_cannot_be_written_any_more(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    file = store.folder / "steps.csv"
    file.unlink()
    file.mkdir()
    with pytest.raises(ResultsError) as error:
        store.append("steps.csv", [STEP])
    assert str(error.value) == f"cannot write {file}: Is a directory"


def test_launch_has_a_folder_of_its_own_and_the_plan_a_file(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    assert store.launch_folder("0000-x") == store.folder / "logs" / "0000-x"
    assert (store.folder / "logs" / "0000-x").is_dir()
    store.plan({"cases": [1], "ü": None})
    assert json.loads((store.folder / "plan.json").read_text()) == {"cases": [1], "ü": None}


def test_text_that_is_no_unicode_is_kept_readable(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.append("ranks.csv", [rank_row(failure="bad \udcff byte")])
    assert read(store.folder / "ranks.csv")[0]["failure"] == "bad \\udcff byte"


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = iter(["abcd", "abcd", "ef01"])
    monkeypatch.setattr("bench.store.writer.secrets.token_hex", lambda _: next(digits))
    monkeypatch.setattr("bench.store.writer.time.strftime", lambda *_: "20260102-030405")
    names = [Store.create(tmp_path).run_id for _ in range(2)]
    assert names == ["20260102-030405-abcd", "20260102-030405-ef01"]


def test_a_run_appears_with_its_plan_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed before all is there leaves something that is no run, and that a later one takes away."""
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Store.create(tmp_path, {"cases": []})
    assert folders(tmp_path) == []
    [left] = (tmp_path / "runs").iterdir()
    store = Store.create(tmp_path, {"cases": []})
    assert (store.folder / "plan.json").read_text() == '{\n  "cases": []\n}\n'
    assert folders(tmp_path) == [store.folder]
    assert left.exists()  # somebody may be making it right now
    os.utime(left, (0, 0))
    Store.create(tmp_path)
    assert not left.exists()
    with pytest.raises(ResultsError, match="is being written by another bench run"):
        Store.resume(store.folder, print)


def test_two_never_write_the_same_run(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    with pytest.raises(ResultsError) as error:
        Store.resume(store.folder, print)
    assert error.value.hint == "Wait until it ends, or stop it."
    store.close()
    again, rows = Store.resume(store.folder, print)
    assert (again.run_id, rows) == (store.run_id, [])


def test_a_run_goes_on_after_its_last_whole_row(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.append("steps.csv", [STEP])
    file = store.folder / "steps.csv"
    before = file.read_bytes()
    file.write_bytes(before + b"r,l,1,12.5,1")
    (store.folder / "ranks.csv").write_bytes(b"run_id,laun")
    store.close()
    warnings: list[str] = []
    again, _ = Store.resume(store.folder, warnings.append)
    assert warnings == [f"{file}: its last row was incomplete and was removed"]
    again.append("steps.csv", [{**STEP, "step": 1}])
    again.append("ranks.csv", [rank_row()])
    assert file.read_bytes() == before + b"r,l,1,12.5,10,,,2.25,\r\n"
    assert read(store.folder / "ranks.csv") == [rank_row()]


def test_a_run_of_another_version_is_not_gone_on_with(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    file = store.folder / "steps.csv"
    file.write_bytes(b"run_id,launch_id,step\r\n")
    store.close()
    with pytest.raises(ResultsError) as error:
        Store.resume(store.folder, print)
    assert error.value.message == f"{file} has the columns of another version of stepbench"
    assert error.value.hint == "Start a new run."


def test_what_was_written_of_rows_before_an_error_is_taken_back(tmp_path: Path) -> None:
    """The kernel lets the file grow by 100 bytes; ten rows are longer."""
    store = Store.create(tmp_path)
    store.append("steps.csv", [STEP])
    before = (store.folder / "steps.csv").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(ResultsError, match="File too large"):
            store.append("steps.csv", [STEP] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (store.folder / "steps.csv").read_bytes() == before


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    file = store.folder / "steps.csv"
    file.unlink()
    file.symlink_to("/dev/full")
    with pytest.raises(ResultsError) as error:
        store.append("steps.csv", [STEP])
    assert error.value.message == f"cannot write {file}: No space left on device"
    assert error.value.hint == f"Free some space, then bench run --resume {store.run_id}."


def test_places_in_a_run_are_never_taken_twice(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    assert store.next_order() == 0
    for name in ("describe-0-0", "0000-mlp", "0001-mlp", "0001-mlp-again"):
        store.launch_folder(name)
    assert store.next_order() == 2


def test_a_plan_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.plan({"cases": []})
    (store.folder / "plan.partial").symlink_to("/dev/full")
    with pytest.raises(ResultsError, match="No space left on device"):
        store.plan({"cases": [1]})
    assert json.loads((store.folder / "plan.json").read_text()) == {"cases": []}
