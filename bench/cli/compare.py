"""``bench compare``: compares two existing results, and prints verdicts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.console import say, warn
from bench.cli.shared_options import Given, Out, keyword_parameter, with_parameters
from bench.cli.verdict_options import VerdictOptions, with_verdict_options
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.analysis.two_sides import TwoSides
    from bench.api.gates import Comparison


def _option(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return keyword_parameter(name, Annotated[kind, option], None)


def _file(what: str, metavar: str = "FILE") -> Any:
    return typer.Option(help=what, metavar=metavar, show_default=False)


PRICE = "Dollars per device and hour of A and of B, such as A=2.5,B=4: shows what a million samples or tokens cost."
FILES = (
    _option("html", Path | None, _file("Write one self-contained page with charts.")),
    _option("plots", Path | None, _file("Write every chart as PNG and SVG.", "DIR")),
)
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
    _option("price", str | None, typer.Option(help=PRICE, metavar="A=USD,B=USD")),
)


@with_verdict_options
@with_parameters("files", FILES, dict)
@with_parameters("launches", LAUNCHES, dict)
def compare(
    verdict_options: VerdictOptions,
    files: Given,
    launches: Given,
    a: Annotated[str, typer.Argument(help="A run, a folder of one or several runs, or a baseline; with --by a value.")],
    b: Annotated[str | None, typer.Argument(help="Like A; without it, A is a run of `bench ab`.")] = None,
    out: Out = Path("results"),
) -> int:
    """Compare two results case by case, and decide whether B is slower than A.

    Launches that share blocks are compared block by block. Others are unpaired, and the verdicts allow for differences
    between sessions. Where both sides were profiled, it says where a difference comes from.
    """
    from bench.api.comparing import Comparing
    from bench.api.gates import Comparison

    chosen = (launches["by"], launches["run"] or (), launches["where"] or (), launches["session_spread"])
    gate, beside = Comparing(out, warn, *chosen, launches["price"]).gate(a, b, verdict_options.rules)
    for flag, file in (("--html", files["html"]), ("--plots", files["plots"])):
        if file and beside is None:
            raise UsageError(f"{flag} needs two arguments, A and B", option=flag, given=file, hint="Give B as well.")
    code = verdict_options.report(gate, beside)
    if beside:
        _write(Comparison(gate, beside), beside, files)
    return code


def _write(compared: Comparison, beside: TwoSides, files: Given) -> None:
    """Write the page and the charts that were asked for."""
    from bench.report.files import write_text
    from bench.report.plots import write_plots
    from bench.report.two_sides_page import charts

    if files["html"]:
        say(f"wrote {write_text(files['html'], compared.html())}")
    if files["plots"]:
        for file in write_plots(charts(beside), files["plots"]):
            say(f"wrote {file}")
