"""Warm launches: one launch server for each environment, replaced every few launches."""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch import POLL_SECONDS, LaunchError, Outcome, Request
from launch.guard import Guarded

BOOT_SECONDS = 180.0
# Ranks of one server share an address-space layout and a hash seed; a lucky one must not pass for a speed.
LAUNCHES_PER_SERVER = 4
SERVERS_AT_ONCE = 2
SERVE = "from launch.serve import main; main()"


class ServerLauncher:
    """Starts ranks from warm servers; an environment gets a server of its own (OpenMP reads it when it loads)."""

    def __init__(
        self,
        environment: Mapping[str, str],
        preload: Sequence[str],
        log: Path,
        launches_per_server: int = LAUNCHES_PER_SERVER,
    ) -> None:
        self._environment, self._preload, self._log = dict(environment), list(preload), log
        self._launches_per_server = launches_per_server
        self._servers: dict[tuple[tuple[str, str], ...], _Server] = {}  # least recently used first

    def launch(self, request: Request, watch: Callable[[], None] = lambda: None) -> Outcome:
        return self._server(request).launch(request, watch)

    def scratch(self, request: Request) -> Path:
        return self._server(request).scratch

    def close(self) -> None:
        for server in list(self._servers.values()):
            self._drop(server)

    def _server(self, request: Request) -> _Server:
        key = tuple(sorted(request.environment.items()))
        server = self._servers.pop(key, None)
        if server is not None and (server.launches >= self._launches_per_server or not server.alive):
            server.close()
            server = None
        while len(self._servers) >= SERVERS_AT_ONCE:
            self._drop(next(iter(self._servers.values())))
        if server is None:
            server = _Server({**self._environment, **request.environment}, self._preload, self._log)
        self._servers[key] = server
        return server

    def _drop(self, server: _Server) -> None:
        self._servers = {key: s for key, s in self._servers.items() if s is not server}
        server.close()


class _Server:
    """One launch server, seen from the process that asks."""

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str], log: Path) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._guarded = Guarded(
                [sys.executable, "-P", "-c", SERVE, str(theirs.fileno()), json.dumps(list(preload))],
                environment=environment,
                log=log,
                pass_fds=[theirs.fileno()],
            )
        self._received = b""
        self.launches = 0
        self.scratch = self._guarded.tmp
        self._greet(log)

    def _greet(self, log: Path) -> None:
        try:
            hello = self._receive(time.monotonic() + BOOT_SECONDS, lambda: None)
        except TimeoutError:
            hello = None
        if hello is None:
            self.close()
            raise LaunchError(f"the launch server did not start; see {log}")

    @property
    def alive(self) -> bool:
        return self._guarded.returncode is None

    def launch(self, request: Request, watch: Callable[[], None]) -> Outcome:
        self.launches += 1
        message = {
            "entry": request.entry,
            "argument": request.argument,
            "ranks": request.ranks,
            "timeout_s": request.timeout_s,
            "numa_binding": request.numa_binding,
        }
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            reply = self._receive(time.monotonic() + request.timeout_s, watch)
        except TimeoutError:
            self.close()
            return Outcome({}, timed_out=True)
        except OSError:
            reply = None
        if reply is None:
            self.close()
            return Outcome({}, error="the launch server died")
        return Outcome({int(rank): code for rank, code in reply["exit_codes"].items()}, error=reply["error"])

    def close(self) -> None:
        self._socket.close()
        self._guarded.kill()

    def _receive(self, deadline: float, watch: Callable[[], None]) -> dict[str, Any] | None:
        """The next message; None if the server is gone; TimeoutError past the deadline."""
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if select.select([self._socket], [], [], min(left, POLL_SECONDS))[0]:
                piece = self._socket.recv(65536)
                if not piece:
                    return None
                self._received += piece
            else:
                watch()
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
