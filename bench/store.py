"""A run's folder: CSV files that only grow, a row a write."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import ResultsError
from bench.options import Value
from bench.record import FILES, Column, Row


class Store:
    """Writes one run. Whatever was appended stays, whatever happens next."""

    def __init__(self, out: Path) -> None:
        self.run_id = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(2)
        self.folder = out / "runs" / self.run_id
        try:
            (self.folder / "logs").mkdir(parents=True)
            for name, columns in FILES.items():
                self._write(name, [list(columns)])
        except OSError as error:
            raise ResultsError(f"cannot write results to {out}: {error.strerror}; choose another --out") from None

    def launch_folder(self, launch_id: str) -> Path:
        """The folder for a launch's records and logs."""
        folder = self.folder / "logs" / launch_id
        try:
            folder.mkdir()
        except OSError as error:
            raise ResultsError(f"cannot write {folder}: {error.strerror}") from None
        return folder

    def plan(self, plan: Mapping[str, Any]) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan, indent=2) + "\n")

    def append(self, name: str, rows: Iterable[Row]) -> None:
        """Append rows to a file of FILES in one write, flushed to the disk."""
        columns = FILES[name]
        for row in (rows := list(rows)):
            unknown = row.keys() - columns.keys()
            assert not unknown, f"{name} has no columns {sorted(unknown)}"
        try:
            self._write(name, [[cell(row.get(c), column) for c, column in columns.items()] for row in rows])
        except OSError as error:
            raise ResultsError(f"cannot write {self.folder / name}: {error.strerror}") from None

    def _write(self, name: str, lines: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(lines)  # RFC 4180
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            data = text.getvalue().encode(errors="backslashreplace")
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cell(value: Value, column: Column) -> str:
    """A value as it stands in a file: unknown is empty, six significant digits at least, ``true`` and ``false``."""
    if value is None:
        return ""
    if column.kind == "bool":
        return "true" if value else "false"
    if column.kind == "float":
        return format(float(value), ".10g")
    if column.kind == "int":
        return str(int(value))
    return str(value)


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of one of the FILES, with typed values and None for empty cells; a torn last line is dropped."""
    columns = FILES[file.name]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ResultsError(f"cannot read {file}: {error.strerror}") from None
    rows = list(csv.DictReader(io.StringIO(_whole_rows(content).decode(), newline="")))
    return [{name: _typed(value, columns[name].kind) for name, value in row.items() if name in columns} for row in rows]


def _whole_rows(content: bytes) -> bytes:
    """Without a torn last row: up to the last line end that is not inside of quotes."""
    end = len(content)
    while (end := content.rfind(b"\r\n", 0, end)) >= 0:
        if content.count(b'"', 0, end) % 2 == 0:
            return content[: end + 2]
    return b""


def _typed(text: str, kind: str) -> Any:
    return None if text == "" else _PARSE[kind](text)


_PARSE: dict[str, Callable[[str], Value]] = {"int": int, "float": float, "bool": lambda t: t == "true", "text": str}
