"""The own time of each rank over the launches of a case, and which ranks or nodes are slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.frames import good
from bench.analysis.summary import GROUP
from bench.stats.slow_rank import FLOOR, Excess, by_node, excesses

OF_A_RANK = ("host", "node", "local_rank", "device_name", "own_method")
MEDIANS = ("own_ms", "data_wait_ms", "copy_ms", "forward_ms", "own_cv", "last_share")
READ = ("run_id", "launch_id", "rank", *OF_A_RANK, *MEDIANS, "own_steps_ms")  # the columns of ranks.csv that it takes
COLUMNS = (
    *GROUP,
    *("rank", *OF_A_RANK, "launches", *MEDIANS, "excess", "excess_low"),
    *("slow", "slow_by", "slow_low", "slow_last", "own_steps_ms"),
)
RANK, NODE = "rank", "node"  # what is slow

Array = NDArray[np.float64]


class _Launch(NamedTuple):
    """The ranks of a launch in order, and their own times in ms, (ranks, steps or groups of steps)."""

    ranks: list[Mapping[str, Any]]
    own: Array


def slow_ranks(launches: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row for each rank of each case with several ranks, from rows of ranks.csv with the columns of READ.

    Launches whose ranks are on other hosts are rows of their own. MEDIANS are over ``launches`` launches that were ok.
    ``excess`` and ``excess_low`` are by how much the rank is slower than the median of the others, and the lower bound
    (see bench.stats.slow_rank). ``slow`` is RANK, or NODE if all ranks of one of several nodes are slow, or unknown;
    ``slow_by`` and ``slow_low`` are the excess of this rank or node, ``slow_last`` the share of steps in which it was
    the last. ``own_steps_ms`` joins the cells of ranks.csv by ``|``, one for each launch.
    """
    sound = good(launches)[[*GROUP, "run_id", "launch_id"]]
    case = {key: of for *of, run, launch in sound.itertuples(index=False, name=None) for key in [(run, launch)]}
    of_launches: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["run_id"], row["launch_id"])
        if key in case and row["own_steps_ms"]:
            of_launches.setdefault(key, []).append(row)
    groups: dict[tuple[Any, ...], list[_Launch]] = {}
    for key, ranks in of_launches.items():
        if (launch := _launch(ranks)) is not None:
            where = tuple((row["rank"], row["host"], row["node"]) for row in launch.ranks)
            groups.setdefault((*(None if pd.isna(v) else v for v in case[key]), where), []).append(launch)
    found = [row for (*of, _), alike in groups.items() for row in _of_case(dict(zip(GROUP, of, strict=True)), alike)]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _launch(rows: Sequence[Mapping[str, Any]]) -> _Launch | None:
    """Return a launch; None if it has one rank, or if its own times are not numbers above 0, as many for each rank."""
    ranks = sorted(rows, key=lambda row: row["rank"])
    try:
        steps = [[float(text) for text in row["own_steps_ms"].split(";")] for row in ranks]
    except ValueError:
        return None
    if len(ranks) < 2 or len({len(one) for one in steps}) > 1:
        return None
    own = np.array(steps, dtype=np.float64)
    return _Launch(ranks, own) if np.isfinite(own).all() and (own > 0).all() else None


def _of_case(case: Mapping[str, Any], launches: Sequence[_Launch]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the ranks of a case; own times by another method than the first launch's are left out."""
    first = launches[0].ranks
    alike = [launch for launch in launches if launch.ranks[0]["own_method"] == first[0]["own_method"]]
    found = excesses([launch.own for launch in alike])
    names, nodes = _nodes(alike, found)
    last = [_median(launch.ranks[at]["last_share"] for launch in alike) or 0.0 for at in range(len(first))]
    for at, row in enumerate(first):
        slow: dict[str, Any] = {}
        if (node := nodes.get(row["node"])) is not None:
            of_node = sum(share for share, name in zip(last, names, strict=True) if name == row["node"])
            slow = {"slow": NODE, "slow_by": node.excess, "slow_low": node.low, "slow_last": min(of_node, 1.0)}
        elif found[at].named:
            slow = {"slow": RANK, "slow_by": found[at].excess, "slow_low": found[at].low, "slow_last": last[at]}
        yield {
            **case,
            **{name: row[name] for name in ("rank", *OF_A_RANK)},
            "launches": len(alike),
            **{name: _median(launch.ranks[at][name] for launch in alike) for name in MEDIANS},
            "excess": found[at].excess,
            "excess_low": found[at].low,
            **slow,
            "own_steps_ms": "|".join(launch.ranks[at]["own_steps_ms"] for launch in alike),
        }


def _nodes(launches: Sequence[_Launch], ranks: Sequence[Excess]) -> tuple[list[int], dict[int, Excess]]:
    """Return the node of each rank, and the slow nodes: those with several ranks, each of which is slower."""
    on = [row["node"] or 0 for row in launches[0].ranks]
    if len(set(on)) < 2:
        return on, {}
    names, own = by_node([launch.own for launch in launches], on)
    slow = {}
    for name, excess in zip(names, excesses(own), strict=True):
        members = [one for one, node in zip(ranks, on, strict=True) if node == name]
        if excess.named and len(members) > 1 and all(one.excess > FLOOR for one in members):
            slow[name] = excess
    return on, slow


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
