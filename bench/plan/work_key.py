"""The key of the work that a case does: rows with equal ones may be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bench.plan.case import Case

MEASUREMENT_VERSION = 2  # raised whenever the same work would give another number


def work_key(case: Case, data_fingerprint: str) -> str:
    """Equal for rows about the same work: workload, data, global batch, and the measurement's version.

    Like each key it begins with a letter: of hexadecimal digits alone, one in a hundred would be read as a number.
    """
    spec = case.spec
    target = spec.target if spec.entry else Path(spec.target).name  # a user's file may lie anywhere
    return "w" + short_hash([target, dict(spec.options), data_fingerprint, case.global_batch, MEASUREMENT_VERSION])


def short_hash(value: object) -> str:
    """Twelve hexadecimal digits that are equal for equal values, as JSON has them."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
