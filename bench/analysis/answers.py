"""All that is asked of the launches of some runs, answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bench.analysis.codes import with_codes
from bench.analysis.environments import with_environments
from bench.analysis.failures import failures
from bench.analysis.frames import current
from bench.analysis.noise import noise
from bench.analysis.scaling import scaling
from bench.analysis.summary import summarise
from bench.analysis.tradeoff import tradeoff, with_memory
from bench.analysis.tuning import tuning


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


def answer(launches: pd.DataFrame, steps: pd.DataFrame, within_gib: Iterable[float] = ()) -> Answers:
    """From LAUNCHES rows and their steps, of any number of runs. Probes and controls enter nothing but ``launches``."""
    counted = with_codes(with_environments(current(launches)))
    summary = with_memory(summarise(counted))
    return Answers(
        launches=counted,
        summary=summary,
        scaling=scaling(summary, counted),
        tradeoff=tradeoff(summary, counted, within_gib),
        tuning=tuning(summary, counted),
        failures=failures(counted),
        noise=noise(counted, steps),
    )
