"""Numbers and tables for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.record import Row

FILE_WIDTH = 200  # a table in a file or a pipe has no screen to fit


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def wide_console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for every table where it is none."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def run_json(folder: Path, rows: Sequence[Row]) -> str:
    """A run's rows for other programs."""
    said = {"run_id": folder.name, "launches_csv": str(folder / "launches.csv"), "launches": rows}
    return json.dumps(said, default=str)
