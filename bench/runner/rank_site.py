"""The site of ranks: their interpreter, and their checkout of the user's repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import IncomparableError


@dataclass(frozen=True)
class Site:
    """An interpreter and a checkout; empty texts for none.

    ``packages`` is a folder with this project's packages, if the interpreter lacks them. ``top`` is the user's
    repository, and ``root`` the checkout that replaces it (the same, or a worktree of another revision). ``versions``
    of Python and torch are known of another interpreter than this process's.
    """

    python: str = sys.executable
    packages: str = ""
    top: str = ""
    root: str = ""
    versions: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is this process's interpreter and the user's own checkout."""
        return self.python == sys.executable and not self.is_elsewhere

    @property
    def is_elsewhere(self) -> bool:
        """Whether the checkout is another one than the user's own."""
        return self.root != self.top

    def moved(self, path: str | Path) -> Path:
        """Return where a file of the user's repository is in this checkout; other files stay where they are."""
        path = Path(path).resolve()
        elsewhere = self.is_elsewhere and path.is_relative_to(self.top)
        return Path(self.root) / path.relative_to(self.top) if elsewhere else path

    def target(self, target: str) -> str:
        """Return a workload's target in this checkout."""
        where, colon, name = target.rpartition(":")
        return f"{self.moved(where)}{colon}{name}" if where.endswith(".py") else target

    def folder(self) -> Path | None:
        """Return the folder in which ranks run, for imports from the current folder; None for the current one.

        If the current folder is not part of the repository, ranks run at the top of the checkout.
        """
        there = self.moved(Path.cwd())
        inside = there.is_dir() and there.is_relative_to(self.root)
        return (there if inside else Path(self.root)) if self.is_elsewhere else None

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return variables that ranks need here: this project's packages come first in their path."""
        paths = [self.packages, environment.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))} if self.packages else {}

    @property
    def watched(self) -> list[str]:
        """Return the checkouts whose imports a rank reports."""
        return list(dict.fromkeys(filter(None, (self.top, self.root))))

    def listed(self, files: Iterable[str]) -> str:
        """Return imported files relative to the checkout, joined by ``;``; other files by their full path."""
        return ";".join(sorted(map(self._listed, files)))

    def _listed(self, file: str) -> str:
        inside = Path(file).relative_to(self.root) if Path(file).is_relative_to(self.root) else Path(file)
        return file if "site-packages" in inside.parts else str(inside)  # installed, though inside the folder

    def check(self, sources: str | None) -> None:
        """Raise IncomparableError if a file was imported from elsewhere: then the wrong code was measured."""
        outside = [file for file in (sources or "").split(";") if Path(file).is_absolute()]
        if outside:
            raise IncomparableError(
                f"{outside[0]} was imported, which is not of the checkout {self.root}: an editable install "
                "(pip install -e) leads there, or an installed copy hides the checkout's own. Uninstall it, or import "
                "it from the workload's own folder (put that first in sys.path)."
            )
