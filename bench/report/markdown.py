"""The report as Markdown, for a comment, a wiki or a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.report.tables import Table

SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")
LIST = re.compile(r"^(\d*)([-+.)])(?= |$)")  # A line that would be a list item.
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(title: str, about: Sequence[str], sentences: Sequence[str], tables: Sequence[Table]) -> str:
    """Return headline and tables as Markdown, with all columns, and the commands as a code block.

    All text from rows is escaped.
    """
    parts = [f"# {escaped(title)}", "\n".join(f"{escaped(line)}  " for line in about)]
    return "\n\n".join([*parts, *section_parts(sentences, tables)]) + "\n"


def section_parts(sentences: Sequence[str], tables: Sequence[Table]) -> Iterator[str]:
    """Yield the sentences as a list, and each table with its title and its note."""
    if sentences:
        yield "\n".join(f"- {escaped(sentence)}" for sentence in sentences)
    for table in tables:
        yield f"## {escaped(table.title)}"
        yield _commands(table) if table.name == "commands" else "\n".join(_lines(table))
        if table.note:
            yield escaped(table.note)


def escaped(text: str) -> str:
    """Return ``text`` as one line in which Markdown and HTML are escaped."""
    line = " ".join(text.split())
    text = SPECIAL.sub(r"\\\1", "".join(ENTITIES.get(character, character) for character in line))
    return LIST.sub(r"\1\\\2", text)


def table_lines(columns: Iterable[tuple[str, bool]], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table. ``columns`` are pairs: the title, and whether the column is right-aligned."""
    titles, numeric = zip(*columns, strict=True)
    yield _line(map(escaped, titles))
    yield _line("--:" if right else "---" for right in numeric)
    for cells in rows:
        yield _line(map(escaped, cells))


def fenced(lines: Sequence[str]) -> str:
    """Return the lines as a code block; its fence is longer than any run of backticks in them."""
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *lines, fence])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _lines(table: Table) -> Iterator[str]:
    return table_lines([(column.title, column.numeric) for column in table.columns], table.cells())


def _commands(table: Table) -> str:
    return fenced([f"{cells[-1]}  # {' '.join(cells[0].split())}" for cells in table.cells()])
