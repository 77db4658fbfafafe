"""Where ranks of a side run: paths in another checkout, and what may be imported from where."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.errors import IncomparableError
from bench.rank.facts import imported
from bench.site import Site

HERE = Site()
AT_TOP = Site(top="/repo", root="/repo")
ELSEWHERE = Site(top="/repo", root="/tmp/sides/B")


@pytest.fixture
def repo(tmp_path: Path) -> Site:
    """A repository and another checkout of it, as folders."""
    for name in ("repo/inner", "other/inner"):
        (tmp_path / name).mkdir(parents=True)
    return Site(top=str(tmp_path / "repo"), root=str(tmp_path / "other"))


def test_only_another_checkout_is_elsewhere() -> None:
    assert [site.is_elsewhere for site in (HERE, AT_TOP, ELSEWHERE)] == [False, False, True]
    assert [site.watched for site in (HERE, AT_TOP, ELSEWHERE)] == [[], ["/repo"], ["/repo", "/tmp/sides/B"]]


@pytest.mark.parametrize(
    ("target", "moved"),
    [
        ("/repo/mine.py:Net", "/tmp/sides/B/mine.py:Net"),
        ("/repo/a/b/mine.py:Net", "/tmp/sides/B/a/b/mine.py:Net"),
        ("/repository/mine.py:Net", "/repository/mine.py:Net"),  # begins alike, and is another folder
        ("/elsewhere/mine.py:Net", "/elsewhere/mine.py:Net"),
        ("package.module:Net", "package.module:Net"),  # found from the folder that ranks run in
        ("workloads.mlp:Mlp", "workloads.mlp:Mlp"),
    ],
)
def test_a_workload_is_that_of_the_checkout(target: str, moved: str) -> None:
    assert ELSEWHERE.target(target) == moved
    assert HERE.target(target) == target
    assert AT_TOP.target(target) == target


def test_ranks_run_in_the_folder_of_the_checkout(monkeypatch: pytest.MonkeyPatch, repo: Site, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path / "repo" / "inner")
    assert repo.folder() == tmp_path / "other" / "inner"
    assert (HERE.folder(), Site(top=repo.top, root=repo.top).folder()) == (None, None)
    (tmp_path / "repo" / "new").mkdir()
    monkeypatch.chdir(tmp_path / "repo" / "new")
    assert repo.folder() == tmp_path / "other"  # which has no such folder
    monkeypatch.chdir(tmp_path)
    assert repo.folder() == tmp_path  # which is in no repository


def test_packages_that_are_lent_come_first() -> None:
    assert Site(packages="/lent").variables({}) == {"PYTHONPATH": "/lent"}
    assert Site(packages="/lent").variables({"PYTHONPATH": "/a:/b"}) == {"PYTHONPATH": "/lent:/a:/b"}
    assert HERE.variables({"PYTHONPATH": "/a"}) == {}


def test_imported_files_are_told_from_the_checkout_on() -> None:
    files = ["/tmp/sides/B/mine.py", "/tmp/sides/B/a/helper.py", "/repo/other.py"]
    assert ELSEWHERE.listed(files) == "/repo/other.py;a/helper.py;mine.py"
    assert AT_TOP.listed(["/repo/mine.py"]) == "mine.py"
    assert ELSEWHERE.listed([]) == ""


def test_a_file_of_another_checkout_is_an_error_that_names_it() -> None:
    ELSEWHERE.check("a/helper.py;mine.py")
    ELSEWHERE.check("")
    ELSEWHERE.check(None)
    with pytest.raises(
        IncomparableError, match=r"^/repo/other\.py was imported, .* of the checkout /tmp/sides/B: .*pip"
    ):
        ELSEWHERE.check("/repo/other.py;mine.py")


# -- what a rank tells -------------------------------------------------------------------------------------------------


class Module:
    def __init__(self, file: object) -> None:
        self.__file__ = file


def test_a_rank_tells_what_it_imported_of_some_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not what is beside them, nor what has no file, nor torch's own modules whose file is said to be `_ops.py`."""
    repo, real = tmp_path / "repo", tmp_path / "real"
    for folder in (repo, real, tmp_path / "repository"):
        folder.mkdir()
    (repo / "link.py").symlink_to(real / "linked.py")
    files = [repo / "b.py", repo / "a.py", tmp_path / "repository" / "c.py", repo / "link.py", "_ops.py", None]
    for number, file in enumerate(files):
        monkeypatch.setitem(sys.modules, f"made_up_{number}", Module(file and str(file)))  # type: ignore[arg-type]
    monkeypatch.chdir(repo)
    assert imported([str(repo)]) == [str(repo / "a.py"), str(repo / "b.py")]
    assert imported([str(repo), str(real)]) == [str(real / "linked.py"), str(repo / "a.py"), str(repo / "b.py")]
    assert imported([]) == []


def test_an_environment_inside_of_the_repository_is_none_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    for number, file in enumerate((".venv/lib/numbers.py", ".venv2/lib/numbers.py", "mine.py")):
        monkeypatch.setitem(sys.modules, f"made_up_{number}", Module(os.fspath(tmp_path / file)))  # type: ignore[arg-type]
    assert imported([str(tmp_path)]) == [str(tmp_path / ".venv2/lib/numbers.py"), str(tmp_path / "mine.py")]
