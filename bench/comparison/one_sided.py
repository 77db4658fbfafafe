"""Workloads that only one side of a comparison has, as with the commit that brings them or removes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.comparison.sides import Side
from bench.errors import MissingWorkloadError, UsageError
from bench.messages.spec import SIDES
from bench.plan.case import Case
from bench.plan.plan import Plan, Planned
from bench.runner.rank_site import Site
from bench.runner.run_session import Session


@dataclass(frozen=True)
class OneSided:
    """A case of one side: ``lacks`` is the side without its workload, and ``why`` says so in words."""

    planned: Planned
    lacks: str
    why: str

    @property
    def name(self) -> str:
        """The case_id, as that of a pair."""
        return self.planned.case.case_id


Reasons = dict[str, dict[str, str]]  # By side, and by workload: why it is not there.


def may_lack(sides: Iterable[Side]) -> bool:
    """Return whether a side may lack a workload: it is another revision, and the workload is that of both sides."""
    return any(side.rev for side in sides) and all("workload" not in side.axes for side in sides)


def completed(
    plans: Mapping[str, Plan], sides: Sequence[Side], sessions: Mapping[str, Session]
) -> tuple[dict[str, Plan], list[OneSided]]:
    """Return the plans with what only torch knows of their cases, and the cases of which one side lacks the workload.

    BenchError if no case is left that can run.
    """
    lacking, cases = may_lack(sides), {side: plan.cases for side, plan in plans.items()}
    places = {side: session.site for side, session in sessions.items()}
    reasons = without_file(cases, places) if lacking else {side: {} for side in plans}
    for side, planned in cases.items():
        there = [one for one in planned if one.case.workload not in reasons[side]]
        workloads = sessions[side].workloads
        cases[side] = tuple(dict.fromkeys(workloads.complete(there, may_lack=lacking)))
        missing = workloads.missing if lacking else {}
        reasons[side] |= {name: _what_is_missing(error, places[side]) for name, error in missing.items()}
    alone = _on_one_side(reasons)
    if not alone and all(one.skip for of in cases.values() for one in of):
        for error in sessions[SIDES[0]].workloads.missing.values():
            raise error
    one_sided = [
        OneSided(one, *alone[one.case.workload])
        for side, of in cases.items()
        for one in of
        if one.case.workload in alone and alone[one.case.workload][0] != side
    ]
    if any(one.planned.case.auto_batch for one in one_sided):
        raise UsageError("--batch-size auto: a comparison needs a batch size", option="--batch-size", hint="Give one.")
    return {side: dataclasses.replace(plan, cases=_but(cases[side], alone)) for side, plan in plans.items()}, one_sided


def _but(cases: Iterable[Planned], workloads: Collection[str]) -> tuple[Planned, ...]:
    return tuple(one for one in cases if one.case.workload not in workloads)


def _what_is_missing(error: MissingWorkloadError, site: Site) -> str:
    """Return what a rank said, without the name of the error before it, and with a path inside the checkout."""
    return error.message.rpartition("MissingWorkloadError: ")[2].replace(f"{site.root}/", "")


def without_file(plans: Mapping[str, Iterable[Planned]], sites: Mapping[str, Site]) -> Reasons:
    """Return the workloads and scripts whose file is in the checkout of one side only.

    UsageError for a file that is on neither side. Modules may be installed, so that no file on either side is no error.
    """
    found: Reasons = {side: {} for side in plans}
    for side, planned in plans.items():
        for case in (one.case for one in planned if one.skip is None):
            files = _files(sites[side], case)
            if files and not any(map(Path.is_file, files)):
                found[side][case.workload] = f"there is no {_within(sites[side], files[0])}"
    both = set.intersection(*(set(of) for of in found.values()))
    cases = {one.case.workload: one.case for planned in plans.values() for one in planned}
    for workload in sorted(both):
        spec = cases[workload].spec
        if spec.script != "module":
            option, given = ("--script", spec.target) if spec.script else ("--workload", workload)
            raise UsageError(option=option, given=given, allowed="a Python file that exists on one of the sides")
    return {side: {name: why for name, why in of.items() if name not in both} for side, of in found.items()}


def _on_one_side(reasons: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """Return by workload the side that lacks it, and why; without those that both lack."""
    a, b = (reasons[side] for side in SIDES)
    return {
        name: (side, of[name])
        for side, of, other in ((SIDES[0], a, b), (SIDES[1], b, a))
        for name in of
        if name not in other
    }


def _files(site: Site, case: Case) -> Sequence[Path]:
    """Return where the file of a workload may be in a checkout; none if only its import can tell."""
    spec = case.spec
    if spec.script == "module":
        module = (site.folder() or Path.cwd()).joinpath(*spec.target.split("."))
        return [module.with_suffix(".py"), module / "__main__.py"]
    where = spec.target if spec.script else spec.target.rpartition(":")[0]
    return [site.moved(where)] if spec.script or (spec.entry is None and where.endswith(".py")) else []


def _within(site: Site, file: Path) -> str:
    inside = bool(site.root) and file.is_relative_to(site.root)
    return str(file.relative_to(site.root) if inside else file)
