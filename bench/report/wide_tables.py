"""Tables that are wider than the terminal: their columns in several tables, one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column, Table

from bench.report.format import on_screen
from bench.untrusted.text import printable

NARROWEST = 20  # characters that a column which may be folded has at least
LONG = 200  # rows
BETWEEN = 3  # two columns: a line, and a space on both its sides


def print_table(table: Table, console: Console) -> None:
    """All its columns, whatever the console's width: those that do not fit go below, the first one beside them again.

    rich itself would cut them off, and a number whose last digits are missing is another number. It also takes a
    millisecond for each cell: in a file or a pipe, which has no width, a long table is written without it.
    """
    if table.row_count > LONG and not on_screen(console):
        console.file.write("".join(f"{printable(line)}\n" for line in _lines(table)))
        return
    for place, part in enumerate(_parts(table, console)):
        if place:
            console.print()
        console.print(part)


def _lines(table: Table) -> Iterator[str]:
    """What rich would print on a screen of any width."""
    columns = [[_plain(column.header), *map(_plain, column.cells)] for column in table.columns]
    widths = [max(map(cell_len, cells)) for cells in columns]
    right = [column.justify == "right" for column in table.columns]
    for place, cells in enumerate(zip(*columns, strict=True)):
        padded = (_padded(*cell) for cell in zip(cells, widths, right, strict=True))
        yield (" │ " if place else " ┃ ").join(padded)
        if place == 0:
            yield "━╇━".join("━" * width for width in widths)


def _plain(cell: RenderableType) -> str:
    return " ".join(str(cell).splitlines())


def _padded(text: str, width: int, right: bool) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank


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
