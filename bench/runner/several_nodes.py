"""All nodes of a run, as node 0 sees them; ``bench.api.nodes`` has what implements it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from bench.machine.gpus import Machine
from bench.plan.plan import Plan
from bench.runner.launch_case import here_alone
from bench.runner.machine_survey import Survey
from bench.runner.make_sites import SiteAsked
from bench.runner.rank_site import Site
from bench.runner.row_recorder import Observer
from launch import Launcher


class SeveralNodes(Protocol):
    """Several nodes that have joined."""

    def machine(self, here: Machine) -> Machine:
        """Return a machine with the GPUs of all nodes, which a plan may use."""
        ...

    def checked(self, plans: Mapping[str, Plan], observer: Observer, revised: Collection[str] = ()) -> dict[str, Plan]:
        """Return the plans with reasons for the cases that cannot run on these nodes.

        ``revised``: the plans whose workloads are of a revision, not of the files as they are. Raise UsageError if they
        do not fit, IncomparableError if a file of a workload differs.
        """
        ...

    def make_sites(self, asked: Sequence[SiteAsked], here: Mapping[str, Site]) -> None:
        """Make the sites of a comparison on all other nodes; ``here`` are those of this one, by side.

        Raise IncomparableError if a node cannot, or an interpreter has other versions there.
        """
        ...

    def surveyed(self, survey: Survey) -> Survey:
        """Return the survey of node 0 with those of the others, each with the ranks that the node takes."""
        ...

    def launcher(self, here: Launcher, variables: Mapping[str, str], side: str = "") -> Launcher:
        """Return the launcher of all nodes; ``here`` is that of this one. ``side``: that of a comparison, if any."""
        ...


class OneNode:
    """This node alone, in place of several."""

    def machine(self, here: Machine) -> Machine:
        """Return the machine itself."""
        return here

    def checked(self, plans: Mapping[str, Plan], observer: Observer, revised: Collection[str] = ()) -> dict[str, Plan]:
        """Return the plans as they are."""
        return dict(plans)

    def make_sites(self, asked: Sequence[SiteAsked], here: Mapping[str, Site]) -> None:
        """Make nothing: there are no other nodes."""

    def surveyed(self, survey: Survey) -> Survey:
        """Return the survey itself."""
        return survey

    def launcher(self, here: Launcher, variables: Mapping[str, str], side: str = "") -> Launcher:
        """Return the launcher itself."""
        return here_alone(here, variables)
