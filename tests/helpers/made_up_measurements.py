"""What ranks have measured, as no machine would: times that are worked out in the head."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.messages.rank_record import MEMORY, Measurement

MS = 1_000_000
NO_MEMORY: dict[str, float | None] = dict.fromkeys(MEMORY)


def rank(steps_ms: list[int], **changes: Any) -> Measurement:
    """One rank: 8 samples a step, one step of warm-up, every part 1 ms in every step unless said otherwise."""
    count = len(steps_ms)
    parts = {"data_wait": 1, "copy": 1, "forward": 1, "backward": 1, "optimizer": 1, **changes.pop("parts_ms", {})}
    plain = Measurement(
        first_step_at_ns=3_000 * MS,
        window_at_ns=3_200 * MS,
        first_step_ns=100 * MS,
        warmup_steps=1,
        window_ns=sum(steps_ms) * MS,
        steps_ns=[ms * MS for ms in steps_ms],
        parts_ns={name: [ms * MS] * count for name, ms in parts.items()},
        data_wait_host_ns=[parts["data_wait"] * MS] * count,
        samples=8 * count,
        losses=[2.0] * (1 + count),
        forward_is_local=True,
        steps_per_epoch=None,
        memory=NO_MEMORY,
    )
    return dataclasses.replace(plain, **changes)
