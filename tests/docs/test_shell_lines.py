"""Every shell line of the documents is run, or says why it is not.

Quickly, each line of `bench` is planned or parsed. Slowly, the lines of each page run one after the other, as a reader
would type them, in a git repository that holds the files of the README and of the page.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fake_nvml
import pytest
from command_line import run_bench
from documents import PAGES, ROOT, Block, blocks, files
from in_process import bench

from bench.comparison.setup import Contest
from bench.errors import BenchError

SHELL = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
LINES = [(block, line) for block in SHELL for line in block.lines]
LANGUAGES = {"sh", "text", "python", "toml", "yaml", "groovy", "mermaid"}
A_VERDICT = (0, 1, 3)  # three steps do not decide much, and which way depends on the machine
# What makes a line short: (its command, more options, allowed exit codes)
SHORT = {
    "run": (("--steps", "3", "--launches", "1", "--quiet"), (0,)),
    "ab": (("--steps", "3", "--blocks", "5", "--quiet"), A_VERDICT),
    "calibrate": (("--steps", "3", "--blocks", "5", "--quiet"), (0,)),
    "check": (("--quiet",), A_VERDICT),
    "compare": ((), A_VERDICT),
}


class PlannedError(BenchError):
    """Ends a comparison when both sides have a plan."""

    exit_code = 0


def name(value: Any) -> str:
    return str(value.page.relative_to(ROOT)) if isinstance(value, Block) else str(value)


def bench_lines(runs: bool | None = None) -> list[tuple[Block, str]]:
    """Return the lines of `bench`: all, or those that are run, or those that are not."""
    found = [(block, line) for block, line in LINES if line.startswith("bench ")]
    return [(block, line) for block, line in found if runs is None or runs != bool(block.why_not_run)]


def test_every_block_has_a_language() -> None:
    unknown = [block for page in PAGES for block in blocks(page) if block.language not in LANGUAGES]
    assert unknown == []
    assert sum(page.read_text().count("```") for page in PAGES) == 2 * sum(len(blocks(page)) for page in PAGES)


def test_a_line_that_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line for block, line in LINES if not (block.why_not_run or line.startswith("bench "))] == []
    with capsys.disabled():
        for block in (block for block in SHELL if block.why_not_run):
            print(f"\n{name(block)}: not run: {block.why_not_run}", end="")
    assert len(bench_lines(runs=True)) > 20


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize(("block", "line"), bench_lines(), ids=name)
def test_every_line_is_understood(block: Block, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is planned by `--dry-run`, a comparison until its first launch; of other commands the options are parsed."""
    facts: fake_nvml.Frame = {"name": "NVIDIA H100 80GB HBM3", "total": 81559 << 20, "capability": (9, 0)}
    fake_nvml.Library(*(fake_nvml.Device(f"GPU-{n}", facts=facts) for n in range(8))).load(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(Contest, "begun", stop_when_planned)
    monkeypatch.setattr("bench.cli.dry_run.described", lambda plan, *_: (plan, {}))  # it would start a rank
    write_files(block.page, tmp_path)
    words = shlex.split(line)[1:]
    more = {"run": ["--dry-run"], "ab": [], "calibrate": []}.get(words[0], ["--help"])
    if {"--resume", "--nnodes"} & set(words):  # there is no run yet, and no other node
        more = ["--help"]
    done = bench(tmp_path, *with_options(words, more))
    assert done.code == 0, done.err
    assert not more or done.out


@contextlib.contextmanager
def stop_when_planned(contest: Contest, watcher: Any) -> Iterator[Any]:
    assert set(contest.plans) == {"A", "B"}
    assert all(planned.skip is None for plan in contest.plans.values() for planned in plan.cases)
    raise PlannedError("planned")
    yield


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", dict.fromkeys(block.page for block, _ in bench_lines(runs=True)), ids=lambda p: p.name)
def test_the_lines_of_a_page_run(page: Path, tmp_path: Path) -> None:
    write_files(page, tmp_path)
    git = ["git", "-c", "user.name=a reader", "-c", "user.email=reader@localhost"]
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "--message=files"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    for line in (line for block, line in bench_lines(runs=True) if block.page == page):
        words = shlex.split(line)[1:]
        more, codes = SHORT.get(words[0], ((), (0,)))
        if {"--dry-run", "--resume"} & set(words):
            more = ()
        done = run_bench(tmp_path, *with_options(words, more), timeout=1800)
        assert done.code in codes, f"{line}\n{done.stderr}"


def with_options(words: list[str], more: Sequence[str]) -> list[str]:
    """Return the words of a line with more options, which come before those of a script."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], *more, *words[end:]]


def write_files(page: Path, folder: Path) -> None:
    for file, text in files(ROOT / "README.md", ROOT / "docs" / "scripts.md", page).items():
        (folder / file).write_text(text)
