"""``results/README.md``, the data dictionary, made from ``bench.record``: ``make dictionary`` writes it."""

from __future__ import annotations

from bench.options import AXES, SETTINGS, show
from bench.record import FILES, Column

HEAD = """# Results

A run is a folder `runs/<run_id>/`:

| file | what it holds |
|---|---|
| `launches.csv` | one row a launch, and one for each case that could not run |
| `steps.csv` | one row a measured step |
| `ranks.csv` | one row a rank of a launch |
| `plan.json` | the cases that were planned, and the protocol |
| `logs/<launch_id>/` | what each rank printed (`rank<N>.log`), was told (`spec.json`) and said (`rank<N>.json`) |

CSV by RFC 4180 in UTF-8. Units stand in the names. Booleans are `true` and `false`. **An empty cell is unknown or has
no meaning for the row, never zero.** A row is one write, flushed to the disk when its launch ends.

This page is made from `bench/record.py` (`make dictionary`); a test compares them.
"""


def dictionary() -> str:
    """The page."""
    return HEAD + "".join(_section(name, columns) for name, columns in FILES.items())


def _section(name: str, columns: dict[str, Column]) -> str:
    lines = [f"| `{column}` | {kind} | {meaning} |" for column, (kind, meaning) in columns.items()]
    return "\n".join([f"\n## `{name}`\n", "| column | kind | meaning |", "|---|---|---|", *lines, ""])


def options_table() -> str:
    """The table of axes and settings, as the README has it."""
    lines = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for option in [*AXES.values(), *SETTINGS.values()]:
        default = show(option.default) or "it depends"
        lines.append(f"| `{option.flag}` | {option.allowed} | {default} | {option.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(dictionary(), end="")
