"""A meeting of a launch's ranks through files in their scratch folder, apart from the script's process group."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.messages.heartbeat import Heartbeat

POLL_S = 0.001


class Meeting:
    """Ranks wait for each other and exchange a number. ``done`` returns how many steps a rank has made."""

    def __init__(self, scratch: str, launch: str, rank: int, ranks: int, patience_s: float) -> None:
        self._scratch, self._launch, self._rank, self._ranks = Path(scratch), launch, rank, ranks
        self._patience_s = patience_s

    def meet(self, name: str, number: float = 0.0, waiting: Callable[[], None] = lambda: None) -> list[float]:
        """Return the numbers of all ranks, by rank, when all have come.

        Raise RuntimeError if no other rank has made a step for as long as the patience, which says where they are.
        """
        own = self._file(name, self._rank)
        partial = own.with_suffix(".partial")
        partial.write_text(repr(number))
        os.replace(partial, own)
        found: dict[int, float] = {}
        before, since = self._steps(), time.monotonic()
        while True:
            for rank in range(self._ranks):
                if rank not in found and (text := _read(self._file(name, rank))) is not None:
                    found[rank] = float(text)
            if len(found) == self._ranks:
                return [found[rank] for rank in range(self._ranks)]
            time.sleep(POLL_S)
            waiting()
            if (now := time.monotonic()) - since > self._patience_s:
                if (steps := self._steps()) == before:
                    raise RuntimeError(self._disagreement(steps))
                before, since = steps, now

    def _disagreement(self, steps: dict[int, int]) -> str:
        places = ", ".join(
            f"rank {rank} {'is ' if not at else ''}at {'step ' if not at else ''}{steps[rank]}"
            for at, rank in enumerate(sorted(steps, key=lambda rank: (-steps[rank], rank)))
        )
        return f"ranks disagree: {places}; every rank must make the same number of steps"

    def _steps(self) -> dict[int, int]:
        beats = {rank: Heartbeat.read(self._scratch, self._launch, rank) for rank in range(self._ranks)}
        return {rank: beat.done if beat else 0 for rank, beat in beats.items()}

    def _file(self, name: str, rank: int) -> Path:
        return self._scratch / f"{name}-{self._launch}-{rank}.met"


def _read(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None
