"""Reads and checks the files of ranks, and what other nodes send. Both may contain anything."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import json
import math
import os
import stat
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

LARGEST = 1 << 30  # Bytes of a file.
LONGEST = 1 << 20  # Characters of a text.
BOUND = 1 << 63  # Whole numbers are at least 0 and below this.
MAY_BE_NAN = ("losses", "memory_mib")
UNSIGNED = "checksums"  # Whole numbers of 64 bits.

T = TypeVar("T")


class NonsenseError(ValueError):
    """A file of a rank is invalid; the message says why."""


def read_file(path: Path, limit: int = LARGEST) -> bytes | None:
    """Return the content of a file, None if it does not exist; NonsenseError if it is not regular, or too large."""
    with regular(path) as descriptor:
        if descriptor is None:
            return None
        if (size := os.fstat(descriptor).st_size) > limit:
            raise NonsenseError(f"has {size} bytes")
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit + 1)


@contextlib.contextmanager
def regular(path: Path) -> Iterator[int | None]:
    """Open a regular file for reading: a descriptor, None if it does not exist; NonsenseError for anything else.

    Symbolic links are not followed, and a FIFO without a writer does not block.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        kinds = (errno.ELOOP, errno.ENXIO, errno.EMLINK)
        said = "is not a regular file" if error.errno in kinds else f"cannot be read: {error.strerror}"
        raise NonsenseError(said) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NonsenseError("is not a regular file")
        yield descriptor
    except OSError as error:
        raise NonsenseError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_json(path: Path, kind: type[T]) -> T | None:
    """Return the dataclass ``kind`` from a JSON file, None if it does not exist; NonsenseError if it is invalid."""
    content = read_file(path)
    return None if content is None else parsed(kind, content)


def parsed(kind: type[T], content: bytes) -> T:
    """Return the dataclass ``kind`` from JSON; NonsenseError if it is invalid."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise NonsenseError("is not JSON") from None
    return checked(kind, values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file atomically: a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values))
    os.replace(partial, path)


def checked(kind: type[T], values: Any) -> T:
    """Return JSON's ``values`` as the dataclass ``kind``; NonsenseError for a wrong type or a value out of bounds."""
    if not isinstance(values, dict):
        raise NonsenseError(f"holds {_name(values)} where it should hold the fields of a {kind.__name__}")
    hints, fields = _hints(kind), {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise NonsenseError(f"has a field {name[:40]!r}, which is unknown")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise NonsenseError(f"lacks {name}")
    return kind(**{name: _value(hints[name], value, name) for name, value in values.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return the value if it has the type of its field."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        [rest] = [one for one in inner if one is not type(None)]
        return _value(rest, value, where)
    if origin is tuple and inner[-1] is not Ellipsis and isinstance(value, list) and len(value) == len(inner):
        return tuple(_value(kind, one, where) for kind, one in zip(inner, value, strict=True))
    if (origin is list or (origin is tuple and inner[-1] is Ellipsis)) and isinstance(value, list):
        return origin(_list(inner[0], value, where))
    if origin in (dict, Mapping) and isinstance(value, dict):
        items = ((key, one, f"{where}[{key[:40]!r}]") for key, one in value.items())
        return {_key(inner[0], key, place): _value(inner[1], one, place) for key, one, place in items}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        try:
            return checked(hint, value)
        except NonsenseError as error:
            raise NonsenseError(f"{error} ({where})") from None
    if hint is Any or _fits(hint, value, where):
        return value
    raise NonsenseError(f"has {_name(value)} as {where}")


def _key(hint: Any, key: str, where: str) -> Any:
    """Return a key of a mapping; JSON has whole numbers as texts."""
    if hint is not int:
        return key
    if not (key.isascii() and key.isdecimal() and len(key) < 10):
        raise NonsenseError(f"has a key that is no number: {where}")
    return int(key)


def _list(hint: Any, values: list[Any], where: str) -> list[Any]:
    """Check a list; long lists of numbers without one call per number."""
    kinds = set(map(type, values))
    if values and hint in (int, float) and kinds <= ({int} if hint is int else {int, float}):
        finite = hint is int or where in MAY_BE_NAN or all(map(math.isfinite, values))
        ordered = [value for value in (min(values), max(values)) if value == value]
        if finite and all(_fits(hint, value, where) for value in ordered):
            return values
    return [_value(hint, value, f"{where}[{place}]") for place, value in enumerate(values)]


def _fits(hint: Any, value: Any, where: str) -> bool:
    if hint is float and type(value) is float:
        return math.isfinite(value) or where.partition("[")[0] in MAY_BE_NAN
    if hint in (int, float) and type(value) is int:
        return 0 <= value < (2 * BOUND if where.partition("[")[0] == UNSIGNED else BOUND)
    if hint is str:
        return isinstance(value, str) and len(value) <= LONGEST
    return hint is bool and isinstance(value, bool)


def _name(value: Any) -> str:
    return f"{value!r}"[:40] if isinstance(value, (int, float, bool, type(None))) else f"a {type(value).__name__}"
