"""Makes the locked counts of a case from those of its launches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.locking.lock_file import Counted, LockedCase, Range
from bench.messages.counts import ALLOCATED, PEAK, CountLine
from bench.plan.case import Case
from bench.plan.options import AXES, FAKE_RANKS
from bench.plan.strategies import SCRIPTS_OWN

KEPT = ("workload", "strategy", "gpus", "device", "batch_size")  # Axes that the lock always has.
OUTSIDE = "outside of layers"


def locked(case: Case, launches: Sequence[Sequence[CountLine]]) -> LockedCase:
    """Return a case's counts from the lines of its launches; where launches differ, the range."""
    found = [_entries(lines) for lines in launches]
    keys = dict.fromkeys(key for one in found for key in one if not _depends_on_time(case, key[2]))
    ranges = {key: _range([one.get(key, 0) for one in found]) for key in sorted(keys)}
    return LockedCase(_axes(case), ranges)


def _depends_on_time(case: Case, name: str) -> bool:
    """Return whether a count is the allocator's peak, or under FSDP that of tensors.

    An allocator keeps and divides what it has. Threads of a process group release FSDP's messages when they can.
    """
    return name == ALLOCATED or (name == PEAK and case.spread.name == "fsdp" and not case.fake_ranks)


def _axes(case: Case) -> dict[str, object]:
    """Return the axes that are not at their default, which name the case."""
    values = {name: getattr(case, name) for name in AXES}
    found = {
        name: value
        for name, value in values.items()
        if value not in (None, SCRIPTS_OWN) and (name in KEPT or value != AXES[name].default)
    }
    if case.fake_ranks:
        del found["device"]
        found[FAKE_RANKS.name] = found.pop("gpus")
    return found


# Kind of a line -> its numbers: (group in the lock, name there, field of the line). An empty name is that of the line.
NUMBERS = {
    "operation": (("operations", "", "calls"), ("bytes", "read", "bytes_read"), ("bytes", "written", "bytes_written")),
    "allocation": (("bytes", "allocated", "bytes"),),
    "flops": (("flops", "all", "flops"),),
    "collective": (("collectives", "", "calls"), ("collective_bytes", "", "bytes")),
    "copy": (("copies", "", "calls"), ("copied_bytes", "", "bytes")),
    "wait": (("waits", "", "calls"),),
    "sync": (("syncs", "", "calls"),),
    "kernel": (("kernels", "", "calls"),),
    "activation": (("activations", "", "bytes"),),
    "memory": (("memory", "", "bytes"),),
    "compile": (("compile", "", "calls"),),
    "uncounted": (("uncounted", "", "calls"),),
}
OF_STEP = ("kernel", "activation", "memory", "compile", "uncounted")  # Kinds of no single part.


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
