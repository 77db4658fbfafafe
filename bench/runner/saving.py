"""What saving a state costs: from the ranks' records to columns."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from bench.messages.rank_record import RankRecord
from bench.messages.saved import Save, Saved
from bench.plan.case import Case
from bench.store.columns import Row

NOT_IN_TIME = "the launch ended before its state was saved"


def saving(case: Case, records: Mapping[int, RankRecord], step_ms: float, interval: int) -> Row:
    """Return the columns of a launch that saves its state; none for others.

    ``step_ms`` is the mean duration of a step, ``interval`` the number of steps between two saves.
    """
    if not case.saves:
        return {}
    ranks = [record.saved or Saved(note=NOT_IN_TIME) for _, record in sorted(records.items())]
    note = "; ".join(dict.fromkeys(one.note for one in ranks if one.note))
    unlike = [*dict.fromkeys(name for one in ranks for name in one.unlike)]
    if unlike:
        note = f"after loading not as it was: {', '.join(unlike)}"
    loads = [one.load_ns for one in ranks if one.load_ns is not None]
    row: Row = {
        "load_s": max(loads) / 1e9 if len(loads) == len(ranks) else None,
        "save_restored": not unlike if len(loads) == len(ranks) else None,
        "save_note": note or None,
    }
    saves, alone = _over_ranks(ranks), [one.alone_ns for one in ranks if one.alone_ns is not None]
    alone_ms = max(alone) / 1e6 if alone else step_ms
    return row if not saves else {**_costs(saves, step_ms, alone_ms, interval), **_sizes(ranks, saves), **row}


def _over_ranks(ranks: list[Saved]) -> list[Save]:
    """Return each save as its slowest rank saw it; the first is left out if there are several."""
    found = [
        Save(
            blocked_ns=max(one.blocked_ns for one in of_ranks),
            total_ns=max(one.total_ns for one in of_ranks),
            steps=of_ranks[0].steps,
            steps_ns=max(one.steps_ns for one in of_ranks),
        )
        for of_ranks in zip(*(one.saves for one in ranks), strict=False)
    ]
    return found[1:] or found


def _costs(saves: list[Save], step_ms: float, alone_ms: float, interval: int) -> Row:
    """Return times, and the goodput.

    On an accelerator a step of the window is not waited for, and is faster than those beside a save for that alone; so
    these are compared with ``alone_ms``, of a step that was waited for as they were.
    """
    blocked = median(one.blocked_ns for one in saves) / 1e9
    total = median(one.total_ns for one in saves) / 1e9
    steps = sum(one.steps for one in saves)
    while_saving_ms = sum(one.steps_ns for one in saves) / steps / 1e6 if steps else None
    steps_a_save = steps / len(saves)
    slowed = 0.0 if while_saving_ms is None else max(while_saving_ms - alone_ms, 0.0) / 1e3 * steps_a_save
    return {
        "save_blocked_s": blocked,
        "save_total_s": total,
        "save_step_ms": while_saving_ms,
        "goodput": goodput(interval * step_ms / 1e3, blocked, slowed, total),
    }


def goodput(interval_s: float, blocked_s: float, slowed_s: float, total_s: float) -> float:
    """Return the share of time that trains, if a state is saved after each ``interval_s`` of training.

    A save stands in the way for ``blocked_s``, and slows the steps beside it by ``slowed_s`` in all. If it is not
    written when the next one is due, that one waits.
    """
    period = interval_s + blocked_s + slowed_s
    return interval_s / max(period, total_s)


def _sizes(ranks: list[Saved], saves: list[Save]) -> Row:
    total = median(one.total_ns for one in saves) / 1e9
    size = max((one.bytes for one in ranks if one.bytes is not None), default=None)
    allocated = [one.allocated_mib for one in ranks if one.allocated_mib is not None]
    resident = [one.rss_mib for one in ranks if one.rss_mib is not None]
    return {
        "save_bytes": size,
        "save_mb_per_s": None if size is None else size / 1e6 / total,
        "save_peak_allocated_mib": max(allocated, default=None),
        "save_peak_rss_mib": max(resident, default=None),
    }
