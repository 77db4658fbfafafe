"""Parses ``--workload``, without torch."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import UsageError, did_you_mean
from bench.plan.comms import COMMS, CommsSpec, parse_comms
from workloads import ADAPTERS, WORKLOADS, Entry

SCRIPTS = ("script", "module")  # Kinds of scripts: script=FILE, module=NAME.
OptionValue = int | float | bool | str
MOST = 10_000_000  # Largest value of a built-in workload's option, unless its table has another.
WHOLE = range(-(2**63), 2**63)  # Whole numbers of a user's own option: those that a tensor can hold.


@dataclass(frozen=True)
class WorkloadSpec:
    """A workload's name and options. ``entry`` is None for a user's own workload, a script, and collectives."""

    spec: str
    target: str
    given: Mapping[str, OptionValue]
    entry: Entry | None
    script: str = ""  # One of SCRIPTS for a user's script.
    comms: CommsSpec | None = None  # For collectives alone, which train nothing.

    @property
    def options(self) -> dict[str, OptionValue]:
        """Keyword arguments of the workload's class."""
        return {**(self.entry.options if self.entry else {}), **self.given}


@functools.lru_cache(4096)  # A plan of thousands of cases has few workloads.
def parse_workload(text: str) -> WorkloadSpec:
    """Parse ``name[:option=value…]``, ``file.py:Name[:…]`` or ``package.module:Name[:…]``; else UsageError.

    A script is ``script=FILE`` or ``module=NAME``, and collectives alone are ``comms[:option=value…]``.
    """
    kind, equals, target = text.partition("=")
    if kind in SCRIPTS and equals:
        return _script(text, kind, target)
    if text.partition(":")[0] == COMMS:
        spec, comms = parse_comms(text)
        return WorkloadSpec(spec, COMMS, {}, None, comms=comms)
    if "," in text:
        raise UsageError(given=text, allowed="a workload without a comma", hint="A comma separates workloads.")
    head, *rest = text.split(":")
    if head in ADAPTERS:
        return _adapted(text, head, rest)
    own = head not in WORKLOADS and bool(rest) and "=" not in rest[0]
    if own:
        head, rest = f"{head}:{rest[0]}", rest[1:]
    elif head not in WORKLOADS:
        hint = "Name your own workload as file.py:Name." if "." in head else did_you_mean(head, WORKLOADS)
        raise UsageError(given=head, allowed=f"{', '.join([*WORKLOADS, *ADAPTERS])}, file.py:Name", hint=hint)
    entry = None if own else WORKLOADS[head]
    given = dict(_option(head, item, entry) for item in rest)
    if entry:
        _check_options(head, entry, {**entry.options, **given})
        given = {name: value for name, value in given.items() if value != entry.options[name]}
    spec = ":".join([head, *(f"{name}={_show(value)}" for name, value in sorted(given.items()))])
    return WorkloadSpec(spec, entry.target if entry else head, given, entry)


def _adapted(text: str, head: str, rest: list[str]) -> WorkloadSpec:
    """Return a workload from another package."""
    given = dict(_option(head, item, None) for item in rest)
    allowed = [option.partition("=")[0] for option in ADAPTERS[head].options.split(":")]
    if unknown := [name for name in given if name not in allowed]:
        hint = did_you_mean(unknown[0], allowed)
        raise UsageError(option=head, given=unknown[0], allowed=f"the options {', '.join(allowed)}", hint=hint)
    if allowed[0] not in given:
        raise UsageError(option="--workload", given=text, allowed=f"{head}:{ADAPTERS[head].options}")
    spec = ":".join([head, *(f"{name}={_show(value)}" for name, value in sorted(given.items()))])
    return WorkloadSpec(spec, ADAPTERS[head].target, given, None)


def script_workload(target: str, as_module: bool) -> str:
    """Return the workload of a script, a file or with ``as_module`` the name of a module."""
    return f"{'module' if as_module else 'script'}={target}"


def _script(text: str, kind: str, target: str) -> WorkloadSpec:
    name = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", target)
    if "," in text or (not name if kind == "module" else not target):
        allowed = "the name of a module, such as package.train" if kind == "module" else "a Python file without a comma"
        raise UsageError(option="--script", given=target, allowed=allowed)
    return WorkloadSpec(text, target, {}, None, kind)


def _option(workload: str, item: str, entry: Entry | None) -> tuple[str, OptionValue]:
    name, equals, text = item.partition("=")
    if not (equals and name and text):
        raise UsageError(option=workload, given=item, allowed="option=value")
    if entry is None:
        return name, _guess(workload, name, text)
    if name not in entry.options:
        allowed = f"the options {', '.join(entry.options)}" if entry.options else "no options"
        raise UsageError(option=workload, given=name, allowed=allowed, hint=did_you_mean(name, entry.options))
    try:
        return name, int(text)
    except ValueError:
        raise UsageError(option=f"{workload}:{name}", given=text, allowed="a whole number") from None


def _check_options(head: str, entry: Entry, options: Mapping[str, OptionValue]) -> None:
    for name, value in options.items():
        minimum, maximum = entry.minimum.get(name, 1), entry.maximum.get(name, MOST)
        if not minimum <= int(value) <= maximum:
            allowed = f"from {minimum}" if maximum == MOST else f"from {minimum} to {maximum}"
            most = f"At most {MOST:,}." if int(value) > maximum == MOST else None
            raise UsageError(option=f"{head}:{name}", given=value, allowed=f"a whole number {allowed}", hint=most)
    for multiple, *factors in entry.multiples:
        value = math.prod(int(options[factor]) if isinstance(factor, str) else factor for factor in factors)
        if int(options[multiple]) % value:
            named = " × ".join(map(str, factors))
            numbers = " × ".join(str(options[factor] if isinstance(factor, str) else factor) for factor in factors)
            allowed = f"a multiple of {named}" + (f" = {numbers}" if numbers != named else "")
            raise UsageError(option=f"{head}:{multiple}", given=options[multiple], allowed=allowed)


def _guess(workload: str, name: str, text: str) -> OptionValue:
    """Return the value of a user's own option: on/off, a whole number of 64 bits, a number, else text."""
    if text in ("on", "off"):
        return text == "on"
    if re.fullmatch(r"[+-]?\d+", text):
        if len(text) > 40 or int(text) not in WHOLE:
            raise UsageError(option=f"{workload}:{name}", given=text, allowed="a whole number of at most 64 bits")
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.?\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        if not math.isfinite(value := float(text)):
            raise UsageError(option=f"{workload}:{name}", given=text, allowed="a number up to 1.8e308")
        return value
    return text


def _show(value: OptionValue) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
