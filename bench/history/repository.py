"""Git's own commands for a branch that is never checked out: objects are written, and the branch is moved to them.

Neither the user's files nor the index are read or changed.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ResultsError, UsageError, shorten
from bench.machine.environment import git_environment

AUTHOR = ("stepbench", "stepbench@localhost")  # If git's configuration names nobody.
# The user's hooks are for their own commits, and a clean-up in the background is not asked for.
ALWAYS = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}  # English messages, and no questions.
SECONDS = 600.0  # A command takes at most this long.
# What git says if somebody else has moved a branch meanwhile.
MOVED_HERE = ("but expected", "reference already exists", ".lock'")
MOVED_THERE = (
    *("[rejected]", "cannot lock ref", "failed to update ref"),
    *("reference already exists", "incorrect old value"),
)


class MovedError(Exception):
    """Somebody else has moved the branch, here or at the remote; look at it anew."""


@dataclass(frozen=True)
class Entry:
    """An entry of a git tree."""

    mode: str
    kind: str
    oid: str


@dataclass(frozen=True)
class Repository:
    """The git repository that a folder belongs to. All methods raise ResultsError with git's own words."""

    folder: Path

    def check(self) -> None:
        """Raise UsageError if the folder is in no repository."""
        done = self._git("rev-parse", "--git-dir")
        if done.returncode:
            raise UsageError(
                f"--branch needs a git repository; git says of {self.folder}: {_said(done)}",
                option="--branch",
                given=str(self.folder),
                hint="Call it in a clone, or give --folder.",
            )

    def is_branch_name(self, name: str) -> bool:
        """Return whether git allows a branch of this name."""
        return self._git("check-ref-format", f"refs/heads/{name}").returncode == 0

    def is_checked_out(self, ref: str) -> bool:
        """Return whether a branch is checked out, here or in another worktree."""
        listed = self._must("worktree", "list", "--porcelain").decode(errors="replace")
        return f"branch {ref}" in listed.splitlines()

    def tip(self, ref: str) -> str | None:
        """Return the commit of a reference, None if there is no such reference."""
        done = self._git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return done.stdout.decode().strip() or None

    def remote_branches(self, name: str) -> list[str]:
        """Return the references to branches of this name at remotes, as they were last fetched."""
        found = self._must("for-each-ref", "--format=%(refname)", "refs/remotes/").decode(errors="replace").split("\n")
        return [ref for ref in found if ref.split("/", 3)[3:] == [name]]

    def is_ancestor(self, old: str, new: str) -> bool:
        """Return whether a commit is among the ancestors of another, as far as they are known in a shallow clone."""
        return self._git("merge-base", "--is-ancestor", old, new).returncode == 0

    def common(self, one: str, other: str) -> str | None:
        """Return the latest common ancestor of two commits; None if none is known."""
        return self._git("merge-base", one, other).stdout.decode().strip() or None

    # -- objects -------------------------------------------------------------------------------------------------------

    def entries(self, tree: str) -> dict[str, Entry]:
        """Return the entries of a tree, or of a commit's, by name."""
        found: dict[str, Entry] = {}
        for line in self._must("ls-tree", "-z", "--full-tree", tree).split(b"\0")[:-1]:
            about, _, name = line.partition(b"\t")
            found[os.fsdecode(name)] = Entry(*about.decode().split())
        return found

    def blobs(self, oids: Sequence[str]) -> list[bytes]:
        """Return the contents of files."""
        said = self._must("cat-file", "--batch", given="".join(f"{oid}\n" for oid in oids).encode())
        found, at = [], 0
        for oid in oids:
            end = said.index(b"\n", at)
            words = said[at:end].decode().split()
            if len(words) != 3:
                raise ResultsError(f"git cat-file: {oid} is missing in {self.folder}", hint="Fetch the branch again.")
            size = int(words[2])
            found.append(said[end + 1 : end + 1 + size])
            at = end + size + 2
        return found

    def write_blob(self, content: bytes) -> str:
        """Write a file, and return its id."""
        return self._must("hash-object", "-w", "--stdin", given=content).decode().strip()

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        """Write a tree, and return its id. Its objects may be missing here, as in a partial clone."""
        lines = [f"{one.mode} {one.kind} {one.oid}\t".encode() + os.fsencode(name) for name, one in entries.items()]
        return self._must("mktree", "-z", "--missing", given=b"".join(line + b"\0" for line in lines)).decode().strip()

    def write_commit(self, tree: str, parents: Iterable[str], message: str) -> str:
        """Write a commit, and return its id; its author is that of git's configuration, or AUTHOR."""
        words = [word for parent in parents for word in ("-p", parent)]
        return self._must("commit-tree", tree, *words, given=message.encode(), env=self._identity()).decode().strip()

    # -- branches ------------------------------------------------------------------------------------------------------

    def move(self, ref: str, new: str, old: str | None) -> None:
        """Move a branch, or create it; MovedError if it is no longer at ``old``."""
        before = old or "0" * len(new)
        done = self._git("update-ref", "--no-deref", "-m", "bench history add", ref, new, before)
        if done.returncode:
            if any(words in _said(done) for words in MOVED_HERE):
                raise MovedError
            raise ResultsError(f"git update-ref: {_said(done)}")

    def fetched(self, remote: str, ref: str) -> str | None:
        """Fetch a branch, and return its commit; None if the remote has no such branch.

        A shallow clone stays shallow.
        """
        if not self._must("ls-remote", "--", remote, ref).strip():
            return None
        own = f"refs/stepbench/{secrets.token_hex(8)}"  # FETCH_HEAD may be overwritten by another process.
        shallow = self._must("rev-parse", "--is-shallow-repository").strip() == b"true"
        depth = ["--depth=1"] if shallow else []
        words = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--refmap=", *depth)
        done = self._git("fetch", *words, "--", remote, f"+{ref}:{own}")
        if done.returncode and any(said in _said(done) for said in MOVED_HERE):
            raise MovedError
        if done.returncode:
            raise ResultsError(f"git fetch: {_said(done)}", hint="Mend that, and repeat the command.")
        commit = self.tip(own)
        self._must("update-ref", "-d", own)
        return commit

    def push(self, remote: str, commit: str, ref: str) -> None:
        """Push a commit to a branch; MovedError if somebody else has pushed meanwhile."""
        done = self._git("push", "--porcelain", "--no-verify", "--", remote, f"{commit}:{ref}")
        if done.returncode:
            lines = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
            refused = [line for line in lines if line.startswith("!")]
            if any(words in line for line in refused for words in MOVED_THERE):
                raise MovedError
            why = shorten("; ".join(line.split("\t")[-1] for line in refused) or _said(done))
            raise ResultsError(
                f"git push to {without_secrets(remote)}: {why}",
                option="--push",
                given=without_secrets(remote),
                hint="The session is on the branch in this repository; push that, or repeat the command.",
            )

    # -- git -----------------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        """Return variables that name AUTHOR as far as git's configuration and variables name nobody."""
        found: dict[str, str] = {}
        for role in ("AUTHOR", "COMMITTER"):
            if self._git("-c", "user.useConfigOnly=true", "var", f"GIT_{role}_IDENT").returncode:
                found |= {f"GIT_{role}_NAME": AUTHOR[0], f"GIT_{role}_EMAIL": AUTHOR[1]}
        return found

    def _must(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        done = self._git(*words, given=given, env=env)
        if done.returncode:
            raise ResultsError(f"git {words[0]}: {_said(done)}", hint="Mend that, and repeat the command.")
        return done.stdout

    def _git(
        self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        variables = {**git_environment(), **ENVIRONMENT, **(env or {})}
        command = ["git", "-C", str(self.folder), *ALWAYS, *words]
        try:
            return subprocess.run(command, input=given, capture_output=True, env=variables, timeout=SECONDS)
        except FileNotFoundError:
            raise UsageError("--branch needs git, which is not on the PATH", hint="Install git.") from None
        except subprocess.TimeoutExpired:
            raise ResultsError(f"git {words[0]} took longer than {SECONDS:.0f} s and was ended") from None


def without_secrets(text: str) -> str:
    """Return a text in which URLs have neither user nor password."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what git says of an error, in one line."""
    text = without_secrets((done.stderr or done.stdout).decode(errors="replace"))
    return shorten(text.replace("fatal: ", "").replace("error: ", "")) or f"it ended with {done.returncode}"
