"""The options of commands that give verdicts, and how these commands report them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.api.margins import rules
from bench.cli.console import ignore_broken_pipe, say, warn
from bench.cli.shared_options import default_text, keyword_parameter, with_parameters
from bench.errors import EXIT_INCOMPARABLE, IncomparableError, ResultsError, UsageError
from bench.report.format import wide_console

if TYPE_CHECKING:
    from bench.analysis.two_sides import TwoSides
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
    keyword_parameter("json_file", Annotated[Path | None, _file("Write the verdicts as JSON.")], None),
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
    json_file: Path | None = None
    _written: set[Path] = field(default_factory=set, compare=False)

    @property
    def has_files(self) -> bool:
        """Whether a file was asked for."""
        return any((self.junit, self.md, self.json_file))

    def so_far(self, gate: Gate, warn: Callable[[str], None]) -> None:
        """Write the requested files with the verdicts so far, without a message; an error is a warning.

        A pipe or a device gets the final verdicts only.
        """
        from bench.report.files import write_text

        for file, text in self._texts(gate):
            if file.exists() and not file.is_file():
                continue
            try:
                self._written.add(write_text(file, text()))
            except ResultsError as error:
                warn(f"warning: {error}")

    @contextlib.contextmanager
    def withdrawn(self) -> Iterator[None]:
        """Remove the files with verdicts so far if the comparison turns out to be impossible."""
        try:
            yield
        except (UsageError, IncomparableError):
            for file in self._written:
                file.unlink(missing_ok=True)
            raise

    def report(self, gate: Gate, beside: TwoSides | None = None) -> int:
        """Print the verdicts, write the requested files, and publish them on GitHub Actions; return the exit code.

        ``beside`` is what there is to say about both sides, which follows the verdicts everywhere but on GitHub. All
        files are tried before ResultsError is raised for the first one that cannot be written. If the sides are
        incomparable, that exit code counts, and files that cannot be written are warnings. A closed stdout (``bench ab
        | head``) does not change the exit code.
        """
        from bench.export.github import publish
        from bench.report.gate import print_gate

        with ignore_broken_pipe():
            if self.as_json:
                print(_json(gate, beside))
            else:
                print_gate(gate, wide_console())
                if beside:
                    from bench.report.two_sides import print_two_sides  # Imports pandas.

                    print_two_sides(beside, wide_console())
        with ignore_broken_pipe():
            publish(gate, os.environ)
        errors = [error for file, text in self._texts(gate, beside) if (error := _error_of(file, text))]
        if errors and gate.exit_code != EXIT_INCOMPARABLE:
            raise errors[0]
        for error in errors:
            warn(str(error))
        return gate.exit_code

    def _texts(self, gate: Gate, beside: TwoSides | None = None) -> Iterator[tuple[Path, Callable[[], str]]]:
        """Yield the requested files, each with the function that makes its text."""
        from bench.export.junit import junit

        if self.junit:
            yield self.junit, lambda: junit(gate)
        if self.md:
            yield self.md, lambda: _comment(gate, beside)
        if self.json_file:
            yield self.json_file, lambda: _json(gate, beside)


def _comment(gate: Gate, beside: TwoSides | None) -> str:
    from bench.report.gate import comment

    if beside is None:
        return comment(gate)
    from bench.report.two_sides import comment_of

    return comment_of(beside)


def _json(gate: Gate, beside: TwoSides | None) -> str:
    from bench.report.gate import gate_json

    if beside is None:
        return gate_json(gate)
    from bench.report.two_sides import as_objects

    return gate_json(gate, as_objects(beside))


def _verdict_options(given: Mapping[str, Any]) -> VerdictOptions:
    chosen = rules(given["detect"], given["floor"], given["floor_memory"], given["strict"])
    files = given["junit"], given["md"]
    return VerdictOptions(chosen, given["detect"] is not None, *files, given["as_json"], given["json_file"])


# Decorator of a command with a parameter ``verdict_options: VerdictOptions``.
with_verdict_options = with_parameters("verdict_options", PARAMETERS, _verdict_options)


def _error_of(file: Path, text: Callable[[], str]) -> ResultsError | None:
    """Write a file; return the error if that fails."""
    from bench.report.files import write_text

    try:
        say(f"wrote {write_text(file, text())}")
    except ResultsError as error:
        return error
    return None
