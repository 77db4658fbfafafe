"""A meeting of a launch's ranks, apart from the script's process group.

They exchange numbers by files in the scratch folder of their node, and over several nodes by the store of the launch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from bench.messages.heartbeat import Heartbeat

POLL_S = 0.001


class Exchange(Protocol):
    """Where ranks leave a text by name, and find those of others."""

    def put(self, name: str, text: str) -> None:
        """Leave a text."""
        ...

    def get(self, name: str) -> str | None:
        """Return the text that a rank has left; None if it has not yet."""
        ...


class Files:
    """An exchange by files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, text: str) -> None:
        """Leave a text, which is there in full or not at all."""
        partial = self._folder / f"{name}.partial"
        partial.write_text(text)
        os.replace(partial, self._folder / f"{name}.met")

    def get(self, name: str) -> str | None:
        """Return the text that a rank has left."""
        try:
            return (self._folder / f"{name}.met").read_text()
        except FileNotFoundError:
            return None


class Store:
    """An exchange by the store at which the ranks of several nodes meet, under names that no script uses.

    It is entered at the first use, when the script has imported torch.
    """

    def __init__(self, address: str, port: int, patience_s: float) -> None:
        self._where, self._timeout = (address, port), timedelta(seconds=patience_s)
        self._store: Any = None

    def put(self, name: str, text: str) -> None:
        """Leave a text."""
        self._entered().set(f"stepbench/{name}", text)

    def get(self, name: str) -> str | None:
        """Return the text that a rank has left."""
        store = self._entered()
        return store.get(f"stepbench/{name}").decode() if store.check([f"stepbench/{name}"]) else None

    def _entered(self) -> Any:
        if self._store is None:
            from torch.distributed import TCPStore  # type: ignore[attr-defined]

            self._store = TCPStore(*self._where, is_master=False, wait_for_workers=False, timeout=self._timeout)
        return self._store


def exchange(scratch: str, patience_s: float) -> Exchange:
    """Return the exchange of this launch, by the variables that elastic sets."""
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1:
        return Files(Path(scratch))
    return Store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), patience_s)


class Meeting:
    """Ranks wait for each other and exchange a number.

    How many steps each has made says its heartbeat. Of ranks on other nodes node 0 alone has these, and its ranks say
    that ranks disagree, not those of other nodes.
    """

    def __init__(
        self, scratch: str, launch: str, rank: int, ranks: int, patience_s: float, by: Exchange | None = None
    ) -> None:
        self._scratch, self._launch, self._rank, self._ranks = Path(scratch), launch, rank, ranks
        self._patience_s, self._by = patience_s, by or Files(Path(scratch))

    def meet(self, name: str, number: float = 0.0, waiting: Callable[[], None] = lambda: None) -> list[float]:
        """Return the numbers of all ranks, by rank, when all have come.

        Raise RuntimeError if no other rank has made a step for as long as the patience, which says where they are.
        """
        self._by.put(self._name(name, self._rank), repr(number))
        found: dict[int, float] = {}
        before, since = self._steps(), time.monotonic()
        while True:
            for rank in range(self._ranks):
                if rank not in found and (text := self._by.get(self._name(name, rank))) is not None:
                    found[rank] = float(text)
            if len(found) == self._ranks:
                return [found[rank] for rank in range(self._ranks)]
            time.sleep(POLL_S)
            waiting()
            if (now := time.monotonic()) - since > self._patience_s:
                if (steps := self._steps()) == before and not self._is_far():
                    raise RuntimeError(self._disagreement(steps))
                before, since = steps, now

    def _disagreement(self, steps: dict[int, int]) -> str:
        places = ", ".join(
            f"rank {rank} {'is ' if not at else ''}at {'step ' if not at else ''}{steps[rank]}"
            for at, rank in enumerate(sorted(steps, key=lambda rank: (-steps[rank], rank)))
        )
        return f"ranks disagree: {places}; every rank must make the same number of steps"

    def _steps(self) -> dict[int, int]:
        """Return the steps of each rank; 0 of one that has not begun, or of which nothing is known here."""
        beats = {rank: Heartbeat.read(self._scratch, self._launch, rank) for rank in range(self._ranks)}
        return {rank: beat.done if beat else 0 for rank, beat in beats.items()}

    def _is_far(self) -> bool:
        """Return whether this node is not node 0."""
        return isinstance(self._by, Store) and os.environ.get("GROUP_RANK", "0") != "0"

    def _name(self, name: str, rank: int) -> str:
        return f"{name}-{self._launch}-{rank}"
