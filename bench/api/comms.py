"""The request of ``bench comms``, from its options, and the answers of its runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plan.comms import OPTIONS, SETTINGS, comms_workload
from bench.plan.make_case import FROM_OUTSIDE
from bench.plan.plan import Asked, asked
from bench.store.columns import LaunchRow
from bench.store.reader import read

if TYPE_CHECKING:
    from bench.analysis.comms import CommsAnswers


def comms_request(given: Mapping[str, Any], base: Asked | None = None) -> Asked:
    """Return the request of options, on top of ``base``, such as an earlier run's; UsageError for what is not allowed.

    ``given`` has the options of the tables of ``bench.plan.comms``, axes that work from outside, and settings.
    """
    known = {name: value for name, value in given.items() if value is not None}
    options = {name: known[name] for name in OPTIONS if name in known}
    axes = {name: _listed(known[name]) for name in FROM_OUTSIDE if name in known}
    if options or base is None:
        axes["workload"] = [comms_workload(options)]
    settings = {name: known[name] for name in SETTINGS if name in known}
    return asked(axes, settings, base, oversubscribe=bool(known.get("oversubscribe", False)))


def comms_answers_of(folders: Iterable[Path], rows: Sequence[LaunchRow], warn: Callable[[str], None]) -> CommsAnswers:
    """Return the answers about the collectives of some runs; ``rows`` are the launches of all."""
    from bench.analysis.comms import comms_answers
    from bench.analysis.frames import launches
    from bench.store.code_versions import with_codes
    from bench.store.counting_rows import counted
    from bench.store.environments import with_environments

    return comms_answers(with_codes(with_environments(launches(counted(rows)))), comms_rows(folders, warn))


def comms_rows(folders: Iterable[Path], warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the rows of comms.csv of some runs; none of a run without such a file. ResultsError if one is damaged."""
    files = [folder / "comms.csv" for folder in folders]
    return [row for file in files if os.path.lexists(file) for row in read(file, warn)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
