"""Measures the cases of a baseline again: in rounds, the first case twice as a control, candidates once more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from bench.errors import ResultsError, UsageError
from bench.plan.case import Case
from bench.plan.options import AXES, SETTINGS, Value
from bench.plan.plan import NOT_OF_A_CASE, Asked
from bench.runner.run_session import Session
from bench.runner.schedule import shuffled
from bench.stats.ab_gate import has_rate, log_rate
from bench.stats.against_baseline import candidates, launches_of, of_sessions
from bench.stats.decision import control
from bench.stats.trimmed import LEAST_BLOCKS
from bench.stats.verdict import Control, Rules
from bench.store.baselines import Baseline, check_alike
from bench.store.columns import LaunchRow, Row
from bench.store.comms_rates import beside_rates, figures, is_rate


def asked_again(baseline: Baseline) -> Asked:
    """Return the request for the cases of a baseline's last session, with enough launches for a control.

    ResultsError for a cell that is not a value of its option, as after an edit of the file.
    """
    last = [row for row in baseline.rows if row.run_id == baseline.sessions[-1] and not is_rate(row)]
    cases = {row.case_id: row for row in last}.values()
    some = last[0]
    settings = {name: _read(baseline, some, name) for name in SETTINGS if name not in NOT_OF_A_CASE}
    rounds = math.ceil(max(launches_of(baseline.rows).values(), default=0))
    return Asked(
        matrices=tuple(
            {name: [_read(baseline, row, name)] for name in AXES if getattr(row, name) is not None} for row in cases
        ),
        settings={name: value for name, value in settings.items() if value is not None}
        | {"launches": max(rounds, LEAST_BLOCKS), "matmul_peak": "off"},  # The verdict is about times alone.
        oversubscribe=any(row.oversubscribe for row in cases),
    )


def _read(baseline: Baseline, row: LaunchRow, name: str) -> Value:
    if getattr(row, name) is None:
        return None
    try:
        return {**AXES, **SETTINGS}[name].read(getattr(row, name), f"{baseline.file}, column {name}")
    except UsageError as error:
        raise ResultsError(error.message, **error.fields) from None


class Check:
    """The launches of a check, and its control pair."""

    def __init__(self, baseline: Baseline, session: Session, rules: Rules, tell: Callable[[str], None]) -> None:
        self.baseline, self.session, self.rules, self.tell = baseline, session, rules, tell
        self.control: Control | None = None
        self._failed: set[Case] = set()
        self._made = 0  # Launches of the stage.

    def run(self) -> None:
        """Run both stages; IncomparableError as soon as a launch shows that the baseline is of another machine."""
        prepared = self.session.prepare()
        ready = [case for case in map(self.session.ready, prepared) if case is not None]
        self._rounds(ready, 1)
        now = {case_id: sessions[-1] for case_id, sessions in of_sessions(self.rows).items()}
        again = set(candidates(of_sessions(self.baseline.rows), now))
        launched = {row.launch_id: row.case_id for row in self.session.rows}
        again |= {str(launched[row.launch_id]) for row in self.rows if is_rate(row) and row.case_id in again}
        chosen = [case for case in ready if case.case_id in again and case not in self._failed]
        if chosen:
            self.tell(f"{len(chosen)} of {len(ready)} cases may differ: fresh launches decide")
            self._rounds(chosen, 2)
        if ready:
            self.control = control(ready[0].case_id, self._against_itself(ready[0]), self.rules)

    @property
    def rows(self) -> list[LaunchRow]:
        """The launches; in place of one that measured collectives the rate of each."""
        return figures(beside_rates(self.session.store.folder, self.session.rows, self.tell))

    def _rounds(self, cases: Sequence[Case], stage: int) -> None:
        """Run as many rounds as the baseline has; in the first stage its first case is launched twice in each.

        A case that failed is not launched again.
        """
        protocol = self.session.plan.protocol
        of = (protocol.launches or 0) * (len(cases) + (stage == 1))
        self._made = 0
        for block in range(protocol.launches or 0):
            number = block if stage == 1 else block + (protocol.launches or 0)
            self.session.renew()
            for case in shuffled(list(cases), number, protocol.order_seed):
                roles = ["measure", "control"] if stage == 1 and case is cases[0] else ["measure"]
                for role in roles if number % 2 == 0 else reversed(roles):  # Neither role always comes first.
                    self._launch(case, {"block": number, "stage": stage, "role": role}, of)

    def _launch(self, case: Case, where: Row, of: int) -> None:
        self._made += 1
        if case in self._failed:
            return
        self.session.begins(case, self._made, of, or_more=True)
        row = self.session.launch(case, where)
        if row.status != "ok":
            self._failed.add(case)
        else:
            check_alike(self.baseline, [row])

    def _against_itself(self, case: Case) -> list[float]:
        """Return for each block the log ratio of the control's throughput to that of the case.

        Of collectives it is the mean over their rates.
        """
        of_case = {row.launch_id for row in self.session.rows if row.case_id == case.case_id and row.stage == 1}
        rates: dict[tuple[object, object], list[float]] = {}
        for row in self.rows:
            if row.launch_id in of_case and has_rate(row):
                rates.setdefault((row.role, row.block), []).append(log_rate(row))
        own, other = ({b: fmean(of) for (r, b), of in rates.items() if r == role} for role in ("measure", "control"))
        return [other[block] - own[block] for block in own if block in other]
