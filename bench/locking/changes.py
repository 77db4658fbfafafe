"""Compares the present counts with locked ones, and says in words what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.locking.lock_file import PARTS, TOLERANCES, LockedCase, Path, Range

KIND_OF = {group: kind for kind, groups in TOLERANCES.items() for group in groups}
# Groups in the order in which their changes are told, each with the words before its first change.
GROUPS = {
    "compile": "",
    "collectives": "",
    "collective_bytes": "bytes of ",
    "waits": "",
    "syncs": "",
    "kernels": "",
    "copies": "",
    "copied_bytes": "bytes of copies ",
    "operations": "",
    "activations": "activations: ",
    "memory": "memory: ",
    "flops": "",
    "uncounted": "not counted in full: ",
    "bytes": "",
}
IN_BYTES = ("collective_bytes", "copied_bytes", "bytes", "memory", "activations")
EACH = {"waits": "wait for ", "syncs": "wait for ", "copies": "copy "}  # Words before the name of one count.
NAMED = 6  # Changes of one part and group that are named.


@dataclass(frozen=True)
class Change:
    """One count that changed. ``more``: it grew beyond the tolerance of its kind."""

    path: Path
    before: Range
    now: Range
    more: bool

    @property
    def words(self) -> str:
        """Return the change in a few words, without the part of the step."""
        _, group, name = self.path
        if group in IN_BYTES or group == "flops":
            unit = _flops if group == "flops" else _bytes
            label = {"bytes": f"bytes {name}", "flops": "FLOPs"}.get(group, name)
            before, now = unit(self.before), unit(self.now)
            if before == now:  # the difference is below the last digit
                before, now = (f"{numbers[1]:,}" for numbers in (self.before, self.now))
            return f"{label} {before} → {now}"
        if group == "compile" and not name.startswith("graph break"):
            return f"{name} {self.before[1]} → {self.now[1]}"
        difference = self.now[1] - self.before[1] if self.more else self.now[0] - self.before[0]
        return f"{difference:+d} {EACH.get(group, '')}{name}"


def changes(locked: LockedCase, now: LockedCase, tolerance: Mapping[str, float]) -> list[Change]:
    """Return the counts that are now outside of the locked range."""
    found = []
    for path in dict.fromkeys((*locked.counts, *now.counts)):
        before, after = locked.counts.get(path, (0, 0)), now.counts.get(path, (0, 0))
        more = after[1] > before[1] * (1 + tolerance[KIND_OF[path[1]]])
        if more or after[0] < before[0]:
            found.append(Change(path, before, after, more))
    return found


def in_words(found: Iterable[Change]) -> list[str]:
    """Return a line for each part of the step and kind of count: what grew comes first."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in found:
        groups.setdefault(change.path[:2], []).append(change)
    lines = []
    for (part, group), some in groups.items():
        some = sorted(some, key=lambda change: (not change.more, change.path))
        words = ", ".join(change.words for change in some[:NAMED])
        rest = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
        where = "" if part == "step" else f" in {part}"
        order = not some[0].more, [*GROUPS].index(group), PARTS.index(part)
        lines.append((order, f"{GROUPS[group]}{words}{rest}{where}"))
    return [line for _, line in sorted(lines)]


def _bytes(numbers: Range) -> str:
    return _shown(numbers, (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)))


def _flops(numbers: Range) -> str:
    return _shown(numbers, (("TFLOP", 10**12), ("GFLOP", 10**9), ("MFLOP", 10**6), ("FLOP", 1)))


def _shown(numbers: Range, units: tuple[tuple[str, int], ...]) -> str:
    name, size = next((one for one in units if numbers[1] >= one[1]), units[-1])
    least, most = (f"{number / size:.4g}" for number in numbers)
    return f"{least} {name}" if least == most else f"{least}-{most} {name}"


def comparable_anyway(path: Path) -> bool:
    """Return whether a count does not depend on the version of torch: what the code and the strategy decide."""
    _, group, name = path
    of_tensors = group == "memory" and name in ("parameters", "gradients", "optimizer state", "buffers")
    return of_tensors or group in ("collectives", "collective_bytes", "waits", "copies", "copied_bytes", "flops")
