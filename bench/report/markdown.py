"""The report as Markdown, for a comment, a wiki or a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.report.tables import Table

SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")
LIST = re.compile(r"^(\d*)([-+.)])(?= |$)")  # what would begin a list
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(title: str, about: Sequence[str], sentences: Sequence[str], tables: Sequence[Table]) -> str:
    """Headline, tables with all their columns, and the commands as a block to copy from. All text from rows is text."""
    parts = [f"# {escaped(title)}", "\n".join(f"{escaped(line)}  " for line in about)]
    parts.append("\n".join(f"- {escaped(sentence)}" for sentence in sentences))
    for table in tables:
        parts.append(f"## {escaped(table.title)}")
        parts.append(_commands(table) if table.name == "commands" else "\n".join(_lines(table)))
        parts += [escaped(table.note)] if table.note else []
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """One line that reads as ``text`` and is nothing else: no markup, no HTML, no end of a cell."""
    line = " ".join(text.split())
    text = SPECIAL.sub(r"\\\1", "".join(ENTITIES.get(character, character) for character in line))
    return LIST.sub(r"\1\\\2", text)


def table_lines(columns: Iterable[tuple[str, bool]], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table, one line a row. ``columns`` are titles, and whether they hold numbers."""
    titles, numeric = zip(*columns, strict=True)
    yield _line(map(escaped, titles))
    yield _line("--:" if right else "---" for right in numeric)
    for cells in rows:
        yield _line(map(escaped, cells))


def fenced(lines: Sequence[str]) -> str:
    """A block: what is in it is copied as it is."""
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *lines, fence])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _lines(table: Table) -> Iterator[str]:
    return table_lines([(column.title, column.numeric) for column in table.columns], table.cells())


def _commands(table: Table) -> str:
    return fenced([f"{cells[-1]}  # {' '.join(cells[0].split())}" for cells in table.cells()])
