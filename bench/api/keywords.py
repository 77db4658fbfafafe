"""The options of the command line as keywords, from the same tables."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bench.errors import UsageError, near
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import Asked, asked
from bench.plan.suite_file import read_suite

Function = TypeVar("Function", bound=Callable[..., Any])

OF_A_MATRIX = (*AXES, "scaling")
ASKING = (*OF_A_MATRIX, *SETTINGS, "suite", "oversubscribe")


def asked_for(given: Mapping[str, Any], base: Asked | None = None) -> Asked:
    """What keywords ask for, over ``base`` (an earlier run's, say), or over the suite that they name.

    An axis takes a value or a list of them; a text may be a comma list, as on the command line. None is not given.
    UsageError for a keyword that is none, and for a value that is not allowed.
    """
    check_names(given, ASKING)
    known = {name: value for name, value in given.items() if value is not None}
    suite = known.get("suite")
    return asked(
        axes={name: _values(name, known[name]) for name in OF_A_MATRIX if name in known},
        settings={name: _plain(known[name]) for name in SETTINGS if name in known},
        base=base or (read_suite(str(_plain(suite))) if suite is not None else None),
        oversubscribe=bool(known.get("oversubscribe", False)),
    )


def check_names(given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """UsageError for a keyword that is none."""
    for name in given:
        if name not in allowed:
            raise UsageError(f"no option {name!r}; allowed: {', '.join(allowed)}.{near(name, allowed)}")


def takes(*names: str) -> Callable[[Function], Function]:
    """Decorates a function with ``**options``: its signature names the keywords that it takes."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        kept = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
        function.__signature__ = signature.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
        return function

    return decorate


def _values(name: str, given: Any) -> list[Any]:
    if name == "env" and isinstance(given, Mapping):
        return [f"{variable}={value}" for variable, value in given.items()]
    many = isinstance(given, Sequence) and not isinstance(given, str)
    values = [_plain(value) for value in (given if many else [given])]
    if not values:
        raise UsageError(f"{name}: got an empty list; allowed: one value or more.")
    return values


def as_text(value: Any) -> str:
    """A value as the command line has it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(_plain(value))


def _plain(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given
