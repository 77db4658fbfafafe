"""What there is to say about two sides beside their verdicts: where differences come from, links, scaling, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.answers import Answers, answer
from bench.analysis.case_splits import CaseSplit, case_splits, split_frame
from bench.analysis.costs import costs
from bench.analysis.frames import launches, no_steps
from bench.analysis.links import links
from bench.analysis.order import labels
from bench.plan.options import AXES
from bench.stats.comparison import Pair, matched
from bench.stats.verdict import Gate, Verdict
from bench.store.code_versions import with_codes
from bench.store.columns import LaunchRow
from bench.store.comms_rates import is_comms
from bench.store.counting_rows import counted
from bench.store.environment_diff import Difference, differences
from bench.store.environments import with_environments

# Frame columns of ``TwoSides.scaling``: those of one side are repeated for the other.
OF_A_SIDE = ("samples_per_s", "speedup", "efficiency", "efficiency_low", "efficiency_high")
SCALING = (
    *("case", "label", "mode", "gpus", "base_gpus"),
    *(f"{name}_{side}" for side in "ab" for name in OF_A_SIDE),
)


@dataclass(frozen=True)
class Side:
    """The launches of a side that were chosen, and its rows of comms.csv."""

    rows: Sequence[LaunchRow]
    comms: Sequence[Mapping[str, Any]] = ()

    @property
    def trained(self) -> list[LaunchRow]:
        """The launches that trained."""
        return [row for row in self.rows if not is_comms(row)]


@dataclass(frozen=True)
class TwoSides:
    """What is known about two sides, by ``two_sides``.

    ``labels`` name the cases that both sides have, by the ``case`` of their verdicts. ``splits`` say where the
    difference of each comes from, ``links`` how collectives compare, ``scaling`` how cases with more devices do on each
    side, ``costs`` what a sample costs, and ``differences`` how the environments differ. ``answers`` has those of each
    side alone, and is empty where no side has several numbers of devices.
    """

    gate: Gate
    labels: Mapping[str, str]
    splits: Sequence[CaseSplit]
    links: pd.DataFrame
    scaling: pd.DataFrame
    costs: pd.DataFrame
    differences: Sequence[Difference]
    answers: Sequence[Answers]

    @property
    def split(self) -> pd.DataFrame:
        """The splits as a frame; see ``split_frame``."""
        return split_frame(self.splits)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts of the cases that both sides have, by case."""
        return {one.case: one for one in self.gate.verdicts if one.case in self.labels}


def two_sides(
    gate: Gate, a: Side, b: Side, by: Sequence[str] = (), prices: tuple[float, float] | None = None
) -> TwoSides:
    """Return what is known about the sides of a gate.

    ``by`` are the columns by which they were chosen, ``prices`` those of a device of A and of B, in dollars per hour.
    """
    pairs = matched(a.trained, b.trained, by)
    verdicts = {one.case: one for one in gate.verdicts}
    pairs = {case: pair for case, pair in pairs.items() if case in verdicts}
    named = _labels(pairs, by)
    several = all(len({row.gpus for row in side.trained}) > 1 for side in (a, b))
    answers = [answer(side.trained, no_steps()) for side in (a, b)] if several else []
    return TwoSides(
        gate=gate,
        labels=named,
        splits=case_splits(pairs, named),
        links=links(_of_comms(a), _of_comms(b)),
        scaling=_scaling([verdicts[case] for case in pairs], named, answers),
        costs=costs(pairs, verdicts, named, prices),
        differences=differences(a.rows, b.rows),
        answers=answers,
    )


def _labels(pairs: Mapping[str, Pair], by: Sequence[str]) -> dict[str, str]:
    """Return a label for each case, without the axes by which the sides were chosen."""
    firsts = {case: pair.a[0] for case, pair in pairs.items()}
    frame = pd.DataFrame(
        {name: [None if name in by else getattr(row, name) for row in firsts.values()] for name in AXES}, dtype="object"
    )
    apart = [case.removeprefix(str(row.case_id)) for case, row in firsts.items()]
    texts = labels(frame, ("workload", "strategy", "gpus"))
    return {case: text + more for case, text, more in zip(firsts, texts, apart, strict=True)}


def _of_comms(side: Side) -> tuple[pd.DataFrame, list[Mapping[str, Any]]]:
    """Return the launches of collectives, one row each, with their environment; and their rows of comms.csv."""
    of_comms = {(row.run_id, row.launch_id): row for row in side.rows if is_comms(row)}
    found = with_codes(with_environments(launches(counted(of_comms.values()))))
    return found, [row for row in side.comms if (row["run_id"], row["launch_id"]) in of_comms]


def _scaling(verdicts: Sequence[Verdict], named: Mapping[str, str], answers: Sequence[Answers]) -> pd.DataFrame:
    """Return a row for each case and mode of which both sides have a speed-up, with the columns SCALING."""
    of_a, of_b = map(_speedups, answers) if answers else ({}, {})
    rows = []
    for one in verdicts:
        for (case, mode), a in of_a.items():
            b = of_b.get((str(one.case_b), mode))
            if case == one.case_a and b and a["base_gpus"] == b["base_gpus"]:
                row = {"case": one.case, "label": named[one.case], "mode": mode}
                row |= {name: a[name] for name in ("gpus", "base_gpus")}
                rows.append(row | {f"{n}_{s}": of[n] for s, of in (("a", a), ("b", b)) for n in OF_A_SIDE})
    return pd.DataFrame(rows, columns=list(SCALING))


def _speedups(answers: Answers) -> dict[tuple[str, str], dict[Any, Any]]:
    """Return the rows with a speed-up by case_id and mode, without cases that a side has in several environments."""
    frame = answers.scaling
    grown = frame[(frame["gpus"] > frame["base_gpus"]) & frame["speedup"].notna()]
    alone = grown[~grown.duplicated(["case_id", "mode"], keep=False)]
    return {(row["case_id"], row["mode"]): row for row in alone.to_dict("records")}
