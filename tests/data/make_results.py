"""Makes the runs in this folder: made up, not measured, so that reports have all that they must show.

    python tests/data/make_results.py

A run of 8 GPUs of the present schema, whose last line is torn, and one of the same machine as version 2 wrote it.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.plan.case import Case
from bench.plan.options import SETTINGS
from bench.plan.plan import Protocol, command
from bench.store.cells import cell
from bench.store.columns import FILES
from bench.store.env_key import env_key

HERE = Path(__file__).parent
NEW, OLD = "20261102-090000-5e1f", "20260904-141500-07b2"
TORN = 57  # characters that are left of the last row
STEPS, LAUNCHES = 20, 3
# What later versions added to launches.csv, and version 2 does not have.
SINCE_2 = (
    *("attempts", "first_attempt", "session", "resumed_despite", "hang_timeout", "batch_search", "machine_warnings"),
    *("order_seed", "budget", "launch_s"),
)
MACHINE = {
    "hostname": "gpu-07",
    "device_name": "Example GPU 80GB",
    "cpu_model": "Example CPU 9554",
    "cpu_cores": 64,
    "cpu_threads": 128,
    "ram_gib": 1007.4,
    "os": "Linux-6.8.0-x86_64-with-glibc2.39",
    "python": "3.12.3",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "cuda": "12.9",
    "cudnn": "91002",
    "nccl": "2.27.5",
    "driver": "575.51.03",
    "backend": "nccl",
    "tool_version": "0.1.0",
    "settings": json.dumps({"NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "1"}),
}
GPT = Case(
    workload="gpt-124m",
    strategy="ddp",
    gpus=8,
    device="cuda",
    precision="amp-bf16",
    activation_checkpointing="none",
    batch_size=8,
    data="resident",
    num_workers=None,
    pin_memory=None,
    prefetch_factor=None,
    persistent_workers=None,
    omp_num_threads=1,
    seed=0,
)
IMAGES = dataclasses.replace(
    GPT,
    **{"workload": "resnet50", "batch_size": 64, "data": "folder=/data/photographs", "num_workers": 2},
    **{"pin_memory": True, "prefetch_factor": 2, "persistent_workers": True},
)


@dataclasses.dataclass(frozen=True)
class Made:
    """A case, its samples/s in an undisturbed launch, MiB of the largest rank, or else what became of it."""

    case: Case
    samples_per_s: float | None = None
    memory_mib: float = 0.0
    wait_share: float = 0.002
    status: str = "ok"
    reason: str | None = None
    failed: tuple[int, ...] = tuple(range(LAUNCHES))  # the launches that end so


def main() -> None:
    draw = random.Random(20261102)
    names = list(FILES["launches.csv"])
    _write(NEW, _launches(NEW, list(_new()), draw, 4), names, draw, torn=True)
    old = {"torch": "2.9.1", "torchvision": "0.24.1", "nccl": "2.27.3", "driver": "570.86.15"}
    before = [name for name in names if name not in SINCE_2]
    _write(OLD, _launches(OLD, list(_old()), draw, 2, old), before, draw)


def _new() -> Iterator[Made]:
    rate = {"fp32": 61.0, "amp-bf16": 142.0}
    memory = {"single": 15_900.0, "ddp": 16_420.0, "fsdp": 13_100.0}
    lost = {"single": 0.0, "ddp": 0.021, "fsdp": 0.055}  # of the rate, each time the GPUs double
    for precision, one in rate.items():
        for strategy, gpus in [("single", 1)] + [(s, n) for s in ("ddp", "fsdp") for n in (1, 2, 4, 8)]:
            case = dataclasses.replace(GPT, strategy=strategy, gpus=gpus, precision=precision)
            doublings = math.log2(gpus)
            sharded = 1 if strategy != "fsdp" else 0.55 + 0.45 / gpus
            yield Made(case, one * gpus * (1 - lost[strategy]) ** (doublings + (strategy != "single")),
                       memory[strategy] * sharded * (1 if precision == "fp32" else 0.78))  # fmt: skip
    for gpus, share in ((2, 1.046), (4, 0.93), (8, 0.81)):  # strong: the global batch stays 8
        case = dataclasses.replace(GPT, gpus=gpus, batch_size=8 // gpus)
        yield Made(case, rate["amp-bf16"] * gpus * share * 0.979, 9_000.0 + 7_420 / gpus)
    large = {"none": (49.0, 71_800.0), "selective": (46.2, 48_300.0), "full": (38.4, 30_200.0)}
    for strategy in ("ddp", "fsdp"):
        for checkpointing, (one, mib) in large.items():
            case = dataclasses.replace(
                GPT, workload="gpt-350m", strategy=strategy, activation_checkpointing=checkpointing, batch_size=16
            )
            if (strategy, checkpointing) == ("ddp", "none"):
                reason = "rank 3 on gpu-07: step 2: CUDA out of memory. Tried to allocate 1.91 GiB (peak 78.6 GiB)"
                yield Made(case, status="oom", reason=reason, failed=(0,))
            else:
                yield Made(
                    case, one * 8 * (0.94 if strategy == "ddp" else 0.9), mib * (1 if strategy == "ddp" else 0.84)
                )
    for omp in (1, 2, 4):
        for workers in (0, 2, 4, 8):
            starved = {0: 0.31, 2: 0.62, 4: 0.93, 8: 1.0}[workers] * {1: 1.0, 2: 1.02, 4: 0.97}[omp]
            wait = max(0.004, 1 - starved)
            idle: dict[str, Any] = {"prefetch_factor": None, "persistent_workers": None} if workers == 0 else {}
            case = dataclasses.replace(IMAGES, num_workers=workers, omp_num_threads=omp, **idle)
            if (omp, workers) == (4, 8):
                reason = "rank 5 on gpu-07: DataLoader worker (pid 41877) was killed by signal 9 (SIGKILL)"
                yield Made(case, 9_850 * starved, 21_300.0, wait, "crashed", reason, failed=(1,))
            else:
                yield Made(case, 9_850 * starved, 21_300.0, wait)
    hung = dataclasses.replace(GPT, strategy="ddp:hook=fp16")
    yield Made(
        hung, status="timeout", reason="no step for 60 s: the others wait for rank 6, in all_reduce (hooks.py:88)"
    )
    unequal = dataclasses.replace(GPT, strategy="fsdp:replicate=3")
    yield Made(unequal, status="skipped", reason="replicate=3 does not divide 8 ranks; allowed: 1, 2, 4, 8")
    unstable = dataclasses.replace(GPT, precision="amp-fp16", optimizer="sgd")
    yield Made(unstable, 1_104.0, 12_900.0, 0.002, "invalid", "the loss is not finite from step 14 on")


def _old() -> Iterator[Made]:
    for strategy, total, mib in (("ddp", 1_041.0, 12_950.0), ("fsdp", 921.0, 6_310.0)):
        yield Made(dataclasses.replace(GPT, strategy=strategy), total, mib)


def _launches(
    run_id: str, cases: Sequence[Made], draw: random.Random, schema: int, machine: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for block in range(LAUNCHES):
        for made in draw.sample(cases, len(cases)):
            if made.status == "skipped" and block:
                continue
            if made.status == "oom" and block:
                made = dataclasses.replace(made, status="skipped", reason="ran out of memory in an earlier launch")
            rows.append(_row(run_id, made, block, len(rows), draw) | {"schema": schema} | (machine or {}))
    for row in rows:
        row["env_key"] = env_key(row) if row["torch"] else None
    if run_id == NEW:
        rows[4] |= {"attempts": 2, "first_attempt": "rank 0 on gpu-07: the port 29517 was in use"}
        rows.insert(0, rows[0] | {"role": "probe", "launch_id": "0000-probe", "samples_per_s": 1.0, "block": None})
    return rows


def _row(run_id: str, made: Made, block: int, order: int, draw: random.Random) -> dict[str, Any]:
    case, failed = made.case, made.status != "ok" and block in made.failed
    ran = made.status != "skipped"
    protocol = Protocol(**{name: option.default for name, option in SETTINGS.items()} | {"steps": STEPS})
    host = MACHINE if ran else {k: v for k, v in MACHINE.items() if k in ("hostname", "cpu_model", "settings")}
    row: dict[str, Any] = dict.fromkeys(FILES["launches.csv"])
    row |= {
        **{name: getattr(case, name) for name in row if hasattr(case, name) and name != "oversubscribe"},
        **{name: getattr(protocol, name) for name in SETTINGS},
        **host,
        **{"run_id": run_id, "case_id": case.case_id, "role": "measure", "oversubscribe": False, "session": 0},
        "block": block if ran or made.reason == "ran out of memory in an earlier launch" else None,
        "status": made.status if failed or not ran else "ok",
        "reason": made.reason if failed or not ran else None,
        "work_key": hashlib.sha256(f"{case.workload} {case.data} {case.global_batch}".encode()).hexdigest()[:12],
        "command": command(case, protocol),
    }
    if not ran:
        return row
    row |= {
        **{"launch_id": f"{order:04}-{case.case_id}", "order": order, "attempts": 1},
        "started_at": f"2026-11-02T{9 + order // 60:02}:{order % 60:02}:00.000+00:00",
        "launch_s": round(draw.uniform(9, 14), 3),
    }
    if made.status in ("oom", "timeout") or (made.status == "crashed" and failed) or made.samples_per_s is None:
        return row
    return row | _metrics(made, row, failed, draw)


def _metrics(made: Made, row: dict[str, Any], failed: bool, draw: random.Random) -> dict[str, Any]:
    assert made.samples_per_s is not None
    case = made.case
    spoilt = row["run_id"] == NEW and case == dataclasses.replace(GPT, strategy="fsdp") and row["block"] == 1
    rate = made.samples_per_s * math.exp(draw.gauss(0, 0.006)) / (2.6 if spoilt else 1)  # one launch was disturbed
    mean = 1000 * (case.global_batch or 0) / rate
    steps = [draw.lognormvariate(0, 0.012) * (3.1 if draw.random() < 0.004 else 1) for _ in range(STEPS)]
    steps = [mean * step * STEPS / sum(steps) for step in steps]
    row["_steps"] = steps
    wait, busy = made.wait_share * mean, (1 - made.wait_share) * mean * 0.985
    window = sum(steps) / 1000
    tokens = 1024 if case.workload.startswith("gpt") else None
    flops = {"gpt-124m": 874e9, "gpt-350m": 2.48e12, "resnet50": 24.5e9}[case.workload]
    peak = {"fp32": 67.0, "amp-bf16": 989.0, "amp-fp16": 989.0}[case.precision]
    achieved = rate * flops / 1e12 / case.devices
    return {
        **{"samples_per_s": rate, "samples_per_s_per_device": rate / case.devices, "window_s": window},
        **{"samples": (case.global_batch or 0) * STEPS, "window_steps": STEPS, "warmup_steps_done": 5},
        **{"tokens_per_s": tokens and rate * tokens, "tokens_per_sample": tokens, "flops_per_sample": flops},
        **{"step_ms": statistics.median(steps), "step_mean_ms": mean, "step_p95_ms": sorted(steps)[-2]},
        **{"step_p05_ms": sorted(steps)[1], "step_cv": statistics.pstdev(steps) / mean, "steady": True},
        **{"data_wait_ms": wait, "data_wait_share": made.wait_share, "device_gap_ms": wait, "copy_ms": 0.01 * busy},
        **{"forward_ms": 0.3 * busy, "backward_ms": 0.6 * busy, "optimizer_ms": 0.09 * busy},
        **{"startup_s": draw.uniform(2.1, 2.4), "first_step_ms": 11 * mean},
        **{"tflops_per_device": achieved, "peak_tflops": peak, "mfu": achieved / peak},
        **{"loss_first": 10.98, "loss_last": math.nan if failed else 9.2},
        **{"peak_allocated_mib": made.memory_mib * 0.93, "peak_reserved_mib": made.memory_mib},
        **{"device_used_mib": made.memory_mib + 1_270, "peak_rss_mib": 2_310.0, "alloc_retries": 0},
        **{"device_memory_peak_mib": made.memory_mib + 1_270, "throttled_share": 0.12 if spoilt else 0.0},
        **{"joules_per_sample": 480 * case.devices / rate, "foreign_processes": spoilt},
    }


def _write(
    run_id: str, rows: Sequence[dict[str, Any]], names: Sequence[str], draw: random.Random, torn: bool = False
) -> None:
    folder = HERE / "results" / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    steps = [one for row in rows if row["role"] == "measure" for one in _steps(row)]
    text = _csv("launches.csv", names, rows)
    if torn:
        last = text.rstrip("\r\n").rindex("\n") + 1
        text = text[: last + TORN]
    (folder / "launches.csv").write_text(text, newline="")
    (folder / "steps.csv").write_text(_csv("steps.csv", list(FILES["steps.csv"]), steps), newline="")


def _steps(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(row.get("_steps", ())):
        yield {
            **{"run_id": row["run_id"], "launch_id": row["launch_id"], "step": number, "step_ms": step},
            **{"step_min_ms": 0.99 * step, "data_wait_ms": row["data_wait_ms"], "critical_rank": 0, "loss": 10.0},
        }


def _csv(name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows([cell(row.get(column), FILES[name][column]) for column in columns] for row in rows)
    return stream.getvalue()


if __name__ == "__main__":
    main()
