"""The user's files that ranks imported: the key of their contents, and which of them changed in the course of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True, order=True)
class Source:
    """A module of the user's as a rank imported it: its name, the full path of its file, and a hash of the contents."""

    module: str
    file: str
    digest: str

    @property
    def name(self) -> str:
        """The file as its package has it (``pkg/sub.py``), wherever that lies; one line that a terminal can show."""
        parts = PurePath(self.file).parts
        depth = self.module.count(".") + (2 if PurePath(self.file).stem == "__init__" else 1)
        return one_line("/".join(parts[-depth:]))


Code = frozenset[Source]  # of one launch, all ranks; empty where nothing is known, or nothing is the user's


def digest(content: bytes) -> str:
    """A hash of a file's contents, 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def code_key(code: Code) -> str | None:
    """Equal for equal contents under equal module names, wherever the files lie; None where there are none."""
    pairs = sorted({(source.module, source.digest) for source in code})
    return "c" + hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12] if pairs else None


class FirstSeen:
    """What each file contained when a launch of the run first imported it.

    ``earlier``: workload targets, and what their launches in earlier sessions of the run imported, in their order.
    """

    def __init__(self, earlier: Iterable[tuple[str, Code]] = ()) -> None:
        self._digests: dict[tuple[str, str], set[str]] = {}
        for target, code in earlier:
            self.changed(target, code)

    def changed(self, target: str, code: Code) -> list[Source]:
        """The files of a launch with other contents than the first launch that imported them; new ones are kept."""
        before = dict(self._digests)
        for source in code:
            if (target, source.module) not in before:  # ranks of one launch may differ
                self._digests.setdefault((target, source.module), set()).add(source.digest)
        known = {source: before.get((target, source.module)) for source in code}
        return sorted(source for source, digests in known.items() if digests and source.digest not in digests)


def other_now(code: Iterable[Source]) -> list[str]:
    """The files that are still there and have other contents now, by their full paths."""
    files = {source.file: source.digest for source in sorted(code)}
    return [file for file, before in files.items() if _now(file) not in (None, before)]


def one_line(text: str) -> str:
    """The text with everything escaped that is not seen, or would end the line."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()


def _now(file: str) -> str | None:
    try:
        return digest(Path(file).read_bytes())
    except (OSError, ValueError):
        return None
