"""How ranks are started: warm, by the launch server, or cold, by torchrun.

Nothing here imports torch in the process that asks for a launch, and nothing here knows what a rank does:
an entry is a name, ``package.module:function``, and its one argument is a string.
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
    """One launch: ``ranks`` fresh processes that each call ``entry(argument)`` and meet within ``timeout_s``.

    ``numa_binding`` is one of NUMA_BINDINGS, or None: ranks run on any processor. One that measures nothing uses up
    none of its server's launches.
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

    ``exit_codes`` holds what is known: rank -> code, a signal as its negative number. ``error`` is the last word
    of whatever started the ranks, for when the ranks themselves left none. ``stopped``: the watch had it ended.
    """

    exit_codes: Mapping[int, int]
    error: str = ""
    stopped: bool = False

    @property
    def ok(self) -> bool:
        return not self.stopped and not self.error and not any(self.exit_codes.values())


class LaunchError(Exception):
    """Nothing could be started; the message says what was tried and where its log is."""


# Called every POLL_SECONDS while ranks run; True has them ended.
Watch = Callable[[], bool]


def never() -> bool:
    """A watch that lets every launch run."""
    return False


class Prepared(Protocol):
    """A launch for which all is up. ``scratch`` is a local folder that lives at least as long as the launch."""

    @property
    def scratch(self) -> Path: ...

    def launch(self, watch: Watch = never) -> Outcome:
        """Start the ranks, and wait until none of them is left. LaunchError if nothing could be started."""
        ...


class Launcher(ABC):
    """Starts ranks, and leaves no process of theirs behind. Methods may raise LaunchError."""

    @abstractmethod
    def prepare(self, request: Request, watch: Watch = never) -> Prepared:
        """Start what the launch needs, if it is not up; LaunchError if the watch ends the waiting for it."""

    @abstractmethod
    def close(self) -> None:
        """End what was started, and remove its folders."""

    def launch(self, request: Request, watch: Watch = never) -> Outcome:
        """Prepare a launch and make it, where nobody needs its folder before."""
        return self.prepare(request, watch).launch(watch)


# the values of torchrun's --numa-binding; what each does is in torch.numa.binding.AffinityMode
NUMA_BINDINGS = ("node", "socket", "exclusive", "core-complex")

# name -> (one line, where it is); the classes are imported only when asked for
LAUNCHERS = {
    "server": ("a warm launch server forks fresh ranks, without the imports", "launch.server_launcher:ServerLauncher"),
    "torchrun": ("the plain torchrun command, a cold start of every rank", "launch.torchrun:TorchrunLauncher"),
}
