"""What a rank tells of itself: ``rank<N>.json`` in the folder of its launch, checked when it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.plan.code_key import Source
from bench.untrusted.rank_files import NonsenseError, read_json, write_json

# Parts of a step, in the order in which they happen. A part begins where the one before it ended.
PARTS = ("data_wait", "copy", "forward", "backward", "optimizer")
# Columns of a row that ranks tell of their software.
SOFTWARE = ("python", "torch", "torchvision", "cuda", "cudnn", "nccl", "backend", "loader_start_method")
# What a rank measures of its memory: the names of columns.
MEMORY = (
    *("peak_allocated_mib", "peak_reserved_mib", "life_peak_allocated_mib", "alloc_retries", "device_used_mib"),
    *("peak_rss_mib", "rss_growth_mib", "life_peak_rss_mib"),
)
# What became of resident data: whether a model changed it in place, and since when it was handed a copy in each step.
BATCH = ("as made", "copied", "copied in the window", "changed")
OTHER_IS_GONE = "the other side of the duet ended before it was this one's turn"  # what a rank says that waited for it


@dataclass(frozen=True)
class Failure:
    """Why a rank gave up. ``kind`` is ``oom`` or ``crashed``; the peaks are of its memory until then, in MiB."""

    kind: str
    message: str
    time_ns: int
    allocated_mib: float | None = None
    rss_mib: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What one rank saw of the window. Times are nanoseconds of its own clock, except where said.

    ``parts_ns`` holds for each of PARTS its duration in each step; on an accelerator they are the device's, and
    ``data_wait_host_ns`` has what the host waited. ``waited_ns`` is what the kernel took of the window outside of all
    steps, as the host waited for a processor. ``losses`` are of every step, the warm-up's first. With accumulation
    a part is the sum over a step's micro-batches. The compiler's figures are None where nothing is compiled.

    In a duet the window is the sum of this side's bursts: ``bursts_ns`` has the time of each, ``bursts_at_ns`` when it
    began by the wall clock. The untimed steps before a burst then count as warm-up, wherever they come.
    """

    first_step_at_ns: int  # wall clock, to be compared with the request's
    window_at_ns: int  # wall clock at its start
    first_step_ns: int
    warmup_steps: int
    window_ns: int
    steps_ns: list[int]
    parts_ns: dict[str, list[int]]
    data_wait_host_ns: list[int]
    samples: int
    losses: list[float]
    forward_is_local: bool | None
    steps_per_epoch: int | None
    memory: dict[str, float | None]
    compile_ns: int | None = None
    recompilations: int | None = None
    window_compilations: int | None = None
    compile_cache_hits: int | None = None
    graphs: int | None = None  # that were compiled
    graph_breaks: int | None = None
    optimizer_steps_skipped: int | None = None
    waited_ns: int = 0
    bursts_ns: list[int] = field(default_factory=list)
    bursts_at_ns: list[int] = field(default_factory=list)

    def odd(self) -> str:
        """Why this cannot be what was seen of a window; empty if it can."""
        steps = len(self.steps_ns)
        if not sum(self.steps_ns) or not self.window_ns:
            return "measured no time"
        if set(self.parts_ns) != set(PARTS):
            return f"has other parts of a step than {', '.join(PARTS)}"
        if any(len(one) != steps for one in (*self.parts_ns.values(), self.data_wait_host_ns)):
            return f"has parts of more or fewer than its {steps} steps"
        if len(self.losses) != self.warmup_steps + steps:
            return f"has {len(self.losses)} losses of {self.warmup_steps} + {steps} steps"
        if not set(MEMORY) <= set(self.memory):
            return f"lacks {', '.join(sorted(set(MEMORY) - set(self.memory)))}"
        return "" if len(self.bursts_ns) == len(self.bursts_at_ns) else "has bursts without a time"


@dataclass(frozen=True)
class State:
    """How a rank stood when its window had ended.

    ``num_threads`` is what PyTorch computes with; ``dynamic_threads`` says that OpenMP may take fewer. ``settings`` has
    PyTorch's settings that are no longer as the case pinned them: name -> [pinned, found]. ``forwards`` counts the
    forward passes through DistributedDataParallel whose gradients were to be exchanged, from the first step on; None
    under other strategies. ``checksums`` has one of the bits of each parameter, or of this rank's shard of it: ranks
    with the same ``shard`` must have the same. ``types`` counts the numbers in parameters by their floating-point type.
    ``batch`` is one of BATCH.
    """

    num_threads: int
    dynamic_threads: bool = False
    settings: dict[str, list[str]] = field(default_factory=dict)
    forwards: int | None = None
    checksums: dict[str, int] = field(default_factory=dict)
    shard: int = 0
    types: dict[str, int] = field(default_factory=dict)
    batch: str = "as made"


@dataclass(frozen=True)
class Observed:
    """One more step after the window, looked at operation by operation. What was not seen is not in the tables.

    ``matmuls`` counts matrix products and convolutions of the forward pass by type, ``attention`` the calls of
    scaled_dot_product_attention by kernel, ``convolutions`` those with activations in [NHWC, any layout].
    ``collectives`` has ``phase kind type`` -> [calls, numbers], where a phase is ``forward`` or ``backward`` for the
    last micro-batch, ``early forward`` or ``early backward`` for those before it. ``gradients`` counts the numbers in
    the gradients that the optimizer was given, ``gradient_norm`` is theirs before clipping. ``checkpointed`` layers are
    to be recomputed in the backward pass, ``recomputed`` ones were.
    """

    matmuls: dict[str, int] = field(default_factory=dict)
    attention: dict[str, int] = field(default_factory=dict)
    convolutions: list[int] = field(default_factory=lambda: [0, 0])
    collectives: dict[str, list[int]] = field(default_factory=dict)
    gradients: int | None = None
    gradient_norm: float | None = None
    checkpointed: int = 0
    recomputed: int = 0


@dataclass(frozen=True)
class RankRecord:
    """A rank's own account: written when it starts, and again when it is done or gives up."""

    rank: int
    local_rank: int
    host: str
    pid: int
    preloaded: bool
    device: str = ""
    device_uuids: list[str] = field(default_factory=list)
    software: dict[str, str] = field(default_factory=dict)
    measurement: Measurement | None = None
    state: State | None = None
    observed: Observed | None = None
    failure: Failure | None = None
    sources: list[str] = field(default_factory=list)  # imported from the folders that are watched
    code: list[Source] = field(default_factory=list)  # all that it imported of the user's

    def write(self, folder: str | Path) -> None:
        write_json(Path(folder) / f"rank{self.rank}.json", dataclasses.asdict(self))

    @classmethod
    def read_all(cls, folder: Path, ranks: int) -> dict[int, RankRecord]:
        """The records that are there and make sense, by rank."""
        return cls.sound_and_odd(folder, ranks)[0]

    @classmethod
    def sound_and_odd(cls, folder: Path, ranks: int) -> tuple[dict[int, RankRecord], dict[int, str]]:
        """The records that are there, by rank; and what is wrong with those that make no sense."""
        records, nonsense = {}, {}
        for rank in range(ranks):
            try:
                if record := cls.read(folder, rank):
                    records[rank] = record
            except NonsenseError as error:
                nonsense[rank] = f"its record rank{rank}.json {error}"
        return records, nonsense

    @classmethod
    def read(cls, folder: Path, rank: int) -> RankRecord | None:
        """None before the rank has written one; NonsenseError if what is there is no record of it."""
        record = read_json(folder / f"rank{rank}.json", cls)
        if record and record.rank != rank:
            raise NonsenseError(f"is that of rank {record.rank}")
        if record and (unknown := record.software.keys() - set(SOFTWARE)):
            raise NonsenseError(f"tells of {min(unknown)[:40]!r} as software")
        if record and record.measurement and (why := record.measurement.odd()):
            raise NonsenseError(why)
        return record


def disagreement(records: Mapping[int, RankRecord]) -> dict[int, str]:
    """By rank, what its measurement says otherwise than that of the first rank, though both trained the same steps."""
    measured = {rank: record.measurement for rank, record in sorted(records.items()) if record.measurement}
    first = next(iter(measured.values()), None)
    found = {}
    for rank, m in measured.items():
        assert first is not None
        for what, one, other in (
            ("steps", len(m.steps_ns), len(first.steps_ns)),
            ("steps before them", m.warmup_steps, first.warmup_steps),
            ("bursts", len(m.bursts_ns), len(first.bursts_ns)),
        ):
            if one != other:
                found[rank] = f"its record rank{rank}.json has {one} {what}, that of another rank {other}"
    return found
