"""Workloads that only one side of `bench ab` has, with ranks that keep a given pace: the commit that brings one is `new`."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_ranks import Done, Turns, command, plain
from plain_case import PLAIN

from bench.comparison.one_sided import without_file
from bench.errors import UsageError
from bench.messages.rank_record import Failure, RankRecord
from bench.messages.spec import Spec
from bench.plan.plan import Planned
from bench.runner.launch_request import DESCRIBE_ENTRY
from bench.runner.rank_site import Site
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches
from launch import Outcome, Request, Watch, never_stop
from workloads.base import MissingWorkloadError, load

RATE = 640.0  # samples/s at a pace of 1
OPTIONS = ("--strategy", "single", "--gpus", "1", "--device", "cpu", "--steps", "5", "--quiet")
TORCHLESS = "class Old: ...\n"


class Names(Turns):
    """Ranks that describe a workload only if its file has a class of that name, as real ones do."""

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        spec = Spec.read(request.argument)
        file, _, name = spec.target.rpartition(":")
        if request.entry == DESCRIBE_ENTRY and file.endswith(".py") and f"class {name}:" not in Path(file).read_text():
            failure = Failure("crashed", f"MissingWorkloadError: {file} has no {name!r}", 1)
            RankRecord(0, 0, "host", 501, True, failure=failure).write(request.log)
            return Outcome({0: 1})
        return super().launch(request, watch)


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@dataclasses.dataclass
class Repo:
    """A repository of which the tag `old` has the class Old of `mine.py`; what is checked out has more."""

    folder: Path
    ranks: Turns
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def commit(self, **files: str | None) -> None:
        for name, text in files.items():
            file = self.folder / f"{name}.py"
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        git(self.folder, "add", ".")
        git(self.folder, "commit", "-m", "more")

    def ab(self, *words: str, **options: str) -> Done:
        workloads = [word for name in options.get("workloads", "").split() for word in ("--workload", name)]
        done = command(self.monkeypatch, self.capsys, self.folder, "ab", *workloads, *words, "--blocks", "5", "--quiet")
        self.ranks.is_up = False
        return done

    def rows(self) -> list[LaunchRow]:
        return read_launches(self.run() / "launches.csv", print)

    def run(self) -> Path:
        return max((self.folder / "results" / "runs").iterdir(), key=lambda run: (run / "plan.json").stat().st_mtime_ns)


@pytest.fixture
def repo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Repo:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "mine.py").write_text(TORCHLESS)
    (folder / ".gitignore").write_text("results\n*.json\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "old")
    git(folder, "tag", "old")
    ranks = Names(tmp_path, [[]])
    plain(monkeypatch, ranks)
    return Repo(folder, ranks, monkeypatch, capsys)


def only_verdict(done: Done) -> dict[str, Any]:
    (verdict,) = json.loads(done.out)["verdicts"]
    return dict(verdict)


@pytest.mark.parametrize(
    ("files", "workload", "why"),
    [
        ({"net": "class Net: ...\n"}, "net.py:Net", "there is no net.py"),
        ({"mine": f"{TORCHLESS}class Net: ...\n"}, "mine.py:Net", "mine.py has no 'Net'"),
    ],
)
def test_a_workload_that_a_lacks_is_new(repo: Repo, files: dict[str, str], workload: str, why: str) -> None:
    """B is launched three times, each time from a new server, and nothing else is; the exit code is 0."""
    repo.commit(**files)
    done = repo.ab(*OPTIONS, "--a-rev", "old", "--b-rev", "HEAD", "--json", workloads=workload)
    assert done.code == 0, done.err
    verdict = only_verdict(done)
    assert (verdict["verdict"], verdict["reason"]) == ("new", f"A lacks it: {why}")
    assert (verdict["samples_per_s_a"], verdict["samples_per_s_b"]) == (None, pytest.approx(RATE, rel=1e-4))
    assert (verdict["launches"], verdict["ratio"], verdict["how"]) == (3, None, "")
    assert json.loads(done.out)["sentence"] == "1 case: 1 new"
    assert [(row.side, row.status, row.role) for row in repo.rows()] == [
        ("A", "skipped", "measure"),
        *[("B", "ok", "measure")] * 3,
    ]
    assert [server for server, _ in repo.ranks.launched] == [1, 2, 3]


def test_it_is_shown_with_its_own_figures_and_judged_again_from_its_rows(repo: Repo) -> None:
    repo.commit(net="class Net: ...\n")
    done = repo.ab(*OPTIONS, "--a-rev", "old", "--b-rev", "HEAD", workloads="net.py:Net")
    assert done.out.splitlines()[0] == "good: 1 case: 1 new"
    head, row = (line for line in done.out.splitlines() if "samples/s" in line or "│ new" in line)
    assert [cell.strip() for cell in head.replace("┃", "│").split("│")][-1] == "B samples/s"
    assert [cell.strip() for cell in row.split("│")][-1] == "640"
    again = command(repo.monkeypatch, repo.capsys, repo.folder, "compare", repo.run().name)
    assert (again.code, again.out) == (0, done.out)


def test_a_checkout_that_is_not_committed_may_be_what_brings_it(repo: Repo) -> None:
    (repo.folder / "net.py").write_text("class Net: ...\n")
    done = repo.ab(*OPTIONS, "--a-rev", "old", workloads="net.py:Net")
    assert (done.code, done.out.splitlines()[0]) == (0, "good: 1 case: 1 new")


def test_a_workload_that_b_lacks_is_missing(repo: Repo) -> None:
    """As it was before: nothing was decided, so that it is 3, or with --strict 1. A's own figures are shown."""
    repo.commit(net="class Net: ...\n")
    git(repo.folder, "tag", "with")
    repo.commit(net=None)
    words = (*OPTIONS, "--a-rev", "with", "--b-rev", "HEAD", "--json")
    done = repo.ab(*words, workloads="net.py:Net")
    verdict = only_verdict(done)
    assert (done.code, verdict["verdict"], verdict["reason"]) == (3, "missing", "B lacks it: there is no net.py")
    assert (verdict["samples_per_s_a"], verdict["samples_per_s_b"]) == (pytest.approx(RATE, rel=1e-4), None)
    assert [(row.side, row.status) for row in repo.rows()] == [("B", "skipped"), *[("A", "ok")] * 3]
    assert repo.ab(*words, "--strict", workloads="net.py:Net").code == 1


def test_the_other_workloads_are_compared_as_ever(repo: Repo) -> None:
    """The control pair is of the one that both have; the whole gate is good."""
    repo.commit(net="class Net: ...\n")
    words = (*OPTIONS, "--a-rev", "old", "--b-rev", "HEAD")
    done = repo.ab(*words, workloads="net.py:Net mine.py:Old")
    assert (done.code, done.out.splitlines()[0]) == (0, "good: 2 cases: 1 same, 1 new")
    counts: dict[tuple[str, str], int] = {}
    for row in repo.rows():
        counts[row.workload, row.role] = counts.get((row.workload, row.role), 0) + (row.status == "ok")
    assert counts == {("net.py:Net", "measure"): 3, ("mine.py:Old", "measure"): 20, ("mine.py:Old", "control"): 20}


def test_a_new_workload_that_fails_is_broken(repo: Repo) -> None:
    repo.commit(net="class Net: ...\n")
    repo.ranks.fails_at = lambda case, _: case.workload == "net.py:Net"
    words = (*OPTIONS, "--a-rev", "old", "--b-rev", "HEAD")
    for workloads in ("net.py:Net", "net.py:Net mine.py:Old"):
        done = repo.ab(*words, "--json", workloads=workloads)
        found = {one["workload"]: one for one in json.loads(done.out)["verdicts"]}["net.py:Net"]
        assert (done.code, found["verdict"]) == (1, "broken")
        assert found["reason"].startswith(
            "A lacks it: there is no net.py; B oom: rank 0 on host: OutOfMemoryError: too much"
        )
    failed = [row for row in repo.rows() if row.status == "oom"]
    assert len(failed) == 1  # it is not launched again


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("nowhere.py:Net", "--workload: got 'nowhere.py:Net'; allowed: a Python file that exists on one of the sides."),
        ("mine.py:Nowhere", "mine.py has no 'Nowhere'. See "),
    ],
)
def test_what_neither_side_has_is_a_mistake(repo: Repo, workload: str, message: str) -> None:
    done = repo.ab(*OPTIONS, "--a-rev", "old", "--b-rev", "HEAD", workloads=workload)
    assert done.code == 2
    assert message in done.err
    assert repo.ranks.launched == []


def test_sides_of_one_revision_cannot_lack_anything(repo: Repo) -> None:
    """Neither has a revision of its own, so that a name that is not there is a mistake before anything is launched."""
    done = repo.ab(*OPTIONS, workloads="net.py:Net")
    assert (done.code, done.err) == (2, "bench: --workload: got 'net.py:Net'; allowed: a Python file that exists.\n")


def test_a_batch_size_that_is_to_be_found_is_refused(repo: Repo) -> None:
    repo.commit(net="class Net: ...\n")
    done = repo.ab(*OPTIONS, "--a-rev", "old", "--batch-size", "auto", workloads="net.py:Net")
    assert (done.code, done.err) == (2, "bench: --batch-size auto: a comparison needs a batch size. Give one.\n")


def test_a_script_is_a_file_or_a_module_of_the_folder_that_it_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A's checkout has `a/old.py` and the package `a.pkg`, B's `a/new.py`; a module of neither may be installed."""
    top, root = tmp_path / "top", tmp_path / "root"
    for folder, files in ((top, ("a/new.py",)), (root, ("a/old.py", "a/pkg/__main__.py"))):
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
    monkeypatch.chdir(top)
    sites = {"A": Site(top=str(top), root=str(root)), "B": Site(top=str(top), root=str(top))}

    def lacking(*workloads: str) -> dict[str, dict[str, str]]:
        found = [Planned(dataclasses.replace(PLAIN, workload=one), None, None) for one in workloads]
        return without_file({"A": found, "B": found}, sites)

    assert lacking("script=a/new.py", "script=a/old.py") == {
        "A": {"script=a/new.py": "there is no a/new.py"},
        "B": {"script=a/old.py": "there is no a/old.py"},
    }
    assert lacking("module=a.new", "module=a.pkg", "module=torch.distributed.run") == {
        "A": {"module=a.new": "there is no a/new.py"},
        "B": {"module=a.pkg": "there is no a/pkg.py"},
    }
    assert lacking("mlp", "a.new:Net") == {"A": {}, "B": {}}  # the one is built in, and only an import tells the other
    with pytest.raises(UsageError, match=r"^--script: got 'a/x\.py'; allowed: a Python file that exists on one"):
        lacking("script=a/x.py")


def test_a_budget_pays_for_what_only_one_side_has(repo: Repo) -> None:
    """The file of the plan has the blocks of the other workload alone."""
    repo.commit(net="class Net: ...\n")
    done = command(
        *(repo.monkeypatch, repo.capsys, repo.folder, "ab", *OPTIONS, "--a-rev", "old", "--budget", "1"),
        *("--workload", "net.py:Net", "--json"),
    )
    assert (done.code, only_verdict(done)["verdict"]) == (0, "new")
    assert json.loads((repo.run() / "plan.json").read_text())["blocks"] == {}


# -- what is not there -------------------------------------------------------------------------------------------------


def test_a_name_is_missing_only_if_it_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that imports another one that is not there is broken, and not missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there_pkg").mkdir()
    (tmp_path / "there_pkg" / "__init__.py").touch()
    (tmp_path / "there_pkg" / "bad.py").write_text("import not_there_either\n")
    (tmp_path / "bad.py").write_text("import not_there_either\n")
    for target in ("not_there:Net", "there_pkg.not_there:Net", "there_pkg:Net", "nowhere.py:Net"):
        with pytest.raises(MissingWorkloadError):
            load(target, {})
    for target in ("there_pkg.bad:Net", "bad.py:Net"):
        with pytest.raises(ModuleNotFoundError, match="not_there_either"):
            load(target, {})


@pytest.mark.slow
@pytest.mark.launch
def test_real_ranks_say_what_is_not_there(repo: Repo, bench: Any) -> None:
    net = """
import torch
from torch import nn


class Net:
    unit, batch_size = "samples", 8

    def build(self):
        return nn.Linear(4, 1)

    def loss(self, model, batch):
        return model(batch[0]).square().mean()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.ones(64, 4))

    def layers(self, model):
        return []
"""
    repo.commit(mine=net)
    words = (
        *OPTIONS,
        "--warmup-steps",
        "0",
        "--a-rev",
        "old",
        "--b-rev",
        "HEAD",
        "--workload",
        "mine.py:Net",
        "--json",
    )
    done = bench("ab", *words, cwd=repo.folder)
    assert done.code == 0, done.stderr
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert (verdict["verdict"], verdict["reason"]) == ("new", "A lacks it: mine.py has no 'Net'")
    assert verdict["samples_per_s_b"] > 0
    with (repo.run() / "launches.csv").open(newline="") as stream:
        assert [row["sources"] for row in csv.DictReader(stream)] == ["", *["mine.py"] * 3]
