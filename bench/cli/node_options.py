"""The options by which a command runs over several nodes, as node 0 or as a follower."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Annotated

import typer

from bench import interrupts
from bench.cli.shared_options import keyword_parameter, with_parameters
from bench.nodes.options import JOIN_S, NodesAsked

if TYPE_CHECKING:
    from bench.api.nodes import Nodes
    from bench.runner.row_recorder import Observer


def _option(names: tuple[str, ...], metavar: str, words: str) -> inspect.Parameter:
    option = typer.Option(*names, metavar=metavar, help=words, rich_help_panel="Nodes")
    return keyword_parameter(names[0].removeprefix("--").replace("-", "_"), Annotated[str | None, option], None)


OPTIONS = (
    _option(("--nnodes", "--nodes"), "N", r"Number of nodes; start this command on each. \[default: 1]"),
    _option(("--node-rank",), "R", "Number of this node; node 0 plans, measures and records."),
    _option(("--rdzv-endpoint",), "HOST:PORT", "Where node 0 listens."),
    _option(("--nproc-per-node",), "N", "Ranks that this node takes; by default its GPUs, or its share of --gpus."),
    _option(("--port-range",), "FIRST-LAST", r"Ports at which the ranks of a launch may meet. \[default: any]"),
    _option(("--join-timeout",), "SECONDS", rf"How long nodes wait for each other. \[default: {JOIN_S:g}]"),
)
with_node_options = with_parameters("nodes", OPTIONS, dict)


def as_node_0(over: NodesAsked | None, progress: Observer) -> contextlib.AbstractContextManager[Nodes | None]:
    """Return a context in which this process is node 0 of several nodes, or the only one."""
    if over is None:
        return contextlib.nullcontext()
    from bench.api.nodes import as_head

    return as_head(over, progress)


def work_as_follower(over: NodesAsked, quiet: bool) -> int:
    """Work for node 0 until the run has ended, and return its exit code."""
    from bench.api.nodes import follow_head
    from bench.report.format import SafeConsole
    from bench.report.progress import observer

    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress):
        return follow_head(over, progress)
