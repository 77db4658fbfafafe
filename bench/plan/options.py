"""Every axis and protocol setting: one literal table that the command line, suite files, cases and rows share; and the
keys of a matrix that are neither."""

from __future__ import annotations

import functools
import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.errors import UsageError, near
from bench.plan import duration
from bench.plan.strategies import STRATEGIES
from launch import LAUNCHERS, NUMA_BINDINGS
from workloads.data.paths import KINDS as PATH_KINDS

Value = str | int | float | bool | None
Number = TypeVar("Number", int, float)
AUTO = "auto"

# More than anybody has or can wait for; products of them stay within the 64 bits of a column, and what a rank keeps of
# each step within its memory. A seed is one that NumPy takes as well.
MOST_GPUS, MOST_SAMPLES, MOST_MICRO_BATCHES = 2**16, 2**30, 2**16
MOST_WORKERS, MOST_THREADS = 1024, 4096
MOST_STEPS, MOST_LAUNCHES = 1_000_000, 100_000
MOST_SECONDS, MOST_NORM, MOST_SEED = 1_000_000, 1_000_000_000, 2**32 - 1

DATA_KINDS = ("resident", "synthetic", *PATH_KINDS)
PRECISIONS = {
    "fp32": "float32 everywhere, TF32 off",
    "tf32": "float32 with TF32 matmuls and convolutions; CUDA only",
    "amp-bf16": "autocast to bfloat16, weights in float32; FSDP by its MixedPrecisionPolicy, reduced in float32",
    "amp-fp16": "the same with float16, and a GradScaler",
    "bf16": "all in bfloat16: parameters, gradients and optimizer state as well",
}
CHECKPOINTING = {
    "none": "keep all activations",
    "full": "recompute every layer in the backward pass (non-reentrant)",
    "selective": "recompute every layer, but keep what its matmuls, convolutions and attention gave",
    "every=N": "recompute every N-th layer",
}
COMPILE = {
    "off": "eager",
    "default": "torch.compile: the whole model; under fsdp layer by layer",
    "max-autotune": "the same, and kernels are chosen by trying them out (without CUDA graphs)",
}
OPTIMIZERS = {
    "adamw": "AdamW, fused, with GPT-3's hyperparameters",
    "sgd": "SGD with momentum 0.9 and weight decay, foreach; under amp-fp16 it waits for the device in each step",
}
SCALING = {
    "weak": "every number of devices has the batch size of the first: the global batch grows with the devices",
    "strong": "the global batch stays that of the smallest number of devices: each device has less",
}
MACHINES = {"gpu": "cuda", "cpu": "cpu"}  # machine = "gpu" in a suite: where ranks are on CUDA devices
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # no value has any, not even a path
# What the tool itself sets in a rank's environment, or must know before it plans.
RESERVED = {
    "OMP_NUM_THREADS": "use --omp-num-threads",
    "CUDA_VISIBLE_DEVICES": "set it for bench itself",
    **dict.fromkeys(("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), "the launcher sets it"),
    **dict.fromkeys(
        ("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE"), "the launcher sets it"
    ),
    **dict.fromkeys(("MASTER_ADDR", "MASTER_PORT", "PYTHONSAFEPATH", "TMPDIR"), "the launcher sets it"),
}
LEAST_WARMUP_STEPS = 3  # that ranks make before the window, whatever is asked for
ALIASES = {"checkpointing": "activation_checkpointing"}  # shorter names of axes
# --retry NAME -> the statuses that are launched again
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
    """An axis (of a case) or a setting (of the protocol). ``default`` None means: it depends, ``help`` says on what.

    ``default_text`` is for people, where the default as it would be typed says too little. ``most`` is the largest
    number that is allowed.
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
        return "--" + self.name.replace("_", "-")

    @property
    def shown_default(self) -> str:
        return self.default_text or show(self.default) or "it depends"

    def read(self, given: object, where: str) -> Value:
        """The value of what was given as text or in TOML; UsageError names ``where``, the value and what is allowed."""
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


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    allowed = list(names)

    def parse(text: str) -> str:
        if text not in allowed:
            raise NotAllowed(near(text, allowed))
        return text

    return parse


def _whole(minimum: int, most: int) -> Callable[[str], int]:
    return functools.partial(_number, int, minimum, most)


def _real(minimum: float, most: float) -> Callable[[str], float]:
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
        return "1.." + (last if (last := text.removeprefix("1..")) == "all" else str(_whole(1, MOST_GPUS)(last)))
    return _whole(1, MOST_GPUS)(text)


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise NotAllowed
    return text == "on"


def _data(text: str) -> str:
    kind, equals, path = text.partition("=")
    if kind not in DATA_KINDS:
        raise NotAllowed(near(kind, DATA_KINDS))
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
        raise NotAllowed("" if text == "every=N" else near(text, CHECKPOINTING))
    return text


def _batch_size(text: str) -> Value:
    return AUTO if text == AUTO else _whole(1, MOST_SAMPLES)(text)


def _environment(text: str) -> str:
    """One environment, ``NAME=VALUE`` words quoted as for a shell, as the same text with sorted names."""
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
            "a built-in name, file.py:Name or package.module:Name, each with :option=value",
            "resnet18",
            "what is trained; see `bench list workloads`",
        ),
        Option(
            "strategy",
            _strategy,
            _words(STRATEGIES) + ", each with :option=value",
            "ddp",
            "how it is spread over devices; see `bench list strategies`",
        ),
        Option(
            "gpus",
            _gpus,
            "a whole number from 1, all, 1..N, 1..all",
            None,
            "devices; ranks where the device is cpu; 1..N: 1, 2, 4 … and N (default: all GPUs, or 2 CPU ranks)",
            most=MOST_GPUS,
        ),
        Option("device", _one_of(("auto", "cuda", "cpu")), "auto, cuda, cpu", "auto", "auto is cuda if there is any"),
        Option("precision", _one_of(PRECISIONS), _words(PRECISIONS), "fp32", "of the computation"),
        Option(
            "activation_checkpointing",
            _checkpointing,
            _words(CHECKPOINTING),
            "none",
            "what the backward pass recomputes",
        ),
        Option("compile", _one_of(COMPILE), _words(COMPILE), "off", "torch.compile; each launch compiles anew"),
        Option(
            "batch_size",
            _batch_size,
            "a whole number from 1, or auto",
            None,
            "samples a device and micro-batch (default: the workload's); auto: as many as fit",
            most=MOST_SAMPLES,
        ),
        Option(
            "grad_accum_steps",
            _whole(1, MOST_MICRO_BATCHES),
            "a whole number from 1",
            1,
            "micro-batches a step; gradients are exchanged after the last",
            most=MOST_MICRO_BATCHES,
        ),
        Option(
            "max_grad_norm",
            _real(0, MOST_NORM),
            "a number from 0",
            0.0,
            "clips the norm of all gradients to this; 0: no clipping",
            most=MOST_NORM,
        ),
        Option("optimizer", _one_of(OPTIMIZERS), _words(OPTIMIZERS), "adamw", "what updates the parameters"),
        Option(
            "data",
            _data,
            "resident, synthetic, folder=PATH, text=PATH, mnist=PATH, criteo=PATH (PATH may be demo)",
            "resident",
            "resident: one batch that stays on the device; synthetic: made by the DataLoader; real files",
        ),
        Option(
            "num_workers",
            _whole(0, MOST_WORKERS),
            "a whole number from 0",
            2,
            "DataLoader processes a rank",
            most=MOST_WORKERS,
        ),
        Option("pin_memory", _on_off, "on, off", True, "page-locked batches (no effect on the CPU)"),
        Option(
            "prefetch_factor",
            _whole(1, MOST_WORKERS),
            "a whole number from 1",
            2,
            "batches ahead a DataLoader worker",
            most=MOST_WORKERS,
        ),
        Option("persistent_workers", _on_off, "on, off", True, "keep DataLoader workers from epoch to epoch"),
        Option(
            "omp_num_threads",
            _whole(1, MOST_THREADS),
            "a whole number from 1",
            1,
            "OpenMP threads of every rank",
            most=MOST_THREADS,
        ),
        Option(
            "seed",
            _whole(0, MOST_SEED),
            "a whole number from 0",
            0,
            "of weights and of the order of the data",
            most=MOST_SEED,
        ),
        Option(
            "channels_last",
            _on_off,
            "on, off",
            False,
            "images in NHWC order, and convolutions (under fsdp their activations alone)",
        ),
        Option(
            "deterministic", _on_off, "on, off", False, "torch's deterministic algorithms; turns cudnn-benchmark off"
        ),
        Option("cudnn_benchmark", _on_off, "on, off", True, "cuDNN picks its fastest kernel in warm-up (GPUs only)"),
        Option(
            "numa_binding",
            _one_of(("off", *NUMA_BINDINGS)),
            _words(("off", *NUMA_BINDINGS)),
            "off",
            "torchrun's: ranks stay on the processors beside their GPU (GPUs only)",
        ),
        Option(
            "env",
            _environment,
            "NAME=VALUE, or NAME=V1|V2 for an axis",
            "",
            "environment variables of the ranks; repeatable",
            "none",
        ),
    )
}

SETTINGS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "warmup_steps",
            _whole(0, MOST_STEPS),
            "a whole number from 0",
            5,
            "steps before the window; never fewer than 3, nor than drains the DataLoader's queues",
            most=MOST_STEPS,
        ),
        Option(
            "steps", _whole(2, MOST_STEPS), "a whole number from 2", 30, "measured steps: the window", most=MOST_STEPS
        ),
        Option(
            "min_seconds",
            _real(0, MOST_SECONDS),
            "a number from 0",
            0.0,
            "lengthens a window that is shorter",
            most=MOST_SECONDS,
        ),
        Option(
            "max_seconds",
            _real(0, MOST_SECONDS),
            "a number from 0",
            0.0,
            "a window that would take longer has fewer steps, but two; 0: no limit",
            most=MOST_SECONDS,
        ),
        Option(
            "launches",
            _whole(1, MOST_LAUNCHES),
            "a whole number from 1",
            3,
            "fresh starts of every case",
            most=MOST_LAUNCHES,
        ),
        Option(
            "timeout", _real(1, MOST_SECONDS), "seconds from 1", 600.0, "seconds a launch may take", most=MOST_SECONDS
        ),
        Option(
            "hang_timeout",
            _real(1, MOST_SECONDS),
            "seconds from 1",
            60.0,
            "seconds without a step that end a launch (or 10 times its slowest step; before the first, 5 times this)",
            most=MOST_SECONDS,
        ),
        Option("launcher", _one_of(LAUNCHERS), _words(LAUNCHERS), "server", "who starts the ranks"),
        Option(
            "order_seed",
            _whole(0, MOST_SEED),
            "a whole number from 0",
            0,
            "of the order of the cases, which is another in each round",
            most=MOST_SEED,
        ),
        Option(
            "budget",
            _budget,
            duration.ALLOWED,
            None,
            "as many rounds as fit into this time, the first always; launches, if given with it, is the most",
            "none",
            most=MOST_SECONDS,
        ),
    )
}

# Keys of a matrix that are no axes: they choose cases, and no case has them.
SELECTORS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("scaling", _one_of(SCALING), _words(SCALING), "weak", "which batch each number of --gpus gets"),
        Option("machine", _one_of(MACHINES), _words(MACHINES), None, "a matrix for machines with GPUs, or without"),
    )
}

_NEXT_DATA = re.compile(rf",(?=(?:resident|synthetic)(?:,|$)|(?:{'|'.join(PATH_KINDS)})=)")


def split_list(name: str, text: str) -> list[str]:
    """The values of a comma list. A comma inside a path of ``--data`` splits nothing unless a kind follows it."""
    return _NEXT_DATA.split(text) if name == "data" else text.split(",")


def read_axis(name: str, given: Sequence[object], where: str) -> list[Value]:
    """The values of an axis or selector, given in a list; for ``env`` the product of all its variables' values."""
    option = {**AXES, **SELECTORS}[name]
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


def show(value: Value) -> str:
    """A value as it stands on the command line, in a row and in a case's id."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)
