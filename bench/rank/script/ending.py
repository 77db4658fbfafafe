"""What a rank of a script tells about itself that only torch knows."""

from __future__ import annotations

import torch

from bench.messages.rank_record import State
from bench.rank import software as facts
from bench.rank.checksum import checksum
from bench.rank.memory import resident_mib as resident_mib
from bench.rank.script.observer import devices_in_use
from bench.rank.settings import threads
from bench.rank.software import imported as imported
from bench.rank.software import software as software


def device() -> str:
    """Return ``cpu`` where there is no accelerator; empty while the script has not chosen."""
    return "" if torch.accelerator.is_available() else "cpu"


def device_facts() -> tuple[str, list[str]]:
    """Return the name and the UUIDs of the device that the script uses."""
    return facts.device_facts(devices_in_use() or [torch.device("cpu")])


def state(replicas: dict[str, torch.Tensor]) -> State:
    """Return the state of this rank after the window; ``replicas`` are parameters that all ranks have."""
    number, dynamic = threads()
    return State(
        num_threads=number,
        dynamic_threads=dynamic,
        checksums={name: checksum(parameter) for name, parameter in replicas.items()},
    )
