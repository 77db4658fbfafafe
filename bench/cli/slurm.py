"""``bench run --scheduler slurm`` and ``bench attach``: runs as jobs of Slurm."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.console import say
from bench.cli.shared_options import Given, keyword_parameter
from bench.errors import EXIT_OK, Interrupted, UsageError, quoted
from bench.nodes.options import MOST_NODES, MOST_PLACES, whole
from bench.plan.device_counts import numbers
from bench.plan.options import AXES, SELECTORS, SETTINGS, read_axis, split_list
from bench.untrusted.text import printable

Text = str | None
PANEL = "Slurm"


def _option(name: str, kind: Any, default: Any, metavar: str, words: str) -> Any:
    option = (
        typer.Option(metavar=metavar, help=words, rich_help_panel=PANEL)
        if metavar
        else typer.Option("--" + name.replace("_", "-"), help=words, rich_help_panel=PANEL)
    )
    return keyword_parameter(name, Annotated[kind, option], default)


OPTIONS = (
    _option("scheduler", Text, None, "slurm", "Submit the run as a job, with --nnodes nodes, and show how it goes."),
    _option(
        "slurm_option", list[str] | None, None, "NAME=VALUE", "An option of sbatch, such as partition=gpu; repeatable."
    ),
    _option("module", list[str] | None, None, "NAME", "An environment module that the job loads; repeatable."),
    _option(
        "setup", Text, None, "FILE", "A shell script that the job reads first, as one that activates an environment."
    ),
    _option("container_image", Text, None, "IMAGE", "A container that the nodes run in, by pyxis and enroot."),
    _option("wrapper", Text, None, "COMMAND", "Words before the command on each node, such as apptainer exec IMAGE."),
    _option("requeue", bool, False, "", "Start the job again after preemption, a failed node or the time limit."),
    _option("detach", bool, False, "", "Return as soon as the job is submitted."),
)
KEPT = ("nproc_per_node", "port_range", "join_timeout")  # of the nodes; the script sets the others
HAS_EFFECT = ("slurm_option", "module", "setup", "container_image", "wrapper", "requeue", "detach")


def scheduled(slurm: Given) -> bool:
    """Return whether the run is a job; UsageError for another scheduler, and for options of Slurm without one."""
    if slurm["scheduler"] is None:
        for name in HAS_EFFECT:
            if slurm[name]:
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} has no effect without --scheduler slurm", option=flag)
        return False
    if slurm["scheduler"] != "slurm":
        raise UsageError(option="--scheduler", given=slurm["scheduler"], allowed="slurm")
    return True


def run_as_job(given: Given, nodes: Given, slurm: Given, flags: Mapping[str, bool], out: Path, dry_run: bool) -> int:
    """Submit a run, show how it goes, and return its exit code; with ``dry_run`` print its script."""
    from bench.nodes.slurm import Job, options_of, script, submit

    if given["resume"]:
        raise UsageError(
            "--resume goes on with a run whose nodes are gone",
            option="--resume",
            hint="To go on with the run of a job: sbatch results/slurm/JOB.sh, then bench attach with the new number.",
        )
    for name in ("node_rank", "rdzv_endpoint"):
        if nodes[name]:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: Slurm says it to each node", option=flag, hint="Leave it out.")
    job = Job(
        words=words(given),
        kept=[*words({name: nodes[name] for name in KEPT}), *words(flags)],
        nodes=whole("--nnodes", nodes["nnodes"], 1, MOST_NODES, 1),
        gpus_per_node=_gpus_per_node(given, nodes),
        out=out.resolve(),
        bench=("bench",) if slurm["container_image"] or slurm["wrapper"] else (sys.executable, "-P", "-m", "bench"),
        options=options_of(slurm["slurm_option"] or ()),
        modules=slurm["module"] or (),
        setup=os.path.abspath(slurm["setup"]) if slurm["setup"] else "",
        container=slurm["container_image"] or "",
        wrapper=_wrapper(slurm["wrapper"] or ""),
        requeue=slurm["requeue"],
    )
    if dry_run:
        say(script(job).rstrip("\n"), on_stdout=True)
        return EXIT_OK
    number = submit(job)
    say(f"submitted job {number}; results: {job.out / 'slurm' / number}")
    if slurm["detach"]:
        say(f"bench attach {number} --out {shlex.quote(str(out))} shows how it goes, and scancel {number} ends it")
        return EXIT_OK
    return shown(number, job.out)


def attach(
    job: Annotated[str, typer.Argument(help="Number of the job.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for results that the run was submitted with.")] = Path("results"),
) -> int:
    """Show how a job of Slurm goes that bench run has submitted.

    It ends with the exit code of the run. Ctrl-C leaves the job as it is.
    """
    if not (job.isascii() and job.isdecimal() and len(job) < 12):
        raise UsageError(option="JOB", given=job, allowed="the number of a job")
    return shown(job, out.resolve())


def shown(number: str, out: Path) -> int:
    """Show a job until it has ended. On Ctrl-C ask whether to cancel it; without a terminal it goes on."""
    from bench.nodes.slurm import cancel, follow

    def show(line: str) -> None:
        say(printable(line), on_stdout=True)

    try:
        return follow(number, out / "slurm" / f"{number}.log", show, say)
    except Interrupted:
        if sys.stdin.isatty() and typer.confirm(f"Cancel job {number}?", err=True):
            cancel(number)
            return follow(number, out / "slurm" / f"{number}.log", lambda line: None, say)
        say(f"job {number} goes on; bench attach {number} shows how, and scancel {number} ends it")
        raise


def words(given: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line; ``args`` of a script as one text."""
    found = []
    for name, value in given.items():
        flag = {**AXES, **SELECTORS, **SETTINGS}[name].flag if name in {**AXES, **SELECTORS, **SETTINGS} else ""
        flag = flag or "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found += [flag] if value else []
        elif value is not None:
            found += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return found


def _wrapper(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"--wrapper: got {quoted(text)}: {str(error).lower()}",
            option="--wrapper",
            given=text,
            hint="Quote it as for a shell.",
        ) from None


def _gpus_per_node(given: Given, nodes: Given) -> int:
    """Return the GPUs that a node needs; 0 on the CPU, or if the number is that of all GPUs."""
    if given["device"] == "cpu":
        return 0
    if nodes["nproc_per_node"]:
        return whole("--nproc-per-node", nodes["nproc_per_node"], 1, MOST_PLACES)
    asked = read_axis("gpus", split_list("gpus", given["gpus"]), AXES["gpus"].flag) if given["gpus"] else []
    if any("all" in str(gpus) for gpus in asked):
        return 0
    most = max((number for gpus in asked for number in numbers(gpus, 0)), default=0)
    return -(-most // whole("--nnodes", nodes["nnodes"], 1, MOST_NODES, 1))
