"""Sets up a comparison: two sides with their plans, sites and sessions, and one run for all rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.comparison.abba import CONTROL, Ab, Pair, pairs
from bench.comparison.block_counts import check_blocks, planned_blocks
from bench.comparison.block_time import seconds_a_block
from bench.comparison.one_sided import OneSided, completed, may_lack
from bench.comparison.outlook import Outlook
from bench.comparison.sides import Side, asked_sites
from bench.errors import Interrupted, ResultsError, UsageError
from bench.machine.environment import installed
from bench.machine.gpus import Machine, this_machine
from bench.plan.options import Value
from bench.plan.plan import Asked, Plan, Protocol, make_plan
from bench.runner.estimate import earlier_rows
from bench.runner.launch_case import CaseLauncher
from bench.runner.machine_survey import Survey
from bench.runner.make_sites import made_sites
from bench.runner.rank_site import Site
from bench.runner.row_recorder import Observer, work_key_of
from bench.runner.run_session import Session
from bench.runner.several_nodes import OneNode, SeveralNodes
from bench.stats.ab_gate import gate
from bench.stats.calibration import Noise, between, noise_of
from bench.stats.power import Blocks
from bench.stats.verdict import Gate, Rules, SoFar, Verdict
from bench.store.columns import LaunchRow
from bench.store.plan_file import plan_json
from bench.store.reader import read_launches
from bench.store.runs import folders
from bench.store.writer import Store
from bench.untrusted.files import read_json

CALIBRATE = "calibrate"


@dataclasses.dataclass(frozen=True)
class Contest:
    """Both sides of a comparison, planned but not launched. ``kind``: name of the command."""

    kind: str
    sides: Sequence[Side]
    plans: Mapping[str, Plan]
    machine: Machine
    out: Path
    duet: bool = False
    nodes: SeveralNodes = dataclasses.field(default_factory=OneNode)

    @classmethod
    def planned(
        cls,
        kind: str,
        asked: Asked,
        sides: Sequence[Side],
        out: Path,
        duet: bool = False,
        nodes: SeveralNodes | None = None,
    ) -> Contest:
        """Plan both sides; UsageError if they cannot run on this machine, or on these ``nodes``."""
        machine = this_machine()
        if nodes and duet:
            raise UsageError(
                "--duet: over several nodes the messages of one side would disturb the other's bursts",
                option="--duet",
                hint="Leave --duet out, or compare on one node.",
            )
        nodes = nodes or OneNode()
        # Its verdict is about times alone, and the rest would take more of them.
        less: dict[str, Value] = {"count_work": False, "stragglers": False, "matmul_peak": "off"}
        asked = dataclasses.replace(asked, settings={**less, **asked.settings})
        here = not may_lack(sides)
        whole = nodes.machine(machine)
        plans = {side.name: make_plan(side.asked(asked), whole, code_is_here=here) for side in sides}
        cases = [planned.case for plan in plans.values() for planned in plan.cases if planned.skip is None]
        if duet and any(case.is_script for case in cases):
            raise UsageError(
                "--duet: a script cannot be stopped between two steps of the other side",
                option="--duet",
                hint="Leave --duet out.",
            )
        if duet and asked.settings.get("profile", "off") != "off":
            raise UsageError(
                "--duet: the other side trains while the steps for --profile are taken",
                option="--duet",
                hint="Leave --duet or --profile out.",
            )
        if duet and any(case.saves for case in cases):
            raise UsageError(
                "--duet: the other side trains while the state for --save-checkpoint is saved",
                option="--duet",
                hint="Leave --duet or --save-checkpoint out.",
            )
        loaders = [case.case_id for case in cases if case.num_workers]
        if duet and loaders:
            raise UsageError(
                f"--duet: DataLoader workers of {loaders[0]} would fill their queues while the other side trains, "
                "which hides the time spent waiting for data",
                option="--duet",
                hint="Add --num-workers 0, or leave --duet out.",
            )
        return cls(kind, sides, plans, machine, out, duet, nodes)

    @property
    def protocol(self) -> Protocol:
        """The protocol, which is the same for both sides."""
        return next(iter(self.plans.values())).protocol

    @property
    def _apart(self) -> bool:
        """Whether each side has its own launch servers, for another interpreter, revision or environment."""
        return any(side.python or side.rev or {"env", "omp_num_threads"} & side.axes.keys() for side in self.sides)

    @contextlib.contextmanager
    def begun(self, watcher: Observer) -> Iterator[tuple[Store, dict[str, Session]]]:
        """Create a run and a session for each side; servers and worktrees are removed afterwards."""
        cases = [planned.case for plan in self.plans.values() for planned in plan.cases]
        variables = {name: plan.cases[0].case.environment for name, plan in self.plans.items()}
        survey = Survey.taken(self.machine, cases, self.out)
        revised = {side.name for side in self.sides if side.rev}
        plans, survey = self.nodes.checked(self.plans, watcher, revised), self.nodes.surveyed(survey)
        for warning in survey.notes():
            watcher.note(f"warning: {warning}")
        asked = asked_sites(self.sides, list(dict.fromkeys(case.workload for case in cases)), variables)
        with made_sites(asked) as places, contextlib.ExitStack() as stack:
            self.nodes.make_sites(asked, places)
            store = stack.enter_context(contextlib.closing(Store.create(self.out, self.described())))
            sessions: dict[str, Session] = {}
            shared: dict[Site, CaseLauncher] = {}
            # Both sides of a duet run at once, so each has its own server, as has the second A of the control. Else
            # sides of the same site share servers. The speed of servers differs, for example with their address
            # layout: where the sides do not share a server, the control must not either.
            for name in [*plans, CONTROL] if self.duet or self._apart else plans:
                plan, site = (plans["A"], places["A"]) if name == CONTROL else (plans[name], places[name])
                launcher = None if self.duet or name == CONTROL else shared.get(site)
                over_nodes = functools.partial(self.nodes.launcher, side="A" if name == CONTROL else name)
                session = Session(plan, survey, store, watcher, site=site, launcher=launcher, over_nodes=over_nodes)
                shared[site] = session.launcher
                sessions[name] = session
                stack.callback(session.close)
            yield store, sessions

    def completed(self, sessions: Mapping[str, Session]) -> tuple[list[Pair], list[OneSided]]:
        """Return the pairs, with the descriptions of their workloads completed, and the cases of one side only."""
        both, one_sided = completed(self.plans, self.sides, sessions)
        return pairs(both, self.sides), one_sided

    def expected(self, ready: Sequence[Pair], watcher: Observer) -> dict[str, float]:
        """Return by pair the seconds of a block, by earlier launches on this machine; without pairs that had none."""
        rows = earlier_rows(self.out, self.machine, lambda text: watcher.note(f"warning: {text}"))
        alike = [row for row in rows if row.launcher == self.protocol.launcher]
        cases = {pair.name: {side: planned.case.case_id for side, planned in pair.sides.items()} for pair in ready}
        found = {name: seconds_a_block(of, alike, self.protocol, self.duet) for name, of in cases.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def described(self, **known: Any) -> dict[str, Any]:
        """Return the content of ``plan.json``."""
        sides = {side.name: {**plan_json(self.plans[side.name]), "words": side.words} for side in self.sides}
        protocol = dataclasses.asdict(self.protocol) | {"launches": None}  # It has blocks instead.
        return {"kind": self.kind, "duet": self.duet, "protocol": protocol, "sides": sides, **known}


@dataclasses.dataclass(frozen=True)
class Gating:
    """How two sides are measured and judged.

    ``blocks``: None for the number that calibrations suggest. ``insists``: the user gave the change to detect.
    ``duet``: both sides run at once, and take turns after a few steps. ``so_far`` gets the verdict after each block.
    """

    rules: Rules
    blocks: int | None = None
    insists: bool = False
    duet: bool = False
    so_far: Callable[[Gate], None] | None = None


def compete(
    asked: Asked,
    sides: Sequence[Side],
    out: Path,
    gating: Gating,
    watcher: Observer,
    nodes: SeveralNodes | None = None,
) -> Gate:
    """Measure two sides in turns and return the verdict; all measurements are recorded, even if it is interrupted."""
    check_blocks(gating.blocks)
    contest = Contest.planned("ab", asked, sides, out, gating.duet, nodes)
    with contest.begun(watcher) as (store, sessions):
        ready, one_sided = contest.completed(sessions)
        return _Competition(contest, gating, store, sessions, ready, one_sided, watcher).run()


class _Competition:
    """A comparison that is set up: the number of its blocks, its launches, and the verdict at any time."""

    def __init__(
        self,
        contest: Contest,
        gating: Gating,
        store: Store,
        sessions: Mapping[str, Session],
        ready: Sequence[Pair],
        one_sided: Sequence[OneSided],
        watcher: Observer,
    ) -> None:
        self.contest, self.gating, self.store, self.sessions, self.pairs = contest, gating, store, sessions, ready
        self.one_sided = one_sided
        self.watcher, protocol = watcher, contest.protocol
        self._names = [pair.name for pair in ready if all(one.skip is None for one in pair.sides.values())]
        self._noise = _alike(calibrations(contest.out, contest.duet), ready, protocol)
        blocks = planned_blocks(
            self._names,
            self._noise,
            gating.rules.detect,
            blocks=gating.blocks,
            budget=protocol.budget,
            insists=gating.insists,
            warn=lambda text: watcher.note(f"warning: {text}"),
        )
        self._outlook = Outlook(blocks, protocol.budget, gating.rules.detect, watcher.note, self._overhead)
        more = contest.duet, self._block_ends, self._looked, one_sided
        self._ab = Ab(ready, sessions, blocks, protocol.order_seed, watcher.note, *more)

    def run(self) -> Gate:
        """Launch everything and return the verdict."""
        self._outlook.before(self._names, self._noise, self.contest.expected(self.pairs, self.watcher))
        self._write_plan()
        try:
            self._ab.run()
        except Interrupted:
            if self._ab.rows:
                self.watcher.note(f"warning: stopped; to judge what was measured: bench compare {self.store.run_id}")
            raise
        return self._judged()

    def _write_plan(self) -> None:
        rules = dataclasses.asdict(self.gating.rules)
        self.store.plan(self.contest.described(blocks=self._outlook.blocks, rules=rules))

    def _looked(self, rows: Sequence[LaunchRow]) -> Mapping[str, Blocks]:
        blocks = self._outlook.after(rows)
        self._write_plan()
        return blocks

    def _block_ends(self, so_far: SoFar) -> None:
        """Tell the verdicts so far, with those on pairs that have no launch yet."""
        if not self.gating.so_far:
            return
        judged = self._judged()
        there = {one.case for one in judged.verdicts}
        names = [*(pair.name for pair in self.pairs), *(one.name for one in self.one_sided)]
        due = [Verdict(name, "inconclusive", "not measured yet") for name in names if name not in there]
        self.gating.so_far(dataclasses.replace(judged, verdicts=(*judged.verdicts, *due), so_far=so_far))

    def _judged(self) -> Gate:
        a, b = (side.words for side in self.contest.sides)
        judged = gate(self._ab.rows, self.gating.rules, a, b, self._ab.blocks)
        notes = [self._outlook.too_short] if self._outlook.too_short else []
        return dataclasses.replace(judged, notes=(*judged.notes, *notes))

    def _overhead(self) -> float:
        """Return the seconds spent on preparing sessions, on probes and on cases of one side only."""
        alone = {one.name for one in self.one_sided}
        others = [row for row in self._ab.rows if row.role == "probe" or row.pair in alone]
        return sum(row.launch_s or 0.0 for row in others) + sum(
            session.preparing_s for session in self.sessions.values()
        )


def calibrated(
    asked: Asked, blocks: int, duet: bool, out: Path, watcher: Observer, nodes: SeveralNodes | None = None
) -> tuple[list[Noise], bool]:
    """Measure every case against itself; return the noise of each, and whether a launch failed."""
    contest = Contest.planned(CALIBRATE, asked, (Side("A"), Side("B")), out, duet, nodes)
    with contest.begun(watcher) as (store, sessions):
        ready, _ = contest.completed(sessions)
        store.plan(contest.described(blocks=blocks))
        counts = {pair.name: Blocks(blocks, 0) for pair in ready}
        ab = Ab(ready, sessions, counts, contest.protocol.order_seed, watcher.note, duet)
        ab.calibrate()
    earlier = _calibrations(out, duet, store.run_id)
    before = {
        noise.case_id: [other.samples_per_s for other in earlier.get(noise.case_id, ()) if other.is_like(noise)]
        for noise in noise_of(ab.rows, {})
    }
    return noise_of(ab.rows, before), any(row.status not in ("ok", "skipped") for row in ab.rows)


def _alike(known: Mapping[str, Noise], ready: Sequence[Pair], protocol: Protocol) -> dict[str, Noise]:
    """Return the calibrations with the same data, torch and length of the window as now."""
    torch = installed()["torch"].partition("+")[0]
    cases = {pair.name: pair.sides["A"].case for pair in ready}
    return {
        name: noise
        for name, noise in known.items()
        if name in cases
        and noise.work_key == work_key_of(cases[name])
        and noise.window == (protocol.steps, protocol.min_seconds)
        and (noise.torch is None or noise.torch.partition("+")[0] == torch)
    }


def calibrations(out: Path, duet: bool) -> dict[str, Noise]:
    """Return by case_id the latest calibration on this machine, of duets or of launches in turns.

    Its spread between sessions is that of all calibrations that are alike.
    """
    found = {}
    for name, of in _calibrations(out, duet).items():
        rates = [noise.samples_per_s for noise in of if noise.is_like(of[0])]
        found[name] = dataclasses.replace(of[0], between_sessions=between(rates), sessions=len(rates))
    return found


def _calibrations(out: Path, duet: bool, but: str = "") -> dict[str, list[Noise]]:
    """Return all calibrations by case_id, the newest first. Unreadable calibrations are skipped."""
    import socket

    found: dict[str, list[Noise]] = {}
    for folder in folders(out):
        if folder.name == but or not _is_calibration(folder):
            continue
        with contextlib.suppress(ResultsError):
            rows: list[LaunchRow] = read_launches(folder / "launches.csv", lambda _: None)
            for noise in noise_of(rows, {}):
                if noise.duet == duet and noise.hostname == socket.gethostname():
                    found.setdefault(noise.case_id, []).append(noise)
    return found


def _is_calibration(folder: Path) -> bool:
    try:
        plan = read_json(folder / "plan.json")
    except ResultsError:
        return False
    return isinstance(plan, dict) and plan.get("kind") == CALIBRATE
