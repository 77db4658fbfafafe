"""All nodes of a run, as node 0 sees them; ``bench.api.nodes`` has what implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bench.machine.gpus import Machine
from bench.plan.plan import Plan
from bench.runner.launch_case import here_alone
from bench.runner.machine_survey import Survey
from bench.runner.row_recorder import Observer
from launch import Launcher


class SeveralNodes(Protocol):
    """Several nodes that have joined."""

    def machine(self, here: Machine) -> Machine:
        """Return a machine with the GPUs of all nodes, which a plan may use."""
        ...

    def checked(self, plans: Mapping[str, Plan], observer: Observer) -> dict[str, Plan]:
        """Return the plans with reasons for the cases that cannot run on these nodes.

        Raise UsageError if they do not fit, IncomparableError if a file of a workload differs.
        """
        ...

    def surveyed(self, survey: Survey) -> Survey:
        """Return the survey of node 0 with those of the others, each with the ranks that the node takes."""
        ...

    def launcher(self, here: Launcher, variables: Mapping[str, str]) -> Launcher:
        """Return the launcher of all nodes; ``here`` is that of this one."""
        ...


class OneNode:
    """This node alone, in place of several."""

    def machine(self, here: Machine) -> Machine:
        """Return the machine itself."""
        return here

    def checked(self, plans: Mapping[str, Plan], observer: Observer) -> dict[str, Plan]:
        """Return the plans as they are."""
        return dict(plans)

    def surveyed(self, survey: Survey) -> Survey:
        """Return the survey itself."""
        return survey

    def launcher(self, here: Launcher, variables: Mapping[str, str]) -> Launcher:
        """Return the launcher itself."""
        return here_alone(here, variables)
