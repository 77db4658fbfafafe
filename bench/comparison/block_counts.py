"""The number of blocks of a comparison: as requested, as the budget allows, or as the change to detect needs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping

from bench.errors import UsageError
from bench.plan.options import MOST_LAUNCHES
from bench.stats.calibration import Noise
from bench.stats.power import Blocks
from bench.stats.trimmed import LEAST_BLOCKS

FIRST = 8  # Blocks of the first stage without a calibration; the second stage has twice as many.


def check_blocks(blocks: int | None) -> None:
    """Raise UsageError for a number of blocks that is too small for a decision, or too large."""
    if blocks is not None and blocks < LEAST_BLOCKS:
        raise UsageError(
            option="--blocks",
            given=blocks,
            allowed=f"a whole number from {LEAST_BLOCKS}",
            hint="No test can decide on fewer blocks.",
        )
    check_at_most(blocks or 0)


def check_at_most(blocks: int) -> None:
    """Raise UsageError for more blocks than the limit."""
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
) -> dict[str, Blocks] | None:
    """Return the number of blocks of each pair; None for a budget without a calibration, so that first blocks decide.

    It is ``blocks`` (and twice as many in the second stage), or what ``budget`` (s) allows, or what detects ``change``
    by the machine's calibration, or FIRST. UsageError for fewer than LEAST_BLOCKS, and for too few to detect ``change``
    if the user ``insists`` on it; otherwise the latter is a warning.
    """
    names = list(names)
    check_blocks(blocks)
    unknown = [name for name in names if name not in noise]
    if unknown and budget is not None and not blocks:
        return None
    if unknown:
        warn(
            f"{unknown[0]} is not calibrated on host {socket.gethostname()} with this data, torch and window, so it is "
            "not known yet which change can be detected; run bench calibrate (in a container, set its name by "
            "--hostname), or give --budget"
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
    """Return the blocks for which a case's share of the budget is enough; the control pair has a share as well."""
    if budget is None or noise is None:
        return None
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
    """Warn that a change cannot be detected; UsageError if ``warn`` is None."""
    need = f"that needs {wanted.first} and {wanted.second}" if wanted else "no number of blocks does"
    said = (
        f"{name}: {blocks.first} and {blocks.second} blocks detect a slowdown of {noise.detectable(blocks):.1%} on "
        f"this machine, not of {change:.1%}: {need}"
    )
    if warn is None:
        raise UsageError(said, option="--detect", given=change, hint="Change --blocks, --budget or --detect.")
    warn(said)
