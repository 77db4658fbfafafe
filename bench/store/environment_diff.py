"""Differences between the environments of two measurements, in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import ResultsError
from bench.machine.hardware import FACTS
from bench.store.cells import cell
from bench.store.columns import ENVIRONMENT, LAUNCHES, LaunchRow
from bench.store.env_key import ENV_KEY_COLUMNS, MEASURED_BY, in_key
from bench.store.hardware_facts import HARDWARE, hardware_of

SETTINGS = "settings"
OBJECTS = (SETTINGS, HARDWARE)  # Columns with a JSON object, which are compared name by name.
# Columns that describe neither a machine nor its software: keys, properties of a case, and which devices it used.
NO_ENVIRONMENT = ("work_key", "env_key", "code_changed", "command", "sources", "device_uuids")
# Columns of the environment; those of env_key come first.
COLUMNS = (
    *ENV_KEY_COLUMNS,
    SETTINGS,
    HARDWARE,
    *(c for c in ENVIRONMENT if c not in {*ENV_KEY_COLUMNS, SETTINGS, HARDWARE, *NO_ENVIRONMENT}),
)
NOT_IN_ENV_KEY = {"CUDA_VISIBLE_DEVICES"}  # Variables in the column settings.
NEVER_EMPTY = ("cpus_allowed", *MEASURED_BY)  # Except in rows of older versions without these columns.


@dataclass(frozen=True)
class Difference:
    """A column, a variable in ``settings``, or a fact in ``hardware``, whose values differ between A and B.

    ``a`` and ``b``: the distinct values as cells; an empty text is an empty cell, None a variable that is not set.
    ``in_env_key``: whether the difference changes env_key, so that results cannot be compared with a baseline.
    """

    name: str
    a: tuple[str | None, ...]
    b: tuple[str | None, ...]
    in_env_key: bool

    def words(self, a: str = "in A", b: str = "in B") -> str:
        """Return one line such as ``torch: 2.11.0 in A, 2.15.0 in B``; ``a`` and ``b`` name the two places or times."""
        return f"{self.name}: {shown(self.a)} {a}, {shown(self.b)} {b}"


def differences(a_rows: Iterable[LaunchRow], b_rows: Iterable[LaunchRow]) -> list[Difference]:
    """Return the differences between the environments of two runs, from their rows of launches.csv.

    Differences in env_key come first. A run may have several values of a column. An empty cell counts only if all are
    empty, as launches that failed early leave cells empty. ResultsError if a row's settings or hardware are not a JSON
    object.
    """
    return compared([row.columns() for row in a_rows], [row.columns() for row in b_rows], COLUMNS)


def between(a: Mapping[str, Any], b: Mapping[str, Any], columns: Collection[str]) -> list[Difference]:
    """Return the differences between two rows in these columns of launches.csv.

    ``settings`` is compared variable by variable, ``hardware`` fact by fact.

    None, an empty text and a missing value are empty cells. ResultsError as for ``differences``.
    """
    return compared([a], [b], columns)


def compared(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], columns: Collection[str]
) -> list[Difference]:
    """Return the differences between two lists of rows in these columns, as ``between`` does for one row each."""
    found = [_difference(name, _of_column(a, name), _of_column(b, name)) for name in columns if name not in OBJECTS]
    if SETTINGS in columns:
        found += _settings_compared(a, b)
    if HARDWARE in columns:
        found += _hardware_compared(a, b)
    unlike = [difference for difference in found if set(difference.a) != set(difference.b)]
    return sorted(unlike, key=lambda difference: not difference.in_env_key)


def _difference(name: str, a: tuple[str, ...], b: tuple[str, ...]) -> Difference:
    in_a, in_b = ({in_key(name, value) for value in values} for values in (a, b))
    unknown = name in NEVER_EMPTY and ("",) in (a, b)
    return Difference(name, a, b, name in ENV_KEY_COLUMNS and in_a != in_b and not unknown)


def _of_column(rows: Sequence[Mapping[str, Any]], column: str) -> tuple[str, ...]:
    """Return the distinct values as cells, as rows that are not written yet may have more digits."""
    known = [row[column] for row in rows if row.get(column) not in (None, "")]
    return tuple(dict.fromkeys(cell(value, LAUNCHES[column]) for value in known)) or ("",)


def _settings_compared(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Difference]:
    in_a, in_b = ([variables_of(row) for row in rows if row.get(SETTINGS)] for rows in (a, b))
    if not in_a or not in_b:  # The variables of one side are unknown, which is not the same as not set.
        return [Difference(SETTINGS, _of_column(a, SETTINGS), _of_column(b, SETTINGS), in_env_key=True)]
    names = sorted({name for variables in (*in_a, *in_b) for name in variables})
    return [Difference(n, _of_variable(in_a, n), _of_variable(in_b, n), n not in NOT_IN_ENV_KEY) for n in names]


def _of_variable(settings: Sequence[Mapping[str, str]], name: str) -> tuple[str | None, ...]:
    return tuple(dict.fromkeys(variables.get(name) for variables in settings))


def _hardware_compared(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Compare the facts that both sides have, as older versions recorded none, or fewer."""
    in_a, in_b = ([hardware_of(row) for row in rows] for rows in (a, b))
    both = [name for name in FACTS if all(any(name in facts for facts in side) for side in (in_a, in_b))]
    return [Difference(n, _of_fact(in_a, n), _of_fact(in_b, n), FACTS[n].in_env_key) for n in both]


def _of_fact(hardware: Sequence[Mapping[str, str | None]], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(facts[name] or "" for facts in hardware if name in facts))


def variables_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables in a row's settings; ResultsError if they are not a JSON object."""
    try:
        found = json.loads(row[SETTINGS])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ResultsError(
            option=f"launch {row.get('launch_id')} of run {row.get('run_id')}, column {SETTINGS}",
            given=row[SETTINGS],
            allowed="a JSON object",
            hint="Restore the file from a copy.",
        )
    return {name: str(value) for name, value in found.items()}


def shown(values: tuple[str | None, ...]) -> str:
    """Return the values of a side in words."""
    return " and ".join("not set" if v is None else (v if v.isprintable() else repr(v)) or "empty" for v in values)
