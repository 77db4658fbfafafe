"""Rows as data frames, typed by the columns' kinds."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from bench.read import read, whole_rows
from bench.record import LAUNCHES, STEPS, Row

DTYPES = {"text": "str", "int": "Int64", "float": "Float64", "bool": "boolean"}
STEP_DTYPES = {"text": "str", "int": "int64", "float": "float64"}


def launches(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a launch, all columns of LAUNCHES; what is unknown is NA."""
    frame = pd.DataFrame(list(rows), columns=list(LAUNCHES))
    return frame.astype({name: DTYPES[column.kind] for name, column in LAUNCHES.items()})


def current(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the launches that a resumed run has made again: of each (run, case, block) the last one, probes aside."""
    measured = frame[frame["role"] == "measure"]
    repeated = measured.duplicated(["run_id", "case_id", "block"], keep="last")
    # a case that could not run in one session, and could in another
    launched = measured["block"].notna().groupby([measured["run_id"], measured["case_id"]]).transform("any")
    return frame.drop(index=measured.index[repeated | (launched & measured["block"].isna())])


def steps(file: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """``run_id``, ``launch_id``, ``step`` and ``step_ms`` of a steps.csv; no rows if there is no such file.

    A million rows take a tenth of what ``read`` takes. What looks unusual is left to it, so that both accept and refuse
    the same; ResultsError says where a file is damaged.
    """
    wanted = ["run_id", "launch_id", "step", "step_ms"]
    if not file.exists():
        return pd.DataFrame(columns=wanted).astype({name: STEP_DTYPES[STEPS[name].kind] for name in wanted})
    plain = _plain(whole_rows(file, warn))
    try:
        frame = plain if plain is not None else pd.DataFrame(read(file, lambda _: None), columns=list(STEPS))
        return frame[wanted].astype({name: STEP_DTYPES[STEPS[name].kind] for name in wanted})
    except (TypeError, ValueError):  # an empty cell, where none may be for an analysis
        return pd.DataFrame(read(file, lambda _: None), columns=wanted).dropna()


def _plain(content: bytes) -> pd.DataFrame | None:
    """The rows of a file without quotes, blanks and ragged lines; None for another."""
    header = content.partition(b"\n")[0].decode(errors="replace").strip().split(",")
    lines = content.count(b"\n")
    unusual = any(byte in content for byte in (b'"', b" ", b"\0")) or content.count(b"\r") not in (0, lines)
    if unusual or header != list(STEPS) or content.count(b",") != lines * (len(header) - 1):
        return None
    kinds = {name: STEP_DTYPES[column.kind] for name, column in STEPS.items()}
    kinds |= {"critical_rank": "float64"}  # may be empty
    try:
        return pd.read_csv(io.BytesIO(content), dtype=kinds, keep_default_na=False, na_values={n: "" for n in header})
    except ValueError:
        return None
