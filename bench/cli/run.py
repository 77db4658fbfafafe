"""``bench run``: the product of its options, or a suite, launched, measured and recorded."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import interrupts
from bench.cli.plan import show_plan
from bench.errors import EXIT_FAILED, EXIT_OK, BenchError, UsageError, near
from bench.options import AXES, SELECTORS, SETTINGS, Option
from bench.record import Row
from bench.report.words import run_json, wide_console
from bench.resume import RETRY, Earlier, earlier_run, latest, statuses
from bench.runs import find
from bench.suite import Asked, Plan, asked, asked_of, make_plan, read_suite

Text = str | None
Many = list[str] | None


def _axis(name: str, *more: str) -> Any:
    return _option(AXES[name], "Axes (comma lists)", *more)


def _setting(name: str) -> Any:
    return _option(SETTINGS[name], "Protocol")


def _option(option: Option, panel: str, *more: str) -> Any:
    default = "" if option.default is None else f" [default: {option.shown_default}]"
    words = option.allowed.replace("a whole number from", "≥")
    return typer.Option(
        option.flag, *more, help=f"{option.help}{default}", metavar=words, show_default=False, rich_help_panel=panel
    )


def run(
    workload: Annotated[Many, _axis("workload")] = None,
    strategy: Annotated[Text, _axis("strategy")] = None,
    gpus: Annotated[Text, _axis("gpus")] = None,
    device: Annotated[Text, _axis("device")] = None,
    precision: Annotated[Text, _axis("precision")] = None,
    activation_checkpointing: Annotated[Text, _axis("activation_checkpointing", "--checkpointing")] = None,
    compile: Annotated[Text, _axis("compile")] = None,
    batch_size: Annotated[Text, _axis("batch_size")] = None,
    grad_accum_steps: Annotated[Text, _axis("grad_accum_steps")] = None,
    max_grad_norm: Annotated[Text, _axis("max_grad_norm")] = None,
    optimizer: Annotated[Text, _axis("optimizer")] = None,
    data: Annotated[Many, _axis("data")] = None,
    num_workers: Annotated[Text, _axis("num_workers")] = None,
    pin_memory: Annotated[Text, _axis("pin_memory")] = None,
    prefetch_factor: Annotated[Text, _axis("prefetch_factor")] = None,
    persistent_workers: Annotated[Text, _axis("persistent_workers")] = None,
    omp_num_threads: Annotated[Text, _axis("omp_num_threads")] = None,
    seed: Annotated[Text, _axis("seed")] = None,
    channels_last: Annotated[Text, _axis("channels_last")] = None,
    deterministic: Annotated[Text, _axis("deterministic")] = None,
    cudnn_benchmark: Annotated[Text, _axis("cudnn_benchmark")] = None,
    numa_binding: Annotated[Text, _axis("numa_binding")] = None,
    env: Annotated[Many, _axis("env")] = None,
    scaling: Annotated[Text, _option(SELECTORS["scaling"], "Axes (comma lists)")] = None,
    warmup_steps: Annotated[Text, _setting("warmup_steps")] = None,
    steps: Annotated[Text, _setting("steps")] = None,
    min_seconds: Annotated[Text, _setting("min_seconds")] = None,
    launches: Annotated[Text, _setting("launches")] = None,
    timeout: Annotated[Text, _setting("timeout")] = None,
    hang_timeout: Annotated[Text, _setting("hang_timeout")] = None,
    launcher: Annotated[Text, _setting("launcher")] = None,
    order_seed: Annotated[Text, _setting("order_seed")] = None,
    budget: Annotated[Text, _setting("budget")] = None,
    suite: Annotated[Text, typer.Option(help="A built-in suite or a TOML file; options override its axes.")] = None,
    oversubscribe: Annotated[bool, typer.Option("--oversubscribe", help="Let ranks share a GPU, over Gloo.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("results"),
    resume: Annotated[Text, typer.Option(metavar="RUN", help="Do what a run (its id, or latest) still lacks.")] = None,
    retry: Annotated[
        Text, typer.Option(metavar=", ".join(RETRY), help="Launch these again as well; comma list, with --resume.")
    ] = None,
    resume_anyway: Annotated[
        bool, typer.Option("--resume-anyway", help="Even if plan, tool or machine changed; the rows say what.")
    ] = False,
    strict_machine: Annotated[
        bool, typer.Option("--strict-machine", help="Refuse to run on a machine that is busy, full or too small.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time; launch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout instead of a table.")] = False,
) -> int:
    """Run every combination of the axes, and record one row a launch.

    Each axis takes a comma list; the run is their product. Combinations that cannot run become rows with a reason.
    """
    given = dict(locals())
    earlier = _earlier(out, resume, retry, resume_anyway)
    if earlier and suite is not None:
        raise UsageError("--resume has a plan already; leave --suite out, or start a new run.")
    wanted = asked(
        axes={name: _texts(given[name]) for name in (*AXES, "scaling") if given[name] is not None},
        settings={name: given[name] for name in SETTINGS if given[name] is not None},
        base=asked_of(earlier.plan) if earlier else read_suite(suite) if suite is not None else None,
        oversubscribe=oversubscribe,
    )
    if dry_run:
        show_plan(wanted, out, as_json)
        return EXIT_OK
    with interrupts.deferred():
        return _run(wanted, out, earlier, strict_machine, quiet, as_json)


def _earlier(out: Path, resume: str | None, retry: str | None, anyway: bool) -> Earlier | None:
    """The run to go on with; UsageError for options that make no sense without one."""
    words = [] if retry is None else retry.split(",")
    for word in words:
        if word not in RETRY:
            raise UsageError(f"--retry: got {word!r}; allowed: {', '.join(RETRY)}.{near(word, RETRY)}")
    if resume is None:
        if words or anyway:
            raise UsageError("--retry and --resume-anyway need --resume RUN; `bench results` lists the runs.")
        return None
    return earlier_run(find(out, resume).resolve(), statuses(words), anyway)


def _texts(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _run(wanted: Asked, out: Path, earlier: Earlier | None, strict: bool, quiet: bool, as_json: bool) -> int:
    from bench.devices import Machine, this_machine
    from bench.preflight import case_warnings, look, run_warnings
    from bench.report.progress import observer
    from bench.session import Session
    from bench.store import Store

    machine = this_machine()
    plan: Plan = make_plan(wanted, machine)
    uses_gpus = any(planned.case.device == "cuda" for planned in plan.cases)
    seen = look(machine if uses_gpus else Machine(), out)
    warnings = run_warnings(seen)
    if strict:
        _refuse([*warnings, *(w for p in plan.cases if p.skip is None for w in case_warnings(p.case, seen))])
    interrupts.check()
    watcher = observer(Console(stderr=True), quiet)
    rows: list[Row] = []
    try:
        if earlier:
            store, rows = Store.resume(earlier.folder, lambda text: watcher.note(f"warning: {text}"))
            earlier = dataclasses.replace(earlier, rows=tuple(rows))
        else:
            store = Store.create(out)
        session = Session(plan, machine, store, watcher, seen, warnings, earlier)
        rows = session.rows
        session.run()
    finally:
        with contextlib.suppress(OSError):  # a terminal that has gone
            watcher.close()
        if rows:
            _show_results(rows, store.folder, as_json)
    return _exit_code(rows)


def _refuse(warnings: list[str]) -> None:
    if warnings:
        said = "\n".join(f"- {warning}" for warning in dict.fromkeys(warnings))
        raise BenchError(f"--strict-machine: this machine does not fit the run:\n{said}")


def _show_results(rows: list[Row], folder: Path, as_json: bool) -> None:
    from bench.report.terminal import print_rows

    if as_json:
        print(run_json(folder, rows))
    else:
        print_rows(rows, wide_console())
        print(f"\nresults: {folder / 'launches.csv'}")


def _exit_code(rows: list[Row]) -> int:
    """5 if a launch failed or nothing could run, else 0. A skipped case is no failure."""
    counted = [row["status"] for row in latest(rows).values()]
    failed = any(status not in ("ok", "skipped") for status in counted)
    return EXIT_FAILED if failed or "ok" not in counted else EXIT_OK
