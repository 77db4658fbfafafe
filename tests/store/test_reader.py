"""A run's files, read back: what a killed writer leaves is forgiven, anything else is told with its place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bench.errors import EXIT_FAILED, ResultsError
from bench.store.columns import FILES, SCHEMA
from bench.store.reader import CHUNK, check_tail, read, read_launches, whole

HEAD = b"run_id,launch_id,step,step_ms,loss\r\n"
ROW = b"r,l,0,12.5,2.25\r\n"
FIRST: dict[str, Any] = {
    **dict.fromkeys(FILES["steps.csv"]),
    **{"run_id": "r", "launch_id": "l", "step": 0, "step_ms": 12.5, "loss": 2.25},
}
ADVICE = "Restore the file from a copy, or delete that row."


def read_all(folder: Path, content: bytes, name: str = "steps.csv") -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and the warnings without the folder."""
    (folder / name).write_bytes(content)
    warnings: list[str] = []
    rows = read(folder / name, warnings.append)
    if name == "launches.csv":
        again: list[str] = []
        assert repr([row.columns() for row in read_launches(folder / name, again.append)]) == repr(rows)
        assert again == warnings
    return rows, [warning.replace(f"{folder}/", "") for warning in warnings]


def refusal(folder: Path, content: bytes, name: str = "steps.csv", hint: str | None = ADVICE) -> str:
    """Return the message of the error without its hint and the folder, and check the hint."""
    with pytest.raises(ResultsError) as error:
        read_all(folder, content, name)
    assert error.value.exit_code == EXIT_FAILED
    assert hint is None or error.value.hint == hint
    return error.value.message.rstrip(".").replace(f"{folder}/", "")


# -- what is there -------------------------------------------------------------------------------------------------


def test_every_column_has_its_type_and_what_is_empty_or_missing_is_none(tmp_path: Path) -> None:
    content = b"schema,run_id,gpus,pin_memory,steady,samples_per_s,reason\r\n1,007,-2,true,false,711.125,\r\n"
    [row], warnings = read_all(tmp_path, content, "launches.csv")
    known = {"schema": 1, "run_id": "007", "gpus": -2, "pin_memory": True, "steady": False, "samples_per_s": 711.125}
    assert row == {**dict.fromkeys(FILES["launches.csv"]), **known}
    assert list(row) == list(FILES["launches.csv"])
    assert {name: type(row[name]) for name in known} == {name: type(value) for name, value in known.items()}
    assert warnings == []


def test_columns_stand_in_any_order_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    rows, warnings = read_all(tmp_path, b"loss,of_a_later_version,step\r\n1.5,x,4\r\n")
    assert rows == [{**dict.fromkeys(FILES["steps.csv"]), "loss": 1.5, "step": 4}]
    assert warnings == []


def test_an_unknown_column_that_looks_like_a_missing_one_is_told(tmp_path: Path) -> None:
    rows, warnings = read_all(tmp_path, b"run_id,lunch_id,step,loss,lossy\r\nr,l,0,1.5,2.5\r\n")
    assert rows == [{**dict.fromkeys(FILES["steps.csv"]), "run_id": "r", "step": 0, "loss": 1.5}]
    assert warnings == ["steps.csv, line 1, column lunch_id: unknown, so it is left out. Did you mean 'launch_id'?"]


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    assert read_all(tmp_path, HEAD) == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        HEAD + ROW + ROW,
        (HEAD + ROW + ROW).replace(b"\r\n", b"\n"),
        HEAD + ROW.replace(b"\r\n", b"\n") + ROW,
        b"\xef\xbb\xbf" + HEAD + ROW + ROW,
        b'\xef\xbb\xbf"run_id","launch_id","step","step_ms","loss"\n' + b'"r","l","0","12.5","2.25"\n' * 2,
    ],
    ids=["crlf", "lf", "both", "byte order mark", "all quoted"],
)
def test_how_another_program_may_have_saved_it(tmp_path: Path, content: bytes) -> None:
    assert read_all(tmp_path, content) == ([FIRST, FIRST], [])


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"inf", math.inf), (b"-inf", -math.inf), (b"3.5e+14", 3.5e14), (b"1E-3", 0.001), (b"-0.5", -0.5), (b"7", 7.0)],
)
def test_floats(tmp_path: Path, text: bytes, value: float) -> None:
    [row], _ = read_all(tmp_path, b"step,loss\r\n0," + text + b"\r\n")
    assert row["loss"] == value


def test_a_loss_may_be_nan(tmp_path: Path) -> None:
    [first, second], _ = read_all(tmp_path, b"step,loss\r\n0,nan\r\n1,\r\n")
    assert math.isnan(first["loss"])
    assert second["loss"] is None


def test_whole_numbers_of_64_bits(tmp_path: Path) -> None:
    content = b"run_id,clock_reasons_mask\r\nr,-9223372036854775808\r\nr,9223372036854775807\r\nr,+007\r\n"
    rows, _ = read_all(tmp_path, content, "devices.csv")
    assert [row["clock_reasons_mask"] for row in rows] == [-(2**63), 2**63 - 1, 7]


def test_text_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    words = 'ValueError: "a", b\n  at 3\r\nlone \r, ü → 😀'
    content = 'rank,failure\r\n0,"ValueError: ""a"", b\n  at 3\r\nlone \r, ü → 😀"\r\n1,""""\r\n2,""\r\n'.encode()
    rows, warnings = read_all(tmp_path, content, "ranks.csv")
    assert [row["failure"] for row in rows] == [words, '"', None]
    assert warnings == []


def test_a_cell_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    [row], _ = read_all(tmp_path, b"rank,failure\r\n0," + b"x" * 200_000 + b"\r\n", "ranks.csv")
    assert row["failure"] == "x" * 200_000


# -- what a killed writer leaves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "torn",
    [
        b"r",
        b"r,l,1,12",
        ROW[:-2],
        ROW[:-1],
        b'r,"l',
        b'r,"l"',
        b'r,"l""',
        b"\0" * 4096,
        b"r,l,1\0\0",
        b"r,l,\xc3",
        b'r,"l\r\n',
    ],
)
def test_a_torn_last_row_is_dropped_and_told(tmp_path: Path, torn: bytes) -> None:
    rows, warnings = read_all(tmp_path, HEAD + ROW + ROW + torn)
    assert rows == [FIRST, FIRST]
    assert warnings == [
        "steps.csv, line 4: the last row is not whole (its writer was killed, or is at work) and is left out"
    ]


def test_an_empty_file_and_a_torn_header_have_no_rows_and_are_told(tmp_path: Path) -> None:
    torn = "steps.csv, line 1: the header is not whole (its writer was killed), so there are no rows"
    assert read_all(tmp_path, b"") == ([], ["steps.csv is empty: it has no header and no rows"])
    assert read_all(tmp_path, HEAD[:20]) == ([], [torn])
    assert read_all(tmp_path, HEAD[:-1]) == ([], [torn])
    assert read_all(tmp_path, b"\0" * 512) == ([], [torn])


LONG = (  # one failure of five lines, the third of which has more commas than a row
    b"run_id,launch_id,rank,failure,pid\r\n"
    b"r,l,0,plain,7\r\n"
    b'r,l,1,"first ""quoted""\r\nsecond\r\n[1, 2, 3, 4, 5, 6]\r\n""\r\n\xc3\xa9\r\n",8\r\n'
    b"r,l,2,,9\r\n"
)
LONG_ENDS = [35, 50, len(LONG) - 10, len(LONG)]  # 35, +15, ..., the last row has 10 bytes


def test_however_a_file_is_cut_off_the_rows_before_the_cut_are_read(tmp_path: Path) -> None:
    everything, _ = read_all(tmp_path, LONG, "ranks.csv")
    assert [row["failure"] for row in everything] == [
        "plain",
        'first "quoted"\r\nsecond\r\n[1, 2, 3, 4, 5, 6]\r\n"\r\né\r\n',
        None,
    ]
    for cut in range(1, len(LONG) + 1):
        ends = [end for end in LONG_ENDS if end <= cut]
        rows, warnings = read_all(tmp_path, LONG[:cut], "ranks.csv")
        assert rows == everything[: max(0, len(ends) - 1)], LONG[:cut]
        assert len(warnings) == (cut not in LONG_ENDS)
        assert whole(LONG[:cut]) == max(ends, default=0)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (b"", 0),
        (b"a,b", 0),
        (b"a,b\r", 0),
        (b"a,b\r\n", 5),
        (b"a,b\n", 4),
        (b"a,b\r\n1,2\r\n3", 10),
        (b'a,b\r\n1,"x\r\n', 5),
        (b'a,b\r\n1,"x\r\ny"', 5),
        (b'a,b\r\n1,"x\r\ny""', 5),
        (b'a,b\r\n1,"x\r\ny"\r\n', 15),
        (b'a,b\r\n1,"x\r\n""\r\n', 5),
        (b"a,b\r\n\0\0\0\0", 5),
    ],
)
def test_whole_rows_end_at_the_last_line_end_outside_of_quotes(content: bytes, size: int) -> None:
    assert whole(content) == size


# -- what is damaged -----------------------------------------------------------------------------------------------

ALLOWED_INT, ALLOWED_FLOAT = "a whole number of at most 64 bits, or nothing", "a number, or nothing"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("steps.csv", b"r,l,one,1,2\r\n", f"line 3, column step: got 'one'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,1.0,1,2\r\n", f"line 3, column step: got '1.0'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,nan,1,2\r\n", f"line 3, column step: got 'nan'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,inf,1,2\r\n", f"line 3, column step: got 'inf'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,1_0,1,2\r\n", f"line 3, column step: got '1_0'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l, 1,1,2\r\n", f"line 3, column step: got ' 1'; allowed: {ALLOWED_INT}"),
        ("steps.csv", "r,l,٣,1,2\r\n".encode(), f"line 3, column step: got '٣'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,9223372036854775808,1,2\r\n", f"line 3, column step: got '9223372036854775808'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,1,12.5 ms,2\r\n", f"line 3, column step_ms: got '12.5 ms'; allowed: {ALLOWED_FLOAT}"),
        ("steps.csv", b"r,l,1,12..5,2\r\n", f"line 3, column step_ms: got '12..5'; allowed: {ALLOWED_FLOAT}"),
        ("steps.csv", b"r,l,1,1_2,2\r\n", f"line 3, column step_ms: got '1_2'; allowed: {ALLOWED_FLOAT}"),
        ("steps.csv", b"r,l,1,1,0x2\r\n", f"line 3, column loss: got '0x2'; allowed: {ALLOWED_FLOAT}"),
        ("steps.csv", b"r,l,1,1,None\r\n", f"line 3, column loss: got 'None'; allowed: {ALLOWED_FLOAT}"),
        ("steps.csv", b"r,l,one,two,3\r\n", f"line 3, column step: got 'one'; allowed: {ALLOWED_INT}"),
        ("steps.csv", b"r,l,1,1\r\n", "line 3: the row has 4 cells, the header 5"),
        ("steps.csv", b"r,l,1,1,2,3\r\n", "line 3: the row has 6 cells, the header 5"),
        ("steps.csv", b"r,l,1,1r,l,2,1,2\r\n", "line 3: the row has 8 cells, the header 5"),
        ("steps.csv", b"\r\n", "line 3: the row has 0 cells, the header 5"),
        ("steps.csv", b"r,l,1,\xff,2\r\n", "line 3, column step_ms: there is byte 0xff, which is not UTF-8"),
        ("steps.csv", b"r,\xc3,1,1,2\r\n", "line 3, column launch_id: there is byte 0xc3, which is not UTF-8"),
        ("steps.csv", b"\0\0\0\0r,l,1,1,2\r\n", "line 3, column run_id: there is a zero byte"),
        ("steps.csv", b"r,l,1,1\0,2\r\n", "line 3, column step_ms: there is a zero byte"),
        ("steps.csv", b'r,"l\0",1,1,2\r\n', "line 3, column launch_id: there is a zero byte"),
        ("steps.csv", b'r,l"l",1,1,2\r\n', "line 3, column launch_id: there is a misplaced quote"),
        ("steps.csv", b'r,"l"l,1,1,2\r\n', "line 3, column launch_id: there is a misplaced quote"),
        ("steps.csv", b"r,l,1\r,1,2\r\n", "line 3, column step: there is a carriage return that does not end a line"),
    ],
)  # fmt: skip
def test_damage_is_told_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert refusal(tmp_path, HEAD + ROW + content + ROW, name) == f"{name}, {message}"
    assert refusal(tmp_path, (HEAD + ROW + content + ROW).replace(b"\r\n", b"\n"), name) == f"{name}, {message}"


@pytest.mark.parametrize("text", ["True", "TRUE", "1", "yes", "t", "false "])
def test_only_true_and_false_are_booleans(tmp_path: Path, text: str) -> None:
    content = f"run_id,throttled\r\nr,true\r\nr,false\r\nr,\r\nr,{text}\r\n".encode()
    assert refusal(tmp_path, content, "devices.csv") == (
        f"devices.csv, line 5, column throttled: got {text!r}; allowed: true, false, or nothing"
    )


def test_lines_are_counted_also_inside_of_cells_and_over_many_rows(tmp_path: Path) -> None:
    content = b"rank,failure\r\n" + b'0,"one\r\ntwo\nthree \r four"\r\n' * (CHUNK + 3) + b'1,"a\nb"\r\nx,\r\n0,\r\n'
    # a header, CHUNK + 3 rows of three lines, a row of two
    assert refusal(tmp_path, content, "ranks.csv") == (
        f"ranks.csv, line {1 + 3 * (CHUNK + 3) + 2 + 1}, column rank: got 'x'; allowed: {ALLOWED_INT}"
    )
    content = b'rank,failure\r\n0,"one\r\n' + b'two \xff"\r\n'
    assert refusal(tmp_path, content, "ranks.csv") == (
        "ranks.csv, line 2, column failure: there is byte 0xff, which is not UTF-8"
    )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"step,loss,step\r\n", "line 1: two columns are named step"),
        (b"mine,mine\r\n", "line 1: two columns are named mine"),
        (b"a,b\r\n", "line 1: got 'a,b'; allowed: a header with columns of steps.csv"),
        (b"\r\n", "line 1: got ''; allowed: a header with columns of steps.csv"),
        (b"step,l\xffss\r\n", "line 1: there is byte 0xff, which is not UTF-8"),
        (b'step,l"ss"\r\n', "line 1: there is a misplaced quote"),
        (b"step,loss\r1,2\r3,4\r", "line 1: a quote or a line end is missing, so rows run into each other"),
        (b'"step,loss\r\n1,2\r\n', "line 1: a quote or a line end is missing, so rows run into each other"),
    ],
)
def test_a_damaged_header_is_told(tmp_path: Path, head: bytes, message: str) -> None:
    assert refusal(tmp_path, head, hint=None) == f"steps.csv, {message}"


def test_rows_of_a_later_stepbench_are_refused(tmp_path: Path) -> None:
    later = f"schema,gpus\r\n1,1\r\n{SCHEMA},1\r\n{SCHEMA + 1},a new kind of value\r\n".encode()
    assert refusal(tmp_path, later, "launches.csv", "Upgrade stepbench.") == (
        f"launches.csv, line 4, column schema: got {SCHEMA + 1}; allowed: {SCHEMA} or less, which this version reads"
    )


def test_a_quote_too_many_never_hides_rows(tmp_path: Path) -> None:
    """Wherever it stands before the last row; in the last it cannot be told from a writer that was killed."""
    for at in range(len(LONG) - 10):
        assert refusal(tmp_path, LONG[:at] + b'"' + LONG[at:], "ranks.csv").startswith("ranks.csv, line "), at
    many = HEAD + ROW * 5
    for at in range(len(many) - len(ROW)):
        assert refusal(tmp_path, many[:at] + b'"' + many[at:]).startswith("steps.csv, line "), at
    assert refusal(tmp_path, HEAD + ROW + b'"' + ROW * 3) == (
        "steps.csv, line 3: a quote or a line end is missing, so rows run into each other"
    )


def test_a_quote_too_few_never_hides_rows(tmp_path: Path) -> None:
    for at in (at for at in range(len(LONG)) if LONG[at : at + 1] == b'"'):
        assert refusal(tmp_path, LONG[:at] + LONG[at + 1 :], "ranks.csv").startswith("ranks.csv, line "), at


def test_a_file_is_not_to_be_cut_where_rows_would_be_lost() -> None:
    check_tail(Path("steps.csv"), HEAD + ROW + b'r,"l', len(HEAD + ROW))
    check_tail(Path("steps.csv"), HEAD + ROW, len(HEAD + ROW))
    with pytest.raises(ResultsError):
        check_tail(Path("steps.csv"), HEAD + ROW + b'"' + ROW + ROW, len(HEAD + ROW))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name, reason in (("steps.csv", "No such file or directory"), ("ranks.csv", "Is a directory")):
        (tmp_path / "ranks.csv").mkdir(exist_ok=True)
        with pytest.raises(ResultsError) as error:
            read(tmp_path / name, print)
        assert str(error.value) == f"cannot read {tmp_path / name}: {reason}"
