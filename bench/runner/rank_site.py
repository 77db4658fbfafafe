"""Where ranks run: under which interpreter, and on which checkout of the user's repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import IncomparableError


@dataclass(frozen=True)
class Site:
    """``packages``: a folder with our packages, where the interpreter lacks them. ``top`` is the user's repository, and
    ``root`` the checkout that stands for it (the same, or a worktree of another revision). Empty texts for none."""

    python: str = sys.executable
    packages: str = ""
    top: str = ""
    root: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is our own interpreter and the user's own checkout."""
        return self.python == sys.executable and not self.is_elsewhere

    @property
    def is_elsewhere(self) -> bool:
        return self.root != self.top

    def moved(self, path: str | Path) -> Path:
        """Where a file of the user's repository is in this checkout; any other stays where it is."""
        path = Path(path).resolve()
        elsewhere = self.is_elsewhere and path.is_relative_to(self.top)
        return Path(self.root) / path.relative_to(self.top) if elsewhere else path

    def target(self, target: str) -> str:
        """A workload's target in this checkout."""
        where, colon, name = target.rpartition(":")
        return f"{self.moved(where)}{colon}{name}" if where.endswith(".py") else target

    def folder(self) -> Path | None:
        """Where ranks run, for what they import from the current folder; None for here. The checkout itself, if the
        current folder is none of its own."""
        there = self.moved(Path.cwd())
        inside = there.is_dir() and there.is_relative_to(self.root)
        return (there if inside else Path(self.root)) if self.is_elsewhere else None

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What a rank's environment needs for it: our packages come before all else that it names."""
        paths = [self.packages, environment.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))} if self.packages else {}

    @property
    def watched(self) -> list[str]:
        """The checkouts of which a rank is to tell what it imports."""
        return list(dict.fromkeys(filter(None, (self.top, self.root))))

    def listed(self, files: Iterable[str]) -> str:
        """Imported files relative to the checkout, joined by ``;``; those that are not its own by their full path."""
        return ";".join(sorted(map(self._listed, files)))

    def _listed(self, file: str) -> str:
        inside = Path(file).relative_to(self.root) if Path(file).is_relative_to(self.root) else Path(file)
        return file if "site-packages" in inside.parts else str(inside)  # installed, though it is in its folder

    def check(self, sources: str | None) -> None:
        """IncomparableError if a file was imported from elsewhere: what was to be compared was not what ran."""
        outside = [file for file in (sources or "").split(";") if Path(file).is_absolute()]
        if outside:
            raise IncomparableError(
                f"{outside[0]} was imported, which is not of the checkout {self.root}: an editable install "
                "(pip install -e) leads there, or an installed copy hides the checkout's own. Uninstall it, or import "
                "it from the workload's own folder (put that first in sys.path)."
            )
