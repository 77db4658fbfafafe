"""``bench compare``: compares two existing results, and prints verdicts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.console import warn
from bench.cli.shared_options import Given, Out, keyword_parameter, with_parameters
from bench.cli.verdict_options import VerdictOptions, with_verdict_options


def _option(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return keyword_parameter(name, Annotated[kind, option], None)


LAUNCHES = (
    _option("by", str | None, typer.Option(help="A column whose values A and B to compare.", metavar="COLUMN")),
    _option("run", list[str] | None, typer.Option("--run", help="Runs to take with --by (default: the latest).")),
    _option(
        "where",
        list[str] | None,
        typer.Option(help="Only launches with this value in the column; repeatable.", metavar="COLUMN=VALUE"),
    ),
    _option(
        "session_spread",
        str | None,
        typer.Option(help="Standard deviation of throughput between sessions.", metavar="SHARE"),
    ),
)


@with_verdict_options
@with_parameters("launches", LAUNCHES, dict)
def compare(
    verdict_options: VerdictOptions,
    launches: Given,
    a: Annotated[str, typer.Argument(help="A run's id, latest, a folder or a launches.csv; with --by a value.")],
    b: Annotated[str | None, typer.Argument(help="Like A; without it, A is a run of `bench ab`.")] = None,
    out: Out = Path("results"),
) -> int:
    """Compare two results case by case, and decide whether B is slower than A.

    Launches that share blocks are compared block by block. Others are unpaired, and the verdicts allow for differences
    between sessions.
    """
    from bench.api.comparing import Comparing

    found = Comparing(
        out, warn, launches["by"], launches["run"] or (), launches["where"] or (), launches["session_spread"]
    )
    return verdict_options.report(found.gate(a, b, verdict_options.rules))
