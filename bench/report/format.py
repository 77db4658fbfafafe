"""Numbers and tables for people."""

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

FILE_WIDTH = 200  # a table in a file or a pipe has no screen to fit
UNKNOWN = "—"
NO_TEXT = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def some(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more


def by_reason(named: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Return the names that share a reason, with the first of these reasons; numbers in a reason do not count."""
    found: dict[str, tuple[list[str], str]] = {}
    for name, reason in named:
        names, _ = found.setdefault(without_numbers(reason), ([], reason))
        names.append(name)
    return list(found.values())


def without_numbers(text: str) -> str:
    """Return a text that is equal for reasons which differ only in numbers: a rank, a step, a size."""
    return re.sub(r"\d+", "0", text)


def legal(text: str) -> str:
    """What XML 1.0, UTF-8 and a terminal can all take: other characters, as control characters, become U+FFFD."""
    return NO_TEXT.sub("\ufffd", text)


class Listened(Console):
    """A console that tells when its reader has gone, and does not end the process for it. What it prints is
    ``printable``, whoever wrote it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def wide_console() -> Console:
    """Return standard output as wide as the terminal; where it is none, COLUMNS characters or FILE_WIDTH."""
    console = Listened()
    if on_screen(console):
        return console
    columns = os.environ.get("COLUMNS", "")
    return Listened(width=int(columns) if columns.isdecimal() and int(columns) > 0 else FILE_WIDTH)


def on_screen(console: Console) -> bool:
    """Whether it writes to a terminal. rich also takes a file for one where FORCE_COLOR is set, as in many a CI."""
    isatty = getattr(console.file, "isatty", None)
    return console.is_terminal and isatty is not None and bool(isatty())


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: ASCII, and null for a float that is no number."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_json(folder: Path, rows: Sequence[LaunchRow]) -> str:
    """A run's rows for other programs."""
    said = {
        "run_id": folder.name,
        "launches_csv": str(folder / "launches.csv"),
        "launches": [row.columns() for row in rows],
    }
    return json.dumps(said, default=str)
