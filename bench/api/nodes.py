"""Runs over several nodes: node 0 measures with the others, and a follower works for it."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import EXIT_FAILED, BenchError, IncomparableError, Interrupted, UsageError
from bench.machine.gpus import Gpu, Machine, this_machine
from bench.nodes.facts import facts, unlike
from bench.nodes.options import NodesAsked
from bench.nodes.placement import packed
from bench.plan.code_key import digest_of
from bench.store.resume import workload_files

if TYPE_CHECKING:
    from bench.nodes.head import Head
    from bench.plan.plan import Plan, Planned
    from bench.runner.row_recorder import Observer
    from launch import Launcher

ANSWER_S = 30.0  # for a follower to hash the files of workloads


class Nodes:
    """All nodes of a run, seen from node 0."""

    def __init__(self, asked: NodesAsked, head: Head, own_places: int) -> None:
        self._asked, self._head, self._own = asked, head, own_places
        self._places: list[int] = []
        self.exit_code = EXIT_FAILED  # of the run, for the followers

    def machine(self, here: Machine) -> Machine:
        """Return a machine with the GPUs of all nodes, which the plan may use."""
        others = [Gpu(**one) for peer in self._head.wait(self._asked.nnodes) for one in peer.hello.get("gpus", ())]
        return dataclasses.replace(here, gpus=(*here.gpus, *others))

    def checked(self, plan: Plan, observer: Observer) -> Plan:
        """Return the plan with reasons for the cases that cannot run on these nodes.

        Raise UsageError if it does not fit, IncomparableError if a file of a workload differs.
        """
        most = max((planned.case.processes for planned in plan.cases if planned.skip is None), default=1)
        peers = self._head.wait(self._asked.nnodes)
        each = -(-most // self._asked.nnodes)
        self._places = [self._own or each, *(peer.places or self._own or each for peer in peers)]
        if most > sum(self._places):
            raise UsageError(
                option="--gpus",
                given=most,
                allowed=f"at most {sum(self._places)}, the ranks of {self._asked.nnodes} nodes",
                hint="Give more --nnodes, or a larger --nproc-per-node.",
            )
        own = facts(this_machine())
        for peer in peers:
            if words := unlike(own, peer.facts, peer.name):
                observer.note(f"warning: {words}")
        files = workload_files(plan.cases)
        for node, answer in self._head.ask("files", ANSWER_S, names=list(files)).items():
            _check_files(node, files, answer.get("digests", {}))
        return dataclasses.replace(plan, cases=tuple(map(self._planned, plan.cases)))

    def _planned(self, planned: Planned) -> Planned:
        """Refuse hybrid sharding over nodes with unlike numbers of ranks, and one process for GPUs of several nodes."""
        case, here = planned.case, len(this_machine().gpus)
        if not planned.skip and case.on_accelerator and case.devices > case.world_size and case.devices > here:
            why = f"{case.strategy} is one process, which has the {here} GPUs of its node; use ddp"
            return dataclasses.replace(planned, skip=why)
        parts = packed(case.processes, self._places)
        if planned.skip or len(set(parts)) == 1 or case.spread.options.get("replicate", "1") == "1":
            return planned
        numbers = " + ".join(map(str, parts))
        why = f"{case.strategy} shards within nodes, which would have {numbers} ranks; give --gpus that divides evenly"
        return dataclasses.replace(planned, skip=why)

    def launcher(self, here: Launcher, variables: Mapping[str, str]) -> Launcher:
        """Return the launcher of all nodes; ``here`` is that of this one."""
        from bench.nodes.launcher import NodesLauncher

        return NodesLauncher(here, self._head, self._places, variables)


def _check_files(node: int, own: Mapping[str, str], theirs: Mapping[str, Any]) -> None:
    for file in own:
        if theirs.get(file) != digest_of(file):
            what = "differs from that of node 0" if theirs.get(file) else "cannot be read"
            raise IncomparableError(
                f"{file} {what} on node {node}",
                hint="Files are not sent: put the same ones at the same path on all nodes.",
            )


@contextlib.contextmanager
def as_head(asked: NodesAsked, observer: Observer) -> Iterator[Nodes]:
    """Be node 0 while the body runs: wait for the followers, and in the end tell them how it ended."""
    from bench.nodes.head import Head

    machine = this_machine()
    head = Head(
        asked.endpoint,
        asked.nnodes,
        asked.token,
        facts(machine),
        asked.join_s,
        lambda words: observer.note(f"warning: {words}"),
    )
    ending: dict[str, Any] = {"why": "the run has ended", "code": EXIT_FAILED}
    try:
        observer.note(f"waiting for {asked.nnodes - 1} more node(s) at {asked.endpoint[0]}:{asked.endpoint[1]}")
        head.wait(asked.nnodes)
        nodes = Nodes(asked, head, asked.places or len(machine.gpus))
        yield nodes
        ending["code"] = nodes.exit_code
    except (BenchError, Interrupted) as error:
        ending = {"why": str(error), "code": error.exit_code}
        raise
    finally:
        head.close(**ending)


def follow_head(asked: NodesAsked, observer: Observer) -> int:
    """Work for node 0 until the run has ended, and return its exit code."""
    from bench.nodes.follower import follow

    machine = this_machine()
    hello = {
        "node": asked.node_rank,
        "nodes": asked.nnodes,
        "host": socket.gethostname(),
        "places": asked.places or len(machine.gpus),
        "gpus": [dataclasses.asdict(gpu) for gpu in machine.gpus],
        "facts": facts(machine),
    }
    with tempfile.TemporaryDirectory(prefix="bench-node-") as folder:
        log = Path(folder) / "launcher.log"
        return follow(asked.endpoint, hello, asked.token, asked.join_s, log, observer.note)
