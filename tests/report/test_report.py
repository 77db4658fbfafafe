"""Whole outputs of ``bench report`` on the made-up runs in tests/data, and what it says when it cannot."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import Run
from in_process import run_bench

DATA = Path(__file__).parents[1] / "data"
RUNS = ("20261102-090000-5e1f", "20260904-141500-07b2")
WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """The command with everything that it writes, once."""
    folder = tmp_path_factory.mktemp("report")
    words = ("report", *RUNS, "--out", str(DATA / "results"), "--within-gib", "24,8")
    files = ("--csv", "csv", "--md", "report.md", "--html", "report.html", "--plots", "plots")
    return run_bench(folder, *words, *files), folder


def test_terminal(made: tuple[Run, Path], golden: Golden) -> None:
    done, _ = made
    assert done.code == 0, done.stderr
    golden("report.txt", "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n")


def test_what_was_dropped_and_written_is_told(made: tuple[Run, Path]) -> None:
    done, folder = made
    torn, *wrote = done.stderr.splitlines()
    assert torn == (
        f"warning: {DATA / 'results' / 'runs' / RUNS[0] / 'launches.csv'}, line 126: the last row is not whole "
        "(its writer was killed, or is at work) and is left out"
    )
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*"))
    assert sorted(line.removeprefix("wrote ") for line in wrote) == there


@pytest.mark.parametrize("name", ["summary", "scaling", "tradeoff", "tuning", "failures"])
def test_csv(made: tuple[Run, Path], golden: Golden, name: str) -> None:
    golden(f"{name}.csv", (made[1] / "csv" / f"{name}.csv").read_bytes().decode())


def test_markdown(made: tuple[Run, Path], golden: Golden) -> None:
    text, times = WHEN.subn("WHEN", (made[1] / "report.md").read_text())
    assert times == 1
    golden("report.md", text)


class Outline(HTMLParser):
    """What a page consists of: headings, figures, and each table with its columns and how many rows it has."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._text: list[str] | None = None
        self._rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h1", "h2", "h3", "h4", "caption", "th", "title"):
            self._text = []
        elif tag in ("figure", "section", "main", "nav", "footer"):
            self.lines.append(f"<{tag} {dict(attrs).get('id') or ''}>")
        elif tag == "tr":
            self._rows += 1
        elif tag == "table":
            self._rows = 0

    def handle_endtag(self, tag: str) -> None:
        if self._text is not None and tag in ("h1", "h2", "h3", "h4", "caption", "th", "title"):
            if tag != "th" or self._rows == 1:  # a header, not the head of a row
                self.lines.append(f"{tag}: {' '.join(''.join(self._text).split())}")
            self._text = None
        elif tag == "table":
            self.lines.append(f"rows: {self._rows - 1}")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


def test_structure_of_the_page(made: tuple[Run, Path], golden: Golden) -> None:
    outline = Outline()
    outline.feed((made[1] / "report.html").read_text())
    golden("page.txt", "\n".join(outline.lines) + "\n")


def test_each_chart_is_there_as_png_and_as_svg(made: tuple[Run, Path]) -> None:
    files = sorted((made[1] / "plots").iterdir())
    assert {file.suffix for file in files} == {".png", ".svg"}
    assert [f.stem for f in files if f.suffix == ".png"] == [f.stem for f in files if f.suffix == ".svg"]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml")


def test_the_latest_run_is_the_default(tmp_path: Path) -> None:
    done = run_bench(tmp_path, "report", "--out", str(DATA / "results"))
    assert done.code == 0
    assert "42 cases, 120 launches in 1 run" in done.stdout  # the run of November, not that of September


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["20261102"], 5, "run: got '20261102'"),
        (["--within-gib", "many"], 2, "--within-gib: got 'many'; allowed: numbers above 0, such as 24,80."),
        (["--within-gib", "0"], 2, "--within-gib: got '0'; allowed: numbers above 0, such as 24,80."),
        (["--within-gib", "inf"], 2, "--within-gib: got 'inf'; allowed: numbers above 0, such as 24,80."),
        ([RUNS[1], "--md", "/proc/none/report.md"], 5, "cannot write /proc/none/report.md: "),
        ([RUNS[1], "--html", "/dev/full"], 5, "cannot write /dev/full: No space left on device. Choose another path."),
        ([RUNS[1], "--plots", "/proc/none"], 5, "cannot write plots to /proc/none: "),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path: Path, words: list[str], code: int, message: str) -> None:
    done = run_bench(tmp_path, "report", "--out", str(DATA / "results"), *words)
    assert done.code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    # what cannot be written can still be read
    assert (" launches in 1 run" in done.stdout) == ("cannot write" in message)


def test_steps_that_cannot_be_read_cost_the_report_only_themselves(tmp_path: Path) -> None:
    shutil.copytree(DATA / "results" / "runs" / RUNS[1], tmp_path / "results" / "runs" / RUNS[1])
    file = tmp_path / "results" / "runs" / RUNS[1] / "steps.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:3], lines[3].replace(",2,", ",two,", 1), *lines[4:]]))
    done = run_bench(tmp_path, "report", "--html", "report.html")
    assert done.code == 0
    assert f"warning: the report has no steps of {RUNS[1]}: " in done.stderr
    assert "line 4, column step: got 'two'" in done.stderr
    assert "2 cases, 6 launches in 1 run; every launch was ok." in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 0


def test_a_file_called_none_is_no_file_of_steps(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("no steps\n")
    done = run_bench(tmp_path, "report", RUNS[1], "--out", str(DATA / "results"), "--html", "report.html")
    assert (done.code, done.stderr) == (0, "wrote report.html\n")


def test_a_run_that_holds_only_probes_has_nothing_to_report(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / RUNS[1]
    folder.mkdir(parents=True)
    text = (DATA / "results" / "runs" / RUNS[1] / "launches.csv").read_text()
    assert text.count(",measure,") == 6
    (folder / "launches.csv").write_text(text.replace(",measure,", ",probe,"))
    done = run_bench(tmp_path, "report")
    assert (done.code, done.stdout) == (5, "")
    assert f"no launch is recorded in {folder}. Choose another run." in done.stderr


def test_a_run_without_launches_has_nothing_to_report(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / RUNS[1]
    folder.mkdir(parents=True)
    header = (DATA / "results" / "runs" / RUNS[1] / "launches.csv").read_text().partition("\n")[0]
    (folder / "launches.csv").write_text(header + "\n")
    done = run_bench(tmp_path, "report")
    assert done.code == 5
    assert f"no launch is recorded in {folder}. Choose another run." in done.stderr
