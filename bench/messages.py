"""What ``bench run`` and its ranks tell each other: JSON files in the folder of a launch. No torch."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.case import Case
from bench.checked import NonsenseError, checked, read_file, read_json
from bench.code import Source
from bench.record import MEMORY

# Parts of a step, in the order in which they happen. A part begins where the one before it ended.
PARTS = ("data_wait", "copy", "forward", "backward", "optimizer")
# Where a rank may stand, in the order in which it comes there; PARTS, "sync" and "turn" again and again.
STAGES = ("starting", "building", *PARTS, "sync", "turn", "ending", "done", "failed")
STAGE = {name: number for number, name in enumerate(STAGES)}
# Columns of a row that ranks tell of their software.
SOFTWARE = ("python", "torch", "torchvision", "cuda", "cudnn", "nccl", "backend", "loader_start_method")
MOST_STEPS = 1 << 40
LAST_WORDS = 1024  # bytes
SIDES = ("A", "B")  # of a comparison
# What became of resident data: whether a model changed it in place, and since when it was handed a copy in each step.
BATCH = ("as made", "copied", "copied in the window", "changed")
OTHER_IS_GONE = "the other side of the duet ended before it was this one's turn"  # what a rank says that waited for it


@dataclass(frozen=True)
class Turns:
    """A rank's part in a duet: two launches that are up at once and train in turn, a burst of steps each.

    They meet at a store on ``address`` and ``port``, which rank 0 of side A holds. ``side`` is one of SIDES and
    ``ranks`` how many it has. A burst is to take the slower side about ``burst_seconds``.
    """

    address: str
    port: int
    side: str
    ranks: int
    burst_seconds: float


@dataclass(frozen=True)
class Spec:
    """All that a rank needs to know."""

    case: Case
    target: str
    options: dict[str, Any]
    data: str
    warmup_steps: int
    steps: int
    min_seconds: float
    timeout_s: float
    folder: str
    scratch: str
    max_seconds: float = 0.0
    compile_cache: str = ""  # for this launch alone; empty where the user's environment names one
    watched: list[str] = field(default_factory=list)  # folders of which the files that are imported are told
    turns: Turns | None = None  # only in a duet

    def write(self) -> Path:
        path = Path(self.folder) / "spec.json"
        _write(path, dataclasses.asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        values = json.loads(Path(path).read_text())
        turns = Turns(**values["turns"]) if values.get("turns") else None
        return cls(**{**values, "case": Case(**values["case"]), "turns": turns})


@dataclass(frozen=True)
class Description:
    """What only torch can know of a workload; None for what cannot be found out before ranks train.

    FLOPs are of a forward and a backward pass, ``flops_convention`` says how they were counted, and ``flops_note`` why
    there are none, or that the workload says them itself.
    """

    unit: str
    batch_size: int
    data: tuple[str, ...]
    tokens_per_sample: int | None
    parameters: int | None
    layers: int | None
    flops_per_sample: float | None
    hardware_flops_per_sample: float | None
    flops_convention: str | None = None
    flops_note: str | None = None

    @classmethod
    def found(cls, folder: Path) -> Description | None:
        """None where none was written, or something else."""
        try:
            return cls.read(folder)
        except NonsenseError:
            return None

    @classmethod
    def read(cls, folder: Path) -> Description:
        """NonsenseError if the rank that was to write it wrote none, or something else."""
        found = read_json(folder / "description.json", cls)
        if found is None:
            raise NonsenseError("is not there")
        return found

    def write(self, folder: Path) -> None:
        _write(folder / "description.json", dataclasses.asdict(self))


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
        _write(Path(folder) / f"rank{self.rank}.json", dataclasses.asdict(self))

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


def _write(path: Path, values: dict[str, Any]) -> None:
    """All of it or nothing: a reader never sees half a record."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values))
    os.replace(partial, path)


class Beat(NamedTuple):
    """How far a rank has come: ``time_ns`` is its wall clock when it ended its last step, 0 before the first.

    The host of an accelerator runs ahead of it: it has waited for all but the last ``done - synced`` steps, and
    ``step_ns`` is the longest mean step between two such waits.
    """

    done: int = 0
    planned: int = 0
    time_ns: int = 0
    synced: int = 0
    step_ns: int = 0
    stage: str = STAGES[0]


class Heartbeat:
    """A Beat in 48 bytes of shared memory that a rank writes and its parent reads, and room for its last words.

    A store into mapped memory costs the rank 0.3 µs and no system call, so it can be written several times a step. It
    needs neither a descriptor nor room on a disk, so a rank that has run out of those can still say why it gives up.
    """

    _STEPS, _SYNCED, _STAGE = struct.Struct("<qqq"), struct.Struct("<qq"), struct.Struct("<q")
    _WORDS = _STEPS.size + _SYNCED.size + _STAGE.size  # where the last words begin
    _SIZE = _WORDS + LAST_WORDS

    def __init__(self, scratch: str | Path, launch: str, rank: int) -> None:
        self.path = Path(scratch) / f"heartbeat-{launch}-{rank}"
        self.path.write_bytes(bytes(self._SIZE))
        with self.path.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), self._SIZE)

    def beat(self, done: int, planned: int, time_ns: int) -> None:
        self._STEPS.pack_into(self._memory, 0, done, planned, time_ns)

    def synced(self, done: int, step_ns: int) -> None:
        """Say that the device has done so many steps."""
        self._SYNCED.pack_into(self._memory, self._STEPS.size, done, step_ns)

    def enter(self, stage: int) -> None:
        """Say where the rank stands now: a value of STAGE."""
        self._STAGE.pack_into(self._memory, self._STEPS.size + self._SYNCED.size, stage)

    def say(self, failure: Failure) -> None:
        """Say why the rank gives up, for when its record cannot be written; a long message is cut."""
        for length in (LAST_WORDS, LAST_WORDS // 2, LAST_WORDS // 8, 0):
            cut = dataclasses.replace(failure, message=failure.message[:length])
            words = json.dumps(dataclasses.asdict(cut)).encode()
            if len(words) <= LAST_WORDS:
                self._memory[self._WORDS :] = words.ljust(LAST_WORDS, b"\0")
                return

    @classmethod
    def read(cls, scratch: Path, launch: str, rank: int) -> Beat | None:
        """None before the rank has come so far; NonsenseError for what no rank of ours can have written."""
        raw = cls._read(scratch, launch, rank)
        if not raw:
            return None
        done, planned, time_ns = cls._STEPS.unpack_from(raw)
        synced, step_ns = cls._SYNCED.unpack_from(raw, cls._STEPS.size)
        (stage,) = cls._STAGE.unpack_from(raw, cls._STEPS.size + cls._SYNCED.size)
        if not 0 <= stage < len(STAGES):
            raise NonsenseError(f"tells of stage {stage}, which there is not")
        for name, number in (("steps done", done), ("steps planned", planned), ("steps waited for", synced)):
            if not 0 <= number <= MOST_STEPS:
                raise NonsenseError(f"tells of {number} {name}")
        if min(time_ns, step_ns) < 0:
            raise NonsenseError("tells of a time below 0")
        return Beat(done, planned, time_ns, synced, step_ns, STAGES[stage])

    @classmethod
    def last_words(cls, scratch: Path, launch: str, rank: int) -> Failure | None:
        """Why the rank gave up, if it said so."""
        try:
            raw = cls._read(scratch, launch, rank)
            return checked(Failure, json.loads(raw[cls._WORDS :].rstrip(b"\0"))) if raw else None
        except ValueError:
            return None

    @classmethod
    def _read(cls, scratch: Path, launch: str, rank: int) -> bytes:
        raw = read_file(scratch / f"heartbeat-{launch}-{rank}", cls._SIZE) or b""
        if len(raw) not in (0, cls._SIZE):
            raise NonsenseError(f"has {len(raw)} bytes")
        return raw
