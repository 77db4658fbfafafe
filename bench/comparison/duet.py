"""A duet: two launches that are up at once and take turns in short bursts of steps, so that both see one machine.

Each burst of A has one of B beside it, within a second: what the machine does slowly (its clock, its neighbours, its
temperature) is in both, and leaves their ratio. How the ranks take turns is in ``bench.rank.duet_turns``.
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
BURST_SECONDS = 0.1  # of the slower side: shorter ones gain nothing, longer ones see more of the machine's drift
VICTIM_PATIENCE_S = 10.0  # from the end of a side that the other has left to that other's own end
TRIMMED = 0.25  # of the pairs, at each end
MEMORY_SHARE = 0.9  # of what is there, that both sides may take
HOST_MARGIN_MIB = 1024.0  # two launch servers and the rest of the machine


class Side(Protocol):
    """One side: what is to be launched, by a launcher of its own, as a launch server serves one launch at a time."""

    case: Case
    folder: Path

    def launch(self, role: Role) -> Launched: ...


class Duet:
    """Two launches that are up at once, behind the interface of one launch.

    A side that fails has the other ended soon after: its own row has its reason, the other's is ``interrupted`` and
    names it, unless that had measured all.
    """

    def __init__(self, a: Side, b: Side, burst_seconds: float = BURST_SECONDS) -> None:
        self.sides, self.burst_seconds = dict(zip(SIDES, (a, b), strict=True)), burst_seconds

    def launched(self) -> list[Launched]:
        """Both, with the ratio of throughput in each row.

        Raises what a launch raised (BenchError), or a signal's Interrupted, when no process of either side is left.
        """
        roles = self._roles()
        # Each launch waits and looks by itself; threads let both do so as they are. Signals come to this thread.
        with ThreadPoolExecutor(len(SIDES), "duet") as pool:
            running = {name: pool.submit(_launch, self.sides[name], roles[name]) for name in SIDES}
            try:
                _see_to_the_end(running, roles)
            except BaseException:
                for role in roles.values():
                    role.end("the duet was stopped")
                raise
        a, b = _told(*(running[name].result() for name in SIDES))
        ratio = math.exp(middle(log_ratios(a, b))) if a.measured and b.measured else None
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
    """Of each pair of bursts, the log of the ratio of throughput, B / A: of time, A / B, and of samples, B / A."""
    samples = math.log(b.row["samples"] / a.row["samples"])
    return tuple(math.log(ns_a / ns_b) + samples for ns_a, ns_b in zip(a.bursts_ns, b.bursts_ns, strict=True))


def middle(ratios: Sequence[float]) -> float:
    """The mean of the middle half of the pairs (the interquartile mean).

    A burst that another process fell into is off by tens of per cents, so a mean will not do: with 8 pairs of 3 %, each
    tenth of them off by 10 to 40 %, its error is 3.1 %, this one's 1.5 %. In every other pair A comes first, and what
    that is worth makes two groups of pairs, between which a median jumps: it is worse by a tenth throughout.
    """
    from scipy.stats import trim_mean  # takes half a second to import

    return float(trim_mean(ratios, TRIMMED))


def both_fit(a: LaunchRow, b: LaunchRow, machine: Machine, held_mib: Mapping[str, float]) -> str | None:
    """Why both sides cannot be up at once, by the rows of an earlier launch of each; None if they can.

    Of the host the growth of all ranks' resident sets must fit into what is available now, of each GPU what each side
    added to what others held before (``held_mib``, by UUID) into the rest: a share of it, as peaks are not exact. What
    is not known does not fit.
    """
    return _host_lacks(a, b, available_mib()) or _gpus_lack(a, b, machine, held_mib)


def _launch(side: Side, role: DuetSide) -> Launched:
    try:
        return side.launch(role)
    finally:
        role.idle = True


def _see_to_the_end(running: Mapping[str, Future[Launched]], roles: Mapping[str, DuetSide]) -> None:
    """Until both have ended. If the first did not measure, the other is ended as well."""
    wait(running.values(), return_when=FIRST_COMPLETED)
    first, other = SIDES if running[SIDES[0]].done() else reversed(SIDES)
    error = running[first].exception()
    if error is not None:
        roles[other].end(f"side {first} of the duet ended, {type(error).__name__}")
    elif not (launched := running[first].result()).measured:
        if _is_victim(launched):  # the other is about to say why it left, and would not if we ended it
            wait(running.values(), VICTIM_PATIENCE_S)
        roles[other].end(_because(first, launched))
    wait(running.values())


def _told(a: Launched, b: Launched) -> tuple[Launched, Launched]:
    """Both, with the other side's reason for one that only says that the other is gone."""
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
        return f"it is not known how much host memory side {SIDES[needs.index(None)]} takes"
    both = sum(need for need in needs if need is not None)
    allowed = MEMORY_SHARE * (available_mib - HOST_MARGIN_MIB)
    if both <= allowed:
        return None
    return f"both sides take {both:,.0f} MiB of host memory, and {max(allowed, 0):,.0f} MiB can be used"


def _host_mib(row: LaunchRow) -> float | None:
    """What the ranks grow by at their largest, warm-up included; all they hold where their growth is not known, and
    where they have DataLoader workers these as well."""
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
            return f"it is not known which GPUs side {side} takes"
    for gpu in machine.gpus:
        needs = {side: _device_mib(row) for side, row in rows.items() if gpu.uuid in names[side]}
        unknown = [side for side, need in needs.items() if need is None]
        if needs and (unknown or math.isnan(gpu.memory_mib)):
            what = f"side {unknown[0]} takes" if unknown else "there is"
            return f"it is not known how much memory of {gpu.name} {what}"
        held = held_mib.get(gpu.uuid, 0.0)
        both = sum(max((need or 0.0) - held, 0.0) for need in needs.values())
        allowed = MEMORY_SHARE * max(gpu.memory_mib - held, 0.0)
        if both > allowed:
            return f"both sides take {both:,.0f} MiB of {gpu.name} ({gpu.uuid}), and {allowed:,.0f} MiB can be used"
    return None


def _device_mib(row: LaunchRow) -> float | None:
    """The most of a GPU that was in use, context and NCCL included, and what warm-up took beyond that."""
    used = row.device_memory_peak_mib or row.device_used_mib
    life, reserved = row.life_peak_allocated_mib, row.peak_reserved_mib
    beyond = max(life - reserved, 0) if life is not None and reserved is not None else 0
    return None if used is None else float(used + beyond)
