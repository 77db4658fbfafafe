"""Descriptions of a run's workloads by torch, one for each kind of step in the run's cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic

from bench.errors import BenchError, MissingWorkloadError, ResultsError
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.description import Description
from bench.plan.options import LOADER_AXES
from bench.plan.plan import Planned, facts, joined, plan_case
from bench.runner.launch_case import CaseLauncher
from bench.runner.row_recorder import Notes

# What is known of a script before it runs, and of collectives.
UNDESCRIBED = Description("samples", 1, (), None, None, None, None, None)
Key = tuple[str, str, str | None, str | None, int | None, bool]


class WorkloadDescriptions:
    """Descriptions by what they depend on. ``seconds`` is how long it took to get them so far."""

    def __init__(
        self, launcher: CaseLauncher, machine: Machine, new_folder: Callable[[], Path], notes: Notes, keep: bool = True
    ) -> None:
        """``new_folder`` makes a folder for what a describing rank writes; ``keep``: its log can be read later."""
        self._keeps_logs = keep
        self._launcher, self._machine, self._new_folder, self._notes = launcher, machine, new_folder, notes
        self._found: dict[Key | tuple[Key, int], Description] = {}  # with the number of ranks if it matters
        self._refused: dict[tuple[str, str], BenchError] = {}  # (workload, env) of invalid workloads
        self.seconds = 0.0

    def complete(self, cases: Iterable[Planned], built_in: bool = True, may_lack: bool = False) -> tuple[Planned, ...]:
        """Return a plan's cases with what only torch knows, those of built-in workloads only if ``built_in`` is set.

        An invalid workload skips its own cases; its BenchError is raised only if no case is left that can run. With
        ``may_lack`` workloads that do not exist are no reason for that.
        """
        planned = joined(self._complete(one) if built_in or one.case.spec.entry is None else one for one in cases)
        refused = [e for e in self._refused.values() if not (may_lack and isinstance(e, MissingWorkloadError))]
        if refused and all(one.skip for one in planned):
            raise refused[0]
        return planned

    @property
    def missing(self) -> dict[str, MissingWorkloadError]:
        """The workloads that do not exist, with the error of each."""
        return {name: e for (name, _), e in self._refused.items() if isinstance(e, MissingWorkloadError)}

    def of(self, case: Case) -> Description:
        """Return what torch knows of the workload with this batch. Raise BenchError if the workload is invalid."""
        if not case.is_workload:
            return UNDESCRIBED
        workload = case.workload, case.env
        if workload in self._refused:
            raise self._refused[workload]
        if found := self._of_ranks(case):
            return found
        found = self._ask(case)
        self._keep(case, found)
        return found

    def _keep(self, case: Case, found: Description) -> None:
        self._found.setdefault(_key(case) if found.world_size is None else (_key(case), case.world_size), found)

    def _of_ranks(self, case: Case) -> Description | None:
        """Return what is known already with this number of ranks."""
        return self._found.get(_key(case)) or self._found.get((_key(case), case.world_size))

    def known(self, case: Case) -> Description | None:
        """Return what is known of the workload: with this batch, or without FLOPs while a batch is searched for."""
        if not case.is_workload:
            return UNDESCRIBED
        if found := self._of_ranks(case):
            return found
        other = self._found.get(_key(dataclasses.replace(case, batch_size=None, auto_batch=True)))
        return other and dataclasses.replace(
            other, flops_per_sample=None, hardware_flops_per_sample=None, flops_note="not counted for this batch size"
        )

    def _complete(self, planned: Planned) -> Planned:
        if planned.skip is not None or not planned.case.is_workload:
            return planned
        case = planned.case
        try:
            description = self.of(case)
            if case.batch_size is None and not case.auto_batch:
                case = dataclasses.replace(case, batch_size=description.batch_size)
                self._keep(case, description)
            planned = plan_case(case, facts(self._machine, planned.samples, description), planned.strong_from)
            if planned.skip is None:
                planned = dataclasses.replace(planned, case=_without_own(planned.case, description))
            if planned.skip is None and planned.case != case:  # its batch is that of strong scaling
                self.of(planned.case)
        except ResultsError:
            raise
        except BenchError as error:
            return dataclasses.replace(planned, skip=str(error), failed=True)
        return planned

    def _ask(self, case: Case) -> Description:
        batches = f", batches of {case.rank_batch}" if case.rank_batch else ""
        self._notes.note(f"describing {case.workload}{batches}")
        began = monotonic()
        try:
            found = self._launcher.describe(case, self._new_folder)
        except ResultsError:
            raise
        except BenchError as error:
            error = error if self._keeps_logs else type(error)(error.message)
            self._refused[case.workload, case.env] = error
            raise error from None
        finally:
            self.seconds += monotonic() - began
        if found.flops_per_sample is None and found.flops_note:
            self._notes.warn(f"FLOPs of {case.workload} stay empty: {found.flops_note}")
        return found


def _without_own(case: Case, description: Description) -> Case:
    """Return the case without the values of axes that the workload decides on."""
    own = {"optimizer": None, "lr_scheduler": None} if description.own_optimizer else {}
    own |= dict.fromkeys(LOADER_AXES) if description.own_loader else {}
    return dataclasses.replace(case, **own)  # type: ignore[arg-type]


def _key(case: Case) -> Key:
    """Return what a description depends on: the workload and all that changes the work of its step."""
    return case.workload, case.env, case.data, case.activation_checkpointing, case.rank_batch, case.auto_batch
