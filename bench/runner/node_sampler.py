"""What a node samples during a launch: its GPUs, the host memory of its ranks, and what its kernel killed.

Each node samples its own, in the same way: node 0 in ``launch_case``, a follower in ``bench.nodes.follower``, which
sends its samples to node 0 when the launch has ended there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.runner.failure_cause import oom_kills
from bench.runner.gpu_sampler import DeviceSample, Sampler
from bench.runner.host_memory import HostMemory
from bench.untrusted.rank_files import parsed


@dataclass(frozen=True)
class NodeSamples:
    """The samples of one node.

    ``devices``: readings of its GPUs. ``peaks_mib``: the largest host memory of each of its ranks in MiB, without ranks
    of which it is unknown. ``oom_kills``: how many processes its kernel killed for lack of memory. ``note``: what could
    not be read of its GPUs, else empty. ``clock_set``: its clock was set meanwhile, so that its times say nothing.
    """

    devices: list[DeviceSample] = field(default_factory=list)
    peaks_mib: dict[int, float] = field(default_factory=dict)
    oom_kills: int = 0
    note: str = ""
    clock_set: bool = False

    def to_json(self) -> bytes:
        """Return the samples as a message to node 0."""
        return json.dumps({**vars(self), "devices": [vars(sample) for sample in self.devices]}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> NodeSamples:
        """Return the samples of another node; NonsenseError if they are invalid."""
        return parsed(cls, content)

    def of_node(self, name: str, ranks: Collection[int], ahead_ns: int) -> NodeSamples:
        """Return the samples of node ``name`` as those of this node, whose clock is ``ahead_ns`` behind.

        Of ranks that are not on that node nothing is taken.
        """
        return NodeSamples(
            [dataclasses.replace(sample, time_ns=sample.time_ns - ahead_ns) for sample in self.devices],
            {rank: mib for rank, mib in self.peaks_mib.items() if rank in ranks},
            self.oom_kills,
            self.note and f"{name}: {self.note}",
        )

    def without_times(self, name: str) -> NodeSamples:
        """Return the samples of node ``name``, whose clock was set during the launch."""
        note = f"{name}: its clock was set during the launch"
        return dataclasses.replace(self, devices=[], note=note, clock_set=True)


class NodeSampler:
    """Samples this node's part of a launch while the body runs.

    ``ranks`` are those on this node, and ``folder`` and ``scratch`` have their records and signals. ``alone`` says that
    host memory may be sampled in the window: no rank of another node or launch is held up.
    """

    def __init__(
        self, machine: Machine, case: Case, folder: Path, scratch: Path, ranks: Sequence[int], alone: bool
    ) -> None:
        self._gpus = Sampler(machine.gpus if case.on_accelerator and machine.driver else ())
        processes = len(ranks) * (1 + (case.num_workers or 0))
        self._host = HostMemory(folder, scratch, ranks, processes, alone)
        self._kills_before = oom_kills()
        self._running = contextlib.ExitStack()

    def __enter__(self) -> NodeSampler:
        self._running.enter_context(self._gpus)
        self._running.enter_context(self._host)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running.close()

    def samples(self) -> NodeSamples:
        """Return what was sampled, after the body."""
        devices, note = self._gpus.stop()
        return NodeSamples(devices, self._host.peaks_mib(), oom_kills() - self._kills_before, note or "")
