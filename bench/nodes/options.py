"""The options by which a node finds the others, as torchrun has them: given, or from the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import UsageError

TOKEN = "STEPBENCH_TOKEN"
ALL_DEVICES = ("", "auto", "gpu", "cpu")
MOST_NODES, MOST_PLACES, MOST_SECONDS = 4096, 4096, 86_400
DEFAULT_PORT = 29500  # as torchrun's
JOIN_S = 60.0
# Option -> variables that it is read from, in this order: those of torchrun, of Slurm, and of Kubeflow.
VARIABLES = {
    "nnodes": ("PET_NNODES", "SLURM_STEP_NUM_NODES"),  # Slurm's is set by srun alone, in each of its tasks
    "node_rank": ("PET_NODE_RANK", "SLURM_NODEID", "NODE_RANK"),
    "rdzv_endpoint": ("PET_RDZV_ENDPOINT",),
    "nproc_per_node": ("PET_NPROC_PER_NODE",),
}


@dataclass(frozen=True)
class NodesAsked:
    """This node is number ``node_rank`` of ``nnodes``.

    ``places``: ranks that it takes at most; 0: as the plan says. ``ports``: the first and the last port at which ranks
    may meet; (0, 0): any.
    """

    nnodes: int
    node_rank: int
    endpoint: tuple[str, int]
    token: str
    places: int = 0
    join_s: float = JOIN_S
    ports: tuple[int, int] = (0, 0)

    @property
    def is_head(self) -> bool:
        """Whether this is node 0, which plans and records."""
        return self.node_rank == 0


def nodes_asked(given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> NodesAsked | None:
    """Return the nodes that options or variables ask for; None for one node.

    UsageError for what is not allowed, and without a token unless all nodes are on this host.
    """
    values = {name: given.get(name) or _first(environment, names) for name, names in VARIABLES.items()}
    nnodes = whole(_named("nnodes", given, environment), _least(values["nnodes"]), 1, MOST_NODES, 1)
    if nnodes == 1:
        for name in ("node_rank", "rdzv_endpoint", "nproc_per_node", "join_timeout", "port_range"):
            if given.get(name):
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} has no effect with one node", option=flag, hint="Add --nnodes N.")
        return None
    places = whole(_named("nproc_per_node", given, environment), values["nproc_per_node"], 1, MOST_PLACES, 0)
    join_s = whole("--join-timeout", given.get("join_timeout"), 1, MOST_SECONDS, int(JOIN_S))
    node_rank = whole(_named("node_rank", given, environment), values["node_rank"], 0, nnodes - 1, None)
    endpoint = _endpoint(values["rdzv_endpoint"] or _master(environment))
    token = environment.get(TOKEN, "")
    if not token and not is_loopback(endpoint[0]):
        raise UsageError(
            f"{TOKEN} is not set, without which any process of the network could join",
            option=TOKEN,
            hint=f"Set it to the same secret on all nodes: export {TOKEN}=$(head -c 16 /dev/urandom | base64)",
        )
    return NodesAsked(nnodes, node_rank, endpoint, token, places, float(join_s), _ports(given.get("port_range")))


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the value of the first variable that has one; torchrun's words for all devices of a node are none."""
    return next((environment[name] for name in names if environment.get(name, "auto") not in ALL_DEVICES), None)


def _named(name: str, given: Mapping[str, object], environment: Mapping[str, str]) -> str:
    """Return how a message names a value: by its option, or by the variable that has it."""
    flag = "--" + name.replace("_", "-")
    return flag if given.get(name) else next((one for one in VARIABLES[name] if environment.get(one)), flag)


def _least(given: object) -> object:
    """Return the number of nodes of torchrun's ``LEAST:MOST`` if both are the same."""
    least, colon, most = str(given or "").partition(":")
    return least if colon and least == most else given


def _master(environment: Mapping[str, str]) -> str | None:
    """Return the endpoint that Kubeflow and PyTorch's own scripts set."""
    for prefix in ("PET_MASTER", "MASTER"):
        if address := environment.get(f"{prefix}_ADDR"):
            return f"{address}:{environment.get(f'{prefix}_PORT') or DEFAULT_PORT}"
    return None


def whole(flag: str, given: object, least: int, most: int, default: int | None = None) -> int:
    """Return a whole number, or the default if nothing is given; UsageError for what is not allowed."""
    text = "" if given is None else str(given).strip()
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise UsageError(option=flag, given=text or "nothing", allowed=f"a whole number from {least} to {most}")
    return int(text)


def _ports(given: object) -> tuple[int, int]:
    """Return the first and the last port of ``FIRST-LAST``; (0, 0) if nothing is given."""
    text = str(given or "").strip()
    if not text:
        return 0, 0
    numbers = [int(part) for part in text.split("-") if part.isascii() and part.isdecimal() and len(part) <= 5]
    if text.count("-") != 1 or len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < 1 << 16:
        allowed = "FIRST-LAST, such as 40000-40999"
        raise UsageError(option="--port-range", given=text, allowed=allowed)
    return numbers[0], numbers[1]


def _endpoint(given: object) -> tuple[str, int]:
    """Return (host, port) of ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``."""
    flag, allowed = "--rdzv-endpoint", "HOST:PORT of node 0, such as node1:29500"
    text = str(given or "").strip()
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    good = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 1 << 16
    if not host or not good or not host.isprintable() or " " in host:
        raise UsageError(option=flag, given=text or "nothing", allowed=allowed)
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of this host alone."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(str(address[0]).startswith("127.") or address[0] == "::1" for *_, address in found)
