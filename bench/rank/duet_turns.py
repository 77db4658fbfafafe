"""A rank's turns in a duet: it waits while the other side trains, and lets the other side train while it waits.

Both sides are up at once, and one of them is active: A builds and warms up, then B does, then they train in bursts, in
the order A B B A A B B A and so on. Whatever the machine does slowly it does to both bursts of a pair.

The sides meet at a TCPStore that rank 0 of side A holds: ``bench`` itself has no torch, and a store in a launch server
would outlive the launch. When that rank dies its peers' waits fail at once; when another one dies ``bench`` ends both
sides. The last burst is A's, so that nobody depends on the store any more when its holder ends.

All ranks wait on the store, in a blocking read without CPU time. None may wait for its own side in a collective: NCCL's
kernels would spin on the device that the other side is using.

What a waiting side may still do: its DataLoader workers fill their queues, which are bounded (``num_workers`` times
``prefetch_factor`` batches), and its OpenMP threads may spin for some milliseconds. Both fall into the first steps of
the other side's burst, those that are not timed.
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

ORDER = "ABBA"  # of bursts, again and again: linear drift cancels, and so does what being first is worth
LEAST_STEPS = 2  # of a burst
LEAST_BURSTS = 8  # of a side


class Pace(NamedTuple):
    """How a side trains: the time of a step in ns, and the steps that are not timed at the begin of its bursts."""

    step_ns: int
    untimed: int


def plan(
    paces: Mapping[str, Pace], burst_seconds: float, steps: int, seconds: float, max_seconds: float = 0.0
) -> tuple[int, int]:
    """(timed steps of a burst, bursts of a side) for both sides, by the pace of each.

    The slower side's burst takes about ``burst_seconds``, and longer if there are more untimed steps than that: they
    are as many as a loader's queues hold, so such a burst has the loader's whole rhythm, and not one half of the duet
    is spent on them. Each side trains at least ``steps`` timed steps, for about ``seconds`` or longer; the bursts are
    even in number, so that each side begins as many pairs as the other. With ``max_seconds`` there are no more than fit
    into it on the slower side, but never fewer than the least.
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
    """What a rank does between its bursts. Every wait may raise RuntimeError(OTHER_IS_GONE).

    A wait is as long as ``patience_s``: it is ``bench`` that ends a launch, and waiting for one's turn is no fault.
    """

    def __init__(self, turns: Turns, heartbeat: Heartbeat, patience_s: float) -> None:
        self._turns, self._heartbeat, self._patience = turns, heartbeat, timedelta(seconds=patience_s)
        self._heartbeat.enter(STAGE["turn"])
        self._store, self._twin = _join(turns, self._patience), _twin(turns)

    def meet(self) -> None:
        """Return when all ranks of both sides have built their models: that would disturb who has begun to train."""
        self._done(f"built/{self._turns.side}")
        self._wait(*(f"built/{side}" for side in SIDES))

    def before_warm_up(self) -> None:
        """Side B's comes after A's. Side by side they would not see how long a step takes, nor would cuDNN, which
        chooses its algorithms then, nor torch.compile."""
        if self._turns.side != SIDES[0]:
            self._wait(f"warm/{SIDES[0]}")

    def after_warm_up(self, pace: Pace) -> dict[str, Pace]:
        """The pace of both sides, by side; ``pace`` is that of this side's slowest rank."""
        self._done(f"warm/{self._turns.side}", " ".join(map(str, pace)))
        keys = {side: f"warm/{side}" for side in SIDES}
        self._wait(*keys.values())
        return {side: Pace(*map(int, self._store.get(key).split())) for side, key in keys.items()}

    def bursts(self, count: int) -> Iterator[int]:
        """The numbers of this side's bursts, each when it is due; it is over when the next is asked for.

        By then this rank's device must be idle.
        """
        order = [ORDER[place % len(ORDER)] for place in range(2 * count)]
        for place, side in enumerate(order):
            if side != self._turns.side:
                continue
            if place and order[place - 1] != side:
                self._wait(f"burst/{place - 1}")
            yield place
            if side not in order[place + 1 :]:
                self._heartbeat.enter(STAGE["ending"])  # the other side may fail from now on
            if place + 1 < len(order) and order[place + 1] != side:
                self._done(f"burst/{place}")
        self._see_out(len(order) - 1, order[-1])

    def _see_out(self, place: int, side: str) -> None:
        """The side that is done first waits for the other's last burst, which its end would disturb (by a tenth of the
        burst's time). All is measured, and the store ends with its holder: nothing of this may fail."""
        with contextlib.suppress(RuntimeError):
            if side == self._turns.side:
                self._done(f"burst/{place}")
            else:
                self._store.wait([f"burst/{place}"], self._patience)

    def _done(self, what: str, said: str = "") -> None:
        """This rank has done ``what``; the last of its side's ranks tells the other side."""
        with _other_may_be_gone():
            if self._store.add(f"{what}/ranks", 1) == self._turns.ranks:
                self._store.set(what, said)

    def _wait(self, *what: str) -> None:
        self._heartbeat.enter(STAGE["turn"])
        with _other_may_be_gone():
            self._store.wait(list(what), self._patience)


def _join(turns: Turns, patience: timedelta) -> Any:
    """The store of the duet. OSError if another has taken the port meanwhile."""
    holds = turns.side == SIDES[0] and os.environ["RANK"] == "0"
    # torch itself would listen on all of the host's addresses
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


def _twin(turns: Turns) -> Any:
    """A store that nobody uses, in the rank of side B that answers to the holder on side A. A store has a thread, and
    in a process of several threads the C++ library counts references atomically: where steps are short A would be
    slower for it."""
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
