"""Texts that ranks, files and users give: what is written and printed of them steers nothing."""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from command_line import run_bench
from made_up_rows import launch, write
from rich.table import Table
from rich.text import Text

from bench import cli
from bench.report.format import SafeConsole
from bench.report.progress import Plain
from bench.store.columns import FILES
from bench.store.reader import read
from bench.store.writer import Store
from bench.untrusted.text import escaped, printable

JOINERS = "\u200c\u200d"  # letters of some scripts, and emoji, are joined by them
KEPT = "\t\n"
# by Unicode's own categories: control, format, surrogates, separators of lines and of paragraphs
STEERING = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") or code in (0xFFFE, 0xFFFF, 0xAD, 0xFEFF)
] + ["\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]
HOSTILE = (
    "\0one\x1b]0;title\x07\x1b[2J\r\x9b31m\u202etxt\ud800\n::error::owned\n  ::set-output name=x::y ##vso[a]b ##[c]"
)
ALLOWED = "größer, 漢字\u3000, \u05e9\u05dc\u05d5\u05dd, a\u0301, \U0001f468\u200d\U0001f469, \xa0, C:\\new"


def test_control_characters_are_written_as_python_writes_them() -> None:
    assert escaped("a\0b\x1b[31mc\x7fd\x9be\u202ef\u2028g\ud800h\U000e0001") == (
        "a\\x00b\\x1b[31mc\\x7fd\\x9be\\u202ef\\u2028g\\ud800h\\U000e0001"
    )
    for character in set(STEERING) - set(KEPT):
        assert escaped(character) == repr(character)[1:-1].replace("\\r", "\\x0d"), ascii(character)
    assert escaped(ALLOWED + JOINERS + KEPT) == ALLOWED + JOINERS + KEPT
    assert escaped(escaped(HOSTILE)) == escaped(HOSTILE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "\\x3a:error::x"),
        (" \t::set-output name=a::b", " \t\\x3a:set-output name=a::b"),
        ("a\n::stop-commands::t\nb", "a\n\\x3a:stop-commands::t\nb"),
        ("a ##vso[task.complete]", "a \\x23#vso[task.complete]"),
        ("###[debug]x", "#\\x23#[debug]x"),
        ("##teamcity[testFailed]", "\\x23#teamcity[testFailed]"),
        ("std::vector: #1 [2] ## 3", "std::vector: #1 [2] ## 3"),
    ],
)
def test_no_printed_line_is_a_command_to_a_ci(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert commands(printable(text)) == []


def commands(text: str) -> list[str]:
    """What GitHub, Azure and TeamCity would obey, as their runners look for it."""
    lines = [line.lstrip() for line in re.split(r"[\r\n]", text)]
    return [line for line in lines if line.startswith("::") or re.search(r"##(\[|vso\[|teamcity\[)", line)]


@pytest.mark.parametrize("name", FILES)
def test_every_text_column_of_every_file_comes_back(tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path)
    texts = [column for column, (kind, *_) in FILES[name].items() if kind == "text"]
    store.append(name, [dict.fromkeys(texts, HOSTILE + "a".join(STEERING))])
    raw = (store.folder / name).read_bytes()
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", raw)
    [row] = read(store.folder / name, pytest.fail)
    assert all(row[column].startswith("\\x00one\\x1b]0;title\\x07") for column in texts)


def test_what_an_older_version_wrote_is_escaped_when_it_is_read(tmp_path: Path) -> None:
    head, row = ["run_id", "rank", "failure"], 'r,1,"a\x1b[31m\u202eb\r\nc\x85\rd"'
    (tmp_path / "ranks.csv").write_text(f"{','.join(head)}\r\n{row}\r\n", newline="")
    [found] = read(tmp_path / "ranks.csv", pytest.fail)
    assert found["failure"] == "a\\x1b[31m\\u202eb\r\nc\\x85\rd"


def test_a_console_prints_nothing_that_steers(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, width=40, color_system="standard")
    table = Table("a", "b", show_edge=False)
    table.add_row(Text("::error::x"), Text(HOSTILE, "red"))
    console.print(Text(HOSTILE, "red"), soft_wrap=True)
    console.print(table)
    observer = Plain(console)
    observer.note(f"warning: {HOSTILE}")
    observer.launch_ends(launch(status="crashed", reason=HOSTILE, samples_per_s=None))
    shown = file.getvalue()
    assert "\x1b[31m" in shown  # a colour of ours
    ours = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ours)
    assert commands(ours) == []


def test_messages_of_the_command_steer_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = HOSTILE.replace("\0", "")  # which no argument can hold
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "results/runs/r", [launch(status="crashed", reason=HOSTILE, case_id="::error::c")])
    for words in (
        ["report", hostile],
        ["run", "--suite", hostile],
        ["run", "--workload", hostile],
        ["run", f"--{hostile}"],
        [hostile],
        ["compare", hostile, "::error::"],
        ["report", "r", "--html", f"{tmp_path}/{hostile}/x.html"],
        ["results", "show", "r"],
        ["report", "r"],
    ):
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        monkeypatch.setattr("bench.interrupts.install", lambda: None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = "".join(capsys.readouterr())
        assert end.value.code != 70, said
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said), words
        assert commands(said) == [], words


@pytest.mark.launch
@pytest.mark.slow
def test_a_hostile_message_of_a_rank_costs_nothing_else(tmp_path: Path) -> None:
    """The row is there, the good row beside it is read, and the run can be taken up again."""
    faulty = f"{Path(__file__).parents[1]}/helpers/faulty.py:Faulty"
    words = ("--device", "cpu", "--strategy", "single", "--steps", "3", "--launches", "1", "--hang-timeout", "30")
    done = run_bench(tmp_path, "run", "--workload", f"{faulty}:fault=hostile,{faulty}", *words)
    assert done.code == 5
    bad, good = done.by_case()
    assert bad["reason"].endswith("ValueError: ::error::a zero byte \\x00, an escape \\x1b[2J, a turn \\u202e")
    assert (bad["status"], good["status"]) == ("crashed", "ok")
    report = run_bench(tmp_path, "report", "--html", "page.html")
    assert report.code == 0, report.stderr
    again = run_bench(tmp_path, "run", "--resume", "latest", "--retry", "failed")
    assert [row["status"] for row in again.by_case()] == ["crashed", "crashed", "ok"]
    for said in (done, report, again):
        assert commands(said.stdout + said.stderr) == []
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said.stdout + said.stderr)
