"""Two sides for people: in sentences, where their differences come from and what costs less, and tables of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench.analysis.case_splits import CaseSplit
from bench.analysis.two_sides import TwoSides
from bench.plan.comms import size_text
from bench.report.files import objects
from bench.report.format import by_reason, case_or_cases, first_few, number
from bench.report.gate import COMMENT_BYTES, comment, not_notifying
from bench.report.markdown import section_parts
from bench.report.tables import (
    Column,
    Row,
    Table,
    count_column,
    figure_column,
    range_column,
    text_column,
    without_empty,
)
from bench.report.terminal import print_report
from bench.stats.step_split import PARTS, Part, Split
from bench.stats.verdict import worst_first

COMMUNICATION = PARTS[1]
# The collective that a strategy spends most bytes on; the first that both sides have measured is named.
OF_STRATEGIES = {"fsdp": ("all_gather", "reduce_scatter")}
OF_HSDP = ("all_reduce", "all_gather")  # Its replicas, which are on different nodes, exchange gradients.
OTHERWISE = ("all_reduce",)
NOTABLE = 0.1  # A ratio that far from 1 is worth a word.


# -- sentences -----------------------------------------------------------------------------------------------------


def sentences(found: TwoSides) -> list[str]:
    """Return the findings: where each difference comes from, for which cases that is unknown, what costs less."""
    return [*_causes(found), *_unmeasured(found), *_unknown(found), *_cheaper(found)]


def _causes(found: TwoSides) -> Iterator[str]:
    """Yield a sentence on each case that differs, or has a cause; one on all others that are not decided."""
    of_cases = {case.case: case for case in found.splits}
    others = []
    for verdict in worst_first(list(found.verdicts.values())):
        case = of_cases[verdict.case]
        if case.split and verdict.verdict in ("slower", "faster"):
            head = f"B is {abs((verdict.ratio or math.nan) - 1):.0%} {verdict.verdict} for {case.label}"
            yield f"{head}: {_cause(case, case.split, found.links)}."
        elif case.split and verdict.verdict == "inconclusive" and case.split.cause:
            yield f"Not decided for {case.label}, but {_cause(case, case.split, found.links)}."
        elif case.split and verdict.verdict == "inconclusive":
            others.append(case.label)
    if others:
        said = "Whether B is slower or faster, and where that comes from, is not decided for"
        yield f"{said} {case_or_cases(others)}: measure more sessions of both."


def _cause(case: CaseSplit, of: Split, links: pd.DataFrame) -> str:
    """Return which part of the step makes the difference, or that none is shown."""
    step, cause = of.step, of.cause
    change = f"{number(step.a_ms)} → {number(step.b_ms)} ms"
    each = f"{of.count} {of.units if of.count > 1 else of.units.removesuffix('es').removesuffix('s')} a side"
    if cause is None:
        return f"a step takes {change}, but no part of that is shown by {each}; measure more sessions of both"
    said = f"{of.share(cause):.0%} of the difference of a step ({change}) is {cause.name}, {_changed(cause, ' ms')}"
    link = _link(case, links) if cause.name == COMMUNICATION else ""
    return f"{said} by {each}" + (f"; {link} (bench comms)" if link else "")


def _changed(part: Part, unit: str = "") -> str:
    bounds = "" if math.isnan(part.low_ms) else f" ({part.low_ms:+.4g}…{part.high_ms:+.4g})"
    return f"{part.change_ms:+.4g}{unit}{bounds}"


def _link(case: CaseSplit, links: pd.DataFrame) -> str:
    """Return how the collective that the case spends most bytes on compares; an empty text if it was not measured."""
    own = links[(links["gpus"] == case.first.gpus) & (links["group"] == "all")]
    for collective in _collectives(str(case.first.strategy)):
        for row in own[own["collective"] == collective].to_dict("records"):
            return f"{_bandwidth(row)}{_latency(row)}"
    return ""


def _collectives(strategy: str) -> tuple[str, ...]:
    name, _, options = strategy.partition(":")
    return OF_HSDP if "replicate" in options else OF_STRATEGIES.get(name, OTHERWISE)


def _bandwidth(row: Row) -> str:
    ratio = row["busbw_ratio"]
    of = "of A's bus bandwidth" if ratio < 1 else "times A's bus bandwidth"
    return f"B's {row['collective']} of {size_text(int(row['largest_bytes']))} has {_times(ratio)} {of}"


def _latency(row: Row) -> str:
    ratio, known = row["time_ratio"], row["time_low"] > 1 or row["time_high"] < 1
    if not known or abs(ratio - 1) < NOTABLE:
        return ""
    return f", and one of {size_text(int(row['smallest_bytes']))} takes {_times(ratio)} times A's time"


def _times(ratio: float) -> str:
    """Return a ratio with two significant digits, without an exponent: ``0.25``, ``3.4``, ``120``."""
    return number(float(f"{ratio:.2g}"))


def _unmeasured(found: TwoSides) -> Iterator[str]:
    """Yield what to measure where communication is the cause and no collective says how the links compare."""
    waiting = [case for case in found.splits if case.split and (of := case.split.cause) and of.name == COMMUNICATION]
    counts = sorted({case.first.gpus or 0 for case in waiting if not _link(case, found.links)})
    if counts:
        yield f"bench comms --gpus {','.join(map(str, counts))} on both sides says how their links compare."


def _unknown(found: TwoSides) -> Iterator[str]:
    """Yield for which cases that differ, or may, the parts of the step are not known, and what to do."""
    named = [
        (case.label, case.why)
        for case in found.splits
        if case.split is None and found.verdicts[case.case].verdict in ("slower", "faster", "inconclusive")
    ]
    for names, why in by_reason(named):
        yield f"Where the difference comes from is not known for {case_or_cases(names)}: {why}."


def _cheaper(found: TwoSides) -> Iterator[str]:
    """Yield for which cases each side costs less, and for which that is not decided."""
    priced = found.costs[found.costs["price_a"].notna()]
    for side in ("A", "B"):
        rows = priced[priced["cheaper"] == side].to_dict("records")
        if rows:
            yield f"{side} costs less for {first_few([_cost(row) for row in rows])}."
    rows = priced[priced["cheaper"] == ""].to_dict("records")
    if rows:
        yield f"Which side costs less is not decided for {first_few([_cost(row) for row in rows])}."


def _cost(row: Row) -> str:
    unit = "samples" if math.isnan(row["per_million_tokens_a"]) else "tokens"
    a, b = (f"${number(row[f'per_million_{unit}_{side}'])}" for side in "ab")
    return f"{row['label']} ({a} in A, {b} in B per million {unit})"


# -- tables --------------------------------------------------------------------------------------------------------

SPLIT_NOTE = (
    "The change of the mean step of the window, in ms, and its parts, which add up to it exactly. Data is the time "
    "that a step waits for its batch. Exposed communication is the share of the profiled steps after the window that "
    "waits for communication, of the mean step; profiling may slow a step, so that this share is an estimate. The rest "
    "is what remains. In brackets are 95 % intervals by Student's t over launches, or over sessions where both sides "
    "have two or more; then the share of the step's change."
)
LINKS_NOTE = (
    "What bench comms measured on both sides: bus bandwidth at the largest common size, the time at the smallest, each "
    "with B / A and its 95 % interval, and α and β of t = α + bytes / β."
)
SCALING_NOTE = (
    "Efficiency is speed-up / (devices / devices of the base), each side by its own base; weak: the batch per device "
    "stays the same, strong: the global batch does."
)
COSTS_NOTE = (
    "Dollars are price per device and hour × devices × hours for a million samples or tokens, with the "
    "95 % interval of the median throughput over launches. B / A has the bounds of the verdict's ratio of throughput; "
    "where they include 1, or are not known, it is not decided what costs less."
)


def tables(found: TwoSides) -> list[Table]:
    """Return the tables that have rows, without the columns that have no value."""
    every = [
        Table("split", "Where the difference comes from", SPLIT_NOTE, SPLIT, _split_rows(found.splits)),
        Table("links", "Collectives of both sides", LINKS_NOTE, LINKS, found.links),
        Table("scaling", "Scaling of both sides", SCALING_NOTE, SCALING, found.scaling),
        Table("costs", "Price and energy", COSTS_NOTE, COSTS, found.costs),
    ]
    return [without_empty(table) for table in every if len(table.frame)]


def _split_rows(splits: Sequence[CaseSplit]) -> pd.DataFrame:
    return pd.DataFrame([_split_row(case, case.split) for case in splits if case.split])


def _split_row(case: CaseSplit, of: Split) -> dict[str, Any]:
    parts = {part.name: part for part in of.parts}
    row: dict[str, Any] = {"label": case.label, "a_ms": of.step.a_ms, "b_ms": of.step.b_ms, "method": case.method}
    row |= {"over": f"{of.count} {of.units}", "change": of.step.change_ms, "change_words": _changed(of.step)}
    for name, part in parts.items():
        row |= {name: part.change_ms, f"{name}_words": f"{_changed(part)} {_share(of, part)}"}
    return row


def _share(of: Split, part: Part) -> str:
    return "" if math.isnan(of.share(part)) else f"{round(of.share(part), 2) + 0:.0%}"  # + 0 turns -0.0 into 0.0.


def _worded(title: str, name: str) -> Column:
    return Column(title, lambda row: row[f"{name}_words"], name)


SPLIT = (
    text_column("case", "label"),
    figure_column("A ms", "a_ms"),
    figure_column("B ms", "b_ms"),
    _worded("step, ms", "change"),
    *(_worded(f"{name}, ms", name) for name in PARTS),
    text_column("communication by", "method", brief=False),
    text_column("over", "over"),
)


def _size(title: str, name: str) -> Column:
    return Column(title, lambda row: "" if row[name] is None else size_text(int(row[name])), name)


def _ratio(name: str) -> tuple[Column, Column]:
    """Return the columns of a ratio B / A, ``name`` with ``_ratio``, and of its interval."""
    return figure_column("B / A", f"{name}_ratio"), range_column("95 %", name, lambda value: f"{value:.3g}")


LINKS = (
    text_column("collective", "collective"),
    Column("ranks", lambda row: f"{row['group']} {row['group_ranks']}", "group_ranks", numeric=False),
    text_column("type", "dtype", brief=False),
    text_column("backend", "backend", brief=False),
    _size("at", "largest_bytes"),
    figure_column("A GB/s", "busbw_a"),
    figure_column("B GB/s", "busbw_b"),
    *_ratio("busbw"),
    _size("at ", "smallest_bytes"),
    figure_column("A µs", "time_us_a"),
    figure_column("B µs", "time_us_b"),
    *_ratio("time"),
    *(figure_column(f"{side} α µs", f"alpha_us_{side.lower()}", brief=False) for side in "AB"),
    *(figure_column(f"{side} β GB/s", f"beta_{side.lower()}", brief=False, scale=1e3) for side in "AB"),
)


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _efficiency(side: str) -> tuple[Column, Column]:
    name = f"efficiency_{side.lower()}"

    def words(row: Row) -> str:
        low, high = row[f"efficiency_low_{side.lower()}"], row[f"efficiency_high_{side.lower()}"]
        return "" if low is None else f"{_percent(low)}…{_percent(high)}"

    shown_as = Column(f"{side} efficiency", lambda row: "" if row[name] is None else _percent(row[name]), name)
    return shown_as, Column(f"{side} 95 %", words, f"efficiency_low_{side.lower()}")


SCALING = (
    text_column("case", "label"),
    text_column("mode", "mode"),
    count_column("devices", "gpus"),
    figure_column("A samples/s", "samples_per_s_a"),
    figure_column("B samples/s", "samples_per_s_b"),
    *_efficiency("A"),
    *_efficiency("B"),
)


def _dollars(side: str, unit: str) -> tuple[Column, Column]:
    name, end = f"per_million_{unit}", f"_{side.lower()}"

    def words(row: Row) -> str:
        low, high = row[f"{name}_low{end}"], row[f"{name}_high{end}"]
        return "" if low is None else f"{number(low)}…{number(high)}"

    return figure_column(f"{side} $/M {unit}", name + end), Column(f"{side} 95 %", words, f"{name}_low{end}")


COSTS = (
    text_column("case", "label"),
    *(column for unit in ("samples", "tokens") for side in "AB" for column in _dollars(side, unit)),
    figure_column("B / A", "ratio"),
    range_column("95 %", "ratio", lambda value: f"{value:.3g}"),
    text_column("costs less", "cheaper"),
    *(figure_column(f"{side} J/{unit}", f"joules_per_{unit}_{side.lower()}")
      for unit in ("sample", "token") for side in "AB"),
    figure_column("J, B / A", "joules_ratio"),
)  # fmt: skip
# -- forms ---------------------------------------------------------------------------------------------------------


def print_two_sides(found: TwoSides, console: Console) -> None:
    """Print what there is to say beside the verdicts: sentences first, then tables."""
    if said := sentences(found):
        console.print()
        for sentence in said:
            console.print(Text(f"• {sentence}"), soft_wrap=True)
    print_report((), tables(found), console)


def comment_of(found: TwoSides) -> str:
    """Return the gate's Markdown for a comment, and the sentences and tables as far as a comment has room for them."""
    whole = comment(found.gate)
    for said, shown in ((sentences(found), []), *(((), [table]) for table in tables(found))):
        part = "\n\n".join(section_parts(said, shown))
        longer = f"{whole}\n{not_notifying(part)}\n" if part else whole
        if len(longer.encode()) > COMMENT_BYTES:
            break
        whole = longer
    return whole


def as_objects(found: TwoSides) -> Mapping[str, Any]:
    """Return the findings and the frames for JSON, each frame as a list of objects."""
    frames = {"split": found.split, "links": found.links, "scaling": found.scaling, "costs": found.costs}
    return {"findings": sentences(found), **{name: objects(frame) for name, frame in frames.items()}}
