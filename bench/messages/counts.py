"""The work of one step of a rank, as it was counted."""

from __future__ import annotations

from dataclasses import dataclass, field

# Kinds of lines, and what ``name`` is in each.
KINDS = {
    "operation": "name of the operation",
    "collective": "kind of the collective, and the number of its ranks",
    "copy": "`to device` or `to host`",
    "wait": "the operation whose value the host waits for",
    "sync": "the device, for which the host waits according to CUDA's sync debug mode",
    "kernel": "kernels of the device, by a profile of one more step",
    "allocation": "new tensors",
    "flops": "all operations together",
    "activation": "layer that computes what is kept for the backward pass; empty outside of all layers",
    "memory": "parameters, gradients, optimizer state and buffers of the rank; the peak of all tensors that live, and "
    "that of the device's allocator; what the step leaves behind",
    "uncounted": "an operation whose FLOPs are unknown, or a way by which tensors leave torch",
    "compile": "graphs, graph breaks by their reason, and recompilations",
}
# Names of memory.
PEAK, KEPT, ALLOCATED = "peak of live tensors", "kept after the step", "peak of the device's allocator"
PARTS = ("between", "forward", "backward", "optimizer", "step")  # ``step``: of no single part


@dataclass(frozen=True)
class CountLine:
    """One count. A field is None where it means nothing for the kind."""

    part: str
    kind: str
    name: str
    type: str = ""
    calls: int | None = None
    bytes: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    wire_bytes: int | None = None
    flops: int | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what two counts of the same thing share."""
        return self.part, self.kind, self.name, self.type


@dataclass(frozen=True)
class Counts:
    """All counts of a rank's step. ``note``: what could not be counted, in words."""

    lines: list[CountLine] = field(default_factory=list)
    note: str = ""
