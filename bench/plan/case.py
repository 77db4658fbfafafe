"""A case: one point of the matrix, with a readable and stable id."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePath

from bench.plan.comms import COMMS
from bench.plan.options import AXES, Value, show
from bench.plan.script_arguments import arguments
from bench.plan.strategies import NONE, ONE_PROCESS, PIPELINE_SCHEDULES
from bench.plan.strategy_spec import StrategySpec, parse_strategy
from bench.plan.workload_spec import WorkloadSpec, parse_workload

FLAGS = ("oversubscribe", "fake_ranks", "auto_batch")  # Fields that are no axes.
PLACEHOLDERS = tuple(name for name in AXES if name not in ("workload", "args"))  # Axes that --args may name.


@dataclass(frozen=True)
class Case:
    """A value for every axis; None where the axis has no effect, or where only the workload knows the value."""

    workload: str
    strategy: str
    gpus: int
    device: str
    precision: str | None
    activation_checkpointing: str | None
    batch_size: int | None
    data: str | None
    num_workers: int | None
    pin_memory: bool | None
    prefetch_factor: int | None
    persistent_workers: bool | None
    omp_num_threads: int
    seed: int | None
    activation_offload: str | None = "none"
    attention: str | None = "auto"
    compile: str | None = "off"
    compile_scope: str | None = None
    grad_accum_steps: int | None = 1
    max_grad_norm: float | None = 0.0
    optimizer: str | None = "adamw"
    lr_scheduler: str | None = "none"
    init: str | None = "cpu"
    channels_last: bool | None = False
    deterministic: bool | None = False
    cudnn_benchmark: bool | None = True
    numa_binding: str | None = "off"
    placement: str | None = "pack"
    save_checkpoint: str | None = "none"
    env: str = ""
    args: str = ""  # Of a script.
    oversubscribe: bool = False
    fake_ranks: bool = False  # Rank 0 is a process, and a process group without communication stands for the others.
    auto_batch: bool = False  # The batch size will be searched for; it is None until then.

    @property
    def spread(self) -> StrategySpec:
        """The parsed strategy."""
        return parse_strategy(self.strategy)

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return 1 if self.spread.name in ONE_PROCESS else self.gpus

    @property
    def processes(self) -> int:
        """Number of ranks that are processes."""
        return 1 if self.fake_ranks else self.world_size

    @property
    def devices(self) -> int:
        """Number of devices that compute, over all ranks."""
        return 1 if self.spread.name == "single" else self.gpus

    @property
    def mesh(self) -> dict[str, int]:
        """Ranks in each dimension of the mesh of ranks, outermost first.

        Those of ``pipeline`` have different layers, those of ``tensor`` parts of the same layers; both train the same
        samples. A further dimension in which a rank has a part of the model, as of context or expert parallel, has its
        place here.
        """
        options = self.spread.options
        tensor, pipeline = int(options.get("tp", 1)), int(options.get("pp", 1))
        data = max(self.world_size // (tensor * pipeline), 1)
        replicas = int(options["replicate"]) if "replicate" in options else data
        shards = max(data // replicas, 1)
        return {"pipeline": pipeline, "replicate": replicas, "shard": shards, "tensor": tensor}

    @property
    def tensor_ranks(self) -> int:
        """Number of ranks that share each layer; 1 without tensor parallel."""
        return self.mesh["tensor"]

    @property
    def pipeline_ranks(self) -> int:
        """Number of ranks that have different layers of a model; 1 without pipeline parallel."""
        return self.mesh["pipeline"]

    @property
    def stages(self) -> int:
        """Number of stages of a pipeline, over all its ranks; 1 without pipeline parallel."""
        return self.pipeline_ranks * self.stages_per_rank

    @property
    def stages_per_rank(self) -> int:
        """Number of stages in each rank of a pipeline."""
        return PIPELINE_SCHEDULES[self.spread.options.get("schedule", "gpipe")]

    @property
    def model_ranks(self) -> int:
        """Number of ranks that have one model together, and train the same samples."""
        return self.pipeline_ranks * self.tensor_ranks

    @property
    def data_ranks(self) -> int:
        """Number of ranks, or of groups of them, that train different samples."""
        return max(self.world_size // self.model_ranks, 1)

    @property
    def data_devices(self) -> int:
        """Number of devices, or of groups of them, that train different samples."""
        return max(self.devices // self.model_ranks, 1)

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches in a step of a workload."""
        return self.grad_accum_steps or 1

    @property
    def on_accelerator(self) -> bool:
        """Whether ranks compute on GPUs and not on the host."""
        return self.device != "cpu"

    @property
    def rank_batch(self) -> int | None:
        """Samples of a micro-batch in one rank, over all devices of the rank."""
        return None if self.batch_size is None else self.batch_size * self.devices // self.world_size

    @property
    def global_batch(self) -> int | None:
        """Samples of a step, over all data ranks and micro-batches; None if unknown, as for a script."""
        if self.batch_size is None or self.is_script:
            return None
        return self.batch_size * self.data_devices * self.micro_batches

    @property
    def environment(self) -> dict[str, str]:
        """Variables that ``--env`` adds to the environment of the ranks."""
        pairs = (word.partition("=") for word in shlex.split(self.env))
        return {name: value for name, _, value in pairs}

    @property
    def spec(self) -> WorkloadSpec:
        """The parsed workload."""
        return parse_workload(self.workload)

    @property
    def data_kind(self) -> str:
        """Kind of the data: ``folder`` for ``folder=PATH``; empty if a script decides on it."""
        return (self.data or "").partition("=")[0]

    @property
    def is_script(self) -> bool:
        """Whether a user's script trains, and not a workload."""
        return bool(self.spec.script)

    @property
    def is_comms(self) -> bool:
        """Whether collectives alone are measured, and nothing is trained."""
        return self.spec.comms is not None

    @property
    def is_workload(self) -> bool:
        """Whether a workload is trained, of which torch knows more before it runs."""
        return not (self.is_script or self.is_comms)

    @property
    def arguments(self) -> list[str]:
        """Arguments of the script, with the values of this case."""
        return arguments(self.args, PLACEHOLDERS, lambda axis: show(getattr(self, axis)))

    @functools.cached_property
    def case_id(self) -> str:
        """A slug of the values that differ from the defaults, and eight digits of their hash.

        Axes at their default are not hashed, so that the id stays the same when a later version adds axes.
        """
        differs = {
            name: value
            for name, value in ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
            if name in ("workload", "strategy", "gpus", "device")
            or (value is not None and name in AXES and value != self.default_of(name))
            or (name in FLAGS and value)
        }
        digest = hashlib.sha256(json.dumps(differs, sort_keys=True).encode()).hexdigest()[:8]
        words = [_word(name, value) for name, value in differs.items() if name != "batch_size" or not self._own_batch]
        return "-".join([*filter(None, words), digest])

    def default_of(self, axis: str) -> Value:
        """Return what an axis is if it is not given, where that does not depend on the machine."""
        return self.own_compile_scope if axis == "compile_scope" else AXES[axis].default

    @property
    def own_compile_scope(self) -> str:
        """What ``--compile`` compiles by itself under this strategy, if ``--compile-scope`` is not given."""
        return "block" if self.spread.name == "fsdp" else "model"

    @property
    def saves(self) -> bool:
        """Whether its state is saved after the window."""
        return self.save_checkpoint not in (None, "none")

    @property
    def _own_batch(self) -> bool:
        entry = self.spec.entry
        return entry is not None and entry.batch_size == self.batch_size


_SHORT = {
    **{"gpus": "x", "activation_checkpointing": "ac-", "batch_size": "b", "grad_accum_steps": "accum"},
    **{"max_grad_norm": "clip", "num_workers": "w", "omp_num_threads": "omp", "seed": "seed", "numa_binding": "numa-"},
    **{"save_checkpoint": "save-", "activation_offload": "offload-"},
}


def _word(name: str, value: Value) -> str:
    if name in ("device", "precision"):
        return str(value)
    if name == "optimizer":
        return _slug(str(value))
    if (name, value) == ("strategy", NONE):
        return ""
    if name in ("strategy", "env"):
        return _slug(str(value))[:60]
    if name == "workload" and str(value).partition(":")[0] == COMMS:
        return COMMS  # its options are in the hash
    if name == "workload":
        return _slug(PurePath(str(value).partition("script=")[2] or str(value)).name)
    if name == "args":
        return ""
    if name == "data":
        kind, _, path = str(value).partition("=")
        return _slug(f"{kind}-{PurePath(path).name}")
    long = name.replace("_", "-")
    if isinstance(value, bool):
        return long if value else f"{long}-off"
    return _SHORT.get(name, f"{long}-") + _slug(f"{value:g}" if isinstance(value, float) else show(value))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
