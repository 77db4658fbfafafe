"""The answers to all questions about the launches of some runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.comms import is_comms
from bench.analysis.failures import failures
from bench.analysis.frames import launches
from bench.analysis.scaling import scaling
from bench.analysis.slow_ranks import slow_ranks
from bench.analysis.step_noise import noise
from bench.analysis.summary import summarise
from bench.analysis.tradeoff import tradeoff, with_memory
from bench.analysis.tuning import tuning
from bench.store.code_versions import with_codes
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted
from bench.store.environments import with_environments


@dataclass(frozen=True)
class Answers:
    """One tidy frame for each question; the function of the same name documents its columns.

    ``launches`` has the rows that count (the last of launches that were repeated), with their ``environment`` and
    ``code``.
    """

    launches: pd.DataFrame
    summary: pd.DataFrame
    scaling: pd.DataFrame
    tradeoff: pd.DataFrame
    tuning: pd.DataFrame
    failures: pd.DataFrame
    noise: pd.DataFrame
    slow_ranks: pd.DataFrame


def answer(
    rows: Sequence[LaunchRow],
    steps: pd.DataFrame,
    within_gib: Iterable[float] = (),
    ranks: Sequence[Mapping[str, Any]] = (),
) -> Answers:
    """Answer all questions from the rows, steps and rows of ranks.csv of any number of runs.

    Probes, controls and launches of collectives appear in ``launches`` only.
    """
    found = with_codes(with_environments(launches(counted(rows))))
    trained = found[~is_comms(found)]
    summary = with_memory(summarise(trained))
    return Answers(
        launches=found,
        summary=summary,
        scaling=scaling(summary, trained),
        tradeoff=tradeoff(summary, trained, within_gib),
        tuning=tuning(summary, trained),
        failures=failures(trained),
        noise=noise(trained, steps),
        slow_ranks=slow_ranks(trained, ranks),
    )
