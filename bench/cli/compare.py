"""``bench compare``: two results side by side, a verdict for each case."""

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
    _option("by", str | None, typer.Option(help="A column of which A and B are values.", metavar="COLUMN")),
    _option("run", list[str] | None, typer.Option("--run", help="With --by: of these runs (default: the latest).")),
    _option(
        "where",
        list[str] | None,
        typer.Option(help="Only launches with this value; repeatable.", metavar="COLUMN=VALUE"),
    ),
    _option(
        "session_spread",
        str | None,
        typer.Option(help="How far sessions differ: standard deviation of throughput.", metavar="SHARE"),
    ),
)


@with_verdict_options
@with_parameters("launches", LAUNCHES, dict)
def compare(
    judging: VerdictOptions,
    launches: Given,
    a: Annotated[str, typer.Argument(help="A run's id, latest, a folder or a launches.csv; with --by a value.")],
    b: Annotated[str | None, typer.Argument(help="The same; without it A is a run of `bench ab`.")] = None,
    out: Out = Path("results"),
) -> int:
    """Compare two results case by case: is B slower than A?

    Launches that share blocks are compared block by block; others are unpaired, and only as sure as sessions are alike.
    """
    from bench.api.comparing import Comparing

    found = Comparing(
        out, warn, launches["by"], launches["run"] or (), launches["where"] or (), launches["session_spread"]
    )
    return judging.tell(found.gate(a, b, judging.rules))
