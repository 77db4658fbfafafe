"""All that is asked of the launches of some runs, answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.failures import failures
from bench.analysis.frames import launches
from bench.analysis.scaling import scaling
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
    """One tidy frame a question; the function of each name says what is in it. ``launches`` are the rows that count:
    of launches that were made again the last, with their ``environment`` and ``code``."""

    launches: pd.DataFrame
    summary: pd.DataFrame
    scaling: pd.DataFrame
    tradeoff: pd.DataFrame
    tuning: pd.DataFrame
    failures: pd.DataFrame
    noise: pd.DataFrame


def answer(rows: Sequence[LaunchRow], steps: pd.DataFrame, within_gib: Iterable[float] = ()) -> Answers:
    """From the rows of any number of runs and their steps. Probes and controls enter nothing but ``launches``."""
    found = with_codes(with_environments(launches(counted(rows))))
    summary = with_memory(summarise(found))
    return Answers(
        launches=found,
        summary=summary,
        scaling=scaling(summary, found),
        tradeoff=tradeoff(summary, found, within_gib),
        tuning=tuning(summary, found),
        failures=failures(found),
        noise=noise(found, steps),
    )
