"""docs/ci.md: its workflows are YAML, its scripts do what the page says, its commands have only options that there are."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from in_process import bench
from made_up_gates import FLAGGED, GATE, GOOD, UNLIKE
from made_up_rows import session, write

from bench.errors import EXIT_BUG, EXIT_USAGE
from bench.plan.options import AXES, SETTINGS
from bench.plan.suite_file import suites
from bench.plan.workload_spec import parse_workload
from bench.report.gate import MARKER, OUTCOMES, outcome
from bench.stats.verdict import Gate

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text()
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

# -- YAML, as much of it as the page has: mappings, lists, plain and quoted scalars, literal blocks ----------------------


def read_yaml(text: str) -> Any:
    """The value of a document; AssertionError for what is not of that subset, or not well indented."""
    lines = [line for line in text.split("\n") if line.strip() or line == ""]
    while lines and not lines[-1]:
        lines.pop()
    value, rest = _block(lines, 0)
    assert not rest, rest[:2]
    return value


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _block(lines: list[str], indent: int) -> tuple[Any, list[str]]:
    found: Any = [] if lines[0].lstrip().startswith("- ") else {}
    while lines and _indent(lines[0]) == indent:
        line = lines[0][indent:]
        if isinstance(found, list):
            assert line.startswith("- "), line
            inner = " " * (indent + 2) + line[2:]
            if re.match(r"[\w-]+:( |$)", line[2:]):
                value, lines = _block([inner, *lines[1:]], indent + 2)
            else:
                value, lines = _value(line[2:], lines[1:], indent)
            found.append(value)
            continue
        match = re.fullmatch(r"([\w -]+):(?: (.*))?", line)
        assert match, line
        assert match[1] not in found, f"{match[1]} is there twice"
        found[match[1]], lines = _value(match[2] or "", lines[1:], indent)
    assert not lines or _indent(lines[0]) < indent, lines[0]
    return found, lines


def _value(text: str, lines: list[str], indent: int) -> tuple[Any, list[str]]:
    if text == "":
        return _block(lines, _indent(lines[0])) if _indent(lines[0]) > indent else ("", lines)
    if text == "|":
        count = next((n for n, line in enumerate(lines) if line and _indent(line) <= indent), len(lines))
        depth = _indent(lines[0])
        return "\n".join(line[depth:] for line in lines[:count]).rstrip("\n") + "\n", lines[count:]
    if text[0] in "\"'":
        assert re.fullmatch(r"\"[^\"\\]*\"|'[^']*'", text), text
        return text[1:-1], lines
    if text[0] == "[":
        return [word.strip() for word in text.strip("[]").split(",")], lines
    assert not re.search(r": |:$| #|^[&*!|>%@`{]", text), f"a plain scalar cannot hold it: {text}"
    return int(text) if text.isdecimal() else text, lines


DOCUMENTS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
GITHUB, GITLAB, NIGHTLY, HISTORY = [read_yaml(text) for text in DOCUMENTS]


def test_the_reader_of_yaml_is_one() -> None:
    text = 'a: b\nc:\n  - d: "3"\n    e:\n      f: 4\n  - g: [x, y]\ni: |\n  j: k\n\n    l\nm n:\n  - o && "p"\n  - |\n    q\n'
    read = read_yaml(text)
    assert (read["a"], read["c"]) == ("b", [{"d": "3", "e": {"f": 4}}, {"g": ["x", "y"]}])
    assert (read["i"], read["m n"]) == ("j: k\n\n  l\n", ['o && "p"', "q\n"])
    for wrong in ("a: b: c\n", "a: b\n  c: d\n", "a: b\na: c\n", "a: *b\n", "a:\n  - b\n c: d\n"):
        with pytest.raises(AssertionError):
            read_yaml(wrong)


def test_another_reader_of_yaml_says_the_same() -> None:
    yaml = pytest.importorskip("yaml", reason="there is no PyYAML; the reader of this file has read it")
    for document in DOCUMENTS:
        assert _texts(read_yaml(document)) == yaml.load(document, yaml.BaseLoader)


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(one) for name, one in value.items()}
    return [_texts(one) for one in value] if isinstance(value, list) else str(value)


# -- the workflows -------------------------------------------------------------------------------------------------


def step(job: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in job["steps"] if one.get("name") == name]
    return dict(found)


def test_what_github_needs_is_there() -> None:
    for workflow in (GITHUB, NIGHTLY, HISTORY):
        assert {"name", "on", "permissions", "jobs"} <= workflow.keys()
        for job in workflow["jobs"].values():
            assert {"runs-on", "steps"} <= job.keys()
            for one in job["steps"]:
                assert ("uses" in one) != ("run" in one)
                assert one.keys() <= {"name", "id", "uses", "with", "run", "env", "if", "continue-on-error"}
                assert re.fullmatch(r"actions/[\w-]+@v\d+", one.get("uses", "actions/x@v1"))
    assert GITHUB["on"] == "pull_request"
    assert GITHUB["jobs"]["gate"]["steps"][0]["with"] == {"fetch-depth": 2}  # for HEAD^1
    assert GITHUB["jobs"]["comment"]["needs"] == "gate"


def test_only_the_job_that_runs_no_code_of_the_change_may_write() -> None:
    assert GITHUB["permissions"] == {"contents": "read"}
    assert "permissions" not in GITHUB["jobs"]["gate"]
    assert GITHUB["jobs"]["comment"]["permissions"] == {"pull-requests": "write"}
    assert not [one for one in GITHUB["jobs"]["comment"]["steps"] if "checkout" in one.get("uses", "")]


def test_no_script_holds_an_expression() -> None:
    for workflow in (GITHUB, NIGHTLY, HISTORY):
        scripts = [one["run"] for job in workflow["jobs"].values() for one in job["steps"] if "run" in one]
        assert not [script for script in scripts if "${{" in script]  # they would be pasted in before bash reads them


def test_what_gitlab_needs_is_there() -> None:
    (job,) = GITLAB.values()
    assert job.keys() == {"image", "rules", "variables", "script", "allow_failure", "artifacts"}
    assert job["allow_failure"] == {"exit_codes": 3}
    assert job["artifacts"]["reports"] == {"junit": "gate.xml"}
    assert job["artifacts"]["when"] == "always"
    assert job["variables"] == {"GIT_DEPTH": "0"}
    assert all(isinstance(line, str) for line in job["script"])


# -- the scripts, with commands that only end --------------------------------------------------------------------------


def run(script: str, folder: Path, commands: dict[str, str], **environ: str) -> subprocess.CompletedProcess[str]:
    """A script as GitHub runs it, where ``commands`` are found first."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "script").write_text(script)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **environ}
    return subprocess.run(["bash", "-e", "script"], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4), (5, 5), (70, 70), (143, 143)])
def test_the_gate_passes_only_what_is_good_or_undecided(tmp_path: Path, code: int, ends: int) -> None:
    script = step(GITHUB["jobs"]["gate"], "Compare")["run"]
    assert run(script, tmp_path, {"bench": f"exit {code}"}).returncode == ends


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


@pytest.mark.parametrize(("workflow", "job"), [(GITHUB, "gate"), (NIGHTLY, "nightly"), (HISTORY, "measure")])
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
    held = ["torch==2.11.0", "torchvision"] if job == "nightly" else []  # with another torch a baseline is another
    installs = ["-m", "pip", "install", "git+https://HOST/stepbench.git@COMMIT", *held]
    assert (tmp_path / "pip").read_text().split() == installs
    assert "vars." not in PAGE


def test_without_stepbench_nothing_is_installed(tmp_path: Path) -> None:
    [line] = [line for line in GITLAB["training speed"]["script"] if "STEPBENCH" in line]
    done = run(line, tmp_path, {"python": "exit 0"})
    assert done.returncode != 0
    assert "STEPBENCH: name it in the CI/CD variables of the project" in done.stderr


@pytest.mark.parametrize(("variables", "rev"), [({}, "merged"), ({"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "own"}, "own")])
def test_b_is_the_last_commit_of_a_merge_request(tmp_path: Path, variables: dict[str, str], rev: str) -> None:
    """Only pipelines for merged results name it; in the others it is what is checked out."""
    script = "\n".join(line for line in GITLAB["training speed"]["script"] if "pip install" not in line)
    base = {"CI_COMMIT_SHA": "merged", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "base"}
    assert run(script, tmp_path, {"bench": 'echo "$@" > calls'}, **base, **variables).returncode == 0
    assert f"--a-rev base --b-rev {rev} " in (tmp_path / "calls").read_text()


def test_a_nightly_baseline_joins_what_was_pushed_meanwhile() -> None:
    script = step(NIGHTLY["jobs"]["nightly"], "Keep")["run"].splitlines()
    assert script[-3:] == ['git commit -m "Baseline: one more session"', "git pull --rebase", "git push"]


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


@pytest.mark.parametrize("earlier", ["", "4711"])
def test_the_comment_is_made_once_and_then_changed(tmp_path: Path, earlier: str) -> None:
    said = step(GITHUB["jobs"]["comment"], "One comment, kept up to date")
    assert MARKER in said["run"]
    (tmp_path / "gate.md").touch()
    gh = f'echo "$@" >> calls; case "$*" in *--jq*) echo "{earlier}";; esac'
    done = run(said["run"], tmp_path, {"gh": gh}, COMMENTS="repos/me/it/issues/7/comments", GITHUB_REPOSITORY="me/it")
    assert done.returncode == 0, done.stderr
    looked, wrote = (tmp_path / "calls").read_text().splitlines()
    assert looked.startswith("api repos/me/it/issues/7/comments --paginate --jq ")
    assert wrote == (
        "api --method PATCH repos/me/it/issues/comments/4711 -F body=@gate.md"
        if earlier
        else "api repos/me/it/issues/7/comments -F body=@gate.md"
    )


@pytest.mark.parametrize("earlier", ["", "4711"])
def test_where_nothing_was_measured_the_comment_that_is_there_says_so(tmp_path: Path, earlier: str) -> None:
    job = GITHUB["jobs"]["comment"]
    [download] = [one for one in job["steps"] if "download-artifact" in one.get("uses", "")]
    assert download["continue-on-error"] == "true"
    gh = f'echo "$@" >> calls; case "$*" in *--jq*) echo "{earlier}";; *) cat gate.md > said;; esac'
    script = step(job, "One comment, kept up to date")["run"]
    done = run(script, tmp_path, {"gh": gh}, COMMENTS="c", GITHUB_REPOSITORY="me/it")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == (2 if earlier else 1)
    said = (tmp_path / "said").read_text() if earlier else ""
    assert said == (f"{MARKER}\nThe last commit was not measured: the log of `gate` says why.\n" if earlier else "")


def test_no_comment_is_made_where_those_that_are_there_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gate.md").touch()
    script = step(GITHUB["jobs"]["comment"], "One comment, kept up to date")["run"]
    done = run(script, tmp_path, {"gh": 'echo "$@" >> calls; exit 4'}, COMMENTS="c", GITHUB_REPOSITORY="me/it")
    assert (done.returncode, len((tmp_path / "calls").read_text().splitlines())) == (4, 1)


# -- the words -----------------------------------------------------------------------------------------------------


def bench_commands() -> list[list[str]]:
    """Every command line of the page, in its blocks and in its sentences."""
    joined = re.sub(r"\\\n\s*", " ", PAGE)
    found = re.findall(r"^[\s|`-]*(bench [a-z].*)$", joined, re.MULTILINE) + re.findall(r"`(bench [a-z][^`]*)`", PAGE)
    plain = [re.split(r" \|\| |`", line)[0] for line in found]
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
    assert len(compared) == 4  # GitHub, GitLab, a tag, a budget
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
