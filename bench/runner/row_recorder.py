"""Makes the rows of a run, writes them, and notifies its observer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.machine import environment
from bench.plan import comms
from bench.plan.case import Case
from bench.plan.data_files import absolute_data
from bench.plan.description import Description
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import Protocol as Settings
from bench.plan.plan import command
from bench.plan.work_key import work_key
from bench.runner.launched import Launched
from bench.runner.machine_survey import Survey
from bench.store.columns import OF_THE_LAUNCH, SCHEMA, LaunchRow, Row
from bench.store.env_key import env_key
from bench.store.writer import Store
from bench.untrusted.text import legible
from workloads.data import paths


class Observer(Protocol):
    """Watches a run; ``bench.report.progress`` has the ones that print."""

    def note(self, message: str) -> None:
        """Show a line."""
        ...

    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Show that a launch begins: the ``number``-th ``of`` all, or of more."""
        ...

    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None:
        """Show how far a launch is."""
        ...

    def launch_ends(self, row: LaunchRow) -> None:
        """Show how a launch ended."""
        ...


@dataclass(frozen=True)
class Notes:
    """Lines for the observer."""

    observer: Observer

    def note(self, message: str) -> None:
        """Show a line."""
        self.observer.note(message)

    def warn(self, message: str) -> None:
        """Show a warning."""
        self.observer.note(f"warning: {message}")


@dataclass
class RunFacts:
    """Facts that are the same for all launches of a session.

    ``variables`` is the ranks' environment, ``host`` has the columns of this host, ``session`` says how often the run
    was resumed, ``despite`` what had changed by then. ``repeatable`` says that a command line on this machine gives the
    same cases.
    """

    survey: Survey
    variables: Mapping[str, str]
    host: Row
    session: int = 0
    despite: str = ""
    repeatable: bool = True
    searches: dict[Case, str] = field(default_factory=dict)  # for a batch size: the tries


class Recorder:
    """The rows of a run, ``rows``, with those of earlier sessions first. Each is written at once."""

    def __init__(self, store: Store, observer: Observer, facts: RunFacts, rows: list[LaunchRow]) -> None:
        self.store, self.observer, self.facts, self.rows = store, observer, facts, rows

    def blank(self, case: Case, protocol: Settings, description: Description | None, **known: Any) -> Row:
        """Return all that is known of a launch before it starts; ``known`` has columns that the caller knows."""
        facts = self.facts
        settings = {**facts.variables, **case.environment, "OMP_NUM_THREADS": str(case.omp_num_threads)}
        parameters = description.parameters if description else None
        warnings = [*facts.survey.warnings, *facts.survey.of_case(case, parameters)]
        return {
            "schema": SCHEMA,
            "run_id": self.store.run_id,
            "case_id": case.case_id,
            "role": "measure",
            "session": facts.session,
            "resumed_despite": facts.despite or None,
            **{name: getattr(case, name) for name in AXES},
            **{name: getattr(protocol, name) for name in SETTINGS if not case.is_comms or name in comms.SETTINGS},
            "oversubscribe": case.oversubscribe,
            "world_size": case.world_size,
            "global_batch": case.global_batch,
            "batch_search": facts.searches.get(case),
            "machine_warnings": "; ".join(warnings) or None,
            "parameters": description.parameters if description else None,
            "tokens_per_sample": description.tokens_per_sample if description else None,
            "work_key": work_key_of(case),
            **facts.host,
            "settings": environment.settings(settings, always=case.environment),
            "command": command(case, protocol) if facts.repeatable else None,
            **known,
        }

    def record(self, row: Row, launched: Launched | None = None) -> LaunchRow:
        """Write a launch. Its row comes last, so that a launch with a row is complete."""
        if row.get("torch"):  # else no rank came far enough to report what it runs on
            row["env_key"] = env_key(row)
        complete = LaunchRow.of(legible(row))
        self.rows.append(complete)
        known = complete.columns()
        for name, rows in (launched.others if launched else {}).items():
            repeated = OF_THE_LAUNCH if name == "comms.csv" else ("run_id", "launch_id")
            self.store.append(name, [{**{column: known[column] for column in repeated}, **one} for one in rows])
        self.store.append("launches.csv", [complete.columns()])
        self.observer.launch_ends(complete)
        return complete


def work_key_of(case: Case) -> str:
    """Return the work_key of a case with its present data."""
    return work_key(case, paths.fingerprint(absolute_data(case.data)) if case.data else "")
