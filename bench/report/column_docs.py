"""Write the tables of docs/columns.md and docs/options.md from the tables of the code: `make dictionary`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.machine.hardware import FACTS
from bench.plan import comms
from bench.plan.optimizers import HOW, OPTIMIZERS
from bench.plan.options import (
    ACTIVATION_OFFLOAD,
    ATTENTION,
    AXES,
    CHECKPOINTING,
    COMPILE,
    COMPILE_SCOPES,
    INIT,
    MATMUL_PEAK,
    PRECISIONS,
    PROFILES,
    SAVING,
    SCHEDULERS,
    SETTINGS,
    Option,
)
from bench.plan.strategies import STRATEGIES
from bench.plan.strategy_costs import COSTS
from bench.plan.suite_file import suites
from bench.store.columns import FILES, Column
from workloads import ADAPTERS, WORKLOADS

VALUES = {
    "precision": PRECISIONS,
    "activation_checkpointing": CHECKPOINTING,
    "activation_offload": ACTIVATION_OFFLOAD,
    "attention": ATTENTION,
    "compile": COMPILE,
    "compile_scope": COMPILE_SCOPES,
    "optimizer": {name: one.about for name, one in OPTIMIZERS.items()} | {f"NAME:{way}": HOW[way] for way in HOW},
    "lr_scheduler": SCHEDULERS,
    "init": INIT,
    "save_checkpoint": SAVING,
    "profile": PROFILES,
    "matmul_peak": MATMUL_PEAK,
}
OPTIONS = {**AXES, **SETTINGS}
PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with every table rewritten.

    A table ``NAME`` stands between the lines ``<!-- table: NAME -->`` and ``<!-- end of table -->``. Raise KeyError for
    an unknown name.
    """
    made = tables()
    return PLACE.sub(lambda place: f"{place[1]}\n{made[place[2]]}\n{place[3]}", page)


def tables() -> dict[str, str]:
    """Return each table as Markdown, by name."""
    return {
        "options": options_table([*AXES.values(), *SETTINGS.values()]),
        "values": values_table(),
        "strategy-costs": costs_table(),
        "workloads": workloads_table(),
        "suites": suites_table(),
        "comms": options_table(comms.OPTIONS.values()),
        "collectives": collectives_table(),
        **{name: columns_table(columns) for name, columns in FILES.items()},
        "hardware": hardware_table(),
    }


def columns_table(columns: dict[str, Column]) -> str:
    """Return the columns of one file of results."""
    rows = [(f"`{name}`", kind, unit, meaning) for name, (kind, unit, meaning) in columns.items()]
    return _table(("column", "kind", "unit", "meaning"), rows)


def options_table(options: Iterable[Option]) -> str:
    """Return options with their values and defaults."""
    rows = []
    for option in options:
        most = "" if option.most is None else f"; at most {option.most:,.10g}"
        rows.append((f"`{option.flag}`", option.allowed + most, option.shown_default, option.help))
    return _table(("option", "values", "default", "meaning"), rows)


def values_table() -> str:
    """Return the values of the options in VALUES and of ``--strategy``, with their meanings."""
    rows = []
    for name, strategy in STRATEGIES.items():
        rows.append(("`--strategy`", f"`{name}`", strategy.about))
        for option, choice in strategy.options.items():
            rows.append(("", f"`{name}:{option}=` {choice.allowed} (default {choice.default})", choice.about))
    for name, values in VALUES.items():
        rows += [(f"`{OPTIONS[name].flag}`", f"`{value}`", about) for value, about in values.items()]
    return _table(("option", "value", "meaning"), rows)


def costs_table() -> str:
    """Return what each strategy divides, sends and keeps."""
    rows = ((f"`{name}`", *costs) for name, costs in COSTS.items())
    return _table(
        ("strategy", "what is divided", "collectives of a step, bytes", "parameters, gradients and state, bytes"), rows
    )


def workloads_table() -> str:
    """Return the built-in workloads."""
    rows = []
    for name, entry in WORKLOADS.items():
        options = " ".join(f"`:{option}={value}`" for option, value in entry.options.items())
        data = ", ".join(entry.data)
        rows.append((f"`{name}`", f"{entry.parameters:,}", str(entry.batch_size), data, options, entry.about))
    for name, adapter in ADAPTERS.items():
        options = " ".join(f"`:{option}`" for option in adapter.options.split(":"))
        rows.append((f"`{name}`", "", "", "", options, adapter.about))
    return _table(("workload", "parameters", "batch size", "data", "options", "model"), rows)


def suites_table() -> str:
    """Return the built-in suites, each with the question that it answers."""
    rows = [(f"`{name}`", about.partition("?")[0] + "?") for name, about in suites().items()]
    return _table(("suite", "question"), rows)


def collectives_table() -> str:
    """Return the collectives of ``bench comms``, with their factors over 2 and over 8 ranks."""
    titles = ("collective", "result", "busbw / algbw, 2 ranks", "8 ranks")
    rows = [
        (f"`{name}`", one.about, *("" if name == comms.BARRIER else f"{one.factor(n):g}" for n in (2, 8)))
        for name, one in comms.COLLECTIVES.items()
    ]
    return _table(titles, rows)


def hardware_table() -> str:
    """Return the facts in the column ``hardware``, and whether they are in env_key."""
    rows = [(f"`{name}`", "yes" if fact.in_env_key else "", fact.about) for name, fact in FACTS.items()]
    return _table(("fact", "in `env_key`", "meaning"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
