"""Which combinations of strategy, precision, checkpointing and compile can run, by the constraints."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.constraints import Facts, refusal
from bench.plan.make_case import make_case
from bench.plan.options import AXES, CHECKPOINTING, COMPILE, PRECISIONS, Value
from bench.plan.strategies import STRATEGIES

GPUS = 2
MATRIX: Mapping[str, Sequence[str]] = {
    "strategy": list(STRATEGIES),
    "precision": list(PRECISIONS),
    "activation_checkpointing": [name.replace("=N", "=2") for name in CHECKPOINTING],
    "compile": list(COMPILE),
}
ASSUMED = Gpu("", "a GPU of compute capability 8.0 or newer", 0.0, (8, 0))


@dataclass(frozen=True)
class Cell:
    """A combination: ``values`` in the order of MATRIX; ``reason`` says why it cannot run, None if it can."""

    values: tuple[str, ...]
    case: Case
    reason: str | None


def cells(workload: str, device: str, machine: Machine, compiler_lacks: str) -> list[Cell]:
    """Return all combinations on two devices of this machine; missing GPUs are replaced by assumed ones."""
    if device == "cuda" and len(machine.gpus) < GPUS:
        machine = Machine((*machine.gpus, *[ASSUMED] * GPUS)[:GPUS])
    facts = Facts(machine, compiler_lacks=compiler_lacks)
    found = []
    for point in itertools.product(*MATRIX.values()):
        axes: dict[str, Value] = {name: option.default for name, option in AXES.items()}
        axes |= {"workload": workload, "device": device, "gpus": GPUS, **dict(zip(MATRIX, point, strict=True))}
        case = make_case(axes, machine)
        found.append(Cell(point, case, refusal(case, facts)))
    return found
