"""Which of the modules that a rank has imported are the user's, and what their files contain."""

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
# Never the user's: Python's own, ours, and those whose version is a column of every row.
KNOWN = {
    *sys.stdlib_module_names,
    *OURS,
    *("torch", "torchvision", "sitecustomize", "usercustomize", "__main__", "__mp_main__"),
}
INSTALLED = {"site-packages", "dist-packages", "torch_extensions"}  # folders that hold what somebody installed or built
STDLIB = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})
FILE = "bench_user_"  # how the module of a workload's own file is called


class ImportedCode:
    """The user's modules of this rank, each with the contents that its file had when we first saw it imported.

    The user's are all modules that nobody installed: the workload's file, its siblings and packages, and what an
    editable install leads to. Of a workload that is installed itself, its own package counts as well.
    """

    def __init__(self, target: str) -> None:
        """``target``: the workload's, ``path/to/file.py:Name`` or ``package.module:Name``."""
        where = target.rpartition(":")[0]
        is_file = where.endswith(".py")
        self._package = "" if is_file else where.partition(".")[0]
        self._folder = os.path.realpath(os.path.dirname(where)) if is_file else ""
        self._found: dict[str, Source | None] = {}
        self._digests: dict[str, str | None] = {}

    @property
    def sources(self) -> list[Source]:
        return sorted(source for source in self._found.values() if source)

    def look(self) -> None:
        """Read the files of what was imported since we looked last: soon after an import, before anybody edits them."""
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
        if path not in self._digests:  # a native module may have many submodules, all of its one file
            content = _content(path, file, module)
            self._digests[path] = None if content is None else digest(content)
        known = self._digests[path]
        return None if known is None else Source(name, path, known)

    def _is_installed(self, top: str, path: str) -> bool:
        """Whether a file is part of an interpreter, or was put there by an installer; none beside the workload was."""
        if self._folder and path.startswith(self._folder) and _root(top, path) == self._folder:
            return False
        installed = not INSTALLED.isdisjoint(path.split(os.sep)) or path.startswith(STDLIB)
        return installed or _has_installed(_root(top, path))


def _real(file: str) -> str:
    """A file by the real path of its folder, which is asked for once: there are thousands of modules."""
    folder, _, name = file.rpartition(os.sep)
    return os.path.join(_real_folder(folder), name)


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _root(top: str, path: str) -> str:
    """The folder from which a top-level module is imported; that of a file of it where the module has none."""
    file = getattr(sys.modules.get(top), "__dict__", {}).get("__file__")
    path = _real(file) if isinstance(file, str) and os.path.isabs(file) else path
    folder = os.path.dirname(path)
    return os.path.dirname(folder) if os.path.basename(path).startswith("__init__.") else folder


@functools.cache
def _has_installed(root: str) -> bool:
    """Whether an installer uses a folder: it leaves a NAME.dist-info beside each package."""
    try:
        return any(entry.endswith(".dist-info") for entry in os.listdir(root))
    except OSError:
        return False


def _content(path: str, file: str, module: dict[str, Any]) -> bytes | None:
    """The bytes of a module's file, or of its place in a zip file; None if they are gone."""
    try:
        return Path(path).read_bytes()
    except OSError:
        with contextlib.suppress(Exception):
            return bytes(module["__spec__"].loader.get_data(file))
    return None
