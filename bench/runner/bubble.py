"""The bubble of a pipeline: the share of a step's passes in which its ranks compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.messages.rank_record import BUBBLE, Measurement
from bench.plan.case import Case
from bench.store.columns import Row

PASSES = ("forward", "backward")


def bubble(case: Case, ranks: Sequence[Measurement]) -> Row:
    """Return the share that was measured, and that of equal stages which send each other messages in no time.

    A rank's share is its time between passes over that time and its passes; the row has the mean over ranks. With p
    ranks, v stages in each and M micro-batches the formula is (p - 1) / (v M + p - 1) (Narayanan et al. 2021,
    arXiv:2104.04473, section 2.2, of a rank's whole time).
    """
    if case.pipeline_ranks == 1:
        return {}
    shares = []
    for m in ranks:
        idle, busy = float(np.sum(m.parts_ns[BUBBLE])), float(sum(np.sum(m.parts_ns[part]) for part in PASSES))
        shares.append(idle / (idle + busy))
    between = case.pipeline_ranks - 1
    ideal = between / (case.stages_per_rank * case.micro_batches + between)
    return {"bubble_share": float(np.mean(shares)), "bubble_share_ideal": ideal}
