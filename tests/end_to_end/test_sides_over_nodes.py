"""Two sides over two nodes on one host: each node has its own checkout of a revision, and its own interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_ranks import Quiet
from processes import wait_for
from revisions import WORKLOAD, git, interpreter, repository
from two_nodes import Nodes, ended

from bench.api.nodes import as_head
from bench.comparison.setup import Contest
from bench.comparison.sides import Side
from bench.nodes.options import NodesAsked
from bench.plan.plan import asked
from bench.runner.run_session import Session
from bench.store.columns import LaunchRow

WHERE = 'import sys\nprint(f"from {__file__} by {sys.prefix}")\n'


@pytest.fixture(autouse=True)
def temporary(
    launching: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The folder for temporary files of both nodes, which is empty after a test."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    wait_for(lambda: not list(folder.glob("bench-*")))


@pytest.fixture
def repo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Both commits of its workload say where they were imported from."""
    folder = tmp_path / "repo"
    monkeypatch.setattr("revisions.WORKLOAD", WORKLOAD + WHERE)
    return repository(folder)


@contextmanager
def contest(nodes: Nodes, *sides: Side, workload: str = "nets/mine.py:Mine") -> Iterator[Callable[[str], LaunchRow]]:
    """Node 0 of a comparison, in this process; yields what launches a side."""
    axes = {"workload": workload, "strategy": "ddp", "gpus": "2", "device": "cpu"}
    both = asked({name: [value] for name, value in axes.items()}, {"steps": "3", "warmup_steps": "0"})
    with as_head(NodesAsked(2, 0, ("127.0.0.1", nodes.port), "", 1), Quiet()) as all_nodes:
        planned = Contest.planned("ab", both, sides, nodes.out, nodes=all_nodes)
        with planned.begun(Quiet()) as (_, sessions):
            [pair], _ = planned.completed(sessions)

            def launch(side: str) -> LaunchRow:
                session: Session = sessions[side]
                case = session.ready(pair.sides[side])
                assert case
                return session.launch(case, {"side": side})

            yield launch


def told(nodes: Nodes, row: LaunchRow) -> list[str]:
    """What each rank of a launch said: where its workload is, and its interpreter."""
    [folder] = nodes.out.glob(f"runs/*/logs/{row.launch_id}")
    logs = [(folder / f"rank{rank}.log").read_text() for rank in (0, 1)]
    return [next(line for line in log.splitlines() if line.startswith("from ")) for log in logs]


@pytest.mark.slow
def test_each_node_runs_its_own_checkout_of_a_revision(
    monkeypatch: pytest.MonkeyPatch, repo: Path, temporary: Path
) -> None:
    """Both nodes have the same repository, as on a shared file system; B is what is checked out, with a change.

    After node 1 was killed, what it had made is gone, and a new one makes it again.
    """
    monkeypatch.chdir(repo)
    (repo / "nets" / "lib" / "helper.py").write_text("WIDTH = 32\n")
    nodes = Nodes(repo.parent)
    nodes.folder = repo
    follower = nodes.start(1, of="ab")
    with contest(nodes, Side("A", rev="main"), Side("B")) as launch:
        rows = {side: launch(side) for side in "AB"}
        follower.kill()
        follower.communicate()
        wait_for(lambda: git(repo, "worktree", "list").count("detached") == 1)
        follower = nodes.start(1, of="ab")
        again = launch("A")
        assert git(repo, "worktree", "list").count("detached") == 2
    assert ended(follower)[0] == 0
    assert {side: (row.status, row.parameters) for side, row in rows.items()} == {"A": ("ok", 9), "B": ("ok", 33)}
    assert (again.status, again.parameters, again.code_key) == ("ok", 9, rows["A"].code_key)
    assert {(row.nodes, row.sources) for row in (*rows.values(), again)} == {(2, "nets/lib/helper.py;nets/mine.py")}
    files = [line.split()[1] for row in (rows["A"], again) for line in told(nodes, row)]
    folders = [Path(file).parents[2] for file in files]
    assert [(file.removeprefix(f"{folder}/"), folder.parent) for file, folder in zip(files, folders, strict=True)] == [
        ("A/nets/mine.py", temporary)
    ] * 4
    assert len(set(folders)) == 3  # node 0 has one, and node 1 had two
    assert folders[0] == folders[2]
    assert {line.split()[1] for line in told(nodes, rows["B"])} == {str(repo / "nets" / "mine.py")}
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


def other_repository(monkeypatch: pytest.MonkeyPatch, folder: Path, repo: Path, other: Path) -> None:
    """Let git find another repository than node 0's at the same path, as on a disk of its own."""
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "git"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-C {repo}" ] || exec {shutil.which("git")} "$@"\n'
        f'shift 2\nexec {shutil.which("git")} -C {other} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def refused(nodes: Nodes, follower: subprocess.Popen[str], *words: str) -> str:
    """What node 0 says at last, which ends with exit code 4 as the follower does."""
    common = ("--workload", "nets/mine.py:Mine", "--gpus", "2", "--nproc-per-node", "1")
    code, said = ended(nodes.start(0, *common, *words, of="ab"))
    assert (code, ended(follower)[0]) == (4, 4), said
    assert "Traceback" not in said
    assert not nodes.out.exists()
    return said.splitlines()[-1]


def test_a_commit_that_a_node_lacks_ends_with_four(monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path) -> None:
    commit = git(repo, "rev-parse", "main").strip()
    nodes = Nodes(tmp_path)
    nodes.folder = repo
    with monkeypatch.context() as on_node_1:
        (tmp_path / "other").mkdir()
        git(tmp_path / "other", "init")
        other_repository(on_node_1, tmp_path, repo, tmp_path / "other")
        follower = nodes.start(1, of="ab")
    line = refused(nodes, follower, "--b-rev", "main")
    assert line.startswith("bench: node 1 (")
    assert line.endswith(
        f"): --b-rev main: the repository {repo} has no commit {commit}. Fetch it with git fetch there."
    )


def test_a_repository_that_a_node_lacks_ends_with_four(
    monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path
) -> None:
    nodes = Nodes(tmp_path)
    nodes.folder = repo
    with monkeypatch.context() as on_node_1:
        other_repository(on_node_1, tmp_path, repo, tmp_path / "nowhere")
        follower = nodes.start(1, of="ab")
    line = refused(nodes, follower, "--a-rev", "main")
    assert f"--a-rev main: a revision needs the git repository {repo}; git says: cannot change to" in line
    assert line.endswith("Clone it there.")


@pytest.mark.slow
def test_ranks_of_a_side_run_under_its_interpreter_on_both_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = interpreter(tmp_path / "borrowed", sysconfig.get_paths()["purelib"])
    (tmp_path / "mine.py").write_text((WORKLOAD + WHERE).replace("from helper import WIDTH", "WIDTH = 8"))
    nodes = Nodes(tmp_path)
    follower = nodes.start(1, of="ab")
    # A variable of a side does not hide the packages that each node lends.
    side = Side("B", {"env": ["PYTHONPATH=/nowhere"]}, python)
    with contest(nodes, Side("A"), side, workload="mine.py:Mine") as launch:
        row = launch("B")
    assert ended(follower)[0] == 0
    assert (row.status, row.nodes) == ("ok", 2), row.reason
    assert [line.split()[3] for line in told(nodes, row)] == [str(tmp_path / "borrowed")] * 2


ON_NODE_1 = "ONLY_ON_NODE_1"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (
            "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
            "): --b-python {}: ranks cannot run under it: ModuleNotFoundError: No module named 'torch'. Ranks need Python",
        ),
        (
            "echo Python 3.11.1, torch 2.11.0, torchvision 0.26.0; exit 0",
            "bench: --b-python {} has Python 3.12.9, torch 2.14.1, torchvision 0.29.1 on node 0 and Python 3.11.1, torch "
            "2.11.0, torchvision 0.26.0 on node 1 (",
        ),
    ],
)
def test_an_interpreter_that_is_another_on_a_node_ends_with_four(
    monkeypatch: pytest.MonkeyPatch, repo: Path, tmp_path: Path, there: str, said: str
) -> None:
    """It only says which it is: what differs is known before anything is launched."""
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\n[ -z ${ON_NODE_1} ] || {{ {there}; }}\necho Python 3.12.9, torch 2.14.1, torchvision 0.29.1\n"
    )
    python.chmod(0o755)
    nodes = Nodes(tmp_path)
    nodes.folder = repo
    with monkeypatch.context() as on_node_1:
        on_node_1.setenv(ON_NODE_1, "yes")
        follower = nodes.start(1, of="ab")
    assert said.format(python) in refused(nodes, follower, "--b-python", str(python))
