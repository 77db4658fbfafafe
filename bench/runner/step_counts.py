"""The counted work of a launch: rows of counts.csv, and its sums as columns of the launch."""

from __future__ import annotations

from collections.abc import Mapping

from bench.messages.counts import Counts
from bench.messages.rank_record import RankRecord
from bench.store.columns import COUNTED, Row

NAMED = 3  # differences between ranks that a note names
OF_MEMORY = {
    "parameter_bytes": "parameters",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "buffer_bytes": "buffers",
    "live_peak_bytes": "peak of live tensors",
}


def count_rows(records: Mapping[int, RankRecord]) -> list[Row]:
    """Return the rows of counts.csv, which are those of the first rank that has counted."""
    _, counts = _first(records)
    values = ({name: getattr(line, name) for name in COUNTED} for line in counts.lines)
    return [{name: None if value == "" else value for name, value in row.items()} for row in values]


def counted(records: Mapping[int, RankRecord]) -> Row:
    """Return the sums of a launch; none if nothing was counted."""
    first, counts = _first(records)
    if not counts.lines:
        return {"counts_note": counts.note} if counts.note else {}
    memory = {line.name: line.bytes for line in counts.lines if line.kind == "memory"}
    seen = bool(memory)  # else the step is compiled, and its operations are unknown
    sums: Row = {
        "operations": _sum(counts, "operation", "calls"),
        "collectives": _sum(counts, "collective", "calls"),
        "collective_bytes": _sum(counts, "collective", "bytes"),
        "wire_bytes": _sum(counts, "collective", "wire_bytes"),
        "host_waits": _sum(counts, "wait", "calls"),
        "host_copies": _sum(counts, "copy", "calls"),
        "activation_bytes": _sum(counts, "activation", "bytes"),
        **{column: memory.get(name) for column, name in OF_MEMORY.items()},
    }
    kernels = {"kernel_launches": _sum(counts, "kernel", "calls") or None}
    notes = [counts.note, _unlike(first, counts, records)]
    return {**(sums if seen else {}), **kernels, "counts_note": "; ".join(filter(None, notes)) or None}


def _first(records: Mapping[int, RankRecord]) -> tuple[int, Counts]:
    return next(((rank, r.counts) for rank, r in sorted(records.items()) if r.counts), (0, Counts()))


def _sum(counts: Counts, kind: str, field: str) -> int:
    return sum(getattr(line, field) or 0 for line in counts.lines if line.kind == kind)


def _unlike(first: int, counts: Counts, records: Mapping[int, RankRecord]) -> str:
    """Return how ranks differ in their number of operations and collectives: one that does more makes others wait.

    Bytes may differ, as shards do.
    """
    expected = _calls(counts)
    found = []
    for rank, record in sorted(records.items()):
        own = _calls(record.counts) if record.counts else expected
        differ = [key for key in sorted({*expected, *own}) if expected.get(key, 0) != own.get(key, 0)]
        if differ:
            part, _, name, type_ = differ[0]
            words = f"{name} {type_}".strip()
            more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
            found.append(
                f"rank {rank} counts {own.get(differ[0], 0)} × {words} in {part}, rank {first} "
                f"{expected.get(differ[0], 0)}{more}"
            )
    rest = f" and {len(found) - NAMED} ranks more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + rest


def _calls(counts: Counts) -> dict[tuple[str, str, str, str], int]:
    kinds = ("operation", "collective", "wait", "copy")
    return {line.key: line.calls for line in counts.lines if line.kind in kinds and line.calls}
