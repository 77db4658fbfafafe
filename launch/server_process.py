"""The process of the launch server: imports torch once, then starts every launch from its fork server.

It runs under ``python -c`` so that its ``__main__`` is empty: multiprocessing would import it again in every rank. It
exchanges JSON, one message in a line, over one socket: first a hello, then a reply to each request.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import multiprocessing
import os
import socket
import sys
import uuid
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from typing import Any

import psutil

from launch.orphans import end_without_guard
from launch.rank_entry import do_nothing

MONITOR_SECONDS = 0.1  # as torchrun; polling every 0.01 s would take 2 % of a core from the ranks
EXIT_BARRIER_SECONDS = 5.0  # for the agents of other nodes; elastic's own 300 s would outlast a lost node


def main() -> None:
    """Serve until the socket closes. ``argv`` has the socket's descriptor and the modules to preload, as JSON."""
    gc.disable()  # while torch is imported: to look for garbage would take a fifth of the time
    ending = end_without_guard()
    descriptor, preload = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(descriptor, False)  # neither the fork server nor a rank may keep the socket open
    channel = socket.socket(fileno=descriptor)
    forkserver.set_forkserver_preload(["launch.bound", *preload, "launch.frozen"])
    forkserver.ensure_running()
    resource_tracker.ensure_running()
    socket.getfqdn = _host_name
    agent_exit_codes = _collect_exit_codes()
    _format_plainly()
    gc.enable()
    _fork_once()
    with contextlib.suppress(ConnectionError), channel, channel.makefile("rwb") as stream:
        _say(stream, {"hello": [os.getpid(), *(child.pid for child in psutil.Process().children())]})
        for line in stream:
            agent_exit_codes.clear()
            error = _launch(lambda port: _say(stream, {"port": port}), **json.loads(line))
            _say(stream, {"exit_codes": agent_exit_codes, "error": error})
    # the launcher has ended; its guard now ends this process, or this thread does if the guard has died as well
    ending.join()


def _fork_once() -> None:
    """Return when the fork server has preloaded its modules: only then it forks its first child.

    If it cannot fork at all, the first launch reports that.
    """
    with contextlib.suppress(EOFError, OSError):
        child = multiprocessing.get_context("forkserver").Process(target=do_nothing)
        child.start()
        child.join()


def _host_name(name: str = "") -> str:
    """Return a short host name in place of the full one, which is not needed here.

    elastic asks for the full name at the start and end of every rank; without a name server each query takes more than
    ten seconds.
    """
    return name or socket.gethostname()


def _say(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _format_plainly() -> None:
    """Give torch's log handlers a plain formatter.

    Their own one imports torch._dynamo to format the first exception. This takes 4 to 7 s, just when a rank has failed
    and the launch is to end.
    """
    plain = logging.Formatter("%(levelname)s %(asctime)s %(name)s: %(message)s")
    # torch.distributed has handlers of its own
    loggers = [logging.getLogger(name) for name in logging.Logger.manager.loggerDict]
    for handler in [handler for logger in loggers if logger.name.startswith("torch") for handler in logger.handlers]:
        handler.setFormatter(plain)


def _collect_exit_codes() -> dict[int, int]:
    """Return a dict that will hold the exit code of every rank: elastic reports one failure only, often the wrong one.

    elastic regards a launch as complete when every rank has returned a value. These ranks return none: they are
    complete when they have ended with exit code 0.
    """
    api: Any = importlib.import_module("torch.distributed.launcher.api")
    agent: Any = importlib.import_module("torch.distributed.elastic.agent.server.api")
    codes: dict[int, int] = {}

    class Agent(api.LocalElasticAgent):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{"exit_barrier_timeout": EXIT_BARRIER_SECONDS, **options})

        def _monitor_workers(self, worker_group: Any) -> Any:
            result = super()._monitor_workers(worker_group)
            processes = getattr(getattr(self._pcontext, "_pc", None), "processes", ())
            ended = {rank: p.exitcode for rank, p in enumerate(processes) if p.exitcode is not None}
            if result.is_failed():
                codes.update(ended)
            elif processes and len(ended) == len(processes) and not any(ended.values()):
                return agent.RunResult(agent.WorkerState.SUCCEEDED, return_values=dict.fromkeys(ended))
            return result

    api.LocalElasticAgent = Agent
    return codes


def _launch(
    hosted: Callable[[int], None],
    entry: str,
    argument: str,
    ranks: int,
    timeout_s: float,
    numa_binding: str | None,
    node: dict[str, Any] | None,
) -> str:
    """Run one launch to its end. Return the error in one line, or an empty string.

    ``node`` has the fields of ``launch.Node``; node 0 calls ``hosted`` with the port at which the ranks meet.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    from torch.numa.binding import AffinityMode, NumaOptions

    from launch.rank_entry import call
    from launch.rendezvous import ADDRESS, host_store

    try:
        part = node or {"rank": 0, "nodes": 1, "address": ADDRESS, "own": ADDRESS, "run_id": uuid.uuid4().hex}
        ports = tuple(part.get("ports", (0, 0)))
        store = host_store(timeout_s, part["address"], ports) if part["rank"] == 0 else None
        port = store.port if store else part["port"]
        if node and store:
            hosted(port)
        config = LaunchConfig(
            min_nodes=part["nodes"],
            max_nodes=part["nodes"],
            nproc_per_node=ranks,
            run_id=part["run_id"],
            rdzv_backend="static",  # the dynamic rendezvous waits up to 0.3 s at random
            rdzv_endpoint=f"[{part['address']}]:{port}" if ":" in part["address"] else f"{part['address']}:{port}",
            rdzv_configs={"rank": part["rank"], "timeout": timeout_s},
            local_addr=part["own"],
            max_restarts=0,
            monitor_interval=MONITOR_SECONDS,
            start_method="forkserver",
            numa_options=NumaOptions(AffinityMode(numa_binding)) if numa_binding else None,
        )
        elastic_launch(config, call)(entry, argument)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return f"rank {rank} ended with exit code {failure.exitcode}"
    except EOFError:  # raised by multiprocessing
        return "the process that ranks are forked from ended, or could not fork; logs/launcher.log has its last words"
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[-1]}"
    return ""
