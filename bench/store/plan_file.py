"""Reads ``plan.json`` and checks the type and the value of every key that is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import ResultsError, UsageError
from bench.plan.case import Case
from bench.plan.options import AXES, SELECTORS, SETTINGS
from bench.plan.plan import Asked, Plan
from bench.store.columns import ENVIRONMENT, LAUNCHES
from bench.untrusted.files import read_json

Check = Callable[[Any, str], Any]  # Takes a value and its place; returns the value, or raises ResultsError.


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as ``plan.json`` and ``--dry-run --json`` have it."""
    return {
        "asked": dataclasses.asdict(plan.asked),
        "protocol": dataclasses.asdict(plan.protocol),
        "cases": [
            {
                "case_id": planned.case.case_id,
                **dataclasses.asdict(planned.case),
                "world_size": planned.case.world_size,
                "strong_from": planned.strong_from,
                "skip": planned.skip,
            }
            for planned in plan.cases
        ],
    }


def asked_of(plan: Mapping[str, Any]) -> Asked:
    """Return the request of a ``plan.json``."""
    given = plan["asked"]
    typed = tuple(given.get("typed", ()))  # Older versions did not write it.
    return Asked(tuple(given["matrices"]), given["settings"], given["oversubscribe"], typed)


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the checked plan of a run; ResultsError names the wrong key, such as ``plan.json: cases[2].gpus``.

    Unknown keys are kept. Keys with a default may be missing, as older versions did not write them all.
    """
    file = folder / "plan.json"
    plan = _object(read_json(file), str(file))
    if plan.get("kind"):
        raise ResultsError(f"{file} was written by bench {plan['kind']}")
    checks: dict[str, Check] = {"asked": _asked, "protocol": _protocol, "cases": _cases, "facts": _facts}
    for name, check in checks.items():
        if name not in plan:
            raise _missing(f"{file}: {name}")
        plan[name] = check(plan[name], f"{file}: {name}")
    return plan


def case_of(entry: Mapping[str, Any]) -> Case:
    """Return the case of an entry of a plan."""
    return Case(**{field.name: entry[field.name] for field in dataclasses.fields(Case) if field.name in entry})


# -- parts -----------------------------------------------------------------------------------------------------------


def _asked(given: Any, at: str) -> dict[str, Any]:
    asked = _object(given, at)
    matrices = [_matrix(one, f"{at}.matrices[{i}]") for i, one in enumerate(_list(asked, "matrices", at))]
    if not matrices:
        raise _wrong(f"{at}.matrices", matrices, "one object or more")
    settings = _object(asked.get("settings"), f"{at}.settings")
    typed = [_text(one, f"{at}.typed[{i}]") for i, one in enumerate(_list(asked, "typed", at, []))]
    return {
        "matrices": matrices,
        "settings": {name: _setting(name, value, f"{at}.settings") for name, value in settings.items()},
        "oversubscribe": _bool(asked.get("oversubscribe"), f"{at}.oversubscribe"),
        "typed": [name for name in typed if name in {**AXES, **SELECTORS}],
    }


def _matrix(given: Any, at: str) -> dict[str, list[Any]]:
    matrix = _object(given, at)
    known = {**AXES, **SELECTORS}
    for name in matrix:
        if name not in known:
            raise _wrong(at, name, f"the keys {', '.join(known)}")
        if not _list(matrix, name, at):
            raise _wrong(f"{at}.{name}", [], known[name].allowed)
    return {
        name: [_read(known[name].read, value, f"{at}.{name}[{i}]") for i, value in enumerate(values)]
        for name, values in matrix.items()
    }


def _protocol(given: Any, at: str) -> dict[str, Any]:
    return {name: _setting(name, value, at) for name, value in _object(given, at).items()}


def _setting(name: str, value: Any, at: str) -> Any:
    if name not in SETTINGS:
        raise _wrong(at, name, f"the keys {', '.join(SETTINGS)}")
    return None if value is None else _read(SETTINGS[name].read, value, f"{at}.{name}")


def _cases(given: Any, at: str) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise _wrong(at, given, "a list of objects")
    return [_case(one, f"{at}[{i}]") for i, one in enumerate(given)]


def _case(given: Any, at: str) -> dict[str, Any]:
    case = _object(given, at)
    found = {**case, "case_id": _text(case.get("case_id"), f"{at}.case_id")}
    for field in dataclasses.fields(Case):
        if field.name in case:
            found[field.name] = _field(field, case[field.name], f"{at}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise _missing(f"{at}.{field.name}")
    for name in ("skip", "search"):
        if case.get(name) is not None:
            _text(case[name], f"{at}.{name}")
    for name in ("strong_from", "answer"):
        if case.get(name) is not None:
            _whole(case[name], f"{at}.{name}")
    return {"skip": None, **found, **({"answer": case.get("answer")} if "search" in case else {})}


def _field(field: dataclasses.Field[Any], value: Any, at: str) -> Any:
    """Check a value of a case, and that it has the type of its field: options also accept words such as ``all``."""
    kind = str(field.type)
    if value is None and kind.endswith("| None"):
        return None
    types = {"str": str, "int": int, "float": float, "bool": bool}
    if field.name in AXES:
        value = _read(AXES[field.name].read, value, at)
    if type(value) is not types[kind.partition(" ")[0]] or (field.name, value) == ("device", "auto"):
        raise _wrong(at, value, f"a value of kind {kind.partition(' ')[0]}")
    return value


def _facts(given: Any, at: str) -> dict[str, Any]:
    """Check what a resumed run compares with the machine: columns, GPUs, and the files of workloads."""
    facts = _object(given, at)
    for name in (name for name in facts if name in ENVIRONMENT and facts[name] is not None):
        kinds = {"text": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}[LAUNCHES[name].kind]
        value = facts[name]
        if type(value) not in kinds or (not isinstance(value, str) and not -(2**63) <= value < 2**63):
            raise _wrong(f"{at}.{name}", value, f"a value of kind {LAUNCHES[name].kind}, or null")
    if facts.get("gpus") is not None:
        _text(facts["gpus"], f"{at}.gpus", empty=True)
    for file, key in _object(facts.get("workloads") or {}, f"{at}.workloads").items():
        _text(key, f"{at}.workloads[{file!r}]")
    return facts


# -- values ----------------------------------------------------------------------------------------------------------


def _object(given: Any, at: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _wrong(at, given, "an object")
    return given


def _list(of: Mapping[str, Any], name: str, at: str, default: Any = None) -> list[Any]:
    given = of.get(name, default)
    if not isinstance(given, list):
        raise _wrong(f"{at}.{name}", given, "a list")
    return given


def _text(given: Any, at: str, empty: bool = False) -> str:
    if not isinstance(given, str) or not (given or empty):
        raise _wrong(at, given, "a text")
    return given


def _whole(given: Any, at: str) -> int:
    if type(given) is not int or not 1 <= given < 2**62:
        raise _wrong(at, given, "a whole number from 1")
    return given


def _bool(given: Any, at: str) -> bool:
    if not isinstance(given, bool):
        raise _wrong(at, given, "true, false")
    return given


def _read(read: Check, value: Any, at: str) -> Any:
    try:
        return read(value, at)
    except UsageError as error:
        raise ResultsError(error.message, **error.fields) from None


def _wrong(at: str, given: Any, allowed: str) -> ResultsError:
    return ResultsError(option=at, given=given, allowed=allowed)


def _missing(at: str) -> ResultsError:
    return ResultsError(f"{at} is missing", option=at)
