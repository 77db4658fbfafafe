"""The progress of a rank in shared memory: the rank writes it, ``bench run`` reads it."""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from bench.messages.rank_record import PIPELINE_PARTS, Failure
from bench.untrusted.rank_files import NonsenseError, checked, read_file

# Stages of a rank in their order; PIPELINE_PARTS, "sync" and "turn" are repeated.
STAGES = ("starting", "building", *PIPELINE_PARTS, "sync", "turn", "ending", "saving", "done", "failed")
STAGE = {name: number for number, name in enumerate(STAGES)}
MOST_STEPS = 1 << 40
LAST_WORDS = 1024  # Bytes.


class Beat(NamedTuple):
    """The progress of a rank: ``done`` of ``planned`` steps, and the ``stage`` it is in.

    ``time_ns``: the rank's wall clock at the end of its last step, 0 before the first. ``synced``: steps that the
    device is known to have finished, as the host runs ahead of a GPU. ``step_ns``: the longest mean step between two
    synchronizations.
    """

    done: int = 0
    planned: int = 0
    time_ns: int = 0
    synced: int = 0
    step_ns: int = 0
    stage: str = STAGES[0]


class Heartbeat:
    """A Beat in 48 bytes of shared memory that a rank writes and its parent reads, followed by a failure message.

    A write to mapped memory takes the rank 0.3 µs and no system call, so that several per step cost nothing. It needs
    neither a file descriptor nor disk space, so a rank that has run out of those can still report why it failed.
    """

    _STEPS, _SYNCED, _STAGE = struct.Struct("<qqq"), struct.Struct("<qq"), struct.Struct("<q")
    _WORDS = _STEPS.size + _SYNCED.size + _STAGE.size  # Offset of the failure message.
    _SIZE = _WORDS + LAST_WORDS

    def __init__(self, scratch: str | Path, launch: str, rank: int) -> None:
        self.path = Path(scratch) / f"heartbeat-{launch}-{rank}"
        self.path.write_bytes(bytes(self._SIZE))
        with self.path.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), self._SIZE)

    def beat(self, done: int, planned: int, time_ns: int) -> None:
        """Write how many steps are done and planned, and the time."""
        self._STEPS.pack_into(self._memory, 0, done, planned, time_ns)

    def synced(self, done: int, step_ns: int) -> None:
        """Write how many steps the device has finished."""
        self._SYNCED.pack_into(self._memory, self._STEPS.size, done, step_ns)

    def enter(self, stage: int) -> None:
        """Write the stage that begins now: a value of STAGE."""
        self._STAGE.pack_into(self._memory, self._STEPS.size + self._SYNCED.size, stage)

    def say(self, failure: Failure) -> None:
        """Write why the rank fails, in case its record cannot be written; a long message is cut."""
        for length in (LAST_WORDS, LAST_WORDS // 2, LAST_WORDS // 8, 0):
            cut = dataclasses.replace(failure, message=failure.message[:length])
            words = json.dumps(dataclasses.asdict(cut)).encode()
            if len(words) <= LAST_WORDS:
                self._memory[self._WORDS :] = words.ljust(LAST_WORDS, b"\0")
                return

    @classmethod
    def read(cls, scratch: Path, launch: str, rank: int) -> Beat | None:
        """Return the progress of a rank; None before it wrote any, NonsenseError for invalid values."""
        raw = cls._read(scratch, launch, rank)
        if not raw:
            return None
        done, planned, time_ns = cls._STEPS.unpack_from(raw)
        synced, step_ns = cls._SYNCED.unpack_from(raw, cls._STEPS.size)
        (stage,) = cls._STAGE.unpack_from(raw, cls._STEPS.size + cls._SYNCED.size)
        if not 0 <= stage < len(STAGES):
            raise NonsenseError(f"has stage {stage}, which does not exist")
        for name, number in (("steps done", done), ("steps planned", planned), ("steps waited for", synced)):
            if not 0 <= number <= MOST_STEPS:
                raise NonsenseError(f"has {number} {name}")
        if min(time_ns, step_ns) < 0:
            raise NonsenseError("has a time below 0")
        return Beat(done, planned, time_ns, synced, step_ns, STAGES[stage])

    @classmethod
    def last_words(cls, scratch: Path, launch: str, rank: int) -> Failure | None:
        """Return why the rank failed, None if it wrote nothing."""
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
