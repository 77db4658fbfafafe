"""Saves the state of a training a few times after its window, and loads it: how long that takes, and what it needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed.checkpoint.api import CheckpointException

from bench.errors import shorten
from bench.messages.saved import Save, Saved
from bench.rank.build import Training
from bench.rank.extra_step import take_step
from bench.rank.memory import PeakMemory
from bench.rank.saving.peers import PATIENCE_S, Peers
from bench.rank.saving.state import TrainingState
from bench.rank.saving.ways import WAYS, Asynchronous, Way

SAVES = 3  # The first is set apart: it makes what later ones use again.
SECONDS = 60.0  # No further save begins after this time.
STEPS_ALONE = 5  # That steps beside a save are compared with.
CUT = "the launch ended while its state was saved"
NAMED = 3

T = TypeVar("T")


def save_and_load(
    training: Training,
    folder: Path,
    beat: Callable[[], None] = lambda: None,
    keep: Callable[[Saved], None] = lambda saved: None,
    patience_s: float = PATIENCE_S,
) -> Saved:
    """Save into ``folder``, which must not exist, load the last of it and remove the folder; all ranks call this.

    ``beat`` is called after each save and step, ``keep`` with what is known after each save. What goes wrong is in the
    ``note``, with all that was measured before. Ranks wait for each other for ``patience_s``.
    """
    peers = Peers(training.distributed, patience_s)
    try:
        return _Phase(training, folder, beat, keep, peers).saved()
    finally:
        if peers.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


class _Phase:
    def __init__(
        self,
        training: Training,
        folder: Path,
        beat: Callable[[], None],
        keep: Callable[[Saved], None],
        peers: Peers,
    ) -> None:
        self._training, self._folder, self._peers = training, folder, peers
        self._beat, self._keep = beat, keep
        self._state = TrainingState(training)
        self._way: Way = WAYS[str(training.case.save_checkpoint)](self._state, peers)
        self._memory = PeakMemory(training.devices if training.case.on_accelerator else [], None)

    def saved(self) -> Saved:
        """Return what this rank saw."""
        if why := self._peers.first(self._prepared()) or self._peers.first(self._unseen()):
            return Saved(note=why)
        saves: list[Save] = []
        peaks: list[dict[str, float | None]] = []
        alone_ns = self._step_alone_ns()
        begun = time.monotonic()
        while len(saves) < SAVES and not (saves and any(self._peers.all(time.monotonic() - begun > SECONDS))):
            before = self._state.checksums()
            self._memory.reset(trim=not saves)
            save, why = self._save()
            peaks.append(self._memory.read())
            if why:
                return Saved(saves, alone_ns, note=f"saving failed: {why}")
            assert save is not None
            saves.append(save)
            self._keep(Saved([*saves], alone_ns, note=CUT))
        size = _size(self._folder)
        load_ns, why = self._load()
        of_rank = [] if why else self._unlike(before)
        unlike = [*dict.fromkeys(name for of_one in self._peers.all(of_rank) for name in of_one)]
        return Saved(
            saves,
            alone_ns,
            bytes=size,
            load_ns=None if why else load_ns,
            unlike=unlike[:NAMED],
            allocated_mib=_largest(one["peak_allocated_mib"] for one in peaks),
            rss_mib=_largest(one["peak_rss_mib"] for one in peaks),
            note=f"loading failed: {why}" if why else "",
        )

    def _prepared(self) -> str:
        """Make the folder, and return why nothing can be saved there; an empty text if it can."""
        needed = sum(self._peers.all(self._state.bytes()))
        if self._peers.rank:
            return ""
        try:
            self._folder.mkdir(parents=True)
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            return f"cannot save in {self._folder}: {error.strerror}"
        if free < needed:
            return f"the state has {needed / 1e6:,.1f} MB, and {self._folder.parent} has {free / 1e6:,.1f} MB free"
        return ""

    def _unseen(self) -> str:
        """Return that this rank does not see the folder of rank 0, if that is so."""
        if self._folder.is_dir():
            return ""
        return f"rank {self._peers.rank} does not see {self._folder}; give --save-dir a folder that all nodes share"

    def _save(self) -> tuple[Save | None, str]:
        """Save once, in place of what was saved before, and train while it is written. Return also why it failed."""
        if self._peers.rank == 0:
            for old in self._folder.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        self._wait()
        begun = time.perf_counter_ns()
        written, why = _tried(lambda: self._way.save(self._folder))
        self._training.synchronize()
        blocked = time.perf_counter_ns() - begun
        why = self._peers.first(why)
        done = time.perf_counter_ns() - begun  # here all ranks are done
        self._beat()
        if why or written is None:
            return None if why else Save(done, done), why
        steps_ns, ended = self._train_until(written)
        why = self._peers.first(_said(written.exception()))
        save = Save(blocked, max(ended - begun, blocked), len(steps_ns), sum(steps_ns))
        return None if why else save, why

    def _train_until(self, written: Future[Any]) -> tuple[list[int], int]:
        """Train until all ranks have written. Return the durations of the steps, and when this rank had written."""
        ended: list[int] = []
        written.add_done_callback(lambda _: ended.append(time.perf_counter_ns()))
        steps: list[int] = []
        while not all(self._peers.all(written.done())):
            steps.append(self._step_ns())
        return steps, min(ended, default=time.perf_counter_ns())

    def _step_alone_ns(self) -> int | None:
        """Return the mean duration of a step beside which nothing is written, waited for as those beside a save are."""
        if not isinstance(self._way, Asynchronous):
            return None
        steps: list[int] = []
        while len(steps) < STEPS_ALONE:
            self._peers.all(None)
            steps.append(self._step_ns())
        return sum(steps) // len(steps)

    def _step_ns(self) -> int:
        """Train a step, and return how long it took."""
        begun = time.perf_counter_ns()
        take_step(self._training, lambda _: None)
        self._training.synchronize()
        self._beat()
        return time.perf_counter_ns() - begun

    def _load(self) -> tuple[int, str]:
        """Load what was saved in place of nonsense. Return how long it took, and why it failed."""
        for file in _files(self._folder):
            _forget(file)
        self._state.spoil()
        self._wait()
        begun = time.perf_counter_ns()
        _, why = _tried(lambda: self._way.load(self._folder))
        self._training.synchronize()
        why = self._peers.first(why)
        self._beat()
        return time.perf_counter_ns() - begun, why

    def _unlike(self, before: Mapping[str, int]) -> list[str]:
        """Return the names of what is not as it was before it was saved.

        A buffer of which ranks had different values, as of the statistics of batch norm, is as it was in one of them.
        """
        now, part = self._state.checksums(), self._state.part
        buffers = {name: before[name] for name in self._state.buffers()}
        alike = [of_rank for of_part, of_rank in self._peers.all((part, buffers)) if of_part == part]
        allowed = {name: {of_rank[name] for of_rank in alike} for name in buffers}
        return [name for name in {**before, **now} if now.get(name) not in allowed.get(name, {before.get(name)})]

    def _wait(self) -> None:
        """Wait for the device, and for all ranks."""
        self._training.synchronize()
        self._peers.all(None)


def _tried(what: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result, and why there is none."""
    try:
        return what(), ""
    except (Exception, CheckpointException) as error:  # which is no Exception
        traceback.print_exc()
        return None, _said(error)


def _said(error: BaseException | None) -> str:
    """Return what an error says in one line; what it says first, if it has collected those of all ranks."""
    if error is None:
        return ""
    of_ranks = list(error.failures.values()) if isinstance(error, CheckpointException) else []
    first = of_ranks[0][0] if of_ranks else error
    return shorten(f"{type(first).__name__}: {first}")


def _largest(known: Iterable[float | None]) -> float | None:
    return max((one for one in known if one is not None), default=None)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def _forget(file: Path) -> None:
    """Ask the kernel to drop a file from memory, so that it is read from the disk."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
