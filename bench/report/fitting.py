"""Tables that are wider than the terminal: their columns in several tables, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

NARROWEST = 20  # characters that a column which may be folded has at least
BETWEEN = 3  # two columns: a line, and a space on both its sides


def print_table(table: Table, console: Console) -> None:
    """All its columns, whatever the console's width: those that do not fit go below, the first one beside them again.

    rich itself would cut them off, and a number whose last digits are missing is another number.
    """
    for place, part in enumerate(_parts(table, console)):
        if place:
            console.print()
        console.print(part)


def _parts(table: Table, console: Console) -> list[Table]:
    least = [_least(column, console) + BETWEEN for column in table.columns]
    groups, width = [[0]], least[0]
    for place in range(1, len(least)):
        stays = len(groups[-1]) == 1 or not table.columns[place].header  # a bar stays beside its number
        if width + least[place] - BETWEEN > console.width and not stays:
            groups.append([0])
            width = least[0]
        groups[-1].append(place)
        width += least[place]
    return [table] if len(groups) == 1 else [_table([table.columns[place] for place in group]) for group in groups]


def _least(column: Column, console: Console) -> int:
    """The fewest characters that hold it."""
    widest = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
    return column.width or (widest if column.no_wrap else min(widest, NARROWEST))


def _table(columns: Sequence[Column]) -> Table:
    part = Table(*(column.copy() for column in columns), show_edge=False, pad_edge=False)
    for cells in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*cells)
    return part
