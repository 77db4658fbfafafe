"""A history on a branch: real repositories, clones that add at the same time, and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_up_rows import session

from bench.errors import BenchError, ResultsError, UsageError
from bench.history import branch as branches
from bench.history.branch import Branch, branch
from bench.history.repository import MovedError, Repository, without_secrets
from bench.history.sessions import SessionFile, session_of

NAME = "bench-history"
FILES = "sessions"


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of the machine, and a user who has a name."""
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(
        "[user]\n\tname = A User\n\temail = user@localhost\n[init]\n\tdefaultBranch = main\n"
    )


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Callable[..., Path]:
    """Clone a bare repository with one commit; ``options`` of git clone."""
    seed = tmp_path / "seed"
    seed.mkdir()
    git(seed, "init", "--quiet")
    for n in range(2):
        (seed / "mine.py").write_text(f"n = {n}\n")
        git(seed, "add", ".")
        git(seed, "commit", "--quiet", "--message", f"code {n}")
    subprocess.run(["git", "clone", "--quiet", "--bare", seed, tmp_path / "remote.git"], check=True)

    def make(name: str, *options: str) -> Path:
        source = (tmp_path / "remote.git").as_uri()  # not a path, which git clones without --depth
        subprocess.run(["git", "clone", "--quiet", *options, source, tmp_path / name], check=True)
        return tmp_path / name

    return make


def made(day: int, rate: float = 100.0) -> SessionFile:
    return session_of("a run", session([rate, rate + 1], run_id=f"202601{day:02}-000000-00aa"))


def add(folder: Path, one: SessionFile, push: str | None = None, name: str = NAME) -> bool:
    return branches.add(branch(Repository(folder), name), one, push, print).new


def days(folder: Path, ref: str = NAME) -> list[str]:
    return [name[6:8] for name in git(folder, "ls-tree", "--name-only", f"{ref}:{FILES}").splitlines()]


def subjects(folder: Path, ref: str = NAME) -> list[str]:
    return git(folder, "log", "--reverse", "--format=%s", ref).splitlines()


# -- one repository ------------------------------------------------------------------------------------------------


def test_a_branch_begins_without_a_parent_and_gets_a_commit_for_each_session(clone: Callable[..., Path]) -> None:
    here = clone("here")
    assert add(here, made(1))
    assert add(here, made(2))
    assert not add(here, made(1))
    assert subjects(here) == ["Session 20260101-000000-00aa", "Session 20260102-000000-00aa"]
    assert (
        git(here, "log", "--format=%an <%ae>, %cn <%ce>", "-1", NAME)
        == "A User <user@localhost>, A User <user@localhost>"
    )
    assert git(here, "ls-tree", "-r", "--name-only", NAME).splitlines() == [
        f"{FILES}/20260101-000000-00aa.csv",
        f"{FILES}/20260102-000000-00aa.csv",
    ]
    shown = subprocess.run(
        ["git", "-C", here, "show", f"{NAME}:{FILES}/{made(1).name}"], capture_output=True, check=True
    )
    assert shown.stdout == made(1).content
    git(here, "fsck", "--strict")


def test_neither_files_nor_index_nor_branches_change(clone: Callable[..., Path]) -> None:
    here = clone("here")
    (here / "mine.py").write_text("edited\n")
    (here / "staged.py").write_text("staged\n")
    git(here, "add", "staged.py")
    (here / "new.py").write_text("new\n")
    index, head = (here / ".git" / "index").read_bytes(), git(here, "rev-parse", "HEAD")
    status = git(here, "status", "--porcelain")
    for push in (None, "origin"):
        add(here, made(1 if push else 2), push)
    assert (here / ".git" / "index").read_bytes() == index
    assert (git(here, "status", "--porcelain"), git(here, "rev-parse", "HEAD")) == (status, head)
    assert git(here, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(here, "for-each-ref", "refs/stepbench") == ""
    assert sorted(path.name for path in here.iterdir()) == [".git", "mine.py", "new.py", "staged.py"]


def test_the_users_hooks_are_not_run(clone: Callable[..., Path]) -> None:
    here = clone("here")
    for name in ("pre-push", "reference-transaction", "pre-commit"):
        hook = here / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    assert add(here, made(1), "origin")


def test_without_a_name_in_gits_configuration_the_author_is_stepbench(
    clone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = clone("here")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(variable, raising=False)
    add(here, made(1))
    assert git(here, "log", "--format=%an <%ae>, %cn", NAME) == "stepbench <stepbench@localhost>, stepbench"


def test_other_files_of_the_branch_stay(clone: Callable[..., Path]) -> None:
    here = clone("here")
    add(here, made(1))
    git(here, "worktree", "add", "--quiet", "../there", NAME)
    (here.parent / "there" / "README.md").write_text("our history\n")
    git(here.parent / "there", "add", ".")
    git(here.parent / "there", "commit", "--quiet", "--message", "a page")
    git(here, "worktree", "remove", "../there")
    add(here, made(2))
    assert git(here, "ls-tree", "--name-only", NAME).splitlines() == ["README.md", FILES]
    assert days(here) == ["01", "02"]


@pytest.mark.parametrize(
    "name",
    ["", "-d", "--force", "a b", "a..b", "a~1", "refs heads", "a\nb", "@{-1}", "a.lock", "HEAD", "a/", "ä", "a;rm"],
)
def test_names_that_are_not_allowed(clone: Callable[..., Path], name: str) -> None:
    with pytest.raises(UsageError, match="allowed: the name of a branch"):
        add(clone("here"), made(1), name=name)


@pytest.mark.parametrize("remote", ["", "--upload-pack=touch hacked", "-o"])
def test_remotes_that_are_options(clone: Callable[..., Path], remote: str) -> None:
    here = clone("here")
    with pytest.raises(UsageError, match=r"--push: got .* allowed: the name of a remote"):
        add(here, made(1), remote)
    assert git(here, "for-each-ref", f"refs/heads/{NAME}") == ""


def test_a_branch_of_code_is_refused(clone: Callable[..., Path]) -> None:
    here = clone("here")
    git(here, "branch", "feature")
    tip = git(here, "rev-parse", "feature")
    with pytest.raises(UsageError, match=r"it has no folder sessions\. Choose a name that no other branch has"):
        add(here, made(1), name="feature")
    with pytest.raises(UsageError, match="branch main is checked out"):
        add(here, made(1), name="main")
    assert git(here, "rev-parse", "feature", "main").splitlines() == [tip, tip]


def test_a_folder_without_a_repository_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--branch needs a git repository; git says of .*: not a git repository"):
        branch(Repository(tmp_path), NAME)


def test_without_git_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"--branch needs git, which is not on the PATH\. Install git\."):
        branch(Repository(tmp_path), NAME)


def test_gits_own_words_are_told(clone: Callable[..., Path]) -> None:
    here = clone("here")
    with pytest.raises(ResultsError, match=r"git ls-remote: .*nowhere"):
        add(here, made(1), "nowhere")
    git(here, "branch", "taken/by")
    with pytest.raises(ResultsError, match=r"git update-ref: .*taken"):
        add(here, made(1), name="taken")


def test_messages_do_not_have_the_password_of_a_url(clone: Callable[..., Path]) -> None:
    with pytest.raises(ResultsError, match="git ls-remote: ") as told:
        add(clone("here"), made(1), "https://ci:secret@localhost:1/repository.git")
    assert "localhost" in str(told.value)
    assert "secret" not in str(told.value)
    assert without_secrets("push to https://ci:secret@host/a@b failed") == "push to https://host/a@b failed"


def test_other_rows_of_a_run_are_refused(clone: Callable[..., Path]) -> None:
    here = clone("here")
    add(here, made(1))
    with pytest.raises(UsageError, match="branch bench-history has other rows of run 20260101-000000-00aa already"):
        add(here, made(1, rate=90))
    assert subjects(here) == ["Session 20260101-000000-00aa"]


# -- clones --------------------------------------------------------------------------------------------------------


def test_two_clones_that_add_at_once_both_succeed(clone: Callable[..., Path], tmp_path: Path) -> None:
    one, two = clone("one"), clone("two")
    add(one, made(1), "origin")
    add(two, made(2), "origin")  # Its clone does not know of the branch yet.
    add(one, made(3), "origin")  # Its branch is behind.
    assert days(tmp_path / "remote.git") == ["01", "02", "03"]
    assert len(subjects(tmp_path / "remote.git")) == 3
    assert git(one, "rev-parse", NAME) == git(tmp_path / "remote.git", "rev-parse", NAME)


def test_sessions_that_were_not_pushed_are_put_on_top_of_the_remotes(
    clone: Callable[..., Path], tmp_path: Path
) -> None:
    one, two = clone("one"), clone("two")
    add(one, made(1), "origin")
    add(two, made(5))
    add(two, made(6))
    add(two, made(7), "origin")
    assert days(tmp_path / "remote.git") == ["01", "05", "06", "07"]
    assert [subject[14:16] for subject in subjects(tmp_path / "remote.git")] == ["01", "05", "06", "07"]
    assert git(tmp_path / "remote.git", "log", "--merges", "--format=%h", NAME) == ""


def test_files_beside_the_sessions_are_never_lost(clone: Callable[..., Path], tmp_path: Path) -> None:
    """The remote's newer ones are taken; own ones that were not pushed are not thrown away."""
    one, two = clone("one"), clone("two")
    add(one, made(1), "origin")
    add(two, made(2), "origin")
    add(two, made(3))  # not pushed
    write_beside(one, "theirs")
    git(one, "push", "--quiet", "origin", NAME)
    assert add(two, made(4), "origin")
    assert git(two, "show", f"{NAME}:README.md") == "theirs"
    assert days(tmp_path / "remote.git") == ["01", "02", "03", "04"]
    add(one, made(5), "origin")
    write_beside(two, "ours")
    tip = git(two, "rev-parse", NAME)
    with pytest.raises(UsageError, match=r"has files beside those of sessions .* Push them, or delete the branch here"):
        add(two, made(6), "origin")
    assert git(two, "rev-parse", NAME) == tip


def write_beside(folder: Path, text: str) -> None:
    """A commit on the branch with a file beside the sessions, on top of what the remote has."""
    there = folder.parent / f"worktree-{text}"
    git(folder, "fetch", "--quiet", "origin")
    git(folder, "worktree", "add", "--quiet", str(there), NAME)
    if text == "theirs":
        git(there, "reset", "--quiet", "--hard", f"origin/{NAME}")
    (there / "README.md").write_text(text)
    git(there, "add", ".")
    git(there, "commit", "--quiet", "--message", text)
    git(folder, "worktree", "remove", str(there))


def test_a_push_that_is_rejected_is_repeated(
    clone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the fetch and the push of one clone, another one pushes."""
    one, two = clone("one"), clone("two")
    push, pushes = Repository.push, []

    def late(self: Repository, remote: str, commit: str, ref: str) -> None:
        pushes.append(commit)
        if len(pushes) < 3:
            monkeypatch.setattr(Repository, "push", push)
            add(two, made(20 + len(pushes)), "origin")
            monkeypatch.setattr(Repository, "push", late)
        push(self, remote, commit, ref)

    monkeypatch.setattr(Repository, "push", late)
    assert add(one, made(1), "origin")
    assert len(pushes) == 3
    assert days(tmp_path / "remote.git") == ["01", "21", "22"]
    assert days(one) == ["01", "21", "22"]


def test_many_at_once_lose_nothing(clone: Callable[..., Path], tmp_path: Path) -> None:
    here = [clone(f"clone{n}") for n in range(3)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: add(here[n % 3], made(n + 1), "origin"), range(6)))
    assert days(tmp_path / "remote.git") == ["01", "02", "03", "04", "05", "06"]
    assert len(subjects(tmp_path / "remote.git")) == 6


def test_others_that_are_always_faster_end_it(clone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*_: object) -> None:
        raise MovedError

    monkeypatch.setattr(Repository, "move", moved)
    monkeypatch.setattr(branches, "TRIES", 3)
    with pytest.raises(ResultsError, match=r"was moved by others 3 times .* Repeat the command\."):
        add(clone("here"), made(1))


def test_what_the_remote_refuses_is_not_repeated(clone: Callable[..., Path], tmp_path: Path) -> None:
    here = clone("here")
    hook = tmp_path / "remote.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho called >> calls\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(
        ResultsError, match=r"git push to origin: \[remote rejected\] \(pre-receive hook declined\)"
    ) as told:
        add(here, made(1), "origin")
    assert told.value.hint == "The session is on the branch in this repository; push that, or repeat the command."
    assert (tmp_path / "remote.git" / "calls").read_text() == "called\n"
    assert days(here) == ["01"]


def test_a_shallow_clone_of_one_commit_is_enough(clone: Callable[..., Path], tmp_path: Path) -> None:
    full = clone("full")
    for day in (1, 2, 3):
        add(full, made(day), "origin")
    shallow = clone("shallow", "--depth=1")
    assert git(shallow, "rev-parse", "--is-shallow-repository") == "true"
    assert add(shallow, made(4), "origin")
    assert add(full, made(5), "origin")
    assert add(shallow, made(6), "origin")
    assert days(tmp_path / "remote.git") == ["01", "02", "03", "04", "05", "06"]
    assert len(subjects(tmp_path / "remote.git")) == 6
    assert git(shallow, "rev-parse", "--is-shallow-repository") == "true"
    git(tmp_path / "remote.git", "fsck", "--strict")


def test_a_session_of_the_remote_stays_as_it_is(clone: Callable[..., Path]) -> None:
    one, two = clone("one"), clone("two")
    add(one, made(1), "origin")
    add(two, made(1, rate=50))
    warnings: list[str] = []
    branches.add(branch(Repository(two), NAME), made(2), "origin", warnings.append)
    assert warnings == ["branch bench-history: the remote has other rows of 20260101-000000-00aa.csv, which stay"]
    assert dict(kept(two))[f"{NAME}:{FILES}/{made(1).name}"] == made(1).content


# -- reading -------------------------------------------------------------------------------------------------------


def kept(folder: Path, last: int = 9) -> list[tuple[str, bytes]]:
    return list(branches.kept(branch(Repository(folder), NAME), last).files)


def test_the_latest_sessions_are_read(clone: Callable[..., Path]) -> None:
    here = clone("here")
    for day in (2, 1, 3):
        add(here, made(day))
    found = branches.kept(branch(Repository(here), NAME), 2)
    assert found.earlier == 1
    assert list(found.files) == [(f"{NAME}:{FILES}/{made(day).name}", made(day).content) for day in (2, 3)]


def test_a_branch_that_was_fetched_is_read_and_continued(clone: Callable[..., Path]) -> None:
    add(clone("one"), made(1), "origin")
    later = clone("later")
    assert git(later, "for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main"
    assert [content for _, content in kept(later)] == [made(1).content]
    add(later, made(2))
    assert days(later) == ["01", "02"]


def test_without_the_branch_the_message_says_how_to_get_it(clone: Callable[..., Path]) -> None:
    with pytest.raises(BenchError, match=r"there is no branch bench-history in .*Fetch it \(git fetch origin"):
        kept(clone("here"))


def test_links_and_folders_are_no_sessions(clone: Callable[..., Path]) -> None:
    here = clone("here")
    add(here, made(1))
    git(here, "worktree", "add", "--quiet", "../there", NAME)
    inside = here.parent / "there" / FILES
    (inside / "20260102-000000-00aa.csv").symlink_to("/etc/passwd")
    (inside / "20260103-000000-00aa.csv").mkdir()
    (inside / "20260103-000000-00aa.csv" / "file").touch()
    git(here.parent / "there", "add", ".")
    git(here.parent / "there", "commit", "--quiet", "--message", "a link")
    assert [content for _, content in kept(here)] == [made(1).content]


def test_a_branch_is_its_name() -> None:
    assert Branch(Repository(Path()), NAME).ref == "refs/heads/bench-history"
