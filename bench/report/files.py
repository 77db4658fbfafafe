"""The answers as CSV and JSON for other programs: figures are not rounded, unknown ones are empty or null."""

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
from bench.analysis.comms import CommsAnswers
from bench.errors import ResultsError
from bench.store.environments import known_values
from bench.untrusted.files import write_bytes

EXPORTED = ("summary", "scaling", "tradeoff", "tuning", "slow_ranks", "failures")
COMMS_EXPORTED = {"models": "comms_models", "sizes": "comms_sizes"}  # Frames about collectives -> their files.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(answers: Answers, folder: Path) -> list[Path]:
    """Write each of EXPORTED as a CSV file (RFC 4180, UTF-8), and return the paths.

    A text that a spreadsheet would read as a formula gets an apostrophe before it; numbers are unchanged. Raise
    ResultsError if a file cannot be written.
    """
    return [write_text(folder / f"{name}.csv", csv_text(getattr(answers, name))) for name in EXPORTED]


def write_comms_csv(answers: CommsAnswers, folder: Path) -> list[Path]:
    """Write each of COMMS_EXPORTED as a CSV file, as ``write_csv`` does, and return the paths."""
    found = COMMS_EXPORTED.items()
    return [write_text(folder / f"{file}.csv", csv_text(getattr(answers, name))) for name, file in found]


def write_text(file: Path, text: str) -> Path:
    """Write a file as UTF-8, and make its folder if it is missing; return the path.

    A character that UTF-8 cannot encode (half of a surrogate pair, which a path may hold) is written as a Python escape
    sequence. Raise ResultsError if the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, text.encode(errors="backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: the name has a zero byte.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResultsError(f"cannot write {file}: {reason}", hint="Choose another path.") from None
    return file


def csv_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV: booleans as true and false, floats with all digits, unknown values as empty cells."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(frame.columns)
    writer.writerows([_cell(value) for value in row] for row in _values(frame))
    return stream.getvalue()


def report_json(answers: Answers, sentences: Sequence[str], comms: CommsAnswers | None = None) -> str:
    """Return the runs, the headline and EXPORTED as JSON, each frame as a list of objects; unknown values are null.

    With ``comms`` the frames about collectives are there as well.
    """
    tables = {name: objects(getattr(answers, name)) for name in EXPORTED}
    runs = list(dict.fromkeys(answers.launches["run_id"]))
    of_comms = _comms_objects(comms) if comms else {}
    return json.dumps({"runs": runs, "headline": list(sentences), **tables, **of_comms}, allow_nan=False)


def comms_json(folder: Path, answers: CommsAnswers) -> str:
    """Return a run's id, the path of its comms.csv, and the frames about its collectives, as JSON."""
    content = {"run_id": folder.name, "comms_csv": str(folder / "comms.csv"), **_comms_objects(answers)}
    return json.dumps(content, allow_nan=False)


def _comms_objects(answers: CommsAnswers) -> dict[str, list[dict[str, Any]]]:
    return {file: objects(getattr(answers, name)) for name, file in COMMS_EXPORTED.items()}


def objects(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as objects for JSON; None for unknown values."""
    return [dict(zip(frame.columns, row, strict=True)) for row in _values(frame)]


def _values(frame: pd.DataFrame) -> Iterator[list[Any]]:
    """Return each row as Python's own types; None for an unknown value and for a float that is not finite."""
    return ([_plain(value) for value in row] for row in known_values(frame))


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value  # A numpy scalar.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
