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
    """One row a launch, all columns of LAUNCHES; what is unknown is NA."""
    columns = dict(zip(LAUNCHES, zip(*rows, strict=True) if rows else itertools.repeat(()), strict=False))
    return pd.DataFrame(
        {name: pd.Series(values, dtype=DTYPES[LAUNCHES[name].kind]) for name, values in columns.items()}
    )


def good(frame: pd.DataFrame) -> pd.DataFrame:
    """The measured launches that were ok, and whose throughput is a number: those that figures are made of."""
    rate = frame["samples_per_s"]
    return frame[(frame["role"] == "measure") & (frame["status"] == "ok") & (rate > 0) & (rate < math.inf)]


def steps(file: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """``run_id``, ``launch_id``, ``step`` and ``step_ms`` of a steps.csv; no rows if there is no such file.

    A million rows take a tenth of what ``read`` takes. What looks unusual is left to it, so that both accept and refuse
    the same; ResultsError says where a file is damaged.
    """
    if not os.path.lexists(file):
        return no_steps()
    frame = _plain(whole_rows(file, warn))
    if frame is None:
        frame = pd.DataFrame(read(file, lambda _: None), columns=list(STEPS))
    known = frame[list(OF_A_STEP)].dropna()  # no analysis can do with an empty cell
    return known.astype(OF_A_STEP)


def no_steps() -> pd.DataFrame:
    """What ``steps`` gives where there are none."""
    return pd.DataFrame(columns=list(OF_A_STEP)).astype(OF_A_STEP)


def _plain(content: bytes) -> pd.DataFrame | None:
    """The rows of a file without quotes, blanks and ragged lines; None for another."""
    first, second = [*content.split(b"\n", 2), b"", b""][:2]
    header = first.decode(errors="replace").strip().split(",")
    lines, commas = content.count(b"\n"), len(header) - 1
    unusual = any(byte in content for byte in (b'"', b" ", b"\t", b"\0")) or content.count(b"\r") not in (0, lines)
    # pandas refuses later lines that are too long, so that none can make up for one that is too short
    ragged = content.count(b",") != lines * commas or (second and second.count(b",") != commas)
    if unusual or header != list(STEPS) or ragged:
        return None
    kinds = {name: STEP_DTYPES[column.kind] for name, column in STEPS.items()}
    kinds |= {"critical_rank": "Int64"}  # may be empty
    try:
        with np.errstate(invalid="ignore"):  # on the way to an error
            return pd.read_csv(
                io.BytesIO(content), dtype=kinds, keep_default_na=False, na_values={n: "" for n in header}
            )
    except (TypeError, ValueError):
        return None
