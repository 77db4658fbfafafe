"""The rows: every column of every file, its kind, its unit and its meaning. ``results/README.md`` is made from this."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from bench.messages.rank_record import MEMORY
from bench.plan.options import AXES, SETTINGS

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
STATUS_MEANINGS = "; ".join(f"`{status}`: {meaning}" for status, meaning in STATUSES.items())

# What a cell holds; None is unknown, or has no meaning for the row.
Text = str | None
Int = int | None
Float = float | None
Bool = bool | None


class LaunchRow(NamedTuple):
    """A row of ``launches.csv``: a launch, or a case that could not run. Each column has a type, a unit (an empty text
    where it has none) and a meaning."""

    # -- identity ------------------------------------------------------------------------------------------------------
    schema: Annotated[Int, "", "version of these columns; readers accept all older ones"] = None
    run_id: Annotated[Text, "", "one invocation of `bench run`: UTC start time and four random digits"] = None
    launch_id: Annotated[Text, "", "one fresh start of all ranks; the name of its folder under `logs/`"] = None
    case_id: Annotated[Text, "", "what differs from the defaults, and a stable hash of it"] = None
    role: Annotated[Text, "", "`measure` (enters statistics), `probe` or `control`"] = None
    order: Annotated[Int, "", "place in the run, from 0; empty if it was never launched"] = None
    block: Annotated[Int, "", "round in which the launch ran, from 0: each round launches every case once"] = None
    side: Annotated[Text, "", "of a comparison, A or B; empty in `bench run`"] = None
    pair: Annotated[Text, "", "of a comparison: the case_id of side A, which both sides share"] = None
    stage: Annotated[Int, "", "of a comparison: 1, or 2 for fresh launches of what may differ"] = None
    turn: Annotated[Int, "", "of a comparison: place in its block, from 0"] = None
    bursts: Annotated[
        Int,
        "bursts",
        "of a duet: in how many bursts the window was trained, in turns with the other side",
    ] = None
    burst_steps: Annotated[
        Int,
        "steps",
        "of a duet: timed steps of each burst, after one and as many as loaders hold",
    ] = None
    duet_ratio: Annotated[
        Float,
        "B / A",
        "of a duet: throughput of B / A, the mean of the middle half of its pairs of bursts",
    ] = None
    started_at: Annotated[Text, "", "UTC, ISO 8601"] = None
    launch_s: Annotated[
        Float,
        "s",
        "wall time of the launch, by the clock of `bench run`: from before a launch server is started for it, if "
        "none is up, until all that its ranks left was read; of two attempts both",
    ] = None
    status: Annotated[Text, "", STATUS_MEANINGS] = None
    reason: Annotated[Text, "", "why the status is not `ok`, in one line"] = None
    attempts: Annotated[
        Int,
        "attempts",
        "2 if a first one failed by the machine's fault before a rank had trained, else 1",
    ] = None
    first_attempt: Annotated[Text, "", "why the first of two attempts failed"] = None
    session: Annotated[Int, "", "0, or how often the run had been resumed when the launch ran"] = None
    resumed_despite: Annotated[Text, "", "what had changed since the run began (`--resume-anyway`)"] = None
    # -- axes and settings ---------------------------------------------------------------------------------------------
    workload: Annotated[Text, "", AXES["workload"].help] = None
    strategy: Annotated[Text, "", AXES["strategy"].help] = None
    gpus: Annotated[Int, "devices", AXES["gpus"].help] = None
    device: Annotated[Text, "", AXES["device"].help] = None
    precision: Annotated[Text, "", AXES["precision"].help] = None
    activation_checkpointing: Annotated[Text, "", AXES["activation_checkpointing"].help] = None
    compile: Annotated[Text, "", AXES["compile"].help] = None
    batch_size: Annotated[Int, "samples", AXES["batch_size"].help] = None
    grad_accum_steps: Annotated[Int, "micro-batches", AXES["grad_accum_steps"].help] = None
    max_grad_norm: Annotated[Float, "norm", AXES["max_grad_norm"].help] = None
    optimizer: Annotated[Text, "", AXES["optimizer"].help] = None
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
    env: Annotated[Text, "", AXES["env"].help] = None
    warmup_steps: Annotated[Int, "steps", SETTINGS["warmup_steps"].help] = None
    steps: Annotated[Int, "steps", SETTINGS["steps"].help] = None
    min_seconds: Annotated[Float, "s", SETTINGS["min_seconds"].help] = None
    max_seconds: Annotated[Float, "s", SETTINGS["max_seconds"].help] = None
    launches: Annotated[Int, "launches", SETTINGS["launches"].help] = None
    timeout: Annotated[Float, "s", SETTINGS["timeout"].help] = None
    hang_timeout: Annotated[Float, "s", SETTINGS["hang_timeout"].help] = None
    launcher: Annotated[Text, "", SETTINGS["launcher"].help] = None
    order_seed: Annotated[Int, "", SETTINGS["order_seed"].help] = None
    budget: Annotated[Float, "s", SETTINGS["budget"].help] = None
    # -- derived from the case -----------------------------------------------------------------------------------------
    oversubscribe: Annotated[Bool, "", "true if ranks share a GPU, over Gloo; under `dp` replicas"] = None
    world_size: Annotated[Int, "ranks", "ranks of the launch: 1 for `single` and `dp`, whatever was asked"] = None
    global_batch: Annotated[Int, "samples", "samples a step: over all devices and micro-batches"] = None
    batch_search: Annotated[
        Text,
        "",
        "`--batch-size auto`: every batch size that was tried, and what became of it",
    ] = None
    machine_warnings: Annotated[Text, "", "what did not fit the machine when the run began; joined by `; `"] = None
    parameters: Annotated[Int, "numbers", "of the whole model, shared ones once"] = None
    tokens_per_sample: Annotated[Int, "tokens", "where the workload's unit is tokens"] = None
    flops_per_sample: Annotated[
        Float,
        "FLOP",
        "forward and backward, of the case's own micro-batch, no recomputation",
    ] = None
    hardware_flops_per_sample: Annotated[
        Float,
        "FLOP",
        "the same with what activation checkpointing, also the model's own, really recomputes",
    ] = None
    flops_convention: Annotated[Text, "", "how FLOPs were counted"] = None
    flops_note: Annotated[
        Text,
        "",
        "why FLOPs, `mfu` or `hfu` are empty, or that the workload says its FLOPs itself",
    ] = None
    # -- measured ------------------------------------------------------------------------------------------------------
    samples_per_s: Annotated[Float, "samples/s", "samples of the window / `window_s`: the headline"] = None
    samples_per_s_per_device: Annotated[Float, "samples/s", "`samples_per_s` / devices that the ranks had"] = None
    tokens_per_s: Annotated[Float, "tokens/s", "`samples_per_s` x `tokens_per_sample`"] = None
    tokens_per_s_per_device: Annotated[Float, "tokens/s", "`tokens_per_s` / devices that the ranks had"] = None
    samples: Annotated[Int, "samples", "trained in the window, all ranks"] = None
    window_s: Annotated[Float, "s", "wall time of the window on the slowest rank"] = None
    window_steps: Annotated[
        Int,
        "steps",
        "measured steps; more than `steps` where `min_seconds` lengthened the window",
    ] = None
    window_cut: Annotated[
        Bool,
        "",
        "true if `max_seconds` left it fewer steps than `steps`; empty without a limit",
    ] = None
    warmup_steps_done: Annotated[Int, "steps", "steps before the window"] = None
    steps_per_epoch: Annotated[Int, "steps", "of the data; empty for resident data"] = None
    step_ms: Annotated[Float, "ms", "median over the steps; a step takes as long as its slowest rank"] = None
    step_mean_ms: Annotated[Float, "ms", "mean of the same"] = None
    step_p05_ms: Annotated[Float, "ms", "5th percentile of the same"] = None
    step_p95_ms: Annotated[Float, "ms", "95th percentile of the same"] = None
    step_cv: Annotated[Float, "share", "standard deviation / mean of the same"] = None
    step_drift: Annotated[Float, "share", "median of the second half / median of the first half - 1"] = None
    steady: Annotated[Bool, "", "true if `step_drift` is within 5 %"] = None
    critical_rank: Annotated[
        Int,
        "",
        "the rank with the most own time before its first collective, over the window",
    ] = None
    data_wait_ms: Annotated[
        Float,
        "ms",
        "mean wait for a batch, on the host, of the critical rank (a GPU may have had work meanwhile); the parts "
        "below are of the same rank",
    ] = None
    data_wait_share: Annotated[
        Float,
        "share",
        "share of its steps that was lost to the wait: on the CPU `data_wait_ms`, on a GPU `device_gap_ms`",
    ] = None
    device_gap_ms: Annotated[Float, "ms", "GPU: mean gap that the wait left on the device"] = None
    copy_ms: Annotated[Float, "ms", "mean copy to the device"] = None
    forward_ms: Annotated[Float, "ms", "mean forward pass"] = None
    backward_ms: Annotated[Float, "ms", "mean backward pass with its communication"] = None
    optimizer_ms: Annotated[Float, "ms", "mean clipping, optimizer step and zero_grad"] = None
    startup_s: Annotated[
        Float,
        "s",
        "from the request to the start of the last rank's first step; empty in a duet, where a side waits",
    ] = None
    first_step_ms: Annotated[Float, "ms", "first step of the slowest rank"] = None
    compile_s: Annotated[Float, "s", "torch.compile: time spent compiling, over the launch; slowest rank"] = None
    recompilations: Annotated[
        Int,
        "times",
        "code compiled more than once: unlike layers of one class, or a broken guard",
    ] = None
    window_compilations: Annotated[Int, "times", "compilations inside the window; above 0 the timing is spoilt"] = None
    compile_cache_hits: Annotated[
        Int,
        "graphs",
        "graphs that came from a cache: 0 unless TORCHINDUCTOR_CACHE_DIR is set",
    ] = None
    optimizer_steps_skipped: Annotated[
        Int,
        "steps",
        "amp-fp16: steps of the window that overflowed and updated nothing",
    ] = None
    tflops_per_device: Annotated[Float, "TFLOP/s", "model TFLOP/s: throughput x `flops_per_sample` / devices"] = None
    mfu: Annotated[Float, "share", "`tflops_per_device` / `peak_tflops`"] = None
    hfu: Annotated[Float, "share", "the same with `hardware_flops_per_sample`"] = None
    peak_tflops: Annotated[
        Float,
        "TFLOP/s",
        "dense peak of the device at this precision; empty for unknown devices",
    ] = None
    peak_source: Annotated[Text, "", "where `peak_tflops` comes from"] = None
    num_threads: Annotated[Int, "threads", "that PyTorch computed with, after the window; fewest of a rank"] = None
    took_effect: Annotated[
        Text,
        "",
        "what was seen of what the case asks for: in the window, and in one more step after it",
    ] = None
    not_as_asked: Annotated[
        Text,
        "",
        "what was otherwise than asked for, though the figures stand; joined by `; `",
    ] = None
    loss_first: Annotated[Float, "loss", "mean over ranks, of the first step"] = None
    loss_last: Annotated[Float, "loss", "mean over ranks, of the last step"] = None
    # -- memory --------------------------------------------------------------------------------------------------------
    peak_allocated_mib: Annotated[Float, "MiB", "torch's allocator of the device, after warm-up; largest rank"] = None
    peak_reserved_mib: Annotated[Float, "MiB", "its pool, after warm-up; largest rank"] = None
    life_peak_allocated_mib: Annotated[
        Float,
        "MiB",
        "torch's allocator of the device, warm-up included; largest rank",
    ] = None
    alloc_retries: Annotated[
        Int,
        "times",
        "times that allocator had to free its pool; above 0 the timing is spoilt",
    ] = None
    device_used_mib: Annotated[
        Float,
        "MiB",
        "of the whole device after the window, context and NCCL included; empty in a duet, whose sides share it",
    ] = None
    peak_rss_mib: Annotated[
        Float,
        "MiB",
        "peak resident set after warm-up; largest rank (forked ranks share pages)",
    ] = None
    rss_growth_mib: Annotated[
        Float,
        "MiB",
        "`peak_rss_mib` less the resident set when the rank started; largest rank",
    ] = None
    life_peak_rss_mib: Annotated[Float, "MiB", "peak resident set, warm-up included; largest rank"] = None
    # -- host memory ---------------------------------------------------------------------------------------------------
    peak_host_mib: Annotated[
        Float,
        "MiB",
        "proportional set size of a rank and all its descendants, DataLoader workers among them: the largest "
        "sample after warm-up (`bench run` takes one after the window, and some in long ones); largest rank",
    ] = None
    # -- devices, by NVML ----------------------------------------------------------------------------------------------
    energy_j: Annotated[
        Float,
        "J",
        "of the ranks' GPUs in the window, summed; within 5 %: empty for windows under 2 s (by power: 10 s)",
    ] = None
    energy_source: Annotated[
        Text,
        "",
        "`counter` (NVML's total energy) or `power` (integrated); both if GPUs differ",
    ] = None
    joules_per_sample: Annotated[Float, "J", "`energy_j` / `samples`"] = None
    power_mean_w: Annotated[Float, "W", "`energy_j` / the window: of all the ranks' GPUs together"] = None
    sm_clock_min_mhz: Annotated[Int, "MHz", "lowest reading in the window, of any of the ranks' GPUs"] = None
    utilisation_mean: Annotated[
        Float,
        "share",
        "share of time in which a kernel ran, mean over readings, then over GPUs",
    ] = None
    temperature_max_c: Annotated[Int, "°C", "highest reading in the window, of any of the ranks' GPUs"] = None
    device_memory_peak_mib: Annotated[
        Float,
        "MiB",
        "largest NVML reading in the window, of any of the ranks' GPUs: all processes, context and NCCL",
    ] = None
    throttled_share: Annotated[
        Float,
        "share",
        "share of readings in the window with a lowered clock, of the worst GPU; in a duet both sides' window",
    ] = None
    throttle_reasons: Annotated[
        Text,
        "",
        "why, as NVML names it; joined by `;`; empty also where `throttled_share` is 0",
    ] = None
    foreign_processes: Annotated[
        Bool,
        "",
        "true if another's process was on the ranks' GPUs during the launch; empty where NVML cannot tell",
    ] = None
    # -- environment ---------------------------------------------------------------------------------------------------
    work_key: Annotated[
        Text,
        "",
        "equal for rows about the same work: workload, data, global batch, version of measure",
    ] = None
    env_key: Annotated[Text, "", "equal for rows of like machines, software, settings, launcher and window"] = None
    code_key: Annotated[
        Text,
        "",
        "equal for rows whose ranks imported the same contents of the user's files; empty for built-in workloads,"
        " which are of `tool_version`, and for launches that did not come to their end",
    ] = None
    code_changed: Annotated[
        Text,
        "",
        "the user's files with other contents than in the run's first launch of them; joined by `; `",
    ] = None
    hostname: Annotated[Text, "", "of the machine that ran `bench run`"] = None
    device_name: Annotated[Text, "", "of the ranks' devices; distinct ones joined by `;`"] = None
    device_uuids: Annotated[Text, "", "of the ranks' GPUs, by rank, joined by `;`"] = None
    cpu_model: Annotated[Text, "", "of the processor"] = None
    cpu_cores: Annotated[Int, "cores", "physical cores"] = None
    cpu_threads: Annotated[Int, "processors", "logical processors"] = None
    cpus_allowed: Annotated[
        Int,
        "processors",
        "logical processors that it may use: Slurm, a container or `taskset` may grant fewer",
    ] = None
    cpu_quota: Annotated[
        Float,
        "processors",
        "processors' worth of time that a container grants it; empty without a limit",
    ] = None
    ram_gib: Annotated[Float, "GiB", "total; in `env_key` rounded up to 4 GiB"] = None
    os: Annotated[Text, "", "platform"] = None
    python: Annotated[Text, "", "version"] = None
    torch: Annotated[Text, "", "version"] = None
    torchvision: Annotated[Text, "", "version"] = None
    cuda: Annotated[Text, "", "version that torch was built with; empty without a GPU"] = None
    cudnn: Annotated[Text, "", "version"] = None
    nccl: Annotated[Text, "", "version"] = None
    driver: Annotated[Text, "", "NVIDIA driver"] = None
    backend: Annotated[Text, "", "`nccl` or `gloo`; empty for `single`"] = None
    loader_start_method: Annotated[Text, "", "of DataLoader workers"] = None
    tool_version: Annotated[Text, "", "stepbench's"] = None
    tool_commit: Annotated[Text, "", "of stepbench's checkout, where it is one"] = None
    work_commit: Annotated[Text, "", "of the checkout that `bench run` was called in"] = None
    work_dirty: Annotated[Bool, "", "true if tracked files there differ from the commit"] = None
    sources: Annotated[
        Text,
        "",
        "of a comparison of revisions: imported files of the user's repository, joined by `;`",
    ] = None
    settings: Annotated[
        Text,
        "",
        "JSON: NCCL_*, OMP_*, TORCH_*, CUDA_* and other variables that steer libraries",
    ] = None
    command: Annotated[Text, "", "the command line that gives this case again"] = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> LaunchRow:
        """The row that has these columns, and nothing in others. TypeError for a column that there is not."""
        return cls(**columns)

    def but(self, **columns: Any) -> LaunchRow:
        """The same row with other values in these columns."""
        return self._replace(**columns)

    def columns(self) -> dict[str, Any]:
        """All columns by name."""
        return self._asdict()


class Column(NamedTuple):
    """``kind``: text, int, float or bool. An empty cell means unknown, or without meaning for this row."""

    kind: str
    unit: str
    meaning: str


_KINDS = {str: "text", int: "int", float: "float", bool: "bool"}


def _of_fields(row: type) -> dict[str, Column]:
    """A column for each field of a row's class: ``Annotated[type, unit, meaning]``."""
    found = {}
    for name, hint in typing.get_type_hints(row, include_extras=True).items():
        unit, meaning = hint.__metadata__
        (kind,) = (one for one in typing.get_args(hint.__origin__) if one is not types.NoneType)
        found[name] = Column(_KINDS[kind], unit, meaning)
    return found


LAUNCHES = _of_fields(LaunchRow)
ENVIRONMENT = tuple(LAUNCHES)[tuple(LAUNCHES).index("work_key") :]  # the columns from there on

# What a device's memory is, the best known first: all that is used of it, then the allocator's pool, then tensors.
DEVICE_MEMORY = ("device_used_mib", "peak_reserved_mib", "peak_allocated_mib")
RANK_MEMORY = ("peak_rss_mib",)  # of the largest rank, where the device is the CPU
# The same with all that the rank has started, as far as it is known: DataLoader workers are what cases differ in.
HOST_MEMORY = ("peak_host_mib", *RANK_MEMORY)

STEPS = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "step": Column("int", "", "from 0, in the window"),
    "step_ms": Column("float", "ms", "of the slowest rank"),
    "step_min_ms": Column("float", "ms", "of the fastest rank"),
    "data_wait_ms": Column("float", "ms", "on the host, of the rank that waited most; a GPU may have had work"),
    "critical_rank": Column("int", "", "the rank with the most own time before its first collective"),
    "loss": Column("float", "loss", "mean over ranks"),
}

RANKS = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "rank": Column("int", "", "global"),
    "local_rank": Column("int", "", "on its host"),
    "host": Column("text", "", "its name"),
    "device_name": Column("text", "", "as its driver names it, or `cpu`"),
    "device_uuids": Column("text", "", "of its GPUs, joined by `;`"),
    "pid": Column("int", "", "process id"),
    "exit_code": Column("int", "", "negative for a signal; empty where it ended well or is not known"),
    "failure": Column("text", "", "its own last words, if it failed"),
    "num_threads": Column("int", "threads", "that PyTorch computed with, after the window"),
    "window_s": Column("float", "s", "wall time of its window"),
    "step_ms": Column("float", "ms", "median of its steps"),
    "data_wait_ms": Column("float", "ms", "mean, on the host"),
    "device_gap_ms": Column("float", "ms", "GPU: mean gap on the device"),
    "copy_ms": Column("float", "ms", "mean"),
    "forward_ms": Column("float", "ms", "mean"),
    "backward_ms": Column("float", "ms", "mean"),
    "optimizer_ms": Column("float", "ms", "mean"),
    **{
        name: LAUNCHES[name]._replace(meaning=LAUNCHES[name].meaning.replace("; largest rank", ""))
        for name in (*MEMORY, "peak_host_mib")
    },
}

DEVICES = {
    "run_id": LAUNCHES["run_id"],
    "launch_id": LAUNCHES["launch_id"],
    "device_uuid": Column("text", "", "of the GPU"),
    "time_s": Column("float", "s", "of the reading, from the launch's request"),
    "in_window": Column("bool", "", "true if it fell into the measured steps; empty if there were none"),
    "energy_j": Column("float", "J", "NVML's counter, since the driver was loaded"),
    "power_w": Column("float", "W", "the mean of the last second on most GPUs from Ampere on"),
    "memory_used_mib": Column("float", "MiB", "by all processes, without what the driver reserves"),
    "utilisation": Column("float", "share", "share of the last 1/6 to 1 s in which a kernel ran"),
    "sm_clock_mhz": Column("int", "MHz", "of the multiprocessors"),
    "temperature_c": Column("int", "°C", "of the GPU"),
    "throttled": Column("bool", "", "true if a reason lowered the clock against the will of the user"),
    "clock_reasons_mask": Column("int", "bits", "all bits of NVML's nvmlClocksEventReasons; 0 is none"),
    "processes": Column("int", "processes", "that compute on it; empty in readings that did not ask"),
}

FILES = {"launches.csv": LAUNCHES, "steps.csv": STEPS, "ranks.csv": RANKS, "devices.csv": DEVICES}

Row = dict[str, Any]  # of another file than launches.csv, or one that is not complete yet
