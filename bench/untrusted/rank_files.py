"""Reading what a rank has left. Ranks run a user's code, so anything may stand there: all of it is checked."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

LARGEST = 1 << 30  # bytes of a file
LONGEST = 1 << 20  # characters of a text
BOUND = 1 << 63  # of whole numbers, none of which is below 0
MAY_BE_NAN = "losses"
UNSIGNED = "checksums"  # of 64 bits

T = TypeVar("T")


class NonsenseError(ValueError):
    """What a rank has left makes no sense; the message says why."""


def read_file(path: Path, limit: int = LARGEST) -> bytes | None:
    """The content of a file, None if there is none. NonsenseError for what is no regular file, and for a huge one."""
    with regular(path) as descriptor:
        if descriptor is None:
            return None
        if (size := os.fstat(descriptor).st_size) > limit:
            raise NonsenseError(f"has {size} bytes")
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit + 1)


@contextlib.contextmanager
def regular(path: Path) -> Iterator[int | None]:
    """A descriptor to read a regular file from, None if there is none; NonsenseError for anything else.

    Neither is a link followed, nor does a pipe that nobody writes to keep us waiting.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        kinds = (errno.ELOOP, errno.ENXIO, errno.EMLINK)
        said = "is no regular file" if error.errno in kinds else f"cannot be read: {error.strerror}"
        raise NonsenseError(said) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NonsenseError("is no regular file")
        yield descriptor
    except OSError as error:
        raise NonsenseError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_json(path: Path, kind: type[T]) -> T | None:
    """A dataclass from a file of JSON, None if there is none; NonsenseError if it holds anything else."""
    content = read_file(path)
    if content is None:
        return None
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise NonsenseError("is no JSON") from None
    return checked(kind, values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """All of it or nothing: a reader never sees half a record."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values))
    os.replace(partial, path)


def checked(kind: type[T], values: Any) -> T:
    """The dataclass ``kind`` of what JSON held; NonsenseError names a field of another type or out of bounds."""
    if not isinstance(values, dict):
        raise NonsenseError(f"holds {_name(values)} where it should hold the fields of a {kind.__name__}")
    hints, fields = _hints(kind), {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise NonsenseError(f"has a field {name[:40]!r}, which there is not")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise NonsenseError(f"lacks {name}")
    return kind(**{name: _value(hints[name], value, name) for name, value in values.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value as the type of its field says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        [rest] = [one for one in inner if one is not type(None)]
        return _value(rest, value, where)
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_list(inner[0], value, where))
    if origin is dict and isinstance(value, dict):
        return {key: _value(inner[1], one, f"{where}[{key[:40]!r}]") for key, one in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        try:
            return checked(hint, value)
        except NonsenseError as error:
            raise NonsenseError(f"{error} ({where})") from None
    if hint is Any or _fits(hint, value, where):
        return value
    raise NonsenseError(f"has {_name(value)} as {where}")


def _list(hint: Any, values: list[Any], where: str) -> list[Any]:
    """Long lists are of numbers, and are looked through without a call for each."""
    kinds = set(map(type, values))
    if values and hint in (int, float) and kinds <= ({int} if hint is int else {int, float}):
        finite = hint is int or where == MAY_BE_NAN or all(map(math.isfinite, values))
        ordered = [value for value in (min(values), max(values)) if value == value]
        if finite and all(_fits(hint, value, where) for value in ordered):
            return values
    return [_value(hint, value, f"{where}[{place}]") for place, value in enumerate(values)]


def _fits(hint: Any, value: Any, where: str) -> bool:
    if hint is float and type(value) is float:
        return math.isfinite(value) or where.partition("[")[0] == MAY_BE_NAN
    if hint in (int, float) and type(value) is int:
        return 0 <= value < (2 * BOUND if where.partition("[")[0] == UNSIGNED else BOUND)
    if hint is str:
        return isinstance(value, str) and len(value) <= LONGEST
    return hint is bool and isinstance(value, bool)


def _name(value: Any) -> str:
    return f"{value!r}"[:40] if isinstance(value, (int, float, bool, type(None))) else f"a {type(value).__name__}"
