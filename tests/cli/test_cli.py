"""The command line: bad input gets one message and exit code 2, and nothing of it imports torch."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from in_process import run_bench
from rich.console import Console

from bench.cli import _check_own_packages
from bench.cli.list_ import _TABLES, list_
from bench.errors import UsageError
from bench.plan.options import AXES, SETTINGS

CPU = ("--device", "cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workload", "resnet81"], "--workload: got 'resnet81'; allowed: resnet18, resnet50, vit-b-16, mnist-cnn, gpt, gpt-nano, gpt-124m, gpt-350m, llama, llama-nano, llama-1b, llama-8b, bert, dlrm, mlp, timm, torchvision, hf, file.py:Name. Did you mean 'resnet18' or 'resnet50'?"),
        (["--strategy", "fdsp"], "--strategy: got 'fdsp'; allowed: single, dp, ddp, zero1, fsdp. Did you mean 'fsdp' or 'dp'?"),
        (["--gpus", "0", *CPU], "--gpus: got '0'; allowed: a whole number from 1, all, 1..N, 1..all."),
        (["--steps", "many", *CPU], "--steps: got 'many'; allowed: a whole number from 2."),
        (["--num-workers", "2", *CPU], "--num-workers has no effect with --data resident, which needs no DataLoader. Add --data synthetic (or files)."),
        (["--pin-memory", "on", "--data", "synthetic", *CPU], "--pin-memory has no effect on the CPU. Add --device cuda, or leave --pin-memory out."),
        (["--prefetch-factor", "4", "--num-workers", "0", "--data", "synthetic", *CPU], "--prefetch-factor has no effect without DataLoader workers. Add --num-workers 1 or more."),
        (["--data", "folder=/nowhere", *CPU], "--data: got 'folder=/nowhere'; allowed: a folder that exists."),
        (["--data", "text=/nowhere", "--workload", "gpt-nano", *CPU], "--data: got 'text=/nowhere'; allowed: one text file that exists."),
        (["--workload", "nowhere.py:Name", *CPU], "--workload: got 'nowhere.py:Name'; allowed: a Python file that exists."),
        (["--suite", "quik"], "--suite: got 'quik'; allowed: ci, memory, quick, scaling, strategies, tuning, or a path to a TOML file. Did you mean 'quick'?"),
        (["--suite", ""], "--suite: got ''; allowed: ci, memory, quick, scaling, strategies, tuning, or a path to a TOML file."),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_2(bench_here: Any, words: list[str], message: str) -> None:
    run = bench_here("run", *words)
    assert (run.code, run.stdout, run.stderr) == (2, "", f"bench: {message}\n")
    assert run.folder is None


def test_an_empty_folder_and_a_short_text_are_told(bench_here: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "short").write_text("too short")
    empty = bench_here("run", "--data", "folder=empty", *CPU)
    assert (empty.code, empty.stderr) == (
        2,
        "bench: --data: got 'folder=empty'; allowed: a folder with images as CLASS/FILE, where FILE ends in "
        ".jpg, .jpeg, .png.\n",
    )
    short = bench_here("run", "--workload", "gpt-nano", "--data", "text=short", *CPU)
    assert (short.code, short.stderr) == (
        2,
        "bench: --data: got 'text=short'; allowed: a file of at least 129 bytes: one sequence (seq + 1); it has 9.\n",
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("import nowhere_at_all\n", "No module named 'nowhere_at_all'", marks=pytest.mark.slow),
        pytest.param("class Other: ...\n", "own.py has no 'Name'", marks=pytest.mark.slow),
        ("class Name:\n    unit = 'samples'\n", "is not a workload: it lacks batch_size, build, loss, samples, layers"),
    ],
)
def test_a_users_file_that_is_no_workload_is_told_before_any_launch(
    bench: Any, tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "own.py").write_text(source)
    run = bench("run", "--workload", "own.py:Name", *CPU, "--quiet")
    assert run.code == 2
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
    assert run.rows() == []


def test_help_shows_every_default(tmp_path: Path) -> None:
    """What stands in brackets is not taken for markup."""
    wide = {"COLUMNS": "500"}
    text = run_bench(tmp_path, "run", "--help", more=wide).stdout
    for option in (*AXES.values(), *SETTINGS.values()):
        if option.default is not None:
            assert f"{option.help} [default: {option.shown_default}]" in text
    text = run_bench(tmp_path, "ab", "--help", more=wide).stdout
    assert "[default: by --budget or bench calibrate, else 8]" in text
    assert "[default: 3%]" in text


LISTS = (["--help"], *(["list", what] for what in ("workloads", "strategies", "suites", "options")))
RESULTS = str(Path(__file__).parents[1] / "data" / "results")


@pytest.mark.launch
@pytest.mark.parametrize(
    ("forbidden", "commands"),
    [
        (
            ("torch",),
            (
                *LISTS,
                ["env"],
                ["run", "--dry-run", "--suite", "quick", "--device", "cpu"],
                ["report", "--out", RESULTS],
            ),
        ),
        (("torch", "numpy", "pandas", "matplotlib", "scipy"), (*LISTS, ["run", "--help"], ["report", "--help"])),
    ],
    ids=["torch", "for tables"],
)
def test_what_needs_no_large_package_imports_none(
    tmp_path: Path, forbidden: Sequence[str], commands: Sequence[list[str]]
) -> None:
    """With packages on the path that cannot be imported, all that needs none still works."""
    for package in forbidden:
        (tmp_path / f"{package}.py").write_text(f"raise ImportError('{package} was imported')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_dry_run_shows_what_is_skipped_and_why(bench_here: Any) -> None:
    words = ("--workload", "mlp,gpt-nano", "--data", "text=demo", "--strategy", "single,ddp", "--gpus", "2", *CPU)
    run = bench_here("run", "--dry-run", *words)
    assert run.code == 0
    assert "mlp cannot read text; it takes resident, synthetic" in run.stdout
    assert "2 of 4 cases x 3 launches = 6" in run.stdout
    assert run.folder is None


def test_a_checkout_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(
        UsageError, match=r"^stepbench is not completely installed: 'launch' is missing. Run pip install /"
    ):
        _check_own_packages()


def test_a_locale_without_our_dashes_loses_no_answer(bench: Any) -> None:
    """As LANG=en_US, which is ISO-8859-1 on many a cluster; the C locale is UTF-8 since Python 3.7."""
    known, plain = (bench("list", "options", environment={"PYTHONIOENCODING": name}) for name in ("utf-8", "ascii"))
    assert (known.code, plain.code, plain.stderr) == (0, 0, "")
    assert not known.stdout.isascii()
    assert plain.stdout.isascii()
    words, told = (re.findall(r"[\w.-]+", run.stdout, re.ASCII) for run in (known, plain))
    assert [word for word in told if word.isalpha()] == [word for word in words if word.isalpha()]


@pytest.mark.parametrize("what", ["workloads", "strategies", "options", "suites"])
def test_a_narrow_terminal_cuts_no_word(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns: no word that fits a column is folded or lost, and no line is longer than the terminal."""
    console = Console(width=80, file=(screen := io.StringIO()))
    monkeypatch.setattr("bench.cli.list_.wide_console", lambda: console)
    assert list_(what) == 0
    shown = screen.getvalue()
    words = {word for column in _TABLES[what]().columns for cell in column.cells for word in str(cell).split()}
    assert {word for word in words if len(word) <= 20} <= set(shown.split())
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_another_launch_package_on_pythonpath_is_told(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "launch.py").write_text("")
    run = bench("list", "suites", environment={"PYTHONPATH": str(tmp_path)})
    assert run.code == 2
    assert "hides stepbench's own 'launch'" in run.stderr
