"""Properties of a workload that only torch can determine; one rank writes them to a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from bench.untrusted.rank_files import NonsenseError, read_json, write_json


@dataclass(frozen=True)
class Description:
    """Properties of a workload that only torch can determine; None for those that are unknown before training.

    FLOPs are those of a forward and a backward pass. ``flops_convention`` says how they were counted, ``flops_note``
    why there are none, or that the workload states them itself.
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
    own_optimizer: bool = False  # The workload decides on its optimizers.
    own_loader: bool = False  # The workload makes its batches itself.
    own_checkpointing: bool = False  # The workload says how its activations are recomputed.
    own_step: bool = False  # The workload has a step of its own.
    max_split: int | None = None  # max_split of a workload with split(model); None: tensor parallel cannot divide it.
    has_stages: bool = False  # The workload says how pipeline parallel divides its model.
    on_meta: bool = True  # The model can be built on the meta device.
    world_size: int | None = None  # The ranks that FLOPs are those of; None: they do not depend on it.
    # What the loss uses of each model by its name ("" if there is only one), besides the model itself.
    methods: dict[str, list[str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)  # Called by themselves.
    read_parameters: list[str] = field(default_factory=list)

    @classmethod
    def found(cls, folder: Path) -> Description | None:
        """Return the description in a folder; None if it is missing or invalid."""
        try:
            return cls.read(folder)
        except NonsenseError:
            return None

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Return the description in a folder; NonsenseError if it is missing or invalid."""
        found = read_json(folder / "description.json", cls)
        if found is None:
            raise NonsenseError("is missing")
        return found

    def write(self, folder: Path) -> None:
        """Write the description into a folder."""
        write_json(folder / "description.json", dataclasses.asdict(self))
