"""Print tables that are wider than the terminal: some columns continue below, and long names are folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from bench.report.format import FILE_WIDTH, is_terminal
from bench.untrusted.text import printable

NARROWEST = 20  # Characters of the narrowest column that may be folded.
LONG = 200  # Rows from which on a table is long.
SEPARATOR = 3  # Characters between two columns: a line with a space on both sides.


def print_table(table: Table, console: Console) -> None:
    """Print all columns; those that do not fit into the console's width follow below, with the first one repeated.

    rich itself would truncate them, and a number without its last digits is wrong. It also takes a millisecond for each
    cell, so a long table for a file or a pipe is written without it.
    """
    if table.row_count > LONG and not is_terminal(console) and console.width >= FILE_WIDTH:
        console.file.write("".join(f"{printable(line)}\n" for line in _lines(table)))
        return
    for place, part in enumerate(_parts(table, console)):
        if place:
            console.print()
        console.print(part)


def _lines(table: Table) -> Iterator[str]:
    """Yield the lines that rich would print on a console that is wide enough."""
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
    least = [_narrowest_width(column, place == 0, console) + SEPARATOR for place, column in enumerate(table.columns)]
    groups, width = [[0]], least[0]
    for place in range(1, len(least)):
        stays = len(groups[-1]) == 1 or not table.columns[place].header  # A bar stays beside its number.
        if width + least[place] - SEPARATOR > console.width and not stays:
            groups.append([0])
            width = least[0]
        groups[-1].append(place)
        width += least[place]
    return [_table([table.columns[place] for place in group], [least[place] for place in group], console)
            for group in groups]  # fmt: skip


def _narrowest_width(column: Column, first: bool, console: Console) -> int:
    """Return the smallest width of a column in characters; names in the first one may take half of the console."""
    narrowest = max(NARROWEST, console.width // 2) if first else NARROWEST
    widest = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
    return column.width or (widest if column.no_wrap else min(widest, narrowest))


def _table(columns: Sequence[Column], least: Sequence[int], console: Console) -> Table:
    part = Table(*(column.copy() for column in columns), show_edge=False, pad_edge=False)
    room = console.width - sum(least[1:])
    names = [fold_name(cell, room) for cell in columns[0].cells] if not columns[0].no_wrap else columns[0].cells
    for cells in zip(names, *(column.cells for column in columns[1:]), strict=True):
        part.add_row(*cells)
    return part


def fold_name(cell: RenderableType, width: int) -> RenderableType:
    """Return a name in lines of at most ``width`` characters, split after separators where there are any."""
    text = str(cell)
    if cell_len(text) <= width or width < 1:
        return cell
    lines = [""]
    for piece in re.findall(r"[^-:=;,/ ]*[-:=;,/ ]?", text):
        if cell_len((lines[-1] + piece).rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    found = "\n".join(line.rstrip() for line in lines)
    return Text(found, cell.style) if isinstance(cell, Text) else found
