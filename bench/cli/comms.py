"""``bench comms``: measures collectives alone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import interrupts
from bench.cli.console import ignore_broken_pipe, say, warn
from bench.cli.node_options import as_node_0, with_node_options, work_as_follower
from bench.cli.run import RESUMING
from bench.cli.shared_options import Given, Out, keyword_parameter, option_parameter, with_parameters
from bench.nodes.options import nodes_asked
from bench.plan.comms import OPTIONS, SETTINGS
from bench.plan.make_case import FROM_OUTSIDE
from bench.plan.options import AXES
from bench.plan.options import SETTINGS as ALL_SETTINGS

if TYPE_CHECKING:
    from bench.api.runs import Run

PARAMETERS = (
    *(option_parameter(option, "Collectives") for option in OPTIONS.values()),
    *(option_parameter(AXES[name], "Axes (comma lists)") for name in FROM_OUTSIDE),
    *(option_parameter(ALL_SETTINGS[name], "Protocol") for name in SETTINGS),
    keyword_parameter(
        "oversubscribe",
        Annotated[bool, typer.Option("--oversubscribe", help="Let ranks share a GPU, over Gloo.")],
        False,
    ),
)


@with_parameters("given", PARAMETERS, dict)
@with_parameters("resuming", RESUMING, dict)
@with_node_options
def comms(
    given: Given,
    resuming: Given,
    nodes: Given,
    out: Out = Path("results"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the table.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON on stdout instead of a table.")
    ] = False,
) -> int:
    """Measure collectives alone: time, algorithm and bus bandwidth by size, type and group of ranks.

    Each launch measures all of them, and checks each result once.
    """
    from bench.api.comms import comms_request
    from bench.api.runs import measure, to_resume
    from bench.report.format import SafeConsole
    from bench.report.progress import observer
    from bench.store.plan_file import asked_of

    over = nodes_asked(nodes)
    if over and not over.is_head:
        return work_as_follower(over, quiet)
    earlier = to_resume(out, resuming["resume"], resuming["retry"], resuming["resume_anyway"])
    asked = comms_request(given, asked_of(earlier.plan) if earlier else None)

    def show(done: Run) -> None:
        progress.close()
        _show(done, as_json)

    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress), as_node_0(over, progress) as all_nodes:
        code = measure(asked, out, progress, earlier, at_end=show, nodes=all_nodes).exit_code
        if all_nodes:
            all_nodes.exit_code = code
        return code


def _show(done: Run, as_json: bool) -> None:
    from bench.api.comms import comms_answers_of
    from bench.report.files import comms_json
    from bench.report.format import wide_console
    from bench.report.terminal import print_comms

    answers = comms_answers_of([done.folder], done.rows, warn)
    with ignore_broken_pipe():  # A closed stdout (bench comms | head) does not change the exit code.
        if as_json:
            print(comms_json(done.folder, answers))
        else:
            print_comms(answers, wide_console())
            say(f"\nresults: {done.folder / 'comms.csv'}", on_stdout=True)
