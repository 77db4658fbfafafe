"""The table of axes, settings and selectors that the command line, suite files, cases and rows share."""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.errors import UsageError, did_you_mean
from bench.plan import duration
from bench.plan.optimizers import HOW, OPTIMIZERS, optimizer_spec
from bench.plan.strategies import STRATEGIES
from launch import LAUNCHERS, NUMA_BINDINGS
from workloads.data.paths import KINDS as PATH_KINDS

Value = str | int | float | bool | None
Number = TypeVar("Number", int, float)
AUTO = "auto"

# Upper limits, above anything that is practical: their products fit into the 64 bits of a column, and the records of
# each step into a rank's memory. The limit of seeds is NumPy's.
MOST_GPUS, MOST_SAMPLES, MOST_MICRO_BATCHES = 2**16, 2**30, 2**16
MOST_WORKERS, MOST_THREADS = 1024, 4096
MOST_STEPS, MOST_LAUNCHES = 1_000_000, 100_000
MOST_SECONDS, MOST_NORM, MOST_SEED = 1_000_000, 1_000_000_000, 2**32 - 1

DATA_KINDS = ("resident", "synthetic", *PATH_KINDS)
PRECISIONS = {
    "fp32": "float32 everywhere, TF32 off",
    "tf32": "float32 with TF32 matmuls and convolutions; CUDA only",
    "amp-bf16": "autocast to bfloat16, weights in float32; FSDP by its MixedPrecisionPolicy, reduced in float32",
    "amp-fp16": "like amp-bf16 with float16, and a GradScaler",
    "bf16": "bfloat16 everywhere: also parameters, gradients and optimizer state",
    "fp8": "like amp-bf16, and the Linear modules of the layers multiply float8 with one scale a tensor (torchao)",
    "fp8-rowwise": "like fp8, with one scale for each row and column",
}
CHECKPOINTING = {
    "none": "keep all activations",
    "full": "recompute every layer in the backward pass (non-reentrant)",
    "selective": "recompute every layer, but keep the outputs of its matmuls, convolutions and attention",
    "every=N": "recompute every N-th layer",
}
COMPILE = {
    "off": "eager execution",
    "default": "torch.compile of what --compile-scope says",
    "max-autotune": "like default, with kernels chosen by measurement (without CUDA graphs)",
}
COMPILE_SCOPES = {
    "model": "the whole model",
    "block": "each layer of layers(model) by itself, so that equal layers are compiled once",
}
ATTENTION = {
    "auto": "the kernel that PyTorch chooses",
    "flash": "FlashAttention",
    "efficient": "memory-efficient attention; GPUs only",
    "cudnn": "cuDNN's; GPUs only",
    "math": "matrix products and a softmax",
}
ACTIVATION_OFFLOAD = {
    "none": "activations stay where they were computed",
    "cpu": "activations wait for the backward pass in page-locked memory of the host; GPUs only",
}
SAVING = {
    "none": "nothing is saved",
    "full": "the whole state is gathered, and written by torch.save",
    "dcp": "each rank writes its part, by torch.distributed.checkpoint",
    "dcp-async": "like dcp, from a copy of the state and while training goes on",
}
FLOAT8 = ("fp8", "fp8-rowwise")
SCHEDULERS = {
    "none": "a constant learning rate",
    "cosine": "cosine annealing over 10,000 steps",
    "linear": "linear to a tenth over 10,000 steps",
}
INIT = {
    "cpu": "every rank builds the whole model on the host",
    "device": "every rank builds the whole model on its device, with the device's random numbers",
    "meta": "under fsdp: rank 0 builds the model on the host, and each rank gets its shards from it",
}
SCALING = {
    "weak": "the batch size per device stays the same: the global batch grows with the number of devices",
    "strong": "the global batch stays that of the smallest number of devices: the batch per device shrinks",
}
PLACEMENTS = {
    "pack": "node 0 is filled first, and a launch uses no more nodes than it needs",
    "even": "every node has the same number of ranks",
}
TRACES, ABLATION = "traces", "ablation"
PROFILES = {
    "off": "nothing",
    "on": "by torch's profiler, or by ablation where it does not see what computes",
    TRACES: "like on, and the Chrome trace of each rank is kept beside its log",
    ABLATION: "by the difference to steps without their collectives",
}
MATMUL_PEAK = {
    "on": "measured once for each device, type and number of threads, in a few seconds, and stored",
    "again": "measured again, and stored in place of the earlier one",
    "off": "neither measured nor used",
}
MACHINES = {"gpu": "cuda", "cpu": "cpu"}  # machine = "gpu" in a suite: ranks compute on CUDA devices.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # Control characters, which no value may contain.
# Variables that stepbench itself sets for ranks, or must know before it plans.
RESERVED = {
    "OMP_NUM_THREADS": "use --omp-num-threads",
    "CUDA_VISIBLE_DEVICES": "set it for bench itself",
    **dict.fromkeys(("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), "the launcher sets it"),
    **dict.fromkeys(
        ("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE"), "the launcher sets it"
    ),
    **dict.fromkeys(("MASTER_ADDR", "MASTER_PORT", "PYTHONSAFEPATH", "TMPDIR"), "the launcher sets it"),
}
LOADER_AXES = ("num_workers", "pin_memory", "prefetch_factor", "persistent_workers")  # Of the DataLoader.
LEAST_WARMUP_STEPS = 3  # Ranks make at least this many steps before the window.
# Other names of options.
ALIASES = {"checkpointing": "activation_checkpointing", "count": "count_work", "spread": "placement"}
# Words of --retry, with the statuses whose launches are repeated.
RETRY = {
    "failed": ("crashed", "invalid"),
    "oom": ("oom",),
    "timeout": ("timeout",),
    "all": ("crashed", "invalid", "oom", "timeout", "skipped"),
}


class NotAllowed(ValueError):  # noqa: N818
    """A text that an option does not allow; its message is a hint for the user, or empty."""


@dataclass(frozen=True)
class Option:
    """An axis of a case, a setting of the protocol, or a selector.

    ``default``: None if the default depends on something that ``help`` names. ``default_text``: the default as users
    see it, where its value says too little. ``most``: the largest number that is allowed.
    """

    name: str
    parse: Callable[[str], Value]
    allowed: str
    default: Value
    help: str
    default_text: str = ""
    most: float | None = None

    @property
    def flag(self) -> str:
        """The option's name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default as users see it."""
        return self.default_text or show(self.default) or "it depends"

    def read(self, given: object, where: str) -> Value:
        """Return the value of a text or a TOML value; UsageError, with the option ``where``, if it is not allowed."""
        try:
            text = ("on" if given else "off") if isinstance(given, bool) else str(given).strip()
            if not isinstance(given, (str, int, float)) or CONTROL.search(text):
                raise NotAllowed
            return self.parse(text)
        except UsageError as error:
            raise error.at(where) from None
        except ValueError as error:  # Also of str(), which refuses to write a number of thousands of digits.
            hint = str(error) if isinstance(error, NotAllowed) else None
            raise UsageError(option=where, given=given, allowed=self.allowed, hint=hint) from None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a parser of one of some names."""
    allowed = list(names)

    def parse(text: str) -> str:
        if text not in allowed:
            raise NotAllowed(did_you_mean(text, allowed))
        return text

    return parse


def whole(minimum: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers."""
    return functools.partial(_number, int, minimum, most)


def real(minimum: float, most: float) -> Callable[[str], float]:
    """Return a parser of numbers."""
    return functools.partial(_number, float, minimum, most)


def _number(kind: type[Number], minimum: float, most: float, text: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        raise NotAllowed from None
    if minimum <= value <= most:
        return value
    raise NotAllowed(f"At most {most:,}." if most < value < math.inf else "")


def _gpus(text: str) -> Value:
    if text == "all":
        return text
    if text.startswith("1.."):
        return "1.." + (last if (last := text.removeprefix("1..")) == "all" else str(whole(1, MOST_GPUS)(last)))
    return whole(1, MOST_GPUS)(text)


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise NotAllowed
    return text == "on"


def _data(text: str) -> str:
    kind, equals, path = text.partition("=")
    if kind not in DATA_KINDS:
        raise NotAllowed(did_you_mean(kind, DATA_KINDS))
    if not path if kind in PATH_KINDS else equals:
        raise NotAllowed(f"{kind} takes {'a path' if kind in PATH_KINDS else 'no path'}.")
    return text


def _workload(text: str) -> str:
    from bench.plan.workload_spec import parse_workload

    return parse_workload(text).spec


def _strategy(text: str) -> str:
    from bench.plan.strategy_spec import parse_strategy

    return parse_strategy(text).spec


def _checkpointing(text: str) -> str:
    every, _, count = text.partition("every=")
    if every == "" and count.isascii() and count.isdecimal() and len(count) <= 40 and int(count):
        return "full" if int(count) == 1 else f"every={int(count)}"
    if text == "every=N" or text not in CHECKPOINTING:
        raise NotAllowed("" if text == "every=N" else did_you_mean(text, CHECKPOINTING))
    return text


def _batch_size(text: str) -> Value:
    return AUTO if text == AUTO else whole(1, MOST_SAMPLES)(text)


def _environment(text: str) -> str:
    """Parse ``NAME=VALUE`` words, quoted as for a shell, and return the same text with sorted names."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise NotAllowed from None
    pairs = dict(_variable(word) for word in words)
    return shlex.join(f"{name}={value}" for name, value in sorted(pairs.items()))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not value.isprintable():
        raise NotAllowed
    if name in RESERVED:
        raise NotAllowed(f"{name} cannot be set here: {RESERVED[name]}.")
    return name, value


def _save_dir(text: str) -> str:
    if not text:
        raise NotAllowed
    return os.path.abspath(text)


def _budget(text: str) -> float:
    if (seconds := duration.seconds(text)) > MOST_SECONDS:
        raise NotAllowed(f"At most {MOST_SECONDS:,} s.")
    return seconds


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)


AXES: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "workload",
            _workload,
            "a built-in name, file.py:Name or package.module:Name, each with :option=value; script=FILE or module=NAME",
            "resnet18",
            "model and data to train; see `bench list workloads`",
        ),
        Option(
            "args",
            str,
            "a text, quoted as for a shell; {batch_size} and other axes in braces stand for their values",
            "",
            "arguments of a script; repeatable, as an axis",
            "none",
        ),
        Option(
            "strategy",
            _strategy,
            _words(STRATEGIES) + ", each with :option=value",
            "ddp",
            "parallelism over the devices; see `bench list strategies`; `script`: a script decides itself",
        ),
        Option(
            "gpus",
            _gpus,
            "a whole number from 1, all, 1..N, 1..all",
            None,
            "number of GPUs, or of CPU ranks; 1..N: 1, 2, 4 … and N (default: all GPUs, or 2 CPU ranks)",
            most=MOST_GPUS,
        ),
        Option(
            "device",
            one_of(("auto", "cuda", "cpu")),
            "auto, cuda, cpu",
            "auto",
            "device type; auto: cuda if there is a GPU",
        ),
        Option("precision", one_of(PRECISIONS), _words(PRECISIONS), "fp32", "precision of the computation"),
        Option(
            "activation_checkpointing",
            _checkpointing,
            _words(CHECKPOINTING),
            "none",
            "activations that the backward pass recomputes",
        ),
        Option(
            "activation_offload",
            one_of(ACTIVATION_OFFLOAD),
            _words(ACTIVATION_OFFLOAD),
            "none",
            "where activations wait for the backward pass",
        ),
        Option("attention", one_of(ATTENTION), _words(ATTENTION), "auto", "kernel of scaled_dot_product_attention"),
        Option("compile", one_of(COMPILE), _words(COMPILE), "off", "mode of torch.compile; each launch compiles again"),
        Option(
            "compile_scope",
            one_of(COMPILE_SCOPES),
            _words(COMPILE_SCOPES),
            None,
            "what torch.compile compiles by itself (default: block under fsdp, else model)",
        ),
        Option(
            "batch_size",
            _batch_size,
            "a whole number from 1, or auto",
            None,
            "samples per device and micro-batch (default: the workload's own); auto: the largest that fits",
            most=MOST_SAMPLES,
        ),
        Option(
            "grad_accum_steps",
            whole(1, MOST_MICRO_BATCHES),
            "a whole number from 1",
            1,
            "micro-batches per step; gradients are reduced after the last one",
            most=MOST_MICRO_BATCHES,
        ),
        Option(
            "max_grad_norm",
            real(0, MOST_NORM),
            "a number from 0",
            0.0,
            "maximum norm of all gradients, by clipping; 0: no clipping",
            most=MOST_NORM,
        ),
        Option(
            "optimizer",
            optimizer_spec,
            _words(OPTIMIZERS) + ", each with :" + ", :".join(HOW),
            "adamw",
            "optimizer of the parameters, and how its update is computed",
        ),
        Option(
            "lr_scheduler",
            one_of(SCHEDULERS),
            _words(SCHEDULERS),
            "none",
            "schedule of the learning rate, which changes after each step",
        ),
        Option(
            "init",
            one_of(INIT),
            _words(INIT),
            "cpu",
            "where the model gets its first weights",
        ),
        Option(
            "data",
            _data,
            "resident, synthetic, folder=PATH, text=PATH, mnist=PATH, criteo=PATH (PATH may be demo)",
            "resident",
            "training data; resident: one batch, kept on the device; synthetic: made by the DataLoader; else files",
        ),
        Option(
            "num_workers",
            whole(0, MOST_WORKERS),
            "a whole number from 0",
            2,
            "DataLoader workers per rank",
            most=MOST_WORKERS,
        ),
        Option("pin_memory", _on_off, "on, off", True, "page-locked memory for batches (no effect on the CPU)"),
        Option(
            "prefetch_factor",
            whole(1, MOST_WORKERS),
            "a whole number from 1",
            2,
            "batches that each DataLoader worker loads in advance",
            most=MOST_WORKERS,
        ),
        Option("persistent_workers", _on_off, "on, off", True, "DataLoader workers stay alive between epochs"),
        Option(
            "omp_num_threads",
            whole(1, MOST_THREADS),
            "a whole number from 1",
            1,
            "OpenMP threads per rank",
            most=MOST_THREADS,
        ),
        Option(
            "seed",
            whole(0, MOST_SEED),
            "a whole number from 0",
            0,
            "seed of the weights and of the order of the data",
            most=MOST_SEED,
        ),
        Option(
            "channels_last",
            _on_off,
            "on, off",
            False,
            "NHWC memory format of images and convolutions (under fsdp of activations only)",
        ),
        Option(
            "deterministic", _on_off, "on, off", False, "PyTorch's deterministic algorithms; turns cudnn-benchmark off"
        ),
        Option(
            "cudnn_benchmark",
            _on_off,
            "on, off",
            True,
            "cuDNN measures its kernels in warm-up and uses the fastest (GPUs only)",
        ),
        Option(
            "numa_binding",
            one_of(("off", *NUMA_BINDINGS)),
            _words(("off", *NUMA_BINDINGS)),
            "off",
            "torchrun's NUMA binding of ranks to the processors close to their GPU (GPUs only)",
        ),
        Option("placement", one_of(PLACEMENTS), _words(PLACEMENTS), "pack", "which of several nodes have the ranks"),
        Option(
            "save_checkpoint",
            one_of(SAVING),
            _words(SAVING),
            "none",
            "way to save parameters and optimizer state, which is timed after the window",
        ),
        Option(
            "env",
            _environment,
            "NAME=VALUE, or NAME=V1|V2 for an axis",
            "",
            "environment variable of the ranks; repeatable",
            "none",
        ),
    )
}

SETTINGS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "warmup_steps",
            whole(0, MOST_STEPS),
            "a whole number from 0",
            5,
            "steps before the window; at least 3, and enough to empty the DataLoader's queues",
            most=MOST_STEPS,
        ),
        Option(
            "steps",
            whole(2, MOST_STEPS),
            "a whole number from 2",
            30,
            "measured steps, which form the window",
            most=MOST_STEPS,
        ),
        Option(
            "min_seconds",
            real(0, MOST_SECONDS),
            "a number from 0",
            0.0,
            "minimum length of the window in seconds; steps are added to reach it",
            most=MOST_SECONDS,
        ),
        Option(
            "max_seconds",
            real(0, MOST_SECONDS),
            "a number from 0",
            0.0,
            "maximum length of the window in seconds, by fewer steps, at least 2; 0: no limit",
            most=MOST_SECONDS,
        ),
        Option(
            "launches",
            whole(1, MOST_LAUNCHES),
            "a whole number from 1",
            3,
            "launches per case, each with new processes",
            most=MOST_LAUNCHES,
        ),
        Option(
            "timeout",
            real(1, MOST_SECONDS),
            "seconds from 1",
            600.0,
            "maximum duration of a launch in seconds",
            most=MOST_SECONDS,
        ),
        Option(
            "hang_timeout",
            real(1, MOST_SECONDS),
            "seconds from 1",
            60.0,
            "seconds without a step that end a launch (or 10 times its slowest step; 5 times this before the first)",
            most=MOST_SECONDS,
        ),
        Option("launcher", one_of(LAUNCHERS), _words(LAUNCHERS), "server", "program that starts the ranks"),
        Option(
            "samples_per_step",
            whole(1, MOST_SAMPLES),
            "a whole number from 1",
            None,
            "samples of a step of a script over all ranks, where no DataLoader tells",
            "as read by its DataLoaders",
            most=MOST_SAMPLES,
        ),
        Option(
            "count_flops",
            _on_off,
            "on, off",
            False,
            "count the FLOPs of a script in its warm-up (those of a workload are always counted)",
        ),
        Option(
            "count_work",
            _on_off,
            "on, off",
            True,
            "count the work of one more step after the window: operations, bytes, collectives, memory by kind",
        ),
        Option(
            "profile",
            one_of(PROFILES),
            _words(PROFILES),
            "off",
            "find how much of a step waits for communication, by a few more steps after the window",
        ),
        Option(
            "stragglers",
            _on_off,
            "on, off",
            True,
            "find the slow rank also where all wait for it in the forward pass, by a few more steps after the window",
        ),
        Option(
            "save_dir",
            _save_dir,
            "a folder, which all ranks must reach",
            None,
            "where --save-checkpoint saves (default: beside the log of the launch); what it saved is removed",
        ),
        Option(
            "save_interval",
            whole(1, MOST_STEPS),
            "a whole number from 1",
            500,
            "steps between two saves, which goodput is for",
            most=MOST_STEPS,
        ),
        Option(
            "matmul_peak",
            one_of(MATMUL_PEAK),
            _words(MATMUL_PEAK),
            "on",
            "rate of the fastest matrix products of a rank, which mfu_achievable is a share of",
        ),
        Option(
            "order_seed",
            whole(0, MOST_SEED),
            "a whole number from 0",
            0,
            "seed of the order of the cases, which differs in each round",
            most=MOST_SEED,
        ),
        Option(
            "budget",
            _budget,
            duration.ALLOWED,
            None,
            "time for all rounds, of which the first always runs; launches, if given too, is their maximum",
            "none",
            most=MOST_SECONDS,
        ),
    )
}

# Keys of a matrix that choose cases and are not part of any case.
SELECTORS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("scaling", one_of(SCALING), _words(SCALING), "weak", "batch size for each number of --gpus"),
        Option(
            "machine",
            one_of(MACHINES),
            _words(MACHINES),
            None,
            "kind of machine that a matrix is for: with GPUs, or without",
        ),
    )
}

FAKE_RANKS = Option(
    "fake_ranks",
    whole(2, MOST_GPUS),
    f"a whole number from 2 to {MOST_GPUS}",
    None,
    "in place of --gpus: count collectives and memory of rank 0 of so many, with one process on the CPU",
)
KEYS = {**AXES, **SELECTORS, FAKE_RANKS.name: FAKE_RANKS}  # The keys of a matrix.

_NEXT_DATA = re.compile(rf",(?=(?:resident|synthetic)(?:,|$)|(?:{'|'.join(PATH_KINDS)})=)")


def split_list(name: str, text: str) -> list[str]:
    """Split a comma-separated list; for ``data`` only at commas that a kind of data follows, as paths have commas.

    ``env`` and ``args`` are no lists.
    """
    if name in ("env", "args"):
        return [text]
    return _NEXT_DATA.split(text) if name == "data" else text.split(",")


def read_axis(name: str, given: Sequence[object], where: str) -> list[Value]:
    """Return the values of an axis or selector; for ``env`` the product of the values of all variables."""
    option = KEYS[name]
    if name != "env":
        return [option.read(value, where) for value in given]
    variables = [_alternatives(item, where) for item in given]
    repeated = {name for name, _ in variables if [n for n, _ in variables].count(name) > 1}
    if repeated:
        name = min(repeated)
        raise UsageError(
            f"{where}: {name} is given twice",
            option=where,
            given=list(given),
            hint=f"Give its values together: {name}=V1|V2.",
        )
    points = itertools.product(*([f"{name}={value}" for value in values] for name, values in variables))
    return [option.read(shlex.join(point), where) for point in points]


def _alternatives(given: object, where: str) -> tuple[str, list[str]]:
    if not isinstance(given, str) or "=" not in given:
        raise UsageError(option=where, given=given, allowed=AXES["env"].allowed)
    name, _, values = given.partition("=")
    return name, values.split("|")


def arithmetic(precision: str) -> str:
    """Return what most matrix products are in with a value of ``--precision``: fp32, tf32, fp16, bf16 or fp8."""
    return "fp8" if precision in FLOAT8 else precision.removeprefix("amp-")


def effective(column: str, value: Value) -> Value:
    """Return a row's value of a column, the default of an axis where it has none.

    Rows of versions that did not have an axis yet are then like later ones, as they are by their ``case_id``.
    """
    return AXES[column].default if value is None and column in AXES else value


def show(value: Value) -> str:
    """Return a value as text: as on the command line, in a row and in a case's id."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)
