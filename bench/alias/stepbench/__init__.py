"""stepbench inside of a training script: marks its steps, or measures a part of it.

This package imports nothing of the tool until it is needed, as ``bench`` may be the name of a module of the script.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["step", "watch"]

_marked: Callable[[int | None], None] | None = None  # set while the script is measured


def step(samples: int | None = None) -> None:
    """Mark the end of a training step, in scripts whose steps cannot be seen from outside.

    ``samples`` is the number of samples that this rank has trained in the step; without it those that its DataLoaders
    have read count. Does nothing unless the script is being measured.
    """
    if _marked is not None:
        _marked(samples)


def watch(**options: Any) -> Any:
    """Measure the steps of the code in a ``with`` block; see ``bench.watch``."""
    from bench.watching import watch as watching

    return watching(**options)
