"""The ways to save a state: each writes it into an empty folder, until it is on the disk, and loads it from there."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from bench.rank.distributed_tensors import whole_of
from bench.rank.private import tree_map_only
from bench.rank.saving.peers import Peers
from bench.rank.saving.state import TrainingState


class Way(Protocol):
    """A value of ``--save-checkpoint``."""

    def save(self, folder: Path) -> Future[Any] | None:
        """Save; all ranks call this. Return None if that is done, else what will be done when it is."""

    def load(self, folder: Path) -> None:
        """Load what was saved into the state as it is now; all ranks call this."""


class Full:
    """Gathers the whole of each tensor in one rank of each part of a model, which writes a file by ``torch.save``."""

    def __init__(self, state: TrainingState, peers: Peers) -> None:
        self._state = state

    def save(self, folder: Path) -> None:
        """Gather, and write in the ranks that lead."""
        state, leads = self._state, self._state.leads
        failed: list[Exception] = []  # a rank without memory still takes part in what the others gather

        def gathered(tensor: Tensor) -> Tensor | None:
            """Return the whole tensor in a rank that writes it: on the host, if it had to be gathered."""
            whole = whole_of(tensor)
            if failed or not leads:
                return None
            try:
                return whole if whole is tensor else whole.cpu()
            except (MemoryError, RuntimeError) as error:
                failed.append(error)
                return None

        parts = state.gathered_by_optimizers() if state.sharded_optimizers else state.parts()
        whole = tree_map_only(Tensor, gathered, parts)
        if failed:
            raise failed[0]
        if leads:
            with self._file(folder).open("wb") as stream:
                torch.save(whole, stream)
                stream.flush()
                os.fsync(stream.fileno())

    def load(self, folder: Path) -> None:
        """Read the file of this rank's part, and take what this rank has of each tensor."""
        # Mapped tensors would be read after the time is taken, where nothing copies them to a device.
        mapped = self._state.on_accelerator
        whole = torch.load(self._file(folder), map_location="cpu", mmap=mapped, weights_only=True)
        if self._state.sharded_optimizers:
            self._state.put_to_optimizers(whole)
        else:
            self._state.put(whole, whole=True)

    def _file(self, folder: Path) -> Path:
        return folder / f"{self._state.part}.pt"


class Distributed:
    """Each rank writes its part of each tensor by ``torch.distributed.checkpoint``."""

    def __init__(self, state: TrainingState, peers: Peers) -> None:
        self._state, self._group = state, peers.writers

    def save(self, folder: Path) -> Future[Any] | None:
        """Write all parts."""
        save(self._parts(), storage_writer=FileSystemWriter(folder), process_group=self._group)
        return None

    def load(self, folder: Path) -> None:
        """Read this rank's parts into its tensors."""
        parts = self._parts()
        load(parts, storage_reader=FileSystemReader(folder), process_group=self._group)
        self._state.put(parts[self._state.part])

    def _parts(self) -> dict[str, Any]:
        return {self._state.part: self._state.parts()}


class Asynchronous(Distributed):
    """Like ``Distributed``, from a copy of the state on the host, in a thread beside the training."""

    def save(self, folder: Path) -> Future[Any]:
        """Copy the state, and begin to write."""
        writer = FileSystemWriter(folder, per_thread_copy_ahead=0)  # what it writes is on the host already
        begun: Any = async_save(self._parts(), storage_writer=writer, process_group=self._group)
        written: Future[Any] = getattr(begun, "upload_completion", begun)
        return written


WAYS: dict[str, type[Full] | type[Distributed]] = {"full": Full, "dcp": Distributed, "dcp-async": Asynchronous}
