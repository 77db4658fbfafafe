"""The columns of every file, each with kind, unit and meaning; ``docs/columns.md`` is generated from them."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from bench.messages.counts import KINDS, PARTS
from bench.messages.rank_record import MEMORY
from bench.plan.comms import COLLECTIVES, GROUPS
from bench.plan.options import AXES, SETTINGS

SCHEMA = 13
STATUSES = {
    "ok": "measured, and all checks passed",
    "oom": "a rank ran out of device or host memory",
    "timeout": "no step within `hang_timeout`, or not done within `timeout`",
    "crashed": "a rank raised, exited or was killed",
    "invalid": "measured, but a check failed; `reason` says which",
    "skipped": "cannot run on this machine; `reason` says why",
    "interrupted": "the run was stopped while this launch ran, or the other side of its duet failed",
}
STATUS_MEANINGS = "; ".join(f"`{status}`: {meaning}" for status, meaning in STATUSES.items())

# Types of cells; None means unknown, or without meaning for the row.
Text = str | None
Int = int | None
Float = float | None
Bool = bool | None


class LaunchRow(NamedTuple):
    """A row of ``launches.csv``: a launch, or a case that could not run.

    The annotation of each column has its type, its unit (an empty text if it has none) and its meaning.
    """

    # -- identity ------------------------------------------------------------------------------------------------------
    schema: Annotated[Int, "", "version of these columns; readers accept all older ones"] = None
    run_id: Annotated[Text, "", "one invocation of `bench run`: UTC start time and four random digits"] = None
    launch_id: Annotated[Text, "", "one launch of all ranks; the name of its folder in `logs/`"] = None
    case_id: Annotated[Text, "", "the values that differ from the defaults, and a stable hash of them"] = None
    role: Annotated[Text, "", "`measure` (enters the statistics), `probe` or `control`"] = None
    order: Annotated[Int, "", "position in the run, from 0; empty if the case was never launched"] = None
    block: Annotated[Int, "", "round of the launch, from 0; each round launches every case once"] = None
    side: Annotated[Text, "", "side of a comparison, A or B; empty in `bench run`"] = None
    pair: Annotated[Text, "", "in a comparison: the case_id of side A, for both sides"] = None
    stage: Annotated[Int, "", "in a comparison: 1, or 2 for the repeated launches of cases that may differ"] = None
    turn: Annotated[Int, "", "in a comparison: position in its block, from 0"] = None
    bursts: Annotated[
        Int,
        "bursts",
        "in a duet: number of bursts of the window, in turns with the other side",
    ] = None
    burst_steps: Annotated[
        Int,
        "steps",
        "in a duet: timed steps of each burst; before them one untimed step, and those that empty the loaders",
    ] = None
    duet_ratio: Annotated[
        Float,
        "B / A",
        "in a duet: throughput of B / A, the interquartile mean over pairs of bursts",
    ] = None
    started_at: Annotated[Text, "", "UTC, ISO 8601"] = None
    launch_s: Annotated[
        Float,
        "s",
        "wall time of the launch in `bench run`: from before its launch server starts, if none is running, until the "
        "records of its ranks are read; the sum of both attempts if there are two",
    ] = None
    status: Annotated[Text, "", STATUS_MEANINGS] = None
    reason: Annotated[Text, "", "why the status is not `ok`, in one line"] = None
    attempts: Annotated[
        Int,
        "attempts",
        "2 if the first one failed because of the machine before any rank trained, else 1",
    ] = None
    first_attempt: Annotated[Text, "", "why the first of two attempts failed"] = None
    session: Annotated[Int, "", "how often the run had been resumed before the launch; 0: never"] = None
    resumed_despite: Annotated[Text, "", "what had changed since the run began, with `--resume-anyway`"] = None
    # -- axes and settings ---------------------------------------------------------------------------------------------
    workload: Annotated[Text, "", AXES["workload"].help] = None
    args: Annotated[Text, "", AXES["args"].help] = None
    strategy: Annotated[Text, "", AXES["strategy"].help] = None
    gpus: Annotated[Int, "devices", AXES["gpus"].help] = None
    device: Annotated[Text, "", AXES["device"].help] = None
    precision: Annotated[Text, "", AXES["precision"].help] = None
    activation_checkpointing: Annotated[Text, "", AXES["activation_checkpointing"].help] = None
    activation_offload: Annotated[Text, "", AXES["activation_offload"].help] = None
    attention: Annotated[Text, "", AXES["attention"].help] = None
    compile: Annotated[Text, "", AXES["compile"].help] = None
    compile_scope: Annotated[Text, "", AXES["compile_scope"].help] = None
    batch_size: Annotated[Int, "samples", AXES["batch_size"].help] = None
    grad_accum_steps: Annotated[Int, "micro-batches", AXES["grad_accum_steps"].help] = None
    max_grad_norm: Annotated[Float, "norm", AXES["max_grad_norm"].help] = None
    optimizer: Annotated[Text, "", AXES["optimizer"].help] = None
    lr_scheduler: Annotated[Text, "", AXES["lr_scheduler"].help] = None
    init: Annotated[Text, "", AXES["init"].help] = None
    data: Annotated[Text, "", AXES["data"].help] = None
    num_workers: Annotated[Int, "processes", AXES["num_workers"].help] = None
    pin_memory: Annotated[Bool, "", AXES["pin_memory"].help] = None
    prefetch_factor: Annotated[Int, "batches", AXES["prefetch_factor"].help] = None
    persistent_workers: Annotated[Bool, "", AXES["persistent_workers"].help] = None
    omp_num_threads: Annotated[Int, "threads", AXES["omp_num_threads"].help] = None
    seed: Annotated[Int, "", AXES["seed"].help] = None
    channels_last: Annotated[Bool, "", AXES["channels_last"].help] = None
    deterministic: Annotated[Bool, "", AXES["deterministic"].help] = None
    cudnn_benchmark: Annotated[Bool, "", AXES["cudnn_benchmark"].help] = None
    numa_binding: Annotated[Text, "", AXES["numa_binding"].help] = None
    placement: Annotated[Text, "", AXES["placement"].help] = None
    save_checkpoint: Annotated[Text, "", AXES["save_checkpoint"].help] = None
    env: Annotated[Text, "", AXES["env"].help] = None
    warmup_steps: Annotated[Int, "steps", SETTINGS["warmup_steps"].help] = None
    steps: Annotated[Int, "steps", SETTINGS["steps"].help] = None
    min_seconds: Annotated[Float, "s", SETTINGS["min_seconds"].help] = None
    max_seconds: Annotated[Float, "s", SETTINGS["max_seconds"].help] = None
    launches: Annotated[Int, "launches", SETTINGS["launches"].help] = None
    timeout: Annotated[Float, "s", SETTINGS["timeout"].help] = None
    hang_timeout: Annotated[Float, "s", SETTINGS["hang_timeout"].help] = None
    launcher: Annotated[Text, "", SETTINGS["launcher"].help] = None
    samples_per_step: Annotated[Int, "samples", SETTINGS["samples_per_step"].help] = None
    count_flops: Annotated[Bool, "", SETTINGS["count_flops"].help] = None
    count_work: Annotated[Bool, "", SETTINGS["count_work"].help] = None
    profile: Annotated[Text, "", SETTINGS["profile"].help] = None
    stragglers: Annotated[Bool, "", SETTINGS["stragglers"].help] = None
    save_dir: Annotated[Text, "", SETTINGS["save_dir"].help] = None
    save_interval: Annotated[Int, "steps", SETTINGS["save_interval"].help] = None
    matmul_peak: Annotated[Text, "", SETTINGS["matmul_peak"].help] = None
    order_seed: Annotated[Int, "", SETTINGS["order_seed"].help] = None
    budget: Annotated[Float, "s", SETTINGS["budget"].help] = None
    # -- derived from the case -----------------------------------------------------------------------------------------
    oversubscribe: Annotated[
        Bool, "", "true if ranks share a GPU and communicate over Gloo; under `dp` if replicas share one"
    ] = None
    world_size: Annotated[Int, "ranks", "number of ranks; 1 for `single` and `dp`"] = None
    nodes: Annotated[Int, "nodes", "number of nodes that its ranks are on"] = None
    nproc_per_node: Annotated[
        Text, "", "number of ranks on each node, written as SLURM_TASKS_PER_NODE is: `2(x3),1` are four nodes"
    ] = None
    node_facts: Annotated[
        Text,
        "",
        "hostname, processor, memory, driver, GPUs, settings and hardware of each other node that took part, as JSON",
    ] = None
    interface: Annotated[Text, "", "with several nodes: the network interface by which node 0 reaches the others"] = (
        None
    )
    global_batch: Annotated[
        Int,
        "samples",
        "samples per step, over all data ranks and micro-batches; ranks of one group of `tp` or `pp` train the same",
    ] = None
    batch_search: Annotated[
        Text,
        "",
        "`--batch-size auto`: every batch size that was tried, and its result",
    ] = None
    machine_warnings: Annotated[Text, "", "how the machine did not fit the case when the run began; joined by `; `"] = (
        None
    )
    parameters: Annotated[Int, "numbers", "parameters of the whole model; shared ones count once"] = None
    tokens_per_sample: Annotated[Int, "tokens", "tokens of a sample, if the workload's unit is tokens"] = None
    flops_per_sample: Annotated[
        Float,
        "FLOP",
        "FLOPs of forward and backward pass with the case's micro-batch, without recomputation",
    ] = None
    hardware_flops_per_sample: Annotated[
        Float,
        "FLOP",
        "the same plus what activation checkpointing recomputes, by the case or by the model itself",
    ] = None
    flops_convention: Annotated[Text, "", "how the FLOPs were counted"] = None
    flops_note: Annotated[
        Text,
        "",
        "why FLOPs, `mfu`, `hfu` or `mfu_achievable` are empty, or that the workload states its FLOPs itself",
    ] = None
    script_step: Annotated[Text, "", "a script's step: an update by this optimizer, or `stepbench.step`"] = None
    script_seen: Annotated[
        Text,
        "",
        "what a script was seen to do by itself: strategy with its mesh, autocast, checkpointing, compilation",
    ] = None
    # -- measured ------------------------------------------------------------------------------------------------------
    samples_per_s: Annotated[Float, "samples/s", "throughput: `samples` / `window_s`"] = None
    samples_per_s_per_device: Annotated[Float, "samples/s", "`samples_per_s` / number of devices of the ranks"] = None
    tokens_per_s: Annotated[
        Float,
        "tokens/s",
        "`samples_per_s` x `tokens_per_sample`, or tokens as the workload counts them in its batches",
    ] = None
    tokens_per_s_per_device: Annotated[Float, "tokens/s", "`tokens_per_s` / number of devices of the ranks"] = None
    samples: Annotated[
        Int, "samples", "samples that were trained in the window; those of one group of `tp` count once"
    ] = None
    window_s: Annotated[Float, "s", "wall time of the window on the slowest rank"] = None
    window_steps: Annotated[
        Int,
        "steps",
        "measured steps; more than `steps` if `min_seconds` lengthened the window",
    ] = None
    window_cut: Annotated[
        Bool,
        "",
        "true if `max_seconds` shortened the window to fewer than `steps`; empty without a limit",
    ] = None
    apart_steps: Annotated[
        Int,
        "steps",
        "of a script: steps of the window with a validation, a save or a new epoch on any rank; they do not count",
    ] = None
    apart_s: Annotated[Float, "s", "duration of these steps on the slowest rank"] = None
    apart_why: Annotated[Text, "", "why steps were set apart, with the number of each reason"] = None
    warmup_steps_done: Annotated[Int, "steps", "steps before the window"] = None
    steps_per_epoch: Annotated[Int, "steps", "steps in an epoch of the data; empty for resident data"] = None
    step_ms: Annotated[Float, "ms", "median duration of a step; each step counts with its slowest rank"] = None
    step_mean_ms: Annotated[Float, "ms", "mean of the same durations"] = None
    step_p05_ms: Annotated[Float, "ms", "5th percentile of the same durations"] = None
    step_p95_ms: Annotated[Float, "ms", "95th percentile of the same durations"] = None
    step_cv: Annotated[Float, "share", "standard deviation / mean of the same durations"] = None
    step_drift: Annotated[Float, "share", "median of the second half / median of the first half - 1"] = None
    steady: Annotated[Bool, "", "true if `step_drift` is within 5 %"] = None
    critical_rank: Annotated[
        Int,
        "",
        "rank that the others wait for: the one with the most own time, see `own_ms` in ranks.csv",
    ] = None
    data_wait_ms: Annotated[
        Float,
        "ms",
        "mean time per step that the host of the critical rank waited for a batch (its GPU may have been busy); the "
        "parts below are those of the same rank",
    ] = None
    data_wait_share: Annotated[
        Float,
        "share",
        "share of the step time lost to waiting for data: by `data_wait_ms` on the CPU, by `device_gap_ms` on a GPU",
    ] = None
    device_gap_ms: Annotated[Float, "ms", "GPU: mean idle time per step of the device because of that wait"] = None
    copy_ms: Annotated[Float, "ms", "mean time of the copy to the device"] = None
    forward_ms: Annotated[Float, "ms", "mean time of the forward pass"] = None
    backward_ms: Annotated[Float, "ms", "mean time of the backward pass with its communication"] = None
    optimizer_ms: Annotated[Float, "ms", "mean time of clipping, optimizer step and zero_grad"] = None
    bubble_ms: Annotated[
        Float, "ms", "of a pipeline: mean time in which the rank computes nothing, as it waits for other stages"
    ] = None
    bubble_share: Annotated[
        Float,
        "share",
        "of a pipeline: time between passes / (that time and the passes), mean over ranks",
    ] = None
    bubble_share_ideal: Annotated[
        Float,
        "share",
        "the same for equal stages that communicate in no time: (p - 1) / (v M + p - 1) for p ranks with v stages each "
        "and M micro-batches",
    ] = None
    rest_ms: Annotated[
        Float, "ms", "of a script: mean time between the wait for a batch and the backward pass, with copy and forward"
    ] = None
    outside_ms: Annotated[
        Float, "ms", "of a script: mean time from the end of a step to the next request of a batch, such as logging"
    ] = None
    startup_s: Annotated[
        Float,
        "s",
        "time from the request to the first step of the last rank; empty in a duet, where one side waits",
    ] = None
    first_step_ms: Annotated[Float, "ms", "duration of the first step on the slowest rank"] = None
    compile_s: Annotated[Float, "s", "torch.compile: compile time in the launch; slowest rank"] = None
    recompilations: Annotated[
        Int,
        "times",
        "code that was compiled again: layers of one class that differ, or a guard that failed",
    ] = None
    window_compilations: Annotated[Int, "times", "compilations in the window; if above 0, the times are invalid"] = None
    compile_cache_hits: Annotated[
        Int,
        "graphs",
        "graphs taken from a cache; 0 unless TORCHINDUCTOR_CACHE_DIR is set",
    ] = None
    optimizer_steps_skipped: Annotated[
        Int,
        "steps",
        "amp-fp16: steps of the window that GradScaler skipped because of an overflow",
    ] = None
    tflops_per_device: Annotated[Float, "TFLOP/s", "model TFLOP/s: `samples_per_s` x `flops_per_sample` / devices"] = (
        None
    )
    mfu: Annotated[Float, "share", "model FLOPs utilisation: `tflops_per_device` / `peak_tflops`"] = None
    hfu: Annotated[Float, "share", "hardware FLOPs utilisation: the same with `hardware_flops_per_sample`"] = None
    mfu_achievable: Annotated[
        Float, "share", "share of what the device can do: `tflops_per_device` / `matmul_peak_tflops`"
    ] = None
    peak_tflops: Annotated[
        Float,
        "TFLOP/s",
        "dense peak rate of the device at this precision; empty for unknown devices",
    ] = None
    peak_source: Annotated[Text, "", "where `peak_tflops` comes from"] = None
    matmul_peak_tflops: Annotated[
        Float,
        "TFLOP/s",
        "rate of the fastest matrix products of one rank alone on this device, in the type of this precision; on a CPU"
        " with the threads of a rank",
    ] = None
    num_threads: Annotated[Int, "threads", "threads that PyTorch used after the window; minimum over ranks"] = None
    took_effect: Annotated[
        Text,
        "",
        "settings of the case that were observed to take effect, in the window and in one more step after it",
    ] = None
    not_as_asked: Annotated[
        Text,
        "",
        "settings of the case that did not take effect, though the row is valid; joined by `; `",
    ] = None
    attention_kernels: Annotated[
        Text, "", "kernels of scaled_dot_product_attention in one more step after the window, with their calls forward"
    ] = None
    loss_first: Annotated[Float, "loss", "loss of the first step, mean over ranks"] = None
    loss_last: Annotated[Float, "loss", "loss of the last step, mean over ranks"] = None
    # -- memory --------------------------------------------------------------------------------------------------------
    peak_allocated_mib: Annotated[
        Float, "MiB", "peak of the memory that torch's allocator gave to tensors, after warm-up; largest rank"
    ] = None
    peak_reserved_mib: Annotated[
        Float, "MiB", "peak of the memory that torch's allocator reserved, after warm-up; largest rank"
    ] = None
    life_peak_allocated_mib: Annotated[
        Float,
        "MiB",
        "`peak_allocated_mib` with warm-up included; largest rank",
    ] = None
    alloc_retries: Annotated[
        Int,
        "times",
        "how often the allocator had to free its pool; if above 0, the times are invalid",
    ] = None
    device_used_mib: Annotated[
        Float,
        "MiB",
        "memory used on the device after the window, with context and NCCL; empty in a duet, whose sides share it",
    ] = None
    peak_rss_mib: Annotated[
        Float,
        "MiB",
        "peak of the resident set after warm-up; largest rank (forked ranks share pages)",
    ] = None
    rss_growth_mib: Annotated[
        Float,
        "MiB",
        "`peak_rss_mib` minus the resident set when the rank started; largest rank",
    ] = None
    build_peak_rss_mib: Annotated[
        Float, "MiB", "peak of the resident set until the model was built and distributed; largest rank"
    ] = None
    life_peak_rss_mib: Annotated[Float, "MiB", "peak of the resident set, warm-up included; largest rank"] = None
    # -- the work of a step, counted -----------------------------------------------------------------------------------
    operations: Annotated[
        Int, "operations", "operations that compute in one step of the first rank; views and allocations are none"
    ] = None
    collectives: Annotated[Int, "collectives", "collectives in that step"] = None
    collective_bytes: Annotated[Int, "bytes", "their messages; of a gather the whole result"] = None
    wire_bytes: Annotated[Int, "bytes", "that the rank sends for them by the ring algorithm"] = None
    host_waits: Annotated[
        Int, "times", "how often the host needs a value or shape from the device, as by `item()` or a boolean mask"
    ] = None
    host_copies: Annotated[Int, "copies", "copies between host and device inside the step"] = None
    activation_bytes: Annotated[Int, "bytes", "kept by autograd for the backward pass, without parameters"] = None
    parameter_bytes: Annotated[Int, "bytes", "parameters of the rank, or its shards of them"] = None
    gradient_bytes: Annotated[Int, "bytes", "gradients of the rank, or its shards of them"] = None
    optimizer_bytes: Annotated[Int, "bytes", "state of its optimizer"] = None
    buffer_bytes: Annotated[Int, "bytes", "buffers of the model"] = None
    live_peak_bytes: Annotated[Int, "bytes", "largest sum of all tensors that live at once in the step"] = None
    kernel_launches: Annotated[Int, "launches", "kernels of the device in one more step, by torch's profiler"] = None
    counts_note: Annotated[Text, "", "what could not be counted, and ranks that count differently"] = None
    # -- communication, in a few more steps ---------------------------------------------------------------------------
    comm_method: Annotated[
        Text,
        "",
        "how the columns below were found: `profile` (torch's profiler) or `ablation` (steps without collectives)",
    ] = None
    profiled_step_ms: Annotated[
        Float,
        "ms",
        "the median step of the critical rank after the window, which the columns below are of: longer than `step_ms` "
        "where the profiler slows it",
    ] = None
    comm_ms: Annotated[
        Float, "ms", "time of that step in which a collective ran; it waits for ranks that come later"
    ] = None
    compute_ms: Annotated[
        Float, "ms", "time of that step in which a kernel of the device ran, on the CPU an operator of the host"
    ] = None
    overlap_ms: Annotated[Float, "ms", "time of that step in which both ran"] = None
    exposed_comm_ms: Annotated[
        Float,
        "ms",
        "communication that no computation covers: `comm_ms` - `overlap_ms`; by ablation the median step less the "
        "median step without collectives, which noise may bring below 0",
    ] = None
    exposed_comm_share: Annotated[
        Float, "share", "share of the step that waits for communication: `exposed_comm_ms` / `profiled_step_ms`"
    ] = None
    comm_note: Annotated[Text, "", "why it is not known how much of the step waits for communication"] = None
    # -- saving and loading, after the window --------------------------------------------------------------------------
    save_blocked_s: Annotated[
        Float, "s", "time for which training stands still for a save; the median of its repetitions, slowest rank"
    ] = None
    save_total_s: Annotated[Float, "s", "time until all of it is written to the disk, of the same"] = None
    save_step_ms: Annotated[
        Float, "ms", "`dcp-async`: mean duration of the steps while it is written; empty if it took less than one"
    ] = None
    save_bytes: Annotated[Int, "bytes", "size of its files"] = None
    save_mb_per_s: Annotated[Float, "MB/s", "`save_bytes` / `save_total_s`"] = None
    save_peak_allocated_mib: Annotated[
        Float, "MiB", "as `peak_allocated_mib`, while it is saved; with `dcp-async` steps are trained meanwhile"
    ] = None
    save_peak_rss_mib: Annotated[Float, "MiB", "as `peak_rss_mib`, while it is saved"] = None
    load_s: Annotated[Float, "s", "time to load it into the model and its optimizer; slowest rank"] = None
    save_restored: Annotated[
        Bool, "", "true if all bits of parameters, buffers and optimizer state are the same after loading, in each rank"
    ] = None
    goodput: Annotated[
        Float,
        "share",
        "share of time that trains, if a save follows each `save_interval` steps: their time / (their time + "
        "`save_blocked_s` + by how much steps are slower while it is written), or / `save_total_s` if that is longer",
    ] = None
    save_note: Annotated[Text, "", "why something of this is not known, or what was not the same after loading"] = None
    # -- host memory ---------------------------------------------------------------------------------------------------
    peak_host_mib: Annotated[
        Float,
        "MiB",
        "proportional set size of a rank and its descendants, such as DataLoader workers: the largest sample after "
        "warm-up (`bench run` takes one after the window, and on one node more in long windows); largest rank",
    ] = None
    # -- devices, by NVML ----------------------------------------------------------------------------------------------
    energy_j: Annotated[
        Float,
        "J",
        "energy of all GPUs of the ranks in the window, within 5 %; empty for windows under 2 s (by power: 10 s)",
    ] = None
    energy_source: Annotated[
        Text,
        "",
        "`counter` (NVML's energy counter) or `power` (integrated); both if GPUs differ",
    ] = None
    joules_per_sample: Annotated[Float, "J", "`energy_j` / `samples`"] = None
    power_mean_w: Annotated[
        Float, "W", "`energy_j` / duration of the window: mean power of all GPUs of the ranks together"
    ] = None
    sm_clock_min_mhz: Annotated[Int, "MHz", "lowest clock in the window, of any GPU of the ranks"] = None
    utilisation_mean: Annotated[
        Float,
        "share",
        "share of time in which a kernel ran: mean over readings, then over GPUs",
    ] = None
    temperature_max_c: Annotated[Int, "°C", "highest temperature in the window, of any GPU of the ranks"] = None
    device_memory_peak_mib: Annotated[
        Float,
        "MiB",
        "largest memory use in the window by NVML, of any GPU of the ranks: all processes, context and NCCL",
    ] = None
    throttled_share: Annotated[
        Float,
        "share",
        "share of readings in the window with a throttled clock, on the worst GPU; in a duet over both sides",
    ] = None
    throttle_reasons: Annotated[
        Text,
        "",
        "reasons of throttling, as NVML names them; joined by `;`; empty if `throttled_share` is 0",
    ] = None
    foreign_processes: Annotated[
        Bool,
        "",
        "true if a process of another program used a GPU of the ranks during the launch; empty if NVML cannot tell",
    ] = None
    # -- environment ---------------------------------------------------------------------------------------------------
    work_key: Annotated[
        Text,
        "",
        "equal for rows about the same work: workload, data, global batch, version of the measurement",
    ] = None
    env_key: Annotated[
        Text, "", "equal for rows with the same kind of machine, hardware, software, settings, launcher and window"
    ] = None
    code_key: Annotated[
        Text,
        "",
        "equal for rows whose ranks imported the same contents of the user's files and the same `packages`;"
        " empty for built-in workloads, whose version is `tool_version`, and for launches that were not completed",
    ] = None
    code_changed: Annotated[
        Text,
        "",
        "the user's files that have changed since the run first imported them; joined by `; `",
    ] = None
    hostname: Annotated[Text, "", "name of the machine that ran `bench run`"] = None
    device_name: Annotated[Text, "", "names of the devices of the ranks; distinct ones joined by `;`"] = None
    device_uuids: Annotated[Text, "", "UUIDs of the GPUs of the ranks, by rank, joined by `;`"] = None
    cpu_model: Annotated[Text, "", "name of the processor"] = None
    cpu_cores: Annotated[Int, "cores", "physical cores"] = None
    cpu_threads: Annotated[Int, "processors", "logical processors"] = None
    cpus_allowed: Annotated[
        Int,
        "processors",
        "logical processors that `bench run` may use; Slurm, a container or `taskset` may allow fewer than there are",
    ] = None
    cpu_quota: Annotated[
        Float,
        "processors",
        "processor time that a container allows, in processors; empty without a limit",
    ] = None
    ram_gib: Annotated[Float, "GiB", "total host memory; in `env_key` rounded up to a multiple of 4 GiB"] = None
    os: Annotated[Text, "", "operating system"] = None
    python: Annotated[Text, "", "version of Python"] = None
    torch: Annotated[Text, "", "version of PyTorch"] = None
    torchvision: Annotated[Text, "", "version of torchvision"] = None
    packages: Annotated[
        Text, "", "versions of other training packages that the ranks have imported, such as timm; joined by `;`"
    ] = None
    cuda: Annotated[Text, "", "version of CUDA that PyTorch was built with; empty without a GPU"] = None
    cudnn: Annotated[Text, "", "version of cuDNN"] = None
    nccl: Annotated[Text, "", "version of NCCL, and in brackets the plugins that are loaded"] = None
    driver: Annotated[Text, "", "version of the NVIDIA driver"] = None
    backend: Annotated[Text, "", "backend of the process group, `nccl` or `gloo`; empty for `single`"] = None
    loader_start_method: Annotated[Text, "", "how DataLoader workers are started: `fork`, `spawn` or `forkserver`"] = (
        None
    )
    tool_version: Annotated[Text, "", "version of stepbench"] = None
    tool_commit: Annotated[Text, "", "commit of stepbench, if it is a git checkout"] = None
    work_commit: Annotated[Text, "", "commit of the git checkout in which `bench run` was called"] = None
    work_dirty: Annotated[Bool, "", "true if tracked files in that checkout differ from the commit"] = None
    sources: Annotated[
        Text,
        "",
        "in a comparison of revisions: imported files of the user's repository, joined by `;`",
    ] = None
    settings: Annotated[
        Text,
        "",
        "JSON: environment variables that configure libraries, such as NCCL_*, OMP_*, TORCH_* and CUDA_*",
    ] = None
    hardware: Annotated[
        Text,
        "",
        "JSON: facts about the hardware of node 0 and its settings, by the names in the last table; null if unknown",
    ] = None
    command: Annotated[Text, "", "command line that runs this case again"] = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> LaunchRow:
        """Return the row with these columns, and None in all others; TypeError for an unknown column."""
        return cls(**columns)

    def but(self, **columns: Any) -> LaunchRow:
        """Return the same row with other values in these columns."""
        return self._replace(**columns)

    def columns(self) -> dict[str, Any]:
        """Return all columns by name."""
        return self._asdict()


class Column(NamedTuple):
    """A column. ``kind``: text, int, float or bool. An empty cell means unknown, or without meaning for the row."""

    kind: str
    unit: str
    meaning: str


_KINDS = {str: "text", int: "int", float: "float", bool: "bool"}


def _of_fields(row: type) -> dict[str, Column]:
    """Return the columns of a row's class, whose fields are ``Annotated[type, unit, meaning]``."""
    found = {}
    for name, hint in typing.get_type_hints(row, include_extras=True).items():
        unit, meaning = hint.__metadata__
        (kind,) = (one for one in typing.get_args(hint.__origin__) if one is not types.NoneType)
        found[name] = Column(_KINDS[kind], unit, meaning)
    return found


LAUNCHES = _of_fields(LaunchRow)
ENVIRONMENT = tuple(LAUNCHES)[tuple(LAUNCHES).index("work_key") :]  # All columns from work_key on.

# Columns of device memory, the most complete first: all used memory, memory reserved by the allocator, tensors.
DEVICE_MEMORY = ("device_used_mib", "peak_reserved_mib", "peak_allocated_mib")
RANK_MEMORY = ("peak_rss_mib",)  # Memory of the largest rank, if the device is the CPU.
# The same with DataLoader workers, in which cases differ, and other descendants, if known.
HOST_MEMORY = ("peak_host_mib", *RANK_MEMORY)

# How much of a step waits for communication, of a launch and of each of its ranks.
COMMUNICATION = ("profiled_step_ms", "comm_ms", "compute_ms", "overlap_ms", "exposed_comm_ms", "exposed_comm_share")

# How each rank's own time was found, in the column own_method.
IN_WINDOW, AFTER_WINDOW = "window", "steps after the window"

STEPS = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "step": Column("int", "", "number of the step in the window, from 0"),
    "step_ms": Column("float", "ms", "duration on the slowest rank"),
    "step_min_ms": Column("float", "ms", "duration on the fastest rank"),
    "data_wait_ms": Column(
        "float",
        "ms",
        "time that the host of the rank with the longest wait waited for a batch; its GPU may have been busy",
    ),
    "critical_rank": Column("int", "", "rank that spends the most time before its first collective"),
    "loss": Column("float", "loss", "loss, mean over ranks"),
    "apart": Column("text", "", "of a script: why the step does not count; empty for an ordinary step"),
}

RANKS = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "rank": Column("int", "", "global rank"),
    "local_rank": Column("int", "", "rank on its host"),
    "node": Column("int", "", "number of its node"),
    "host": Column("text", "", "name of the host"),
    "device_name": Column("text", "", "name of its device by the driver, or `cpu`"),
    "device_uuids": Column("text", "", "UUIDs of its GPUs, joined by `;`"),
    "pid": Column("int", "", "process id"),
    "exit_code": Column(
        "int", "", "exit code of the process, negative for a signal; empty if the rank succeeded or the code is unknown"
    ),
    "failure": Column("text", "", "error message of the rank, if it failed"),
    "num_threads": Column("int", "threads", "threads that PyTorch used after the window"),
    "window_s": Column("float", "s", "wall time of its window"),
    "step_ms": Column("float", "ms", "median duration of its steps"),
    "data_wait_ms": Column("float", "ms", "mean time per step that the host waited for a batch"),
    "device_gap_ms": Column("float", "ms", "GPU: mean idle time per step of the device because of that wait"),
    "copy_ms": Column("float", "ms", "mean time of the copy to the device"),
    "forward_ms": Column("float", "ms", "mean time of the forward pass"),
    "backward_ms": Column("float", "ms", "mean time of the backward pass"),
    "optimizer_ms": Column("float", "ms", "mean time of clipping, optimizer step and zero_grad"),
    "bubble_ms": LAUNCHES["bubble_ms"],
    "rest_ms": LAUNCHES["rest_ms"],
    "outside_ms": LAUNCHES["outside_ms"],
    "own_method": Column(
        "text",
        "",
        f"where its own time is known from: `{IN_WINDOW}`, if a step of it computes before its first collective; "
        f"`{AFTER_WINDOW}` (`--stragglers`), in which each collective is waited for at once; empty if it has no peers",
    ),
    "own_ms": Column(
        "float",
        "ms",
        f"mean own time of a step: in the `{IN_WINDOW}` until its first collective, else all time outside of "
        "collectives",
    ),
    "own_cv": Column("float", "share", "standard deviation / mean of the own time over steps"),
    "last_share": Column("float", "share", "share of steps in which no other rank had as much own time"),
    "own_steps_ms": Column(
        "text", "", "own times of the steps in ms, joined by `;`; of more than 100 steps means of neighbours"
    ),
    **{
        name: LAUNCHES[name]._replace(meaning=LAUNCHES[name].meaning.replace("the critical rank", "the rank"))
        for name in COMMUNICATION
    },
    **{
        name: LAUNCHES[name]._replace(meaning=LAUNCHES[name].meaning.replace("; largest rank", ""))
        for name in (*MEMORY, "peak_host_mib")
    },
}

DEVICES = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "device_uuid": Column("text", "", "UUID of the GPU"),
    "time_s": Column("float", "s", "time of the reading, from the request of the launch"),
    "in_window": Column("bool", "", "true if the reading is within the window; empty without a window"),
    "energy_j": Column("float", "J", "NVML's energy counter since the driver was loaded"),
    "power_w": Column("float", "W", "power; on most GPUs from Ampere on the mean of the last second"),
    "memory_used_mib": Column(
        "float", "MiB", "memory used by all processes, without the memory that the driver reserves"
    ),
    "utilisation": Column("float", "share", "share of the last 1/6 to 1 s in which a kernel ran"),
    "sm_clock_mhz": Column("int", "MHz", "clock of the multiprocessors"),
    "temperature_c": Column("int", "°C", "temperature of the GPU"),
    "throttled": Column(
        "bool", "", "true if the clock was lowered for another reason than idleness or the user's settings"
    ),
    "clock_reasons_mask": Column("int", "bits", "bits of NVML's nvmlClocksEventReasons; 0 is none"),
    "processes": Column("int", "processes", "number of computing processes; empty in readings without them"),
}

COUNTS = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "part": Column("text", "", f"part of the step: {', '.join(f'`{part}`' for part in PARTS)} (of no single part)"),
    "kind": Column("text", "", "what is counted: " + "; ".join(f"`{kind}`: {name}" for kind, name in KINDS.items())),
    "name": Column("text", "", "see `kind`"),
    "type": Column("text", "", "type of the numbers"),
    "calls": Column("int", "times", "how often"),
    "bytes": Column("int", "bytes", "of the message, of the copy, or in memory; of a gather the whole result"),
    "bytes_read": Column("int", "bytes", "of the tensors that the operations read"),
    "bytes_written": Column("int", "bytes", "of the tensors that the operations wrote"),
    "wire_bytes": Column("int", "bytes", "that a rank sends for the collectives by the ring algorithm"),
    "flops": Column("int", "FLOP", "as `flops_per_sample` counts them, with all that is recomputed"),
}
COUNTED = tuple(name for name in COUNTS if name not in ("run_id", "launch_id"))

# Columns of a launch that each row of its collectives repeats, so that comms.csv can be read alone.
OF_THE_LAUNCH = (
    *("schema", "run_id", "launch_id", "case_id", "role", "order", "block", "started_at"),
    *("gpus", "device", "omp_num_threads", "numa_binding", "placement", "env", "launcher", "oversubscribe"),
    *("world_size", "nodes", "nproc_per_node", "interface", "node_facts", *ENVIRONMENT),
)
COMMS = {
    **{name: LAUNCHES[name] for name in OF_THE_LAUNCH[: OF_THE_LAUNCH.index("gpus")]},
    "status": Column(
        "text",
        "",
        "`ok`; `oom` if a rank has not enough memory for it; `skipped` if the backend does not have it, or memory or "
        "ranks are too few; `invalid` if the result is wrong; `timeout`, `crashed` or `interrupted` if the launch "
        "ended in it",
    ),
    "reason": Column("text", "", "why the status is not `ok`, in one line"),
    "collective": Column("text", "", ", ".join(f"`{name}`: {one.about}" for name, one in COLLECTIVES.items())),
    "group": Column("text", "", "; ".join(f"`{name}`: {about}" for name, about in GROUPS.items())),
    "group_ranks": Column("text", "", "ranks of the process group, such as `0-3` or `0,4`"),
    "group_size": Column("int", "ranks", "number of these ranks"),
    "dtype": Column("text", "", "type of the numbers"),
    "size_bytes": Column(
        "int", "bytes", "size that was asked for, as nccl-tests counts it: of a gather the whole result"
    ),
    "message_bytes": Column(
        "int", "bytes", "size that was measured: whole numbers, and as many for each rank where each has a part"
    ),
    "iterations": Column("int", "times", "how often it was timed; each iteration counts with its slowest rank"),
    "time_us": Column("float", "µs", "median time of an iteration"),
    "time_mean_us": Column("float", "µs", "mean of the same times"),
    "time_min_us": Column("float", "µs", "smallest of the same times"),
    "time_p95_us": Column("float", "µs", "95th percentile of the same times"),
    "time_cv": Column("float", "share", "standard deviation / mean of the same times"),
    "slowest_rank": Column("int", "", "rank that took longest, over all iterations"),
    "algbw_gb_per_s": Column("float", "GB/s", "algorithm bandwidth: `message_bytes` / `time_us` (GB: 10^9 bytes)"),
    "busbw_gb_per_s": Column(
        "float", "GB/s", "bus bandwidth: `algbw_gb_per_s` x the factor of nccl-tests for the collective and the ranks"
    ),
    "correct": Column("bool", "", "true if the result of the first iteration was right on every rank"),
    **{name: LAUNCHES[name] for name in OF_THE_LAUNCH[OF_THE_LAUNCH.index("gpus") :]},
}

FILES = {
    "launches.csv": LAUNCHES,
    "steps.csv": STEPS,
    "ranks.csv": RANKS,
    "devices.csv": DEVICES,
    "counts.csv": COUNTS,
    "comms.csv": COMMS,
}

Row = dict[str, Any]  # A row of another file than launches.csv, or an incomplete row.
