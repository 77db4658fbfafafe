"""How many devices of which kind a matrix asks for on this machine, and the batch of each under strong scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.options import AUTO, MACHINES, Value

DEFAULT_CPU_RANKS = 2
MOST = 2**40  # devices: more than there are anywhere

Matrix = Mapping[str, Sequence[Value]]
Place = tuple[int, str]


def kind(device: Value, gpus: Value, machine: Machine) -> str:
    """``cuda`` or ``cpu``, whatever ``auto`` is here: a number of GPUs asks for GPUs, ``all`` for what there is."""
    if device != "auto":
        return str(device)
    counted = gpus is not None and "all" not in str(gpus)
    return "cuda" if machine.gpus or counted else "cpu"


def for_this(matrices: Sequence[Matrix], machine: Machine) -> list[dict[str, list[Value]]]:
    """The matrices that are for this machine, or for the devices asked for; UsageError if none is left.

    One that names its machine says thereby which devices a number of ``--gpus`` counts.
    """
    found, asked, named = [], dict[str, None](), dict[str, None]()
    for matrix in matrices:
        left = {name: list(values) for name, values in matrix.items() if name != "machine"}
        if "machine" in matrix:
            wanted = dict.fromkeys(str(name) for name in matrix["machine"])
            kinds = dict.fromkeys(kind(device, None, machine) for device in _devices(matrix))
            left["device"] = [device for device in kinds if device in (MACHINES[name] for name in wanted)]
            asked, named = asked | kinds, named | wanted
        if _devices(left):
            found.append(left)
    if not found:
        raise UsageError(
            f"the suite has no cases for ranks on {' or '.join(asked)}: each [[matrix]] in it has machine = "
            f"{' or '.join(named)}",
            option="machine",
            given=list(named),
            hint="Add a [[matrix]] for this machine, or choose another --device.",
        )
    return found


def _devices(matrix: Matrix) -> Sequence[Value]:
    return matrix.get("device", ["auto"])


def places(matrix: Matrix, machine: Machine) -> list[Place]:
    """(how many, device) as asked for, words of ``--gpus`` made numbers; UsageError for GPUs where there is none."""
    found = []
    for gpus in matrix.get("gpus", [None]):
        for given in _devices(matrix):
            device = kind(given, gpus, machine)
            if device != "cpu" and not machine.gpus:
                raise UsageError(
                    "this machine has no GPU",
                    option="--device",
                    given=given,
                    hint="Add --device cpu for ranks on the CPU.",
                )
            there = len(machine.gpus) if device != "cpu" else DEFAULT_CPU_RANKS
            found += [(number, device) for number in _numbers(gpus, there)]
    return list(dict.fromkeys(found))


def _numbers(gpus: Value, there: int) -> list[int]:
    """``1..6`` is 1, 2, 4, 6."""
    first, dots, last = str("all" if gpus is None else gpus).partition("..")
    if not dots:
        return [there if first == "all" else int(first)]
    most = there if last == "all" else int(last)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


# -- scaling -------------------------------------------------------------------------------------------------------


def check_scaling(matrices: Sequence[Matrix], wanted: bool) -> None:
    """UsageError where there is no batch to scale from, or, if scaling is ``wanted``, nothing to scale."""
    scaled = [matrix for matrix in matrices if "scaling" in matrix]
    if any(AUTO in matrix.get("batch_size", ()) for matrix in scaled):
        raise UsageError(
            option="--batch-size",
            given=AUTO,
            allowed="a number with --scaling, which derives each batch size from the first",
            hint="Give a number, or leave one of the two options out.",
        )
    if wanted and scaled and not any(_several(matrix) for matrix in scaled):
        raise UsageError(
            "--scaling has no effect with one number of devices",
            option="--scaling",
            hint="Add --gpus 1..all (or 1,2,4), or leave --scaling out.",
        )


def _several(matrix: Matrix) -> bool:
    """Whether there are several numbers of devices, on a machine with more than anybody names."""
    return len({number for gpus in matrix.get("gpus", [None]) for number in _numbers(gpus, MOST)}) > 1


def strong(case: Case, base: int) -> tuple[Case, str | None]:
    """The case with the samples that its batch makes on ``base`` devices, and None; or without a batch, and why."""
    assert case.batch_size is not None
    samples = case.batch_size * base
    batch, rest = divmod(samples, case.devices)
    if not rest:
        return dataclasses.replace(case, batch_size=batch), None
    return dataclasses.replace(case, batch_size=None), (
        f"strong scaling keeps the {case.batch_size} x {base} = {samples} samples of {base} "
        f"{'device' if base == 1 else 'devices'}, and they do not divide over {case.devices}; "
        "give another --batch-size or other --gpus"
    )
