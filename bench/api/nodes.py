"""Runs over several nodes: node 0 measures with the others, and a follower works for it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import EXIT_FAILED, EXIT_OK, BenchError, IncomparableError, Interrupted, UsageError
from bench.machine.gpus import Machine, this_machine
from bench.nodes.facts import facts, unlike
from bench.nodes.head import Condition
from bench.nodes.options import NodesAsked
from bench.nodes.ports import ports_warning
from bench.plan.code_key import digest_of
from bench.plan.data_files import absolute_data
from bench.plan.placement import per_node, placed
from bench.runner.rank_site import Site
from bench.store.resume import workload_files
from bench.untrusted.rank_files import checked as valid
from bench.untrusted.text import printable
from launch import folders
from launch.guard import PREFIX
from workloads.data import paths

if TYPE_CHECKING:
    from bench.nodes.head import Head, Peer
    from bench.plan.case import Case
    from bench.plan.plan import Plan, Planned
    from bench.runner.machine_survey import Survey
    from bench.runner.make_sites import SiteAsked
    from bench.runner.row_recorder import Observer
    from launch import Launcher

AHEAD_NS = 1_000_000_000  # between clocks that nobody notices
ANSWER_S = 30.0  # for a follower to hash the files of workloads, or to look at its machine
DATA_S = 600.0  # for a follower to look at a folder of many files, on a slow disk
SITES_S = 600.0  # for a follower to check out revisions and try interpreters, from a slow disk


class Nodes:
    """All nodes of a run, seen from node 0."""

    def __init__(self, asked: NodesAsked, head: Head, here: Machine) -> None:
        self._asked, self._head, self._here = asked, head, here
        self._places: list[int] = []
        self._on_gpus = False  # whether a case uses them
        self._sites: Mapping[str, Site] = {"": Site()}  # of node 0, by side
        self.exit_code = EXIT_OK  # of the run, for the followers

    def machine(self, here: Machine) -> Machine:
        """Return a machine of several nodes, with the GPUs of all, which the plan may use."""
        others = [gpu for peer in self._head.wait(self._asked.nnodes) for gpu in peer.gpus]
        return dataclasses.replace(here, gpus=(*here.gpus, *others), nodes=self._asked.nnodes)

    def checked(self, plans: Mapping[str, Plan], observer: Observer, revised: Collection[str] = ()) -> dict[str, Plan]:
        """Return the plans with reasons for the cases that cannot run on these nodes.

        ``revised``: the plans whose workloads are of a revision, not of the files as they are. Raise UsageError if they
        do not fit, IncomparableError if a file of a workload or data differ.
        """
        if any(plan.protocol.launcher != "server" for plan in plans.values()):
            raise UsageError(
                "--launcher torchrun starts the ranks of one node", option="--launcher", hint="Leave --launcher out."
            )
        cases = [planned for plan in plans.values() for planned in plan.cases if planned.skip is None]
        peers = self._head.wait(self._asked.nnodes)
        self._places = self._capacities([planned.case for planned in cases], peers)
        most = max((planned.case.processes for planned in cases), default=1)
        if most > sum(self._places):
            raise UsageError(
                option="--gpus",
                given=most,
                allowed=f"at most {sum(self._places)}, the ranks of {self._asked.nnodes} nodes",
                hint="Give more --nnodes, or a larger --nproc-per-node.",
            )
        for peer in peers:
            if words := unlike(self._head.facts, peer.facts, peer.name):
                observer.note(f"warning: {words}")
            if abs(peer.ahead_ns) > AHEAD_NS:
                observer.note(
                    f"warning: the clock of {peer.name} is {abs(peer.ahead_ns) / 1e9:.1f} s "
                    f"{'ahead of' if peer.ahead_ns > 0 else 'behind'} that of node 0; times are those of node 0"
                )
        as_is = [planned for name, plan in plans.items() if name not in revised for planned in plan.cases]
        files = list(workload_files(as_is))
        self._head.require(Condition("files", {"names": files}, ANSWER_S, functools.partial(_check_files, files)))
        data = sorted({_name_of_data(one.case) for plan in plans.values() for one in plan.cases if _reads(one)})
        if data:
            self._head.require(Condition("data", {"names": data}, DATA_S, functools.partial(_check_data, data)))
        return {name: self._placed(plan) for name, plan in plans.items()}

    def _capacities(self, cases: Sequence[Case], peers: Sequence[Peer]) -> list[int]:
        """Return how many ranks each node takes: as it says, else its GPUs, or on the CPU its share of the largest."""
        share = -(-max((case.processes for case in cases), default=1) // self._asked.nnodes)
        self._on_gpus = any(case.on_accelerator for case in cases)
        gpus = [len(self._here.gpus), *(len(peer.gpus) for peer in peers)]
        said = [self._asked.places, *(peer.places or self._asked.places for peer in peers)]
        return [own or (there if self._on_gpus else share) for own, there in zip(said, gpus, strict=True)]

    def _placed(self, plan: Plan) -> Plan:
        """Return the plan with reasons for cases that cannot run, or that another case measures as well."""
        cases = list(map(self._planned, plan.cases))
        wanted = {planned.case for planned in cases if planned.skip is None}
        for at, planned in enumerate(cases):
            packed = dataclasses.replace(planned.case, placement="pack")
            twice = planned.skip is None and packed != planned.case and packed in wanted
            if twice and (parts := self._parts(planned.case)) == self._parts(packed):
                why = f"its ranks are where --placement pack has them: {per_node(parts)}"
                cases[at] = dataclasses.replace(planned, skip=why)
        return dataclasses.replace(plan, cases=tuple(cases))

    def _parts(self, case: Case) -> list[int]:
        """Return the ranks of a case on each node that has any; ValueError if they cannot be placed."""
        return placed(case.processes, self._places, even=case.placement == "even")

    def _planned(self, planned: Planned) -> Planned:
        """Refuse what these nodes have no places for.

        That is a placement that is not possible, hybrid sharding over nodes with unlike numbers of ranks, and one
        process for the GPUs of several nodes.
        """
        case, here = planned.case, len(self._here.gpus)
        if planned.skip:
            return planned
        if case.on_accelerator and case.devices > case.world_size and case.devices > here:
            why = f"{case.strategy} is one process, which has the {here} GPUs of its node; use ddp"
            return dataclasses.replace(planned, skip=why)
        try:
            parts = self._parts(case)
        except ValueError as error:
            return dataclasses.replace(planned, skip=f"--placement {case.placement}: {error}")
        if len(set(parts)) == 1 or case.spread.options.get("replicate", "1") == "1":
            return planned
        numbers = " + ".join(map(str, parts))
        why = f"{case.strategy} shards within nodes, which would have {numbers} ranks; give --gpus that divides evenly"
        return dataclasses.replace(planned, skip=why)

    def surveyed(self, survey: Survey) -> Survey:
        """Return the survey of node 0 with those of the others, each with the ranks that the node takes."""
        from bench.runner.machine_survey import Survey

        answers = self._head.ask("survey", ANSWER_S, gpus=self._on_gpus)
        followers = {
            self._head.peers[node].name: self._of_node(Survey.received(answer), node)
            for node, answer in sorted(answers.items())
        }
        return dataclasses.replace(self._of_node(survey, 0), followers=followers)

    def _of_node(self, survey: Survey, node: int) -> Survey:
        look = dataclasses.replace(survey.look, node=node, places=tuple(self._places))
        return dataclasses.replace(survey, look=look)

    def make_sites(self, asked: Sequence[SiteAsked], here: Mapping[str, Site]) -> None:
        """Make the sites of a comparison on all other nodes; ``here`` are those of this one, by side.

        Raise IncomparableError if a node cannot, or an interpreter has other versions there.
        """
        self._sites = here
        values = {"sites": [dataclasses.asdict(one) for one in asked]}
        self._head.require(Condition("sites", values, SITES_S, functools.partial(_note_sites, asked, here)))

    def launcher(self, here: Launcher, variables: Mapping[str, str], side: str = "") -> Launcher:
        """Return the launcher of all nodes; ``here`` is that of this one. ``side``: that of a comparison, if any."""
        from bench.nodes.launcher import NodesLauncher

        ports, site = self._asked.ports, self._sites[side]
        return NodesLauncher(here, self._head, self._places, variables, ports, side, site)


def _check_files(files: Sequence[str], peer: Peer, answer: Mapping[str, Any]) -> None:
    """Raise IncomparableError if a file of a workload is not that of node 0."""
    for file in files:
        if (theirs := answer["digests"].get(file)) != digest_of(file):
            what = "differs from that of node 0" if theirs else "cannot be read"
            raise IncomparableError(
                f"{printable(file)} {what} on {peer.name}",
                hint="Files are not sent: put the same ones at the same path on all nodes.",
            )


def _reads(planned: Planned) -> bool:
    """Return whether a case that can run reads data from a disk."""
    return planned.skip is None and planned.case.data_kind in paths.KINDS


def _name_of_data(case: Case) -> str:
    """Return the data of a case as another node finds them: each makes its own demo files."""
    kind, _, path = str(case.data).partition("=")
    return f"{kind}={path}" if path == "demo" else absolute_data(case.data)


def _check_data(data: Sequence[str], peer: Peer, answer: Mapping[str, Any]) -> None:
    """Raise IncomparableError if data on a disk are not those of node 0."""
    for one in data:
        own, theirs = paths.fingerprint(absolute_data(one)), str(answer["fingerprints"].get(one, ""))
        if own != theirs:
            raise IncomparableError(
                f"--data {printable(one)} is {own} on node 0 and {printable(theirs) or 'not there'} on {peer.name}",
                hint="Files are not sent: put the same data at the same path on all nodes.",
            )


def _note_sites(asked: Sequence[SiteAsked], here: Mapping[str, Site], peer: Peer, answer: Mapping[str, Any]) -> None:
    """Note where a follower has the sides; IncomparableError if it has not, or in other versions."""
    if error := answer.get("error"):
        hint = answer.get("hint") or "Each node needs the same repository and interpreters, at the same paths."
        raise IncomparableError(f"{peer.name}: {printable(str(error))}", hint=printable(str(hint)))
    there = {one.side: valid(Site, answer["sites"].get(one.side)) for one in asked}
    for one in asked:
        own, other = here[one.side].versions, there[one.side].versions
        if own != other:
            raise IncomparableError(
                f"{one.flag('python')} {one.python} has {own} on node 0 and {printable(other)} on {peer.name}",
                hint="Install the same on all nodes.",
            )
    peer.sites |= there


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
    if words := ports_warning(asked.ports):
        observer.note(f"warning: {words}")
    ending: dict[str, Any] = {"why": "", "code": EXIT_FAILED}
    try:
        observer.note(f"waiting for {asked.nnodes - 1} more node(s) at {asked.endpoint[0]}:{asked.endpoint[1]}")
        head.wait(asked.nnodes)
        nodes = Nodes(asked, head, machine)
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
        "places": asked.places,
        "gpus": [dataclasses.asdict(gpu) for gpu in machine.gpus],
        "facts": facts(machine),
    }
    folder = folders.make(PREFIX)  # whoever comes next removes it if this process is killed
    try:
        log = folder / "launcher.log"
        return follow(asked.endpoint, hello, machine, asked.token, asked.join_s, log, observer.note)
    finally:
        folders.remove(folder)
