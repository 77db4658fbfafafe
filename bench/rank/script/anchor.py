"""The optimizer whose updates are the steps of a script: the one that is updated least often."""

from __future__ import annotations

PATIENCE = 20  # updates of the others after which an optimizer that was never updated is ignored


class Anchor:
    """Counts the updates of each optimizer in warm-up until one of them is chosen; ``key`` is then the chosen one.

    It is the one with the fewest updates; of several with equally many, the one that is updated last. An optimizer that
    exists but has not been updated yet has 0 updates: the generator of a GAN whose critic comes first.
    """

    def __init__(self, least: int) -> None:
        """``least``: updates of the chosen optimizer before it is chosen."""
        self._least = least
        self._updates: dict[int, int] = {}
        self.key: int | None = None

    def built(self, key: int) -> None:
        """Note an optimizer that exists."""
        self._updates.setdefault(key, 0)

    def updated(self, key: int) -> bool:
        """Count an update. Return whether it ends a step: one of the chosen optimizer, or of the likely one so far."""
        self._updates[key] = self._updates.get(key, 0) + 1
        if self.key is None:
            if self._updates[key] > self._fewest(self._updates[key]):
                return False
            if self._updates[key] >= self._least:
                self.key = key
            return True
        return key == self.key

    @property
    def steps(self) -> int:
        """Number of steps so far."""
        if self.key is not None:
            return self._updates[self.key]
        used = [updates for updates in self._updates.values() if updates]
        return min(used, default=0)

    def late(self) -> list[tuple[int, int]]:
        """Return (key, updates) of optimizers that were updated less often than the chosen one, after it was chosen."""
        assert self.key is not None
        chosen = self._updates[self.key]
        return [(key, number) for key, number in self._updates.items() if 0 < number < chosen - 1]

    def _fewest(self, updates: int) -> int:
        counted = [number for number in self._updates.values() if number or updates < PATIENCE]
        return min(counted)
