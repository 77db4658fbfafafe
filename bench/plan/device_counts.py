"""Numbers and kinds of devices that a matrix asks for on this machine, and batch sizes under strong scaling."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.options import AUTO, FAKE_RANKS, MACHINES, Value

DEFAULT_CPU_RANKS = 2
MOST = 2**40  # More devices than any machine has.

Matrix = Mapping[str, Sequence[Value]]
Place = tuple[int, str]


def kind(device: Value, gpus: Value, machine: Machine) -> str:
    """Return ``cuda`` or ``cpu``. ``auto`` is ``cuda`` if the machine has GPUs, or if a number of GPUs is given."""
    if device != "auto":
        return str(device)
    counted = gpus is not None and "all" not in str(gpus)
    return "cuda" if machine.gpus or counted else "cpu"


def for_machine(matrices: Sequence[Matrix], machine: Machine) -> list[dict[str, list[Value]]]:
    """Return the matrices for this machine, or for the given devices; UsageError if there is none.

    The key ``machine`` of a matrix also decides which devices ``--gpus`` counts.
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


def no_gpu(option: str, given: Value) -> UsageError:
    """Return the error of a machine without a GPU, with a command that works on it."""
    ranks = min(DEFAULT_CPU_RANKS, len(os.sched_getaffinity(0)))
    return UsageError(
        "this machine has no GPU",
        option=option,
        given=given,
        hint=f"Add --device cpu --gpus {ranks} for ranks on its processors, and take a workload that a processor can "
        "train, such as --workload gpt-nano or resnet18:size=64.",
    )


def _devices(matrix: Matrix) -> Sequence[Value]:
    return matrix.get("device", ["auto"])


def places(matrix: Matrix, machine: Machine) -> list[Place]:
    """Return (number, device) pairs, with ``--gpus`` resolved to numbers; UsageError for CUDA without a GPU."""
    if fake := matrix.get(FAKE_RANKS.name):
        return [(int(str(number)), "cpu") for number in dict.fromkeys(fake)]
    found = []
    for gpus in matrix.get("gpus", [None]):
        for given in _devices(matrix):
            device = kind(given, gpus, machine)
            if device != "cpu" and not machine.gpus:
                raise no_gpu("--device", given)
            there = len(machine.gpus) if device != "cpu" else DEFAULT_CPU_RANKS
            found += [(number, device) for number in numbers(gpus, there)]
    return list(dict.fromkeys(found))


def numbers(gpus: Value, there: int) -> list[int]:
    """Return the numbers of a value of ``--gpus``: 1, 2, 4, 6 for ``1..6``."""
    first, dots, last = str("all" if gpus is None else gpus).partition("..")
    if not dots:
        return [there if first == "all" else int(first)]
    most = there if last == "all" else int(last)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


# -- scaling -------------------------------------------------------------------------------------------------------


def check_scaling(matrices: Sequence[Matrix], wanted: bool) -> None:
    """Raise UsageError if there is no batch size to scale from or, with ``wanted``, nothing to scale."""
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
    """Return whether the matrix has several numbers of devices, on a machine with enough of them."""
    return len({number for gpus in matrix.get("gpus", [None]) for number in numbers(gpus, MOST)}) > 1


def with_global_batch_of(case: Case, base: int) -> tuple[Case, str | None]:
    """Return the case with the global batch that it has on ``base`` devices.

    The second value is None, or the reason why the samples cannot be divided; the case then has no batch size.
    """
    assert case.batch_size is not None
    samples = case.batch_size * base
    batch, rest = divmod(samples, case.data_devices)
    if not rest:
        return dataclasses.replace(case, batch_size=batch), None
    return dataclasses.replace(case, batch_size=None), (
        f"strong scaling keeps the {case.batch_size} x {base} = {samples} samples of {base} "
        f"{'device' if base == 1 else 'devices'}, and they do not divide evenly over {case.data_devices}; "
        "give another --batch-size or other --gpus"
    )
