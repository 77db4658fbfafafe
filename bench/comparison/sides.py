"""The two sides of a comparison: what each overrides in the common request, and where its ranks run."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bench.errors import UsageError, did_you_mean, shorten
from bench.plan.options import AXES, Value
from bench.plan.plan import Asked, Axes, asked
from bench.plan.workload_spec import parse_workload
from bench.runner.make_sites import SiteAsked, git_says


@dataclass(frozen=True)
class Side:
    """A side of a comparison.

    ``axes``: overrides, axis -> texts as on the command line. ``python``: an interpreter, None for this one. ``rev``: a
    git revision of the user's workload, None for the files as they are.
    """

    name: str
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    python: str | None = None
    rev: str | None = None

    @property
    def words(self) -> str:
        """The overrides of this side, in words."""
        said = [f"{axis}={' '.join(texts)}" for axis, texts in self.axes.items()]
        said += [f"python={self.python}"] if self.python else []
        said += [f"rev={self.rev}"] if self.rev else []
        return ", ".join(said) or "as asked"

    def asked(self, both: Asked) -> Asked:
        """Return the request of this side; UsageError for an override with several values.

        Its environment variables are added to those of both sides.
        """
        try:
            wanted = asked(axes=self.axes, settings={}, base=both, oversubscribe=both.oversubscribe)
        except UsageError as error:
            raise error.at(f"--{self.name.lower()}") from None
        for axis, texts in self.axes.items():
            for matrix in wanted.matrices:
                if len(matrix[axis]) != 1:
                    raise UsageError(
                        option=f"--{self.name.lower()}",
                        given=f"{axis}={','.join(texts)}",
                        allowed="one value for each axis of a side",
                    )
        if "env" not in self.axes:
            return wanted
        pairs = zip(wanted.matrices, both.matrices, strict=True)
        return dataclasses.replace(wanted, matrices=tuple({**own, "env": self._added(own, of)} for own, of in pairs))

    @staticmethod
    def _added(own: Axes, both: Axes) -> list[Value]:
        option = AXES["env"]
        return [option.read(f"{before} {own['env'][0]}", option.flag) for before in both.get("env", [""])]


def read_side(name: str, overrides: Sequence[str], env: Sequence[str], python: str | None, rev: str | None) -> Side:
    """Return the side of its options; UsageError if one is invalid."""
    flag, axes = f"--{name.lower()}", dict[str, list[str]]()
    for text in overrides:
        axis, equals, value = text.partition("=")
        axis = axis.strip().lstrip("-").replace("-", "_")
        if not equals or axis not in AXES:
            allowed = f"AXIS=VALUE, where AXIS is one of {', '.join(AXES)}"
            raise UsageError(option=flag, given=text, allowed=allowed, hint=did_you_mean(axis, AXES))
        if axis in axes and axis != "env":
            raise UsageError(f"{flag}: {axis} is given twice", option=flag, given=text, hint="Give it once.")
        axes.setdefault(axis, []).append(value)
    if env:
        axes.setdefault("env", []).extend(env)
    for what, given, allowed in (("python", python, "an interpreter"), ("rev", rev, "a revision")):
        if given is not None and not given.strip():  # From an unset shell variable: both sides would be the same.
            hint = f"Name one, or leave the option out for the current {what}."
            raise UsageError(option=f"{flag}-{what}", given=given, allowed=allowed, hint=hint)
    return Side(name, axes, python, rev)


def asked_sites(
    sides: Sequence[Side], workloads: Sequence[str], variables: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> list[SiteAsked]:
    """Return where the ranks of each side are to run: here, under another interpreter, or in a worktree of a revision.

    ``variables``: by side, environment variables of its ranks. UsageError for an unknown revision, and for a revision
    without a workload in a git repository.
    """
    top = _top(workloads) if any(side.rev for side in sides) else None
    return [
        SiteAsked(
            side.name,
            # A link is kept, as in a virtual environment.
            python=os.path.abspath(shutil.which(side.python) or side.python) if side.python else "",
            top=str(top or ""),
            rev=side.rev or "",
            commit=_commit(side, top) if side.rev and top else "",
            variables=variables.get(side.name, {}),
        )
        for side in sides
    ]


def _top(workloads: Sequence[str]) -> Path:
    """Return the git repository of the user's workloads; UsageError unless all are in one repository."""
    tops: set[Path] = set()
    for workload in workloads:
        spec = parse_workload(workload)
        if spec.entry:
            raise UsageError(
                option="--workload", given=workload, allowed="your own workload: a revision is one of its repository"
            )
        where = spec.target if spec.script else spec.target.rpartition(":")[0]
        folder = Path(where).resolve().parent if where.endswith(".py") else Path.cwd()
        folder = next(one for one in (folder, *folder.parents) if one.is_dir())  # It may be in another revision only.
        done = git_says(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            why = shorten(done.stderr.removeprefix("fatal: "))  # No repository, or one that git does not trust.
            raise UsageError(
                f"--workload {workload}: a revision needs a git repository; git says of {folder}: {why}",
                option="--workload",
                given=workload,
                allowed="a workload in a git repository",
            )
        tops.add(Path(done.stdout.strip()).resolve())
    if len(tops) != 1:
        raise UsageError(
            f"the workloads are in {len(tops)} git repositories, and a revision belongs to one",
            option="--workload",
            given=list(workloads),
            hint="Compare them one by one.",
        )
    return tops.pop()


def _commit(side: Side, top: Path) -> str:
    """Return the hash of a side's revision."""
    known = git_says(top, "rev-parse", "--verify", "--quiet", f"{side.rev}^{{commit}}")
    if known.returncode or str(side.rev).startswith("-"):  # git before 2.30 would take it for an option.
        raise UsageError(
            option=f"--{side.name.lower()}-rev",
            given=side.rev,
            allowed=f"a revision in {top}",
            hint="Fetch it with git fetch, or name another.",
        )
    return known.stdout.strip()
