"""Rows as data frames: the fast reader of steps against the careful one."""

from __future__ import annotations

import csv
import io
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches, steps
from bench.errors import ResultsError
from bench.store.columns import FILES, LaunchRow
from bench.store.environments import known_values
from bench.store.reader import read

HEADER = "run_id,launch_id,step,step_ms,step_min_ms,data_wait_ms,critical_rank,loss"
WANTED = ["run_id", "launch_id", "step", "step_ms"]
ROW = "r,0000-a,0,12.5,12.25,0.5,1,2.25"


def fast(file: Path, warnings: list[str]) -> list[tuple[Any, ...]] | None:
    """Return the rows, or None if the file is refused."""
    try:
        frame = steps(file, warnings.append)
    except ResultsError:
        return None
    assert list(frame.columns) == WANTED
    return list(frame.itertuples(index=False, name=None))


def careful(file: Path, warnings: list[str]) -> list[tuple[Any, ...]] | None:
    """Return the same by the general reader; rows with an empty cell are of no use to an analysis."""
    try:
        rows = read(file, warnings.append)
    except ResultsError:
        return None
    found = [tuple(row[name] for name in WANTED) for row in rows]
    return [row for row in found if None not in row and not math.isnan(row[3])]


def both(folder: Path, content: bytes) -> list[tuple[Any, ...]] | None:
    """Return what both read, or None if both refuse; they must agree and give the same message."""
    file = folder / "steps.csv"
    file.write_bytes(content)
    by_fast: list[str] = []
    by_careful: list[str] = []
    found, expected = fast(file, by_fast), careful(file, by_careful)
    assert by_fast == by_careful
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert [row[:3] for row in found] == [row[:3] for row in expected]
        # the fast reader may be off by a last bit
        assert [row[3] for row in found] == pytest.approx([row[3] for row in expected], rel=1e-15, abs=0)
    return found


def text(*rows: str, end: str = "\r\n") -> bytes:
    return "".join(line + end for line in (HEADER, *rows)).encode()


def test_every_column_has_its_type(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_bytes(text(ROW))
    frame = steps(tmp_path / "steps.csv", pytest.fail)
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "int64", "float64"]
    assert frame.to_dict("records") == [{"run_id": "r", "launch_id": "0000-a", "step": 0, "step_ms": 12.5}]


@pytest.mark.parametrize(
    "content",
    [
        text(ROW, ROW),
        text(ROW, ROW, end="\n"),
        text(ROW).replace(b"\r\n", b"\n", 1) + ROW.encode() + b"\r\n",
        b"\xef\xbb\xbf" + text(ROW, ROW),
        text(ROW, ROW) + ROW[:12].encode(),
        text(ROW, ROW) + b"\0\0\0",
        text(ROW, '"r","0000-a",0,12.5,,,,'),
        text(ROW, "r,0000-a,0,12.5,,,,"),
        text(ROW, "r,0000-a,0,1.25e1,nan,inf,,-inf"),
    ],
    ids=["crlf", "lf", "both", "mark", "torn", "zeros", "quoted", "empty", "not finite"],
)
def test_plain_and_unusual_files_of_two_rows(tmp_path: Path, content: bytes) -> None:
    assert both(tmp_path, content) == [("r", "0000-a", 0, 12.5)] * 2


def test_names_keep_their_commas_quotes_blanks_and_line_ends(tmp_path: Path) -> None:
    name = 'a "b", c\r\nd'
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow([name, "NA", 3, 0.5, "", "", "", ""])
    assert both(tmp_path, text() + stream.getvalue().encode()) == [(name, "NA", 3, 0.5)]


@pytest.mark.parametrize(
    "name", ["NA", "nan", "null", "None", "-", "1", "007", "1e5", "true", "ü", "𝟙", "#x", "a\tb", "\u00a0"]
)
def test_names_are_only_text(tmp_path: Path, name: str) -> None:
    assert both(tmp_path, text(ROW.replace("r,", f"{name},", 1))) == [(name, "0000-a", 0, 12.5)]


@pytest.mark.parametrize("content", [b"", text(), HEADER[:20].encode(), text()[:-2], b"\0\0"], ids=range(5))
def test_files_without_rows(tmp_path: Path, content: bytes) -> None:
    assert both(tmp_path, content) == []


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    frame = steps(tmp_path / "steps.csv", pytest.fail)
    assert frame.empty
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "int64", "float64"]


def test_a_file_of_another_version_has_what_it_has(tmp_path: Path) -> None:
    """Columns in another order, an unknown one, and none of the later ones."""
    content = b"step_ms,step,launch_id,run_id,of_a_later_version\r\n12.5,0,0000-a,r,x\r\n"
    assert both(tmp_path, content) == [("r", "0000-a", 0, 12.5)]


@pytest.mark.parametrize(
    "row",
    [
        *("r,0000-a,x,12.5,,,,", "r,0000-a,0,x,,,,", "r,0000-a,0.5,12.5,,,,", "r,0000-a,0,12.5,,,", "r,0000-a,0,12.5"),
        *("r,0000-a,0,12.5,,,,,", "", 'r,"0000-a"x,0,12.5,,,,', "r,0000-a,0,1 2.5,,,,", "r,0000-a,0,12.5,x,,,"),
        *("r,0000-a,0,1_2.5,,,,", "r,0000-a,1_0,12.5,,,,", "r,0000-a,0,１２,,,,", "r,0000-a,٣,12.5,,,,"),
        *("r,0000-a,0,true,,,,", "r,0000-a,0,0x10,,,,", "r,0000-a,nan,12.5,,,,"),
        *("r,0000-a,0,12.5,,,nan,", "r,0000-a,0,1e,,,,", "r,0000-a,0,.,,,,", "r,0000-a,0,-,,,,", "r,0000-a,0,1e+,,,,"),
        *("r\0,0000-a,0,12.5,,,,", "r\r,0000-a,0,12.5,,,,", "r,0000-a,0,--5,,,,", "r,0000-a,0,1d5,,,,"),
        "r,0000-a,9223372036854775808,12.5,,,,",
    ],
    ids=repr,
)
def test_what_is_damaged_is_refused(tmp_path: Path, row: str) -> None:
    assert both(tmp_path, text(ROW, row, ROW)) is None


@pytest.mark.parametrize(
    "value", ["5.", ".5", "+5", "1E3", "1e-320", "1e400", "-0.0", "1.7976931348623157e308", "infinity", "INF"]
)
def test_numbers_in_other_words(tmp_path: Path, value: str) -> None:
    assert both(tmp_path, text(ROW.replace("12.5,", f"{value},", 1))) == [("r", "0000-a", 0, float(value))]


@pytest.mark.parametrize(
    "row",
    [
        *("r,0000-a,0,12.5,,,0.5,", "r,0000-a,0,12.5,,,9223372036854775808,", "r,0000-a,0,\t12.5,,,,"),
        *("r,0000-a,0,12.5\t,,,,", "r,0000-a,\t0,12.5,,,,"),
    ],
    ids=repr,
)
def test_what_is_damaged_in_a_cell_that_looks_plain_is_refused(tmp_path: Path, row: str) -> None:
    assert both(tmp_path, text(ROW, row, ROW)) is None


def test_bytes_that_are_no_utf_8_are_refused(tmp_path: Path) -> None:
    assert both(tmp_path, text(ROW) + ROW.encode().replace(b"r,", b"\xff,") + b"\r\n") is None


def test_a_cell_too_many_and_one_too_few_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    assert both(tmp_path, text("r,l,0,12,11,1,0,2,5", "r,l,1,12,11,1,0")) is None
    assert both(tmp_path, text("r,l,1,12,11,1,0", "r,l,0,12,11,1,0,2,5")) is None


def test_rows_with_an_empty_cell_are_left_out(tmp_path: Path) -> None:
    assert both(tmp_path, text(ROW, "r,0000-a,1,,,,,", "r,0000-a,,12.5,,,,", ",0000-a,0,12.5,,,,")) == [
        ("r", "0000-a", 0, 12.5)
    ]


def test_a_row_without_a_time_is_left_out(tmp_path: Path) -> None:
    assert both(tmp_path, text(ROW, "r,0000-a,1,,,,,")) == [("r", "0000-a", 0, 12.5)]


@pytest.mark.parametrize("row", ["r,0000-a,1,,,,,", "r,0000-a,,,,,,", '"r",0000-a,1,,,,,'])
def test_where_every_row_has_an_empty_cell_the_types_stay(tmp_path: Path, row: str) -> None:
    (tmp_path / "steps.csv").write_bytes(text(row))
    frame = steps(tmp_path / "steps.csv", pytest.fail)
    assert frame.empty
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "int64", "float64"]


def test_random_files_are_read_alike(tmp_path: Path) -> None:
    """Rows as the tool writes them, with a few damaged cells, or a line cut short."""
    draw = random.Random(1)
    odd = ["", "nan", "1e5", "-3", "x", " 1", '"1"', '"', "\t", "0.1", "12345678901234567890", "inf", "1\r", "é", "é,1"]
    accepted = 0
    for _ in range(150):
        end = draw.choice(("\r\n", "\n"))
        rows = []
        for step in range(draw.randrange(6)):
            cells = [
                "r",
                f"{draw.randrange(9)}-a",
                str(step),
                repr(draw.lognormvariate(2, 3)),
                "1.5",
                "0.25",
                "0",
                "2.5",
            ]
            if draw.random() < 0.15:
                cells[draw.randrange(8)] = draw.choice(odd)
            rows.append(",".join(cells))
        content = text(*rows, end=end)
        if draw.random() < 0.2:
            content = content[: draw.randrange(len(content))]
        accepted += both(tmp_path, content) is not None
    assert 50 < accepted < 150


# -- launches ------------------------------------------------------------------------------------------------------


def test_whole_numbers_keep_all_their_digits() -> None:
    frame = launches([LaunchRow(seed=2**53 + 1, parameters=7), LaunchRow(seed=0)])
    assert list(frame["seed"]) == [2**53 + 1, 0]


def test_whole_numbers_keep_all_their_digits_beside_an_unknown_one() -> None:
    frame = launches([LaunchRow(seed=2**53 + 1), LaunchRow()])
    assert list(frame["seed"].dropna()) == [2**53 + 1]


def test_the_largest_whole_number_beside_an_unknown_one() -> None:
    assert launches([LaunchRow(seed=2**63 - 1), LaunchRow()])["seed"].dropna().tolist() == [2**63 - 1]


def test_not_a_number_is_unknown_and_infinity_is_kept() -> None:
    frame = launches([LaunchRow(loss_last=math.nan, mfu=math.inf)])
    assert frame["loss_last"].isna().all()
    assert frame["mfu"].tolist() == [math.inf]


def test_all_columns_are_there_and_what_is_unknown_is_na() -> None:
    frame = launches([LaunchRow()])
    assert list(frame.columns) == list(FILES["launches.csv"])
    assert frame.isna().all(axis=None)


def test_values_are_pythons_own_and_what_is_unknown_is_none() -> None:
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None], dtype="str"),
            "int": pd.Series([2**60, None], dtype="Int64"),
            "float": pd.Series([0.5, None], dtype="Float64"),
            "plain": [1.5, float("nan")],
            "bool": pd.Series([True, None], dtype="boolean"),
            "object": [None, "b"],
        }
    )
    rows = list(known_values(frame))
    assert rows == [("a", 2**60, 0.5, 1.5, True, None), (None, None, None, None, None, "b")]
    assert [type(value) for value in rows[0]] == [str, int, float, float, bool, type(None)]
