"""The project's own workflows and hooks: rules of actionlint that can be checked without it, and what must agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from ci_files import read_yaml, schema_errors

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {file.stem: read_yaml(file.read_text(encoding="utf-8")) for file in FILES}
JOBS = {f"{name}/{job}": found for name, workflow in WORKFLOWS.items() for job, found in workflow["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_there_are_tests_a_nightly_run_and_one_on_a_gpu() -> None:
    assert list(WORKFLOWS) == ["gpu", "nightly", "tests"]
    assert WORKFLOWS["tests"]["on"].keys() == {"push", "pull_request"}
    assert "schedule" in WORKFLOWS["nightly"]["on"]
    assert WORKFLOWS["gpu"]["on"] == "workflow_dispatch"  # no code of pull requests on a runner of our own


def test_the_schema_of_workflows_accepts_them() -> None:
    assert schema_errors("github-workflows", *FILES) == ""


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow.keys() <= {"name", "on", "permissions", "concurrency", "env", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_says_where_how_long_and_what(name: str) -> None:
    job = JOBS[name]
    assert {"runs-on", "timeout-minutes", "steps"} <= job.keys()
    assert job.keys() <= {"runs-on", "timeout-minutes", "steps", "strategy"}
    assert int(job["timeout-minutes"]) > 0
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert step.keys() <= {"name", "uses", "with", "run", "if"}
    assert job["steps"][0]["uses"].startswith("actions/checkout@")


def test_actions_have_a_version() -> None:
    used = {step["uses"] for step in STEPS if "uses" in step}
    assert used == {"actions/checkout@v5", "actions/setup-python@v6", "actions/upload-artifact@v6"}


def test_no_script_holds_an_expression() -> None:
    assert [step["run"] for step in STEPS if "${{" in step.get("run", "")] == []  # bash would read what is pasted in


def test_every_expression_is_known_where_it_stands() -> None:
    for name, workflow in WORKFLOWS.items():
        for expression in re.findall(r"\$\{\{ (.*?) \}\}", str(workflow)):
            assert expression in ("github.ref", "matrix.python-version"), name


def test_the_versions_of_python_are_those_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert JOBS["tests/unit"]["strategy"]["matrix"]["python-version"] == promised == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == f">={promised[0]}"


def test_lint_is_the_same_in_make_in_the_workflow_and_before_a_commit() -> None:
    makefile = (ROOT / "Makefile").read_text()
    rule = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    made = re.findall(r"\$\(BIN\)/(.+)", rule)
    assert [step["run"] for step in JOBS["tests/lint"]["steps"] if "name" not in step and "run" in step] == made
    (repo,) = read_yaml((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert [hook["name"] for hook in repo["hooks"]] == [re.sub(r" --check| \.", "", line) for line in made]
    for hook in repo["hooks"]:
        assert hook["entry"].startswith(f".venv/bin/{hook['name']}")
        assert hook.keys() >= {"id", "name", "entry", "language"}


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = [step["run"].split()[1] for step in STEPS if step.get("run", "").startswith("make ")]
    assert used
    assert set(used) <= targets
