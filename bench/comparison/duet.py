"""A duet: two launches that run at once and take turns in short bursts of steps.

Each burst of A is within a second of one of B, so that slow changes of the machine (clock, temperature, other programs)
affect both and cancel in their ratio. ``bench.rank.duet_turns`` has the code of the ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from bench.errors import shorten
from bench.machine.gpus import Machine
from bench.machine.preflight import available_mib
from bench.messages.rank_record import OTHER_IS_GONE
from bench.messages.spec import SIDES, Turns
from bench.plan.case import Case
from bench.runner.launch_role import DuetSide, Role
from bench.runner.launched import Launched
from bench.store.columns import LaunchRow, Row
from launch.ports import free_port

ADDRESS = "127.0.0.1"
BURST_SECONDS = 0.1  # On the slower side: shorter bursts gain nothing, longer ones are affected more by drift.
VICTIM_PATIENCE_S = 10.0  # How long the failed side may take to end after the other one has noticed its failure.
TRIMMED = 0.25  # Share of the pairs that is trimmed at each end.
MEMORY_SHARE = 0.9  # Share of the memory that both sides may use.
HOST_MARGIN_MIB = 1024.0  # For two launch servers and the rest of the machine.


class Side(Protocol):
    """A side of a duet. It has its own launcher, as a launch server serves one launch at a time."""

    case: Case
    folder: Path

    def launch(self, role: Role) -> Launched:
        """Launch the case of this side in a role."""
        ...


class Duet:
    """Two launches that run at once, with the interface of one launch.

    If a side fails, the other one is ended. The row of the failed side has its reason; the other row is ``interrupted``
    with the same reason, unless its measurement was complete.
    """

    def __init__(self, a: Side, b: Side, burst_seconds: float = BURST_SECONDS) -> None:
        self.sides, self.burst_seconds = dict(zip(SIDES, (a, b), strict=True)), burst_seconds

    def launched(self) -> list[Launched]:
        """Run both launches and return them with the ratio of throughput in each row.

        Raises BenchError of a launch, or Interrupted of a signal, after all processes of both sides have ended.
        """
        roles = self._roles()
        # Each launch blocks while it watches its ranks, so each has a thread. Signals arrive in this one.
        with ThreadPoolExecutor(len(SIDES), "duet") as pool:
            running = {name: pool.submit(_launch, self.sides[name], roles[name]) for name in SIDES}
            try:
                _wait_for_both(running, roles)
            except BaseException:
                for role in roles.values():
                    role.end("the duet was stopped")
                raise
        a, b = _with_true_reasons(*(running[name].result() for name in SIDES))
        ratio = math.exp(interquartile_mean(log_ratios(a, b))) if a.measured and b.measured else None
        for launched in (a, b):
            launched.row.update(_columns(launched, ratio))
        return [a, b]

    def _roles(self) -> dict[str, DuetSide]:
        port = free_port()
        first, second = (
            DuetSide(Turns(ADDRESS, port, name, side.case.world_size, self.burst_seconds), side.folder)
            for name, side in self.sides.items()
        )
        first.other, second.other = second, first
        return {SIDES[0]: first, SIDES[1]: second}


def log_ratios(a: Launched, b: Launched) -> tuple[float, ...]:
    """Return for each pair of bursts the log of the throughput ratio B / A: time A / B times samples B / A."""
    samples = math.log(b.row["samples"] / a.row["samples"])
    return tuple(math.log(ns_a / ns_b) + samples for ns_a, ns_b in zip(a.bursts_ns, b.bursts_ns, strict=True))


def interquartile_mean(ratios: Sequence[float]) -> float:
    """Return the mean of the middle half of the ratios.

    Bursts that another process disturbs are off by tens of per cent, which makes a mean unreliable: for 8 pairs with a
    spread of 3 %, of which one in ten is off by 10 to 40 %, the error of the mean is 3.1 %, that of the interquartile
    mean 1.5 %. The error of the median is a tenth larger: A is first in every other pair, which splits the pairs into
    two groups, and the median jumps between these.
    """
    from scipy.stats import trim_mean  # Takes half a second to import.

    return float(trim_mean(ratios, TRIMMED))


def both_fit(a: LaunchRow, b: LaunchRow, machine: Machine, held_mib: Mapping[str, float]) -> str | None:
    """Return why both sides cannot run at once, by the rows of an earlier launch of each; None if they can.

    The growth of the resident sets of all ranks must fit into MEMORY_SHARE of the available host memory. What each side
    added on a GPU must fit into that share of the memory that other programs (``held_mib``, by UUID) left free.
    Unknown sizes do not fit.
    """
    return _host_lacks(a, b, available_mib()) or _gpus_lack(a, b, machine, held_mib)


def _launch(side: Side, role: DuetSide) -> Launched:
    try:
        return side.launch(role)
    finally:
        role.idle = True


def _wait_for_both(running: Mapping[str, Future[Launched]], roles: Mapping[str, DuetSide]) -> None:
    """Wait until both sides have ended; if the first to end did not measure, end the other one."""
    wait(running.values(), return_when=FIRST_COMPLETED)
    first, other = SIDES if running[SIDES[0]].done() else reversed(SIDES)
    error = running[first].exception()
    if error is not None:
        roles[other].end(f"side {first} of the duet ended, {type(error).__name__}")
    elif not (launched := running[first].result()).measured:
        if _is_victim(launched):  # The other side failed first, and needs time to report why.
            wait(running.values(), VICTIM_PATIENCE_S)
        roles[other].end(_because(first, launched))
    wait(running.values())


def _with_true_reasons(a: Launched, b: Launched) -> tuple[Launched, Launched]:
    """Return both launches; one that only reports that the other is gone gets the reason of the other."""
    for name, cause, victim in ((SIDES[0], a, b), (SIDES[1], b, a)):
        if _is_victim(victim) and not cause.measured and not _is_victim(cause):
            reason = cause.row["reason"] if cause.row["status"] == "interrupted" else _because(name, cause)
            victim.row.update(status="interrupted", reason=reason)
            victim.machine_failure = False
    return a, b


def _is_victim(launched: Launched) -> bool:
    return not launched.measured and OTHER_IS_GONE in (launched.row["reason"] or "")


def _because(name: str, launched: Launched) -> str:
    return shorten(f"side {name} of the duet ended, {launched.row['status']}: {launched.row['reason']}")


def _columns(launched: Launched, ratio: float | None) -> Row:
    bursts = len(launched.bursts_ns)
    steps = launched.row["window_steps"] // bursts if bursts else None
    return {"bursts": bursts or None, "burst_steps": steps, "duet_ratio": ratio}


# -- memory --------------------------------------------------------------------------------------------------------


def _host_lacks(a: LaunchRow, b: LaunchRow, available_mib: float) -> str | None:
    needs = [_host_mib(row) for row in (a, b)]
    if None in needs:
        return f"it is not known how much host memory side {SIDES[needs.index(None)]} needs"
    both = sum(need for need in needs if need is not None)
    allowed = MEMORY_SHARE * (available_mib - HOST_MARGIN_MIB)
    if both <= allowed:
        return None
    return f"both sides need {both:,.0f} MiB of host memory, and {max(allowed, 0):,.0f} MiB can be used"


def _host_mib(row: LaunchRow) -> float | None:
    """Return the growth of the ranks' resident sets to their peak, warm-up included, in MiB.

    If the growth is unknown, it is the peak itself; with DataLoader workers it is at least the peak that includes them.
    """
    growth, peak, life = row.rss_growth_mib, row.peak_rss_mib, row.life_peak_rss_mib
    if life is None:
        return None
    of_ranks = life if growth is None or peak is None else growth + max(life - peak, 0)
    with_workers = (row.peak_host_mib or 0.0) if row.num_workers else 0.0
    return float(max(of_ranks, with_workers)) * (row.world_size or 1)


def _gpus_lack(a: LaunchRow, b: LaunchRow, machine: Machine, held_mib: Mapping[str, float]) -> str | None:
    rows = dict(zip(SIDES, (a, b), strict=True))
    names = {side: set(filter(None, (row.device_uuids or "").split(";"))) for side, row in rows.items()}
    for side, row in rows.items():
        if row.device not in (None, "cpu") and (not names[side] or names[side] - {gpu.uuid for gpu in machine.gpus}):
            return f"it is not known which GPUs side {side} uses"
    for gpu in machine.gpus:
        needs = {side: _device_mib(row) for side, row in rows.items() if gpu.uuid in names[side]}
        unknown = [side for side, need in needs.items() if need is None]
        if needs and (unknown or math.isnan(gpu.memory_mib)):
            what = f"side {unknown[0]} needs" if unknown else "there is"
            return f"it is not known how much memory of {gpu.name} {what}"
        held = held_mib.get(gpu.uuid, 0.0)
        both = sum(max((need or 0.0) - held, 0.0) for need in needs.values())
        allowed = MEMORY_SHARE * max(gpu.memory_mib - held, 0.0)
        if both > allowed:
            return f"both sides need {both:,.0f} MiB of {gpu.name} ({gpu.uuid}), and {allowed:,.0f} MiB can be used"
    return None


def _device_mib(row: LaunchRow) -> float | None:
    """Return the largest use of a GPU in MiB, with context and NCCL, plus what warm-up needed beyond that."""
    used = row.device_memory_peak_mib or row.device_used_mib
    life, reserved = row.life_peak_allocated_mib, row.peak_reserved_mib
    beyond = max(life - reserved, 0) if life is not None and reserved is not None else 0
    return None if used is None else float(used + beyond)
