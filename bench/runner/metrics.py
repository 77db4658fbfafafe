"""From the ranks' measurements to columns: pure functions of numbers. Ranks are reduced, never pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.messages.rank_record import MEMORY, Measurement, RankRecord
from bench.plan.description import Description
from bench.runner.communication import of_rank
from bench.runner.own_time import OwnTimes, critical_rank, own_time_ns, own_times
from bench.store.columns import Row

STEADY_WITHIN = 0.05
STEPS_SUM_WITHIN = 0.01
# time that the scheduler may take unnoticed between the end of the last step and that of the window
SLICE_NS = 10_000_000

Array = NDArray[np.float64]


def launch_metrics(
    ranks: Sequence[Measurement],
    requested_at_ns: int,
    tokens_per_sample: int | None,
    devices: int | None = None,
    own: OwnTimes | None = None,
    alike: int = 1,
) -> Row:
    """Return the METRICS and MEMORY columns of a launch, except those that need the peak rate of its device.

    ``devices`` is the number of devices if it is not one for each rank. ``own`` are the ranks' own times, if known.
    ``alike`` is the number of ranks that train the same samples, which count once.
    """
    devices = devices or len(ranks)
    steps = _steps_ms(ranks)
    slowest = steps.max(axis=0)
    window_s = max(m.window_ns for m in ranks) / 1e9
    samples = sum(m.samples for m in ranks) // alike
    samples_per_s = samples / window_s
    tokens_per_s = _tokens(ranks, samples, tokens_per_sample, window_s, alike)
    first, second = np.array_split(slowest, 2)
    drift = float(np.median(second) / np.median(first) - 1)
    critical = own.slowest if own else critical_rank(ranks)
    losses = _mean([m.losses for m in ranks])
    parts = part_means_ms(ranks[critical])
    return {
        "samples_per_s": samples_per_s,
        "samples_per_s_per_device": samples_per_s / devices,
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_device": None if tokens_per_s is None else tokens_per_s / devices,
        "samples": samples,
        "window_s": window_s,
        "window_steps": steps.shape[1],
        "warmup_steps_done": ranks[0].warmup_steps,
        "steps_per_epoch": ranks[0].steps_per_epoch,
        "step_ms": float(np.median(slowest)),
        "step_mean_ms": float(slowest.mean()),
        "step_p05_ms": float(np.percentile(slowest, 5)),
        "step_p95_ms": float(np.percentile(slowest, 95)),
        "step_cv": float(slowest.std(ddof=1) / slowest.mean()),
        "step_drift": drift,
        "steady": abs(drift) <= STEADY_WITHIN,
        "critical_rank": critical,
        **parts,
        "data_wait_share": _starved_ms(parts) / float(steps[critical].mean()),
        "startup_s": (max(m.first_step_at_ns for m in ranks) - requested_at_ns) / 1e9,
        "first_step_ms": max(m.first_step_ns for m in ranks) / 1e6,
        "compile_s": _largest([m.compile_ns and m.compile_ns / 1e9 for m in ranks]),
        "recompilations": _largest([m.recompilations for m in ranks]),
        "window_compilations": _largest([m.window_compilations for m in ranks]),
        "compile_cache_hits": _largest([m.compile_cache_hits for m in ranks]),
        "optimizer_steps_skipped": _largest([m.optimizer_steps_skipped for m in ranks]),
        "loss_first": None if losses is None else float(losses[0]),
        "loss_last": None if losses is None else float(losses[-1]),
        **{name: _largest([m.memory[name] for m in ranks]) for name in MEMORY},
    }


def _tokens(
    ranks: Sequence[Measurement], samples: int, tokens_per_sample: int | None, window_s: float, alike: int
) -> float | None:
    """Return tokens a second: as the workload counted them in each batch, else by the tokens of a sample."""
    counted = [m.tokens for m in ranks if m.tokens is not None]
    if counted:
        return sum(counted) / alike / window_s
    return None if tokens_per_sample is None else samples * tokens_per_sample / window_s


def efficiency(row: Row, description: Description | None, peak: tuple[float, str] | None) -> Row:
    """Return FLOPs, and with a known peak the model and hardware FLOPs utilisation (Chowdhery et al.

    2022, appendix B).

    An impossible utilisation is left empty, and ``flops_note`` says so.
    """
    flops = description.flops_per_sample if description else None
    hardware_flops = description.hardware_flops_per_sample if description else None
    rate = row["samples_per_s_per_device"]
    tflops = None if flops is None else rate * flops / 1e12
    hardware_tflops = None if hardware_flops is None else rate * hardware_flops / 1e12
    shares = {
        "mfu": tflops / peak[0] if tflops is not None and peak else None,
        "hfu": hardware_tflops / peak[0] if hardware_tflops is not None and peak else None,
    }
    impossible = [name for name, share in shares.items() if share is not None and not 0 < share <= 1]
    notes = [description.flops_note if description else None]
    if flops == 0:
        notes.append("no operation of the model has FLOPs")
    elif impossible:
        figures = ", ".join(f"{name} would be {shares[name]:.3f}" for name in impossible)
        notes.append(f"{figures}; check FLOPs and peak")
    return {
        "flops_per_sample": flops,
        "hardware_flops_per_sample": hardware_flops,
        "flops_convention": description.flops_convention if description else None,
        "flops_note": "; ".join(filter(None, notes)) or None,
        "tflops_per_device": tflops,
        "peak_tflops": peak and peak[0],
        "peak_source": peak and peak[1],
        **{name: None if "mfu" in impossible or name in impossible else share for name, share in shares.items()},
    }


def achieved(row: Row, peak: float | None, why: str = "") -> Row:
    """Return the share of the fastest matrix products that a launch reached, and its ``flops_note``.

    ``row`` has the columns of ``efficiency``, ``peak`` is the rate of those products in TFLOP/s; ``why`` says why it is
    None. An impossible share is left empty, and the note says so.
    """
    tflops, notes = row["tflops_per_device"], [row["flops_note"], why]
    share = tflops / peak if peak and tflops else None
    if share is not None and share > 1:
        notes.append(f"mfu_achievable would be {share:.3f}; check FLOPs, and measure the peak again")
        share = None
    return {
        "matmul_peak_tflops": peak,
        "mfu_achievable": share,
        "flops_note": "; ".join(filter(None, notes)) or None,
    }


def faults(ranks: Sequence[Measurement], rank_samples: int | None, real: bool = True) -> list[str]:
    """Return in words why a row is ``invalid``.

    A rank must train ``rank_samples`` samples in a step; None if the workload decides on their number. If the other
    ranks are not ``real``, losses mean nothing: before torch 2.14 a fake group leaves results of a reduce-scatter as
    they were in memory.
    """
    found = []
    not_finite = [
        (step, rank) for rank, m in enumerate(ranks) for step, loss in enumerate(m.losses) if not math.isfinite(loss)
    ]
    if not_finite and real:
        step, rank = min(not_finite)  # gradients bring it to the other ranks one step later
        found.append(f"the loss of rank {rank} is {ranks[rank].losses[step]} in step {step + 1}")
    for rank, m in enumerate(ranks):
        expected = m.samples if rank_samples is None else rank_samples * len(m.steps_ns)
        if m.samples != expected:
            found.append(f"rank {rank} trained {m.samples} samples where {len(m.steps_ns)} steps have {expected}")
        off_ns = sum(m.steps_ns) - m.window_ns
        if abs(off_ns) > max(STEPS_SUM_WITHIN * m.window_ns, SLICE_NS * max(len(m.bursts_ns), 1)) + m.waited_ns:
            found.append(f"the steps of rank {rank} differ from its window by {off_ns / m.window_ns:+.1%}")
    eager = [str(rank) for rank, m in enumerate(ranks) if m.compile_ns == 0]
    if eager:
        variables = "TORCHDYNAMO_DISABLE or TORCH_COMPILE_DISABLE"
        found.append(f"nothing was compiled in rank {', '.join(eager)}; see whether {variables} is set")
    return found


def step_rows(ranks: Sequence[Measurement]) -> list[Row]:
    """Return the STEPS columns, one row for each step."""
    steps, own = _steps_ms(ranks), own_time_ns(ranks)
    waits = np.array([m.data_wait_host_ns for m in ranks]) / 1e6
    losses = _mean([m.losses[m.warmup_steps :] for m in ranks])
    return [
        {
            "step": step,
            "step_ms": float(steps[:, step].max()),
            "step_min_ms": float(steps[:, step].min()),
            "data_wait_ms": float(waits[:, step].max()),
            "critical_rank": None if own is None else int(own[:, step].argmax()),
            "loss": None if losses is None else float(losses[step]),
        }
        for step in range(steps.shape[1])
    ]


def rank_rows(records: Mapping[int, RankRecord], exit_codes: Mapping[int, int]) -> list[Row]:
    """Return the RANKS columns, one row for each rank with a record."""
    own = own_times(records)
    return [
        {
            "rank": record.rank,
            "local_rank": record.local_rank,
            "host": record.host,
            "device_name": record.device,
            "device_uuids": ";".join(record.device_uuids),
            "pid": record.pid,
            "exit_code": exit_codes.get(record.rank) or None,
            "failure": record.failure.message if record.failure else None,
            **({"num_threads": record.state.num_threads} if record.state else {}),
            **(_rank_metrics(record.measurement) if record.measurement else {}),
            **(own.of_rank(record.rank) if own else {}),
            **of_rank(record.profile),
        }
        for _, record in sorted(records.items())
    ]


def ranks_by_device(records: Mapping[int, RankRecord]) -> dict[str, list[int]]:
    """Return the UUID of each GPU that ranks computed on, and their process ids."""
    pids: dict[str, list[int]] = {}
    for _, record in sorted(records.items()):
        for uuid in record.device_uuids:
            pids.setdefault(uuid, []).append(record.pid)
    return pids


def window_of(records: Mapping[int, RankRecord]) -> tuple[int, int]:
    """Return the wall-clock ns from the first rank's start of its window to the last one's end.

    In a duet this includes bursts of the other side.
    """
    measured = [record.measurement for record in records.values() if record.measurement]
    return min(m.window_at_ns for m in measured), max(_end_ns(m) for m in measured)


def bursts_ns(ranks: Sequence[Measurement]) -> list[int]:
    """Return the time of each burst of a duet's side on its slowest rank; empty for a launch alone."""
    return [max(burst) for burst in zip(*(m.bursts_ns for m in ranks), strict=True)]


def part_means_ms(m: Measurement) -> Row:
    """Return the mean milliseconds of each part of a step.

    The wait is the host's, the gap is that on an accelerator.
    """
    means = {f"{part}_ms": float(np.mean(ns)) / 1e6 for part, ns in m.parts_ns.items()}
    host_wait = float(np.mean(m.data_wait_host_ns)) / 1e6
    gap = means["data_wait_ms"] if m.memory["device_used_mib"] is not None else None
    return {**means, "data_wait_ms": host_wait, "device_gap_ms": gap}


def _starved_ms(parts: Row) -> float:
    """Return what a step lost to the wait for its batch.

    On an accelerator this is the gap there: the device may have had enough work while its host waited.
    """
    gap_ms: float | None = parts["device_gap_ms"]
    return float(parts["data_wait_ms"]) if gap_ms is None else gap_ms


def _end_ns(m: Measurement) -> int:
    return m.bursts_at_ns[-1] + m.bursts_ns[-1] if m.bursts_ns else m.window_at_ns + m.window_ns


def _rank_metrics(m: Measurement) -> Row:
    median = float(np.median(m.steps_ns)) / 1e6
    return {"window_s": m.window_ns / 1e9, "step_ms": median, **part_means_ms(m), **m.memory}


def _steps_ms(ranks: Sequence[Measurement]) -> Array:
    return np.array([m.steps_ns for m in ranks], dtype=np.float64) / 1e6


def _mean(losses: Sequence[Sequence[float]]) -> Array | None:
    """Return the mean over ranks of each step's loss; None if no rank tells, as those of a script."""
    known = [of_rank for of_rank in losses if of_rank]
    mean: Array | None = np.mean(known, axis=0) if known else None
    return mean


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
