"""Rows as data frames, typed by the columns' kinds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.record import LAUNCHES, Row

DTYPES = {"text": "str", "int": "Int64", "float": "Float64", "bool": "boolean"}


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
