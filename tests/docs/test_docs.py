"""What the documents say is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import PAGES, anchors, files, links

import bench as bench_package
from bench.plan.suite_file import suites
from bench.report.column_docs import filled, tables
from bench.store.columns import LAUNCHES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["options.md", "columns.md"])
def test_the_tables_are_those_of_the_code(page: str) -> None:
    """`make dictionary` makes them anew."""
    text = (ROOT / "docs" / page).read_text()
    assert filled(text) == text


def test_every_table_is_on_a_page() -> None:
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("options.md", "columns.md"))
    assert re.findall(r"<!-- table: (\S+) -->", pages) == list(tables())


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.is_file() or (there / "README.md").is_file(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_listed() -> None:
    docs = ROOT / "docs"
    for folder in (docs, docs / "adr"):
        listed = {(folder / target).resolve() for target in links(folder / "README.md")}
        assert set(folder.glob("*.md")) - {folder / "README.md"} <= listed


def test_the_changelog_begins_with_this_version_and_its_date() -> None:
    first = re.search(r"^## (.+)$", (ROOT / "docs" / "changelog.md").read_text(), re.MULTILINE)
    assert first is not None
    assert re.fullmatch(rf"{re.escape(bench_package.__version__)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", first[1])


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


def test_the_tree_has_the_folders_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page.partition("## The tree")[2].partition("```text")[2].partition("```")[0]
    named = set(re.findall(r"^ *([a-z_]+)/  ", tree, re.MULTILINE))
    there = {folder.name for folder in (ROOT / "bench").iterdir() if (folder / "__init__.py").exists()}
    beside = {"bench", "workloads", "launch", "results", "tests", "docs"}
    assert named == there | beside
    assert all((ROOT / folder).is_dir() for folder in beside)


def test_every_suite_says_what_it_answers() -> None:
    assert list(suites()) == ["ci", "memory", "quick", "scaling", "strategies", "tuning"]
    assert all(about.endswith(" on two cores.") for about in suites().values())


def write_own_workload(folder: Path, decoys: list[str]) -> list[str]:
    """Write the README's mine.py beside files that have the names of ours; return the options that run it."""
    source = files(ROOT / "README.md")["mine.py"]
    assert len(source.splitlines()) < 30
    (folder / "mine.py").write_text("import sibling\n" + source)
    (folder / "sibling.py").write_text("")
    for decoy in decoys:
        (folder / decoy).parent.mkdir(exist_ok=True)
        (folder / decoy).write_text("raise RuntimeError('the decoy was imported')\n")
    (options,) = re.findall(r"bench run (--workload mine.py:Regression:width.*)", README)
    return [*options.split(), "--steps", "5", "--launches", "1", "--quiet"]


@pytest.mark.launch
@pytest.mark.slow
def test_the_readmes_own_workload_runs(bench: Any, tmp_path: Path) -> None:
    run = bench("run", *write_own_workload(tmp_path, ["launch.py"]))
    assert run.code == 0, run.stderr
    assert [(row["strategy"], row["status"]) for row in run.by_case()] == [
        ("single", "ok"),
        ("ddp", "ok"),
        ("fsdp", "ok"),
    ]
    # width 128: three layers of 128 x 128 + 128, and 128 + 1
    assert {row["parameters"] for row in run.rows()} == {str(3 * (128 * 128 + 128) + 129)}


@pytest.mark.launch
def test_the_readmes_own_workload_runs_beside_decoys(tmp_path: Path) -> None:
    """Under the installed command: `python -m bench` would find a bench.py in its folder itself."""
    options = write_own_workload(tmp_path, ["workloads/__init__.py", "bench.py", "launch/__init__.py"])
    script = str(Path(sys.executable).parent / "bench")
    done = subprocess.run([script, "run", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
