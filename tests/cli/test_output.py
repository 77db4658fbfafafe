"""What the command prints, and what becomes of it where nobody reads on."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import start_bench
from in_process import bench as in_process


@pytest.mark.launch
@pytest.mark.parametrize("words", ["--help", "run --help", "results --help", "matrix"])
def test_a_reader_that_has_gone_is_no_verdict(tmp_path: Path, words: str) -> None:
    process = start_bench(tmp_path, *words.split())
    assert process.stdout
    process.stdout.close()
    assert process.wait(60) == 128 + 13  # SIGPIPE; 1 would mean "slower"
    assert process.stderr
    assert process.stderr.read() == ""


@pytest.mark.launch
def test_a_run_whose_reader_has_gone_has_its_own_exit_code(tmp_path: Path) -> None:
    once = ("--strategy", "single", "--device", "cpu", "--steps", "2", "--launches", "1", "--out", "results")
    process = start_bench(tmp_path, "run", "--workload", "mlp", *once)
    assert process.stdout
    process.stdout.close()
    assert process.wait(120) == 0
    [rows] = tmp_path.glob("results/runs/*/launches.csv")
    assert len(rows.read_text().splitlines()) == 1 + 1


@pytest.mark.parametrize("words", ["--help", "run --help", "ab --help", "results rm --help", "list --help"])
def test_an_option_without_a_value_has_no_type(tmp_path: Path, words: str) -> None:
    shown = in_process(tmp_path, *words.split())
    assert shown.code == 0
    assert "--help" in shown.out
    assert "bool" not in shown.out.lower()
