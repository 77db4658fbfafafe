"""How many blocks a comparison has: as many as asked for, as there is time for, or as find what is to be found."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping

from bench.errors import UsageError
from bench.plan.options import MOST_LAUNCHES
from bench.stats.calibration import Noise
from bench.stats.power import Blocks
from bench.stats.trimmed import LEAST_BLOCKS

FIRST = 8  # blocks of a first stage where nothing is known of the machine; a second one has twice as many


def check_blocks(blocks: int | None) -> None:
    """UsageError for a number on which nothing can be decided."""
    if blocks is not None and blocks < LEAST_BLOCKS:
        raise UsageError(
            option="--blocks",
            given=blocks,
            allowed=f"a whole number from {LEAST_BLOCKS}",
            hint="No test can decide on fewer blocks.",
        )
    check_at_most(blocks or 0)


def check_at_most(blocks: int) -> None:
    """UsageError for more blocks than anybody can wait for."""
    if blocks > MOST_LAUNCHES:
        raise UsageError(
            option="--blocks",
            given=blocks,
            allowed=f"a whole number from {LEAST_BLOCKS}",
            hint=f"At most {MOST_LAUNCHES:,}.",
        )


def planned_blocks(
    names: Iterable[str],
    noise: Mapping[str, Noise],
    change: float,
    *,
    blocks: int | None,
    budget: float | None,
    insists: bool,
    warn: Callable[[str], None],
) -> dict[str, Blocks]:
    """The blocks of each pair: ``blocks`` (and twice as many), or what ``budget`` (s) pays for, or what finds
    ``change`` by the machine's calibration, or FIRST.

    UsageError for a plan that cannot decide: fewer than LEAST_BLOCKS, or too few for a change that the user ``insists``
    on; else a warning says so.
    """
    names = list(names)
    check_blocks(blocks)
    unknown = [name for name in names if name not in noise]
    if unknown:
        warn(
            f"{unknown[0]} is not calibrated on host {socket.gethostname()} with this data, torch and window, so what "
            "can be found is not known before: bench calibrate (a container keeps its name by --hostname)"
        )
    found = {}
    for name in names:
        known = noise.get(name)
        wanted = known.needed(change) if known else None
        own = Blocks(blocks, 2 * blocks) if blocks else _affordable(name, known, budget, len(names))
        found[name] = own or wanted or Blocks(FIRST, 2 * FIRST)
        if known and (wanted is None or found[name].first < wanted.first or found[name].second < wanted.second):
            _too_few(name, found[name], wanted, known, change, warn=None if insists else warn)
    return found


def _affordable(name: str, noise: Noise | None, budget: float | None, cases: int) -> Blocks | None:
    """A case's share of the budget, the control pair's taken off."""
    if budget is None:
        return None
    if noise is None:
        raise UsageError(
            f"--budget: it is not known how long a block of {name} takes",
            option="--budget",
            given=budget,
            hint="Run bench calibrate first, or give --blocks.",
        )
    blocks = noise.within(budget / (cases + 1))
    if blocks is None:
        raise UsageError(
            f"--budget: {budget:.0f} s are not enough for {LEAST_BLOCKS} blocks of {name} and twice as many more at "
            f"{noise.seconds_a_block:.0f} s each",
            option="--budget",
            given=budget,
            hint="Give more time, or fewer cases.",
        )
    return blocks


def _too_few(
    name: str, blocks: Blocks, wanted: Blocks | None, noise: Noise, change: float, warn: Callable[[str], None] | None
) -> None:
    """Say what cannot be decided; UsageError where nobody is to be warned."""
    need = f"it takes {wanted.first} and {wanted.second}" if wanted else "no number of blocks does"
    said = (
        f"{name}: {blocks.first} and {blocks.second} blocks find a slowdown of {noise.detectable(blocks):.1%} on this "
        f"machine, not of {change:.1%}: {need}"
    )
    if warn is None:
        raise UsageError(said, option="--detect", given=change, hint="Change --blocks, --budget or --detect.")
    warn(said)
