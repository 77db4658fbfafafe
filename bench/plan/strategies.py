"""The table of strategies with their descriptions and options; ``bench.strategies`` has the torch code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Choice:
    """An option of a strategy: one of ``words``, or with a ``minimum`` also a whole number up to ``most``."""

    about: str
    default: str
    words: tuple[str, ...] = ()
    minimum: int | None = None
    most: float = math.inf

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        number = () if self.minimum is None else (f"a whole number from {self.minimum}",)
        return ", ".join([*self.words, *number])

    def allows(self, text: str) -> bool:
        """Return whether a text is an allowed value."""
        number = self.minimum is not None and text.isascii() and text.isdecimal() and len(text) <= 40
        return text in self.words or (number and (self.minimum or 0) <= int(text) <= self.most)


@dataclass(frozen=True)
class Strategy:
    """A strategy: its description, and the options that may follow its name, each after a colon."""

    about: str
    options: Mapping[str, Choice] = field(default_factory=dict)


_TENSOR = {
    "tp": Choice(
        "tensor parallel with sequence parallel: N ranks share each layer's matrices and train the same samples",
        *("1", (), 1),
    ),
    "loss-parallel": Choice("with tp: the logits stay divided by vocabulary in the loss", "off", ("on", "off")),
}
PIPELINE_SCHEDULES = {"gpipe": 1, "1f1b": 1, "interleaved": 2}  # Stages in each rank.
_PIPELINE = {
    "pp": Choice(
        "pipeline parallel: N ranks have consecutive layers each, and the micro-batches of --grad-accum-steps go "
        "through them",
        *("1", (), 1),
    ),
    "schedule": Choice(
        "with pp: gpipe: all forward passes, then all backward passes; 1f1b: a backward pass as soon as one can begin; "
        "interleaved: 1f1b with two stages in each rank",
        *("gpipe", tuple(PIPELINE_SCHEDULES)),
    ),
}
_DDP = {
    "bucket-mb": Choice("size of a bucket in MiB", "25", minimum=1, most=2**20),
    "static-graph": Choice("promise that the graph never changes", "off", ("on", "off")),
    "find-unused": Choice("search each step for parameters without a gradient", "off", ("on", "off")),
    "bucket-view": Choice("gradients are views of their buckets: one copy less", "off", ("on", "off")),
    "hook": Choice("compress gradients for the all-reduce", "none", ("none", "fp16", "bf16")),
}
STRATEGIES = {
    "single": Strategy("one device, no process group: the baseline"),
    "dp": Strategy("nn.DataParallel: one process copies the model to all its GPUs each step; CUDA only"),
    "ddp": Strategy(
        "DistributedDataParallel: replicas, gradients all-reduced in buckets during the backward pass",
        {**_DDP, **_TENSOR, **_PIPELINE},
    ),
    "zero1": Strategy(
        "DistributedDataParallel with ZeroRedundancyOptimizer: optimizer state sharded over all ranks", _DDP
    ),
    "fsdp": Strategy(
        "fully_shard per layer (FSDP2): parameters, gradients and optimizer state sharded over all ranks",
        {
            "reshard": Choice(
                "on: free a layer's parameters after its forward pass; off: keep them for the backward pass; "
                "N: reshard to groups of N ranks",
                *("on", ("on", "off"), 2),
            ),
            "replicate": Choice("HSDP: N replicas, each sharded over data ranks / N ranks", "1", minimum=1),
            "offload": Choice("parameters, gradients and optimizer state live on the host", "off", ("off", "cpu")),
            "reduce": Choice(
                "type that gradients are reduced in; own: float32, under --precision bf16 bfloat16",
                *("own", ("own", "fp32", "bf16")),
            ),
            **_TENSOR,
            **_PIPELINE,
        },
    ),
}
ONE_PROCESS = ("single", "dp")
REPLICATED = ("ddp", "zero1")  # Each rank has the whole model in DistributedDataParallel.
SCRIPTS_OWN = "script"  # The strategy of a script that decides on it by itself.
NONE = "none"  # That of collectives alone, which train no model.
