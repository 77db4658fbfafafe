"""The sites of ranks: paths in another checkout, and which imports are allowed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.errors import IncomparableError
from bench.rank.software import imported
from bench.runner.rank_site import Site

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
        ("/repository/mine.py:Net", "/repository/mine.py:Net"),  # the same prefix, but another folder
        ("/elsewhere/mine.py:Net", "/elsewhere/mine.py:Net"),
        ("package.module:Net", "package.module:Net"),  # found from the folder that ranks run in
        ("workloads.mlp:MLP", "workloads.mlp:MLP"),
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
    assert repo.folder() == tmp_path / "other"  # the checkout has no such folder
    monkeypatch.chdir(tmp_path)
    assert repo.folder() == tmp_path / "other"  # the current folder is in no repository


def test_packages_that_are_lent_come_first() -> None:
    assert Site(packages="/lent").variables({}) == {"PYTHONPATH": "/lent"}
    assert Site(packages="/lent").variables({"PYTHONPATH": "/a:/b"}) == {"PYTHONPATH": "/lent:/a:/b"}
    assert HERE.variables({"PYTHONPATH": "/a"}) == {}


def test_imported_files_are_told_from_the_checkout_on() -> None:
    files = ["/tmp/sides/B/mine.py", "/tmp/sides/B/a/helper.py", "/repo/other.py"]
    assert ELSEWHERE.listed(files) == "/repo/other.py;a/helper.py;mine.py"
    assert AT_TOP.listed(["/repo/mine.py"]) == "mine.py"
    assert ELSEWHERE.listed([]) == ""


def test_an_installed_file_is_told_in_full_even_in_the_checkout() -> None:
    """As in an environment inside the repository."""
    copy = "/repo/.venv/lib/python3.11/site-packages/mine/__init__.py"
    assert AT_TOP.listed(["/repo/mine.py", copy]) == f"{copy};mine.py"
    inside = Site(top="/x/site-packages/repo", root="/x/site-packages/repo")
    assert inside.listed(["/x/site-packages/repo/mine.py"]) == "mine.py"


def test_a_file_from_elsewhere_is_an_error_that_names_it() -> None:
    ELSEWHERE.check("a/helper.py;mine.py")
    ELSEWHERE.check("")
    ELSEWHERE.check(None)
    with pytest.raises(IncomparableError) as raised:
        ELSEWHERE.check("/repo/other.py;mine.py")
    assert str(raised.value) == (
        "/repo/other.py was imported, which is not of the checkout /tmp/sides/B: an editable install (pip install -e) "
        "leads there, or an installed copy hides the checkout's own. Uninstall it, or import it from the workload's own "
        "folder (put that first in sys.path)."
    )


# -- what a rank tells -------------------------------------------------------------------------------------------------


class Module:
    def __init__(self, file: object) -> None:
        self.__file__ = file


def load(monkeypatch: pytest.MonkeyPatch, **modules: Path) -> None:
    """Pretend that modules of these names were imported from these files."""
    for name, file in modules.items():
        monkeypatch.setitem(sys.modules, name, Module(os.fspath(file)))  # type: ignore[arg-type]


def made(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_a_rank_tells_what_it_imported_of_some_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without files beside them, modules without a file, and torch's own modules with the file `_ops.py`."""
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


def test_an_environment_is_known_by_all_its_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The repository is reached through a link: git and the files of modules are resolved, the prefix is not."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link" / ".venv"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "link" / "python"))
    files = {"made_up": ".venv/lib/numbers.py", "made_up_too": "python/lib/os.py", "mine": "mine.py"}
    load(monkeypatch, **{name: tmp_path / "link" / file for name, file in files.items()})
    assert imported([str(tmp_path / "real")]) == [str(tmp_path / "real" / "mine.py")]


@pytest.mark.parametrize("prefix", [".", ".."])
def test_an_environment_that_holds_the_repository_hides_none_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    """As /usr contains /usr/src/app, or if the repository itself is an environment."""
    repo = tmp_path / "src" / "app"
    repo.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str((repo / prefix).resolve()))
    load(monkeypatch, mine=repo / "mine.py", made_up=repo / "lib" / "site-packages" / "made_up.py")
    assert imported([str(repo)]) == [str(repo / "mine.py")]


@pytest.mark.parametrize("own", ["mine.py", "mine/__init__.py", "src/mine.py", "src/mine/__init__.py"])
@pytest.mark.parametrize("installed", ["venv", "repo/.venv"])
def test_a_rank_tells_of_an_installed_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, installed: str
) -> None:
    """Of the user's package, if it precedes that of the checkout; its own imports are not listed."""
    repo, packages = tmp_path / "repo", tmp_path / installed / "lib" / "site-packages"
    made(repo / own)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / installed))
    copy = packages / "mine" / "__init__.py"
    load(monkeypatch, **{"mine": copy, "mine.part": packages / "mine" / "part.py", "other": packages / "other.py"})
    assert imported([str(tmp_path / "B"), str(repo)]) == [str(copy)]
    assert imported([]) == []
    with pytest.raises(IncomparableError, match="an installed copy hides"):
        Site(top=str(repo), root=str(repo)).check(Site(top=str(repo), root=str(repo)).listed([str(copy)]))


def test_what_is_never_a_copy_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python's own modules, this project's, deeper modules of the repository, and a link of it that leads elsewhere."""
    repo, elsewhere = tmp_path / "repo", tmp_path / "elsewhere"
    names = ("json", "bench", "launch", "workloads", "__main__")
    made(*(repo / f"{name}.py" for name in names), repo / "deeper" / "numbers_of_mine.py", elsewhere / "linked.py")
    (repo / "linked.py").symlink_to(elsewhere / "linked.py")
    load(monkeypatch, **{name: elsewhere / f"{name}.py" for name in (*names, "numbers_of_mine")})
    load(monkeypatch, linked=repo / "linked.py")
    assert imported([str(repo)]) == []
