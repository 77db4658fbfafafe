"""The ranks of a launch, which agree with each other while their state is saved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

PATIENCE_S = 1800.0

T = TypeVar("T")


class Peers:
    """All ranks of a launch, over Gloo, whatever they train with."""

    def __init__(self, distributed: bool, patience_s: float = PATIENCE_S) -> None:
        """Make two groups, which all ranks must do at once, if there are several ranks; they wait so long for others.

        ``writers`` is the group of those that write while training goes on: a thread of each rank uses it, so that it
        must be none that others use as well.
        """
        how: dict[str, Any] = {"backend": "gloo", "timeout": timedelta(seconds=patience_s)}
        self._group: Any = dist.new_group(**how) if distributed else None
        self.writers: Any = dist.new_group(**how) if distributed else None
        self.rank = dist.get_rank() if distributed else 0

    def all(self, mine: T) -> Sequence[T]:
        """Return what each rank has given, by rank; no rank goes on before all have given theirs."""
        if self._group is None:
            return [mine]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, mine, group=self._group)
        return found

    def first(self, mine: str) -> str:
        """Return the text of the first rank that has given one; an empty text if none has."""
        return next(filter(None, self.all(mine)), "")
