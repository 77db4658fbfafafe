"""``bench.ab``, ``bench.check`` and ``bench.compare``: two measurements of the same cases, and a verdict on each."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.comparing import Comparing
from bench.api.keywords import ASKING, as_text, asked_for, check_names, takes
from bench.api.margins import MARGINS, rules
from bench.api.runs import Run, silent
from bench.api.signals import recorded_first
from bench.errors import ResultsError, UsageError
from bench.plan.plan import make_plan
from bench.store import baselines
from bench.store.baselines import Baseline
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches
from bench.store.runs import find

if TYPE_CHECKING:
    import pandas as pd

    from bench.comparison.sides import Side
    from bench.runner.row_recorder import Observer
    from bench.stats.verdict import Gate, Rules

KIND = "launches.csv"
COMPARING = ("by", "run", "where", "session_spread")
SHOWN = ("case", "verdict", "ratio", "low", "high", "reason")  # in a notebook
Condition = Callable[[LaunchRow], bool]


@dataclass(frozen=True)
class Comparison:
    """What was found of B against A. ``gate`` has all of it."""

    gate: Gate

    @property
    def verdicts(self) -> pd.DataFrame:
        """A row a case: its verdict, why, and the ratio of throughput B / A with its bounds."""
        import pandas as pd

        from bench.stats.verdict import Verdict

        names = [field.name for field in dataclasses.fields(Verdict)]
        return pd.DataFrame([dataclasses.asdict(one) for one in self.gate.verdicts], columns=names)

    @property
    def exit_code(self) -> int:
        """0 good, 1 worse, 3 undecided, 4 not comparable, 5 a launch failed."""
        return self.gate.exit_code

    @property
    def sentence(self) -> str:
        """The whole in one sentence."""
        return self.gate.sentence

    def _repr_html_(self) -> str:
        table = self.verdicts[list(SHOWN)].to_html(index=False, na_rep="", border=0)
        return f"<p>{html.escape(self.sentence)}</p>{table}"


# -- two sides in turns ------------------------------------------------------------------------------------------------


@takes(*MARGINS, *ASKING)
def ab(
    *,
    a: Mapping[str, Any] | None = None,
    b: Mapping[str, Any] | None = None,
    duet: bool = False,
    blocks: int | None = None,
    out: str | Path = "results",
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Measure two sides in turns on this machine, and decide: is B slower than A?

    Both are what the keywords say, those of ``bench ab``; ``a`` and ``b`` have what a side does otherwise: axes,
    ``env`` (a mapping), ``python`` (an interpreter), ``rev`` (a git revision of the workload). Raises as ``run`` does.
    """
    own = {name: options.pop(name) for name in MARGINS if name in options}
    if options.get("launches") is not None:
        raise UsageError("launches: a comparison is made in blocks of A B B A; give blocks.")
    if blocks is not None and options.get("budget") is not None:
        raise UsageError("blocks and budget both say how long a comparison is; give one.")
    from bench.comparison.setup import Gating, compete

    sides = _side("A", a or {}), _side("B", b or {})
    law = rules(**own)
    with recorded_first():
        gating = Gating(law, blocks, own.get("detect") is not None, duet)
        gate = compete(asked_for(options), sides, Path(out), gating, observer or silent())
    return Comparison(gate)


def _side(name: str, given: Mapping[str, Any]) -> Side:
    from bench.comparison.sides import read_side

    env = given.get("env") or {}
    variables = [f"{one}={value}" for one, value in env.items()] if isinstance(env, Mapping) else list(env)
    axes = [f"{axis}={as_text(value)}" for axis, value in given.items() if axis not in ("env", "python", "rev")]
    return read_side(name, axes, variables, given.get("python"), given.get("rev"))


# -- a baseline --------------------------------------------------------------------------------------------------------


@takes(*MARGINS)
def check(
    baseline: str,
    *,
    run: str | Path | None = None,
    out: str | Path = "results",
    observer: Observer | None = None,
    **margins: Any,
) -> Comparison:
    """Measure the cases of a baseline anew, or take ``run``, and decide: is this machine slower than it was?"""
    check_names(margins, MARGINS)
    law, watcher = rules(**margins), observer or silent()
    kept = load_baseline(Path(out), baseline, lambda text: watcher.note(f"warning: {text}"))
    if run is not None:
        return Comparison(check_run(kept, law, Path(out), str(run), lambda text: watcher.note(f"warning: {text}")))
    with recorded_first():
        return Comparison(check_now(kept, law, Path(out), watcher))


def load_baseline(out: Path, name: str, warn: Callable[[str], None]) -> Baseline:
    """A baseline with launches of one kind of each case."""
    return baselines.settled(baselines.load(out, name, warn), warn)


def check_run(kept: Baseline, law: Rules, out: Path, run: str, warn: Callable[[str], None]) -> Gate:
    """The verdict on a run that was made without a control pair."""
    from bench.stats.against_baseline import against

    folder = find(out, run)
    rows = [row for row in read_launches(folder / "launches.csv", warn) if row.side is None]
    if not any(row.role == "measure" for row in rows):
        raise ResultsError(f"no launch is recorded in {folder}; run one, or name another run.")
    baselines.check_alike(kept, [row for row in rows if row.role == "measure"])
    if rows[0].run_id in kept.sessions:
        raise UsageError(f"run {rows[0].run_id} is part of baseline {kept.name}; judge a later one by it.")
    return against(kept.rows, rows, law, kept.name, None)


def check_now(kept: Baseline, law: Rules, out: Path, observer: Observer) -> Gate:
    """Measure the cases of a baseline, with a control pair, and judge. Signals are to be deferred."""
    from bench.comparison.baseline_check import Check, asked_again
    from bench.machine.gpus import this_machine
    from bench.runner.machine_survey import Survey
    from bench.runner.run_session import Session, begun
    from bench.stats.against_baseline import against
    from bench.store.writer import Store

    machine = this_machine()
    plan = make_plan(asked_again(kept), machine)
    survey = Survey.taken(machine, (planned.case for planned in plan.cases), out)
    for warning in survey.notes():
        observer.note(f"warning: {warning}")
    if len(kept.sessions) < baselines.LEAST_SESSIONS:
        observer.note(
            f"warning: baseline {kept.name} has too few sessions ({len(kept.sessions)}; {baselines.LEAST_SESSIONS} are "
            "needed): nothing will be decided, but the run can be added to it (bench baseline add)"
        )
    session = Session(plan, survey, Store.create(out, begun(plan, machine)), observer)
    checked = Check(kept, session, law, observer.note)
    try:
        checked.run()
    finally:
        session.close()
    return against(kept.rows, session.rows, law, kept.name, checked.control)


# -- two results -------------------------------------------------------------------------------------------------------


@takes(*COMPARING, *MARGINS)
def compare(
    a: Run | str | Path, b: Run | str | Path | None = None, *, out: str | Path = "results", **options: Any
) -> Comparison:
    """Compare two results case by case: is B slower than A?

    ``a`` and ``b`` are runs (objects, ids, paths), or with ``by`` two values of a column; ``a`` alone is a run of
    ``bench ab``. ``where`` (a mapping) leaves launches out that do not have these values, ``run`` names the runs that
    ``by`` is about, ``session_spread`` says how far sessions differ; ``detect``, ``floor``, ``floor_memory`` and
    ``strict`` are the margins of the verdicts.
    """
    check_names(options, (*COMPARING, *MARGINS))
    where = options.get("where") or ()
    conditions = [f"{name}={value}" for name, value in where.items()] if isinstance(where, Mapping) else list(where)
    found = Comparing(
        *(Path(out), silent().note, options.get("by"), options.get("run") or ()),
        *(conditions, options.get("session_spread")),
    )
    law = rules(**{name: options[name] for name in MARGINS if name in options})
    names = [str(one.folder) if isinstance(one, Run) else None if one is None else str(one) for one in (a, b)]
    return Comparison(found.gate(str(names[0]), names[1], law))
