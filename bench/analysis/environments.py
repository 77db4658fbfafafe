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
IDENTITY = ("run_id", "case_id", "work_key")


def with_environments(frame: pd.DataFrame) -> pd.DataFrame:
    """Launches with a column ``environment``: A for the first run and all runs whose env_key could be equal to its, B …

    Launches of unlike environments are never put together. What one case sets for itself (``--env``, OMP_NUM_THREADS)
    makes no environment of its own; it is part of the case. An identity that is unknown (IDENTITY) is an empty text.
    """
    frame = frame.assign(**{name: frame[name].fillna("") for name in IDENTITY})
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
        found[str(known["run_id"])].append(known)
    return {run_id: _of_all_cases(rows) for run_id, rows in found.items()}


def _of_all_cases(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A run's rows with the variables that are set for the whole of it: what a case sets itself is as in the others."""
    settings = [_not_own(row["settings"], row["env"]) for row in rows]
    shared: dict[str, Any] = {}
    for variables in settings:
        shared |= variables or {}
    return [
        row if own is None else {**row, "settings": json.dumps({**_missing(shared, row), **own})}
        for row, own in zip(rows, settings, strict=True)
    ]


def _not_own(settings: str | None, env: str | None) -> dict[str, Any] | None:
    """The variables that a row's case does not set; None where settings are unknown, or damaged."""
    try:
        return {name: value for name, value in json.loads(settings or "").items() if name not in _set_by(env)}
    except (ValueError, AttributeError):
        return None


def _missing(shared: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shared.items() if name in _set_by(row["env"])}


def _set_by(env: str | None) -> set[str]:
    """The variables that a case sets."""
    try:
        words = shlex.split(env or "")
    except ValueError:  # a quote is missing
        words = (env or "").split()
    return {*OF_THE_CASE, *(word.partition("=")[0] for word in words)}


def _letter(number: int) -> str:
    return string.ascii_uppercase[number] if number < 26 else f"E{number}"
