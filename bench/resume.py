"""What a run that is taken up again still has to do, and whether it may."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.differences import between
from bench.environment import ENV_KEY_COLUMNS
from bench.errors import ResultsError
from bench.record import Row

# --retry NAME -> the statuses that are launched again
RETRY = {
    "failed": ("crashed", "invalid"),
    "oom": ("oom",),
    "timeout": ("timeout",),
    "all": ("crashed", "invalid", "oom", "timeout", "skipped"),
}
OUT_OF_MEMORY = "it ran out of memory in an earlier launch"
TOLD_BY_RANKS = ("device_name", "cuda", "cudnn", "nccl")

Key = tuple[str, int | None]


@dataclass(frozen=True)
class Earlier:
    """A run so far: its folder, its ``plan.json``, which statuses are launched again, whether it may have changed."""

    folder: Path
    plan: Mapping[str, Any]
    retry: frozenset[str] = frozenset()
    anyway: bool = False
    rows: tuple[Row, ...] = ()

    @property
    def session(self) -> int:
        """The number of the session that goes on now."""
        return max((row["session"] or 0 for row in self.rows), default=0) + 1

    def done(self) -> dict[Key, Row]:
        """The rows that stand: (case_id, block) -> row."""
        return {key: row for key, row in latest(self.rows).items() if not self._again(row)}

    def _again(self, row: Row) -> bool:
        if row["status"] == "skipped" and row["reason"] == OUT_OF_MEMORY:
            return "oom" in self.retry
        return row["status"] == "interrupted" or row["status"] in self.retry


def earlier_run(folder: Path, retry: frozenset[str], anyway: bool) -> Earlier:
    """The run in ``folder``, its rows not yet read; ResultsError if it left no plan that can be read."""
    file = folder / "plan.json"
    try:
        plan = json.loads(file.read_text())
        plan["asked"], plan["facts"], plan["protocol"], plan["cases"]
    except OSError as error:
        raise ResultsError(f"cannot resume {folder.name}: {file}: {error.strerror}; start a new run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"cannot resume {folder.name}: {file} is damaged or too old ({error}); start a new run"
        ) from None
    return Earlier(folder, plan, retry, anyway)


def statuses(retry: Iterable[str]) -> frozenset[str]:
    """The statuses that the words of ``--retry`` stand for."""
    return frozenset(status for word in retry for status in RETRY[word])


def latest(rows: Iterable[Row]) -> dict[Key, Row]:
    """The row of each (case_id, block) that counts: the last one, as a launch may have been repeated."""
    return {(row["case_id"], row["block"]): row for row in rows if row["role"] == "measure"}


def changed_plan(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two ``plan.json``, in words."""
    said = [
        f"{name}: {old['protocol'].get(name)} when it began, {value} now"
        for name, value in new["protocol"].items()
        if old["protocol"].get(name) != value
    ]
    before, now = ([case["case_id"] for case in plan["cases"]] for plan in (old, new))
    return [*said, *_listed("cases no longer asked for", before, now), *_listed("new cases", now, before)]


def changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs in tool, machine and software, as far as it can be known before a rank runs."""
    columns = ["tool_version", "tool_commit", *(c for c in ENV_KEY_COLUMNS if c not in TOLD_BY_RANKS), "settings"]
    return [d.words("when it began", "now") for d in between(old, new, columns)]


def changed_rows(rows: Iterable[Row], row: Row) -> list[str]:
    """How the first launch of a resumed run differs from earlier ones, in what only ranks can tell."""
    alike = [r for r in rows if r["env_key"] and r["device"] == row["device"]]
    same = [r for r in alike if r["case_id"] == row["case_id"]]
    if not alike or not row.get("env_key"):
        return []
    columns = [*ENV_KEY_COLUMNS, *(["settings"] if same else [])]
    return [d.words("when it began", "now") for d in between((same or alike)[0], row, columns)]


def _listed(what: str, some: Collection[str], others: Collection[str]) -> list[str]:
    missing = [name for name in some if name not in others]
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return [f"{what}: {', '.join(missing[:3])}{more}"] if missing else []
