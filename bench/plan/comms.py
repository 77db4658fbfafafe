"""What ``bench comms`` measures: the tables of collectives, types, groups and backends, and the options over them.

A request is the workload ``comms[:option=value…]``, so that plans, rows and resumed runs hold it as they hold others.
Lists have a ``+`` there, as a comma separates workloads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.errors import UsageError, did_you_mean
from bench.plan.options import MOST_STEPS, NotAllowed, Option, Value, one_of, real, whole

COMMS = "comms"  # The workload.
VERSION = 1  # Increased whenever stepbench would measure another time for the same collective.
BARRIER = "barrier"  # The only collective without a message.
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MOST_BYTES = 1 << 40
# Settings of the protocol that have an effect on collectives; the others are about steps.
SETTINGS = ("launches", "timeout", "hang_timeout", "launcher", "order_seed", "budget")
LEAST_ITERS = 3  # However long one takes.


@dataclass(frozen=True)
class Collective:
    """A collective: what it does, and ``factor``, bus bandwidth / algorithm bandwidth over n ranks.

    The factors are those of nccl-tests (doc/PERFORMANCE.md). ``parts``: the message has a part for each rank, so that
    its length is a multiple of n. ``buffers``: memory of a rank in messages, at most.
    """

    about: str
    factor: Callable[[int], float]
    parts: bool = False
    buffers: int = 1


def _all_but_one(n: int) -> float:
    return (n - 1) / n


def _once(n: int) -> float:
    return 1.0


COLLECTIVES = {
    "all_reduce": Collective("the sum of all messages, on every rank", lambda n: 2 * (n - 1) / n),
    "all_gather": Collective("the parts of all ranks, on every rank", _all_but_one, parts=True, buffers=2),
    "reduce_scatter": Collective("each rank's part of the sum of all messages", _all_but_one, parts=True, buffers=2),
    "broadcast": Collective("the message of the first rank, on every rank", _once),
    "all_to_all": Collective("a part from each rank to each rank", _all_but_one, parts=True, buffers=2),
    "send_recv": Collective("each rank sends to the next one, and receives from the one before", _once, buffers=2),
    BARRIER: Collective("no message: every rank waits for all others", _once, buffers=0),
}
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8, "int32": 4, "int64": 8, "uint8": 1}  # Bytes of each.
GROUPS = {
    "all": "all ranks",
    "node": "the ranks of each node, on all nodes at once",
    "across": "one rank of each node, for all local ranks at once",
    "pairs": "two ranks, each pair by itself while the others wait",
}
BACKENDS = {
    "auto": "NCCL on GPUs, Gloo on the CPU and where ranks share a GPU",
    "nccl": "NCCL",
    "gloo": "Gloo",
    "ucc": "UCC, where torch was built with it",
    "mpi": "MPI, where torch was built with it",
}


def size_of(text: str) -> int:
    """Return the bytes of ``64``, ``1K``, ``8M`` or ``1G``, by powers of 1024 as in nccl-tests; else NotAllowed."""
    found = re.fullmatch(r"(\d{1,15})([KMG]?)", text.strip(), re.ASCII)
    bytes_ = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= bytes_ <= MOST_BYTES:
        raise NotAllowed("At most 1024G." if bytes_ else "")
    return bytes_


def size_text(bytes_: int) -> str:
    """Return a size as ``--sizes`` has it: ``1K`` for 1024."""
    unit = next(unit for unit in reversed(UNITS) if bytes_ % UNITS[unit] == 0)
    return f"{bytes_ // UNITS[unit]}{unit}"


def sizes_of(text: str) -> tuple[int, ...]:
    """Return the sizes of ``4,1K..1G`` in bytes, sorted; a range doubles from its first size up to its last."""
    found: set[int] = set()
    for word in text.split(","):
        first, dots, last = word.partition("..")
        low = size_of(first)
        high = size_of(last) if dots else low
        if high < low:
            raise NotAllowed(f"{first} is larger than {last}.")
        found.add(high)
        while low < high:
            found.add(low)
            low *= 2
    return tuple(sorted(found))


def _sizes(text: str) -> str:
    sizes_of(text)
    return ",".join(word.strip() for word in text.split(","))


def _some_of(names: Iterable[str]) -> Callable[[str], str]:
    allowed = list(names)

    def parse(text: str) -> str:
        words = [word.strip() for word in text.split(",")]
        for word in words:
            if word not in allowed:
                raise NotAllowed(did_you_mean(word, allowed))
        return ",".join(name for name in allowed if name in words)

    return parse


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "collectives",
            _some_of(COLLECTIVES),
            ", ".join(COLLECTIVES),
            ",".join(COLLECTIVES),
            "collectives to measure; send_recv is a ring of point-to-point messages",
            "all",
        ),
        Option(
            "sizes",
            _sizes,
            "sizes such as 8, 1K, 64M, 1G, or ranges A..B that double",
            "1K..256M",
            "sizes of the message in bytes, as nccl-tests counts them",
        ),
        Option("dtypes", _some_of(DTYPES), ", ".join(DTYPES), "float32", "types of the numbers in a message"),
        Option("groups", _some_of(GROUPS), ", ".join(GROUPS), "all", "process groups to measure"),
        Option("backend", one_of(BACKENDS), ", ".join(BACKENDS), "auto", "backend of the process groups"),
        Option(
            "iters",
            whole(LEAST_ITERS, MOST_STEPS),
            f"a whole number from {LEAST_ITERS}",
            20,
            "timed iterations of each size",
            most=MOST_STEPS,
        ),
        Option(
            "warmup_iters",
            whole(0, MOST_STEPS),
            "a whole number from 0",
            5,
            "iterations before them; at least 2, of which the first checks the result",
            most=MOST_STEPS,
        ),
        Option(
            "max_seconds",
            real(0, 1_000_000),
            "a number from 0",
            2.0,
            f"maximum time for the iterations of a size, by fewer of them, at least {LEAST_ITERS}; 0: no limit",
            most=1_000_000,
        ),
    )
}


@dataclass(frozen=True)
class CommsSpec:
    """What is measured in each launch; OPTIONS describes the fields. ``sizes`` are in bytes."""

    collectives: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    groups: tuple[str, ...]
    backend: str
    iters: int
    warmup_iters: int
    max_seconds: float


def comms_workload(given: Mapping[str, object]) -> str:
    """Return the workload of some of OPTIONS; UsageError for a value that is not allowed. None means not given."""
    values = {name: OPTIONS[name].read(value, OPTIONS[name].flag) for name, value in given.items() if value is not None}
    differs = {name: value for name, value in values.items() if value != OPTIONS[name].default}
    return ":".join([COMMS, *(f"{name}={_text(differs[name])}" for name in OPTIONS if name in differs)])


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(",", "+")


@functools.lru_cache(4096)
def parse_comms(text: str) -> tuple[str, CommsSpec]:
    """Return the workload ``comms[:option=value…]`` in its shortest form, and what it asks for; else UsageError."""
    given: dict[str, str] = {}
    for item in text.split(":")[1:]:
        name, equals, value = item.partition("=")
        if not equals or name not in OPTIONS:
            hint = did_you_mean(name, OPTIONS)
            raise UsageError(option=COMMS, given=item, allowed=f"option=value, with {', '.join(OPTIONS)}", hint=hint)
        given[name] = value.replace("+", ",")
    values = {name: OPTIONS[name].read(given.get(name, option.default), name) for name, option in OPTIONS.items()}
    names = {name: tuple(str(values[name]).split(",")) for name in ("collectives", "dtypes", "groups")}
    spec = CommsSpec(
        **names,
        sizes=sizes_of(str(values["sizes"])),
        backend=str(values["backend"]),
        iters=int(str(values["iters"])),
        warmup_iters=int(str(values["warmup_iters"])),
        max_seconds=float(str(values["max_seconds"])),
    )
    return comms_workload(values), spec


def options_of(text: str) -> dict[str, str]:
    """Return the options that a workload in its shortest form names."""
    return {name: value.replace("+", ",") for name, _, value in (item.partition("=") for item in text.split(":")[1:])}
