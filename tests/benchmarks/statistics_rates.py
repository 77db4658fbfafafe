"""How often the statistics are right where the truth is known: intervals, the best of several, `same`, `detectable`.

Part of make certificate (python -m tests.benchmarks.statistics_rates). The counts go to
results/certificate/statistics.csv, and from there into docs/certificate.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.stats.best_of import bounds
from bench.stats.decision import Stages, candidates, decide, p_of
from bench.stats.intervals import exp, of_median_log, of_ratio
from bench.stats.power import CANDIDATES, FIRST_LEVEL, LEVEL, Blocks, detectable, power, upper
from bench.stats.trimmed import spread
from bench.stats.verdict import Rules

from .launch_noise import LAUNCHES, SPREAD, LaunchNoise

ROOT = Path(__file__).parents[2]
PAGE, COUNTS = ROOT / "docs/certificate.md", ROOT / "results/certificate/statistics.csv"
SEED = 14
REPEATS = {"coverage": 10_000, "best": 1000, "alarms": 5000, "same": 300, "detectable": 400}
SIZES = {"coverage": (3, 5, 10, 20), "alarms": (5, 6, 8, 10, 20)}
CASES, OF_THE_BEST = (2, 3, 8, 20), (3, 5, 10)
GATES = (Blocks(5, 10), Blocks(8, 16), Blocks(16, 32))
SCALES = (0.1, 0.3, 0.5, 1.0, 1.5, 2.5)  # of the noise, where a machine's own is not what matters
DRIFT = 0.03  # what launches of one block have in common


@dataclass(frozen=True)
class Rate:
    """``count`` of ``of``: intervals that hold the median, reports that call an equal case slower, comparisons without a
    change that are called one, gates that say `same` of what is to be detected, or found slowdowns. ``tenth``: what is
    found in the tenth percentile of machines as they were seen, where that is known."""

    table: str
    noise: str
    size: str
    count: int
    of: int
    tenth: float | None = None


def coverage(noise: LaunchNoise, n: int, repeats: int, random: np.random.Generator) -> int:
    """Of so many cases with ``n`` launches, those whose interval holds the median of their noise."""
    found = (of_median_log(list(logs)) for logs in noise.draw(random, (repeats, n)))
    return sum(low <= noise.median <= high for low, high in found)


def slower_than_best(
    noise: LaunchNoise, cases: int, n: int, paired: bool, repeats: int, random: np.random.Generator
) -> int:
    """Of so many reports of equal cases, those that call any slower than the fastest."""
    logs = noise.draw(random, (repeats, cases, n))
    if paired:
        logs = logs + DRIFT * random.standard_normal((repeats, 1, n))
    return sum(_calls_any_slower(report, paired) for report in logs)


def _calls_any_slower(report: Sequence[Sequence[float]], paired: bool) -> bool:
    """As ``rates.losses`` puts both intervals together; launches of other runs share no blocks."""
    runs = [{(0 if paired else case, block): log for block, log in enumerate(logs)} for case, logs in enumerate(report)]
    best = int(np.median(np.asarray(report), axis=-1).argmax())
    wider = bounds(runs, best) if len(runs) > 2 else [(0.0, -1.0)] * len(runs)
    speeds = [{block: exp(log) for block, log in run.items()} for run in runs]
    return any(
        max(of_ratio(speeds[case], speeds[best])[1], exp(wider[case][1])) < 1
        for case in range(len(runs))
        if case != best
    )


def alarms(noise: LaunchNoise, rounds: int, repeats: int, random: np.random.Generator) -> int:
    """Of so many comparisons of one case with itself, those in which it differs, be it by less than the floor."""
    a, b = noise.draw(random, (2, repeats, rounds))
    return sum(p_of(list(ratios)) <= LEVEL for ratios in b - a)


def wrongly_same(noise: LaunchNoise, blocks: Blocks, scale: float, repeats: int, random: np.random.Generator) -> int:
    """Of so many gates with a slowdown as large as is to be detected, those that say `same`."""
    rules = Rules()
    verdicts = (_gate(noise, blocks, scale, rules.detect, rules, random) for _ in range(repeats))
    return sum(verdict == "same" for verdict in verdicts)


def _gate(
    noise: LaunchNoise, blocks: Blocks, scale: float, slowdown: float, rules: Rules, random: np.random.Generator
) -> str:
    """The verdict on one case whose B is slower: both stages, blocks of A B B A."""
    first = _blocks(noise, blocks.first, scale, slowdown, random)
    second = _blocks(noise, blocks.second, scale, slowdown, random) if candidates({"a": first}) else []
    return decide({"a": Stages(first, second)}, rules)["a"].verdict


def _blocks(noise: LaunchNoise, count: int, scale: float, slowdown: float, random: np.random.Generator) -> list[float]:
    a, b = scale * noise.draw(random, (2, count, 2)).mean(axis=-1)
    return list(b - a + np.log1p(-slowdown))


def found(noise: LaunchNoise, blocks: Blocks, repeats: int, random: np.random.Generator) -> tuple[int, float | None]:
    """Of so many machines that a gate has seen, those on which the slowdown that it calls detectable is found by the next;
    and the chance of that in the tenth percentile of machines, which is known of normal noise."""
    hits, chances = 0, []
    for _ in range(repeats):
        seen = _blocks(noise, blocks.second, 1.0, 0.0, random)
        change = detectable(upper(float(spread(seen)), blocks.second), blocks)
        hits += _gate(noise, blocks, 1.0, change, Rules(floor=1e-9, detect=0.9), random) == "slower"
        if noise is LAUNCHES["normal"]:
            stages = zip(blocks, (FIRST_LEVEL, LEVEL / CANDIDATES), strict=True)
            chances.append(float(np.prod([power(count, SPREAD, change, level) for count, level in stages])))
    return hits, round(float(np.quantile(chances, 0.1)), 4) if chances else None


def certify(name: str, share: float = 1.0) -> list[Rate]:
    """All tables of one noise, each cell with a seed of its own; ``share`` of the repeats."""
    times = {table: max(round(count * share), 20) for table, count in REPEATS.items()}
    noise, place = LAUNCHES[name], list(LAUNCHES).index(name)

    def seeded(table: int, *cell: int) -> np.random.Generator:
        return np.random.default_rng([SEED, place, table, *cell])

    def rate(table: str, size: object, count: int, tenth: float | None = None) -> Rate:
        return Rate(table, name, str(size), count, times[table], tenth)

    rates = [rate("coverage", n, coverage(noise, n, times["coverage"], seeded(0, n))) for n in SIZES["coverage"]]
    for cases, n, paired in itertools.product(CASES, OF_THE_BEST, (False, True)):
        count = slower_than_best(noise, cases, n, paired, times["best"], seeded(1, cases, n, paired))
        rates.append(rate("best", f"{'paired' if paired else 'unpaired'} {cases} × {n}", count))
    rates += [rate("alarms", n, alarms(noise, n, times["alarms"], seeded(2, n))) for n in SIZES["alarms"]]
    for blocks in GATES:
        size = f"{blocks.first}/{blocks.second}"
        each = [
            wrongly_same(noise, blocks, scale, times["same"], seeded(3, blocks.first, round(100 * scale)))
            for scale in SCALES
        ]
        rates.append(rate("same", size, max(each)))
        rates.append(rate("detectable", size, *found(noise, blocks, times["detectable"], seeded(4, blocks.first))))
    return rates


def write(rates: Iterable[Rate], path: Path = COUNTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(field.name for field in dataclasses.fields(Rate))
        table.writerows(dataclasses.astuple(rate) for rate in rates)


def stored(path: Path = COUNTS) -> list[Rate]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            Rate(
                row["table"],
                row["noise"],
                row["size"],
                int(row["count"]),
                int(row["of"]),
                float(row["tenth"]) if row["tenth"] else None,
            )
            for row in csv.DictReader(stream)
        ]


def main() -> None:
    from .statistics_page import update

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page again, from the counts that are stored")
    if not parser.parse_args().page:
        with multiprocessing.Pool() as pool:
            write(itertools.chain.from_iterable(pool.map(certify, LAUNCHES, chunksize=1)))
    PAGE.write_text(update(PAGE.read_text(encoding="utf-8"), stored()), encoding="utf-8")


if __name__ == "__main__":
    main()
