"""The machine before a run: what it has, how busy it is, and what that means for cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from bench.machine.gpus import Machine
from bench.machine.preflight import Look, look, run_warnings
from bench.plan.case import Case
from bench.runner.machine_warnings import case_warnings


@dataclass(frozen=True)
class Survey:
    """``machine`` is what there is, ``look`` how it was found, and ``warnings`` what that means for any case."""

    machine: Machine
    look: Look = field(default_factory=Look)
    warnings: tuple[str, ...] = ()

    @classmethod
    def taken(cls, machine: Machine, cases: Iterable[Case], out: Path) -> Survey:
        """Look at the machine, at its GPUs only if a case uses them, and at the disk of ``out``."""
        uses_gpus = any(case.on_accelerator for case in cases)
        seen = look(machine if uses_gpus else Machine(), out)
        return cls(machine, seen, tuple(run_warnings(seen)))

    def of_case(self, case: Case, parameters: int | None = None) -> list[str]:
        """Return the warnings of one case, whose model has ``parameters`` where that is known."""
        return case_warnings(case, self.look, parameters)

    def refuse(self, cases: Iterable[Case]) -> None:
        """Raise BenchError if there is any warning, of the machine or of one of these cases."""
        warnings = [*self.warnings, *(warning for case in cases for warning in self.of_case(case))]
        if warnings:
            said = "\n".join(f"- {warning}" for warning in dict.fromkeys(warnings))
            raise BenchError(f"--strict-machine: this machine does not fit the run:\n{said}")

    def notes(self) -> list[str]:
        """Return what is to be said before anything is launched."""
        return [note for note in (self.machine.note, *self.warnings) if note]
