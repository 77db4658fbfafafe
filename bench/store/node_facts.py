"""What rows say of the nodes that took part beside node 0, and how these differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bench.errors import ResultsError
from bench.store.columns import LaunchRow
from bench.store.env_key import MACHINE_COLUMNS
from bench.store.environment_diff import SETTINGS, Difference, compared
from bench.store.hardware_facts import HARDWARE

PLACES = ("nproc_per_node", "interface")
COLUMNS = (*(name for name in MACHINE_COLUMNS if name != "device_name"), "os", SETTINGS, HARDWARE)


def others(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the facts of each node but node 0, with the ``device_name`` of the launch.

    ResultsError if the cell is no list of JSON objects.
    """
    text = row.get("node_facts") or "[]"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ResultsError(
            option=f"launch {row.get('launch_id')} of run {row.get('run_id')}, column node_facts",
            given=text[:200],
            allowed="a list of JSON objects",
            hint="Restore the file from a copy.",
        )
    return [{**one, "device_name": row.get("device_name")} for one in found]


def between_nodes(rows: Iterable[LaunchRow]) -> dict[str, list[Difference]]:
    """Return by host how the other nodes differ from node 0 (side A); those that do not are left out."""
    found: dict[str, dict[Difference, None]] = {}
    for row in rows:
        for facts in others(columns := row.columns()):
            unlike = [
                one
                for one in compared([columns], [facts], [name for name in COLUMNS if name in facts])
                if one.in_env_key or one.name not in MACHINE_COLUMNS  # some more memory is no other machine
            ]
            found.setdefault(str(facts.get("hostname")), {}).update(dict.fromkeys(unlike))
    return {host: list(unlike) for host, unlike in found.items() if unlike}


def differences_of_nodes(a_rows: Iterable[LaunchRow], b_rows: Iterable[LaunchRow]) -> list[Difference]:
    """Return how two measurements of a case differ in where its ranks were, and in the nodes beside node 0.

    All of it changes env_key.
    """
    a, b = ([row.columns() for row in rows] for rows in (a_rows, b_rows))
    found = compared(a, b, PLACES)
    in_a, in_b = ([facts for row in rows for facts in others(row)] for rows in (a, b))
    if in_a and in_b:
        known = [name for name in COLUMNS if any(name in facts for facts in (*in_a, *in_b))]
        found += [
            dataclasses.replace(one, name=f"{one.name} of other nodes")
            for one in compared(in_a, in_b, known)
            if one.in_env_key
        ]
    return [dataclasses.replace(one, in_env_key=True) for one in found]
