"""The part of docs/certificate.md on the statistics of reports and comparisons, as text made of counts."""

from __future__ import annotations

from collections.abc import Sequence

from .launch_noise import LAUNCHES
from .statistics_rates import DRIFT, SEED, Rate

BEGIN, END = "<!-- statistics: begin -->", "<!-- statistics: end -->"

TEXT = """## Intervals, the best of several, `same` and `detectable`

Nothing was launched for this part either: `python -m tests.benchmarks.statistics_rates` (seed {seed}) draws the logs of
throughput, and the functions that judge real launches judge them. Launches are

{noises}

**One estimator.** A report's figure is the median over launches, and its interval, its whisker and its ratios to other
cases are of that median. Means were no choice: one launch in fifty that is off by 200 % ruins them, and of skewed or
two-speed launches Student's t on the logs holds the mean in 48 to 92 % where 95 are promised.

### The interval of a figure

How many percent of the intervals hold the median of the noise; 95 are promised.

{coverage}

By order statistics: for six launches or more the outer two hold the median 95 times of 100 whatever the noise is, and
what lies between them and the next ones is interpolated. For five the smallest and the largest hold it 93.75 times of 100
whatever the noise; for two to four they cannot (50, 75 and 87.5), so that the interval reaches beyond them by a share of
their range, chosen for normal noise.

What cannot be held: of three launches on a machine with two speeds of equal frequency, all three are of one speed once in
four times, and nothing in them tells that there is another. An interval that holds a middle between the two then has to be
wider than their distance, which is not known; so no procedure holds more than 75 % there without being as wide on machines
that have one speed. With shares p and 1 - p, n launches miss at least p^n + (1 - p)^n of a middle between, and at least the
smaller of both of a figure that is one of the two speeds: 2.7 % for n = 3 and p = 0.3. For five launches it is 6.25 % at
most. Ten of equal shares hold 97.9 %, as their interval crosses the gap whenever it may.

### Slower than the fastest

How many percent of reports on K equal cases call any of them slower than the fastest; at most 5 are promised. `unpaired`
launches are of other runs; `paired` ones share rounds whose machine drifts by {drift:.0%}.

{best}

A case is told from the fastest where both intervals say so: that of the two cases alone, and Tukey's for all pairs of the
question, with Bonferroni's t for the studentised range and the variance of trimmed launches pooled over its cases. It is
asked for 2.5 % and not for 5: of three cases with three launches on a machine with two speeds of equal frequency it would
be 7. One question is one family: a report on several workloads has as many. Where one of 20 cases is five times as noisy
as the others, up to 8 % of reports were seen to call one slower: the pooled variance is then too small for it. And where
one launch of three is off by a factor, the pooled variance hides what the others could tell; of five or more it is trimmed.

### A comparison without a change

How many percent of `bench compare`'s cases without a change differ, either way, at the level of one case (1 %), floor aside;
by the number of shared rounds.

{alarms}

Of fewer than eight rounds Student's t must agree with the trimmed t, which alone alarms in 3.3 % for five rounds of two
speeds. Normal noise is seen to differ in up to 1.5 %: the trimmed t is not exact. All cases of a comparison, paired and
unpaired, are one family (Holm).

### `same`

How many percent of gates say `same` where B is slower by just as much as is to be detected (3 %), by the blocks of both
stages; 5 are promised. The worst of deviations from a tenth to two and a half times of those above.

{same}

The trimmed t and the sign test must both show it: the first alone says `same` in up to 11 %, as a gate looks twice.

### What could be detected

A machine is seen in the blocks of a second stage without a change, and a slowdown is called detectable; how many percent
of gates with that slowdown find it. At least 95 are promised, but for few blocks on a machine of two speeds. In brackets,
for normal noise: what is found on the tenth percentile of machines, as they were seen.

{detectable}

The upper bound of the spread (95 %) is planned with, as `bench calibrate` does. The spread itself would promise too much:
84 % on average for 5/10 blocks, and 55 % in the tenth percentile. What remains: where one launch in five is slow, ten blocks
may hardly show it, as the farthest of them are trimmed; then about 80 % is found by 5/10 blocks and 90 % by 8/16."""


def update(page: str, rates: Sequence[Rate]) -> str:
    """The page with this part made anew; all that lies outside its markers stays. A page without one gets it last."""
    page = page if BEGIN in page else f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section(rates)}\n{END}{after}"


def section(rates: Sequence[Rate]) -> str:
    tables = {
        name: _table([rate for rate in rates if rate.table == name]) for name in dict.fromkeys(r.table for r in rates)
    }
    noises = "\n".join(f"- **{name}**: {noise.words}" for name, noise in LAUNCHES.items())
    return TEXT.format(seed=SEED, drift=DRIFT, noises=noises, **tables)


def _table(rates: Sequence[Rate]) -> str:
    """A row a size and a column a noise, in percent."""
    noises = list(dict.fromkeys(rate.noise for rate in rates))
    cells = {(rate.size, rate.noise): _percent(rate) for rate in rates}
    lines = [f"| | {' | '.join(noises)} |", "|---|" + "--:|" * len(noises)]
    lines += [
        f"| {size} | {' | '.join(cells[size, noise] for noise in noises)} |"
        for size in dict.fromkeys(rate.size for rate in rates)
    ]
    return f"Of {rates[0].of:,} each:\n\n" + "\n".join(lines)


def _percent(rate: Rate) -> str:
    tenth = "" if rate.tenth is None else f" ({100 * rate.tenth:.1f})"
    return f"{100 * rate.count / rate.of:.1f}{tenth}"
