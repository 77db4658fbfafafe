"""The modules that a rank has imported from the user's files, and the contents of these files."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from bench.plan.code_key import Source, digest

OURS = {"bench", "launch", "workloads"}
# Never counted as the user's: Python's own modules, those of this project, and those whose version is a column.
KNOWN = {
    *sys.stdlib_module_names,
    *OURS,
    *("torch", "torchvision", "sitecustomize", "usercustomize", "__main__", "__mp_main__"),
}
# names of folders with packages that were installed or built
INSTALLED = {"site-packages", "dist-packages", "torch_extensions"}
STDLIB = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})
FILE = "bench_user_"  # prefix of the module name of a workload's own file


class ImportedCode:
    """The user's modules of this rank, each with the contents that its file had when its import was first noticed.

    A module is the user's if it is not installed: the workload's file, the modules and packages beside it, and those of
    an editable install. If the workload itself is installed, its own package counts as well.
    """

    def __init__(self, target: str) -> None:
        """Take the workload's target, ``path/to/file.py:Name`` or ``package.module:Name``."""
        where = target.rpartition(":")[0]
        is_file = where.endswith(".py")
        self._package = "" if is_file else where.partition(".")[0]
        self._folder = os.path.realpath(os.path.dirname(where)) if is_file else ""
        self._found: dict[str, Source | None] = {}
        self._digests: dict[str, str | None] = {}

    @property
    def sources(self) -> list[Source]:
        """The files so far, with their digests."""
        return sorted(source for source in self._found.values() if source)

    def update(self) -> None:
        """Read the files of modules that were imported since the last call.

        Call it soon after an import, before the files can be edited.
        """
        if self._package in OURS:
            return
        for name, module in list(sys.modules.items()):
            if name not in self._found:
                self._found[name] = self._source(name, getattr(module, "__dict__", {}))

    def _source(self, name: str, module: dict[str, Any]) -> Source | None:
        top, file = name.partition(".")[0], module.get("__file__")
        if top in KNOWN or not isinstance(file, str) or not os.path.isabs(file):
            return None
        path = _real(file)
        if not (name.startswith(FILE) or top == self._package) and self._is_installed(top, path):
            return None
        if path not in self._digests:  # a native module may have many submodules in its one file
            content = _content(path, file, module)
            self._digests[path] = None if content is None else digest(content)
        known = self._digests[path]
        return None if known is None else Source(name, path, known)

    def _is_installed(self, top: str, path: str) -> bool:
        """Return whether a file belongs to an interpreter or an installed package; the workload's own files do not."""
        if self._folder and path.startswith(self._folder) and _root(top, path) == self._folder:
            return False
        installed = not INSTALLED.isdisjoint(path.split(os.sep)) or path.startswith(STDLIB)
        return installed or _has_installed(_root(top, path))


def _real(file: str) -> str:
    """Return a file with the real path of its folder, which is cached because there are thousands of modules."""
    folder, _, name = file.rpartition(os.sep)
    return os.path.join(_real_folder(folder), name)


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _root(top: str, path: str) -> str:
    """Return the folder that a top-level module is imported from; without such a module, the folder of the file."""
    file = getattr(sys.modules.get(top), "__dict__", {}).get("__file__")
    path = _real(file) if isinstance(file, str) and os.path.isabs(file) else path
    folder = os.path.dirname(path)
    return os.path.dirname(folder) if os.path.basename(path).startswith("__init__.") else folder


@functools.cache
def _has_installed(root: str) -> bool:
    """Return whether packages are installed into a folder: it then has a NAME.dist-info beside each package."""
    try:
        return any(entry.endswith(".dist-info") for entry in os.listdir(root))
    except OSError:
        return False


def _content(path: str, file: str, module: dict[str, Any]) -> bytes | None:
    """Return the bytes of a module's file, also inside a zip file; None if they cannot be read any more."""
    try:
        return Path(path).read_bytes()
    except OSError:
        with contextlib.suppress(Exception):
            return bytes(module["__spec__"].loader.get_data(file))
    return None
