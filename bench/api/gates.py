"""``bench.ab``, ``bench.check`` and ``bench.compare``: two measurements of the same cases, and a verdict on each."""

from __future__ import annotations

import contextlib
import dataclasses
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench
from bench.api.comparing import Comparing
from bench.api.keywords import (
    ASKING,
    as_text,
    asked_for,
    check_names,
    folder_of,
    mapping_of,
    run_name,
    takes,
    words_of,
)
from bench.api.margins import MARGINS, rules
from bench.api.runs import Run, silent, warner
from bench.api.signals import recorded_first
from bench.errors import ResultsError, UsageError
from bench.plan.options import ALIASES
from bench.plan.plan import make_plan
from bench.store import baselines
from bench.store.baselines import Baseline
from bench.store.cells import cell
from bench.store.columns import LAUNCHES
from bench.store.comms_rates import beside_rates, figures
from bench.store.reader import read_launches
from bench.store.runs import find

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis.two_sides import TwoSides
    from bench.comparison.sides import Side
    from bench.runner.row_recorder import Observer
    from bench.runner.several_nodes import SeveralNodes
    from bench.stats.verdict import Gate, Rules

COMPARING = ("by", "run", "where", "session_spread", "price")
SHOWN = ("case", "verdict", "ratio", "low", "high", "reason")  # Columns in a notebook.


@dataclass(frozen=True)
class Comparison:
    """The result of comparing B with A; ``gate`` has all details.

    ``beside`` has what there is to say about two results beside the verdicts; it is None for ``ab`` and ``check``.
    """

    gate: Gate
    beside: TwoSides | None = None

    @property
    def verdicts(self) -> pd.DataFrame:
        """A row per case: its verdict with the reason, and the throughput ratio B / A with its bounds."""
        import pandas as pd

        from bench.stats.verdict import Verdict

        names = [field.name for field in dataclasses.fields(Verdict)]
        return pd.DataFrame([dataclasses.asdict(one) for one in self.gate.verdicts], columns=names)

    @property
    def exit_code(self) -> int:
        """0: good, 1: worse, 3: undecided, 4: not comparable, 5: a launch failed."""
        return self.gate.exit_code

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return self.gate.sentence

    @property
    def findings(self) -> list[str]:
        """Where each difference comes from and which side costs less, one sentence each."""
        from bench.report.two_sides import sentences

        return sentences(self._both)

    @property
    def split(self) -> pd.DataFrame:
        """A row for each case and part of its mean step: both sides in ms, the change with its bounds and its share."""
        return self._both.split

    @property
    def links(self) -> pd.DataFrame:
        """A row for each collective that ``bench comms`` measured on both sides, with the ratios B / A."""
        return self._both.links

    @property
    def scaling(self) -> pd.DataFrame:
        """A row for each case and mode of which both sides have a speed-up."""
        return self._both.scaling

    @property
    def costs(self) -> pd.DataFrame:
        """A row for each case with a price or joules: dollars per million samples and tokens, joules of each."""
        return self._both.costs

    def html(self) -> str:
        """Return a whole page that needs no network and no other file."""
        from bench.report.two_sides_page import page_of

        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return page_of(self._both, [f"stepbench {bench.__version__}, {when}"])

    @property
    def _both(self) -> TwoSides:
        if self.beside is None:
            raise UsageError("only a comparison of two results has this", option="compare", hint="Use bench.compare.")
        return self.beside

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
    """Measure two sides in turns on this machine, and decide whether B is slower than A.

    The keywords are the options of ``bench ab``, and hold for both sides. ``a`` and ``b`` are what each side overrides:
    axes, ``env`` (a mapping), ``python`` (an interpreter), ``rev`` (a git revision of the workload). Raises the errors
    of ``run``, and IncomparableError if the sides do different work.
    """
    check_names(options, (*MARGINS, *ASKING, *ALIASES))
    own = {name: options.pop(name) for name in MARGINS if name in options}
    if blocks is not None and (not isinstance(blocks, int) or isinstance(blocks, bool)):
        raise UsageError(option="blocks", given=blocks, allowed="a whole number")
    if options.get("launches") is not None:
        raise UsageError(
            "launches: a comparison is measured in blocks of A B B A",
            option="launches",
            given=options["launches"],
            hint="Give blocks.",
        )
    if blocks is not None and options.get("budget") is not None:
        raise UsageError("blocks and budget both set the length of a comparison", option="blocks", hint="Give one.")
    from bench.comparison.setup import Gating, compete

    sides = _side("A", {} if a is None else a), _side("B", {} if b is None else b)
    gate_rules = rules(**own)
    with recorded_first():
        gating = Gating(gate_rules, blocks, own.get("detect") is not None, duet)
        gate = compete(asked_for(options), sides, folder_of(out), gating, observer or silent())
    return Comparison(gate)


def _side(name: str, given: Any) -> Side:
    from bench.comparison.sides import read_side

    known = {what: value for what, value in mapping_of(name.lower(), given).items() if value is not None}
    env = known.pop("env", {})
    variables = [f"{one}={as_text(value)}" for one, value in mapping_of(f"{name.lower()}: env", env).items()]
    python, rev = (None if known.get(what) is None else as_text(known.pop(what)) for what in ("python", "rev"))
    return read_side(name, [f"{axis}={as_text(value)}" for axis, value in known.items()], variables, python, rev)


# -- a baseline --------------------------------------------------------------------------------------------------------


@takes(*MARGINS)
def check(
    baseline: str,
    *,
    run: str | Path | Run | None = None,
    out: str | Path = "results",
    observer: Observer | None = None,
    **margins: Any,
) -> Comparison:
    """Measure the cases of a baseline again, or take ``run``, and decide whether they have become slower.

    Raises a child of BenchError: IncomparableError if there is no such baseline, or it is of another machine.
    """
    check_names(margins, MARGINS)
    if not isinstance(baseline, str):
        raise UsageError(option="baseline", given=baseline, allowed="the name of a baseline")
    gate_rules, folder, warn = rules(**margins), folder_of(out), warner(observer)
    kept = load_baseline(folder, baseline, warn)
    if run is not None:
        return Comparison(check_run(kept, gate_rules, folder, run_name(run), warn))
    with recorded_first():
        return Comparison(check_now(kept, gate_rules, folder, observer or silent()))


def load_baseline(out: Path, name: str, warn: Callable[[str], None]) -> Baseline:
    """Return a baseline whose launches of a case are alike."""
    return baselines.settled(baselines.load(out, name, warn), warn)


def check_run(kept: Baseline, gate_rules: Rules, out: Path, run: str, warn: Callable[[str], None]) -> Gate:
    """Return the verdict on an existing run, which has no control pair."""
    from bench.stats.against_baseline import against

    folder = find(out, run)
    rows = [row for row in read_launches(folder / "launches.csv", warn) if row.side is None]
    rows = beside_rates(folder, rows, warn)
    if not any(row.role == "measure" for row in rows):
        raise ResultsError(
            f"{folder} records no launch", option="run", given=run, hint="Name another run, or resume this one."
        )
    baselines.check_alike(kept, [row for row in rows if row.role == "measure"])
    if rows[0].run_id in kept.sessions:
        raise UsageError(
            f"run {rows[0].run_id} is part of baseline {kept.name}", option="run", given=run, hint="Name a later run."
        )
    return against(figures(kept.rows), figures(rows), gate_rules, kept.name, None)


def check_now(
    kept: Baseline, gate_rules: Rules, out: Path, observer: Observer, nodes: SeveralNodes | None = None
) -> Gate:
    """Measure the cases of a baseline with a control pair, and return the verdict; the caller defers signals."""
    from bench.comparison.baseline_check import Check, asked_again
    from bench.machine.gpus import this_machine
    from bench.runner.machine_survey import Survey
    from bench.runner.run_session import Session, begun
    from bench.runner.several_nodes import OneNode
    from bench.stats.against_baseline import against
    from bench.store.writer import Store

    machine = this_machine()
    nodes = nodes or OneNode()
    plan = nodes.checked({"": make_plan(asked_again(kept), nodes.machine(machine))}, observer)[""]
    survey = nodes.surveyed(Survey.taken(machine, (planned.case for planned in plan.cases), out))
    for warning in survey.notes():
        observer.note(f"warning: {warning}")
    if len(kept.sessions) < baselines.LEAST_SESSIONS:
        observer.note(
            f"warning: baseline {kept.name} has {len(kept.sessions)} of {baselines.LEAST_SESSIONS} sessions: changes "
            f"are shown and nothing is decided; add this run to it: bench baseline add {kept.name} latest"
        )
    with contextlib.closing(Store.create(out, begun(plan, machine))) as store:
        session = Session(plan, survey, store, observer, over_nodes=nodes.launcher)
        with contextlib.closing(session):
            checked = Check(kept, session, gate_rules, observer.note)
            checked.run()
    return against(figures(kept.rows), checked.rows, gate_rules, kept.name, checked.control)


# -- two results -------------------------------------------------------------------------------------------------------


@takes(*COMPARING, *MARGINS)
def compare(
    a: Run | str | Path, b: Run | str | Path | None = None, *, out: str | Path = "results", **options: Any
) -> Comparison:
    """Compare two results case by case, decide whether B is slower than A, and say where that comes from.

    ``a`` and ``b``: runs (objects, ids or paths), folders with the runs of several sessions, or baselines; with ``by``
    two values of that column; ``a`` alone is a run of ``bench ab``. ``where``: a mapping; only launches with these
    values are used. ``run``: the runs for ``by``. ``session_spread``: how far sessions differ, as a share. ``price``:
    dollars per device and hour, as ``{"A": 2.5, "B": 4}``. ``detect``, ``floor``, ``floor_memory``, ``strict``: the
    margins of the verdicts. Raises a child of BenchError.
    """
    check_names(options, (*COMPARING, *MARGINS))
    by = options.get("by")
    if by is not None and not isinstance(by, str):
        raise UsageError(option="by", given=by, allowed="the name of a column")
    found = Comparing(
        *(folder_of(out), warner(), by, words_of("run", options.get("run"))),
        *(_conditions(options.get("where")), options.get("session_spread"), options.get("price")),
    )
    gate_rules = rules(**{name: options[name] for name in MARGINS if name in options})
    names = [None if one is None else _cell(by, one) if by else run_name(one) for one in (a, b)]
    return Comparison(*found.gate(str(names[0]), names[1], gate_rules))


def _conditions(where: Any) -> list[str]:
    """Return conditions as on the command line: ``COLUMN=VALUE``."""
    if isinstance(where, Mapping):
        return [f"{name}={_cell(name, value)}" for name, value in mapping_of("where", where).items()]
    return [where] if isinstance(where, str) else words_of("where", where)


def _cell(name: str, value: Any) -> str:
    """Return a value as a cell of a column."""
    column = LAUNCHES.get(name.replace("-", "_"))
    if isinstance(value, (bool, float, int, type(None))) and column and column.kind != "text":
        return cell(value, column)
    return "" if value is None else as_text(value)
