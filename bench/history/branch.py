"""A history on a branch of the user's repository: append-only, one commit for each session.

The files of sessions are in SESSIONS; other files of the branch stay as they are. If two clones add sessions at once,
the later one takes those of the other, and adds its own on top.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bench.errors import ResultsError, UsageError
from bench.history.repository import Entry, MovedError, Repository
from bench.history.sessions import SUFFIX, Kept, SessionFile, check_same, session_names

SESSIONS = "sessions"  # The folder of the sessions on the branch.
TRIES = 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")  # What git allows is checked as well.
FILE, FOLDER, LINK = "100644", "040000", "120000"  # Modes of git's entries.

Files = dict[str, Entry]


class Added(NamedTuple):
    """What was done: the branch's commit, and whether the session is new on it, at the remote if it was pushed."""

    commit: str
    new: bool


@dataclass(frozen=True)
class Branch:
    """A branch of a repository; make one with ``branch``."""

    repository: Repository
    name: str

    @property
    def ref(self) -> str:
        """The whole name of the branch."""
        return f"refs/heads/{self.name}"

    def sessions(self, commit: str | None) -> Files:
        """Return the files of sessions in a commit; UsageError if it has other files and none of sessions."""
        if commit is None:
            return {}
        top = self.repository.entries(commit)
        if top and (SESSIONS not in top or top[SESSIONS].kind != "tree"):
            raise UsageError(
                option="--branch",
                given=self.name,
                allowed=f"a branch that has only a history, which this one is not: it has no folder {SESSIONS}",
                hint="Choose a name that no other branch has, such as bench-history; the branch is then created.",
            )
        return {name: one for name, one in self.inside(top).items() if one.kind == "blob" and one.mode != LINK}

    def inside(self, top: Files) -> Files:
        """Return all entries of the folder of sessions, by those of the branch's top folder."""
        folder = top.get(SESSIONS)
        return self.repository.entries(folder.oid) if folder else {}


def branch(repository: Repository, name: str) -> Branch:
    """Return a branch for a history, which need not exist; UsageError for a name that is not allowed."""
    repository.check()
    if not NAME.fullmatch(name) or name == "HEAD" or not repository.is_branch_name(name):
        allowed = "the name of a branch, of a-z, A-Z, 0-9, '.', '_', '-' and '/', such as bench-history"
        raise UsageError(option="--branch", given=name, allowed=allowed)
    return Branch(repository, name)


# -- adding --------------------------------------------------------------------------------------------------------


def add(to: Branch, session: SessionFile, remote: str | None, warn: Callable[[str], None]) -> Added:
    """Add a session in a commit of its own, and push the branch to ``remote`` if there is one.

    If somebody else adds sessions at the same time, take theirs and try again. UsageError if the branch is checked
    out, has no history, or has other rows of the run; ResultsError if git fails, or others are faster each time.
    """
    if remote is not None and (not remote or remote.startswith("-")):
        raise UsageError(option="--push", given=remote, allowed="the name of a remote, such as origin, or a URL")
    if to.repository.is_checked_out(to.ref):
        raise UsageError(
            f"branch {to.name} is checked out, and its files would no longer be those of its last commit",
            option="--branch",
            given=to.name,
            hint="Check out another branch there, or choose another name.",
        )
    for attempt in range(TRIES):
        time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)) if attempt else 0)
        try:
            return _add_once(to, session, remote, warn)
        except MovedError:
            continue
    raise ResultsError(
        f"branch {to.name} was moved by others {TRIES} times while session {session.run_id} was added",
        option="--branch",
        given=to.name,
        hint="Repeat the command.",
    )


def _add_once(to: Branch, session: SessionFile, remote: str | None, warn: Callable[[str], None]) -> Added:
    """Add a session to what is at the remote, or else here; MovedError if the branch has been moved meanwhile."""
    git = to.repository
    here, there = git.tip(to.ref), git.fetched(remote, to.ref) if remote else None
    base = there or here or _fetched_earlier(to)
    files = to.sessions(base)
    new = session.name not in files
    if here and there and here != there:
        if git.is_ancestor(there, here):
            base, files = here, to.sessions(here)
        else:
            base, files = _joined(to, here, there, files, warn)
    if session.name not in files:
        entry = Entry(FILE, "blob", git.write_blob(session.content))
        base, files = _commit(to, base, files, session.name, entry)
    else:
        check_same(f"branch {to.name}", session, git.blobs([files[session.name].oid])[0])
    assert base is not None
    if base != here:
        git.move(to.ref, base, here)
    if remote and base != there:
        git.push(remote, base, to.ref)
    return Added(base, new)


def _fetched_earlier(to: Branch) -> str | None:
    """Return the commit of the branch at a remote, if just one has it."""
    found = to.repository.remote_branches(to.name)
    return to.repository.tip(found[0]) if len(found) == 1 else None


def _joined(to: Branch, here: str, there: str, files: Files, warn: Callable[[str], None]) -> tuple[str, Files]:
    """Return the remote's branch with the sessions that only the branch here has, each in a commit of its own."""
    common = to.repository.common(here, there)
    own, theirs, before = (_other_files(to.repository, commit) for commit in (here, there, common or there))
    if own not in (theirs, before):
        raise UsageError(
            f"branch {to.name} here has files beside those of sessions that the remote's does not have",
            option="--branch",
            given=to.name,
            hint="Push them, or delete the branch here (git branch -D), first.",
        )
    base = there
    for name, entry in sorted(to.sessions(here).items()):
        if name not in files:
            base, files = _commit(to, base, files, name, entry)
        elif files[name] != entry:
            warn(f"branch {to.name}: the remote has other rows of {name}, which stay")
    return base, files


def _other_files(git: Repository, commit: str) -> Files:
    return {name: entry for name, entry in git.entries(commit).items() if name != SESSIONS}


def _commit(to: Branch, parent: str | None, files: Files, name: str, entry: Entry) -> tuple[str, Files]:
    """Return a commit with one more session on top of ``parent``, and its sessions."""
    git, files = to.repository, {**files, name: entry}
    top = git.entries(parent) if parent else {}
    top[SESSIONS] = Entry(FOLDER, "tree", git.write_tree({**to.inside(top), name: entry}))
    message = f"Session {name.removesuffix(SUFFIX)}\n"
    return git.write_commit(git.write_tree(top), [parent] if parent else [], message), files


# -- reading -------------------------------------------------------------------------------------------------------


def kept(of: Branch, last: int) -> Kept:
    """Return the names and contents of the ``last`` sessions; ResultsError if there is none.

    A branch that is not here, but was fetched from one remote, is read as it was then.
    """
    commit = of.repository.tip(of.ref) or _fetched_earlier(of)
    found = of.sessions(commit)
    names = session_names(found)
    if not names:
        what = "there is no branch" if commit is None else "there is no session on branch"
        raise ResultsError(
            f"{what} {of.name} in {of.repository.folder}",
            option="--branch",
            given=of.name,
            hint=f"Fetch it (git fetch origin {of.name}:{of.name}), or add a run with bench history add.",
        )
    latest = names[-last:]
    contents = of.repository.blobs([found[name].oid for name in latest])
    shown = [f"{of.name}:{SESSIONS}/{name}" for name in latest]
    return Kept(list(zip(shown, contents, strict=True)), len(names) - len(latest))
