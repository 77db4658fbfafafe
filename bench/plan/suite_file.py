"""Reads suite files: TOML with a protocol and matrices of axes. Some suites are built in."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UsageError, did_you_mean
from bench.plan.options import AXES, SELECTORS, SETTINGS, read_axis
from bench.plan.plan import Asked, Axes
from bench.plan.workload_spec import script_workload

KEYS = {**AXES, **SELECTORS}  # Keys of a matrix in a suite.
OF_SCRIPTS = ("script", "as_module")  # Keys of a matrix beside those of a plan.
SUITES = Path(__file__).parent / "suites"


def suites() -> dict[str, str]:
    """Return the built-in suites: name -> the question it answers, which is the first comment of its file."""
    return {
        file.stem: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for file in sorted(SUITES.glob("*.toml"))
    }


def read_suite(name: str) -> Asked:
    """Read a built-in suite by its name, or a suite file by its path; UsageError if it is invalid."""
    file = SUITES / f"{name}.toml" if name in suites() else Path(name)
    if not os.path.isfile(file):  # Path.is_file raises for a name that is too long.
        allowed = f"{', '.join(suites())}, or a path to a TOML file"
        raise UsageError(option="--suite", given=name, allowed=allowed, hint=did_you_mean(name, suites()))
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # Also for invalid UTF-8, and for numbers of thousands of digits.
        raise UsageError(f"{file}: not a TOML file: {error}", option="--suite", given=name) from None
    except RecursionError:
        raise UsageError(f"{file}: its lists or tables are nested too deeply", option="--suite", given=name) from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", option="--suite", given=name) from None
    _known(content, ("protocol", "matrix"), str(file))
    matrices, protocol = content.get("matrix", []), content.get("protocol", {})
    if not isinstance(matrices, list) or not all(isinstance(matrix, dict) for matrix in matrices) or not matrices:
        raise UsageError(option=f"{file}: matrix", given=matrices, allowed="one [[matrix]] table or more")
    if not isinstance(protocol, dict):
        raise UsageError(option=f"{file}: protocol", given=protocol, allowed="a [protocol] table")
    _known(protocol, SETTINGS, f"{file}: protocol")
    read = tuple(_matrix(matrix, f"{file}: matrix[{i}]") for i, matrix in enumerate(matrices))
    return Asked(
        matrices=read,
        settings={name: SETTINGS[name].read(value, f"{file}: protocol.{name}") for name, value in protocol.items()},
        typed=tuple(dict.fromkeys(name for matrix in read for name in matrix)),
    )


def _matrix(given_axes: Mapping[str, Any], where: str) -> Axes:
    _known(given_axes, (*KEYS, *OF_SCRIPTS), where)
    matrix = _with_scripts(given_axes, where)
    axes: Axes = {}
    for name, given in matrix.items():
        values = given if isinstance(given, list) else [given]
        if not values:
            raise UsageError(option=f"{where}.{name}", given=values, allowed=KEYS[name].allowed)
        axes[name] = read_axis(name, values, f"{where}.{name}")
    return axes


def _with_scripts(matrix: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the matrix with ``script`` and ``as_module`` as values of ``workload``."""
    given = dict(matrix)
    scripts, as_module = given.pop("script", None), given.pop("as_module", False)
    if scripts is None and not as_module:
        return given
    if "workload" in given or scripts is None:
        hint = "Leave workload out, or give all as script=FILE in it." if scripts else "Add script."
        raise UsageError(option=where, given="workload" if scripts else "as_module", allowed="script alone", hint=hint)
    if not isinstance(as_module, bool):
        raise UsageError(option=f"{where}.as_module", given=as_module, allowed="true, false")
    names = scripts if isinstance(scripts, list) else [scripts]
    return {"workload": [script_workload(name, as_module) for name in names], **given}


def _known(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    for name in given:
        if name not in (names := list(allowed)):
            allowed_keys = f"the keys {', '.join(names)}"
            raise UsageError(option=where, given=name, allowed=allowed_keys, hint=did_you_mean(name, names))
