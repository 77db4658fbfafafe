"""From the rows of a comparison to its gate: blocks, verdicts, memory, failures and differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.messages.spec import SIDES
from bench.stats.decision import Found, Stages, candidates, control, decide
from bench.stats.intervals import of_mean_log
from bench.stats.power import Blocks
from bench.stats.verdict import Control, Gate, Rules, Verdict
from bench.store.columns import DEVICE_MEMORY, HOST_MEMORY, RANK_MEMORY, LaunchRow
from bench.store.comms_rates import UNIT, is_comms
from bench.store.environment_diff import differences

OF_A_SIDE = 2  # launches in a block A B B A or B A A B
NO_FAILURE = ("ok", "interrupted")
LEAST_LAUNCHES = 3  # on each side: with 3, all of one side are above all of the other by chance once in twenty times
NOT_THERE = "the workload is not there"  # The reason of a side that lacks it begins with this.
OF_PROCESSES = tuple(name for name in DEVICE_MEMORY if name != "device_used_mib")


def gate(rows: Sequence[LaunchRow], rules: Rules, a: str, b: str, asked: Mapping[str, Blocks] | None = None) -> Gate:
    """Return the result of the launches of ``bench ab``.

    ``a`` and ``b`` name the sides; ``asked`` has the blocks that each pair was to have.
    """
    pairs = by_pair(rows)
    stages = {name: Stages(log_ratios(of, 1), log_ratios(of, 2)) for name, of in pairs.items()}
    edited = _edited({name: of for name, of in pairs.items() if not _failed(of)})
    sound = {name: case for name, case in stages.items() if not _failed(pairs[name]) and name not in edited}
    found = decide(sound, rules, asked) | edited
    checked = _control(rows, rules)
    if checked and checked.flagged:
        found = {name: flagged(one, checked) for name, one in found.items()}
    found |= _one_sided(pairs)
    alone = _sound_when_alone(rows)
    verdicts = tuple(
        _verdict(name, of, found.get(name) or _failure_result(of, name in alone), rules) for name, of in pairs.items()
    )
    ratio, low, high = geometric_mean(verdicts)
    return Gate(
        a=a,
        b=b,
        verdicts=verdicts,
        rules=rules,
        control=checked,
        differences=_differences(rows),
        failed=_has_failed(rows, alone),
        run_id=str(rows[0].run_id) if rows else "",
        ratio=ratio,
        low=low,
        high=high,
    )


def _edited(pairs: Mapping[str, Sequence[LaunchRow]]) -> dict[str, Found]:
    """Return the pairs whose code changed on a side while it was measured, as inconclusive."""
    found = {}
    for name, rows in pairs.items():
        for side in SIDES:
            own = [row for row in rows if row.side == side and has_rate(row)]
            if len({row.code_key for row in own}) > 1:
                files = next((row.code_changed for row in own if row.code_changed), "a file of the workload")
                found[name] = Found("inconclusive", f"{files} changed while {side} was measured; measure it again")
    return found


def _one_sided(pairs: Mapping[str, Sequence[LaunchRow]]) -> dict[str, Found]:
    """Return the pairs whose workload one side lacks: ``new``, ``missing``, or ``broken`` if it failed on B."""
    found = {}
    for name, rows in pairs.items():
        lacks = next((row for row in rows if _lacks(row)), None)
        if lacks is None:
            continue
        why = f"{lacks.side} lacks it{(lacks.reason or '').removeprefix(NOT_THERE)}"
        bad = failures(rows)
        said = f"{why}; {bad[0].side} {bad[0].status}: {bad[0].reason}" if bad else why
        found[name] = Found("missing" if lacks.side == "B" else "broken" if bad else "new", said)
    return found


def _lacks(row: LaunchRow) -> bool:
    """Return whether a row says that its side has no such workload."""
    return row.status == "skipped" and (row.reason or "").startswith(NOT_THERE)


def for_second_stage(rows: Sequence[LaunchRow]) -> list[str]:
    """Return the pairs to launch again: candidates without a failed launch."""
    pairs = {name: of for name, of in by_pair(rows).items() if not _failed(of)}
    return candidates({name: log_ratios(of, 1) for name, of in pairs.items()})


def by_pair(rows: Iterable[LaunchRow], role: str = "measure") -> dict[str, list[LaunchRow]]:
    """Return the launches of each pair, in their order."""
    found: dict[str, list[LaunchRow]] = defaultdict(list)
    for row in rows:
        if row.pair and row.side in SIDES and row.role == role:
            found[str(row.pair)].append(row)
    return dict(found)


def log_ratios(rows: Iterable[LaunchRow], stage: int) -> list[float]:
    """Return the log ratio of throughput, B over A, of each complete block of a stage.

    It is that of the means of both sides' logs, or the one that a duet recorded. A block with a failed launch has none,
    nor has one that was stopped half way: its ratio would include the machine's drift.
    """
    blocks: dict[int | None, list[LaunchRow]] = defaultdict(list)
    for row in rows:
        if row.stage == stage:
            blocks[row.block].append(row)
    found = [_log_ratio(of) for of in blocks.values()]
    return [ratio for ratio in found if ratio is not None]


def _log_ratio(block: Sequence[LaunchRow]) -> float | None:
    if not all(map(has_rate, block)):
        return None
    sides = {side: [row for row in block if row.side == side] for side in SIDES}
    told = [row.duet_ratio for row in sides["B"] if row.duet_ratio and row.duet_ratio > 0]
    if told and sides["A"]:
        return fmean(map(math.log, told))
    if any(len(of) != OF_A_SIDE for of in sides.values()):
        return None
    a, b = (fmean(map(log_rate, sides[side])) for side in SIDES)
    return b - a


def has_rate(row: LaunchRow) -> bool:
    """Return whether a launch was ok and has a finite throughput."""
    return row.status == "ok" and 0 < (row.samples_per_s or 0) < math.inf


def log_rate(row: LaunchRow) -> float:
    """Return the log of the throughput of a launch that ``has_rate``."""
    return math.log(rate(row))


def rate(row: LaunchRow) -> float:
    """Return the throughput of a launch that ``has_rate``, in samples/s."""
    assert row.samples_per_s is not None
    return row.samples_per_s


def _failed(rows: Iterable[LaunchRow]) -> str | None:
    """Return which side has a launch that failed or could not run: A, B, both or none.

    A stopped launch has not failed.
    """
    sides = {str(row.side) for row in rows if row.status not in NO_FAILURE}
    return "both" if len(sides) == 2 else next(iter(sides), None)


def failures(rows: Iterable[LaunchRow]) -> list[LaunchRow]:
    """Return the launches that failed, without those that were stopped or cannot run here."""
    return [row for row in rows if row.status not in (*NO_FAILURE, "skipped")]


def _has_failed(rows: Iterable[LaunchRow], alone: Set[str]) -> bool:
    """Return whether a launch of A or of the control pair failed, or nothing could run.

    Failures of B are in the verdicts.
    """
    counts = [row for row in rows if row.role in ("measure", "control")]
    failed = any(row.side == "A" or row.role == "control" or row.pair in alone for row in failures(counts))
    broken = any(one.verdict == "broken" for one in _one_sided(by_pair(counts)).values())
    return failed or not (broken or any(map(has_rate, counts)))


def flagged(found: Found, checked: Control) -> Found:
    """Make a verdict inconclusive because the control was flagged."""
    reason = f"the control pair {checked.why}; {found.reason}"
    return Found(**{**vars(found), "verdict": "inconclusive", "reason": reason})


def _sound_when_alone(rows: Iterable[LaunchRow]) -> set[str]:
    """Return the pairs whose B failed in a duet, but not in a launch of its own afterwards."""
    probes = by_pair(rows, "probe").items()
    return {name for name, of in probes if any(row.block is not None and row.status == "ok" for row in of)}


def _control(rows: Sequence[LaunchRow], rules: Rules) -> Control | None:
    """Return the control of the case with most blocks: if a control failed, that of another case replaced it."""
    pairs = {name: [*log_ratios(of, 1), *log_ratios(of, 2)] for name, of in by_pair(rows, "control").items()}
    name = max(pairs, key=lambda name: len(pairs[name]), default=None)
    return None if name is None else control(name, pairs[name], rules)


def _verdict(name: str, rows: Sequence[LaunchRow], found: Found, rules: Rules) -> Verdict:
    sides = {side: [row for row in rows if row.side == side] for side in SIDES}
    good = {side: list(filter(has_rate, of)) for side, of in sides.items()}
    last = max(row.stage or 1 for row in rows)  # the stage that decides
    deciding = {side: [row for row in of if (row.stage or 1) == last] for side, of in good.items()}
    alone = any(map(_lacks, rows))
    how = "" if alone else "duet" if any(row.duet_ratio for row in sides["B"]) else "blocks"
    taken = _own_memory(good) if alone else memory(good["A"], good["B"], rules)
    case = CaseRows(sides["A"], sides["B"], deciding["A"], deciding["B"])
    return case.verdict(name, how, found, taken, sum(map(len, deciding.values())))


@dataclass(frozen=True)
class CaseRows:
    """The launches of one case on both sides, ``a`` and ``b``, and those with a throughput that decide on it."""

    a: Sequence[LaunchRow]
    b: Sequence[LaunchRow]
    good_a: Sequence[LaunchRow]
    good_b: Sequence[LaunchRow]

    def verdict(self, name: str, how: str, found: Found, memory: Mapping[str, Any], launches: int) -> Verdict:
        """Return the verdict: ``found`` for throughput, ``memory`` for memory, based on so many launches."""
        first = (self.b or self.a)[0]
        return Verdict(
            case=name,
            case_a=self._case_id(self.a),
            case_b=self._case_id(self.b),
            workload=str(first.workload),
            unit=UNIT if is_comms(first) else "samples/s",
            command=first.command,
            how=how,
            launches=launches,
            samples_per_s_a=self._median(self.good_a),
            samples_per_s_b=self._median(self.good_b),
            seconds=sum(row.launch_s or 0.0 for row in (*self.a, *self.b)),
            **vars(found),
            **memory,
        )

    @staticmethod
    def _case_id(rows: Sequence[LaunchRow]) -> str | None:
        return next((row.case_id for row in rows if row.case_id), None)

    @staticmethod
    def _median(rows: Sequence[LaunchRow]) -> float | None:
        return median(map(rate, rows)) if rows else None


def _failure_result(rows: Sequence[LaunchRow], alone: bool) -> Found:
    """Return the result if a launch failed.

    A failure of B only means broken, unless B is sound when A is not beside it.
    """
    failed, bad = _failed(rows), [row for row in rows if row.status not in NO_FAILURE]
    said = f"{bad[0].side} {bad[0].status}: {bad[0].reason}"
    if alone:
        return Found("inconclusive", f"only beside A, and not alone, {said}; leave --duet out")
    return Found("broken" if failed == "B" else "inconclusive", said if failed != "both" else f"both failed; {said}")


def memory(a: Sequence[LaunchRow], b: Sequence[LaunchRow], rules: Rules) -> dict[str, Any]:
    """Return the ``memory`` columns of a verdict.

    They are medians of the first measure that every launch has, and their comparison.

    Memory hardly varies between launches, so that no test is needed: a change is one beyond the floor with
    LEAST_LAUNCHES or more on each side, if all launches of one side are above all of the other. With fewer launches
    there is no result.
    """
    measure = _measure((*a, *b)) if a and b else None
    if measure is None:
        return {}
    in_a, in_b = ([float(getattr(row, measure)) for row in side] for side in (a, b))
    ratio = median(in_b) / median(in_a)
    more, less = ratio > 1 + rules.floor_memory, ratio < 1 - rules.floor_memory
    said = "more" if more and min(in_b) > max(in_a) else "less" if less and max(in_b) < min(in_a) else "same"
    known = said == "same" or min(len(a), len(b)) >= LEAST_LAUNCHES
    medians = {"memory_mib_a": median(in_a), "memory_mib_b": median(in_b)}
    return {"memory": said if known else None, "memory_measure": measure, "memory_ratio": ratio, **medians}


def _own_memory(good: Mapping[str, Sequence[LaunchRow]]) -> dict[str, Any]:
    """Return the memory columns of a verdict on a case that only one side has."""
    side, rows = next(((side, rows) for side, rows in good.items() if rows), ("", ()))
    measure = _measure(rows) if rows else None
    if measure is None:
        return {}
    own = median(float(getattr(row, measure)) for row in rows)
    return {"memory_measure": measure, f"memory_mib_{side.lower()}": own}


def _measure(rows: Sequence[LaunchRow]) -> str | None:
    """Return the measure by which the launches' memory can be compared; None without one that all have.

    Launches on different kinds of devices have none. Use of a whole device counts only if no other process was on it,
    such as the other side of a duet. Host memory includes DataLoader workers if there are any.
    """
    kinds = {row.device for row in rows}
    if len(kinds) != 1:
        return None
    alone = all(row.foreign_processes is False and not row.bursts for row in rows)
    on_host = bool(kinds & {"cpu", None})
    if on_host and len({row.launcher for row in rows}) > 1:
        return None  # forked ranks share pages with their server, and those of torchrun hold all of torch themselves
    of_host = HOST_MEMORY if any(row.num_workers for row in rows) else RANK_MEMORY
    names = of_host if on_host else DEVICE_MEMORY if alone else OF_PROCESSES
    return next((name for name in names if all(getattr(row, name) for row in rows)), None)


def geometric_mean(verdicts: Iterable[Verdict]) -> tuple[float | None, float | None, float | None]:
    """Return the geometric mean of the cases' ratios with 95 % bounds by t on their logs; None if there is no ratio."""
    logs = [math.log(one.ratio) for one in verdicts if one.ratio]
    if not logs:
        return None, None, None
    low, high = of_mean_log(logs)
    return (math.exp(fmean(logs)), low, high) if len(logs) > 1 else (math.exp(fmean(logs)), None, None)


def _differences(rows: Sequence[LaunchRow]) -> tuple[str, ...]:
    """Return the differences between the environments of both sides."""
    alone = {row.pair for row in rows if _lacks(row)}
    both = [row for row in rows if row.role == "measure" and row.pair not in alone]
    a, b = ([row for row in both if row.side == side] for side in SIDES)
    return tuple(difference.words() for difference in differences(a, b)) if a and b else ()
