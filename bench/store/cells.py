"""Converts values to cells of CSV files, and back."""

from __future__ import annotations

import re
from collections.abc import Callable

from bench.errors import ResultsError
from bench.plan.options import Value
from bench.store.columns import SCHEMA, Column
from bench.untrusted.text import escaped

ADVICE = "Restore the file from a copy, or delete that row."
DIGITS = re.compile(r"[-+]?[0-9]+")
NO_NUMBER = re.compile(r"[^-+.0-9A-Za-z]")  # float() accepts blanks, underscores and digits of other scripts.
KEYS = {"work_key": "w", "env_key": "e"}  # First letters of the keys since schema 7.
OLD_KEY = re.compile(r"[0-9a-f]{12}")
INT_RANGE = range(-(2**63), 2**63)  # Whole numbers that a data frame can hold.


def cell(value: Value, column: Column) -> str:
    """Return the cell of a value.

    None is an empty cell, floats have up to ten significant digits, booleans are ``true`` and ``false``, and unsafe
    characters of texts are escaped.
    """
    if value is None:
        return ""
    if column.kind == "bool":
        return "true" if value else "false"
    if column.kind == "float":
        return format(float(value), ".10g")
    if column.kind == "int":
        return str(int(value))
    return escaped(str(value))


def value_of(name: str, column: Column, text: str) -> Value:
    """Return the value of a cell; ResultsError, without the cell's place, if its kind does not allow the text."""
    if text == "":
        return None
    value = _PARSE[column.kind](text)
    if name in KEYS and OLD_KEY.fullmatch(text):
        return KEYS[name] + text
    if value is None:
        raise ResultsError(given=text, allowed=f"{_ALLOWED[column.kind]}, or nothing", hint=ADVICE)
    if name == "schema" and isinstance(value, int) and value > SCHEMA:
        raise ResultsError(
            given=value, allowed=f"{SCHEMA} or less, which this version reads", hint="Upgrade stepbench."
        )
    return value


def _int(text: str) -> int | None:
    digits = DIGITS.fullmatch(text) and len(text) < 21  # The digits of INT_RANGE and a sign.
    return value if digits and (value := int(text)) in INT_RANGE else None


def _float(text: str) -> float | None:
    try:
        return None if NO_NUMBER.search(text) else float(text)
    except ValueError:
        return None


def _bool(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _text(text: str) -> str:
    """Escape control characters, which older versions wrote as they were; line ends within a cell stay."""
    return "\r".join(map(escaped, text.split("\r")))


_PARSE: dict[str, Callable[[str], Value]] = {"int": _int, "float": _float, "bool": _bool, "text": _text}
_ALLOWED = {"int": "a whole number of at most 64 bits", "float": "a number", "bool": "true, false"}
