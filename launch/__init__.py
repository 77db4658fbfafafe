"""Starts ranks: warm, from the launch server, or cold, by torchrun.

Nothing here imports torch in the process that asks for a launch, and nothing here depends on what a rank does: an entry
is a name, ``package.module:function``, and its one argument is a string.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Request:
    """One launch: ``ranks`` fresh processes that each call ``entry(argument)`` and meet within ``timeout_s`` seconds.

    ``numa_binding`` is one of NUMA_BINDINGS, or None to let ranks run on any processor. A launch that measures nothing
    does not count towards the launches of its server.
    """

    entry: str
    argument: str
    ranks: int
    timeout_s: float
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    numa_binding: str | None = None
    measures: bool = True


@dataclass(frozen=True)
class Outcome:
    """How the processes of a launch ended.

    ``exit_codes`` maps ranks to their exit codes as far as they are known; a signal is a negative number. ``error`` is
    the last message of the process that started the ranks, in case the ranks themselves left none. ``stopped`` says
    whether the watch ended the launch.
    """

    exit_codes: Mapping[int, int]
    error: str = ""
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether the launch ended by itself and without an error."""
        return not self.stopped and not self.error and not any(self.exit_codes.values())


class LaunchError(Exception):
    """Nothing could be started. The message says what was tried and where the log is."""


# Called every POLL_SECONDS while ranks run; a true result ends the launch.
Watch = Callable[[], bool]


def never_stop() -> bool:
    """Never end a launch: the default watch."""
    return False


class Prepared(Protocol):
    """A launch that is ready to start. ``scratch`` is a local folder that lives at least as long as the launch."""

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
