"""How often change points are seen where nothing changes, and which steps are found, where the noise is known.

Part of make certificate (python -m tests.benchmarks.change_points). The counts go to
results/certificate/change_points.csv, and from there into docs/history.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from bench.stats.change_points import FLOOR, LEVEL, Found, of_series

from .noise_models import MODELS

ROOT = Path(__file__).parents[2]
PAGE, COUNTS = ROOT / "docs/history.md", ROOT / "results/certificate/change_points.csv"
SEED = 31
LAUNCHES, CASES = 5, 20  # of a session, of a page
LENGTHS = (20, 60, 120)  # sessions of a page
PAGES, STEPS = 200, 200  # repeats
SLOWDOWNS = (0.02, 0.05, 0.10)
SINCE = (3, 5, 10, 30)  # the last of 60 sessions that are slower
NEAR = 2  # sessions between a step and where it is found
SPREAD = 0.01  # of correlated sessions

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]  # logs of throughput of so many sessions


def apart(name: str) -> Draw:
    """Sessions of other days: a machine's noise, drawn anew for the launches of each."""

    def draw(random: np.random.Generator, sessions: int) -> Floats:
        times = np.stack([MODELS[name](random, LAUNCHES).mean(axis=-1) for _ in range(sessions)])
        return np.asarray(-np.log(np.median(times, axis=-1)))

    return draw


def in_a_row(name: str) -> Draw:
    """One long run of launches, cut into sessions: neighbours resemble each other, and the machine gets slower."""

    def draw(random: np.random.Generator, sessions: int) -> Floats:
        times = MODELS[name](random, LAUNCHES * sessions).mean(axis=-1).reshape(sessions, LAUNCHES)
        return np.asarray(-np.log(np.median(times, axis=-1)))

    return draw


def correlated(rho: float) -> Draw:
    """Normal noise of which a session keeps the share ``rho`` from the one before it."""

    def draw(random: np.random.Generator, sessions: int) -> Floats:
        fresh = random.standard_normal(sessions)
        fresh[1:] *= np.sqrt(1 - rho**2)
        return np.asarray(SPREAD * lfilter([1.0], [1.0, -rho], fresh))

    return draw


NOISES: Mapping[str, Draw] = {
    **{name: apart(name) for name in MODELS},
    **{f"keeps {rho:.0%}": correlated(rho) for rho in (0.3, 0.6)},
    **{f"{name}, in a row": in_a_row(name) for name in MODELS},
}


@dataclass(frozen=True)
class Rate:
    """``count`` of ``of``: pages with a change point although there is none (``pages``; ``steps`` without drifts), or
    steps that are found."""

    table: str
    noise: str
    size: str
    count: int
    of: int


def false_pages(draw: Draw, sessions: int, pages: int, random: np.random.Generator, floor: float = FLOOR) -> list[str]:
    """The kinds of change points of each page of CASES cases without a change; an empty text for none."""
    found = []
    for _ in range(pages):
        series = [list(draw(random, sessions)) for _ in range(CASES)]
        kinds = {one.kind for changes in of_series(series, [floor] * CASES) for one in changes}
        found.append("step" if "step" in kinds else "drift" if kinds else "")
    return found


def steps_found(draw: Draw, slowdown: float, since: int, repeats: int, random: np.random.Generator) -> int:
    """Of so many cases that are slower in the last ``since`` of 60 sessions, those in which the step is found."""
    hits = 0
    for _ in range(repeats):
        logs = draw(random, 60)
        logs[60 - since :] += np.log1p(-slowdown)
        hits += _seen(of_series([list(logs)], [FLOOR], LEVEL / CASES)[0], 60 - since)
    return hits


def _seen(changes: Sequence[Found], at: int) -> bool:
    return any(one.kind == "step" and abs(one.at - at) <= NEAR and one.after < one.before for one in changes)


def certify(name: str) -> list[Rate]:
    """All rates of one noise, each with a seed of its own."""
    draw, place = NOISES[name], list(NOISES).index(name)
    rates = []
    for sessions in LENGTHS:
        kinds = false_pages(draw, sessions, PAGES, np.random.default_rng([SEED, place, sessions]))
        rates.append(Rate("pages", name, str(sessions), sum(kind != "" for kind in kinds), PAGES))
        rates.append(Rate("steps", name, str(sessions), kinds.count("step"), PAGES))
    if name in MODELS:
        for slowdown, since in itertools.product(SLOWDOWNS, SINCE):
            random = np.random.default_rng([SEED, place, since, round(100 * slowdown)])
            count = steps_found(draw, slowdown, since, STEPS, random)
            rates.append(Rate("found", name, f"{slowdown:.0%} in {since}", count, STEPS))
    return rates


# -- the page ------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- rates: begin -->", "<!-- rates: end -->"
TEXT = """Of {pages} pages with {cases} cases in which nothing changes, so many percent have a change point; in brackets, a step:

{false}

Of {steps} cases that become slower, on a page of {cases}, so many percent are found within {near} sessions of where it
happened, by the size of the slowdown and the number of the last of 60 sessions that have it:

{found}"""


def update(page: str, rates: Sequence[Rate]) -> str:
    """The page with its tables made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = TEXT.format(
        pages=PAGES, cases=CASES, steps=STEPS, near=NEAR, false=_false_table(rates), found=_found_table(rates)
    )
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _false_table(rates: Sequence[Rate]) -> str:
    known = {(rate.table, rate.noise, rate.size): f"{100 * rate.count / rate.of:.1f}" for rate in rates}
    lines = ["| sessions of a page |" + "".join(f" {n} |" for n in LENGTHS), "|---|" + "--:|" * len(LENGTHS)]
    for name in NOISES:
        cells = [f"{known['pages', name, str(n)]} ({known['steps', name, str(n)]})" for n in LENGTHS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _found_table(rates: Sequence[Rate]) -> str:
    known = {(rate.noise, rate.size): f"{100 * rate.count / rate.of:.0f}" for rate in rates if rate.table == "found"}
    sizes = [f"{slowdown:.0%} in {since}" for slowdown, since in itertools.product(SLOWDOWNS, SINCE)]
    lines = ["| slower by, in the last |" + "".join(f" {name} |" for name in MODELS), "|---|" + "--:|" * len(MODELS)]
    lines += [f"| {size} | {' | '.join(known[name, size] for name in MODELS)} |" for size in sizes]
    return "\n".join(lines)


def write(rates: Iterable[Rate], path: Path = COUNTS) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(field.name for field in dataclasses.fields(Rate))
        table.writerows(dataclasses.astuple(rate) for rate in rates)


def stored(path: Path = COUNTS) -> list[Rate]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [Rate(row["table"], row["noise"], row["size"], int(row["count"]), int(row["of"])) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page again, from the counts that are stored")
    if not parser.parse_args().page:
        with multiprocessing.Pool() as pool:
            write(itertools.chain.from_iterable(pool.map(certify, NOISES, chunksize=1)))
    PAGE.write_text(update(PAGE.read_text(encoding="utf-8"), stored()), encoding="utf-8")


if __name__ == "__main__":
    main()
