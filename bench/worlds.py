"""How many devices of which kind a matrix asks for on this machine, and the batch of each under strong scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bench.case import Case
from bench.devices import Machine
from bench.errors import UsageError
from bench.options import AUTO, Value

DEFAULT_CPU_RANKS = 2
FOR = {"gpu": "cuda", "cpu": "cpu"}  # machine = "gpu" in a suite: where ranks are on CUDA devices

Matrix = Mapping[str, Sequence[Value]]
Place = tuple[int | None, str]


def kind(device: Value, gpus: Value, machine: Machine) -> str:
    """``cuda`` or ``cpu``, whatever ``auto`` is here: a number of GPUs asks for GPUs, ``all`` for what there is."""
    if device != "auto":
        return str(device)
    counted = gpus is not None and "all" not in str(gpus)
    return "cuda" if machine.gpus or counted else "cpu"


def for_this(matrices: Sequence[Matrix], machine: Machine) -> list[dict[str, list[Value]]]:
    """The matrices that are for this machine, or for the devices asked for; UsageError if none is left."""
    found = []
    for matrix in matrices:
        left = {name: list(values) for name, values in matrix.items() if name != "machine"}
        if "machine" in matrix:
            wanted = [FOR[str(name)] for name in matrix["machine"]]
            left["device"] = [device for device in _devices(matrix) if kind(device, None, machine) in wanted]
        if _devices(left):
            found.append(left)
    if not found:
        asked = dict.fromkeys(kind(device, None, machine) for matrix in matrices for device in _devices(matrix))
        given = dict.fromkeys(str(name) for matrix in matrices for name in matrix["machine"])
        raise UsageError(
            f"the suite has nothing for ranks on {' or '.join(asked)}: every [[matrix]] in it says machine = "
            f"{' or '.join(given)}; add one for this machine, or choose another --device."
        )
    return found


def _devices(matrix: Matrix) -> Sequence[Value]:
    return matrix.get("device", ["auto"])


def places(matrix: Matrix, machine: Machine) -> list[Place]:
    """(how many, device) as asked for, words of ``--gpus`` made numbers; None is all where there is none."""
    found = []
    for gpus in matrix.get("gpus", [None]):
        for given in _devices(matrix):
            device = kind(given, gpus, machine)
            there = len(machine.gpus) if device == "cuda" else DEFAULT_CPU_RANKS
            found += [(number, device) for number in _numbers(gpus, there)]
    return list(dict.fromkeys(found))


def _numbers(gpus: Value, there: int) -> list[int | None]:
    """``1..6`` is 1, 2, 4, 6."""
    first, dots, last = str(gpus).partition("..")
    if gpus is None or ("all" in (first, last) and not there):
        return [there or None]
    if not dots:
        return [there if first == "all" else int(first)]
    most = there if last == "all" else int(last)
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


# -- scaling -------------------------------------------------------------------------------------------------------


def check_scaling(matrices: Sequence[Matrix]) -> None:
    """UsageError where there is nothing to scale, or no batch to scale from."""
    scaled = [matrix for matrix in matrices if "scaling" in matrix]
    if any(AUTO in matrix.get("batch_size", ()) for matrix in scaled):
        raise UsageError(
            "--scaling gives each number of devices its batch, and --batch-size auto would find another one for each; "
            "give a number as --batch-size, or leave one of the two out."
        )
    if scaled and not any(len(given := matrix.get("gpus", ())) > 1 or ".." in str(given) for matrix in scaled):
        raise UsageError(
            "--scaling has no effect with one number of devices; add --gpus 1..all (or 1,2,4), or leave it out."
        )


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
