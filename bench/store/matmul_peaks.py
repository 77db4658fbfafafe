"""The measured peaks of this machine, in the user's cache: they are the machine's, and not of one folder of results.

Each file has one peak, with the facts that it depends on. A file that is damaged, or about another machine, counts as
missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.messages.matmul_peak import MatmulPeak
from bench.plan.options import show
from bench.plan.work_key import short_hash
from bench.store.hardware_facts import hardware_in_key
from bench.untrusted.rank_files import NonsenseError, read_json, write_json
from workloads.data.cache import caches, is_ours, writable

FOLDER = "matmul-peaks"
MACHINE = ("cpu_model", "cpu_cores", "cpu_threads", "cpus_allowed", "cpu_quota", "driver")
# Variables that a case sets itself, or that choose devices and not their kind.
NOT_OF_THE_MACHINE = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class StoredPeak:
    """A peak, when it was measured (UTC), and all that its rate depends on: texts by name."""

    peak: MatmulPeak
    measured_at: str
    facts: dict[str, str]


def machine_facts(host: Mapping[str, Any], device: str, torch: str) -> dict[str, str]:
    """Return what all rates of a device depend on, as texts by name.

    ``host`` has the columns of this host, ``device`` is ``cpu`` or the names of the GPUs. ResultsError if the column
    ``hardware`` is damaged.
    """
    steering = json.loads(host.get("settings") or "{}")
    facts = {
        **{name: host.get(name) for name in MACHINE},
        **hardware_in_key({**host, "device_name": device}),
        **{name: value for name, value in steering.items() if name not in NOT_OF_THE_MACHINE},
        **{"device": device, "torch": torch},
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def rate_facts(machine: Mapping[str, str], kind: str, threads: int | None) -> dict[str, str]:
    """Return what one rate depends on: ``machine_facts``, the type, and the threads of a rank (None: of a GPU)."""
    return {**machine, "type": kind, "threads": show(threads)}


def stored(facts: Mapping[str, str]) -> StoredPeak | None:
    """Return the stored peak with these ``rate_facts``; None if there is none."""
    for cache in caches():
        with contextlib.suppress(OSError):
            if is_ours(cache) and (found := _read(cache / FOLDER / _name(facts))) and found.facts == dict(facts):
                return found
    return None


def store(peak: MatmulPeak, facts: Mapping[str, str]) -> None:
    """Store a peak that was measured now, in place of an earlier one. OSError if no cache can be written."""
    folder = writable() / FOLDER
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / _name(facts), dataclasses.asdict(StoredPeak(peak, now, dict(facts))))


def all_stored(machine: Mapping[str, str]) -> list[StoredPeak]:
    """Return all stored peaks with these ``machine_facts``, by type and threads."""
    found = [one for file in _files() if (one := _read(file)) and machine.items() <= one.facts.items()]
    return sorted(found, key=lambda one: (one.peak.type, one.peak.threads))


def _files() -> Iterator[Path]:
    for cache in caches():
        with contextlib.suppress(OSError):
            if is_ours(cache):
                yield from sorted((cache / FOLDER).glob("*.json"))


def _read(file: Path) -> StoredPeak | None:
    """Return the content of a file; None if it is missing or damaged."""
    try:
        found = read_json(file, StoredPeak)
        if found:
            found.peak.check()
    except NonsenseError:
        return None
    return found


def _name(facts: Mapping[str, str]) -> str:
    return f"{facts['type']}-{short_hash(dict(facts))}.json"
