"""The simulated half of docs/certificate.md, as text made of counts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.stats.power import CANDIDATES, CERTAINTY, FIRST_LEVEL, LEVEL, POWER
from bench.stats.verdict import Rules

from .certificate import CASES, MEASURED_BLOCKS, OURS, SEED, Count, bounds
from .noise_models import MODELS, STEP_SPIKES, STEPS

BEGIN, END = "<!-- simulated: begin -->", "<!-- simulated: end -->"
FRAME = f"""# Certificate

How often `bench ab` says `slower` where nothing changed, and how often it finds a change that is there.

{BEGIN}
{END}

<!-- measured: begin -->
<!-- measured: end -->
"""
GOAL_ALARMS, GOAL_FOUND = 0.01, 0.95

TEXT = """## On machines whose noise is known

Nothing was launched for this half: `make certificate` (`python -m tests.benchmarks.certificate`, seed {seed}) makes up
the launches, and the code that judges real ones judges them. Every suite has {cases} cases and goes the whole way:
{calibrated} blocks of each case against itself, as `bench calibrate` takes; as many blocks in both stages as it then
asks for to find the slowdown; fresh blocks for the candidates of the first stage; verdicts. A block is four launches
(A B B A or B A A B) of {steps} steps.

Goals: at most {goal_alarms:.0%} of the suites without a change alarm, and at least {goal_found:.0%} of the slowdowns are found.

{table}

- **alarms**: suites without any change in which at least one of {cases} cases was called slower, with two-sided 95 %
  bounds (Clopper–Pearson).
- **found**: suites of which one case has that much less throughput on B, and was called slower.
- **launches, a case**: of both sides in the first stage, in the mean. **launches, a suite**: of {cases} cases in both
  stages, in the mean of suites without a change. {measured} more a case are what `bench calibrate` takes, once a machine.
- Rules of others judge the launches of our first stage, so they have as many as ours, but for those of the second stage
  (`a fixed 5 % on single runs` takes the first launch of each side). None of them corrects for the number of cases, and
  a threshold of 5 % is not made to find 3 %: what it shows here is what it lets through.
- What is left out: a gate's control pair, which leaves one gate of a hundred undecided where nothing is wrong. And the
  test, its trimming and the number of candidates were chosen for their rates under the first three of these machines.
{refused}
What the launches are made of, as standard deviations:

| machine | launch | drift | step | slow launches | trend in 100 launches |
|---|---|---|---|---|---|
{models}

`launch`, `drift` and `step` are assumptions about such machines, and no
measurements. The drift keeps nine tenths of itself from launch to launch; steps are autocorrelated by 0.3 (quiet) or 0.5,
and {spikes:.0%} of them take 5 to 20 of their standard deviations longer. A slow launch is 1.1 to 3 times slower as a whole.
{recorded}
Decided with: first stage {first:.0%} one-sided, second {level:.1%} over its candidates (Holm), a floor of {floor:.0%}; planned for
{candidates} candidates, a power of {power:.1%} a stage, and a spread that is not exceeded with a certainty of {certainty:.0%}."""

RECORDED = """
`recorded` is drawn from launches of this project against themselves (`tests/data/aa/launches.csv`), three consecutive blocks
at a time; its steps were not kept, so that rules of steps cannot judge it. It is a machine whose host others used as well,
and so noisy that no number of launches finds 3 % on it: it is asked for what it can find.
"""


def update(page: str, counts: Sequence[Count]) -> str:
    """The page with this half made anew; all that lies outside its markers stays."""
    page = page or FRAME
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section(counts)}\n{END}{after}"


def section(counts: Sequence[Count]) -> str:
    refused = ", ".join(f"{count.refused} of `{count.machine}`" for count in counts if count.refused)
    said = f"- Cases that were refused: {refused}. Their calibration met so many slow launches that no number of blocks would do.\n"
    return TEXT.format(
        seed=SEED,
        cases=CASES,
        calibrated=MEASURED_BLOCKS,
        measured=4 * MEASURED_BLOCKS,
        steps=STEPS,
        goal_alarms=GOAL_ALARMS,
        goal_found=GOAL_FOUND,
        table=table(counts),
        refused=said if refused else "",
        models="\n".join(
            f"| {name} | {n.run:.1%} | {n.drift:.1%} | {n.within:.0%} | {n.spikes:.1%} | {n.trend:.0%} |"
            for name, n in MODELS.items()
        ),
        spikes=STEP_SPIKES,
        recorded=RECORDED if any(count.machine == "recorded" for count in counts) else "",
        first=FIRST_LEVEL,
        level=LEVEL,
        floor=Rules().floor,
        candidates=CANDIDATES,
        power=POWER,
        certainty=CERTAINTY,
    )


def table(counts: Sequence[Count]) -> str:
    lines = [
        "| machine | slowdown | rule | alarms | found | launches, a case | launches, a suite |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in counts:
        rule = f"**`{OURS}`**" if one.rule == OURS else one.rule
        took = [f"{value:,.0f}" if value else "" for value in (one.first, one.gate)]
        cells = [one.machine, f"{one.slowdown:.0%}", rule, _share(one.alarms, one.null_suites)]
        lines.append("| " + " | ".join([*cells, _share(one.found, one.slowed_suites), *took]) + " |")
    return "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def _share(count: int, of: int) -> str:
    low, high = bounds(count, of)
    return f"{count} of {of}: {count / of:.1%} ({low:.1%}–{high:.1%})"
