"""The answers as files and JSON for other programs: every figure as it was computed, unknown ones empty."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.errors import ResultsError
from bench.store.environments import known_values
from bench.untrusted.files import write_bytes

EXPORTED = ("summary", "scaling", "tradeoff", "tuning", "failures")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(answers: Answers, folder: Path) -> list[Path]:
    """EXPORTED as CSV files (RFC 4180, UTF-8), one a question. ResultsError if they cannot be written.

    A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers are left alone.
    """
    return [write_text(folder / f"{name}.csv", csv_text(getattr(answers, name))) for name in EXPORTED]


def write_text(file: Path, text: str) -> Path:
    """Write a file, and its folder if there is none; ResultsError if that cannot be.

    UTF-8; what has no place in it (half of a surrogate pair, as a path may hold) is written as Python writes it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, text.encode(errors="backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResultsError(f"cannot write {file}: {reason}; name another place") from None
    return file


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV: booleans as true and false, floats with all their digits, what is unknown as an empty cell."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(frame.columns)
    writer.writerows([_cell(value) for value in row] for row in _values(frame))
    return stream.getvalue()


def report_json(answers: Answers, sentences: Sequence[str]) -> str:
    """The headline and EXPORTED, each as a list of objects; what is unknown is null."""
    frames = {name: getattr(answers, name) for name in EXPORTED}
    said = {
        name: [dict(zip(frame.columns, row, strict=True)) for row in _values(frame)] for name, frame in frames.items()
    }
    runs = list(dict.fromkeys(answers.launches["run_id"]))
    return json.dumps({"runs": runs, "headline": list(sentences), **said}, allow_nan=False)


def _values(frame: pd.DataFrame) -> Iterator[list[Any]]:
    """Row by row, as Python's own types; None for what is unknown or no number."""
    return ([_plain(value) for value in row] for row in known_values(frame))


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value  # numpy's
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
