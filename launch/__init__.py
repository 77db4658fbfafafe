"""Starts ranks: warm, from the launch server, or cold, by torchrun.

Nothing here imports torch in the process that asks for a launch, and nothing here depends on what a rank does: an entry
is a name, ``package.module:function``, and its one argument is a string.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Node:
    """This node's part of a launch over ``nodes`` nodes, of which it is number ``rank``.

    Ranks meet at a store at ``address`` and ``port``. Node 0 hosts it at a free port, from the first to the last of
    ``ports`` unless both are 0, and calls ``hosted`` with that port before its ranks start. ``own`` is the address of
    this node, and ``first_rank`` its first rank. ``run_id`` is the same on all nodes.
    """

    rank: int
    nodes: int
    address: str
    own: str
    run_id: str
    first_rank: int = 0
    port: int = 0
    hosted: Callable[[int], None] | None = None
    ports: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Request:
    """One launch: ``ranks`` fresh processes that each call ``entry(argument)`` and meet within ``timeout_s`` seconds.

    ``numa_binding`` is one of NUMA_BINDINGS, or None to let ranks run on any processor. A launch that measures nothing
    does not count towards the launches of its server. With ``node``, ``ranks`` is the number of those on this node.
    ``even``: of several nodes each has as many ranks.
    """

    entry: str
    argument: str
    ranks: int
    timeout_s: float
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    numa_binding: str | None = None
    measures: bool = True
    node: Node | None = None
    even: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the processes of a launch ended.

    ``exit_codes`` maps ranks to their exit codes as far as they are known; a signal is a negative number. ``error`` is
    the last message of the process that started the ranks, in case the ranks themselves left none. ``stopped`` says
    whether the watch ended the launch. ``lost`` says which other node was lost, which is then the cause of all else.
    """

    exit_codes: Mapping[int, int]
    error: str = ""
    stopped: bool = False
    lost: str = ""

    @property
    def ok(self) -> bool:
        """Whether the launch ended by itself and without an error."""
        return not (self.stopped or self.error or self.lost) and not any(self.exit_codes.values())


class LaunchError(Exception):
    """Nothing could be started. The message says what was tried and where the log is."""


# Called every POLL_SECONDS while ranks run; a true result ends the launch.
Watch = Callable[[], bool]


def never_stop() -> bool:
    """Never end a launch: the default watch."""
    return False


class Elsewhere(Protocol):
    """The ranks of a launch that are on other nodes."""

    @property
    def nodes(self) -> Mapping[int, int]:
        """The node of each of these ranks."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known of these nodes, and of the way to them, as columns of the launch."""
        ...

    def status(self, rank: int) -> Mapping[str, str]:
        """Return ``State`` and ``VmHWM`` of a rank's process as /proc has them; nothing if they are not known yet."""
        ...

    def places(self) -> Mapping[int, str]:
        """Make these ranks write their stacks to their logs, and return where each of them is."""
        ...

    def samples(self) -> Mapping[int, Any]:
        """Return after the launch what each of these nodes sampled, by node, without nodes that sent nothing.

        What a node samples is up to who launches.
        """
        ...


class Prepared(Protocol):
    """A launch that is ready to start. ``scratch`` is a local folder that lives at least as long as the launch."""

    @property
    def elsewhere(self) -> Elsewhere | None:
        """The ranks on other nodes; None if there are none."""
        ...

    @property
    def scratch(self) -> Path:
        """A local folder."""
        ...

    def launch(self, watch: Watch = never_stop) -> Outcome:
        """Start the ranks, and wait until all have ended. Raise LaunchError if nothing could be started."""
        ...


class Launcher(ABC):
    """Starts ranks, and leaves none of their processes behind. Methods may raise LaunchError."""

    @abstractmethod
    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        """Start what the launch needs, unless it is running. Raise LaunchError if the watch ends the wait for it."""

    @abstractmethod
    def close(self) -> None:
        """End what was started, and remove its folders."""

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        """Prepare a launch and run it, for callers that do not need its folder before."""
        return self.prepare(request, watch).launch(watch)


# The values of torchrun's --numa-binding; torch.numa.binding.AffinityMode explains each.
NUMA_BINDINGS = ("node", "socket", "exclusive", "core-complex")

# name -> (description, class); a class is imported only when it is used
LAUNCHERS = {
    "server": ("a warm launch server forks fresh ranks, without the imports", "launch.server_launcher:ServerLauncher"),
    "torchrun": ("the plain torchrun command, a cold start of every rank", "launch.torchrun:TorchrunLauncher"),
}
