"""What a rank is told: ``spec.json`` in the folder of its launch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.plan.case import Case
from bench.untrusted.rank_files import write_json

SIDES = ("A", "B")  # of a comparison


@dataclass(frozen=True)
class Turns:
    """A rank's part in a duet: two launches that are up at once and train in turn, a burst of steps each.

    They meet at a store on ``address`` and ``port``, which rank 0 of side A holds. ``side`` is one of SIDES and
    ``ranks`` how many it has. A burst is to take the slower side about ``burst_seconds``.
    """

    address: str
    port: int
    side: str
    ranks: int
    burst_seconds: float


@dataclass(frozen=True)
class Spec:
    """All that a rank needs to know."""

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
    compile_cache: str = ""  # for this launch alone; empty where the user's environment names one
    watched: list[str] = field(default_factory=list)  # folders of which the files that are imported are told
    turns: Turns | None = None  # only in a duet

    def write(self) -> Path:
        path = Path(self.folder) / "spec.json"
        write_json(path, dataclasses.asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        values = json.loads(Path(path).read_text())
        turns = Turns(**values["turns"]) if values.get("turns") else None
        return cls(**{**values, "case": Case(**values["case"]), "turns": turns})
