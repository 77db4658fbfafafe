"""The ordinary steps of a script: those that only train, on every rank. Pure functions of its ranks' records."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.messages.rank_record import Measurement, RankRecord, ScriptRecord
from bench.plan.description import Description
from bench.runner.metrics import efficiency, launch_metrics
from bench.store.columns import Row

LEAST = 2  # ordinary steps: fewer have no spread
MOST_APART = 0.5  # share of a window's steps that may be set apart
CONVENTION = "2 a multiply-add, attention in full; one step in warm-up, operation by operation"


class ScriptSteps(NamedTuple):
    """The steps of a launch: the measurements of its ordinary ones, columns, faults, and marks of a valid row.

    ``apart`` says for each step of the window why it does not count; an empty text for an ordinary one.
    """

    ranks: list[Measurement]
    apart: list[str]
    columns: Row
    faults: list[str]
    marks: list[str]


def script_steps(
    records: Mapping[int, RankRecord], samples_per_step: int | None, batch_size: int | None = None
) -> ScriptSteps:
    """Return the steps of a launch whose ranks have all measured.

    ``samples_per_step``: of all ranks, where their loaders do not tell. ``batch_size``: that the script was given.
    """
    ordered = [record for _, record in sorted(records.items())]
    ranks = [record.measurement for record in ordered if record.measurement]
    scripts = [record.script for record in ordered if record.script]
    apart = united([script.apart for script in scripts])
    kept = [step for step, reason in enumerate(apart) if not reason]
    samples = _samples(scripts, kept, samples_per_step)
    return ScriptSteps(
        [_only(rank, kept, sum(each)) for rank, each in zip(ranks, samples or [[0]] * len(ranks), strict=True)],
        apart,
        _columns(ranks, scripts, apart, samples),
        _faults(apart, samples),
        _marks(batch_size, scripts, samples, samples_per_step),
    )


def united(apart: Sequence[Sequence[str]]) -> list[str]:
    """Return why each step is set apart on any rank: a save of rank 0 lets the others wait."""
    return [
        ", ".join(dict.fromkeys(r for one in step for r in one.split(", ") if r)) for step in zip(*apart, strict=True)
    ]


def metrics(
    steps: ScriptSteps,
    scripts: Sequence[ScriptRecord],
    requested_at_ns: int,
    devices: int,
    peak: tuple[float, str] | None,
) -> Row:
    """Return the columns of a launch's ordinary steps; figures of samples only if their number is known.

    ``devices``: number of devices of all ranks. ``peak``: peak rate of one in TFLOP/s, and its source.
    """
    row: Row = dict(steps.columns)
    if len(steps.ranks[0].steps_ns) < LEAST:
        return row
    row |= launch_metrics(steps.ranks, requested_at_ns, None, devices)
    if row["global_batch"] is None:
        return row | dict.fromkeys(("samples", "samples_per_s", "samples_per_s_per_device"))
    return row | efficiency(row, description(steps, scripts), peak)


def verdict(faults: Sequence[str]) -> Row:
    """Return the status of a measured launch, and its reason."""
    return {"status": "invalid", "reason": "; ".join(faults)} if faults else {"status": "ok", "reason": None}


def description(steps: ScriptSteps, scripts: Sequence[ScriptRecord]) -> Description:
    """Return the FLOPs of the script's step, if they were counted."""
    flops = [script.flops for script in scripts if script.flops]
    a_step, unknown = steps.columns["global_batch"], [name for one in flops for name in one.unknown]
    counted = sum(one.flops for one in flops) / a_step if flops and a_step and not unknown else None
    recomputes = any("checkpointing" in script.seen for script in scripts)
    note = "not counted: --count-flops on counts them"
    if flops:
        note = f"unknown operations: {', '.join(dict.fromkeys(unknown))}" if unknown else ""
        note = note or ("of checkpointing only the sum is known: mfu stays empty" if recomputes else "")
    return Description(
        unit="samples",
        batch_size=1,
        data=(),
        tokens_per_sample=None,
        parameters=None,
        layers=None,
        flops_per_sample=None if recomputes else counted,
        hardware_flops_per_sample=counted,
        flops_convention=CONVENTION if counted else None,
        flops_note=note or None,
    )


def _samples(scripts: Sequence[ScriptRecord], kept: Sequence[int], a_step: int | None) -> list[list[int]] | None:
    """Return the samples of each rank in each ordinary step; None if they are unknown."""
    if a_step:
        return [[a_step] * len(kept), *([0] * len(kept) for _ in scripts[1:])]
    known = [script.samples for script in scripts if script.samples is not None]
    if len(known) < len(scripts) or not any(map(any, known)):
        return None
    return [[each[step] for step in kept] for each in known]


def _only(rank: Measurement, kept: Sequence[int], samples: int) -> Measurement:
    """Return the measurement of some steps."""
    steps_ns = [rank.steps_ns[step] for step in kept]
    return dataclasses.replace(
        rank,
        window_ns=sum(steps_ns),
        steps_ns=steps_ns,
        parts_ns={part: [ns[step] for step in kept] for part, ns in rank.parts_ns.items()},
        data_wait_host_ns=[rank.data_wait_host_ns[step] for step in kept],
        samples=samples,
    )


def _columns(
    ranks: Sequence[Measurement],
    scripts: Sequence[ScriptRecord],
    apart: Sequence[str],
    samples: Sequence[Sequence[int]] | None,
) -> Row:
    whole = [max(rank.steps_ns[step] for rank in ranks) for step in range(len(apart))]
    reasons = Counter(reason for one in apart for reason in one.split(", ") if reason)
    a_step = None if samples is None or not samples[0] else round(float(np.median(np.sum(samples, axis=0))))
    return {
        "script_step": scripts[0].step,
        "script_seen": "; ".join(scripts[0].seen) or None,
        "apart_steps": sum(map(bool, apart)),
        "apart_s": sum(ns for ns, reason in zip(whole, apart, strict=True) if reason) / 1e9,
        "apart_why": ", ".join(f"{reason} {number}" for reason, number in reasons.items()) or None,
        "global_batch": a_step,
        "parameters": scripts[0].parameters,
    }


def _faults(apart: Sequence[str], samples: Sequence[Sequence[int]] | None) -> list[str]:
    found, number = [], sum(map(bool, apart))
    if number > MOST_APART * len(apart) or len(apart) - number < LEAST:
        found.append(
            f"{number} of {len(apart)} steps held validation, saves or a new epoch; raise the script's intervals"
        )
    if samples is None:
        found.append("samples unknown: no DataLoader; give --samples-per-step")
    return found


def _marks(
    batch_size: int | None, scripts: Sequence[ScriptRecord], samples: Sequence[Sequence[int]] | None, a_step: int | None
) -> list[str]:
    """Return what did not happen as the options or the script itself say."""
    found = []
    if batch_size and not a_step and samples:
        [(usual, _)] = Counter(number for each in samples for number in each if number).most_common(1)
        if usual % batch_size:
            found.append(f"batch size: a rank reads {usual} samples in a step, no multiple of {batch_size}")
    if ignored := dict.fromkeys(one for script in scripts for one in script.ignored):
        found.append(
            f"the script sets {', '.join(ignored)} before it imports torch, which the launch server has imported "
            "already: it has no effect; use --launcher torchrun, or --env"
        )
    return found + list(dict.fromkeys(f"the script's {late}" for script in scripts for late in script.late))
