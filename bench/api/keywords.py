"""The options of the command line as keyword arguments, from the same tables."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import UsageError, did_you_mean
from bench.plan.options import ALIASES, AXES, SETTINGS
from bench.plan.plan import Asked, asked
from bench.plan.suite_file import read_suite
from bench.plan.workload_spec import script_workload

Function = TypeVar("Function", bound=Callable[..., Any])

OF_A_MATRIX = (*AXES, "scaling")
ASKING = (*OF_A_MATRIX, *SETTINGS, "script", "as_module", "suite", "oversubscribe")


def asked_for(given: Mapping[str, Any], base: Asked | None = None, also: Sequence[str] = ()) -> Asked:
    """Return the request of keyword arguments, on top of ``base``, such as an earlier run's, or of their suite.

    An axis takes a value or a list of values; a text may be a comma-separated list, as on the command line. None means
    not given. ``also``: more keys of a matrix that are allowed. UsageError for an unknown keyword, and for a value that
    is not allowed.
    """
    check_names(given, (*ASKING, *ALIASES, *also))
    known = {ALIASES.get(name, name): value for name, value in given.items() if value is not None}
    suite = known.get("suite")
    if "script" in known or "as_module" in known:
        known["workload"] = _scripts(known)
    return asked(
        axes={name: _values(name, known[name]) for name in (*OF_A_MATRIX, *also) if name in known},
        settings={name: _plain(known[name]) for name in SETTINGS if name in known},
        base=base or (read_suite(str(_plain(suite))) if suite is not None else None),
        oversubscribe=_flag("oversubscribe", known.get("oversubscribe", False)),
    )


def _scripts(known: Mapping[str, Any]) -> list[str]:
    """Return the workloads of scripts; UsageError if there is nothing to run, or something else as well."""
    if "script" not in known:
        raise UsageError(
            "--as-module has no effect without --script", option="--as-module", hint="Add --script MODULE."
        )
    if "workload" in known:
        raise UsageError(
            "--script and --workload both say what is trained",
            option="--script",
            hint="Leave one out, or give both as --workload script=FILE,NAME.",
        )
    as_module = _flag("as_module", known.get("as_module", False))
    return [script_workload(name, as_module) for name in words_of("script", known["script"])]


def check_names(given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise UsageError for an unknown keyword."""
    for name in given:
        if name not in allowed:
            raise UsageError(
                option="keyword",
                given=name,
                allowed=", ".join(allowed),
                hint=did_you_mean(name, allowed),
            )


def takes(*names: str) -> Callable[[Function], Function]:
    """Decorate a function with ``**options`` so that its signature names the keywords that it takes."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        kept = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
        function.__signature__ = signature.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
        return function

    return decorate


def folder_of(out: Any) -> Path:
    """Return the folder of results; UsageError for anything but a path."""
    if not isinstance(out, (str, os.PathLike)):
        raise UsageError(option="out", given=out, allowed="a path")
    return Path(out)


def run_name(given: Any) -> str:
    """Return the id or path of a run from a text, a path or a Run; UsageError for anything else."""
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(option="run", given=given, allowed="a run, its id, latest, or a path")
    return os.fspath(given)


def words_of(name: str, given: Any) -> list[str]:
    """Return the texts of a comma-separated list, or of a sequence of texts, paths or Runs; else UsageError."""
    words = given.split(",") if isinstance(given, str) else [given] if isinstance(given, os.PathLike) else given or ()
    if isinstance(words, (str, Mapping)) or not isinstance(words, Sequence):
        raise UsageError(option=name, given=given, allowed="a text, or a list of texts")
    for word in words:
        if not isinstance(word, (str, os.PathLike)):
            raise UsageError(option=name, given=word, allowed="a text")
    return [os.fspath(word) for word in words]


def mapping_of(name: str, given: Any) -> Mapping[str, Any]:
    """Return a mapping with texts as keys; UsageError for anything else."""
    if not isinstance(given, Mapping) or not all(isinstance(one, str) for one in given):
        raise UsageError(option=name, given=given, allowed="a mapping, such as {'batch_size': 64}")
    return given


def _flag(name: str, given: Any) -> bool:
    words = {True: True, False: False, "on": True, "off": False}
    if not isinstance(given, (bool, str)) or given not in words:
        raise UsageError(option=name, given=given, allowed="True, False")
    return words[given]


def _values(name: str, given: Any) -> list[Any]:
    if name == "env" and isinstance(given, Mapping):
        return [f"{variable}={value}" for variable, value in given.items()]
    many = isinstance(given, Sequence) and not isinstance(given, str)
    values = [_plain(value) for value in (given if many else [given])]
    if not values:
        raise UsageError(option=name, given=values, allowed="one value or more")
    return values


def as_text(value: Any) -> str:
    """Return a value as text for the command line."""
    return ("on" if value else "off") if isinstance(value, bool) else str(_plain(value))


def _plain(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given
