"""The key of the work of a case: rows with equal keys may be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bench.plan.case import Case
from bench.plan.comms import VERSION

MEASUREMENT_VERSION = 2  # Increased whenever stepbench would measure another number for the same work.


def work_key(case: Case, data_fingerprint: str) -> str:
    """Return a key of the workload, the data, the global batch and the version of the measurement.

    Of a script nothing is known before it runs but its name and the template of its arguments. Collectives are compared
    one by one, whatever others a launch measures.

    Like all keys it begins with a letter: one in a hundred keys of hexadecimal digits alone would be read as a number.
    """
    spec = case.spec
    target = spec.target if spec.entry else Path(spec.target).name  # A user's file may be in any folder.
    if spec.comms:
        return "w" + short_hash([target, VERSION])
    if spec.script:
        return "w" + short_hash([target, case.args, MEASUREMENT_VERSION])
    return "w" + short_hash([target, dict(spec.options), data_fingerprint, case.global_batch, MEASUREMENT_VERSION])


def short_hash(value: object) -> str:
    """Return twelve hexadecimal digits of the hash of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
