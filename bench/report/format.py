"""Numbers, lists and text in the form in which people read them, and the consoles that they are printed on."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bench.store.columns import LaunchRow
from bench.untrusted.text import printable

FILE_WIDTH = 200  # Characters of a line in a file or a pipe.
UNKNOWN = "—"
NO_TEXT = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def number(value: float) -> str:
    """Return a number with four significant digits, or without decimals from 1,000; thousands are separated."""
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def first_few(names: Sequence[str], shown: int = 3) -> str:
    """Return the first ``shown`` names, and how many more there are: ``a; b; c and 2 more``."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more


def case_or_cases(names: Sequence[str]) -> str:
    """Return the name of one case, or the number of cases with the first names: ``5 cases (a; b; c and 2 more)``."""
    return names[0] if len(names) == 1 else f"{len(names)} cases ({first_few(names)})"


def by_reason(named: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Return the names that share a reason, with the first of these reasons.

    Reasons that differ only in numbers are the same reason.
    """
    found: dict[str, tuple[list[str], str]] = {}
    for name, reason in named:
        names, _ = found.setdefault(without_numbers(reason), ([], reason))
        names.append(name)
    return list(found.values())


def without_numbers(text: str) -> str:
    """Return the text with every number replaced by 0: reasons often differ only in a rank, a step or a size."""
    return re.sub(r"\d+", "0", text)


def xml_safe(text: str) -> str:
    """Return the text with U+FFFD for each character that XML 1.0 or UTF-8 forbids, and for control characters."""
    return NO_TEXT.sub("\ufffd", text)


class SafeConsole(Console):
    """A console that escapes control characters in all text, and raises BrokenPipeError if its reader has gone.

    rich's own console ends the process then, with exit code 1.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of a renderable, with control characters escaped."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError


def wide_console() -> Console:
    """Return a console on stdout, as wide as the terminal; in a file or a pipe COLUMNS or FILE_WIDTH characters."""
    console = SafeConsole()
    if is_terminal(console):
        return console
    columns = os.environ.get("COLUMNS", "")
    return SafeConsole(width=int(columns) if columns.isdecimal() and int(columns) > 0 else FILE_WIDTH)


def is_terminal(console: Console) -> bool:
    """Return whether a console writes to a terminal. rich alone would also say so of a file if FORCE_COLOR is set."""
    isatty = getattr(console.file, "isatty", None)
    return console.is_terminal and isatty is not None and bool(isatty())


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON that every parser accepts: ASCII, and null for a float that is not finite."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_json(folder: Path, rows: Sequence[LaunchRow]) -> str:
    """Return a run's id, the path of its launches.csv, and its rows, as JSON."""
    content = {
        "run_id": folder.name,
        "launches_csv": str(folder / "launches.csv"),
        "launches": [row.columns() for row in rows],
    }
    return json.dumps(content, default=str)
