"""Which combinations of strategies and other axes can run, by the constraints."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.constraints import Facts, refusal
from bench.plan.make_case import make_case
from bench.plan.options import (
    ACTIVATION_OFFLOAD,
    ATTENTION,
    AXES,
    CHECKPOINTING,
    COMPILE,
    COMPILE_SCOPES,
    PRECISIONS,
    SAVING,
    Value,
)
from bench.plan.strategies import STRATEGIES

GPUS = 4
PARALLEL = ("fsdp:replicate=2", "ddp:tp=2", "fsdp:tp=2", "ddp:pp=2", "fsdp:pp=2")
# Axes of which all combinations are shown.
MATRIX: Mapping[str, Sequence[str]] = {
    "strategy": [*STRATEGIES, *PARALLEL],
    "precision": list(PRECISIONS),
    "activation_checkpointing": [name.replace("=N", "=2") for name in CHECKPOINTING],
    "compile": list(COMPILE),
}
# Axes that are shown with each strategy, one at a time, and what else that takes.
FURTHER: Mapping[str, Sequence[str]] = {
    "compile_scope": list(COMPILE_SCOPES),
    "attention": list(ATTENTION)[1:],
    "activation_offload": list(ACTIVATION_OFFLOAD)[1:],
    "save_checkpoint": list(SAVING)[1:],
}
WITH = {"compile_scope": {"compile": "default"}, "attention": {"precision": "amp-bf16"}}
ASSUMED = Gpu("", "a GPU of compute capability 9.0 or newer", 0.0, (9, 0))


@dataclass(frozen=True)
class Cell:
    """A combination: ``values`` of the axes that it is about; ``reason`` says why it cannot run, None if it can."""

    values: Mapping[str, str]
    case: Case
    reason: str | None


def cells(workload: str, device: str, facts: Facts) -> list[Cell]:
    """Return all combinations of MATRIX, on GPUS devices of this machine; missing GPUs are replaced by assumed ones."""
    points = (dict(zip(MATRIX, point, strict=True)) for point in itertools.product(*MATRIX.values()))
    return [_cell(point, workload, device, facts) for point in points]


def further_cells(workload: str, device: str, facts: Facts) -> list[Cell]:
    """Return each value of FURTHER with each strategy."""
    return [
        _cell({"strategy": strategy, axis: value, **WITH.get(axis, {})}, workload, device, facts)
        for strategy in MATRIX["strategy"]
        for axis, values in FURTHER.items()
        for value in values
    ]


def _cell(values: Mapping[str, str], workload: str, device: str, facts: Facts) -> Cell:
    if device == "cuda" and len(facts.machine.gpus) < GPUS:
        facts = dataclasses.replace(facts, machine=Machine((*facts.machine.gpus, *[ASSUMED] * GPUS)[:GPUS]))
    axes: dict[str, Value] = {name: option.default for name, option in AXES.items()}
    case = make_case({**axes, "workload": workload, "device": device, "gpus": GPUS, **values}, facts.machine)
    return Cell(values, case, refusal(case, facts))
