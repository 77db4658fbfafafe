"""Which launches ran the same version of the user's files: rows of a case are combined only if code_key is equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.store.columns import LaunchRow
from bench.store.environments import COLUMNS, MEASURED, OF_NODES, over_nodes, with_environments


class Identity(NamedTuple):
    """What launches that may be combined share besides case and work.

    That is the environment's letter, the code_key, and the ranks on each node. ``words`` describe them; the number of
    the code version is included only if the workload has several, and the ranks only if there are several nodes.
    """

    environment: str
    code_key: str
    nproc_per_node: str
    words: str


def identities(rows: Sequence[LaunchRow]) -> list[Identity]:
    """Return the identity of each launch among these launches."""
    names = [*COLUMNS, *OF_NODES, "case_id", "workload", "work_key", "code_key", "code_changed"]
    columns = {name: [_encodable(getattr(row, name)) for row in rows] for name in names}
    frame = pd.DataFrame({name: pd.Series(values, dtype="object") for name, values in columns.items()})
    frame = with_codes(with_environments(frame))
    several = frame.groupby(frame["workload"].fillna(""))["code_key"].transform("nunique") > 1
    codes = (", code " + (frame["code"] + 1).astype("str")).where(several, "")
    words = (
        "environment " + frame["environment"] + codes + (", " + over_nodes(frame)).where(over_nodes(frame) != "", "")
    )
    names = ["environment", "code_key", "nproc_per_node"]
    return [Identity(*one) for one in zip(*(frame[name] for name in names), words, strict=True)]


def _encodable(value: Any) -> Any:
    """Escape lone surrogates, which a data frame cannot hold."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def with_codes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the launches with ``code_key``, an empty text where there is none, and ``code``: 0, 1 … for each version.

    A failed launch gets the code of its case in its run, or of its workload there, or the only code of its case.
    ``code`` numbers the versions of a workload's files in their order. As long as no file changed, all keys of a run
    are one version, as cases may import different files.
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
    """Return the version of each (workload, code_key)."""
    found = {pair: number for number, pair in enumerate(zip(keys["workload"], keys["code_key"], strict=True))}
    for _, rows in keys[keys["told"]].groupby(["workload", "run_id", "code_changed"], sort=False):
        if rows["case_id"].duplicated().any():  # A file changed twice.
            continue
        same = {found[pair] for pair in zip(rows["workload"], rows["code_key"], strict=True)}
        found |= {pair: min(same) for pair, number in found.items() if number in same}
    of_workloads: dict[str, dict[int, int]] = {}
    for (workload, _), number in found.items():
        numbers = of_workloads.setdefault(workload, {})
        numbers.setdefault(number, len(numbers))
    return {(workload, key): of_workloads[workload][number] for (workload, key), number in found.items()}
