"""The options of commands that give verdicts, and how these commands report them."""

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


DETECT = f"Change to detect; smaller ones can be `same`.{default_text('3%')}"
PARAMETERS = (
    keyword_parameter("detect", Annotated[str | None, _share(DETECT)], None),
    keyword_parameter("floor", Annotated[str, _share("Ignore changes of throughput up to this.")], "1%"),
    keyword_parameter("floor_memory", Annotated[str, _share("Ignore changes of memory up to this.")], "2%"),
    keyword_parameter(
        "strict",
        Annotated[bool, _flag("--strict", "Fail on missing cases; one undecided case makes the result undecided.")],
        False,
    ),
    keyword_parameter("junit", Annotated[Path | None, _file("Write JUnit XML, a test for each case.")], None),
    keyword_parameter("md", Annotated[Path | None, _file("Write Markdown, for a comment on a pull request.")], None),
    keyword_parameter(
        "as_json", Annotated[bool, _flag("--json", "Print the verdicts as JSON on stdout instead of a table.")], False
    ),
)


@dataclass(frozen=True)
class VerdictOptions:
    """The values of these options. ``detect_given``: ``--detect`` was given, so that it is not the default."""

    rules: Rules
    detect_given: bool
    junit: Path | None
    md: Path | None
    as_json: bool

    def report(self, gate: Gate) -> int:
        """Print the verdicts, write the requested files, and publish them on GitHub Actions; return the exit code.

        All files are tried before ResultsError is raised for the first one that cannot be written. If the sides are
        incomparable, that exit code counts, and files that cannot be written are warnings. A closed stdout
        (``bench ab | head``) does not change the exit code.
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
        errors = [error for error in map(_error_of, _files(gate, self.junit, self.md)) if error]
        if errors and gate.exit_code != EXIT_INCOMPARABLE:
            raise errors[0]
        for error in errors:
            warn(str(error))
        return gate.exit_code


def _verdict_options(given: Mapping[str, Any]) -> VerdictOptions:
    chosen = rules(given["detect"], given["floor"], given["floor_memory"], given["strict"])
    return VerdictOptions(chosen, given["detect"] is not None, given["junit"], given["md"], given["as_json"])


# Decorator of a command with a parameter ``verdict_options: VerdictOptions``.
with_verdict_options = with_parameters("verdict_options", PARAMETERS, _verdict_options)


def _files(gate: Gate, junit: Path | None, md: Path | None) -> Iterator[Callable[[], Path]]:
    from bench.export.junit import junit as junit_xml
    from bench.report.files import write_text
    from bench.report.gate import comment

    if junit:
        yield lambda: write_text(junit, junit_xml(gate))
    if md:
        yield lambda: write_text(md, comment(gate))


def _error_of(write: Callable[[], Path]) -> ResultsError | None:
    """Write a file; return the error if that fails."""
    try:
        say(f"wrote {write()}")
    except ResultsError as error:
        return error
    return None
