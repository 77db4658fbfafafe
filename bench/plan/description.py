"""What only torch can know of a workload, told by the one rank that describes it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bench.untrusted.rank_files import NonsenseError, read_json, write_json


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
        write_json(folder / "description.json", dataclasses.asdict(self))
