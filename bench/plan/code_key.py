"""The user's files that ranks imported: a key of their contents, and which of them changed during a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True, order=True)
class Source:
    """A user's module as a rank imported it: its name, the full path of its file, and a hash of the contents."""

    module: str
    file: str
    digest: str

    @property
    def name(self) -> str:
        """Path of the file inside its package, such as ``pkg/sub.py``, escaped for one line of a terminal."""
        parts = PurePath(self.file).parts
        depth = self.module.count(".") + (2 if PurePath(self.file).stem == "__init__" else 1)
        return one_line("/".join(parts[-depth:]))


Code = frozenset[Source]  # Of all ranks of a launch; empty if unknown, or if no file is the user's.


def digest(content: bytes) -> str:
    """Return a hash of a file's contents, 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def code_key(code: Code, packages: str = "") -> str | None:
    """Return a key of module names and file contents, independent of where the files are; None without files.

    ``packages``: names and versions of installed packages that the code uses, which count as one file more.
    """
    pairs = sorted({(source.module, source.digest) for source in code})
    pairs += [("packages", packages)] if packages else []
    return "c" + hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12] if pairs else None


class FirstSeen:
    """The contents of each file when a launch of the run first imported it.

    ``earlier``: workload targets, each with the files that a launch in an earlier session imported, in order.
    """

    def __init__(self, earlier: Iterable[tuple[str, Code]] = ()) -> None:
        self._digests: dict[tuple[str, str], set[str]] = {}
        for target, code in earlier:
            self.changed(target, code)

    def changed(self, target: str, code: Code) -> list[Source]:
        """Return the files that differ from when they were first imported, and remember new files."""
        before = dict(self._digests)
        for source in code:
            if (target, source.module) not in before:  # The ranks of one launch may differ.
                self._digests.setdefault((target, source.module), set()).add(source.digest)
        known = {source: before.get((target, source.module)) for source in code}
        return sorted(source for source, digests in known.items() if digests and source.digest not in digests)


def other_now(code: Iterable[Source]) -> list[str]:
    """Return the full paths of the files that still exist and have changed."""
    files = {source.file: source.digest for source in sorted(code)}
    return [file for file, before in files.items() if digest_of(file) not in (None, before)]


def one_line(text: str) -> str:
    """Return the text with invisible characters and line ends escaped."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()


def digest_of(file: str) -> str | None:
    """Return a hash of the contents of a file; None if it cannot be read."""
    try:
        return digest(Path(file).read_bytes())
    except (OSError, ValueError):
        return None
