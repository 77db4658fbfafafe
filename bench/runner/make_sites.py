"""Makes the sites of a comparison's sides on this node: worktrees of revisions, and packages for other interpreters."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UsageError, shorten
from bench.machine.environment import rank_environment
from bench.runner.checkouts import folder_of_sides, git
from bench.runner.rank_site import Site

PROBE = (
    "import platform, sys; sys.version_info >= (3, 11) or sys.exit('it is Python ' + sys.version); "
    "import torch, torchvision, psutil; "
    "of = lambda module: getattr(module, '__version__', 'of an unknown version'); "
    "print(f'Python {platform.python_version()}, torch {of(torch)}, torchvision {of(torchvision)}')"
)
PROBE_SECONDS = 120.0


@dataclass(frozen=True)
class SiteAsked:
    """The site of a side, which each node makes for its own ranks.

    ``python``: the full path of an interpreter; empty for this one. ``top``: the user's repository; empty if no side is
    of a revision. ``rev`` and ``commit``: a revision of it, as the user names it and by its hash; empty for the files
    as they are. ``variables``: environment variables of its ranks.
    """

    side: str
    python: str = ""
    top: str = ""
    rev: str = ""
    commit: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def flag(self, what: str) -> str:
        """Return the option of this side for its ``rev`` or ``python``."""
        return f"--{self.side.lower()}-{what}"


@contextmanager
def made_sites(asked: Sequence[SiteAsked]) -> Iterator[dict[str, Site]]:
    """Make the sites of all sides, by side: here, under another interpreter, or in a worktree of a revision.

    Worktrees, and the folder that gives stepbench's packages to another interpreter, are removed afterwards. UsageError
    for an interpreter that cannot run ranks, and for a revision that is not in the repository of this node.
    """
    top = next((Path(one.top) for one in asked if one.commit), None)
    with folder_of_sides(top, os.path.realpath(tempfile.gettempdir())) as folder:
        yield {one.side: _made(one, folder) for one in asked}


def _made(asked: SiteAsked, folder: Path) -> Site:
    root = str(_worktree(asked, folder)) if asked.commit else asked.top
    if not asked.python:
        return Site(top=asked.top, root=root)
    packages = str(_lend(folder))
    return Site(asked.python, packages, asked.top, root, _versions(asked, packages))


def _worktree(asked: SiteAsked, folder: Path) -> Path:
    """Check the commit out into a new worktree in the temporary folder."""
    path, flag = folder / asked.side, asked.flag("rev")
    fields = {"option": flag, "given": asked.rev}
    known = git_says(asked.top, "rev-parse", "--git-dir")
    if known.returncode:
        why = shorten(known.stderr.removeprefix("fatal: "))
        said = f"{flag} {asked.rev}: a revision needs the git repository {asked.top}; git says: {why}"
        raise UsageError(said, **fields, hint="Clone it there.")
    if git_says(asked.top, "cat-file", "-e", f"{asked.commit}^{{commit}}").returncode:
        said = f"{flag} {asked.rev}: the repository {asked.top} has no commit {asked.commit}"
        raise UsageError(said, **fields, hint="Fetch it with git fetch there.")
    without_hooks = ("-c", "core.hooksPath=/dev/null")  # The user's hooks are for their own checkouts.
    done = git_says(asked.top, *without_hooks, "worktree", "add", "--detach", "--quiet", str(path), asked.commit)
    if done.returncode:
        why = shorten(done.stderr) or "without a message"
        raise UsageError(f"{flag} {asked.rev}: git worktree add ended with {done.returncode}: {why}", **fields)
    return path


def git_says(folder: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; UsageError if git is not installed."""
    try:
        return git(folder, *words)
    except FileNotFoundError:
        raise UsageError("a revision needs git, which is not on the PATH", hint="Install git.") from None


def _lend(folder: Path) -> Path:
    """Create a folder with only stepbench's packages, for an interpreter that has none or older ones."""
    lent = folder / "packages"
    if not lent.exists():
        lent.mkdir()
        home = Path(__file__).resolve().parents[2]
        for package in ("bench", "launch", "workloads"):
            (lent / package).symlink_to(home / package)
    return lent


def _versions(asked: SiteAsked, packages: str) -> str:
    """Return the versions that an interpreter has, in words; UsageError if it cannot run ranks."""
    flag, python = asked.flag("python"), asked.python
    ranks = {**rank_environment(), **asked.variables}
    try:
        done = subprocess.run(
            [python, "-c", PROBE],
            capture_output=True,
            text=True,
            errors="replace",
            env={**ranks, **Site(packages=packages).variables(ranks)},
            timeout=PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"it does not answer within {PROBE_SECONDS:.0f} s"
        raise UsageError(f"{flag} {python}: cannot run it: {why}", option=flag, given=python) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a message"])[-1]
        raise UsageError(
            f"{flag} {python}: ranks cannot run under it: {shorten(last)}",
            option=flag,
            given=python,
            hint="Ranks need Python 3.11 or newer with torch, torchvision and psutil.",
        )
    return shorten((done.stdout.strip().splitlines() or [""])[-1])
