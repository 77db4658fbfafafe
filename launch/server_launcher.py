"""Warm launches: one launch server for each environment, replaced after a few launches."""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from launch import (
    POLL_SECONDS,
    Elsewhere,
    Launcher,
    LaunchError,
    Node,
    Outcome,
    Prepared,
    Request,
    Watch,
    folders,
    never_stop,
)
from launch.guard import Guarded, private_folder
from launch.processes import descendants, end

BOOT_SECONDS = 180.0  # minimum; torch may be on a slow disk
REPLY_SECONDS = 20.0  # for elastic to notice that the ranks have ended: 0.1 s, more on a busy machine
NODES_REPLY_SECONDS = 6.0  # the same over several nodes, where elastic may wait for one that will never answer
# Ranks of one server share an address-space layout and a hash seed, which may be lucky: servers are replaced.
LAUNCHES_PER_SERVER = 4
SERVERS_AT_ONCE = 2
SERVE = "from launch.server_process import main; main()"


@dataclass(frozen=True)
class _PreparedLaunch:
    """A launch that a server is ready for."""

    server: _Server
    request: Request
    elsewhere: Elsewhere | None = None

    @property
    def scratch(self) -> Path:
        return self.server.scratch

    def launch(self, watch: Watch = never_stop) -> Outcome:
        return self.server.launch(self.request, watch)


class ServerLauncher(Launcher):
    """Starts ranks from warm servers, one for each environment, as OpenMP reads the environment when it is loaded."""

    def __init__(
        self,
        environment: Mapping[str, str],
        preload: Sequence[str],
        log: Path,
        launches_per_server: int = LAUNCHES_PER_SERVER,
        python: str = sys.executable,
        cwd: Path | None = None,
    ) -> None:
        """Run ranks under the interpreter ``python`` in the folder ``cwd``, by default those of this process."""
        self._environment, self._log = dict(environment), log
        self._command = [python, "-P", "-c", SERVE]
        self._preload, self._cwd = list(preload), cwd
        self._launches_per_server = launches_per_server
        self._servers: dict[tuple[tuple[str, str], ...], _Server] = {}  # least recently used first

    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        """Start a server for the environment of the request, unless one is running."""
        return _PreparedLaunch(self._server(request, watch), request)

    def close(self) -> None:
        """End all servers."""
        for server in list(self._servers.values()):
            self._drop(server)

    def _server(self, request: Request, watch: Watch) -> _Server:
        key = tuple(sorted(request.environment.items()))
        server = self._servers.pop(key, None)
        if server is not None and (server.launches >= self._launches_per_server or not server.alive):
            server.close()
            server = None
        while len(self._servers) >= SERVERS_AT_ONCE:
            self._drop(next(iter(self._servers.values())))
        if server is None:
            environment = {**self._environment, **request.environment}
            seconds = max(BOOT_SECONDS, request.timeout_s)
            make = functools.partial(_Server, self._command, environment, self._preload, self._log, self._cwd)
            server = _started(make, watch, seconds)
        self._servers[key] = server
        return server

    def _drop(self, server: _Server) -> None:
        self._servers = {key: s for key, s in self._servers.items() if s is not server}
        server.close()


def _part(node: Node | None) -> dict[str, Any] | None:
    return {name: value for name, value in vars(node).items() if name != "hosted"} if node else None


def _started(start: Callable[[], _Server], watch: Watch, seconds: float) -> _Server:
    try:
        server = start()
        server.wait_until_ready(watch, seconds)
        return server
    except OSError as error:
        raise LaunchError(
            f"cannot start a launch server: {error.strerror} (TMPDIR is {tempfile.gettempdir()})"
        ) from None


class _Server:
    """One launch server, seen from the process that uses it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        preload: Sequence[str],
        log: Path,
        cwd: Path | None,
    ) -> None:
        self._log = log
        self._received = b""
        self._own: list[int] = []  # the server and its helpers; all other processes below it belong to ranks
        self.launches = 0
        self.scratch = private_folder()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._guarded = Guarded(
                    [*command, str(theirs.fileno()), json.dumps(list(preload))],
                    environment=environment,
                    log=log,
                    tmp=self.scratch,
                    pass_fds=[theirs.fileno()],
                    cwd=cwd,
                )
        except OSError:
            self._socket.close()
            folders.remove(self.scratch)
            raise

    @property
    def alive(self) -> bool:
        return self._guarded.returncode is None

    def launch(self, request: Request, watch: Watch) -> Outcome:
        try:
            return self._launch(request, watch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()
        self._guarded.kill()

    def wait_until_ready(self, watch: Watch, seconds: float) -> None:
        """Wait until ranks can be forked. Raise LaunchError on failure, or if the watch ends the wait."""
        deadline = time.monotonic() + seconds
        try:
            answers = self._answers(lambda: watch() or time.monotonic() > deadline)
            hello = self._receive(REPLY_SECONDS) if answers else None
        except BaseException:
            self.close()
            raise
        if hello is None:
            why = f"has not imported torch within {seconds:g} s" if not answers else "ended before it was ready"
            self.close()
            raise LaunchError(f"the launch server {why}; see {self._log}")
        self._own = hello["hello"]

    def _launch(self, request: Request, watch: Watch) -> Outcome:
        self.launches += request.measures
        message = {
            "entry": request.entry,
            "argument": request.argument,
            "ranks": request.ranks,
            "timeout_s": request.timeout_s,
            "numa_binding": request.numa_binding,
            "node": _part(request.node),
        }
        self._say(message)
        stopped = not (self._hosts(request.node, watch) and self._answers(watch))
        clean = end(lambda: descendants(self._guarded.pid, self._own))
        reply = self._receive(NODES_REPLY_SECONDS if request.node else REPLY_SECONDS)
        while reply is not None and "exit_codes" not in reply:  # the port, which came when the wait for it had ended
            reply = self._receive(NODES_REPLY_SECONDS)
        if reply is None or not clean:
            self.close()
        if reply is None:
            return Outcome({}, "" if stopped else self._end_in_words(), stopped)
        return Outcome({int(rank): code for rank, code in reply["exit_codes"].items()}, reply["error"], stopped)

    def _hosts(self, node: Node | None, watch: Watch) -> bool:
        """Wait until node 0 hosts the store of several nodes. Return False if the watch ended the wait."""
        if node is None or node.hosted is None:
            return True
        if not self._answers(watch):
            return False
        if (hosting := self._receive(REPLY_SECONDS)) and "port" in hosting:
            node.hosted(hosting["port"])
        elif hosting:  # it could not host the store, and this is already its reply
            self._received = json.dumps(hosting).encode() + b"\n" + self._received
        return True

    def _say(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a server that has ended will not answer either
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _end_in_words(self) -> str:
        code = self._guarded.returncode or 0
        if code < 0:
            return f"the launch server's guard was killed by {Signals(-code).name}"
        return f"the launch server was killed by {Signals(code - 128).name}" if code > 128 else "the launch server died"

    def _answers(self, watch: Watch) -> bool:
        """Wait for a reply or the end of the server. Return False if the watch ended the wait."""
        while not select.select([self._socket], [], [], POLL_SECONDS)[0]:
            if watch():
                return False
        return True

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message; None if the server has ended or sends none."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                piece = self._socket.recv(65536)
            except OSError:
                piece = b""
            if not piece:
                return None
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
