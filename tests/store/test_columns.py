"""The table of columns, and the record that is made from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from bench.messages.rank_record import MEMORY
from bench.plan.options import AXES, SETTINGS
from bench.store.columns import ENVIRONMENT, FILES, LAUNCHES, Column, LaunchRow, _of_fields

# Numbers that count places or name things: they have no unit.
PLACES = {
    *("schema", "order", "block", "stage", "turn", "session", "seed", "order_seed", "critical_rank", "step", "rank"),
    "slowest_rank",
    *("local_rank", "node", "pid", "exit_code"),
}


@pytest.mark.parametrize("file", FILES)
def test_every_column_has_a_kind_a_unit_and_a_meaning(file: str) -> None:
    for name, column in FILES[file].items():
        assert column.kind in ("text", "int", "float", "bool"), name
        assert column.meaning, name
        assert bool(column.unit) == (column.kind in ("int", "float") and name not in PLACES), name


def test_the_unit_is_the_one_in_the_name() -> None:
    units = {"_s": "s", "_ms": "ms", "_mib": "MiB", "_gib": "GiB", "_mhz": "MHz", "_w": "W", "_j": "J"}
    for name, column in ((name, column) for columns in FILES.values() for name, column in columns.items()):
        for ending, unit in units.items():
            if name.endswith(ending) and column.kind == "float" and not name.endswith("_per_s"):
                assert column.unit == unit, name


@pytest.mark.parametrize(
    "hint",
    [
        str | None,
        Annotated[str | None, "a meaning, and no unit"],
        Annotated[str | int | None, "", "two kinds"],
        Annotated[list[str] | None, "", "of no kind that a cell can hold"],
    ],
)
def test_a_column_without_one_of_them_cannot_be_added(hint: Any) -> None:
    row = NamedTuple("row", [("new", hint)])  # noqa: UP014
    with pytest.raises((AttributeError, ValueError, KeyError)):
        _of_fields(row)


def test_a_row_is_frozen_and_knows_its_columns() -> None:
    row = LaunchRow.of({"status": "ok", "samples_per_s": 1.5})
    assert (row.status, row.samples_per_s, row.case_id) == ("ok", 1.5, None)
    assert row.but(status="oom") == LaunchRow(status="oom", samples_per_s=1.5)
    assert list(row.columns()) == list(LAUNCHES)
    with pytest.raises(AttributeError):
        row.status = "oom"  # type: ignore[misc]
    with pytest.raises(TypeError, match="sample_per_s"):
        LaunchRow.of({"sample_per_s": 1.5})


@pytest.mark.slow
def test_mypy_sees_a_misspelt_column(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text(
        "from bench.store.columns import LaunchRow\n\n\ndef rate(row: LaunchRow) -> object:\n    return row.sample_per_s\n"
    )
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--follow-imports=silent", str(tmp_path / "reads.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert '"LaunchRow" has no attribute "sample_per_s"' in done.stdout


def test_ranks_measure_the_columns_of_memory() -> None:
    assert set(MEMORY) < LAUNCHES.keys()
    assert set(MEMORY) < FILES["ranks.csv"].keys()


def test_options_are_columns_with_their_help() -> None:
    assert {name: LAUNCHES[name].meaning for name in (*AXES, *SETTINGS)} == {
        option.name: option.help for option in (*AXES.values(), *SETTINGS.values())
    }


def test_the_environment_is_the_end_of_a_row() -> None:
    assert (ENVIRONMENT[0], ENVIRONMENT[-1]) == ("work_key", "command")
    assert LAUNCHES["mfu"] == Column("float", "share", "model FLOPs utilisation: `tflops_per_device` / `peak_tflops`")
