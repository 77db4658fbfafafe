"""Rows as data frames, typed by the columns' kinds."""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.store.columns import LAUNCHES, STEPS, LaunchRow
from bench.store.reader import read, whole_rows

DTYPES = {"text": "str", "int": "Int64", "float": "Float64", "bool": "boolean"}
STEP_DTYPES = {"text": "str", "int": "int64", "float": "float64"}
OF_A_STEP = {name: STEP_DTYPES[STEPS[name].kind] for name in ("run_id", "launch_id", "step", "step_ms")}


def launches(rows: Sequence[LaunchRow]) -> pd.DataFrame:
    """Return one row for each launch, with all columns of LAUNCHES; unknown values are NA."""
    columns = dict(zip(LAUNCHES, zip(*rows, strict=True) if rows else itertools.repeat(()), strict=False))
    return pd.DataFrame(
        {name: pd.Series(values, dtype=DTYPES[LAUNCHES[name].kind]) for name, values in columns.items()}
    )


def good(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the measured launches that were ok and have a finite throughput, on which all figures are based."""
    rate = frame["samples_per_s"]
    return frame[(frame["role"] == "measure") & (frame["status"] == "ok") & (rate > 0) & (rate < math.inf)]


def steps(file: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """Return ``run_id``, ``launch_id``, ``step`` and ``step_ms`` of a steps.csv; no rows if there is no such file.

    It takes a tenth of the time of ``read``, which is used for unusual contents, so that both accept the same files.
    Raise ResultsError if a file is damaged.
    """
    if not os.path.lexists(file):
        return no_steps()
    frame = _plain(whole_rows(file, warn))
    if frame is None:
        frame = pd.DataFrame(read(file, lambda _: None), columns=list(STEPS))
    ordinary = frame[frame["apart"].fillna("") == ""]  # a script's validation is no step
    known = ordinary[list(OF_A_STEP)].dropna()  # rows with an empty cell are of no use
    return known.astype(OF_A_STEP)


def no_steps() -> pd.DataFrame:
    """Return the frame of ``steps`` without rows."""
    return pd.DataFrame(columns=list(OF_A_STEP)).astype(OF_A_STEP)


def _plain(content: bytes) -> pd.DataFrame | None:
    """Return the rows of a file without quotes, blanks and ragged lines; None for other files."""
    first, second = [*content.split(b"\n", 2), b"", b""][:2]
    header = first.decode(errors="replace").strip().split(",")
    lines, commas = content.count(b"\n"), len(header) - 1
    unusual = any(byte in content for byte in (b'"', b" ", b"\t", b"\0")) or content.count(b"\r") not in (0, lines)
    # pandas refuses later lines that are too long, so that none can compensate one that is too short.
    ragged = content.count(b",") != lines * commas or (second and second.count(b",") != commas)
    if unusual or header != list(STEPS) or ragged:
        return None
    kinds = {name: STEP_DTYPES[column.kind] for name, column in STEPS.items()}
    kinds |= {"critical_rank": "Int64"}  # may be empty
    try:
        with np.errstate(invalid="ignore"):  # values that are about to be refused
            return pd.read_csv(
                io.BytesIO(content), dtype=kinds, keep_default_na=False, na_values={n: "" for n in header}
            )
    except (TypeError, ValueError):
        return None
