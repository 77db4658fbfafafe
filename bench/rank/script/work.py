"""Counts the work of steps of a script after its window."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.messages.counts import Counts
from bench.rank.script.steps import BACKWARD, DATA_WAIT, OPTIMIZER, OUTSIDE, REST
from bench.rank.work.step import Held, StepCounter

PARTS = {DATA_WAIT: "between", REST: "forward", BACKWARD: "backward", OPTIMIZER: "optimizer", OUTSIDE: "between"}


class StepWork:
    """Counts from ``begin`` to ``end``, both at the end of a step. ``loads``: whether the script has a DataLoader."""

    def __init__(self, parameters: Sequence[Any], optimizers: Sequence[Any], modules: Sequence[Any], loads: bool):
        self._parts: Mapping[str, str] = PARTS if loads else {**PARTS, OUTSIDE: "forward"}
        buffers = [buffer for module in modules for buffer in module.buffers()]
        device = parameters[0].device if parameters else torch.device("cpu")
        self._counter = StepCounter(Held(parameters, buffers, optimizers, {}, device))
        self._stack = contextlib.ExitStack()

    def begin(self) -> None:
        """Begin to count."""
        self._stack.enter_context(self._counter.active())
        self.turn(OUTSIDE)

    def turn(self, part: str) -> None:
        """Note that a part of the step begins."""
        self._counter.turn(self._parts[part])

    def end(self) -> None:
        """End the count."""
        self._stack.close()
        self._counter.close()

    def counts(self) -> Counts:
        """Return what was counted."""
        return self._counter.counts()
