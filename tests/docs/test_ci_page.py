"""docs/ci.md: its pipelines are valid, its scripts do what the page says, its commands have only options that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ci_files import BASH, GITHUB_BASH, JENKINS_SH, SAYS_WORDS, read_yaml, run, said, schema_errors, step
from documents import ROOT, blocks
from in_process import bench
from made_up_gates import FLAGGED, GATE, GOOD, UNLIKE
from made_up_rows import session, write

from bench.errors import EXIT_BUG, EXIT_USAGE
from bench.plan.options import AXES, SETTINGS
from bench.plan.suite_file import suites
from bench.plan.workload_spec import parse_workload
from bench.report.gate import OUTCOMES, outcome
from bench.stats.verdict import Gate

FILE = ROOT / "docs" / "ci.md"
PAGE = FILE.read_text()
OUT = {"--out", "--json"}
RUN = (
    {option.flag for option in [*AXES.values(), *SETTINGS.values()]} | {"--suite", "--scaling", "--oversubscribe"} | OUT
)
SIDES = {f"--{side}{what}" for side in "ab" for what in ("", "-python", "-rev", "-env")}
GATES = {"--detect", "--floor", "--floor-memory", "--strict", "--junit", "--md", "--json-file"}
COMMANDS = {
    "run": RUN,
    "ab": RUN | SIDES | GATES | {"--duet", "--blocks"},
    "calibrate": RUN | {"--duet", "--blocks", "--detect"},
    "check": RUN | GATES | {"--baseline", "--run"},
    "baseline add": OUT,
    "baseline rm": {"--yes"} | OUT,
    "results export": {"--pytest-benchmark"} | OUT,
    "lock": {"--check"},
    "history add": {"--branch", "--push"} | OUT,
    "history page": {"--branch", "--html"} | OUT,
}

DOCUMENTS = [block.text for block in blocks(FILE) if block.language == "yaml"]
GITHUB, GITLAB, NIGHTLY, HISTORY = map(read_yaml, DOCUMENTS)
GATE_JOB = GITHUB["jobs"]["gate"]
[JENKINS] = [block.text for block in blocks(FILE) if block.language == "groovy"]

# -- the workflows -------------------------------------------------------------------------------------------------


def test_the_schemas_accept_the_pipelines(tmp_path: Path) -> None:
    names = ("github.yml", "gitlab.yml", "nightly.yml", "history.yml")
    github, gitlab, *others = [tmp_path / name for name in names]
    for name, text in zip(names, DOCUMENTS, strict=True):
        (tmp_path / name).write_text(text)
    assert schema_errors("github-workflows", github, *others) == ""
    assert schema_errors("gitlab-ci", gitlab) == ""
    github.write_text(DOCUMENTS[0].replace("runs-on:", "runs-at:", 1))
    gitlab.write_text(DOCUMENTS[1].replace("script:", "scripts:", 1))
    assert "runs-at" in schema_errors("github-workflows", github)
    assert "scripts" in schema_errors("gitlab-ci", gitlab)


def test_what_github_needs_is_there() -> None:
    for workflow in (GITHUB, NIGHTLY, HISTORY):
        assert {"name", "on", "permissions", "jobs"} <= workflow.keys()
        for job in workflow["jobs"].values():
            assert {"runs-on", "timeout-minutes", "steps"} <= job.keys()
            for one in job["steps"]:
                assert ("uses" in one) != ("run" in one)
                assert one.keys() <= {"name", "id", "uses", "with", "run", "env", "if", "continue-on-error"}
                ours = [f"OWNER/stepbench/.github/actions/{name}@COMMIT" for name in ("bench", "bench-comment")]
                assert one.get("uses") in (None, *ours) or re.fullmatch(r"actions/[\w-]+@v\d+", one["uses"])
    assert GITHUB["on"] == "pull_request"
    assert GATE_JOB["steps"][0]["with"] == {"fetch-depth": "0", "persist-credentials": "false"}  # for the merge base
    assert GITHUB["jobs"]["comment"]["needs"] == "gate"


def test_only_the_job_that_runs_no_code_of_the_change_may_write() -> None:
    assert GITHUB["permissions"] == {"contents": "read"}
    assert "permissions" not in GITHUB["jobs"]["gate"]
    assert GITHUB["jobs"]["comment"]["permissions"] == {"pull-requests": "write"}
    [only] = GITHUB["jobs"]["comment"]["steps"]
    assert only == {"uses": "OWNER/stepbench/.github/actions/bench-comment@COMMIT"}


def test_the_actions_are_given_inputs_that_they_have() -> None:
    action = read_yaml((ROOT / ".github" / "actions" / "bench" / "action.yml").read_text())
    given = GATE_JOB["steps"][1]["with"]
    assert given.keys() <= action["inputs"].keys()
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= given.keys()
    named = set(re.findall(r"`([a-z-]+): ", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))
    assert named - {"fetch-depth", "contents", "ref", "runs-on", "tool", "output-file-path"} == {"base", "torch-index"}
    assert set(re.findall(r"`(verdict|[a-z-]*exit-code)`", PAGE)) == action["outputs"].keys()


def test_no_script_holds_an_expression() -> None:
    for workflow in (GITHUB, NIGHTLY, HISTORY):
        scripts = [one["run"] for job in workflow["jobs"].values() for one in job["steps"] if "run" in one]
        assert not [script for script in scripts if "${{" in script]  # they would be pasted in before bash reads them


def test_what_gitlab_needs_is_there() -> None:
    (job,) = GITLAB.values()
    assert job["timeout"] == "30 minutes"
    assert job["allow_failure"] == {"exit_codes": "3"}
    assert job["artifacts"]["reports"] == {"junit": "gate.xml"}
    assert job["artifacts"]["when"] == "always"
    assert job["variables"]["GIT_DEPTH"] == "0"  # for the merge base


def test_what_jenkins_needs_is_there() -> None:
    plain = re.sub(r"'''.*?'''", "", JENKINS, flags=re.DOTALL)
    assert [plain.count(mark) for mark in "{("] == [plain.count(mark) for mark in "})"]
    sections = re.findall(r"^  (\w+) \{$", plain, re.MULTILINE)
    assert sections == ["agent", "options", "environment", "stages", "post"]
    assert "timeout(time: 30, unit: 'MINUTES')" in plain
    assert re.findall(r"stage\('(\w+)'\)", plain) == ["Install", "Lock", "Compare"]
    assert re.search(r"code == 3\) \{\s+unstable .*\s+\} else if \(code != 0\) \{\s+error ", plain)


# -- the scripts, with commands that only end --------------------------------------------------------------------------


CODES = [(0, 0), (1, 0), (4, 0), (0, 1), (0, 3), (1, 3), (4, 5), (0, 70), (0, 143)]
SAYS_LINES = 'echo "$*" >> calls'


def lock_and_ab(lock: int, ab: int) -> dict[str, str]:
    return {"bench": f'{SAYS_LINES}; case "$1" in lock) exit {lock};; ab) exit {ab};; history) exit 1;; esac'}


def calls(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "calls").read_text().splitlines()]


def gitlab(*without: str) -> str:
    return "\n".join(line for line in GITLAB["training speed"]["script"] if not any(word in line for word in without))


@pytest.mark.parametrize(("lock", "ab"), CODES)
def test_gitlab_compares_times_in_any_case_and_fails_for_a_lock_that_failed(tmp_path: Path, lock: int, ab: int) -> None:
    (tmp_path / "bench.lock").touch()
    done = run(gitlab("pip install"), tmp_path, lock_and_ab(lock, ab), GITHUB_BASH)
    assert done.returncode == (lock or ab)
    assert calls(tmp_path) == ["lock", "ab"]
    after = "\n".join(GITLAB["training speed"]["after_script"])
    assert run(after, tmp_path, {"bench": SAYS_LINES}, GITHUB_BASH).returncode == 0
    assert calls(tmp_path)[2:] == ["history", "history"]


def test_gitlab_compares_times_without_a_lock(tmp_path: Path) -> None:
    assert run(gitlab("pip install"), tmp_path, lock_and_ab(4, 0), GITHUB_BASH).returncode == 0
    assert calls(tmp_path) == ["ab"]


def jenkins(tmp_path: Path, stage: int, commands: dict[str, str], **environ: str) -> int:
    """Run the script of a stage where the steps before it made an environment; its exit code."""
    script = re.findall(r"'''\n(.*?)'''", JENKINS, re.DOTALL)[stage]
    (tmp_path / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    return run(script, tmp_path, commands, JENKINS_SH, **environ).returncode


def test_jenkins_installs_in_an_environment_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "gate.xml").touch()  # of the build before
    commands = {"python": SAYS_WORDS, "python3": "exit 0"}
    assert jenkins(tmp_path, 0, commands, STEPBENCH="two words.whl") == 0
    index = "https://download.pytorch.org/whl/cpu"
    files = ["--requirement", "requirements.txt", "--extra-index-url", index]
    assert said(tmp_path) == ["-m", "pip", "install", "two words.whl", *files]
    assert not (tmp_path / "gate.xml").exists()


@pytest.mark.parametrize("code", [0, 1, 4])
def test_jenkins_checks_the_lock(tmp_path: Path, code: int) -> None:
    assert jenkins(tmp_path, 1, lock_and_ab(code, 0)) == code
    assert "expression { fileExists 'bench.lock' }" in JENKINS


@pytest.mark.parametrize("code", [0, 1, 3, 5])
def test_jenkins_compares_with_the_merge_base(tmp_path: Path, code: int) -> None:
    commands = {**lock_and_ab(0, code), "git": 'echo "base of $*"'}
    assert jenkins(tmp_path, 2, commands, CHANGE_TARGET="main") == code
    assert "--a-rev base of merge-base HEAD origin/main --b-rev HEAD " in (tmp_path / "calls").read_text()
    assert calls(tmp_path) == ["ab", "history"]
    assert jenkins(tmp_path, 2, {"bench": SAYS_LINES, "git": "exit 128"}) == 128
    assert calls(tmp_path) == ["ab", "history"]


@pytest.mark.parametrize(
    ("code", "begun", "ends"), [(0, True, 0), (3, True, 0), (1, True, 1), (4, False, 0), (4, True, 1), (5, True, 5)]
)
def test_the_nightly_run_fails_on_another_machine_but_not_on_its_first_night(
    tmp_path: Path, code: int, begun: bool, ends: int
) -> None:
    if begun:
        (tmp_path / "results" / "baselines").mkdir(parents=True)
        (tmp_path / "results" / "baselines" / "ci.csv").touch()
    script = step(NIGHTLY["jobs"]["nightly"], "Check")["run"]
    assert run(script, tmp_path, {"bench": f"exit {code}"}).returncode == ends


@pytest.mark.parametrize(("workflow", "job"), [(NIGHTLY, "nightly"), (HISTORY, "measure")])
def test_what_is_installed_is_named_in_the_file(tmp_path: Path, workflow: dict[str, Any], job: str) -> None:
    """Pull requests from forks see no variables of the repository."""
    assert workflow["env"] == {"STEPBENCH": "git+https://HOST/stepbench.git@COMMIT"}
    pip = tmp_path / "venv" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\necho "$@" > pip\n')
    pip.chmod(0o755)
    variables = {**workflow["env"], "RUNNER_TEMP": str(tmp_path), "GITHUB_PATH": str(tmp_path / "path")}
    script = step(workflow["jobs"][job], "Install")["run"]
    assert run(script, tmp_path, {"python": f'{pip} "$@"', "python3": "exit 0"}, **variables).returncode == 0
    held = ["torch==2.11.0"] if job == "nightly" else []  # with another torch a baseline is another
    installs = [
        "-m",
        "pip",
        "install",
        "git+https://HOST/stepbench.git@COMMIT",
        "--requirement",
        "requirements.txt",
        *held,
    ]
    assert (tmp_path / "pip").read_text().split() == installs
    assert GATE_JOB["steps"][1]["with"]["stepbench"] == workflow["env"]["STEPBENCH"]
    assert "vars." not in PAGE


def test_without_stepbench_nothing_is_installed(tmp_path: Path) -> None:
    [line] = [line for line in GITLAB["training speed"]["script"] if "STEPBENCH" in line]
    done = run(line, tmp_path, {"python": "exit 0"})
    assert done.returncode != 0
    assert "STEPBENCH: name it in the CI/CD variables of the project" in done.stderr


@pytest.mark.parametrize(("variables", "rev"), [({}, "merged"), ({"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "own"}, "own")])
def test_b_is_the_last_commit_of_a_merge_request(tmp_path: Path, variables: dict[str, str], rev: str) -> None:
    """Only pipelines for merged results name it; in the others it is what is checked out."""
    base = {"CI_COMMIT_SHA": "merged", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "base"}
    assert run(gitlab("pip install"), tmp_path, {"bench": SAYS_LINES}, GITHUB_BASH, **base, **variables).returncode == 0
    assert f"--a-rev base --b-rev {rev} " in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(("workflow", "job"), [(NIGHTLY, "nightly"), (HISTORY, "measure")])
def test_a_step_that_measures_fails_where_the_command_does(tmp_path: Path, workflow: dict[str, Any], job: str) -> None:
    script = step(workflow["jobs"][job], "Run")["run"]
    assert run(script, tmp_path, {"bench": SAYS_LINES}, BASH).returncode == 0
    assert calls(tmp_path)[0] == "run"
    assert run(script, tmp_path, {"bench": "exit 5"}, BASH).returncode == 5


def test_a_nightly_baseline_joins_what_was_pushed_meanwhile(tmp_path: Path) -> None:
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "remote.git"))
    for name in ("first", "runner", "other"):
        git("clone", "--quiet", str(tmp_path / "remote.git"), str(tmp_path / name))
        if name != "runner":
            who = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
            git("-C", str(tmp_path / name), *who, "commit", "--quiet", "--allow-empty", f"--message={name}")
            git("-C", str(tmp_path / name), "push", "--quiet", "origin", "HEAD:main")
    adds = 'echo "$*" > calls; mkdir -p results/baselines; touch results/baselines/ci.csv'
    done = run(step(NIGHTLY["jobs"]["nightly"], "Keep")["run"], tmp_path / "runner", {"bench": adds})
    assert done.returncode == 0, done.stderr
    log = subprocess.run(["git", "-C", tmp_path / "remote.git", "log", "--format=%s"], capture_output=True, text=True)
    assert log.stdout.splitlines() == ["Baseline: one more session", "other", "first"]
    assert (tmp_path / "runner" / "calls").read_text() == "baseline add ci latest\n"


def test_the_history_is_pushed_and_published(tmp_path: Path) -> None:
    """The steps of the workflow, in a shallow clone of a repository whose history another job has begun."""
    git("init", "--quiet", "--bare", str(tmp_path / "remote.git"))
    for name, day in (("other", 1), ("runner", 2)):
        clone = tmp_path / name
        git("clone", "--quiet", "--depth=1", (tmp_path / "remote.git").as_uri(), str(clone))
        known = {"run_id": f"202601{day:02}-030000-00aa", "settings": "{}"}
        write(clone / "results" / "runs" / known["run_id"], session([100.0, 101.0, 99.0], **known))
        for what in ("Add", "Page"):
            line = step(HISTORY["jobs"]["measure"], what)["run"]
            done = bench(clone, *shlex.split(line)[1:])
            assert done.code == 0, done.err
    uploaded = next(one for one in HISTORY["jobs"]["measure"]["steps"] if "upload-pages" in one.get("uses", ""))
    page = (tmp_path / "runner" / uploaded["with"]["path"] / "index.html").read_text()
    assert "20260101-030000-00aa" in page
    assert "20260102-030000-00aa" in page


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


def test_only_the_job_that_adds_to_the_history_may_push() -> None:
    assert HISTORY["permissions"] == {"contents": "read"}
    assert HISTORY["jobs"]["measure"]["permissions"] == {"contents": "write"}
    assert "contents" not in HISTORY["jobs"]["publish"]["permissions"]
    assert HISTORY["on"] == {"push": {"branches": ["main"]}}  # no code of pull requests on a runner of one's own


# -- the words -----------------------------------------------------------------------------------------------------


def bench_commands() -> list[list[str]]:
    """Every command line of the page, in its blocks and in its sentences."""
    joined = re.sub(r"\\\n\s*", " ", PAGE)
    found = re.findall(r"^[\s|`-]*(bench [a-z].*)$", joined, re.MULTILINE) + re.findall(r"`(bench [a-z][^`]*)`", PAGE)
    plain = [re.split(r" \|\| | && |`", line)[0] for line in found]
    plain.append(f"bench ab --a-rev BASE --b-rev HEAD {GATE_JOB['steps'][1]['with']['options']}")
    return [shlex.split(line)[1:] for line in plain]


def test_commands_have_only_options_that_there_are() -> None:
    commands = bench_commands()
    assert len(commands) > 12
    for words in commands:
        name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
        assert name, words
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= COMMANDS[name], (words, given - COMMANDS[name])
    assert {words[0] for words in commands} == {
        "ab",
        "run",
        "calibrate",
        "check",
        "baseline",
        "results",
        "lock",
        "history",
    }


def test_a_revision_is_of_a_workload_of_the_users() -> None:
    compared = [words for words in bench_commands() if {"--a-rev", "--b-rev"} & set(words)]
    assert len(compared) == 5  # GitHub's action, GitLab, Jenkins, a tag, a budget
    for words in compared:
        named = {option: words[place + 1] for place, option in enumerate(words) if option in ("--workload", "--suite")}
        assert parse_workload(named["--workload"]).entry is None, words
        assert named.get("--suite") not in suites(), words


def test_every_option_in_the_text_is_one() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    named = set(re.findall(r"`(--[a-z-]+)", prose))
    known = COMMANDS["ab"] | COMMANDS["history add"]
    assert named <= known, named - known


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([\d, ]+) \| (\w*) ?\|", PAGE, re.MULTILINE))
    assert {int(code): word for code, word in rows.items() if word} == OUTCOMES
    assert set(rows) - {str(code) for code in OUTCOMES} == {str(EXIT_USAGE), str(EXIT_BUG), "129, 130, 143"}
    gates = {0: GOOD, 1: GATE, 3: Gate("A", "B", GOOD.verdicts, control=FLAGGED), 4: Gate("A", "B", (UNLIKE,))}
    assert {code: rows[str(code)] for code in gates} == {gate.exit_code: outcome(gate) for gate in gates.values()}
