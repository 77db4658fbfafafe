"""What each node tells of itself: what must be equal on all nodes, and what may differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.machine import environment
from bench.machine.gpus import Machine
from bench.store.env_key import in_key
from bench.store.environment_diff import between
from bench.store.hardware_facts import HARDWARE, hardware_in_key

# Columns of a host (and versions of packages) that must be equal.
EQUAL = {
    "tool_version": "stepbench",
    "tool_commit": "stepbench's commit",
    "torch": "torch",
    "torchvision": "torchvision",
    "python": "Python",
}
UNLIKE = ("cpu_model", "cpu_cores", "cpus_allowed", "cpu_quota", "ram_gib", "os", "driver", "gpus", "settings")


def facts(machine: Machine) -> dict[str, Any]:
    """Return the facts of this node."""
    host = environment.host_facts(machine, environment.rank_environment())
    return {**host, **environment.installed(), "gpus": ", ".join(gpu.name for gpu in machine.gpus)}


def difference(own: Mapping[str, Any], other: Mapping[str, Any], name: str) -> str:
    """Return in words what differs and must not; an empty text if all is equal. ``name`` is that of the other node."""
    unlike = [fact for fact in EQUAL if str(own.get(fact, "")) != str(other.get(fact, ""))]
    return "; ".join(
        f"{EQUAL[fact]} is {own.get(fact) or 'unknown'} on node 0 and {other.get(fact) or 'unknown'} on {name}"
        for fact in unlike
    )


def unlike(own: Mapping[str, Any], other: Mapping[str, Any], name: str) -> str:
    """Return in words what differs between the machines, which is measured all the same."""
    found = [
        f"{fact} {own.get(fact)!r} and {other.get(fact)!r}"
        for fact in UNLIKE
        if in_key(fact, own.get(fact)) != in_key(fact, other.get(fact))
    ]
    found += [f"{one.name} {one.a[0]!r} and {one.b[0]!r}" for one in between(own, other, [HARDWARE]) if one.in_env_key]
    return f"node 0 and {name} are unlike: {'; '.join(found)}" if found else ""


def machine_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about the machine."""
    return {name: facts.get(name) for name in ("hostname", *UNLIKE, HARDWARE)}


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the facts may be those of one machine at two times, when counts of errors may differ."""
    kept = ({**machine_of(facts), HARDWARE: hardware_in_key(facts)} for facts in (one, other))
    return next(kept) == next(kept)
