"""How much of a step waits for communication: from the ranks' profiles to columns."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from bench.messages.rank_record import RankRecord
from bench.messages.step_profile import BY_ABLATION, StepProfile
from bench.store.columns import Row


def communication(records: Mapping[int, RankRecord], critical_rank: int) -> Row:
    """Return the columns of a launch, which are those of its critical rank; none if no rank has a profile.

    Other ranks wait for that one inside their collectives, and would count this as communication.
    """
    record = records.get(critical_rank)
    profile = record.profile if record else None
    if profile is None:
        return {}
    return {"comm_method": profile.method, "comm_note": profile.note or None, **of_rank(profile)}


def of_rank(profile: StepProfile | None) -> Row:
    """Return the COMMUNICATION columns of a rank: by a profile of its median step, by ablation from two medians."""
    if profile is None or not profile.steps_ns:
        return {}
    if profile.method == BY_ABLATION:
        step = median(profile.steps_ns)
        exposed = step - median(profile.without_ns)
        parts = {}
    else:
        at = sorted(range(len(profile.steps_ns)), key=profile.steps_ns.__getitem__)[len(profile.steps_ns) // 2]
        step, both = profile.steps_ns[at], profile.overlap_ns[at]
        exposed = profile.comm_ns[at] - both
        parts = {"comm_ms": profile.comm_ns[at], "compute_ms": profile.compute_ns[at], "overlap_ms": both}
    ms = {name: ns / 1e6 for name, ns in {"profiled_step_ms": step, **parts, "exposed_comm_ms": exposed}.items()}
    return {**ms, "exposed_comm_share": exposed / step}
