"""Which runs were made on like machines with like software, and what differs between those that were not."""

from __future__ import annotations

import json
import shlex
import string
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.differences import COLUMNS, Difference, differences

# What a case itself sets, or leaves empty, without being on another machine for that.
OF_THE_CASE = ("OMP_NUM_THREADS",)


def with_environments(frame: pd.DataFrame) -> pd.DataFrame:
    """Launches with a column ``environment``: A for the first run and all runs whose env_key could be equal to its, B …

    Launches of unlike environments are never put together. What one case sets for itself (``--env``, OMP_NUM_THREADS)
    makes no environment of its own; it is part of the case.
    """
    letters: dict[str, str] = {}
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for run_id, rows in _rows(frame).items():
        letter = next((known for known, others in kinds.items() if not _unlike(others, rows)), None)
        letters[run_id] = letter or _letter(len(kinds))
        kinds.setdefault(letters[run_id], rows)
    return frame.assign(environment=frame["run_id"].map(letters).astype("str"))


def unlike(frame: pd.DataFrame, a: str, b: str) -> list[Difference]:
    """What differs between two environments of ``with_environments``, of what enters env_key."""
    of = {name: list(_rows(frame[frame["environment"] == name]).values()) for name in (a, b)}
    return _unlike(*([row for rows in of[name] for row in rows] for name in (a, b)))


def _unlike(a: list[Mapping[str, Any]], b: list[Mapping[str, Any]]) -> list[Difference]:
    return [difference for difference in differences(a, b) if difference.in_env_key]


def _rows(frame: pd.DataFrame) -> dict[str, list[Mapping[str, Any]]]:
    """Distinct rows of the environment by run, without what their cases set."""
    distinct = frame[["run_id", "env", *COLUMNS]].drop_duplicates()
    found: dict[str, list[Mapping[str, Any]]] = {run_id: [] for run_id in distinct["run_id"]}
    for row in distinct.to_dict("records"):
        known = {str(name): None if pd.isna(value) else value for name, value in row.items()}
        found[str(known["run_id"])].append({**known, "settings": _of_all_cases(known["settings"], known["env"])})
    return found


def _of_all_cases(settings: str | None, env: str | None) -> str | None:
    """The variables that are set for the whole run."""
    own = {*OF_THE_CASE, *(word.partition("=")[0] for word in shlex.split(env or ""))}
    try:
        return json.dumps({name: value for name, value in json.loads(settings or "").items() if name not in own})
    except (ValueError, AttributeError):  # unknown, or damaged: `differences` says so
        return settings


def _letter(number: int) -> str:
    return string.ascii_uppercase[number] if number < 26 else f"E{number}"
