"""The machines before a run: what each node has, how busy it is, and what that means for cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.machine.gpus import Machine
from bench.machine.preflight import Look, look, run_warnings
from bench.plan.case import Case
from bench.runner.machine_warnings import case_warnings, ranks_here
from bench.untrusted.rank_files import NonsenseError, checked


@dataclass(frozen=True)
class Survey:
    """``machine`` is what there is, ``look`` how it was found, and ``warnings`` what that means for any case.

    Over several nodes this is node 0's, and ``followers`` has that of each other node by its name. Of a follower only
    those cases are warned of that have ranks on it.
    """

    machine: Machine
    look: Look = field(default_factory=Look)
    warnings: tuple[str, ...] = ()
    followers: Mapping[str, Survey] = field(default_factory=dict)

    @classmethod
    def taken(cls, machine: Machine, cases: Iterable[Case], out: Path) -> Survey:
        """Look at the machine, at its GPUs only if a case uses them, and at the disk of ``out``."""
        uses_gpus = any(case.on_accelerator for case in cases)
        seen = look(machine if uses_gpus else Machine(), out)
        return cls(machine, seen, tuple(run_warnings(seen)))

    @classmethod
    def received(cls, answer: Mapping[str, Any]) -> Survey:
        """Return the survey of a follower from its answer."""
        try:
            seen = checked(Look, answer.get("look"))
        except NonsenseError as error:
            return cls(Machine(), warnings=(f"how it was found is not known: its answer {error}",))
        return cls(Machine(note=str(answer.get("note", ""))), seen, tuple(run_warnings(seen)))

    @property
    def looks(self) -> tuple[Look, ...]:
        """How each node was found."""
        return self.look, *(one.look for one in self.followers.values())

    def of_case(self, case: Case, parameters: int | None = None) -> list[str]:
        """Return the warnings of one case, whose model has ``parameters`` where that is known."""
        found = case_warnings(case, self.look, parameters)
        for name, one in self.followers.items():
            if ranks_here(case, one.look):
                found += [f"{name}: {warning}" for warning in (*one.warnings, *one.of_case(case, parameters))]
        return found

    def refuse(self, cases: Iterable[Case]) -> None:
        """Raise BenchError if there is any warning, of the machine or of one of these cases."""
        warnings = [*self.warnings, *(warning for case in cases for warning in self.of_case(case))]
        if warnings:
            said = "\n".join(f"- {warning}" for warning in dict.fromkeys(warnings))
            raise BenchError(f"--strict-machine: this machine does not fit the run:\n{said}")

    def notes(self) -> list[str]:
        """Return what is to be said before anything is launched."""
        of_followers = [f"{name}: {note}" for name, one in self.followers.items() for note in one.notes()]
        return [note for note in (self.machine.note, *self.warnings, *of_followers) if note]
