"""A rank's turns in a duet: one side trains while the other one waits.

Both sides are running at once, and one of them is active: A builds and warms up, then B does, then they train in bursts
in the order A B B A A B B A and so on. A slow phase of the machine affects both bursts of a pair.

The sides synchronise through a TCPStore in rank 0 of side A: ``bench`` itself does not import torch, and a store in a
launch server would outlive the launch. If that rank dies, the waits of its peers fail at once; if another rank dies,
``bench`` ends both sides. The last burst is A's, so that no rank needs the store any more when its process ends.

All ranks wait on the store, in a blocking read without CPU time. They must not wait for their own side in a collective:
NCCL's kernels would spin on the device that the other side is using.

While a side waits, its DataLoader workers may fill their queues, which are bounded (``num_workers`` times
``prefetch_factor`` batches), and its OpenMP threads may spin for some milliseconds. Both happen during the first steps
of the other side's burst, which are not timed.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import torch.distributed as dist

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import OTHER_IS_GONE
from bench.messages.spec import SIDES, Turns

ORDER = "ABBA"  # repeated; linear drift and the advantage of being first cancel
LEAST_STEPS = 2  # in a burst
LEAST_BURSTS = 8  # on a side


class Pace(NamedTuple):
    """The time of a side's step in ns, and the number of untimed steps at the start of each of its bursts."""

    step_ns: int
    untimed: int


def plan(
    paces: Mapping[str, Pace], burst_seconds: float, steps: int, seconds: float, max_seconds: float = 0.0
) -> tuple[int, int]:
    """Return (timed steps in a burst, bursts of a side) for both sides, given the pace of each.

    The burst of the slower side takes about ``burst_seconds``. It is longer if there are more untimed steps than that:
    these are as many as a loader's queues hold, so that a burst covers a whole cycle of the loader, and at most half of
    the duet is untimed. Each side trains at least ``steps`` timed steps, for about ``seconds`` or longer. The number of
    bursts is even, so that each side begins equally many pairs. With ``max_seconds`` there are no more than fit into it
    on the slower side, but never fewer than LEAST_BURSTS.
    """
    step_ns = [max(pace.step_ns, 1) for pace in paces.values()]
    slower, faster = max(step_ns), min(step_ns)
    a_burst = max(LEAST_STEPS, *(pace.untimed for pace in paces.values()), round(burst_seconds * 1e9 / slower))
    needed = max(steps, math.ceil(seconds * 1e9 / faster))
    if max_seconds:
        needed = min(needed, int(max_seconds * 1e9 / slower))
    bursts = max(LEAST_BURSTS, math.ceil(needed / a_burst))
    return a_burst, bursts + bursts % 2


class TakingTurns:
    """The synchronisation of a rank with the other side. Every wait may raise RuntimeError(OTHER_IS_GONE).

    A wait lasts up to ``patience_s``: ``bench`` ends launches that hang, and waiting for a turn is not a hang.
    """

    def __init__(self, turns: Turns, heartbeat: Heartbeat, patience_s: float) -> None:
        self._turns, self._heartbeat, self._patience = turns, heartbeat, timedelta(seconds=patience_s)
        self._heartbeat.enter(STAGE["turn"])
        self._store, self._unused_store = _join(turns, self._patience), _unused_store(turns)

    def await_models(self) -> None:
        """Return when all ranks of both sides have built their models.

        Building would disturb the other side's training.
        """
        self._done(f"built/{self._turns.side}")
        self._wait(*(f"built/{side}" for side in SIDES))

    def before_warm_up(self) -> None:
        """On side B, wait until side A has warmed up.

        A concurrent warm-up would distort step times, and the autotuning of cuDNN and torch.compile.
        """
        if self._turns.side != SIDES[0]:
            self._wait(f"warm/{SIDES[0]}")

    def after_warm_up(self, pace: Pace) -> dict[str, Pace]:
        """Return the pace of both sides, by side; ``pace`` is that of this side's slowest rank."""
        self._done(f"warm/{self._turns.side}", " ".join(map(str, pace)))
        keys = {side: f"warm/{side}" for side in SIDES}
        self._wait(*keys.values())
        return {side: Pace(*map(int, self._store.get(key).split())) for side, key in keys.items()}

    def bursts(self, count: int) -> Iterator[int]:
        """Yield the numbers of this side's bursts, each when its turn comes.

        A burst ends when the next number is asked for.

        This rank's device must then be idle.
        """
        order = [ORDER[place % len(ORDER)] for place in range(2 * count)]
        for place, side in enumerate(order):
            if side != self._turns.side:
                continue
            if place and order[place - 1] != side:
                self._wait(f"burst/{place - 1}")
            yield place
            if side not in order[place + 1 :]:
                self._heartbeat.enter(STAGE["ending"])  # from now on the other side may fail
            if place + 1 < len(order) and order[place + 1] != side:
                self._done(f"burst/{place}")
        self._await_last_burst(len(order) - 1, order[-1])

    def _await_last_burst(self, place: int, side: str) -> None:
        """Wait for the last burst of the other side if this side finishes first.

        The end of a process would disturb that burst by a tenth of its time. Errors are ignored: everything is
        measured, and the store ends with its process.
        """
        with contextlib.suppress(RuntimeError):
            if side == self._turns.side:
                self._done(f"burst/{place}")
            else:
                self._store.wait([f"burst/{place}"], self._patience)

    def _done(self, what: str, said: str = "") -> None:
        """Note that this rank has done ``what``; the last rank of the side tells the other side."""
        with _other_may_be_gone():
            if self._store.add(f"{what}/ranks", 1) == self._turns.ranks:
                self._store.set(what, said)

    def _wait(self, *what: str) -> None:
        self._heartbeat.enter(STAGE["turn"])
        with _other_may_be_gone():
            self._store.wait(list(what), self._patience)


def _join(turns: Turns, patience: timedelta) -> Any:
    """Return the store of the duet. Raise OSError if another process has taken the port."""
    holds = turns.side == SIDES[0] and os.environ["RANK"] == "0"
    # torch itself would listen on all addresses of the host.
    listening = socket.create_server((turns.address, turns.port)).detach() if holds else None
    with _other_may_be_gone():
        return dist.TCPStore(  # type: ignore[attr-defined]
            turns.address,
            turns.port,
            is_master=holds,
            timeout=patience,
            wait_for_workers=False,
            master_listen_fd=listening,
        )


def _unused_store(turns: Turns) -> Any:
    """Return an unused store in the rank of side B that corresponds to the store's rank on side A.

    A store runs a thread, and in a process with several threads the C++ library counts references atomically, which
    would slow down short steps on side A only.
    """
    if turns.side == SIDES[0] or os.environ["RANK"] != "0":
        return None
    listening = socket.create_server((turns.address, 0))
    port = listening.getsockname()[1]
    return dist.TCPStore(  # type: ignore[attr-defined]
        turns.address, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )


@contextlib.contextmanager
def _other_may_be_gone() -> Iterator[None]:
    try:
        yield
    except dist.DistError as error:
        raise RuntimeError(OTHER_IS_GONE) from error
