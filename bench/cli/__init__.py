"""The ``bench`` command: one file a subcommand. The only place that turns errors into messages and exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

import typer

import bench
import launch
import workloads
from bench.cli import env, list_, run
from bench.errors import EXIT_BUG, EXIT_INTERRUPTED, BenchError, UsageError

TERMINATED = 143

app = typer.Typer(
    name="bench",
    help="Distributed training benchmarks for PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("list")(list_.list_)
app.command("env")(env.env)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a scheduler sends."""


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        print(f"stepbench {bench.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; the process ends with the exit code that the design gives to what happened."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _check_own_packages()
        code = app(standalone_mode=False)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        code = error.exit_code
    except Terminated:
        code = TERMINATED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except Exception as error:
        code = _of_click(error)
    sys.exit(code or 0)


def _of_click(error: Exception) -> int:
    """click's own usage errors have a message and a code; anything else is a bug of ours."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        error.show()
        return int(error.exit_code)
    traceback.print_exc()
    print("bench: this is a bug in stepbench; please report it with the lines above", file=sys.stderr)
    return EXIT_BUG


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _check_own_packages() -> None:
    """A PYTHONPATH that puts another ``launch`` or ``workloads`` before ours would break every rank: say so now."""
    home = Path(str(bench.__file__)).parent.parent
    for package in (launch, workloads):
        where = Path(str(package.__file__)).parent
        if where.parent != home:
            raise UsageError(
                f"{where} hides stepbench's own {package.__name__!r}; take its folder out of PYTHONPATH "
                "(a user's workload is named by --workload file.py:Name, its siblings import without it)"
            )
