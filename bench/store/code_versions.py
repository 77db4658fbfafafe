"""Which launches ran the same contents of the user's files: rows are of one case only where their code_key is equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.store.columns import LaunchRow
from bench.store.environments import COLUMNS, MEASURED, with_environments


class Identity(NamedTuple):
    """What launches have in common beside the axes and the work: an environment's letter, a code_key, and its number.

    ``words`` say it, the code's number only where the workload has several.
    """

    environment: str
    code_key: str
    words: str


def identities(rows: Sequence[LaunchRow]) -> list[Identity]:
    """Of each launch, among these."""
    names = [*COLUMNS, "case_id", "workload", "work_key", "code_key", "code_changed"]
    columns = {name: [_encodable(getattr(row, name)) for row in rows] for name in names}
    frame = pd.DataFrame({name: pd.Series(values, dtype="object") for name, values in columns.items()})
    frame = with_codes(with_environments(frame))
    several = frame.groupby(frame["workload"].fillna(""))["code_key"].transform("nunique") > 1
    codes = (", code " + (frame["code"] + 1).astype("str")).where(several, "")
    words = "environment " + frame["environment"] + codes
    return [Identity(*one) for one in zip(frame["environment"], frame["code_key"], words, strict=True)]


def _encodable(value: Any) -> Any:
    """Half a surrogate pair escaped, of which no frame can make a text."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def with_codes(frame: pd.DataFrame) -> pd.DataFrame:
    """Launches with a ``code_key``, an empty text where there is none, and ``code``: 0, and 1 … for later versions.

    A launch that failed is of the code of its case in its run, or of its workload there, or of the only one that its
    case has. ``code`` numbers versions of a workload's files in the order in which they come: the keys of one run are
    of one version as long as no file changed, for one case may import more files than another.
    """
    known = frame["code_key"].fillna("").astype("str").where(frame["status"].isin(MEASURED))
    for names in (["run_id", "case_id"], ["run_id", "workload"]):
        of = [frame[name].fillna("") for name in names]
        known = known.fillna(known.groupby(of).ffill()).fillna(known.groupby(of).bfill())
    of_case = known.groupby([frame["case_id"].fillna(""), frame["work_key"].fillna("")])
    known = known.fillna(of_case.transform("first").where(of_case.transform("nunique") == 1)).fillna("")
    frame = frame.assign(code_key=known.astype("str"))
    names = ["workload", "run_id", "code_changed", "case_id", "code_key"]
    keys = frame[names].fillna("").assign(told=frame["status"].isin(MEASURED))
    version = _versions(keys.drop_duplicates())
    pairs = zip(frame["workload"].fillna(""), frame["code_key"], strict=True)
    return frame.assign(code=pd.Series([version[pair] for pair in pairs], frame.index, "int64"))


def _versions(keys: pd.DataFrame) -> dict[tuple[str, str], int]:
    """The version of each key of each workload."""
    found = {pair: number for number, pair in enumerate(zip(keys["workload"], keys["code_key"], strict=True))}
    for _, rows in keys[keys["told"]].groupby(["workload", "run_id", "code_changed"], sort=False):
        if rows["case_id"].duplicated().any():  # a file changed twice
            continue
        same = {found[pair] for pair in zip(rows["workload"], rows["code_key"], strict=True)}
        found |= {pair: min(same) for pair, number in found.items() if number in same}
    of_workloads: dict[str, dict[int, int]] = {}
    for (workload, _), number in found.items():
        numbers = of_workloads.setdefault(workload, {})
        numbers.setdefault(number, len(numbers))
    return {(workload, key): of_workloads[workload][number] for (workload, key), number in found.items()}
