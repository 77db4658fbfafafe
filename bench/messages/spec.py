"""The instructions for ranks: ``spec.json`` in the folder of their launch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.plan.case import Case
from bench.untrusted.rank_files import write_json

SIDES = ("A", "B")  # The sides of a comparison.


@dataclass(frozen=True)
class Turns:
    """How a rank takes part in a duet: two launches run at once and train in turns, a burst of steps each.

    Their ranks meet at a store on ``address`` and ``port``, which rank 0 of side A hosts. ``side`` is one of SIDES,
    ``ranks`` the number of its ranks. A burst shall take the slower side about ``burst_seconds``.
    """

    address: str
    port: int
    side: str
    ranks: int
    burst_seconds: float


@dataclass(frozen=True)
class Script:
    """A user's script: the full path of its file, or with ``is_module`` the name of a module, and its arguments.

    It was called in ``home``, which modules are imported from, and runs in ``folder``. ``patience_s``: how long its
    ranks wait for each other. ``hides_gpus``: no GPU is visible to it.
    """

    target: str
    is_module: bool
    arguments: list[str]
    home: str
    folder: str
    patience_s: float
    hides_gpus: bool = False
    count_flops: bool = False


@dataclass(frozen=True)
class Spec:
    """All instructions for a rank."""

    case: Case
    target: str
    options: dict[str, Any]
    data: str
    warmup_steps: int
    steps: int
    min_seconds: float
    timeout_s: float
    folder: str
    scratch: str
    max_seconds: float = 0.0
    compile_cache: str = ""  # For this launch only; empty if the user's environment names one.
    watched: list[str] = field(default_factory=list)  # Folders whose imported files the rank reports.
    turns: Turns | None = None  # Only in a duet.
    script: Script | None = None  # Only if the case is a script.
    count_work: bool = False  # Count the work of the step after the window.
    profile: str = "off"  # One of PROFILES.
    save_folder: str = ""  # Where the state is saved after the window, and removed again; empty to save nothing.
    stragglers: bool = False  # Find the rank's own time, if it takes steps after the window.
    methods: dict[str, list[str]] = field(default_factory=dict)  # As in Description.
    nodes: list[int] = field(default_factory=list)  # The node of each rank.

    def write(self) -> Path:
        """Write ``spec.json`` and return its path."""
        path = Path(self.folder) / "spec.json"
        write_json(path, dataclasses.asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        """Read a ``spec.json``."""
        values = json.loads(Path(path).read_text())
        turns = Turns(**values["turns"]) if values.get("turns") else None
        script = Script(**values["script"]) if values.get("script") else None
        return cls(**{**values, "case": Case(**values["case"]), "turns": turns, "script": script})
