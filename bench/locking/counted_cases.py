"""Makes the locked counts of each case from the launches of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.locking.lock_file import Counted, LockedCase, Range
from bench.messages.counts import PEAK, CountLine
from bench.plan.options import AXES
from bench.plan.strategies import SCRIPTS_OWN
from bench.store.columns import LaunchRow

KEPT = ("workload", "strategy", "gpus", "device", "batch_size")  # Axes that the lock always has.
OUTSIDE = "outside of layers"


def locked(rows: Sequence[LaunchRow], counts: Mapping[str, Sequence[CountLine]]) -> LockedCase:
    """Return a case's counts from its launches; where launches differ, the range.

    ``counts`` has the lines of each launch by its id.
    """
    found = [_entries(lines) for row in rows if (lines := counts.get(str(row.launch_id))) is not None]
    keys = dict.fromkeys(key for one in found for key in one if not (key[2] == PEAK and _releases_late(rows[0])))
    ranges = {key: _range([one.get(key, 0) for one in found]) for key in sorted(keys)}
    return LockedCase(_axes(rows[0]), ranges)


def _releases_late(row: LaunchRow) -> bool:
    """Return whether the peak depends on time: the threads of a process group release FSDP's messages when they can."""
    return str(row.strategy).startswith("fsdp")


def _axes(row: LaunchRow) -> dict[str, object]:
    """Return the axes that are not at their default, which name the case."""
    values = {name: getattr(row, name) for name in AXES}
    return {
        name: value
        for name, value in values.items()
        if value not in (None, SCRIPTS_OWN) and (name in KEPT or value != AXES[name].default)
    }


# Kind of a line -> its numbers: (group in the lock, name there, field of the line). An empty name is that of the line.
NUMBERS = {
    "operation": (("operations", "", "calls"), ("bytes", "read", "bytes_read"), ("bytes", "written", "bytes_written")),
    "allocation": (("bytes", "allocated", "bytes"),),
    "flops": (("flops", "all", "flops"),),
    "collective": (("collectives", "", "calls"), ("collective_bytes", "", "bytes")),
    "copy": (("copies", "", "calls"), ("copied_bytes", "", "bytes")),
    "wait": (("waits", "", "calls"),),
    "activation": (("activations", "", "bytes"),),
    "memory": (("memory", "", "bytes"),),
    "compile": (("compile", "", "calls"),),
    "uncounted": (("uncounted", "", "calls"),),
}
OF_STEP = ("activation", "memory", "compile", "uncounted")  # Kinds of no single part.


def _entries(lines: Iterable[CountLine]) -> Counted:
    """Return numbers by their place in the lock."""
    found: Counted = {}
    for line in lines:
        part = "step" if line.kind in OF_STEP else line.part
        words = f"{line.name} {line.type}".strip() or OUTSIDE
        for group, name, field in NUMBERS[line.kind]:
            if number := getattr(line, field):
                place = part, group, name or words
                found[place] = found.get(place, 0) + number
    return found


def _range(numbers: Sequence[int]) -> Range:
    return min(numbers), max(numbers)
