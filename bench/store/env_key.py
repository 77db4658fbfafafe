"""The key of a launch's environment: rows with equal keys have the same kind of machine and the same settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bench.plan.options import SETTINGS
from bench.plan.work_key import short_hash
from bench.store.hardware_facts import HARDWARE, hardware_in_key

MACHINE_COLUMNS = (
    *("cpu_model", "cpu_cores", "cpu_threads", "cpus_allowed", "cpu_quota", "ram_gib", "device_name", "driver"),
    *("python", "torch", "torchvision", "cuda", "cudnn", "nccl"),
)
# How a launch is measured: the launcher and the window. Other settings have no effect within a launch.
WITHOUT_EFFECT = (
    *("launches", "timeout", "hang_timeout", "order_seed", "budget"),
    *("count_work", "profile", "stragglers", "save_dir", "save_interval", "matmul_peak"),
)
MEASURED_BY = tuple(name for name in SETTINGS if name not in WITHOUT_EFFECT)
ENV_KEY_COLUMNS = (*MACHINE_COLUMNS, *MEASURED_BY)


def env_key(row: Mapping[str, Any]) -> str:
    """Return a key of the kind of machine, the software, the settings, the launcher and the window of a row.

    Neither the hostname nor the UUIDs of devices enter it. Of several nodes it has the facts of all, in any order.
    Rows without facts about hardware, as older versions wrote them, keep their key.
    """
    steering = json.loads(row.get("settings") or "{}")
    steering.pop("CUDA_VISIBLE_DEVICES", None)  # It selects devices and not their kind.
    columns = [in_key(column, row.get(column)) for column in ENV_KEY_COLUMNS]
    facts = hardware_in_key(row)
    return "e" + short_hash([steering, *columns, *([facts] if facts else []), *_other_nodes(row)])


def _other_nodes(row: Mapping[str, Any]) -> list[str]:
    """Return what is in the key of the nodes that took part beside node 0; nothing for one node."""
    if not row.get("node_facts"):
        return []
    found = []
    for facts in json.loads(row["node_facts"]):
        own = {name: in_key(name, facts.get(name)) for name in (*MACHINE_COLUMNS, "gpus", "ranks")}
        steering = json.loads(facts.get("settings") or "{}")
        steering.pop("CUDA_VISIBLE_DEVICES", None)
        told = {**own, "settings": steering}
        if known := hardware_in_key({**facts, "device_name": row.get("device_name")}):
            told[HARDWARE] = known
        found.append(json.dumps(told, sort_keys=True))
    return [*sorted(found), str(row.get("interface"))]


def in_key(column: str, value: Any) -> Any:
    """Return a column's value as env_key uses it: None for an empty text, memory rounded up to a multiple of 4 GiB.

    The memory that kernel and firmware reserve differs between machines of one kind, and after updates.
    """
    if value in (None, ""):
        return None
    if column != "ram_gib" or not math.isfinite(float(value)):
        return value
    return 4 * math.ceil(float(value) / 4)
