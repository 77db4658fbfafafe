"""What every command that gives verdicts asks for, and how it tells them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import ResultsError, UsageError
from bench.report.words import wide_console

if TYPE_CHECKING:
    from bench.analysis.verdict import Gate, Rules

PANEL = "Verdict"


def _share(what: str) -> Any:
    return typer.Option(help=what, metavar="SHARE", rich_help_panel=PANEL)


def _file(what: str) -> Any:
    return typer.Option(help=what, metavar="FILE", show_default=False, rich_help_panel=PANEL)


Detect = Annotated[str | None, _share("Change to be detected, and margin of `same` [default: 3%].")]
Floor = Annotated[str, _share("Changes of throughput up to it are of no interest.")]
FloorMemory = Annotated[str, _share("The same for memory.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Undecided and missing cases close the gate too.", rich_help_panel=PANEL)
]
Junit = Annotated[Path | None, _file("JUnit XML, a test for each case.")]
Markdown = Annotated[Path | None, _file("Markdown, for the comment on a pull request.")]
Json = Annotated[bool, typer.Option("--json", help="The verdicts as JSON on stdout.", rich_help_panel=PANEL)]


def share(flag: str, text: str) -> float:
    """``3%`` or ``0.03`` as 0.03; UsageError for what is no share above 0 and below 1."""
    try:
        value = float(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageError(f"{flag}: got {text!r}; allowed: a share above 0 and below 100%, as in 3%.")
    return value


def rules(detect: str | None, floor: str, floor_memory: str, strict: bool) -> Rules:
    """The rules of a gate; UsageError for a margin that is not beyond the floor."""
    from bench.analysis.verdict import Rules

    found = Rules(
        floor=share("--floor", floor),
        floor_memory=share("--floor-memory", floor_memory),
        detect=share("--detect", detect or "3%"),
        strict=strict,
    )
    if found.detect <= found.floor:
        raise UsageError(f"--detect {found.detect:.2%} is not beyond --floor {found.floor:.2%}; lower the floor.")
    return found


def tell(gate: Gate, junit: Path | None, md: Path | None, as_json: bool) -> int:
    """Print the verdicts, write the files that were asked for, tell GitHub where it runs us; the gate's exit code.

    What cannot be written is said, and costs neither the rest nor the verdict: ResultsError comes last.
    """
    from bench.export.github import publish
    from bench.report.verdicts import gate_json, print_gate

    if as_json:
        print(gate_json(gate))
    else:
        print_gate(gate, wide_console())
    publish(gate, os.environ)
    lost = [error for error in map(_attempt, _files(gate, junit, md)) if error]
    if lost:
        raise lost[0]
    return gate.exit_code


def _files(gate: Gate, junit: Path | None, md: Path | None) -> Iterator[Callable[[], Path]]:
    from bench.export.junit import junit as junit_xml
    from bench.report.files import write_text
    from bench.report.verdicts import comment

    if junit:
        yield lambda: write_text(junit, junit_xml(gate))
    if md:
        yield lambda: write_text(md, comment(gate))


def _attempt(write: Callable[[], Path]) -> ResultsError | None:
    try:
        print(f"wrote {write()}", file=sys.stderr)
    except ResultsError as error:
        return error
    return None
