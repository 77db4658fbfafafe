"""What every command that gives verdicts asks for, and how it tells them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.api.margins import rules
from bench.cli.console import ignore_broken_pipe, say, warn
from bench.cli.shared_options import default_text, keyword_parameter, with_parameters
from bench.errors import EXIT_INCOMPARABLE, ResultsError
from bench.report.format import wide_console

if TYPE_CHECKING:
    from bench.stats.verdict import Gate, Rules

PANEL = "Verdict"


def _share(what: str) -> Any:
    return typer.Option(help=what, metavar="SHARE", rich_help_panel=PANEL)


def _file(what: str) -> Any:
    return typer.Option(help=what, metavar="FILE", show_default=False, rich_help_panel=PANEL)


def _flag(flag: str, what: str) -> Any:
    return typer.Option(flag, help=what, rich_help_panel=PANEL)


DETECT = f"Change to be detected, and margin of `same`.{default_text('3%')}"
PARAMETERS = (
    keyword_parameter("detect", Annotated[str | None, _share(DETECT)], None),
    keyword_parameter("floor", Annotated[str, _share("Changes of throughput up to it are of no interest.")], "1%"),
    keyword_parameter("floor_memory", Annotated[str, _share("The same for memory.")], "2%"),
    keyword_parameter(
        "strict",
        Annotated[bool, _flag("--strict", "One undecided case leaves all undecided; a missing one fails.")],
        False,
    ),
    keyword_parameter("junit", Annotated[Path | None, _file("JUnit XML, a test for each case.")], None),
    keyword_parameter("md", Annotated[Path | None, _file("Markdown, for the comment on a pull request.")], None),
    keyword_parameter("as_json", Annotated[bool, _flag("--json", "The verdicts as JSON on stdout.")], False),
)


@dataclass(frozen=True)
class VerdictOptions:
    """By which rules to judge, and whom to tell. ``insists``: what is to be detected was said, and is no default."""

    rules: Rules
    insists: bool
    junit: Path | None
    md: Path | None
    as_json: bool

    def tell(self, gate: Gate) -> int:
        """Print the verdicts, write the files that were asked for, tell GitHub where it runs us; the gate's exit code.

        What cannot be written is said, and costs neither the rest nor the verdict: ResultsError comes last, unless the
        gate's own exit code is stronger. Nor does a reader of ours that has gone (``bench ab | head``).
        """
        from bench.export.github import publish
        from bench.report.gate import gate_json, print_gate

        with ignore_broken_pipe():
            if self.as_json:
                print(gate_json(gate))
            else:
                print_gate(gate, wide_console())
        with ignore_broken_pipe():
            publish(gate, os.environ)
        lost = [error for error in map(_error_of, _files(gate, self.junit, self.md)) if error]
        if lost and gate.exit_code != EXIT_INCOMPARABLE:
            raise lost[0]
        for error in lost:
            warn(str(error))
        return gate.exit_code


def _verdict_options(given: Mapping[str, Any]) -> VerdictOptions:
    law = rules(given["detect"], given["floor"], given["floor_memory"], given["strict"])
    return VerdictOptions(law, given["detect"] is not None, given["junit"], given["md"], given["as_json"])


with_verdict_options = with_parameters(
    "judging", PARAMETERS, _verdict_options
)  # for a command with a parameter ``judging: Judging``


def _files(gate: Gate, junit: Path | None, md: Path | None) -> Iterator[Callable[[], Path]]:
    from bench.export.junit import junit as junit_xml
    from bench.report.files import write_text
    from bench.report.gate import comment

    if junit:
        yield lambda: write_text(junit, junit_xml(gate))
    if md:
        yield lambda: write_text(md, comment(gate))


def _error_of(write: Callable[[], Path]) -> ResultsError | None:
    try:
        say(f"wrote {write()}")
    except ResultsError as error:
        return error
    return None
