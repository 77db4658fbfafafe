"""Every axis and protocol setting: one literal table that the command line, suite files, cases and rows share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.errors import UsageError, near
from bench.strategies import STRATEGIES
from launch import LAUNCHERS

Value = str | int | float | bool | None

DATA_KINDS = ("resident", "synthetic", "folder", "text")
PRECISIONS = {
    "fp32": "float32 everywhere, TF32 off",
    "amp-bf16": "autocast to bfloat16, weights in float32; FSDP by its MixedPrecisionPolicy, reduced in float32",
}
CHECKPOINTING = {
    "none": "keep all activations",
    "full": "recompute every layer in the backward pass (non-reentrant)",
}


@dataclass(frozen=True)
class Option:
    """An axis (of a case) or a setting (of the protocol). ``default`` None means: it depends, ``help`` says on what."""

    name: str
    parse: Callable[[str], Value]
    allowed: str
    default: Value
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def read(self, given: object, where: str) -> Value:
        """The value of what was given as text or in TOML; UsageError names ``where``, the value and what is allowed."""
        text = {True: "on", False: "off"}.get(given) if isinstance(given, bool) else str(given)
        if isinstance(given, (str, int, float)) and text is not None:
            try:
                return self.parse(text.strip())
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
            except ValueError as error:
                raise UsageError(f"{where}: got {given!r}; allowed: {self.allowed}.{error}") from None
        raise UsageError(f"{where}: got {given!r}; allowed: {self.allowed}.")


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    allowed = list(names)

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(near(text, allowed))
        return text

    return parse


def _number(kind: type[int] | type[float], minimum: float) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError("") from None
        if not minimum <= value < math.inf:
            raise ValueError("")
        return value

    return parse


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("")
    return text == "on"


def _data(text: str) -> str:
    kind, equals, path = text.partition("=")
    if kind not in DATA_KINDS:
        raise ValueError(near(kind, DATA_KINDS))
    if not path if kind in ("folder", "text") else equals:
        raise ValueError(f" {kind} takes {'a path' if kind in ('folder', 'text') else 'no path'}.")
    return text


def _workload(text: str) -> str:
    from bench.workload import parse_workload

    return parse_workload(text).spec


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
        Option("strategy", _one_of(STRATEGIES), _words(STRATEGIES), "ddp", "how it is spread over devices"),
        Option(
            "gpus",
            _number(int, 1),
            "a whole number from 1",
            None,
            "devices; ranks where the device is cpu (default: all GPUs, or 2 CPU ranks)",
        ),
        Option("device", _one_of(("auto", "cuda", "cpu")), "auto, cuda, cpu", "auto", "auto is cuda if there is any"),
        Option("precision", _one_of(PRECISIONS), _words(PRECISIONS), "fp32", "of the computation"),
        Option(
            "activation_checkpointing",
            _one_of(CHECKPOINTING),
            _words(CHECKPOINTING),
            "none",
            "what the backward pass recomputes",
        ),
        Option(
            "batch_size",
            _number(int, 1),
            "a whole number from 1",
            None,
            "samples a device and step (default: the workload's)",
        ),
        Option(
            "data",
            _data,
            "resident, synthetic, folder=PATH, text=PATH (PATH may be demo)",
            "resident",
            "resident: one batch that stays on the device; synthetic: made by the DataLoader; real files",
        ),
        Option("num_workers", _number(int, 0), "a whole number from 0", 2, "DataLoader processes a rank"),
        Option("pin_memory", _on_off, "on, off", True, "page-locked batches (no effect on the CPU)"),
        Option("prefetch_factor", _number(int, 1), "a whole number from 1", 2, "batches ahead a DataLoader worker"),
        Option("persistent_workers", _on_off, "on, off", True, "keep DataLoader workers from epoch to epoch"),
        Option("omp_num_threads", _number(int, 1), "a whole number from 1", 1, "OpenMP threads of every rank"),
        Option("seed", _number(int, 0), "a whole number from 0", 0, "of weights and of the order of the data"),
    )
}

SETTINGS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "warmup_steps",
            _number(int, 0),
            "a whole number from 0",
            5,
            "steps before the window; never fewer than 3, nor than drains the DataLoader's queues",
        ),
        Option("steps", _number(int, 2), "a whole number from 2", 30, "measured steps: the window"),
        Option("min_seconds", _number(float, 0), "a number from 0", 0.0, "lengthens a window that is shorter"),
        Option("launches", _number(int, 1), "a whole number from 1", 3, "fresh starts of every case"),
        Option("timeout", _number(float, 1), "seconds from 1", 600.0, "seconds a launch may take"),
        Option("launcher", _one_of(LAUNCHERS), _words(LAUNCHERS), "server", "who starts the ranks"),
    )
}

_NEXT_DATA = re.compile(r",(?=(?:resident|synthetic)(?:,|$)|(?:folder|text)=)")


def split_list(name: str, text: str) -> list[str]:
    """The values of a comma list. A comma inside a path of ``--data`` splits nothing unless a kind follows it."""
    return _NEXT_DATA.split(text) if name == "data" else text.split(",")


def show(value: Value) -> str:
    """A value as it stands on the command line, in a row and in a case's id."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)
