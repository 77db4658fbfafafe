"""``bench list``: lists workloads, strategies, suites, and the values of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from bench.errors import EXIT_OK, UsageError, did_you_mean
from bench.plan.optimizers import OPTIMIZERS
from bench.plan.options import (
    ATTENTION,
    AXES,
    CHECKPOINTING,
    COMPILE,
    COMPILE_SCOPES,
    PRECISIONS,
    SAVING,
    SETTINGS,
)
from bench.plan.strategies import STRATEGIES
from bench.plan.strategy_costs import COSTS, SYMBOLS
from bench.plan.suite_file import suites
from bench.report.format import wide_console
from bench.report.wide_tables import print_table
from workloads import ADAPTERS, WORKLOADS


def list_(
    what: Annotated[
        str | None, typer.Argument(metavar="WHAT", help="What to list; without it, the possible words.")
    ] = None,
    long: Annotated[bool, typer.Option("--long", help="Of strategies: what each divides, sends and keeps.")] = False,
) -> int:
    """List workloads, strategies with their options, values of other axes, suites, or all options."""
    if long and what != "strategies":
        raise UsageError(option="--long", given=what or "no word", allowed="strategies", hint="Leave --long out.")
    if what is None:
        print("\n".join(f"bench list {name}" for name in _TABLES))
    elif what in _TABLES:
        print_table(_TABLES[what](), wide_console())
        if long:
            print(f"\n{SYMBOLS}\n")
            print_table(_costs(), wide_console())
    else:
        raise UsageError(option="list", given=what, allowed=", ".join(_TABLES), hint=did_you_mean(what, _TABLES))
    return EXIT_OK


def _table(name: str, *titles: str) -> Table:
    """Return an empty table whose first column has names, which are never broken."""
    others = (Column(title, overflow="fold") for title in titles)
    return Table(Column(name, no_wrap=True), *others, show_edge=False, pad_edge=False)


def _workloads() -> Table:
    table = _table("workload", "parameters", "unit", "batch", "data", "options", "what it is")
    for name, entry in WORKLOADS.items():
        options = " ".join(f"{option}={value}" for option, value in entry.options.items())
        size = f"{entry.parameters:,}"
        table.add_row(name, size, entry.unit, str(entry.batch_size), ", ".join(entry.data), options, entry.about)
    for name, adapter in ADAPTERS.items():
        table.add_row(name, "", "", "", "", Text(adapter.options.replace(":", " ")), Text(adapter.about))
    return table


def _strategies() -> Table:
    table = _table("strategy", "values", "default", "what it does")
    for name, strategy in STRATEGIES.items():
        table.add_row(name, "", "", Text(strategy.about))
        for option, choice in strategy.options.items():
            table.add_row(f"  :{option}=", choice.allowed, choice.default, Text(choice.about))
    return table


def _costs() -> Table:
    table = _table(
        "strategy", "what is divided", "collectives of a step, bytes", "parameters, gradients and state, bytes"
    )
    for name, costs in COSTS.items():
        table.add_row(name, *map(Text, costs))
    return table


def _values(title: str, values: Mapping[str, str]) -> Callable[[], Table]:
    def make() -> Table:
        table = _table(title, "what it does")
        for name, about in values.items():
            table.add_row(name, Text(about))
        return table

    return make


def _suites() -> Table:
    table = _table("suite", "question")
    for name, about in suites().items():
        table.add_row(name, about)
    return table


def _options() -> Table:
    table = _table("option", "values", "default", "meaning")
    for option in [*AXES.values(), *SETTINGS.values()]:
        table.add_row(option.flag, Text(option.allowed), option.shown_default, Text(option.help))
    return table


_TABLES = {
    "workloads": _workloads,
    "strategies": _strategies,
    "precisions": _values("precision", PRECISIONS),
    "checkpointing": _values("activation checkpointing", CHECKPOINTING),
    "compile": _values("compile", COMPILE),
    "compile-scopes": _values("compile scope", COMPILE_SCOPES),
    "attention": _values("attention", ATTENTION),
    "saving": _values("way to save", SAVING),
    "optimizers": _values("optimizer", {name: one.about for name, one in OPTIMIZERS.items()}),
    "suites": _suites,
    "options": _options,
}
