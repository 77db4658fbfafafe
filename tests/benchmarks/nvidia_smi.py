"""What ``nvidia-smi`` says beside a run, and whether it agrees with our own readings of NVML."""

from __future__ import annotations

import csv
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

# our column of devices.csv -> (nvidia-smi's field, the factor from its unit to ours)
FIELDS = {
    "device_uuid": ("uuid", 1.0),
    "power_w": ("power.draw", 1.0),
    "memory_used_mib": ("memory.used", 1.0),
    "utilisation": ("utilization.gpu", 0.01),
    "sm_clock_mhz": ("clocks.sm", 1.0),
    "temperature_c": ("temperature.gpu", 1.0),
}
# how far the medians of two instruments may be apart: (share of the larger, or absolutely)
TOLERANCE = {
    "power_w": (0.10, 5.0),
    "memory_used_mib": (0.02, 64.0),
    "utilisation": (0.0, 0.10),
    "sm_clock_mhz": (0.05, 15.0),
    "temperature_c": (0.0, 3.0),
}
BUSY = 0.95  # of the largest memory in use: readings from there on are of the time when the model trains
PERIOD_MS = 200

Reading = dict[str, str | float | None]


def command(period_ms: int = PERIOD_MS) -> list[str]:
    query = ",".join(field for field, _ in FIELDS.values())
    return ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", f"--loop-ms={period_ms}"]


def parse(text: str) -> list[Reading]:
    """The readings that ``command`` prints, in our columns and units; None for ``[N/A]`` and the like.

    Lines of any other form are left out: the last one may be torn, and errors are text.
    """
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return [
        {column: _value(cell, factor) for (column, (_, factor)), cell in zip(FIELDS.items(), line, strict=True)}
        for line in lines
        if len(line) == len(FIELDS) and line[0].startswith("GPU-")
    ]


def _value(cell: str, factor: float) -> str | float | None:
    if cell.startswith("GPU-"):
        return cell
    try:
        return float(cell) * factor
    except ValueError:
        return None


def compared(ours: Sequence[Mapping[str, str]], theirs: Sequence[Reading]) -> tuple[list[str], list[str]]:
    """(what both say, what they do not agree in), a line for each column and GPU of ``ours``, rows of devices.csv.

    Compared are medians over the readings with the memory of a model that trains; the clocks of the two need not agree.
    """
    said, wrong = [], []
    for uuid in sorted({row["device_uuid"] for row in ours}):
        mine = _busy([_numbers(row) for row in ours if row["device_uuid"] == uuid])
        other = _busy([reading for reading in theirs if reading["device_uuid"] == uuid])
        for column, (share, absolute) in TOLERANCE.items():
            a, b = _median(mine, column), _median(other, column)
            line = f"{uuid} {column}: {_shown(a)} by NVML, {_shown(b)} by nvidia-smi"
            said.append(line)
            if (a is None) != (b is None) or (
                a is not None and b is not None and abs(a - b) > max(share * max(a, b), absolute)
            ):
                wrong.append(line)
    return said, wrong if said else ["devices.csv has no reading"]


def _numbers(row: Mapping[str, str]) -> Reading:
    return {name: float(row[name]) if row.get(name) else None for name in TOLERANCE}


def _busy(readings: Sequence[Reading]) -> list[Reading]:
    peak = max((float(r["memory_used_mib"] or 0) for r in readings), default=0.0)
    return [r for r in readings if float(r["memory_used_mib"] or 0) >= BUSY * peak]


def _median(readings: Sequence[Reading], column: str) -> float | None:
    known = [float(value) for r in readings if (value := r[column]) is not None]
    return statistics.median(known) if known else None


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"


class Beside:
    """``nvidia-smi`` into a file, while a ``with`` block lasts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        with self._file.open("wb") as stream:
            self._process = subprocess.Popen(command(), stdout=stream, stderr=subprocess.STDOUT)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
