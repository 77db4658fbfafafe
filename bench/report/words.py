"""Numbers and tables for people."""

from __future__ import annotations

from rich.console import Console

FILE_WIDTH = 200  # a table in a file or a pipe has no screen to fit


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def wide_console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for every table where it is none."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)
