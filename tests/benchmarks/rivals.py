"""How others tell that B is slower than A, on the same launches: the rules that the certificate compares ours with.

Each takes the step times of both sides, launches x steps in the order in which they ran, and says whether it alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
SHARE, LEVEL = 0.05, 0.05


def single_run(a: Floats, b: Floats) -> bool:
    """One launch of each side, 5 % apart: the threshold that most gates are."""
    return bool(b[0].mean() > (1 + SHARE) * a[0].mean())


def mean_of_all(a: Floats, b: Floats) -> bool:
    """``pytest-benchmark --benchmark-compare-fail=mean:5%``: the means of all rounds, 5 % apart."""
    return bool(b.mean() > (1 + SHARE) * a.mean())


def pooled_t(a: Floats, b: Floats) -> bool:
    """Welch's t-test over the steps of all launches, as if each were a measurement of its own; two-sided p < 0.05."""
    return bool(stats.ttest_ind(b.ravel(), a.ravel(), equal_var=False).pvalue < LEVEL and b.mean() > a.mean())


def pooled_ranks(a: Floats, b: Floats) -> bool:
    """Mann-Whitney's U over the steps of all launches (google/benchmark's compare.py); two-sided p < 0.05."""
    found = stats.mannwhitneyu(b.ravel(), a.ravel(), method="asymptotic")
    return bool(found.pvalue < LEVEL and found.statistic > a.size * b.size / 2)


RIVALS: Mapping[str, Callable[[Floats, Floats], bool]] = {
    "a fixed 5 % on single runs": single_run,
    "pytest-benchmark `mean:5%`": mean_of_all,
    "Welch's t over all steps, p < 0.05": pooled_t,
    "Mann–Whitney over all steps, p < 0.05": pooled_ranks,
}
OF_STEPS = frozenset(list(RIVALS)[2:])  # those that need the steps of a launch
