"""The key of what a launch was measured on and how: rows with equal ones are of like machines and settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bench.plan.options import SETTINGS
from bench.plan.work_key import short_hash

MACHINE_COLUMNS = (
    *("cpu_model", "cpu_cores", "cpu_threads", "cpus_allowed", "cpu_quota", "ram_gib", "device_name", "driver"),
    *("python", "torch", "torchvision", "cuda", "cudnn", "nccl"),
)
# How a launch is measured: the launcher and the window. The rest of a protocol changes nothing within a launch.
MEASURED_BY = tuple(
    name for name in SETTINGS if name not in ("launches", "timeout", "hang_timeout", "order_seed", "budget")
)
ENV_KEY_COLUMNS = (*MACHINE_COLUMNS, *MEASURED_BY)


def env_key(row: Mapping[str, Any]) -> str:
    """Equal for rows measured on like machines with like software, settings, launcher and window; not the hostname, not
    the UUIDs."""
    steering = json.loads(row.get("settings") or "{}")
    steering.pop("CUDA_VISIBLE_DEVICES", None)  # which devices, not what kind
    return "e" + short_hash([steering, *(in_key(column, row.get(column)) for column in ENV_KEY_COLUMNS)])


def in_key(column: str, value: Any) -> Any:
    """A column's value as env_key has it: memory in steps of 4 GiB, rounded up as it is sold. What the kernel and the
    firmware keep for themselves differs from machine to machine, and after an update. An empty text is an empty
    cell."""
    if value in (None, ""):
        return None
    if column != "ram_gib" or not math.isfinite(float(value)):
        return value
    return 4 * math.ceil(float(value) / 4)
