"""Descriptions of a user's workloads for a plan that is only shown: no run's folder is made."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path

from bench.machine import environment
from bench.machine.gpus import Machine
from bench.plan.plan import Plan
from bench.runner.launch_case import CaseLauncher
from bench.runner.row_recorder import Notes
from bench.runner.workload_descriptions import WorkloadDescriptions


def described(plan: Plan, machine: Machine, notes: Notes) -> tuple[Plan, dict[str, int]]:
    """Return the plan with the batch sizes of the user's workloads, and their numbers of parameters by case_id.

    One rank builds each workload, as at the beginning of a run; a plan of built-in workloads starts no process.
    BenchError if no case is left that can run.
    """
    own = [one.case for one in plan.cases if one.skip is None and one.case.spec.entry is None]
    if not any(case.is_workload for case in own):
        return plan, {}
    with tempfile.TemporaryDirectory(prefix="bench-dry-run-") as scratch:
        folders = (Path(scratch) / f"describe-{number}" for number in itertools.count())

        def new_folder() -> Path:
            folder = next(folders)
            folder.mkdir()
            return folder

        launcher = CaseLauncher(
            *(machine, environment.rank_environment(), Path(scratch) / "launcher.log", plan.protocol),
            notes.warn,
            lambda beat: None,
        )
        try:
            workloads = WorkloadDescriptions(launcher, machine, new_folder, notes, keep=False)
            cases = workloads.complete(plan.cases, built_in=False)
        finally:
            launcher.close()
    known = {planned.case.case_id: workloads.known(planned.case) for planned in cases}
    parameters = {case_id: found.parameters for case_id, found in known.items() if found and found.parameters}
    return dataclasses.replace(plan, cases=cases), parameters
