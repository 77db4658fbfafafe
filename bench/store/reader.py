"""Reads a run's CSV files. Tolerates an incomplete last row; reports any other damage with its place."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from bench.errors import ResultsError, did_you_mean
from bench.plan.options import Value
from bench.store.cells import ADVICE, NO_NUMBER, value_of
from bench.store.columns import FILES, LAUNCHES, Column, LaunchRow
from bench.untrusted.files import read_bytes

CHUNK = 1000  # Rows that are converted at once; as many as fit into the processor's cache.
QUOTED = re.compile(rb'(?<![^,\n])"[^"]*+(?:""[^"]*+)*+"(?![^,\r\n])')  # A quoted cell, from comma to comma.
BLANK = bytes(byte if byte == 0 else ord(" ") for byte in range(256))
DAMAGE = re.compile(rb'[\0"]|\r(?!\n)')
DAMAGES = {b"\0": "a zero byte", b'"': "a misplaced quote", b"\r": "a carriage return that does not end a line"}

csv.field_size_limit(2**31 - 1)  # A rank's error message may be longer than the default limit of 128 KiB.


def read(
    file: Path, warn: Callable[[str], None], kind: str = "", only: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Read the rows of one of FILES, with all current columns; an empty cell is None.

    ``kind``: one of FILES, by default the file's name. ``only``: the columns to read, which is faster.

    Columns that are missing in files of older versions are None. Unknown columns are left out, with a warning if the
    name resembles a missing one. Lines may end in CRLF or LF. Cells of kind float may be ``nan`` or ``inf``.

    An incomplete last row or header is left out, and ``warn`` is called with one line: its writer was killed, or has
    not finished, or the machine crashed and left zero bytes. Anything else that cannot be read raises ResultsError with
    the file, the line (from 1) where the row begins, and the column.
    """
    kind = kind or file.name
    wanted = {name: column for name, column in FILES[kind].items() if only is None or name in {"schema", *only}}
    return [dict(zip(wanted, values, strict=True)) for values in _values_of(file, warn, kind, wanted, tuple(wanted))]


def read_launches(
    file: Path, warn: Callable[[str], None], only: Collection[str] | None = None, content: bytes | None = None
) -> list[LaunchRow]:
    """Read the rows of a file with the columns of launches.csv, like ``read``.

    ``content``: the bytes of the file, if they come from elsewhere; ``file`` is then its name in messages.
    """
    wanted = {name: column for name, column in LAUNCHES.items() if only is None or name in {"schema", *only}}
    return list(map(LaunchRow._make, _values_of(file, warn, "launches.csv", wanted, LaunchRow._fields, content)))


def _values_of(
    file: Path,
    warn: Callable[[str], None],
    kind: str,
    wanted: Mapping[str, Column],
    names: Sequence[str],
    content: bytes | None = None,
) -> Iterator[tuple[Value, ...]]:
    """Yield the values of each row in these columns; None in those that are not wanted, or not in the file."""
    content = whole_rows(file, warn, content)
    if not content:
        return
    rows = _rows(_decoded(file, content))
    header = _header(file, kind, next(rows)[1], warn)
    while chunk := list(islice(rows, CHUNK)):
        try:
            yield from list(_typed(header, [cells for _, cells in chunk], wanted, names))
        except (ResultsError, ValueError):  # ValueError: a row has more or fewer cells than the header.
            _explain(file, wanted, header, chunk)


def whole(content: bytes) -> int:
    """Return how many bytes of a file are complete rows: those up to its last line end outside of quotes.

    Call ``check_tail`` before cutting a file there.
    """
    end = len(content)
    inside = content.count(b'"') % 2
    while (at := content.rfind(b"\n", 0, end)) >= 0:
        inside ^= content.count(b'"', at, end) % 2
        if not inside:
            return at + 1
        end = at
    return 0


def check_tail(file: Path, content: bytes, end: int) -> None:
    """Raise ResultsError if more than one incomplete row, or header, follows the complete rows.

    A killed writer leaves one incomplete row, while a damaged quote hides all rows after it. An incomplete row may have
    several lines in a quoted cell, but none of them begins like the row and has as many commas.
    """
    first, *others = content[end:].rstrip(b"\0").splitlines() or [b""]
    commas = content.count(b",", 0, content.find(b"\n") + 1)
    alike = [line for line in others if _begin(line) == _begin(first) and line.count(b",") >= commas]
    if alike or (others and end == 0):  # A header is one line.
        line = content.count(b"\n", 0, end) + 1
        raise ResultsError(
            f"{file}, line {line}: a quote or a line end is missing, so rows run into each other", hint=ADVICE
        )


def whole_rows(file: Path, warn: Callable[[str], None], content: bytes | None = None) -> bytes:
    """Return a file's bytes without a byte order mark and without an incomplete last row, of which ``warn`` is told.

    ResultsError if the file cannot be read, or more than one row is incomplete. ``content``: its bytes, if known.
    """
    content = (read_bytes(file) if content is None else content).removeprefix(codecs.BOM_UTF8)  # Spreadsheets write it.
    end = whole(content)
    if end == len(content) > 0:
        return content
    check_tail(file, content, end)
    if not content:
        warn(f"{file} is empty: it has no header and no rows")
    elif end == 0:
        warn(f"{file}, line 1: the header is not whole (its writer was killed), so there are no rows")
    else:
        line = content.count(b"\n", 0, end) + 1
        warn(f"{file}, line {line}: the last row is not whole (its writer was killed, or is at work) and is left out")
    return content[:end]


# -- bytes ---------------------------------------------------------------------------------------------------------


def _begin(line: bytes) -> bytes:
    return line.partition(b",")[0].strip(b'"')


def _decoded(file: Path, content: bytes) -> str:
    """Return the text of complete rows; ResultsError for bytes that the csv module would misread."""
    unquoted = QUOTED.sub(lambda cell: cell[0].translate(BLANK), content) if b'"' in content else content
    if b"\0" in unquoted or b'"' in unquoted or unquoted.count(b"\r") != unquoted.count(b"\r\n"):
        damage = next(DAMAGE.finditer(unquoted))
        _damaged(file, content, damage.start(), DAMAGES[damage[0]])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        _damaged(file, content, error.start, f"byte 0x{content[error.start]:02x}, which is not UTF-8")


def _damaged(file: Path, content: bytes, at: int, found: str) -> NoReturn:
    """Raise ResultsError with the cell of a damaged byte. Everything before it is sound, except for UTF-8."""
    begin = whole(content[:at])
    line, column = content.count(b"\n", 0, begin) + 1, ""
    if begin:
        _, names = next(_rows(content[:begin].decode(errors="replace")))
        _, cells = next(_rows(content[begin:at].decode(errors="replace")), (line, [""]))
        place = len(cells) - 1
        column = f", column {names[place]}" if place < len(names) else ""
    raise ResultsError(f"{file}, line {line}{column}: there is {found}", hint=ADVICE)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where each row begins, and its cells. Only a line feed ends a line."""
    reader = csv.reader(io.StringIO(text, newline="\n"))
    line = 1
    for cells in reader:
        yield line, cells
        line = reader.line_num + 1


# -- cells ---------------------------------------------------------------------------------------------------------


def _header(file: Path, kind: str, names: list[str], warn: Callable[[str], None]) -> list[str]:
    known = FILES[kind]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ResultsError(f"{file}, line 1: two columns are named {twice}", hint="Rename or delete one of them.")
    if not known.keys() & set(names):
        raise ResultsError(
            option=f"{file}, line 1",
            given=",".join(names),
            allowed=f"a header with columns of {kind}",
            hint="Restore the file from a copy.",
        )
    for name in (name for name in names if name not in known):
        if meant := did_you_mean(name, (other for other in known if other not in names)):
            warn(f"{file}, line 1, column {name}: unknown, so it is left out. {meant}")
    return names


def _typed(
    header: list[str], chunk: list[list[str]], columns: Mapping[str, Column], names: Sequence[str]
) -> Iterator[tuple[Value, ...]]:
    """Return rows of values from rows of cells; ResultsError or ValueError if any of them is wrong."""
    cells = dict(zip(header, zip(*chunk, strict=True), strict=True))
    known = {name: _column(name, column, cells[name]) for name, column in columns.items() if name in cells}
    unknown = [None] * len(chunk)
    return zip(*(known.get(name, unknown) for name in names), strict=True)


def _column(name: str, column: Column, cells: Sequence[str]) -> Iterable[Value]:
    """Return ``value_of`` for each cell, with equal cells converted once and floats without a call."""
    if column.kind == "float" and not NO_NUMBER.search("".join(cells)):
        return [float(text) if text else None for text in cells]
    known = {text: value_of(name, column, text) for text in set(cells)}
    return [known[text] for text in cells]


def _explain(
    file: Path, columns: Mapping[str, Column], header: list[str], chunk: Iterable[tuple[int, list[str]]]
) -> NoReturn:
    """Raise ResultsError for the first row that cannot be read."""
    for line, row in chunk:
        if len(row) != len(header):
            found = f"{file}, line {line}: the row has {len(row)} cells, the header {len(header)}"
            raise ResultsError(found, hint=ADVICE)
        cells = dict(zip(header, row, strict=True))
        for name in (name for name in columns if name in cells):
            try:
                value_of(name, columns[name], cells[name])
            except ResultsError as error:
                raise error.at(f"{file}, line {line}, column {name}") from None
    raise AssertionError(f"{file}: a row was refused, but no row is wrong")
