"""How far a rank has come, in shared memory: it writes, ``bench run`` reads."""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from bench.messages.rank_record import PARTS, Failure
from bench.untrusted.rank_files import NonsenseError, checked, read_file

# Where a rank may stand, in the order in which it comes there; PARTS, "sync" and "turn" again and again.
STAGES = ("starting", "building", *PARTS, "sync", "turn", "ending", "done", "failed")
STAGE = {name: number for number, name in enumerate(STAGES)}
MOST_STEPS = 1 << 40
LAST_WORDS = 1024  # bytes


class Beat(NamedTuple):
    """How far a rank has come: ``time_ns`` is its wall clock when it ended its last step, 0 before the first.

    The host of an accelerator runs ahead of it: it has waited for all but the last ``done - synced`` steps, and
    ``step_ns`` is the longest mean step between two such waits.
    """

    done: int = 0
    planned: int = 0
    time_ns: int = 0
    synced: int = 0
    step_ns: int = 0
    stage: str = STAGES[0]


class Heartbeat:
    """A Beat in 48 bytes of shared memory that a rank writes and its parent reads, and room for its last words.

    A store into mapped memory costs the rank 0.3 µs and no system call, so it can be written several times a step. It
    needs neither a descriptor nor room on a disk, so a rank that has run out of those can still say why it gives up.
    """

    _STEPS, _SYNCED, _STAGE = struct.Struct("<qqq"), struct.Struct("<qq"), struct.Struct("<q")
    _WORDS = _STEPS.size + _SYNCED.size + _STAGE.size  # where the last words begin
    _SIZE = _WORDS + LAST_WORDS

    def __init__(self, scratch: str | Path, launch: str, rank: int) -> None:
        self.path = Path(scratch) / f"heartbeat-{launch}-{rank}"
        self.path.write_bytes(bytes(self._SIZE))
        with self.path.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), self._SIZE)

    def beat(self, done: int, planned: int, time_ns: int) -> None:
        self._STEPS.pack_into(self._memory, 0, done, planned, time_ns)

    def synced(self, done: int, step_ns: int) -> None:
        """Say that the device has done so many steps."""
        self._SYNCED.pack_into(self._memory, self._STEPS.size, done, step_ns)

    def enter(self, stage: int) -> None:
        """Say where the rank stands now: a value of STAGE."""
        self._STAGE.pack_into(self._memory, self._STEPS.size + self._SYNCED.size, stage)

    def say(self, failure: Failure) -> None:
        """Say why the rank gives up, for when its record cannot be written; a long message is cut."""
        for length in (LAST_WORDS, LAST_WORDS // 2, LAST_WORDS // 8, 0):
            cut = dataclasses.replace(failure, message=failure.message[:length])
            words = json.dumps(dataclasses.asdict(cut)).encode()
            if len(words) <= LAST_WORDS:
                self._memory[self._WORDS :] = words.ljust(LAST_WORDS, b"\0")
                return

    @classmethod
    def read(cls, scratch: Path, launch: str, rank: int) -> Beat | None:
        """None before the rank has come so far; NonsenseError for what no rank of ours can have written."""
        raw = cls._read(scratch, launch, rank)
        if not raw:
            return None
        done, planned, time_ns = cls._STEPS.unpack_from(raw)
        synced, step_ns = cls._SYNCED.unpack_from(raw, cls._STEPS.size)
        (stage,) = cls._STAGE.unpack_from(raw, cls._STEPS.size + cls._SYNCED.size)
        if not 0 <= stage < len(STAGES):
            raise NonsenseError(f"tells of stage {stage}, which there is not")
        for name, number in (("steps done", done), ("steps planned", planned), ("steps waited for", synced)):
            if not 0 <= number <= MOST_STEPS:
                raise NonsenseError(f"tells of {number} {name}")
        if min(time_ns, step_ns) < 0:
            raise NonsenseError("tells of a time below 0")
        return Beat(done, planned, time_ns, synced, step_ns, STAGES[stage])

    @classmethod
    def last_words(cls, scratch: Path, launch: str, rank: int) -> Failure | None:
        """Why the rank gave up, if it said so."""
        try:
            raw = cls._read(scratch, launch, rank)
            return checked(Failure, json.loads(raw[cls._WORDS :].rstrip(b"\0"))) if raw else None
        except ValueError:
            return None

    @classmethod
    def _read(cls, scratch: Path, launch: str, rank: int) -> bytes:
        raw = read_file(scratch / f"heartbeat-{launch}-{rank}", cls._SIZE) or b""
        if len(raw) not in (0, cls._SIZE):
            raise NonsenseError(f"has {len(raw)} bytes")
        return raw
