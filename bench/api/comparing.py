"""Compares two existing results: chooses the launches of each side."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.comms import comms_rows
from bench.api.margins import share
from bench.errors import ResultsError, UsageError, did_you_mean
from bench.plan.options import AXES
from bench.store.cells import cell
from bench.store.columns import FILES, LAUNCHES, LaunchRow
from bench.store.comms_rates import is_comms, with_rates
from bench.store.reader import read_launches
from bench.store.runs import find
from bench.untrusted.files import read_json

if TYPE_CHECKING:
    from bench.stats.between_sessions import Spread
    from bench.stats.power import Blocks
    from bench.stats.verdict import Gate, Rules

KIND = "launches.csv"
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

    def gate(self, a: str, b: str | None, gate_rules: Rules) -> Gate:
        """Compare two results, or the two sides of a run of ``bench ab`` if ``b`` is None; UsageError, ResultsError."""
        from bench.stats.ab_gate import gate
        from bench.stats.between_sessions import Spread
        from bench.stats.comparison import compare as compared

        given = self.session_spread
        spread = None if given in (None, "") else share("--session-spread", given)
        conditions = [_condition(text) for text in self.where]
        if self.runs and not self.by:
            raise UsageError(
                "--run has no effect without --by COLUMN: A and B are the runs",
                option="--run",
                given=list(self.runs),
                hint="Add --by COLUMN, or leave --run out.",
            )
        if b is None:
            if self.by or spread:
                flag, value = ("--by", self.by) if self.by else ("--session-spread", given)
                raise UsageError(
                    f"{flag} needs two arguments, A and B", option=flag, given=value, hint="Give B as well."
                )
            rows = self._of_ab(a, conditions)
            return gate(rows, gate_rules, *self._words(a), self._blocks(a))
        column = _column("--by", self.by) if self.by else None
        sides = self._groups(a, b, column) if column else (self._rows(a), self._rows(b))
        chosen = [_measured(side, conditions) for side in sides]
        for name, side in zip((a, b), chosen, strict=True):
            self._check(name, side)
        spreads = (
            {str(row.case_id): Spread(spread) for row in chosen[0]} if spread else self._spreads_by_calibration(chosen)
        )
        names = (f"{column}={a}", f"{column}={b}") if column else (a, b)
        return compared(chosen[0], chosen[1], gate_rules, names, [column] if column else [], spreads)

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
        rows = [row for row in self._rows(run) if row.side]
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

    def _rows(self, run: str) -> list[LaunchRow]:
        """Return the launches of a run, or of any file with the columns of launches.csv."""
        file = Path(run)
        if not os.path.isfile(run) or file.name in FILES:
            file = find(self.out, run) / KIND
        rows = read_launches(file, self.warn)
        return with_rates(rows, comms_rows([file.parent], self.warn)) if any(map(is_comms, rows)) else rows

    def _groups(self, a: str, b: str, name: str) -> tuple[list[LaunchRow], list[LaunchRow]]:
        """Return the launches of the chosen runs with each of two values in a column."""
        rows = [row for one in dict.fromkeys(self.runs or ["latest"]) for row in self._rows(one)]
        texts = [cell(getattr(row, name), LAUNCHES[name]) for row in rows]
        there = list(dict.fromkeys(filter(None, texts)))
        for value in (a, b):
            if value not in there:
                known = ", ".join(there) or "no value, as no launch has one"
                raise UsageError(option=f"--by {name}", given=value, allowed=known, hint=did_you_mean(value, there))
        sides = [[row for row, text in zip(rows, texts, strict=True) if text == value] for value in (a, b)]
        return sides[0], sides[1]


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


def _measured(rows: Sequence[LaunchRow], conditions: Sequence[Condition]) -> list[LaunchRow]:
    return [row for row in rows if row.role == "measure" and all(holds(row) for holds in conditions)]
