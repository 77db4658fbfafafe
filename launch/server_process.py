"""The launch server's process: imports torch once, then starts every launch from its fork server.

Runs under ``python -c`` so that its ``__main__`` is empty: multiprocessing would import it again in every rank.
It speaks JSON, one message a line, over one socket: first a hello, then a reply to each request.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import socket
import sys
import uuid
from multiprocessing import forkserver, resource_tracker
from typing import Any

import psutil

from launch.orphans import end_without_guard
from launch.rank_entry import nothing

MONITOR_SECONDS = 0.1  # torchrun's own; polling at 0.01 costs 2 % of a core beside the ranks


def main() -> None:
    """Serve until the socket closes. ``argv``: the socket's descriptor, the modules to preload as JSON."""
    ending = end_without_guard()
    descriptor, preload = int(sys.argv[1]), json.loads(sys.argv[2])
    os.set_inheritable(descriptor, False)  # neither the fork server nor a rank may hold our channel open
    channel = socket.socket(fileno=descriptor)
    forkserver.set_forkserver_preload(["launch.bound", *preload])
    forkserver.ensure_running()
    resource_tracker.ensure_running()
    socket.getfqdn = _host_name
    agent_exit_codes = _collect_exit_codes()
    _format_plainly()
    _fork_once()
    with contextlib.suppress(ConnectionError), channel, channel.makefile("rwb") as stream:
        _say(stream, {"hello": [os.getpid(), *(child.pid for child in psutil.Process().children())]})
        for line in stream:
            agent_exit_codes.clear()
            error = _launch(**json.loads(line))
            _say(stream, {"exit_codes": agent_exit_codes, "error": error})
    ending.join()  # nobody is there any more: our guard ends us now, or if it is gone as well this does


def _fork_once() -> None:
    """Return when the fork server has preloaded its modules: it forks its first child only then.

    If it cannot fork at all, the first launch says so.
    """
    with contextlib.suppress(EOFError, OSError):
        child = multiprocessing.get_context("forkserver").Process(target=nothing)
        child.start()
        child.join()


def _host_name(name: str = "") -> str:
    """In place of the full name, which elastic wants of every rank when it starts and again when it ends: where no name
    server answers, each takes ten seconds and more. Nobody needs it here."""
    return name or socket.gethostname()


def _say(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _format_plainly() -> None:
    """Give torch's log handlers a plain formatter. Theirs imports torch._dynamo to format the first exception, which
    takes this process 4 to 7 s, just when a rank has failed and the launch is to end."""
    plain = logging.Formatter("%(levelname)s %(asctime)s %(name)s: %(message)s")
    loggers = [logging.getLogger(name) for name in logging.Logger.manager.loggerDict]  # torch.distributed has its own
    for handler in [handler for logger in loggers if logger.name.startswith("torch") for handler in logger.handlers]:
        handler.setFormatter(plain)


def _collect_exit_codes() -> dict[int, int]:
    """A dict that will hold every rank's exit code: elastic itself reports one failure, often the wrong one.

    Elastic takes a launch for done when every rank has returned a value. Ours return none: they are done when they
    have ended with exit code 0.
    """
    api: Any = importlib.import_module("torch.distributed.launcher.api")
    agent: Any = importlib.import_module("torch.distributed.elastic.agent.server.api")
    codes: dict[int, int] = {}

    class Agent(api.LocalElasticAgent):  # type: ignore[misc]
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


def _launch(entry: str, argument: str, ranks: int, timeout_s: float, numa_binding: str | None) -> str:
    """Run one launch to its end; what went wrong, in one line, or an empty string."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    from torch.numa.binding import AffinityMode, NumaOptions

    from launch.rank_entry import call
    from launch.rendezvous import ADDRESS, hosted

    try:
        store = hosted(timeout_s)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="static",  # the dynamic rendezvous waits up to 0.3 s at random
            rdzv_endpoint=f"{ADDRESS}:{store.port}",
            rdzv_configs={"rank": 0, "timeout": timeout_s},
            local_addr=ADDRESS,
            max_restarts=0,
            monitor_interval=MONITOR_SECONDS,
            start_method="forkserver",
            numa_options=NumaOptions(AffinityMode(numa_binding)) if numa_binding else None,
        )
        elastic_launch(config, call)(entry, argument)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return f"rank {rank} ended with exit code {failure.exitcode}"
    except EOFError:  # so multiprocessing says it
        return "the process that ranks are forked from ended, or could not fork; logs/launcher.log has its last words"
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[-1]}"
    return ""
