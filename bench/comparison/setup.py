"""Sets up a comparison: two sides with their plans, sites and sessions, and one run for all rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.comparison.abba import CONTROL, Ab, Pair, pairs
from bench.comparison.block_counts import check_blocks, planned_blocks
from bench.comparison.sides import Side, sites
from bench.errors import Interrupted, ResultsError, UsageError
from bench.machine.environment import installed
from bench.machine.gpus import Machine, this_machine
from bench.plan.plan import Asked, Plan, Protocol, make_plan
from bench.runner.launch_case import CaseLauncher
from bench.runner.machine_survey import Survey
from bench.runner.rank_site import Site
from bench.runner.row_recorder import Observer, work_key_of
from bench.runner.run_session import Session
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

    @classmethod
    def planned(cls, kind: str, asked: Asked, sides: Sequence[Side], out: Path, duet: bool = False) -> Contest:
        """Plan both sides; UsageError if they cannot run on this machine."""
        machine = this_machine()
        # Its verdict is about times alone, and counting would take more of them.
        asked = dataclasses.replace(asked, settings={"count_work": False, **asked.settings})
        plans = {side.name: make_plan(side.asked(asked), machine) for side in sides}
        cases = [planned.case for plan in plans.values() for planned in plan.cases if planned.skip is None]
        if duet and any(case.is_script for case in cases):
            raise UsageError(
                "--duet: a script cannot be stopped between two steps of the other side",
                option="--duet",
                hint="Leave --duet out.",
            )
        loaders = [case.case_id for case in cases if case.num_workers]
        if duet and loaders:
            raise UsageError(
                f"--duet: DataLoader workers of {loaders[0]} would fill their queues while the other side trains, "
                "which hides the time spent waiting for data",
                option="--duet",
                hint="Add --num-workers 0, or leave --duet out.",
            )
        return cls(kind, sides, plans, machine, out, duet)

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
        for warning in survey.notes():
            watcher.note(f"warning: {warning}")
        with (
            sites(self.sides, list(dict.fromkeys(case.workload for case in cases)), variables) as places,
            contextlib.ExitStack() as stack,
        ):
            store = stack.enter_context(contextlib.closing(Store.create(self.out, self.described())))
            sessions: dict[str, Session] = {}
            shared: dict[Site, CaseLauncher] = {}
            # Both sides of a duet run at once, so each has its own server, as has the second A of the control. Else
            # sides of the same site share servers. The speed of servers differs, for example with their address
            # layout: where the sides do not share a server, the control must not either.
            for name in [*self.plans, CONTROL] if self.duet or self._apart else self.plans:
                plan, site = (self.plans["A"], places["A"]) if name == CONTROL else (self.plans[name], places[name])
                launcher = None if self.duet or name == CONTROL else shared.get(site)
                session = Session(plan, survey, store, watcher, site=site, launcher=launcher)
                shared[site] = session.launcher
                sessions[name] = session
                stack.callback(session.close)
            yield store, sessions

    def completed(self, sessions: Mapping[str, Session]) -> list[Pair]:
        """Return the pairs, with the descriptions of their workloads completed."""
        plans = {
            name: dataclasses.replace(plan, cases=tuple(dict.fromkeys(sessions[name].workloads.complete(plan.cases))))
            for name, plan in self.plans.items()
        }
        return pairs(plans, self.sides)

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


def compete(asked: Asked, sides: Sequence[Side], out: Path, gating: Gating, watcher: Observer) -> Gate:
    """Measure two sides in turns and return the verdict; all measurements are recorded, even if it is interrupted."""
    rules, blocks, duet = gating.rules, gating.blocks, gating.duet
    a, b = (side.words for side in sides)
    check_blocks(blocks)
    contest = Contest.planned("ab", asked, sides, out, duet)
    with contest.begun(watcher) as (store, sessions):
        ready = contest.completed(sessions)
        counts = planned_blocks(
            [pair.name for pair in ready],
            _alike(calibrations(out, duet), ready, contest.protocol),
            rules.detect,
            blocks=blocks,
            budget=contest.protocol.budget,
            insists=gating.insists,
            warn=lambda text: watcher.note(f"warning: {text}"),
        )
        store.plan(contest.described(blocks=counts, rules=dataclasses.asdict(rules)))

        def block_ends(so_far: SoFar) -> None:
            if gating.so_far:
                gating.so_far(_so_far(gate(ab.rows, rules, a, b, counts), ready, so_far))

        ab = Ab(ready, sessions, counts, contest.protocol.order_seed, watcher.note, duet, block_ends)
        try:
            ab.run()
        except Interrupted:
            if ab.rows:
                watcher.note(f"warning: stopped; to judge what was measured: bench compare {store.run_id}")
            raise
    return gate(ab.rows, rules, a, b, counts)


def _so_far(judged: Gate, pairs: Sequence[Pair], so_far: SoFar) -> Gate:
    """Return the verdicts so far, with those on pairs that have no launch yet."""
    there = {one.case for one in judged.verdicts}
    due = [Verdict(pair.name, "inconclusive", "not measured yet") for pair in pairs if pair.name not in there]
    return dataclasses.replace(judged, verdicts=(*judged.verdicts, *due), so_far=so_far)


def calibrated(asked: Asked, blocks: int, duet: bool, out: Path, watcher: Observer) -> tuple[list[Noise], bool]:
    """Measure every case against itself; return the noise of each, and whether a launch failed."""
    contest = Contest.planned(CALIBRATE, asked, (Side("A"), Side("B")), out, duet)
    with contest.begun(watcher) as (store, sessions):
        ready = contest.completed(sessions)
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
