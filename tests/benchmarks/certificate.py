"""Writes docs/certificate.md: how often `bench ab` cries wolf, and what it finds, on machines whose noise is known.

make certificate (python -m tests.benchmarks.certificate)

Nothing is launched: the launches are made up (noise_models.py), or drawn from recorded ones, and judged by the code that
judges real ones. The counts go to results/certificate/simulated.csv, and from there into the page.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from bench.stats.calibration import MEASURED_BLOCKS
from bench.stats.decision import Stages, candidates, decide
from bench.stats.power import Blocks, needed, upper
from bench.stats.trimmed import spread
from bench.stats.verdict import Rules

from .noise_models import MODELS, Recorded, Source, read, recorded
from .rivals import OF_STEPS, RIVALS

ROOT = Path(__file__).parents[2]
PAGE, COUNTS = ROOT / "docs/certificate.md", ROOT / "results/certificate/simulated.csv"
RECORDED = ROOT / "tests/data/aa/launches.csv"
SEED, CASES = 6, 20
NULL_SUITES, SLOWED_SUITES = 300, 200
SLOWDOWN = {"quiet": 0.03, "shared": 0.03, "noisy": 0.05, "recorded": 0.10}  # of throughput, and what is planned for
OURS = "bench ab"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Count:
    """Of one rule on one machine: null suites with an alarm, and slowed suites whose slowed case was found.

    ``first``: mean launches of a case in the first stage; ``gate``: mean launches of a suite in both stages, of null
    suites; ``refused``: cases of all suites that calibrate calls too noisy. None for the rules of others.
    """

    machine: str
    slowdown: float
    rule: str
    null_suites: int
    alarms: int
    slowed_suites: int
    found: int
    first: float | None = None
    gate: float | None = None
    refused: int | None = None


@dataclass(frozen=True)
class Judged:
    """One suite: whose rules alarmed, and what it took. In a slowed suite only what was said of its case 0 counts."""

    alarmed: frozenset[str]
    first: int  # launches of the first stage
    both: int  # and of both
    refused: int  # cases


def measure(source: Source, random: np.random.Generator, blocks: int, slowdown: float = 0.0) -> tuple[Floats, Floats]:
    """Blocks of A B B A or B A A B: the log ratios of throughput, and step times as side x launch x step.

    ``slowdown`` is the share of its throughput that B lacks.
    """
    times = source(random, 4 * blocks).reshape(blocks, 4, -1)
    sides = np.stack([times[:, [0, 3]], times[:, [1, 2]]])
    swapped = random.random(blocks) < 0.5
    sides[:, swapped] = sides[::-1, swapped]
    sides[1] /= 1 - slowdown
    a, b = -np.log(sides.mean(axis=-1)).mean(axis=-1)
    return b - a, sides.reshape(2, 2 * blocks, -1)


def plan(source: Source, random: np.random.Generator, change: float) -> Blocks | None:
    """What `bench calibrate` asks for: enough for the upper bound of the spread that it sees."""
    blocks, _ = measure(source, random, MEASURED_BLOCKS)
    return needed(upper(float(spread(blocks)), MEASURED_BLOCKS), change)


def judge(source: Source, random: np.random.Generator, change: float, slowdown: float = 0.0) -> Judged:
    """One suite from its calibration to its verdicts; every case has noise of its own, and case 0 may be slowed down."""
    sources = {str(case): source.one(random) if isinstance(source, Recorded) else source for case in range(CASES)}
    plans = {case: plan(own, random, change) for case, own in sources.items()}
    asked = {case: blocks for case, blocks in plans.items() if blocks}
    slowed = {case: slowdown if case == "0" else 0.0 for case in asked}
    first = {case: measure(sources[case], random, blocks.first, slowed[case]) for case, blocks in asked.items()}
    again = candidates({case: list(blocks) for case, (blocks, _) in first.items()})
    second = {case: measure(sources[case], random, asked[case].second, slowed[case])[0] for case in again}
    stages = {case: Stages(list(blocks), list(second.get(case, ()))) for case, (blocks, _) in first.items()}
    verdicts = decide(stages, Rules(detect=change))
    counts = {case for case in asked if case == "0" or not slowdown}
    alarmed = {rule for rule in RIVALS if any(RIVALS[rule](*first[case][1]) for case in sorted(counts))}
    if any(verdicts[case].verdict == "slower" for case in counts):
        alarmed.add(OURS)
    launches = 4 * sum(blocks.first for blocks in asked.values())
    return Judged(
        alarmed=frozenset(alarmed),
        first=launches,
        both=launches + 4 * sum(asked[case].second for case in again),
        refused=CASES - len(asked),
    )


def certify(machine: str, source: Source, null_suites: int, slowed_suites: int, seed: int = SEED) -> list[Count]:
    """All rules on one machine. Each suite has a seed of its own, made of ``seed``, the machine and its number."""
    change, place = SLOWDOWN[machine], list(SLOWDOWN).index(machine)
    gc.collect()
    gc.freeze()  # multipletests collects garbage in each call

    def suites(kind: int, count: int, slowdown: float) -> list[Judged]:
        return [
            judge(source, np.random.default_rng([seed, place, kind, suite]), change, slowdown) for suite in range(count)
        ]

    null, slowed = suites(0, null_suites, 0.0), suites(1, slowed_suites, change)
    counts = [
        Count(
            machine,
            change,
            rule,
            null_suites=null_suites,
            alarms=sum(rule in suite.alarmed for suite in null),
            slowed_suites=slowed_suites,
            found=sum(rule in suite.alarmed for suite in slowed),
        )
        for rule in (OURS, *RIVALS)
        if machine in MODELS or rule not in OF_STEPS  # recorded launches come without their steps
    ]
    judged = CASES * null_suites - sum(suite.refused for suite in null)
    counts[0] = dataclasses.replace(
        counts[0],
        first=round(sum(suite.first for suite in null) / judged, 1) if judged else None,
        gate=round(sum(suite.both for suite in null) / null_suites, 1),
        refused=sum(suite.refused for suite in null + slowed),
    )
    return counts


def machines() -> dict[str, Source]:
    """The made-up ones, and the recorded launches where there are some."""
    return {**MODELS, **({"recorded": recorded(read(RECORDED))} if RECORDED.exists() else {})}


def bounds(count: int, of: int) -> tuple[float, float]:
    """Two-sided 95 % bounds of a share (Clopper & Pearson 1934)."""
    found = binomtest(count, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def write(counts: Iterable[Count], path: Path = COUNTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(field.name for field in dataclasses.fields(Count))
        table.writerows(dataclasses.astuple(count) for count in counts)


def stored(path: Path = COUNTS) -> list[Count]:
    def number(text: str) -> float | None:
        return float(text) if text else None

    return [
        Count(
            row["machine"],
            float(row["slowdown"]),
            row["rule"],
            int(row["null_suites"]),
            int(row["alarms"]),
            int(row["slowed_suites"]),
            int(row["found"]),
            first=number(row["first"]),
            gate=number(row["gate"]),
            refused=int(row["refused"]) if row["refused"] else None,
        )
        for row in read(path)
    ]


def main() -> None:
    from .certificate_page import update

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page again, from the counts that are stored")
    parser.add_argument("--machine", action="append", choices=list(SLOWDOWN), help="only this one; repeatable")
    given = parser.parse_args()
    if not given.page:
        chosen = {name: source for name, source in machines().items() if name in (given.machine or SLOWDOWN)}
        kept: Sequence[Count] = stored() if given.machine and COUNTS.exists() else ()
        fresh = [c for name, source in chosen.items() for c in certify(name, source, NULL_SUITES, SLOWED_SUITES)]
        counts = [*(count for count in kept if count.machine not in chosen), *fresh]
        write(sorted(counts, key=lambda count: list(SLOWDOWN).index(count.machine)))
    PAGE.write_text(update(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "", stored()), encoding="utf-8")


if __name__ == "__main__":
    main()
