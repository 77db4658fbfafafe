"""The facts in the column ``hardware`` of a row, and those of them that are in env_key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.errors import ResultsError
from bench.machine.hardware import FACTS, OF_GPUS

HARDWARE = "hardware"
FACTS_IN_KEY = tuple(name for name, fact in FACTS.items() if fact.in_env_key)


def hardware_of(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the facts in a row's hardware by name; None for what could not be read.

    Rows of older versions have no facts, or fewer: nothing is known of those. A launch on the CPU (``device_name``)
    has no facts about GPUs. ResultsError if the cell is not a JSON object of texts.
    """
    if not row.get(HARDWARE):
        return {}
    try:
        found = json.loads(row[HARDWARE])
    except (TypeError, ValueError):  # In node_facts it may be anything.
        found = None
    if not isinstance(found, dict) or not all(value is None or isinstance(value, str) for value in found.values()):
        raise ResultsError(
            option=f"launch {row.get('launch_id')} of run {row.get('run_id')}, column {HARDWARE}",
            given=row[HARDWARE],
            allowed="a JSON object of texts",
            hint="Restore the file from a copy.",
        )
    on_cpu = row.get("device_name") == "cpu"
    return {name: value for name, value in found.items() if not (on_cpu and name in OF_GPUS)}


def hardware_in_key(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the facts of a row that are in env_key, by name. ResultsError as for ``hardware_of``."""
    found = hardware_of(row)
    return {name: found[name] for name in FACTS_IN_KEY if name in found}
