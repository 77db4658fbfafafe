"""The sides of a comparison: what is asked of each, another revision of the user's repository, another interpreter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import latest
from fake_ranks import MLP, Quiet, Ranks
from processes import wait_for
from revisions import WORKLOAD, git, interpreter, repository

import bench as package
from bench.comparison.setup import Contest
from bench.comparison.sides import Side, asked_sites, read_side
from bench.errors import IncomparableError, UsageError
from bench.machine.gpus import Machine
from bench.plan.plan import asked, make_plan
from bench.runner.launch_case import CaseLauncher
from bench.runner.make_sites import made_sites
from bench.runner.rank_site import Site
from bench.store.columns import LaunchRow
from launch import Outcome, Request, Watch, never_stop


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither a worktree nor lent packages are there after a test."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("bench.runner.make_sites.tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    assert list(folder.glob("bench-*")) == []


# -- what is asked of a side -------------------------------------------------------------------------------------------


def test_what_a_side_sets() -> None:
    side = read_side("B", ["precision=bf16", "--num-workers=4", " seed = 1"], ["X=1", "Y=2"], "other/python", "v1")
    assert side == Side(
        "B", {"precision": ["bf16"], "num_workers": ["4"], "seed": [" 1"], "env": ["X=1", "Y=2"]}, "other/python", "v1"
    )
    assert read_side("A", [], [], None, None) == Side("A")


def test_a_value_may_hold_equals_signs_and_colons() -> None:
    side = read_side("A", ["workload=my/net.py:Net:width=8:on=off", "data=folder=/a=b", "env=X=1"], ["Y=2"], None, None)
    assert side.axes == {
        "workload": ["my/net.py:Net:width=8:on=off"],
        "data": ["folder=/a=b"],
        "env": ["X=1", "Y=2"],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precision", r"--b: got 'precision'; allowed: AXIS=VALUE, where AXIS is one of workload, .*, env\."),
        ("", "--b: got ''; allowed: AXIS=VALUE"),
        ("=bf16", "--b: got '=bf16'; allowed: AXIS=VALUE"),
        ("precison=bf16", r"--b: got 'precison=bf16'; .* Did you mean 'precision'\?"),
        ("steps=5", "--b: got 'steps=5'; allowed: AXIS=VALUE"),  # of both, or of none
        ("scaling=strong", "--b: got 'scaling=strong'; allowed: AXIS=VALUE"),
    ],
)
def test_what_is_no_axis_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_side("B", [text], [], None, None)


def test_an_axis_is_given_once() -> None:
    with pytest.raises(UsageError, match="--a: num_workers is given twice"):
        read_side("A", ["num-workers=1", "num_workers=2"], [], None, None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("precision=fp32,bf16", "--b: got 'precision=fp32,bf16'; allowed: one value"),
        ("env=X=1|2", r"--b: got 'env=X=1\|2'; allowed: one value"),
        ("precision=fp9", "^--b: --precision: got 'fp9'; allowed: fp32"),
        ("seed=-1", "^--b: --seed: got '-1'; allowed: a whole number from 0"),
        ("env=FOO", "^--b: --env: got 'FOO'; allowed: NAME=VALUE"),
        ("env=OMP_NUM_THREADS=4", "^--b: --env: .* OMP_NUM_THREADS cannot be set here: use --omp-num-threads"),
    ],
)
def test_what_a_side_cannot_have_is_refused(override: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_side("B", [override], [], None, None).asked(asked({"workload": ["mlp"]}, {}))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_interpreter_or_revision_is_refused(empty: str) -> None:
    """As of a variable that is not set: A would be compared with A."""
    with pytest.raises(UsageError, match=f"^--a-rev: got '{empty}'; allowed: a revision. Name one, or leave"):
        read_side("A", [], [], None, empty)
    with pytest.raises(UsageError, match=f"^--b-python: got '{empty}'; allowed: an interpreter. Name one, or leave"):
        read_side("B", [], [], empty, None)


def environments(side: Side, **axes: list[str]) -> set[str]:
    both = asked({name: [text] for name, text in MLP.items()} | axes, {})
    return {planned.case.env for planned in make_plan(side.asked(both), Machine()).cases}


def test_variables_of_a_side_come_to_those_of_both() -> None:
    side = read_side("B", [], ["Z=3", "Y=2 words"], None, None)
    assert environments(side) == {"'Y=2 words' Z=3"}
    assert environments(side, env=["X=1"]) == {"X=1 'Y=2 words' Z=3"}
    assert environments(side, env=["X=1", "Z=0"]) == {"X=1 'Y=2 words' Z=3"}  # its own counts
    assert environments(Side("A"), env=["X=1"]) == {"X=1"}
    assert environments(read_side("B", [], ["Z=3"], None, None), env=["X=1|2"]) == {"X=1 Z=3", "X=2 Z=3"}


def test_a_side_in_words() -> None:
    assert read_side("B", ["precision=bf16"], ["X=1", "Y=2"], "p", "v1").words == (
        "precision=bf16, env=X=1 Y=2, python=p, rev=v1"
    )
    assert Side("A").words == "as asked"


def test_what_is_not_overridden_is_that_of_both() -> None:
    both = asked({name: [text] for name, text in MLP.items()} | {"batch_size": ["8,16"]}, {"steps": "7"})
    side = Side("B", {"seed": ["1"]}).asked(both)
    assert [dict(m) for m in side.matrices] == [
        {
            "workload": ["mlp"],
            "strategy": ["single"],
            "gpus": [1],
            "device": ["cpu"],
            "batch_size": [8, 16],
            "seed": [1],
        }
    ]
    assert side.settings == {"steps": 7}


# -- revisions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


def launched_once(tmp_path: Path, workload: str, *sides: Side) -> dict[str, LaunchRow]:
    """A launch of each side, by real ranks."""
    both = asked({**{k: [v] for k, v in MLP.items()}, "workload": [workload]}, {"steps": "3", "warmup_steps": "0"})
    contest = Contest.planned("ab", both, sides, tmp_path / "results")
    with contest.begun(Quiet()) as (store, sessions):
        try:
            [pair], _ = contest.completed(sessions)
            cases = {side: sessions[side].ready(planned) for side, planned in pair.sides.items()}
            return {side: sessions[side].launch(case, {"side": side}) for side, case in cases.items() if case}
        finally:
            store.close()


@pytest.mark.launch
def test_each_side_runs_its_own_revision(monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path) -> None:
    """From inside the repository; B is what is checked out, with a change that is not committed."""
    monkeypatch.chdir(repo)
    (repo / "nets" / "lib" / "helper.py").write_text("WIDTH = 32\n")
    rows = launched_once(tmp_path, "nets/mine.py:Mine", Side("A", rev="main"), Side("B"))
    assert {side: (row.status, row.parameters) for side, row in rows.items()} == {"A": ("ok", 9), "B": ("ok", 33)}
    assert {row.sources for row in rows.values()} == {"nets/lib/helper.py;nets/mine.py"}
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert git(repo, "status", "--porcelain") == " M nets/lib/helper.py\n"


EDITABLE = WORKLOAD.replace("HELPED = Path(__file__).parent", "HELPED = Path({!r})")


@pytest.mark.slow
def test_an_import_from_another_checkout_ends_with_four(repo: Path, bench: Any) -> None:
    """As an editable install of the repository would have it: B would be A under another name."""
    (repo / "nets" / "mine.py").write_text(EDITABLE.format(str(repo / "nets")))
    git(repo, "commit", "-am", "installed")
    done = bench(
        *("ab", "--workload", "nets/mine.py:Mine", "--strategy", "single", "--device", "cpu", "--gpus", "1"),
        *("--steps", "3", "--warmup-steps", "0", "--blocks", "5", "--b-rev", "HEAD", "--out", "../results"),
        cwd=repo,
    )
    helper = repo / "nets" / "lib" / "helper.py"
    assert done.code == 4, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert line.startswith(f"bench: {helper} was imported, which is not of the checkout ")
    assert "pip install -e" in line
    folder = latest(repo.parent)
    assert folder is not None
    rows = done._replace(folder=folder).rows()
    measured = [row["side"] for row in rows if row["role"] == "measure"]
    assert measured in (["B"], ["A", "B"])  # it ends with the first launch of B
    assert (rows[-1]["side"], rows[-1]["sources"]) == ("B", f"{helper};nets/mine.py")
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    sides = json.loads((folder / "plan.json").read_text())["sides"]
    assert (sides["A"]["words"], sides["B"]["words"]) == ("as asked", "rev=HEAD")


@pytest.mark.slow
def test_an_installed_copy_ends_with_four(repo: Path, bench: Any) -> None:
    """It comes before the checkout's own, and both sides would be the copy."""
    for folder in (repo, repo.parent / "installed"):
        folder.mkdir(exist_ok=True)
        (folder / "package_of_mine.py").write_text("WIDTH = 8\n")
    workload = WORKLOAD.replace("from helper", "sys.path.append(str(HELPED.parent.parent))\nfrom package_of_mine")
    (repo / "nets" / "mine.py").write_text(workload)
    git(repo, "add", ".")
    git(repo, "commit", "-m", "a package")
    done = bench(
        *("ab", "--workload", "nets/mine.py:Mine", "--strategy", "single", "--device", "cpu", "--gpus", "1"),
        *("--steps", "3", "--warmup-steps", "0", "--blocks", "5", "--b-rev", "HEAD", "--out", "../results"),
        *("--env", f"PYTHONPATH={repo.parent / 'installed'}"),
        cwd=repo,
    )
    assert done.code == 4, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    copy = repo.parent / "installed" / "package_of_mine.py"
    assert line.startswith(f"bench: {copy} was imported, which is not of the checkout ")
    assert "an installed copy hides the checkout's own" in line


def placed(side: Side, *workloads: str) -> Any:
    with made_sites(asked_sites([Side("A"), side], workloads)) as found:
        return found


def test_a_worktree_is_there_and_then_gone(repo: Path) -> None:
    workload = f"{repo}/nets/mine.py:Mine"
    with made_sites(asked_sites([Side("A", rev="change"), Side("B", rev="main")], [workload])) as found:
        assert [found[side].top for side in "AB"] == [str(repo), str(repo)]
        roots = [Path(found[side].root) for side in "AB"]
        assert [(root / "nets/lib/helper.py").read_text() for root in roots] == ["WIDTH = 16\n", "WIDTH = 8\n"]
        assert git(repo, "worktree", "list", "--porcelain").count("detached") == 2
        assert {found[side].python for side in "AB"} == {sys.executable}
    assert not any(root.exists() for root in roots)
    assert not any(root.parent.exists() for root in roots)
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


def test_a_worktree_is_gone_after_an_error(repo: Path) -> None:
    with (
        pytest.raises(IncomparableError),
        made_sites(asked_sites([Side("A"), Side("B", rev="main")], [f"{repo}/nets/mine.py:Mine"])) as found,
    ):
        found["B"].check("/elsewhere.py")
    with pytest.raises(UsageError, match="--b-rev: got 'nowhere'"):
        placed(Side("B", rev="nowhere"), f"{repo}/nets/mine.py:Mine")
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


KILLED = """
import os, signal, sys
from bench.comparison.sides import Side, asked_sites
from bench.runner.make_sites import made_sites
with made_sites(asked_sites([Side("A"), Side("B", rev="main")], [sys.argv[1]])) as found:
    print(found["B"].root, flush=True)
    if sys.argv[2] == "both":
        import psutil
        [psutil.Process(child.pid).kill() for child in psutil.Process().children()]
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worktree_of_one_that_was_killed_is_gone(repo: Path) -> None:
    workload = f"{repo}/nets/mine.py:Mine"
    for whom in ("one", "both"):
        done = subprocess.run([sys.executable, "-c", KILLED, workload, whom], stdout=subprocess.PIPE, text=True)
        root = Path(done.stdout.strip())
        assert done.returncode == -9
        if whom == "both":  # nobody was left to do it
            assert (root / "nets/lib/helper.py").exists()
            with made_sites(asked_sites([Side("A"), Side("B", rev="main")], [workload])) as found:
                assert Path(found["B"].root).exists()
                assert not root.exists()
        wait_for(lambda root=root: not root.parent.exists())  # type: ignore[misc]
        assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


def test_hooks_do_not_run_and_other_worktrees_stay_registered(repo: Path, tmp_path: Path) -> None:
    """The other one is on a disk that is not mounted, say."""
    hook = repo / ".git" / "hooks" / "post-checkout"
    made = tmp_path / "made"
    hook.write_text(f"#!/bin/sh\ntouch {made}\nexit 1\n")
    git(repo, "worktree", "add", "--detach", str(tmp_path / "away"))
    (tmp_path / "away").rename(tmp_path / "gone")
    hook.chmod(0o755)
    with made_sites(asked_sites([Side("A"), Side("B", rev="main")], [f"{repo}/nets/mine.py:Mine"])) as found:
        assert (Path(found["B"].root) / "nets" / "lib" / "helper.py").read_text() == "WIDTH = 8\n"
    assert not made.exists()
    left = [line for line in git(repo, "worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")]
    assert left == [f"worktree {repo}", f"worktree {tmp_path / 'away'}"]


@pytest.mark.parametrize(("says", "why"), [("", "without a message"), ("fatal: no room", "fatal: no room")])
def test_a_worktree_that_git_cannot_make_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path, says: str, why: str
) -> None:
    """Git makes it, and fails after that."""
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "git"
    real = shutil.which("git")
    wrapper.write_text(
        f'#!/bin/sh\n{real} "$@" || exit\ncase "$*" in *"worktree add"*) printf "{says}" >&2; exit 7;; esac\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(UsageError, match=f"^--b-rev main: git worktree add ended with 7: {why}$"):
        placed(Side("B", rev="main"), f"{repo}/nets/mine.py:Mine")
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


def test_the_repository_is_the_workloads_whatever_git_was_told(
    monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path
) -> None:
    """As in a hook of another repository."""
    git(tmp_path, "init", "two")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "two"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "two" / ".git" / "index"))
    with made_sites(asked_sites([Side("A"), Side("B", rev="main")], [f"{repo}/nets/mine.py:Mine"])) as found:
        assert found["B"].top == str(repo)
        assert (Path(found["B"].root) / "nets" / "lib" / "helper.py").read_text() == "WIDTH = 8\n"


def test_sides_without_a_revision_need_no_repository(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("")
    assert placed(Side("B"), "mlp", f"{tmp_path}/net.py:Net")["B"].watched == []


@pytest.mark.parametrize("rev", ["nowhere", "--all", "main^{tree}"])
def test_an_unknown_revision_is_refused(repo: Path, rev: str) -> None:
    with pytest.raises(UsageError) as raised:
        placed(Side("B", rev=rev), f"{repo}/nets/mine.py:Mine")
    assert (raised.value.option, raised.value.given) == ("--b-rev", rev)
    assert raised.value.allowed == f"a revision in {repo}"


def test_a_revision_of_a_built_in_workload_is_refused(repo: Path) -> None:
    with pytest.raises(UsageError) as raised:
        placed(Side("B", rev="main"), f"{repo}/nets/mine.py:Mine", "mlp")
    assert (raised.value.option, raised.value.given) == ("--workload", "mlp")


def test_a_revision_needs_a_repository(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("")
    message = f"net.py:Net: a revision needs a git repository; git says of {tmp_path}: not a git repository"
    with pytest.raises(UsageError, match=message):
        placed(Side("B", rev="main"), f"{tmp_path}/net.py:Net")
    with pytest.raises(
        UsageError, match=rf"git says of {tmp_path}: not a git repository"
    ):  # a folder that is not there
        placed(Side("B", rev="main"), f"{tmp_path}/nowhere/net.py:Net")


def test_a_repository_of_another_user_is_told_as_git_tells_it(monkeypatch: pytest.MonkeyPatch, repo: Path) -> None:
    """As in a container, whose user is not the one that checked out."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(UsageError, match=r"git says of .*: detected dubious ownership .* --add safe.directory"):
        placed(Side("B", rev="main"), f"{repo}/nets/mine.py:Mine")


def test_a_revision_is_of_one_repository(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "two")
    with pytest.raises(UsageError, match="the workloads are in 2 git repositories"):
        placed(Side("B", rev="main"), f"{repo}/nets/mine.py:Mine", f"{tmp_path}/two/net.py:Net")


def test_a_module_is_of_the_repository_that_one_is_in(monkeypatch: pytest.MonkeyPatch, repo: Path) -> None:
    monkeypatch.chdir(repo / "nets")
    with made_sites(asked_sites([Side("A"), Side("B", rev="main")], ["mine:Mine"])) as found:
        assert found["B"].folder() == Path(found["B"].root) / "nets"
        assert found["A"].folder() is None


def test_without_git_a_revision_is_refused(monkeypatch: pytest.MonkeyPatch, repo: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="a revision needs git, which is not on the PATH"):
        placed(Side("B", rev="main"), f"{repo}/nets/mine.py:Mine")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workload", "mlp", "--b-rev", "main"], "bench: --workload: got 'mlp'; allowed: your own workload"),
        (["--workload", "net.py:Net", "--a-rev", "main"], "bench: --workload net.py:Net: a revision needs a git"),
        (["--workload", "mlp", "--b-rev", ""], "bench: --b-rev: got ''; allowed: a revision. Name one, or leave the"),
        (["--workload", "mlp", "--b-env", "FOO"], "bench: --b: --env: got 'FOO'; allowed: NAME=VALUE"),
        (["--workload", "mlp", "--b-python", "nowhere"], "bench: --b-python {}/nowhere: cannot run it: No such file"),
        (["--workload", "mlp", "--b", "precison=bf16"], "bench: --b: got 'precison=bf16'; allowed: AXIS=VALUE"),
        (
            ["--workload", "mlp", "--launches", "3"],
            "bench: --launches: a comparison is measured in blocks of A B B A. Give",
        ),
        (["--workload", "mlp", "--blocks", "4"], "bench: --blocks: got 4; allowed: a whole"),
    ],
)
def test_what_cannot_be_compared_ends_with_two(bench_here: Any, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "net.py").write_text("")
    done = bench_here("ab", *words, "--strategy", "single", "--device", "cpu", "--gpus", "1")
    assert (done.code, done.stdout) == (2, "")
    assert message.format(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


# -- interpreters ------------------------------------------------------------------------------------------------------


@pytest.fixture
def borrowed(tmp_path: Path) -> str:
    """An interpreter of its own prefix with all that ours has, but for our own packages: their .pth is not read."""
    return interpreter(tmp_path / "borrowed", sysconfig.get_paths()["purelib"])


def test_an_interpreter_without_torch_is_refused(tmp_path: Path, bench: Any) -> None:
    python = interpreter(tmp_path / "bare")
    done = bench("ab", "--workload", "mlp", "--strategy", "single", "--device", "cpu", "--b-python", python)
    assert done.code == 2
    assert done.stderr.splitlines()[-1] == (
        f"bench: --b-python {python}: ranks cannot run under it: ModuleNotFoundError: No module named 'torch'. "
        "Ranks need Python 3.11 or newer with torch, torchvision and psutil."
    )
    assert latest(tmp_path) is None


@pytest.mark.parametrize("whose", ["ours", "of both", "its own"])
def test_an_interpreter_is_asked_with_what_its_ranks_will_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whose: str
) -> None:
    """One that finds torch by PYTHONPATH alone."""
    (tmp_path / "found").mkdir()
    for name in ("torch", "torchvision", "psutil"):
        (tmp_path / "found" / f"{name}.py").touch()
    env = ["X=a b", f"PYTHONPATH={tmp_path / 'found'}"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "found" if whose == "ours" else tmp_path))
    both = asked({**{k: [v] for k, v in MLP.items()}, **({"env": env} if whose == "of both" else {})}, {})
    side = Side("B", {"env": env} if whose == "its own" else {}, python=interpreter(tmp_path / "bare"))
    contest = Contest.planned("ab", both, (Side("A"), side), tmp_path / "results")
    with contest.begun(Quiet()) as (store, sessions):
        store.close()
        assert sessions["B"].site.python == side.python


def test_a_variable_of_the_side_does_not_hide_the_lent_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked_of: list[Request] = []

    class Launcher(Ranks):
        def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
            asked_of.append(request)
            return super().launch(request, watch)

    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: Launcher(tmp_path, [[]]))
    for site in (Site(packages="/lent"), Site()):
        for env in ("PYTHONPATH=/its/own", "X=1"):
            plan = make_plan(asked({**{k: [v] for k, v in MLP.items()}, "env": [env]}, {}), Machine())
            launching = CaseLauncher(Machine(), {"PYTHONPATH": "/ours"}, tmp_path, plan.protocol, print, print, site)
            launching.describe(plan.cases[0].case, lambda: tmp_path)
    assert [request.environment.get("PYTHONPATH") for request in asked_of] == ["/lent:/its/own", None, "/its/own", None]


def test_what_is_no_interpreter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    for python, words in (
        (tmp_path / "nowhere", "cannot run it: No such file or directory"),
        (tmp_path / "plain", "cannot run it: Permission denied"),
        (silent, "ranks cannot run under it: without a message"),
    ):
        with pytest.raises(UsageError, match=f"--a-python {python}: {words}"):
            placed(Side("A", python=str(python)))


def test_an_interpreter_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 100\n")
    slow.chmod(0o755)
    monkeypatch.setattr("bench.runner.make_sites.PROBE_SECONDS", 0.2)
    with pytest.raises(UsageError, match="cannot run it: it does not answer"):
        placed(Side("B", python=str(slow)))


WHERE = WORKLOAD.replace("from helper import WIDTH", "WIDTH = len(sys.prefix)").replace(
    "class Mine:\n",
    "class Mine:\n    import bench, launch, workloads\n"
    "    print([sys.prefix, bench.__file__, launch.__file__, workloads.__file__], file=sys.stderr)\n",
)


@pytest.mark.slow
@pytest.mark.launch
def test_ranks_of_a_side_run_under_its_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, borrowed: str
) -> None:
    """The workload is as wide as its interpreter's prefix is long; our packages are lent to it, whatever else
    its side's PYTHONPATH names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "where.py").write_text(WHERE)
    rows = launched_once(tmp_path, "where.py:Mine", Side("A"), Side("B", {"env": ["PYTHONPATH=/nowhere"]}, borrowed))
    prefixes = {"A": sys.prefix, "B": str(tmp_path / "borrowed")}
    assert {side: (row.status, row.parameters) for side, row in rows.items()} == {
        side: ("ok", len(prefix) + 1) for side, prefix in prefixes.items()
    }
    told = {}
    for side, row in rows.items():
        [folder] = (tmp_path / "results" / "runs").iterdir()
        log = (folder / "logs" / row.launch_id / "rank0.log").read_text()
        [told[side]] = [line for line in log.splitlines() if line.startswith("['")]
    home = str(Path(package.__file__).parent.parent)
    assert json.loads(told["A"].replace("'", '"')) == [
        sys.prefix,
        *(f"{home}/{name}/__init__.py" for name in ("bench", "launch", "workloads")),
    ]
    prefix, *files = json.loads(told["B"].replace("'", '"'))
    assert prefix == prefixes["B"]
    assert [Path(file).parts[-3:] for file in files] == [
        ("packages", name, "__init__.py") for name in ("bench", "launch", "workloads")
    ]
    assert not any(Path(file).exists() for file in files)  # what was lent is taken back


def test_an_interpreter_is_found_on_the_path_and_its_link_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, borrowed: str
) -> None:
    monkeypatch.setenv("PATH", f"{Path(borrowed).parent}:/usr/bin:/bin")
    with made_sites(asked_sites([Side("A"), Side("B", python="python")], ["mlp"])) as found:
        assert found["B"].python == borrowed
        lent = Path(found["B"].packages)
        assert sorted(path.name for path in lent.iterdir()) == ["bench", "launch", "workloads"]
        assert (found["A"].python, found["A"].packages) == (sys.executable, "")
    assert not lent.exists()


def test_the_python_of_a_row_is_that_of_its_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.rank.software.platform.python_version", lambda: "3.99.1")
    from bench.rank.software import software

    assert software()["python"] == "3.99.1"
