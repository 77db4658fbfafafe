"""The record of a rank: ``rank<N>.json`` in the folder of its launch, checked when it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.messages.comms_record import CommsTimes
from bench.messages.counts import Counts
from bench.messages.saved import Saved
from bench.messages.step_profile import StepProfile
from bench.plan.code_key import Source
from bench.untrusted.rank_files import NonsenseError, read_json, write_json

# Parts of a step, in the order in which they happen. A part begins where the one before it ended.
PARTS = ("data_wait", "copy", "forward", "backward", "optimizer")
# Parts of a step of a script: what is between the wait for a batch and the backward pass is the rest; outside is from
# the end of a step to the first request of a batch.
SCRIPT_PARTS = ("data_wait", "rest", "backward", "optimizer", "outside")
# The part of a pipeline's step in which a rank waits for other stages, and computes nothing.
BUBBLE = "bubble"
PIPELINE_PARTS = (*PARTS[:-1], BUBBLE, PARTS[-1])
# Columns of a row about the software of ranks.
SOFTWARE = ("python", "torch", "torchvision", "packages", "cuda", "cudnn", "nccl", "backend", "loader_start_method")
# Columns of a row about the memory of a rank.
MEMORY = (
    *("peak_allocated_mib", "peak_reserved_mib", "life_peak_allocated_mib", "alloc_retries", "device_used_mib"),
    *("peak_rss_mib", "rss_growth_mib", "build_peak_rss_mib", "life_peak_rss_mib"),
)
# State of resident data: whether the model changed it in place, and since when each step uses a copy.
BATCH = ("as made", "copied", "copied in the window", "changed")
OTHER_IS_GONE = (
    "the other side of the duet ended before it was this one's turn"  # The failure of a rank that waited for it.
)


@dataclass(frozen=True)
class Failure:
    """Why a rank failed. ``kind`` is ``oom`` or ``crashed``; ``*_mib`` are its peaks of memory until then, in MiB."""

    kind: str
    message: str
    time_ns: int
    allocated_mib: float | None = None
    rss_mib: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What one rank measured in the window. Times are nanoseconds of its own clock, unless noted.

    ``parts_ns``: for each of PARTS, of PIPELINE_PARTS or of SCRIPT_PARTS, its duration in each step; with gradient
    accumulation the sum over micro-batches. On a GPU these are times of the device, and ``data_wait_host_ns`` has the
    times that the host waited for a batch. ``waited_ns``: time of the window between steps in which the host waited for
    a processor. ``losses``: one per step, warm-up included; none for a script, nor where ``has_loss`` is False, as in a
    rank of a pipeline without its last stage. Values about the compiler are None where nothing is compiled.

    In a duet the window is the sum of the bursts of this side. ``bursts_ns``: duration of each burst. ``bursts_at_ns``:
    wall clock at its start. Untimed steps before each burst count as warm-up.
    """

    first_step_at_ns: int  # Wall clock, to be compared with the time of the request.
    window_at_ns: int  # Wall clock at the start of the window.
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
    graphs: int | None = None  # Compiled graphs.
    graph_breaks: int | None = None
    optimizer_steps_skipped: int | None = None
    waited_ns: int = 0
    tokens: int | None = None  # That the workload counted in its batches.
    bursts_ns: list[int] = field(default_factory=list)
    bursts_at_ns: list[int] = field(default_factory=list)
    has_loss: bool = True

    def odd(self) -> str:
        """Return why this cannot be the measurement of a window; an empty text if it can."""
        steps = len(self.steps_ns)
        if not sum(self.steps_ns) or not self.window_ns:
            return "measured no time"
        of_script = set(self.parts_ns) == set(SCRIPT_PARTS)
        if set(self.parts_ns) not in (set(PARTS), set(PIPELINE_PARTS)) and not of_script:
            return f"has other parts of a step than {', '.join(PARTS)}"
        if any(len(one) != steps for one in (*self.parts_ns.values(), self.data_wait_host_ns)):
            return f"has parts of more or fewer than its {steps} steps"
        if len(self.losses) != (0 if of_script or not self.has_loss else self.warmup_steps + steps):
            return f"has {len(self.losses)} losses of {self.warmup_steps} + {steps} steps"
        if not set(MEMORY) <= set(self.memory):
            return f"lacks {', '.join(sorted(set(MEMORY) - set(self.memory)))}"
        return "" if len(self.bursts_ns) == len(self.bursts_at_ns) else "has bursts without a time"


@dataclass(frozen=True)
class State:
    """The state of a rank at the end of its window.

    ``num_threads``: threads that PyTorch computes with. ``dynamic_threads``: whether OpenMP may use fewer.
    ``settings``: settings of PyTorch that differ from what the case set: name -> [set, found]. ``forwards``: number of
    forward passes through DistributedDataParallel whose gradients were to be reduced, from the first step on; None
    under other strategies. ``checksums``: one for each parameter, or for this rank's shard of it; equal on all ranks
    with the same ``shard``. ``split``: [numbers of the parameters that tensor parallel has divided over ranks, numbers
    of all parameters]; empty without it. ``types``: how many numbers the parameters have in each floating-point type.
    ``batch``: one of BATCH.
    """

    num_threads: int
    dynamic_threads: bool = False
    settings: dict[str, list[str]] = field(default_factory=dict)
    forwards: int | None = None
    checksums: dict[str, int] = field(default_factory=dict)
    shard: int = 0
    split: list[int] = field(default_factory=list)
    types: dict[str, int] = field(default_factory=dict)
    batch: str = "as made"


@dataclass(frozen=True)
class Observed:
    """One more step after the window, observed operation by operation.

    ``matmuls``: number of matrix products and convolutions of the forward pass by type. ``attention``: number of calls
    of scaled_dot_product_attention by kernel. ``convolutions``: how many have activations in [NHWC, any layout].
    ``collectives``: ``phase kind type`` -> [calls, numbers]; the kind begins with ``tensor`` for ranks that share
    layers; the phase is ``forward`` or ``backward`` for the last micro-batch, ``early forward`` or ``early backward``
    for those before it; in a pipeline it is ``between`` for what stages send each other. ``gradients``: number of
    values in the gradients that the optimizer received. ``gradient_norm``: their norm before clipping.
    ``checkpointed``: layers that the backward pass shall recompute. ``recomputed``: layers that it did recompute.
    ``offloaded``: activations that waited on the host: [tensors, bytes].
    """

    matmuls: dict[str, int] = field(default_factory=dict)
    attention: dict[str, int] = field(default_factory=dict)
    convolutions: list[int] = field(default_factory=lambda: [0, 0])
    collectives: dict[str, list[int]] = field(default_factory=dict)
    gradients: int | None = None
    gradient_norm: float | None = None
    checkpointed: int = 0
    recomputed: int = 0
    offloaded: list[int] = field(default_factory=lambda: [0, 0])


@dataclass(frozen=True)
class ScriptFlops:
    """FLOPs of one step of a rank, and the operations whose cost is unknown."""

    flops: int
    unknown: list[str]


@dataclass(frozen=True)
class ScriptRecord:
    """What a rank saw of a user's script besides times.

    ``step``: what ends a step, such as the class of an optimizer. ``apart``: for each step of the window why it is set
    apart, an empty text for an ordinary one. ``samples``: read in each step; None if unknown. ``batches``: read so far.
    ``seen``: what the script does by itself. ``precision``: as ``--precision`` names it, if known. ``parameters``: of
    the whole model. ``late``: optimizers that would have been the better choice. ``ignored``: variables that it set too
    late, each as ``NAME=VALUE``.
    """

    step: str
    apart: list[str]
    samples: list[int] | None
    batches: int
    seen: list[str] = field(default_factory=list)
    precision: str | None = None
    parameters: int | None = None
    late: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    flops: ScriptFlops | None = None


@dataclass(frozen=True)
class RankRecord:
    """The record of a rank: written when it starts, and again when it is done or fails."""

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
    counts: Counts | None = None
    profile: StepProfile | None = None
    saved: Saved | None = None
    own_ns: list[int] = field(default_factory=list)  # Of steps after the window: time outside of collectives.
    script: ScriptRecord | None = None
    comms: list[CommsTimes] = field(default_factory=list)
    comms_done: bool = False  # All rounds of collectives were measured.
    failure: Failure | None = None
    sources: list[str] = field(default_factory=list)  # Files imported from the watched folders.
    code: list[Source] = field(default_factory=list)  # All of the user's files that it imported.

    @property
    def is_complete(self) -> bool:
        """Whether the rank measured all that it was to measure."""
        return self.measurement is not None or self.comms_done

    def odd(self) -> str:
        """Return why this cannot be the record of a rank that has measured; an empty text if it can."""
        if why := (self.profile and self.profile.odd()) or (self.saved and self.saved.odd()):
            return why
        if self.script is None or self.measurement is None:
            return ""
        steps, known = len(self.measurement.steps_ns), self.script.samples
        if len(self.script.apart) != steps or (known is not None and len(known) != steps):
            return f"tells of more or fewer than its {steps} steps"
        return ""

    def write(self, folder: str | Path) -> None:
        """Write the record into the folder of its launch."""
        write_json(Path(folder) / f"rank{self.rank}.json", dataclasses.asdict(self))

    @classmethod
    def read_all(cls, folder: Path, ranks: int) -> dict[int, RankRecord]:
        """Return the valid records by rank."""
        return cls.sound_and_odd(folder, ranks)[0]

    @classmethod
    def sound_and_odd(cls, folder: Path, ranks: int) -> tuple[dict[int, RankRecord], dict[int, str]]:
        """Return the valid records by rank, and what is wrong with each invalid one."""
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
        """Return the record of a rank; None if it has not written one, NonsenseError if it is invalid."""
        record = read_json(folder / f"rank{rank}.json", cls)
        if record and record.rank != rank:
            raise NonsenseError(f"is the record of rank {record.rank}")
        if record and (unknown := record.software.keys() - set(SOFTWARE)):
            raise NonsenseError(f"has an unknown software {min(unknown)[:40]!r}")
        if record and record.measurement and (why := record.measurement.odd() or record.odd()):
            raise NonsenseError(why)
        if record and (why := next(filter(None, (times.odd() for times in record.comms)), "")):
            raise NonsenseError(why)
        return record


def disagreement(records: Mapping[int, RankRecord]) -> dict[int, str]:
    """Return by rank how its measurement contradicts that of the first rank, which trained the same steps."""
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
