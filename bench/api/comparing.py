"""Compares two existing results: chooses the launches of each side."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.margins import share
from bench.api.prices import prices
from bench.api.side_rows import SideRows, side_rows
from bench.errors import ResultsError, UsageError, did_you_mean
from bench.plan.options import AXES
from bench.store.cells import cell
from bench.store.columns import LAUNCHES, LaunchRow
from bench.store.runs import find
from bench.untrusted.files import read_json

if TYPE_CHECKING:
    from bench.analysis.two_sides import Side, TwoSides
    from bench.stats.between_sessions import Spread
    from bench.stats.power import Blocks
    from bench.stats.verdict import Gate, Rules

Condition = Callable[[LaunchRow], bool]


@dataclass(frozen=True)
class Comparing:
    """The options of a comparison; see ``compare``. ``warn`` is called for incomplete files."""

    out: Path
    warn: Callable[[str], None]
    by: str | None = None
    runs: Sequence[str] = ()
    where: Sequence[str] = ()
    session_spread: str | float | None = None
    price: str | Mapping[str, Any] | None = None

    def gate(self, a: str, b: str | None, gate_rules: Rules) -> tuple[Gate, TwoSides | None]:
        """Compare two results, and say what there is to say about both.

        If ``b`` is None, compare the two sides of a run of ``bench ab``, of which there is a gate alone. UsageError,
        ResultsError.
        """
        from bench.analysis.two_sides import two_sides
        from bench.stats.comparison import compare as compared

        given = self.session_spread
        spread = None if given in (None, "") else share("--session-spread", given)
        conditions = [_condition(text) for text in self.where]
        self._check_options(b, spread)
        if b is None:
            return self._gate_of_ab(a, conditions, gate_rules), None
        column = _column("--by", self.by) if self.by else None
        names, by = ((f"{column}={a}", f"{column}={b}"), [column]) if column else ((a, b), [])
        paid = prices(self.price, (a, b))
        found = self._groups(a, b, column) if column else (self._rows(a), self._rows(b))
        sides = [_side(side, conditions) for side in found]
        for name, side in zip((a, b), sides, strict=True):
            self._check(name, side.rows)
        chosen = _judged(*sides)
        gate = compared(*chosen, gate_rules, names, by, self._spreads(chosen, spread))
        return gate, two_sides(gate, sides[0], sides[1], by, paid)

    def _gate_of_ab(self, run: str, conditions: Sequence[Condition], gate_rules: Rules) -> Gate:
        """Return the gate of a run of ``bench ab``."""
        from bench.stats.ab_gate import gate

        rows = self._of_ab(run, conditions)
        return gate(rows, gate_rules, *self._words(run), self._blocks(run))

    def _check_options(self, b: str | None, spread: float | None) -> None:
        """Raise UsageError for options without effect."""
        if self.runs and not self.by:
            raise UsageError(
                "--run has no effect without --by COLUMN: A and B are the runs",
                option="--run",
                given=list(self.runs),
                hint="Add --by COLUMN, or leave --run out.",
            )
        needing = {"--by": self.by, "--session-spread": spread and self.session_spread, "--price": self.price}
        flag, value = next(((flag, value) for flag, value in needing.items() if value), ("", None))
        if b is None and flag:
            raise UsageError(f"{flag} needs two arguments, A and B", option=flag, given=value, hint="Give B as well.")

    def _spreads(self, sides: Sequence[Sequence[LaunchRow]], spread: float | None) -> dict[str, Spread]:
        """Return by case_id how far sessions differ: the given spread, or by calibrations."""
        from bench.stats.between_sessions import Spread

        if spread:
            return {str(row.case_id): Spread(spread) for row in sides[0]}
        return self._spreads_by_calibration(sides)

    def _spreads_by_calibration(self, sides: Sequence[Sequence[LaunchRow]]) -> dict[str, Spread]:
        """Return by case_id how far sessions differ, from calibrations with the same torch, data and window.

        Each calibration is a session. The result is empty for launches of another machine.
        """
        from bench.comparison.setup import calibrations
        from bench.stats.between_sessions import Spread

        if {row.hostname for side in sides for row in side} != {socket.gethostname()}:
            return {}
        rows = {str(row.case_id): row for row in sides[0] if row.torch}
        return {
            name: Spread(noise.between_sessions, noise.sessions - 1, noise.between_launches)
            for name, noise in calibrations(self.out, duet=False).items()
            if noise.between_sessions is not None and noise.between_launches is not None
            if name in rows and noise.is_of(rows[name])
        }

    def _of_ab(self, run: str, conditions: Sequence[Condition]) -> list[LaunchRow]:
        """Return the launches of a run of `bench ab` that fit the conditions, always with its control pair."""
        rows = [row for row in self._rows(run).launches if row.side]
        if not any(row.role == "measure" for row in rows):
            raise UsageError(
                option="A", given=run, allowed="a run of bench ab, where B is not given", hint="Give B as well."
            )
        chosen = [row for row in rows if row.role != "measure" or all(holds(row) for holds in conditions)]
        if not any(row.role == "measure" for row in chosen):
            raise ResultsError(
                f"{run}: no launch fits --where",
                option="--where",
                given=list(self.where),
                hint=f"bench results show {run} lists the launches.",
            )
        return chosen

    def _check(self, name: str, rows: Sequence[LaunchRow]) -> None:
        """Raise ResultsError without a measured launch, and UsageError if the launches are of two sides."""
        if not rows:
            fits = f" that fits --where {' --where '.join(self.where)}" if self.where else ""
            raise ResultsError(
                f"{name}: there is no measured launch{fits}",
                option="run",
                given=name,
                hint="See bench results show, or name another run.",
            )
        sides = sorted({row.side for row in rows if row.side})
        if len(sides) > 1:
            raise UsageError(
                f"{name} is a run of bench ab, which has two sides",
                option="run",
                given=name,
                hint=f"Compare it alone, or with --where side={sides[0]}, or {sides[0]} with {sides[1]} --by side.",
            )

    def _words(self, run: str) -> tuple[str, str]:
        """Return the names of the sides of a run of `bench ab`."""
        sides = self._plan(run).get("sides")
        words = [_at(_at(sides, side), "words") for side in ("A", "B")]
        return str(words[0] or "A"), str(words[1] or "B")

    def _blocks(self, run: str) -> dict[str, Blocks]:
        """Return the number of blocks of each pair in both stages."""
        from bench.stats.power import Blocks

        planned = self._plan(run).get("blocks")
        counts = planned.items() if isinstance(planned, dict) else ()
        whole = {name: of for name, of in counts if isinstance(of, list) and [type(n) for n in of] == [int, int]}
        return {name: Blocks(*of) for name, of in whole.items()}

    def _plan(self, run: str) -> dict[str, Any]:
        """Return the plan of a run; an empty one if it has none, or it cannot be read."""
        try:
            plan = read_json(find(self.out, run) / "plan.json")
        except ResultsError:
            return {}
        return plan if isinstance(plan, dict) else {}

    def _rows(self, name: str) -> SideRows:
        """Return the launches that a name of a side means."""
        return side_rows(self.out, name, self.warn)

    def _groups(self, a: str, b: str, name: str) -> tuple[SideRows, SideRows]:
        """Return the launches of the chosen runs with each of two values in a column."""
        found = [self._rows(one) for one in dict.fromkeys(self.runs or ["latest"])]
        rows, comms = [row for one in found for row in one.launches], [row for one in found for row in one.comms]
        texts = [cell(getattr(row, name), LAUNCHES[name]) for row in rows]
        there = list(dict.fromkeys(filter(None, texts)))
        for value in (a, b):
            if value not in there:
                known = ", ".join(there) or "no value, as no launch has one"
                raise UsageError(option=f"--by {name}", given=value, allowed=known, hint=did_you_mean(value, there))
        sides = [[row for row, text in zip(rows, texts, strict=True) if text == value] for value in (a, b)]
        return SideRows(sides[0], comms), SideRows(sides[1], comms)


def _at(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _condition(text: str) -> Condition:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(option="--where", given=text, allowed="COLUMN=VALUE")
    column = _column("--where", name)
    return lambda row: cell(getattr(row, column), LAUNCHES[column]) == value


def _column(flag: str, name: str) -> str:
    known = name.replace("-", "_")
    if known not in LAUNCHES:
        allowed = ", ".join([*AXES, "hostname", "device_name", "torch", "driver"])
        raise UsageError(
            option=flag,
            given=name,
            allowed=f"a column of launches.csv, such as {allowed}",
            hint=did_you_mean(known, LAUNCHES),
        )
    return known


def _side(found: SideRows, conditions: Sequence[Condition]) -> Side:
    """Return the measured launches that fit the conditions."""
    from bench.analysis.two_sides import Side

    rows = [row for row in found.launches if row.role == "measure" and all(holds(row) for holds in conditions)]
    return Side(rows, found.comms)


def _judged(a: Side, b: Side) -> tuple[Sequence[LaunchRow], Sequence[LaunchRow]]:
    """Return the launches that verdicts are about: those that trained, or all where a side has collectives alone.

    Hundreds of collectives beside a few cases would take all of these verdicts' level (Holm).
    """
    return (a.trained, b.trained) if a.trained and b.trained else (a.rows, b.rows)
