"""Warm launches: one launch server for each environment, replaced every few launches."""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from launch import POLL_SECONDS, LaunchError, Outcome, Request, Watch, never
from launch.guard import Guarded, private_folder
from launch.processes import descendants, end

BOOT_SECONDS = 180.0
REPLY_SECONDS = 3.0  # of elastic, to see that the ranks are gone
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

    def launch(self, request: Request, watch: Watch = never) -> Outcome:
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
                tmp=private_folder(),
                pass_fds=[theirs.fileno()],
            )
        self._received = b""
        self.launches = 0
        self.scratch = self._guarded.tmp
        self._own = self._greet(log)  # the server and its helpers: what is below it beside these are ranks and theirs

    def _greet(self, log: Path) -> list[int]:
        hello = self._receive(BOOT_SECONDS)
        if hello is None:
            self.close()
            raise LaunchError(f"the launch server did not start; see {log}")
        pids: list[int] = hello["hello"]
        return pids

    @property
    def alive(self) -> bool:
        return self._guarded.returncode is None

    def launch(self, request: Request, watch: Watch) -> Outcome:
        self.launches += request.measures
        message = {
            "entry": request.entry,
            "argument": request.argument,
            "ranks": request.ranks,
            "timeout_s": request.timeout_s,
            "numa_binding": request.numa_binding,
        }
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            stopped = not self._answers(watch)
            clean = end(lambda: descendants(self._guarded.pid, self._own))
            reply = self._receive(REPLY_SECONDS)
        except OSError:
            clean, stopped, reply = False, False, None
        except BaseException:  # the run is being stopped
            self.close()
            raise
        if reply is None or not clean:
            self.close()
        if reply is None:
            return Outcome({}, "" if stopped else self._last_word(), stopped)
        return Outcome({int(rank): code for rank, code in reply["exit_codes"].items()}, reply["error"], stopped)

    def close(self) -> None:
        self._socket.close()
        self._guarded.kill()

    def _last_word(self) -> str:
        code = self._guarded.returncode or 0
        return f"the launch server was killed by {Signals(code - 128).name}" if code > 128 else "the launch server died"

    def _answers(self, watch: Watch) -> bool:
        """Wait for a reply or the server's end; False if the watch ended the waiting."""
        while not select.select([self._socket], [], [], POLL_SECONDS)[0]:
            if watch():
                return False
        return True

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None if the server is gone or says nothing."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            piece = self._socket.recv(65536)
            if not piece:
                return None
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
