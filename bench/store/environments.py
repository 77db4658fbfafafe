"""Groups launches by environment: kind of machine, software, and how they were measured."""

from __future__ import annotations

import functools
import json
import shlex
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.store.env_key import ENV_KEY_COLUMNS, MEASURED_BY, in_key
from bench.store.environment_diff import NEVER_EMPTY, NOT_IN_ENV_KEY, SETTINGS, Difference, between, variables_of
from bench.store.hardware_facts import FACTS_IN_KEY, HARDWARE, hardware_in_key

# Variables that a case itself sets.
OF_THE_CASE = ("OMP_NUM_THREADS",)
IDENTITY = ("run_id", "case_id", "work_key")
MEASURED = ("ok", "invalid")  # Statuses of launches that were completed.
# Columns that determine the environment.
DISTINCT = ("run_id", "session", "role", "status", "env", *ENV_KEY_COLUMNS, SETTINGS, HARDWARE)
COLUMNS = ("launch_id", *DISTINCT)
OF_NODES = ("nproc_per_node", "world_size")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Environment:
    """What is known of an environment.

    ``columns``: also the facts about hardware that are in env_key, by their names.
    ``variables``: None if unknown. ``own``: variables that are unknown because a case sets them itself.
    """

    columns: Mapping[str, Any]
    variables: Mapping[str, str] | None
    own: frozenset[str]

    def fits(self, other: _Environment) -> bool:
        """Return whether both could be the same environment: everything known of both is equal."""
        both = self.columns.keys() & other.columns.keys()
        if any(in_key(name, self.columns[name]) != in_key(name, other.columns[name]) for name in both):
            return False
        return self.variables is None or other.variables is None or self._shared(other) == other._shared(self)

    def _shared(self, other: _Environment) -> dict[str, str]:
        unknown = self.own | other.own
        return {name: value for name, value in (self.variables or {}).items() if name not in unknown}

    def joined(self, other: _Environment) -> _Environment:
        """Return what is known of both together, if they fit."""
        columns = {**other.columns, **self.columns}
        if self.variables is None or other.variables is None:
            some = self if self.variables is not None else other
            return _Environment(columns, some.variables, some.own)
        learnt = {name: value for name, value in other.variables.items() if name in self.own}
        return _Environment(columns, {**learnt, **self.variables}, self.own & other.own)


def with_environments(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the launches with a column ``environment``: A, B … by the order of the launches.

    Launches of different environments are never combined, whether of one run (``--resume-anyway``) or of several.
    Variables that a case sets for itself (``--env``, OMP_NUM_THREADS) belong to the case and not to the environment.
    Unknown values in the columns IDENTITY become empty texts, and those in ``nproc_per_node`` what other launches of
    the case in the run have, else one node with all ranks.
    """
    frame = frame.assign(**{name: frame[name].fillna("") for name in IDENTITY})
    frame = frame.assign(nproc_per_node=_on_each_node(frame))
    number = frame.groupby(list(DISTINCT), sort=False, dropna=False).ngroup()
    first = ~number.duplicated()
    letters = pd.Series(environments(_records(frame[first])), number[first], dtype="str")
    return frame.assign(environment=letters.reindex(number).to_numpy()).astype({"environment": "str"})


def _on_each_node(frame: pd.DataFrame) -> pd.Series:
    """Return ``nproc_per_node`` of each launch; an empty text if nothing is known of its ranks."""
    ranks = frame["world_size"].astype("Int64").astype("str")  # all on one node, before there was such a column
    found = frame["nproc_per_node"]
    for others in (found, ranks):
        found = found.fillna(others.groupby([frame["run_id"], frame["case_id"]]).transform("first"))
    return found.fillna("").astype("str")


def over_nodes(frame: pd.DataFrame) -> pd.Series:
    """Return the ranks of each node in words, such as ``2(x2) ranks``; empty texts for one node."""
    on_each = frame["nproc_per_node"]
    return (on_each + " ranks").where(on_each.str.contains("[(,]"), "")


def environments(rows: Sequence[Row]) -> list[str]:
    """Return the letter of the environment of each launch.

    A launch that failed before its ranks reported their environment gets that of its session, or of its run.
    """
    found: list[_Environment] = []
    numbers = [0] * len(rows)
    last: dict[tuple[Any, ...], int] = {}  # Environment of the last launch of a session, and of a run.
    for at in sorted(range(len(rows)), key=lambda at: not _has_reported(rows[at])):
        one, session, run = _known(rows[at]), (rows[at]["run_id"], rows[at]["session"]), (rows[at]["run_id"],)
        likely = [last[key] for key in (session, run) if key in last]
        number = next((n for n in (*likely, *range(len(found))) if found[n].fits(one)), len(found))
        found[number : number + 1] = [found[number].joined(one) if number < len(found) else one]
        last[session] = last[run] = numbers[at] = number
    letters = {number: _letter(place) for place, number in enumerate(dict.fromkeys(numbers))}
    return [letters[number] for number in numbers]


def unlike(frame: pd.DataFrame, a: str, b: str) -> list[Difference]:
    """Return the differences in env_key between two environments of ``with_environments``."""
    distinct = frame.drop_duplicates(["environment", *DISTINCT])
    return _differences(*(_records(distinct[distinct["environment"] == name]) for name in (a, b)))


def _differences(a: Iterable[Row], b: Iterable[Row]) -> list[Difference]:
    one, other = (functools.reduce(_Environment.joined, map(_known, rows)) for rows in (a, b))
    columns = [name for name in ENV_KEY_COLUMNS if name in one.columns and name in other.columns]
    if one.variables is not None and other.variables is not None:
        columns.append(SETTINGS)
    told = (_told(of, but) for of, but in ((one, other), (other, one)))
    return [difference for difference in between(next(told), next(told), [*columns, HARDWARE]) if difference.in_env_key]


def _told(one: _Environment, other: _Environment) -> dict[str, Any]:
    """Return an environment as a row."""
    facts = {name: one.columns[name] for name in FACTS_IN_KEY if name in one.columns}
    return {**one.columns, SETTINGS: json.dumps(one._shared(other)), HARDWARE: json.dumps(facts)}


def _known(row: Row) -> _Environment:
    """Return what is known of the environment of a launch.

    An empty cell means "none" if the ranks reported their environment, else "unknown". A launch on the CPU says nothing
    about the GPUs of the machine, and a probe nothing about how launches are measured.
    """
    columns = {
        name: row[name]
        for name in ENV_KEY_COLUMNS
        if row[name] not in (None, "") or (_has_reported(row) and name not in NEVER_EMPTY)
    }
    if columns.get("device_name") == "cpu":
        del columns["device_name"]
    for name in MEASURED_BY if row["role"] == "probe" else ():
        columns.pop(name, None)
    columns |= hardware_in_key(row)
    if not row[SETTINGS]:
        return _Environment(columns, None, frozenset())
    own = {*OF_THE_CASE, *NOT_IN_ENV_KEY, *_set_by(row["env"])}
    settings = {name: value for name, value in variables_of(row).items() if name not in own}
    return _Environment(columns, settings, frozenset(own))


def _has_reported(row: Row) -> bool:
    """Return whether the ranks reported the environment that they run in."""
    return bool(row["torch"]) or row["status"] in MEASURED


def _set_by(env: str | None) -> set[str]:
    """Return the variables that a case sets."""
    try:
        words = shlex.split(env or "")
    except ValueError:  # A quote is missing.
        words = (env or "").split()
    return {word.partition("=")[0] for word in words}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with COLUMNS, None for unknown values."""
    return [dict(zip(COLUMNS, values, strict=True)) for values in known_values(frame[list(COLUMNS)])]


def known_values(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Return the rows as tuples of Python values, None for unknown ones.

    Columns are converted one at a time, as pandas takes ten times as long to convert a frame of mixed types.
    """
    columns = [
        [None if unknown else value for value, unknown in zip(column.tolist(), column.isna().tolist(), strict=True)]
        for _, column in frame.items()
    ]
    return zip(*columns, strict=True)


def _letter(number: int) -> str:
    return string.ascii_uppercase[number] if number < 26 else f"E{number}"
