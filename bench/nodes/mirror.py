"""Copies of the files of a launch's ranks: a follower sends what has changed, and node 0 writes it at the same place.

These are the records, logs and traces in the folder of the launch, and in its scratch folder the heartbeats and the
signals that a rank measures (``bench.messages``). Thus node 0 watches and judges ranks of other nodes by files, as its
own.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.messages.sampling import MEASURED, MEASURING
from bench.messages.step_profile import TRACE
from bench.untrusted.files import write_bytes
from bench.untrusted.rank_files import NonsenseError, read_file

FOLDER, SCRATCH = "folder", "scratch"
# Times of the wall clock in a record; duets, which have more, do not run over nodes.
OF_THE_CLOCK = ("measurement.first_step_at_ns", "measurement.window_at_ns", "failure.time_ns")
MOST_RECORD, MOST_PIECE = 1 << 28, 1 << 20  # bytes of a record, and of what a log has grown by


@dataclass(frozen=True)
class Piece:
    """A file as it is now or, with ``adds``, what it has grown by."""

    where: str
    name: str
    data: bytes
    adds: bool = False


@dataclass
class Source:
    """The files of some ranks in the folders of this node. ``changes`` yields what is new since the last call."""

    folder: Path
    scratch: Path
    ranks: Sequence[int]
    _known: dict[str, tuple[int, int]] = field(default_factory=dict)  # record -> (mtime, size)
    _beats: dict[str, bytes] = field(default_factory=dict)
    _sent: dict[str, int] = field(default_factory=dict)  # log -> bytes
    _told: set[str] = field(default_factory=set)  # signals

    def changes(self) -> Iterator[Piece]:
        """Yield the pieces that node 0 does not have yet; heartbeats last, as they say what the records have."""
        for rank in self.ranks:
            with contextlib.suppress(OSError, NonsenseError):
                yield from self._record(f"rank{rank}{TRACE}")
            with contextlib.suppress(OSError, NonsenseError):
                yield from self._record(f"rank{rank}.json")
            with contextlib.suppress(OSError):
                yield from self._log(f"rank{rank}.log")
            for what in (MEASURING, MEASURED):
                name = f"{what}-{self.folder.name}-{rank}"
                if name not in self._told and (self.scratch / name).exists():
                    self._told.add(name)
                    yield Piece(SCRATCH, name, b"")
            with contextlib.suppress(OSError, NonsenseError):
                yield from self._heartbeat(f"heartbeat-{self.folder.name}-{rank}")

    def _record(self, name: str) -> Iterator[Piece]:
        """Yield a record or a trace, which ranks write as a whole."""
        found = (self.folder / name).stat()
        if self._known.get(name) != (found.st_mtime_ns, found.st_size):
            self._known[name] = found.st_mtime_ns, found.st_size
            if (data := read_file(self.folder / name, MOST_RECORD)) is not None:
                yield Piece(FOLDER, name, data)

    def _log(self, name: str) -> Iterator[Piece]:
        with (self.folder / name).open("rb") as stream:
            size, sent = stream.seek(0, 2), self._sent.get(name, 0)
            stream.seek(max(size - MOST_PIECE, sent if sent <= size else 0))
            data = stream.read(MOST_PIECE)
        self._sent[name] = size
        if data:
            yield Piece(FOLDER, name, data, adds=True)

    def _heartbeat(self, name: str) -> Iterator[Piece]:
        data = read_file(self.scratch / name, MOST_PIECE)
        if data and data != self._beats.get(name):
            self._beats[name] = data
            yield Piece(SCRATCH, name, data)


@dataclass(frozen=True)
class Copies:
    """Where node 0 keeps the files of some ranks of another node, with times of its own clock.

    ``path`` returns the path on node 0 of a file that a rank has imported.
    """

    folder: Path
    scratch: Path
    ranks: Collection[int]
    path: Callable[[str], str] = str

    def write(self, piece: Piece, ahead_ns: int = 0) -> None:
        """Write a piece; the clock of its node is so much ahead.

        Raise ValueError for a file that these ranks do not have, OSError if it cannot be written.
        """
        if not self._expects(piece):
            raise ValueError(f"a file {piece.name!r} that its ranks do not have")
        file = (self.folder if piece.where == FOLDER else self.scratch) / piece.name
        if piece.adds:
            with file.open("ab") as stream:
                stream.write(piece.data)
        elif piece.where == FOLDER:
            write_bytes(file, as_of_here(piece.data, ahead_ns, self.path))
        else:
            file.write_bytes(piece.data)

    def _expects(self, piece: Piece) -> bool:
        launch = re.escape(self.folder.name)
        allowed = {
            (FOLDER, False): rf"rank(\d+)(?:\.json|{re.escape(TRACE)})",
            (FOLDER, True): r"rank(\d+)\.log",
            (SCRATCH, False): rf"(?:heartbeat|{MEASURING}|{MEASURED})-{launch}-(\d+)",
        }.get((piece.where, piece.adds))
        found = re.fullmatch(allowed, piece.name, re.ASCII) if allowed else None
        return found is not None and int(found[1]) in self.ranks


def as_of_here(record: bytes, ahead_ns: int, path: Callable[[str], str] = str) -> bytes:
    """Return a rank's record with times of this node's wall clock and paths of this node; as it is if it is no record.

    Its own clock is so much ahead.
    """
    try:
        values = json.loads(record)
        for name in OF_THE_CLOCK:
            part, _, field_name = name.partition(".")
            if (of := values.get(part)) and of.get(field_name):
                of[field_name] -= ahead_ns
        if files := values.get("sources"):
            values["sources"] = [path(file) for file in files]
        for source in values.get("code", ()):
            source["file"] = path(source["file"])
        return json.dumps(values).encode()
    except (ValueError, TypeError, AttributeError, KeyError):  # whoever reads the record says what is wrong with it
        return record
