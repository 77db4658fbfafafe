"""The actions in .github/actions: valid, without expressions in scripts, and their scripts do what docs/ci.md says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ci_files import GITHUB_BASH, SAYS_WORDS, read_yaml, run, said, schema_errors
from documents import ROOT, files

from bench.report.gate import MARKER

FILES = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
ACTIONS = {file.parent.name: read_yaml(file.read_text()) for file in FILES}
BENCH, COMMENT = ACTIONS["bench"], ACTIONS["bench-comment"]
EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")
HOSTILE = [
    "two words",
    'it\'s "quoted"',
    "$(touch hacked)",
    "`touch hacked`",
    "; touch hacked #",
    "two\nlines; touch hacked",
    "${{ github.token }}",
    "*",
    "\\",
    "--version",
    "é",
]

# -- what is in the files ------------------------------------------------------------------------------------------------


def test_the_schema_of_actions_accepts_them(tmp_path: Path) -> None:
    assert list(ACTIONS) == ["bench", "bench-comment"]
    assert schema_errors("github-actions", *FILES) == ""
    (tmp_path / "action.yml").write_text(FILES[0].read_text().replace("      shell: bash\n", "", 1))
    assert "shell" in schema_errors("github-actions", tmp_path / "action.yml")


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_uses_what_has_a_version_and_its_scripts_hold_no_expression(name: str) -> None:
    for one in ACTIONS[name]["runs"]["steps"]:
        assert ("uses" in one) != ("run" in one)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", one.get("uses", "actions/x@v1"))
        assert "run" not in one or one["shell"] == "bash"
        assert "${{" not in one.get("run", "")
        assert "eval" not in one.get("run", "")


@pytest.mark.parametrize("name", ACTIONS)
def test_every_input_is_described_and_used(name: str) -> None:
    action = ACTIONS[name]
    used = re.findall(r"inputs\.([\w-]+)", str(action["runs"]))
    assert set(used) == action["inputs"].keys()
    for one in action["inputs"].values():
        assert one["description"].endswith(".")
        assert ("default" in one) != ("required" in one)


def test_only_the_action_that_runs_no_code_of_the_change_sees_a_token() -> None:
    assert "token" not in str(BENCH)
    assert "github.token" in str(COMMENT)
    assert not re.search(r"\b(checkout|pip|python3?|bench (ab|lock|history))\b", str(COMMENT["runs"]))


# -- its steps, as GitHub runs them ----------------------------------------------------------------------------------------


class Job(NamedTuple):
    failed: bool
    log: str
    summary: str
    outputs: dict[str, dict[str, str]]  # of each step with an id


def perform(
    action: Mapping[str, Any],
    folder: Path,
    commands: Mapping[str, str],
    given: Mapping[str, str],
    only: str | None = None,
    **environ: str,
) -> Job:
    """Run the scripts of an action one after the other, or the one of that name; after a failure only those that always run."""
    values = {f"inputs.{name}": given.get(name, one.get("default", "")) for name, one in action["inputs"].items()}
    values |= {"github.token": "secret", "github.repository": "me/it", "github.event.pull_request.number": "7"}
    failed, log, outputs = False, "", {}
    summary = folder / ".git" / "summary"
    summary.parent.mkdir(exist_ok=True)
    summary.write_text("")
    for one in action["runs"]["steps"]:
        condition = one.get("if", "")
        patterns = re.findall(r"hashFiles\('([^']+)'\)", condition)
        skipped = failed and "always()" not in condition
        skipped |= bool(patterns) and not any(list(folder.glob(pattern)) for pattern in patterns)
        if "run" not in one or skipped or only not in (None, one["name"]):
            continue
        output = folder / ".git" / "output"
        output.write_text("")
        variables = {name: expanded(text, values) for name, text in one.get("env", {}).items()}
        github = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_REPOSITORY": "me/it"}
        done = run(one["run"], folder, commands, GITHUB_BASH, **github, **environ, **variables)
        log += done.stdout + done.stderr
        failed |= done.returncode != 0 and one.get("continue-on-error") != "true"
        if "id" in one:
            outputs[one["id"]] = dict(line.split("=", 1) for line in output.read_text().splitlines())
            values |= {f"steps.{one['id']}.outputs.{name}": text for name, text in outputs[one["id"]].items()}
    return Job(failed, log, summary.read_text(), outputs)


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the values of its expressions; an output that no step has set is empty."""
    return EXPRESSION.sub(lambda m: values.get(m[1], "") if m[1].startswith("steps.") else values[m[1]], text)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def pull(tmp_path: Path) -> dict[str, str]:
    """A pull request in ``server``: commits ``fork``, ``base`` of `main` at the time of GitHub's ``merge``, ``head``, and ``later``."""
    server = tmp_path / "server"
    server.mkdir()
    git(server, "init", "--quiet", "--initial-branch=main")
    found = {"fork": commit(server, "fork")}
    git(server, "switch", "--quiet", "--create", "change")
    found["head"] = commit(server, "head")
    git(server, "switch", "--quiet", "main")
    found["base"] = commit(server, "base")
    git(server, "switch", "--quiet", "--detach")
    git(server, "merge", "--quiet", "--no-edit", "change")
    found["merge"] = git(server, "rev-parse", "HEAD")
    git(server, "update-ref", "refs/pull/7/merge", "HEAD")
    git(server, "switch", "--quiet", "main")
    found["later"] = commit(server, "later")
    return found


def checkout(tmp_path: Path, revision: str, depth: int = 0) -> Path:
    """As actions/checkout does it: one reference, or with depth 0 all branches as well."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", (tmp_path / "server").as_uri())
    refs = [f"--depth={depth}"] if depth else ["+refs/heads/*:refs/remotes/origin/*"]
    git(folder, "fetch", "--quiet", "origin", *refs, "+refs/pull/7/merge:refs/remotes/pull/7/merge")
    git(folder, "checkout", "--quiet", "--detach", revision)
    return folder


def base_of(folder: Path, base: str = "", **environ: str) -> tuple[str | None, str]:
    job = perform(BENCH, folder, {}, {"base": base}, only="Base", **environ)
    assert job.failed == ("commit" not in job.outputs["base"])
    return job.outputs["base"].get("commit"), job.log


@pytest.mark.parametrize(("revision", "base"), [("refs/remotes/pull/7/merge", "base"), ("origin/change", "fork")])
def test_the_base_is_the_merge_base(pull: dict[str, str], tmp_path: Path, revision: str, base: str) -> None:
    """Of GitHub's merge that is the first parent, also if the branch has gone on since."""
    assert base_of(checkout(tmp_path, revision), GITHUB_BASE_REF="main")[0] == pull[base]


def test_the_first_parent_takes_a_checkout_of_two_commits(pull: dict[str, str], tmp_path: Path) -> None:
    folder = checkout(tmp_path, "refs/remotes/pull/7/merge", depth=2)
    assert base_of(folder, "HEAD^1", GITHUB_BASE_REF="main")[0] == pull["base"]


@pytest.mark.parametrize(("base", "environ"), [("", {"GITHUB_BASE_REF": "main"}), ("HEAD^1", {}), ("", {})])
def test_a_base_that_is_not_there_is_told(
    pull: dict[str, str], tmp_path: Path, base: str, environ: dict[str, str]
) -> None:
    """In a checkout of one commit, and where there is no pull request."""
    commit, log = base_of(checkout(tmp_path, "refs/remotes/pull/7/merge", depth=1), base, **environ)
    assert commit is None
    assert "give actions/checkout `fetch-depth: 0`" in log


@pytest.mark.parametrize("text", HOSTILE)
def test_a_base_is_data(pull: dict[str, str], tmp_path: Path, text: str) -> None:
    folder = checkout(tmp_path, "origin/main")
    assert base_of(folder, text)[0] is None
    assert base_of(folder, GITHUB_BASE_REF=text)[0] is None
    assert not (folder / "hacked").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_installed_is_data(tmp_path: Path, text: str) -> None:
    given = {"stepbench": text, "requirements": f"\n{text}\n", "torch-index": text}
    job = perform(BENCH, tmp_path, {"python3": SAYS_WORDS}, given, only="Install")
    assert not job.failed, job.log
    requirements = [f"--requirement={line}" for line in text.splitlines()]
    assert said(tmp_path) == ["-m", "pip", "install", *requirements, f"--extra-index-url={text}", "--", text]
    assert not (tmp_path / "hacked").exists()


def test_requirements_and_an_index_need_not_be_given(tmp_path: Path) -> None:
    given = {"stepbench": "it.whl", "torch-index": ""}
    assert not perform(BENCH, tmp_path, {"python3": SAYS_WORDS}, given, only="Install").failed
    assert said(tmp_path) == ["-m", "pip", "install", "--", "it.whl"]
    nothing = perform(BENCH, tmp_path, {"python3": SAYS_WORDS}, {}, only="Install")
    assert nothing.failed
    assert "give this action the input stepbench" in nothing.log


@pytest.mark.parametrize("lock", ["", "not there", "not there\n::error::no"])
def test_without_a_lock_only_times_are_compared(tmp_path: Path, lock: str) -> None:
    job = perform(BENCH, tmp_path, {"bench": "exit 4"}, {"lock": lock}, only="Check the lock")
    assert not job.failed
    assert "::notice title=bench lock --check::There is no file '" in job.log.replace("$'", "'")
    assert "\n::error" not in job.log
    assert job.outputs["lock"] == {}


@pytest.mark.parametrize("text", HOSTILE)
def test_the_name_of_a_lock_is_data(tmp_path: Path, text: str) -> None:
    (tmp_path / text).touch()
    (tmp_path / "stepbench-gate").mkdir()
    assert not perform(BENCH, tmp_path, {"bench": SAYS_WORDS}, {"lock": text}, only="Check the lock").failed
    assert said(tmp_path) == ["lock", "--check", "--quiet", f"--file={text}"]
    assert not (tmp_path / "hacked").exists()


def compared(tmp_path: Path, commands: Mapping[str, str], **given: str) -> Job:
    (tmp_path / "stepbench-gate").mkdir(exist_ok=True)
    python = {"python3": f'exec {sys.executable} "$@"'}
    return perform(BENCH, tmp_path, {**python, **commands}, given, only="Compare")


@pytest.mark.parametrize("text", HOSTILE)
def test_options_are_split_as_by_a_shell_and_not_run(tmp_path: Path, text: str) -> None:
    job = compared(
        tmp_path, {"bench": SAYS_WORDS}, options=f"--workload {shlex.quote(text)} --strict -- x", budget=text
    )
    assert not job.failed, job.log
    assert said(tmp_path)[:5] == ["ab", "--a-rev", "", "--b-rev", "HEAD"]
    assert said(tmp_path)[5:7] == [f"--budget={text}", "--out"]
    assert said(tmp_path)[-5:] == ["--workload", text, "--strict", "--", "x"]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("text", [one for one in HOSTILE if one.count("'") != 1 and one != "\\"])
def test_options_that_are_not_quoted_are_split_and_not_run(tmp_path: Path, text: str) -> None:
    assert not compared(tmp_path, {"bench": SAYS_WORDS}, options=text, budget="").failed
    words = said(tmp_path)
    assert words[words.index("--json-file") + 2 :] == shlex.split(text)
    assert "--budget" not in str(words)
    assert not (tmp_path / "hacked").exists()


def test_options_with_an_open_quote_start_nothing(tmp_path: Path) -> None:
    job = compared(tmp_path, {"bench": SAYS_WORDS}, options="--workload 'mine.py")
    assert job.failed
    assert "No closing quotation" in job.log
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(
    ("code", "fails"), [(0, False), (1, True), (2, True), (3, False), (4, True), (5, True), (70, True), (143, True)]
)
def test_a_gate_passes_what_is_good_and_what_is_undecided_with_a_warning(
    tmp_path: Path, code: int, fails: bool
) -> None:
    job = compared(tmp_path, {"bench": f"exit {code}"})
    assert job.failed == fails
    assert ("::warning" in job.log) == (code == 3)


BOTH = """case "$1" in
lock) echo 'more a-case'; exit {lock};;
ab) echo verdict=good >> "$GITHUB_OUTPUT"; mkdir -p stepbench-gate/results/runs/1; touch stepbench-gate/results/runs/1/launches.csv; exit {ab};;
history) echo "$*" >> history; exit 1;;
esac"""


@pytest.mark.parametrize(
    ("lock", "ab", "fails"), [(0, 0, False), (0, 3, False), (1, 0, True), (4, 3, True), (0, 1, True), (1, 1, True)]
)
def test_times_are_compared_in_any_case_and_a_lock_that_failed_fails_the_job(
    pull: dict[str, str], tmp_path: Path, lock: int, ab: int, fails: bool
) -> None:
    folder = checkout(tmp_path, "refs/remotes/pull/7/merge")
    (folder / "bench.lock").touch()
    commands = {
        "bench": BOTH.format(lock=lock, ab=ab),
        "python3": f'case $2 in pip) ;; *) exec {sys.executable} "$@";; esac',
    }
    job = perform(BENCH, folder, commands, {"stepbench": "it.whl"}, GITHUB_BASE_REF="main")
    assert job.failed == fails, job.log
    assert job.outputs["lock"] == {"exit_code": str(lock)}
    assert job.outputs["compare"] == {"verdict": "good"}
    assert ("::error title=bench lock --check::" in job.log) == (lock != 0)
    assert job.summary == f"### bench lock --check: exit code {lock}\n\n```text\nmore a-case\n```\n"
    assert (folder / "stepbench-gate" / "lock.md").read_text() == job.summary
    assert (folder / "history").exists()  # the page, which may fail


@pytest.mark.slow
def test_the_action_measures(launching: None, tmp_path: Path) -> None:
    """A commit that changes nothing, in less time than a verdict takes: the lock holds, and the job passes as undecided."""
    for file, text in files(ROOT / "README.md").items():
        (tmp_path / file).write_text(text)
    real = f'PYTHONPATH={ROOT}:{os.environ.get("PYTHONPATH", "")} exec {sys.executable} -m bench "$@"'
    commands = {"bench": real, "python3": f'case $2 in pip) ;; *) exec {sys.executable} "$@";; esac'}
    options = "--workload mine.py:Regression --strategy single --device cpu"
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    written = run(f"bench lock {options}", tmp_path, commands, HOME=str(tmp_path))
    assert written.returncode == 0, written.stderr
    git(tmp_path, "add", "mine.py", "bench.lock")
    git(tmp_path, "commit", "--quiet", "--message=one")
    git(tmp_path, "commit", "--quiet", "--message=two", "--allow-empty")
    given = {"stepbench": "it.whl", "base": "HEAD^1", "options": f"{options} --steps 3", "budget": "1s"}
    job = perform(BENCH, tmp_path, commands, given, HOME=str(tmp_path), GITHUB_ACTIONS="true")
    assert not job.failed, job.log
    assert job.outputs["lock"] == {"exit_code": "0"}
    assert job.outputs["compare"] == {"verdict": "undecided", "exit_code": "3"}
    assert "### bench lock --check: exit code 0" in job.summary
    assert "## stepbench: undecided" in job.summary
    kept = {file.name for file in (tmp_path / "stepbench-gate").iterdir()}
    assert kept == {"gate.md", "gate.xml", "gate.json", "lock.md", "options", "page.html", "results"}


# -- the comment -----------------------------------------------------------------------------------------------------------


NOT_COMPARED = f"{MARKER}\nTimes of the last commit were not compared: the log of the job says why.\n"


def commented(folder: Path, earlier: str = "", ends: int = 0, **kept: str) -> tuple[Job, list[str], str]:
    """The job, the calls of `gh`, and what the comment says; ``kept`` are files of the artifact, without `.md`."""
    (folder / "stepbench-gate").mkdir(exist_ok=True)
    for name, text in kept.items():
        (folder / "stepbench-gate" / f"{name}.md").write_text(text)
    gh = f'echo "$@" >> {folder}/calls; case "$*" in *--jq*) printf "{earlier}";; *) cp comment.md {folder}/said;; esac; exit {ends}'
    job = perform(COMMENT, folder, {"gh": gh}, {})
    words = (folder / "said").read_text() if (folder / "said").exists() else ""
    return job, (folder / "calls").read_text().splitlines(), words


@pytest.mark.parametrize("earlier", ["", "4711", "4711\\n4712"])
def test_the_comment_is_made_once_and_then_changed(tmp_path: Path, earlier: str) -> None:
    job, (looked, wrote), words = commented(tmp_path, earlier, gate=f"{MARKER}\ntable\n", lock="lock\n")
    assert not job.failed, job.log
    assert looked.startswith("api repos/me/it/issues/7/comments --paginate --jq ")
    assert MARKER in looked
    changed = "--method PATCH repos/me/it/issues/comments/4711" if earlier else "repos/me/it/issues/7/comments"
    assert wrote == f"api {changed} -F body=@comment.md"
    assert words == f"{MARKER}\ntable\n\nlock\n"


@pytest.mark.parametrize("earlier", ["", "4711"])
def test_where_nothing_was_compared_the_comment_that_is_there_says_so(tmp_path: Path, earlier: str) -> None:
    assert COMMENT["runs"]["steps"][0]["continue-on-error"] == "true"
    job, calls, words = commented(tmp_path, earlier)
    assert not job.failed, job.log
    assert len(calls) == (2 if earlier else 1)
    assert words == (NOT_COMPARED if earlier else "")


def test_a_lock_alone_is_worth_a_comment(tmp_path: Path) -> None:
    assert commented(tmp_path, lock="lock\n")[2] == f"{NOT_COMPARED}\nlock\n"


def test_no_comment_is_made_where_those_that_are_there_cannot_be_read(tmp_path: Path) -> None:
    job, calls, _ = commented(tmp_path, ends=4, gate="table")
    assert job.failed
    assert len(calls) == 1


def test_a_long_comment_is_cut(tmp_path: Path) -> None:
    assert len(commented(tmp_path, gate=f"{MARKER}\n", lock="x" * 70_000)[2]) == 65_000


def test_a_link_in_the_artifact_is_not_followed(tmp_path: Path) -> None:
    """Whoever made the artifact could have this job's token sent to the comment."""
    (tmp_path / "stepbench-gate").mkdir()
    (tmp_path / "stepbench-gate" / "gate.md").symlink_to("/proc/self/environ")
    assert commented(tmp_path, "4711")[2] == NOT_COMPARED
