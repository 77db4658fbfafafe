"""Machines that are made up: launches of one case whose noise is known, for the certificate of the verdicts.

A source gives the launches of a case in the order in which they ran, as step times relative to an undisturbed step. The
parameters of MODELS are assumptions, not measurements of a machine; ``recorded`` stands beside them, which draws from
launches that were measured.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

STEPS = 30  # a launch, the default of --steps
STRETCH = 3  # recorded blocks that stay together when they are drawn

Floats = NDArray[np.float64]
Source = Callable[[np.random.Generator, int], Floats]  # how many launches -> times, a row for each launch


@dataclass(frozen=True)
class Noise:
    """One machine's noise: standard deviations of logarithms, so that 0.01 is 1 %.

    ``run`` is between launches, ``drift`` between sessions, ``within`` between a launch's steps, and ``keeps_steps`` what
    a step keeps of the one before; a step in a hundred is a spike. They are assumptions about such machines.

    - ``keeps``: what a session adds drifts from launch to launch and keeps nine tenths of itself, so that a block's four
      launches do not share all of it: harsher than one number a block.
    - ``trend``: the machine gets slower, evenly. By 1-2 % over a day in the training of Llama 3, here over a hundred
      launches of one case; twice that for ``noisy``.
    - ``spikes``: the share of launches that are slower as a whole, 1.1 to 3 times, evenly in logarithms. GPUs of one kind
      were seen 1.5 times slower (Sinha et al., SC'22), and single ratios of 0.5 to 1.5 on hosted runners (Quansight
      2021).
    - ``STEP_SPIKE``: how much longer a spiked step takes, in ``within``.
    """

    run: float
    drift: float
    within: float
    keeps_steps: float
    spikes: float
    trend: float  # a hundred launches
    keeps: float = 0.9

    def __call__(self, random: np.random.Generator, launches: int) -> Floats:
        """Times of steps, launches x STEPS; 1 is an undisturbed step."""
        level = self.run * random.standard_normal(launches) + self.drift * _kept(random, launches, self.keeps)
        level += self.trend / 100 * np.arange(launches)
        slower = random.uniform(*LAUNCH_SPIKE, launches)
        level += np.where(random.random(launches) < self.spikes, slower, 0)
        times: Floats = np.exp(level[:, None] + self.within * _kept(random, (launches, STEPS), self.keeps_steps))
        spiked = random.random((launches, STEPS)) < STEP_SPIKES
        times[spiked] *= 1 + self.within * random.uniform(*STEP_SPIKE, spiked.sum())
        return times


STEP_SPIKES = 0.01  # of the steps
STEP_SPIKE = (5.0, 20.0)
LAUNCH_SPIKE = (math.log(1.1), math.log(3))
MODELS: Mapping[str, Noise] = {
    "quiet": Noise(run=0.003, drift=0.002, within=0.01, keeps_steps=0.3, spikes=0.005, trend=0.01),
    "shared": Noise(run=0.01, drift=0.01, within=0.02, keeps_steps=0.5, spikes=0.01, trend=0.02),
    "noisy": Noise(run=0.03, drift=0.05, within=0.05, keeps_steps=0.5, spikes=0.02, trend=0.04),
}


@dataclass(frozen=True)
class Recorded:
    """Launches drawn from measured ones of some cases against themselves, each as blocks x 4 relative times.

    Each call draws one of the cases, then stretches of STRETCH consecutive blocks of four launches, whole, so that what
    neighbours have in common stays. In half of the stretches the sides of each block change places (a b b a becomes
    b a a b): otherwise what the recorded blocks happen to average would be a change, the same one in all that is drawn.
    The result has one column: a launch is one step.
    """

    cases: Sequence[Floats]

    def one(self, random: np.random.Generator) -> Recorded:
        """One of the cases, for all that is drawn from it."""
        return Recorded([self.cases[random.integers(len(self.cases))]])

    def __call__(self, random: np.random.Generator, launches: int) -> Floats:
        blocks = self.cases[random.integers(len(self.cases))]
        stretches = -(-launches // (4 * STRETCH))
        starts = random.integers(len(blocks) - STRETCH + 1, size=stretches)
        drawn = blocks[starts[:, None] + np.arange(STRETCH)]
        swapped = random.random(stretches) < 0.5
        drawn[swapped] = drawn[swapped][..., [1, 0, 3, 2]]
        return np.asarray(drawn.reshape(-1, 1)[:launches])


def recorded(rows: Iterable[Mapping[str, str]]) -> Recorded:
    """From rows with the columns ``case_id order block samples_per_s``: the cases with STRETCH blocks or more."""
    cases = [blocks for blocks in _blocks(rows).values() if len(blocks) >= STRETCH]
    if not cases:
        raise ValueError(f"no case has {STRETCH} blocks of four launches")
    return Recorded(cases)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _blocks(rows: Iterable[Mapping[str, str]]) -> dict[str, Floats]:
    """By case: relative times in order, blocks x 4; blocks of another size are left out."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: int(row["order"])):
        found[row["case_id"]][row["block"]].append(1 / float(row["samples_per_s"]))
    whole = {case: [block for block in blocks.values() if len(block) == 4] for case, blocks in found.items()}
    return {case: np.array(blocks) / np.median(blocks) for case, blocks in whole.items() if blocks}


def _kept(random: np.random.Generator, shape: int | tuple[int, ...], keeps: float) -> Floats:
    """Standard normal along the last axis, each keeping this share of the one before it (stationary AR(1))."""
    fresh = random.standard_normal(shape)
    fresh[..., 1:] *= math.sqrt(1 - keeps**2)
    return np.asarray(lfilter([1.0], [1.0, -keeps], fresh, axis=-1))
