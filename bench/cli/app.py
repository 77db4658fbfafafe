"""The subcommands, put together."""

from __future__ import annotations

import typer

import bench
from bench.cli import ab, baseline, calibrate, check, compare, env, list_, matrix, report, results, run

app = typer.Typer(
    name="bench",
    help="Distributed training benchmarks for PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("ab")(ab.ab)
app.command("check")(check.check)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(baseline.app, name="baseline")
app.command("list")(list_.list_)
app.command("matrix")(matrix.matrix)
app.command("env")(env.env)
app.add_typer(results.app, name="results")


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        print(f"stepbench {bench.__version__}")
        raise typer.Exit
