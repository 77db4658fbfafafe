"""The table of optimizers, and ``--optimizer``: a name, and how its update is computed."""

from __future__ import annotations

from typing import NamedTuple

from bench.errors import UsageError, did_you_mean

HOW = {
    "fused": "one kernel for all parameters",
    "foreach": "each operation on all parameters at once",
    "for-loop": "one parameter after the other",
}


class Optimizer(NamedTuple):
    """An optimizer: its description, the ways to compute it, the default first, and its values a parameter.

    ``state``: numbers that it keeps for each parameter.
    """

    about: str
    ways: tuple[str, ...]
    state: int


OPTIMIZERS = {
    "adamw": Optimizer("AdamW with GPT-3's hyperparameters", ("fused", "foreach", "for-loop"), 2),
    "sgd": Optimizer(
        "SGD with momentum 0.9 and weight decay; under amp-fp16 each step waits for the device",
        *(("foreach", "fused", "for-loop"), 1),
    ),
    "adam": Optimizer("Adam with GPT-3's hyperparameters, without weight decay", ("fused", "foreach", "for-loop"), 2),
    "rmsprop": Optimizer("RMSprop", ("foreach", "for-loop"), 1),
    "adafactor": Optimizer("Adafactor: rows and columns of the second moment", ("foreach", "for-loop"), 0),
    "muon": Optimizer("Muon for matrices, AdamW for all other parameters", ("for-loop",), 1),
}


def parse_optimizer(text: str) -> tuple[str, str]:
    """Return the name and the way of ``NAME[:WAY]``; UsageError for anything else."""
    name, colon, way = text.partition(":")
    if name not in OPTIMIZERS:
        raise UsageError(given=name, allowed=", ".join(OPTIMIZERS), hint=did_you_mean(name, OPTIMIZERS))
    ways = OPTIMIZERS[name].ways
    if colon and way not in ways:
        raise UsageError(option=name, given=way, allowed=", ".join(ways), hint=did_you_mean(way, ways))
    return name, way or ways[0]


def optimizer_spec(text: str) -> str:
    """Return the shortest text of an optimizer."""
    name, way = parse_optimizer(text)
    return name if way == OPTIMIZERS[name].ways[0] else f"{name}:{way}"
