"""Reads and writes ``bench.lock``: TOML, sorted, with the counts of each case and no times."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import tomli_w

from bench.errors import IncomparableError, UsageError
from bench.plan.options import AXES, FAKE_RANKS
from bench.untrusted.files import read_bytes
from bench.untrusted.text import printable

FORMAT = 1  # Of the file.
COUNTING = 1  # Of the counts: what a step is, and how each operation is counted.
# Kinds of counts by which a tolerance is given, with the groups of counts that belong to each.
TOLERANCES = {
    "operations": ("operations", "waits", "syncs", "kernels", "copies", "compile", "uncounted"),
    "collectives": ("collectives", "collective_bytes"),
    "bytes": ("bytes", "copied_bytes"),
    "memory": ("memory", "activations"),
    "flops": ("flops",),
}
PARTS = ("between", "forward", "backward", "optimizer", "step")
KNOWN = {**AXES, FAKE_RANKS.name: FAKE_RANKS}  # Keys of the table ``axes``.
FAKE_RANKS_REPLACE = ("gpus", "device")
NEEDED = ("workload", "gpus", "device")  # Axes of every case, but for those.
HEAD = """\
# The work of one training step of each case, counted: no times. Commit this file.
# bench lock --check compares the present code with it, bench lock --update writes it anew.
# A tolerance is the share by which a count of its kind may grow, 0 for none.
"""

Path = tuple[str, str, str]  # (part of the step, group, name) of a count.
Range = tuple[int, int]  # The least and the largest number in several launches.
Counted = dict[Path, int]


@dataclass(frozen=True)
class LockedCase:
    """The axes of a case, which make it again, and its counts."""

    axes: Mapping[str, object]
    counts: Mapping[Path, Range]


@dataclass(frozen=True)
class Lock:
    """The content of a lock. ``tolerance`` has a share for each of TOLERANCES; it may grow by so much."""

    torch: str
    cases: Mapping[str, LockedCase] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TOLERANCES, 0.0))
    counting: int = COUNTING

    def text(self) -> str:
        """Return the file's text."""
        cases = {case_id: _table(case) for case_id, case in sorted(self.cases.items())}
        head = {"format": FORMAT, "counting": self.counting, "torch": self.torch, "tolerance": dict(self.tolerance)}
        return HEAD + "\n" + tomli_w.dumps({**head, "cases": cases})


def read(file: File) -> Lock:
    """Return the lock in a file.

    Raise IncomparableError if there is none or a newer version wrote it, UsageError if it is not valid, with the line.
    """
    if not file.exists():
        hint = f"Write it first: bench lock --workload NAME --strategy ddp --file {file}"
        raise IncomparableError(f"there is no lock {file}", option="--file", given=str(file), hint=hint)
    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not a text in UTF-8", option=str(file), hint=_AGAIN) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {printable(str(error))}", option=str(file), hint=_AGAIN) from None
    return _Reader(file, text).lock(values)


_AGAIN = "Correct the line, or write the lock anew with bench lock --update."


def _table(case: LockedCase) -> dict[str, Any]:
    table: dict[str, Any] = {"axes": dict(case.axes)}
    for (part, group, name), (least, most) in sorted(case.counts.items(), key=lambda item: _order(item[0])):
        table.setdefault(part, {}).setdefault(group, {})[name] = least if least == most else [least, most]
    return table


def _order(path: Path) -> tuple[int, str, str]:
    return PARTS.index(path[0]), path[1], path[2]


@dataclass(frozen=True)
class _Reader:
    """Checks what is read, and says in which line something is wrong."""

    file: File
    text: str

    def lock(self, values: Mapping[str, Any]) -> Lock:
        version = values.get("format")
        if not isinstance(version, int) or isinstance(version, bool):
            raise self._wrong("format", version, f"{FORMAT}, the number of the file's format")
        if version > FORMAT:
            raise IncomparableError(
                f"{self.file} was written by a newer stepbench (format {version}, this one reads {FORMAT})",
                option=str(self.file),
                given=version,
                hint="Install that version, or write the lock anew with bench lock --update.",
            )
        for name in values:
            if name not in ("format", "counting", "torch", "tolerance", "cases"):
                raise self._wrong(name, values[name], "format, counting, torch, tolerance and cases at the top")
        counting, torch = values.get("counting"), values.get("torch")
        if not isinstance(counting, int):
            raise self._wrong("counting", counting, "a whole number")
        if not isinstance(torch, str):
            raise self._wrong("torch", torch, "the version of torch, a text")
        cases = self._mapping("cases", values.get("cases", {}))
        return Lock(
            torch=torch,
            counting=counting,
            tolerance=self._tolerance(values.get("tolerance", {})),
            cases={case_id: self._case(case_id, self._mapping(case_id, case)) for case_id, case in cases.items()},
        )

    def _tolerance(self, given: Any) -> dict[str, float]:
        found = dict.fromkeys(TOLERANCES, 0.0)
        for name, share in self._mapping("tolerance", given).items():
            if name not in TOLERANCES:
                raise self._wrong(name, share, f"a tolerance of {', '.join(TOLERANCES)}")
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 10:
                raise self._wrong(name, share, "a share from 0 to 10, such as 0.02")
            found[name] = float(share)
        return found

    def _case(self, case_id: str, table: Mapping[str, Any]) -> LockedCase:
        axes = self._axes(case_id, self._mapping("axes", table.get("axes"), case_id))
        counts: dict[Path, Range] = {}
        for part, groups in table.items():
            if part == "axes":
                continue
            if part not in PARTS:
                raise self._wrong(part, groups, f"a part of a step: {', '.join(PARTS)}", case_id)
            for group, numbers in self._mapping(part, groups, case_id).items():
                for name, number in self._mapping(group, numbers, case_id).items():
                    counts[part, group, name] = self._range(name, number, case_id)
        return LockedCase(axes, counts)

    def _axes(self, case_id: str, axes: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, value in axes.items():
            if name not in KNOWN:
                raise self._wrong(name, value, f"an axis: {', '.join(KNOWN)}", case_id)
            if not isinstance(value, (str, int, float)):
                raise self._wrong(name, value, KNOWN[name].allowed, case_id)
            try:
                KNOWN[name].read(value, name)
            except UsageError:
                raise self._wrong(name, value, KNOWN[name].allowed, case_id) from None
        fake = FAKE_RANKS.name in axes
        for name in NEEDED:
            if (name in axes) == (fake and name in FAKE_RANKS_REPLACE):
                allowed = f"a table with {name}" if not fake else f"a table without {name}, as it has {FAKE_RANKS.name}"
                raise self._wrong("axes", dict(axes), allowed, case_id)
        number = FAKE_RANKS.name if fake else "gpus"
        if type(axes[number]) is not int:
            raise self._wrong(number, axes[number], FAKE_RANKS.allowed if fake else "a whole number from 1", case_id)
        return axes

    def _range(self, name: str, number: Any, case_id: str) -> Range:
        both = number if isinstance(number, list) else [number, number]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**63 for one in both)
        if len(both) != 2 or not whole or both[0] > both[1]:
            raise self._wrong(name, number, "a whole number from 0, or [least, most]", case_id)
        return both[0], both[1]

    def _mapping(self, name: str, given: Any, case_id: str = "") -> Mapping[str, Any]:
        if not isinstance(given, dict):
            raise self._wrong(name, given, "a table", case_id)
        return given

    def _wrong(self, name: str, given: object, allowed: str, case_id: str = "") -> UsageError:
        where = f"{self.file}, line {self._line(name, case_id)}: {printable(name)}"
        return UsageError(option=where, given=given, allowed=allowed, hint=_AGAIN)

    def _line(self, name: str, case_id: str) -> int:
        """Return the number of the first line that has a name, in the tables of a case if one is given."""
        lines = self.text.splitlines()
        start = next((at for at, line in enumerate(lines) if line.startswith("[cases.") and case_id in line), 0)
        return next((at + 1 for at in range(start if case_id else 0, len(lines)) if name in lines[at]), start + 1)
