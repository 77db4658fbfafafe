"""The rows: every column of every file, its kind and its meaning. ``results/README.md`` is made from this."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.options import AXES, SETTINGS

SCHEMA = 7
STATUSES = {
    "ok": "measured, and every check held",
    "oom": "a rank ran out of device or host memory",
    "timeout": "no step for `hang_timeout`, or longer than `timeout`",
    "crashed": "a rank raised, exited or was killed",
    "invalid": "measured, but a check failed: `reason` says which",
    "skipped": "cannot run here: `reason` says why",
    "interrupted": "the run was stopped while this launch ran, or the other side of its duet failed",
}


class Column(NamedTuple):
    """``kind``: text, int, float or bool. An empty cell means unknown, or without meaning for this row."""

    kind: str
    meaning: str


_KINDS = {str: "text", int: "int", float: "float", bool: "bool"}


def _options() -> dict[str, Column]:
    seconds = ("timeout", "min_seconds", "max_seconds", "budget")
    kinds = {"gpus": "int", "batch_size": "int", **dict.fromkeys(seconds, "float")}
    return {
        option.name: Column(kinds.get(option.name) or _KINDS[type(option.default)], option.help)
        for option in [*AXES.values(), *SETTINGS.values()]
    }


_OPTIONS = _options()

IDENTITY = {
    "schema": Column("int", "version of these columns; readers accept all older ones"),
    "run_id": Column("text", "one invocation of `bench run`: UTC start time and four random digits"),
    "launch_id": Column("text", "one fresh start of all ranks; the name of its folder under `logs/`"),
    "case_id": Column("text", "what differs from the defaults, and a stable hash of it"),
    "role": Column("text", "`measure` (enters statistics), `probe` or `control`"),
    "order": Column("int", "place in the run, from 0; empty if it was never launched"),
    "block": Column("int", "round in which the launch ran, from 0: each round launches every case once"),
    "side": Column("text", "of a comparison, A or B; empty in `bench run`"),
    "pair": Column("text", "of a comparison: the case_id of side A, which both sides share"),
    "stage": Column("int", "of a comparison: 1, or 2 for fresh launches of what may differ"),
    "turn": Column("int", "of a comparison: place in its block, from 0"),
    "bursts": Column("int", "of a duet: in how many bursts the window was trained, in turns with the other side"),
    "burst_steps": Column("int", "of a duet: timed steps of each burst, after one and as many as loaders hold"),
    "duet_ratio": Column("float", "of a duet: throughput of B / A, the mean of the middle half of its pairs of bursts"),
    "started_at": Column("text", "UTC, ISO 8601"),
    "launch_s": Column(
        "float",
        "wall time of the launch, by the clock of `bench run`: from before a launch server is started for it, if none "
        "is up, until all that its ranks left was read; of two attempts both",
    ),
    "status": Column("text", "; ".join(f"`{k}`: {v}" for k, v in STATUSES.items())),
    "reason": Column("text", "why the status is not `ok`, in one line"),
    "attempts": Column("int", "2 if a first one failed by the machine's fault before a rank had trained, else 1"),
    "first_attempt": Column("text", "why the first of two attempts failed"),
    "session": Column("int", "0, or how often the run had been resumed when the launch ran"),
    "resumed_despite": Column("text", "what had changed since the run began (`--resume-anyway`)"),
}

DERIVED = {
    "oversubscribe": Column("bool", "true if ranks share a GPU, over Gloo; under `dp` replicas"),
    "world_size": Column("int", "ranks of the launch: 1 for `single` and `dp`, whatever was asked"),
    "global_batch": Column("int", "samples a step: over all devices and micro-batches"),
    "batch_search": Column("text", "`--batch-size auto`: every batch size that was tried, and what became of it"),
    "machine_warnings": Column("text", "what did not fit the machine when the run began; joined by `; `"),
    "parameters": Column("int", "of the whole model, shared ones once"),
    "tokens_per_sample": Column("int", "where the workload's unit is tokens"),
    "flops_per_sample": Column("float", "forward and backward, of the case's own micro-batch, no recomputation"),
    "hardware_flops_per_sample": Column(
        "float", "the same with what activation checkpointing, also the model's own, really recomputes"
    ),
    "flops_convention": Column("text", "how FLOPs were counted"),
    "flops_note": Column("text", "why FLOPs, `mfu` or `hfu` are empty, or that the workload says its FLOPs itself"),
}

METRICS = {
    "samples_per_s": Column("float", "samples of the window / `window_s`: the headline"),
    "samples_per_s_per_device": Column("float", "`samples_per_s` / devices that the ranks had"),
    "tokens_per_s": Column("float", "`samples_per_s` x `tokens_per_sample`"),
    "tokens_per_s_per_device": Column("float", "`tokens_per_s` / devices that the ranks had"),
    "samples": Column("int", "trained in the window, all ranks"),
    "window_s": Column("float", "wall time of the window on the slowest rank"),
    "window_steps": Column("int", "measured steps; more than `steps` where `min_seconds` lengthened the window"),
    "window_cut": Column("bool", "true if `max_seconds` left it fewer steps than `steps`; empty without a limit"),
    "warmup_steps_done": Column("int", "steps before the window"),
    "steps_per_epoch": Column("int", "of the data; empty for resident data"),
    "step_ms": Column("float", "median over the steps; a step takes as long as its slowest rank"),
    "step_mean_ms": Column("float", "mean of the same"),
    "step_p05_ms": Column("float", "5th percentile of the same"),
    "step_p95_ms": Column("float", "95th percentile of the same"),
    "step_cv": Column("float", "standard deviation / mean of the same"),
    "step_drift": Column("float", "median of the second half / median of the first half - 1"),
    "steady": Column("bool", "true if `step_drift` is within 5 %"),
    "critical_rank": Column("int", "the rank with the most own time before its first collective, over the window"),
    "data_wait_ms": Column(
        "float",
        "mean wait for a batch, on the host, of the critical rank (a GPU may have had work meanwhile); "
        "the parts below are of the same rank",
    ),
    "data_wait_share": Column(
        "float", "share of its steps that was lost to the wait: on the CPU `data_wait_ms`, on a GPU `device_gap_ms`"
    ),
    "device_gap_ms": Column("float", "GPU: mean gap that the wait left on the device"),
    "copy_ms": Column("float", "mean copy to the device"),
    "forward_ms": Column("float", "mean forward pass"),
    "backward_ms": Column("float", "mean backward pass with its communication"),
    "optimizer_ms": Column("float", "mean clipping, optimizer step and zero_grad"),
    "startup_s": Column(
        "float", "from the request to the start of the last rank's first step; empty in a duet, where a side waits"
    ),
    "first_step_ms": Column("float", "first step of the slowest rank"),
    "compile_s": Column("float", "torch.compile: time spent compiling, over the launch; slowest rank"),
    "recompilations": Column("int", "code compiled more than once: unlike layers of one class, or a broken guard"),
    "window_compilations": Column("int", "compilations inside the window; above 0 the timing is spoilt"),
    "compile_cache_hits": Column("int", "graphs that came from a cache: 0 unless TORCHINDUCTOR_CACHE_DIR is set"),
    "optimizer_steps_skipped": Column("int", "amp-fp16: steps of the window that overflowed and updated nothing"),
    "tflops_per_device": Column("float", "model TFLOP/s: throughput x `flops_per_sample` / devices"),
    "mfu": Column("float", "`tflops_per_device` / `peak_tflops`"),
    "hfu": Column("float", "the same with `hardware_flops_per_sample`"),
    "peak_tflops": Column("float", "dense peak of the device at this precision; empty for unknown devices"),
    "peak_source": Column("text", "where `peak_tflops` comes from"),
    "num_threads": Column("int", "that PyTorch computed with, after the window; fewest of a rank"),
    "took_effect": Column(
        "text", "what was seen of what the case asks for: in the window, and in one more step after it"
    ),
    "not_as_asked": Column("text", "what was otherwise than asked for, though the figures stand; joined by `; `"),
    "loss_first": Column("float", "mean over ranks, of the first step"),
    "loss_last": Column("float", "mean over ranks, of the last step"),
}

MEMORY = {
    "peak_allocated_mib": Column("float", "torch's allocator of the device, after warm-up; largest rank"),
    "peak_reserved_mib": Column("float", "its pool, after warm-up; largest rank"),
    "life_peak_allocated_mib": Column("float", "torch's allocator of the device, warm-up included; largest rank"),
    "alloc_retries": Column("int", "times that allocator had to free its pool; above 0 the timing is spoilt"),
    "device_used_mib": Column(
        "float",
        "of the whole device after the window, context and NCCL included; empty in a duet, whose sides share it",
    ),
    "peak_rss_mib": Column("float", "peak resident set after warm-up; largest rank (forked ranks share pages)"),
    "rss_growth_mib": Column("float", "`peak_rss_mib` less the resident set when the rank started; largest rank"),
    "life_peak_rss_mib": Column("float", "peak resident set, warm-up included; largest rank"),
}

HOST_MEMORY = {
    "peak_host_mib": Column(
        "float",
        "proportional set size of a rank and all its descendants, DataLoader workers among them: the largest sample "
        "after warm-up (`bench run` takes one after the window, and some in long ones); largest rank",
    ),
}

DEVICE_METRICS = {
    "energy_j": Column(
        "float", "of the ranks' GPUs in the window, summed; within 5 %: empty for windows under 2 s (by power: 10 s)"
    ),
    "energy_source": Column("text", "`counter` (NVML's total energy) or `power` (integrated); both if GPUs differ"),
    "joules_per_sample": Column("float", "`energy_j` / `samples`"),
    "power_mean_w": Column("float", "`energy_j` / the window: of all the ranks' GPUs together"),
    "sm_clock_min_mhz": Column("int", "lowest reading in the window, of any of the ranks' GPUs"),
    "utilisation_mean": Column("float", "share of time in which a kernel ran, mean over readings, then over GPUs"),
    "temperature_max_c": Column("int", "highest reading in the window, of any of the ranks' GPUs"),
    "device_memory_peak_mib": Column(
        "float", "largest NVML reading in the window, of any of the ranks' GPUs: all processes, context and NCCL"
    ),
    "throttled_share": Column(
        "float", "share of readings in the window with a lowered clock, of the worst GPU; in a duet both sides' window"
    ),
    "throttle_reasons": Column("text", "why, as NVML names it; joined by `;`; empty also where `throttled_share` is 0"),
    "foreign_processes": Column(
        "bool", "true if another's process was on the ranks' GPUs during the launch; empty where NVML cannot tell"
    ),
}

ENVIRONMENT = {
    "work_key": Column("text", "equal for rows about the same work: workload, data, global batch, version of measure"),
    "env_key": Column("text", "equal for rows of like machines, software, settings, launcher and window"),
    "code_key": Column(
        "text",
        "equal for rows whose ranks imported the same contents of the user's files; empty for built-in workloads, "
        "which are of `tool_version`, and for launches that did not come to their end",
    ),
    "code_changed": Column(
        "text", "the user's files with other contents than in the run's first launch of them; joined by `; `"
    ),
    "hostname": Column("text", "of the machine that ran `bench run`"),
    "device_name": Column("text", "of the ranks' devices; distinct ones joined by `;`"),
    "device_uuids": Column("text", "of the ranks' GPUs, by rank, joined by `;`"),
    "cpu_model": Column("text", "of the processor"),
    "cpu_cores": Column("int", "physical cores"),
    "cpu_threads": Column("int", "logical processors"),
    "cpus_allowed": Column(
        "int", "logical processors that it may use: Slurm, a container or `taskset` may grant fewer"
    ),
    "cpu_quota": Column("float", "processors' worth of time that a container grants it; empty without a limit"),
    "ram_gib": Column("float", "total; in `env_key` rounded up to 4 GiB"),
    "os": Column("text", "platform"),
    "python": Column("text", "version"),
    "torch": Column("text", "version"),
    "torchvision": Column("text", "version"),
    "cuda": Column("text", "version that torch was built with; empty without a GPU"),
    "cudnn": Column("text", "version"),
    "nccl": Column("text", "version"),
    "driver": Column("text", "NVIDIA driver"),
    "backend": Column("text", "`nccl` or `gloo`; empty for `single`"),
    "loader_start_method": Column("text", "of DataLoader workers"),
    "tool_version": Column("text", "stepbench's"),
    "tool_commit": Column("text", "of stepbench's checkout, where it is one"),
    "work_commit": Column("text", "of the checkout that `bench run` was called in"),
    "work_dirty": Column("bool", "true if tracked files there differ from the commit"),
    "sources": Column("text", "of a comparison of revisions: imported files of the user's repository, joined by `;`"),
    "settings": Column("text", "JSON: NCCL_*, OMP_*, TORCH_*, CUDA_* and other variables that steer libraries"),
    "command": Column("text", "the command line that gives this case again"),
}

LAUNCHES = {
    **IDENTITY,
    **{name: _OPTIONS[name] for name in AXES},
    **{name: _OPTIONS[name] for name in SETTINGS},
    **DERIVED,
    **METRICS,
    **MEMORY,
    **HOST_MEMORY,
    **DEVICE_METRICS,
    **ENVIRONMENT,
}

STEPS = {
    "run_id": IDENTITY["run_id"],
    "launch_id": IDENTITY["launch_id"],
    "step": Column("int", "from 0, in the window"),
    "step_ms": Column("float", "of the slowest rank"),
    "step_min_ms": Column("float", "of the fastest rank"),
    "data_wait_ms": Column("float", "on the host, of the rank that waited most; a GPU may have had work"),
    "critical_rank": Column("int", "the rank with the most own time before its first collective"),
    "loss": Column("float", "mean over ranks"),
}

RANKS = {
    "run_id": IDENTITY["run_id"],
    "launch_id": IDENTITY["launch_id"],
    "rank": Column("int", "global"),
    "local_rank": Column("int", "on its host"),
    "host": Column("text", "its name"),
    "device_name": Column("text", "as its driver names it, or `cpu`"),
    "device_uuids": Column("text", "of its GPUs, joined by `;`"),
    "pid": Column("int", "process id"),
    "exit_code": Column("int", "negative for a signal; empty where it ended well or is not known"),
    "failure": Column("text", "its own last words, if it failed"),
    "num_threads": Column("int", "that PyTorch computed with, after the window"),
    "window_s": Column("float", "wall time of its window"),
    "step_ms": Column("float", "median of its steps"),
    "data_wait_ms": Column("float", "mean, on the host"),
    "device_gap_ms": Column("float", "GPU: mean gap on the device"),
    "copy_ms": Column("float", "mean"),
    "forward_ms": Column("float", "mean"),
    "backward_ms": Column("float", "mean"),
    "optimizer_ms": Column("float", "mean"),
    **{
        name: Column(column.kind, column.meaning.replace("; largest rank", ""))
        for name, column in {**MEMORY, **HOST_MEMORY}.items()
    },
}

DEVICES = {
    "run_id": IDENTITY["run_id"],
    "launch_id": IDENTITY["launch_id"],
    "device_uuid": Column("text", "of the GPU"),
    "time_s": Column("float", "of the reading, from the launch's request"),
    "in_window": Column("bool", "true if it fell into the measured steps; empty if there were none"),
    "energy_j": Column("float", "NVML's counter, since the driver was loaded"),
    "power_w": Column("float", "the mean of the last second on most GPUs from Ampere on"),
    "memory_used_mib": Column("float", "by all processes, without what the driver reserves"),
    "utilisation": Column("float", "share of the last 1/6 to 1 s in which a kernel ran"),
    "sm_clock_mhz": Column("int", "of the multiprocessors"),
    "temperature_c": Column("int", "of the GPU"),
    "throttled": Column("bool", "true if a reason lowered the clock against the will of the user"),
    "clock_reasons_mask": Column("int", "all bits of NVML's nvmlClocksEventReasons; 0 is none"),
    "processes": Column("int", "that compute on it; empty in readings that did not ask"),
}

FILES = {"launches.csv": LAUNCHES, "steps.csv": STEPS, "ranks.csv": RANKS, "devices.csv": DEVICES}

Row = dict[str, Any]
