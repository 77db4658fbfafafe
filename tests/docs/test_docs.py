"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.plan.suite_file import suites
from bench.report.column_docs import dictionary, options_table, values_table, workloads_table
from bench.store.columns import LAUNCHES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_data_dictionary_is_that_of_the_code() -> None:
    assert (ROOT / "results" / "README.md").read_text() == dictionary()


def test_the_readme_has_every_option() -> None:
    assert options_table() in README


def test_the_readme_has_every_value_and_workload() -> None:
    assert values_table() in README
    assert workloads_table() in README


def test_names_that_others_build_on_are_columns() -> None:
    named = [
        "run_id",
        "launch_id",
        "case_id",
        "status",
        "reason",
        "world_size",
        "global_batch",
        "samples_per_s",
        "tokens_per_s",
        "step_ms",
        "step_p95_ms",
        "data_wait_ms",
        "first_step_ms",
        "compile_s",
        "startup_s",
        "mfu",
        "peak_allocated_mib",
        "peak_reserved_mib",
        "peak_rss_mib",
        "rss_growth_mib",
        "work_key",
        "env_key",
        "workload",
        "strategy",
        "gpus",
        "precision",
        "schema",
        "role",
        "order",
        "block",
        "side",
    ]
    assert set(named) <= LAUNCHES.keys()


def test_the_readmes_tree_has_the_folders_that_are_there() -> None:
    tree = README.partition("## The tree")[2].partition("```")[2].partition("```")[0]
    named = set(re.findall(r"(?:^| )([a-z_]+)/  ", tree, re.MULTILINE))
    there = {folder.name for folder in (ROOT / "bench").iterdir() if (folder / "__init__.py").exists()}
    beside = {"bench", "workloads", "launch", "results", "tests", "docs"}
    assert named == there | beside
    assert all((ROOT / folder).is_dir() for folder in beside)


def test_every_suite_says_what_it_answers() -> None:
    assert list(suites()) == ["ci", "memory", "quick", "scaling", "strategies", "tuning"]
    assert all(about.endswith(" on two cores.") for about in suites().values())
    for name, about in suites().items():  # the README has the question, and leaves the time to the suite
        assert f"| `{name}` | {about.partition('?')[0]}? |" in README


@pytest.mark.parametrize(
    "decoys",
    [
        pytest.param(["launch.py"], marks=pytest.mark.slow),
        ["workloads/__init__.py", "bench.py", "launch/__init__.py"],
    ],
)
def test_the_readmes_own_workload_runs_beside_decoys(bench: Any, tmp_path: Path, decoys: list[str]) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(source.splitlines()) < 30
    (tmp_path / "mine.py").write_text("import sibling\n" + source)
    (tmp_path / "sibling.py").write_text("")
    for decoy in decoys:
        (tmp_path / decoy).parent.mkdir(exist_ok=True)
        (tmp_path / decoy).write_text("raise RuntimeError('the decoy was imported')\n")
    (command,) = re.findall(r"bench run (--workload mine.py:Regression:width.*)", README)
    brief = ("--steps", "5", "--launches", "1", "--quiet")
    if "bench.py" in decoys:  # python -m bench would find it itself; the installed command does not
        import subprocess
        import sys

        script = str(Path(sys.executable).parent / "bench")
        done = subprocess.run([script, "run", *command.split(), *brief], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    run = bench("run", *command.split(), *brief)
    assert run.code == 0, run.stderr
    assert [(row["strategy"], row["status"]) for row in run.by_case()] == [
        ("single", "ok"),
        ("ddp", "ok"),
        ("fsdp", "ok"),
    ]
    # width 128: three layers of 128 x 128 + 128, and 128 + 1
    assert {row["parameters"] for row in run.rows()} == {str(3 * (128 * 128 + 128) + 129)}
