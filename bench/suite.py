"""From what was asked, as options or in a suite file, to the plan: cases, in order, and the reasons of those that
cannot run. No torch."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.devices import Machine
from bench.environment import compiler_lacks, numactl
from bench.errors import UsageError, near
from bench.inputs import check_inputs
from bench.messages import Description
from bench.options import AUTO, AXES, SETTINGS, Value, read_axis, show, split_list
from bench.rules import Facts, refusal
from bench.strategies import STRATEGIES
from bench.strategy import StrategySpec, parse_strategy
from bench.workload import parse_workload

SUITES = Path(__file__).parent / "suites"
LOADER_AXES = ("num_workers", "pin_memory", "prefetch_factor", "persistent_workers")
GPU_AXES = ("pin_memory", "cudnn_benchmark", "numa_binding")
DEFAULT_CPU_RANKS = 2

Axes = dict[str, list[Value]]


@dataclass(frozen=True)
class Protocol:
    """How each case is measured; see SETTINGS for the meaning of each field."""

    warmup_steps: int
    steps: int
    min_seconds: float
    launches: int
    timeout: float
    hang_timeout: float
    launcher: str


@dataclass(frozen=True)
class Asked:
    """What a person asked for, each value checked by itself. ``matrices`` are products; their cases are joined."""

    matrices: tuple[Axes, ...] = ({},)
    settings: Mapping[str, Value] = field(default_factory=dict)
    oversubscribe: bool = False


@dataclass(frozen=True)
class Planned:
    """A case, and why it cannot run (None if it can). ``samples`` in its data, where known."""

    case: Case
    skip: str | None
    samples: int | None


@dataclass(frozen=True)
class Plan:
    cases: tuple[Planned, ...]
    protocol: Protocol
    asked: Asked


def asked(
    axes: Mapping[str, Sequence[str]],
    settings: Mapping[str, str],
    base: Asked | None = None,
    oversubscribe: bool = False,
) -> Asked:
    """What the command line says, over what a suite or an earlier run says where there is one."""
    base = base or Asked()
    given: Axes = {
        name: read_axis(name, [value for text in texts for value in _split(name, text)], AXES[name].flag)
        for name, texts in axes.items()
    }
    own = {name: SETTINGS[name].read(text, SETTINGS[name].flag) for name, text in settings.items()}
    return Asked(
        matrices=tuple({**matrix, **given} for matrix in base.matrices),
        settings={**base.settings, **own},
        oversubscribe=oversubscribe or base.oversubscribe,
    )


def _split(name: str, text: str) -> list[str]:
    return [text] if name == "env" else split_list(name, text)


def suites() -> dict[str, str]:
    """The built-in suites: name -> what question each answers (the first comment of its file)."""
    return {file.stem: file.read_text().partition("\n")[0].lstrip("# ") for file in sorted(SUITES.glob("*.toml"))}


def read_suite(name: str) -> Asked:
    """A built-in suite by name or a file by path. UsageError names file, key, what was given and what is allowed."""
    file = SUITES / f"{name}.toml" if name in suites() else Path(name)
    if not file.is_file():
        raise UsageError(
            f"--suite {name}: no such suite or file; built in: {', '.join(suites())}.{near(name, suites())}"
        )
    try:
        content = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not a TOML file: {error}") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot read it: {error.strerror}") from None
    _known(content, ("protocol", "matrix"), str(file))
    matrices, protocol = content.get("matrix", []), content.get("protocol", {})
    if not isinstance(matrices, list) or not all(isinstance(matrix, dict) for matrix in matrices) or not matrices:
        raise UsageError(f"{file}: matrix: got {matrices!r}; allowed: one [[matrix]] table or more.")
    if not isinstance(protocol, dict):
        raise UsageError(f"{file}: protocol: got {protocol!r}; allowed: a [protocol] table.")
    _known(protocol, SETTINGS, f"{file}: protocol")
    return Asked(
        matrices=tuple(_matrix(matrix, f"{file}: matrix[{i}]") for i, matrix in enumerate(matrices)),
        settings={name: SETTINGS[name].read(value, f"{file}: protocol.{name}") for name, value in protocol.items()},
    )


def _matrix(matrix: Mapping[str, Any], where: str) -> Axes:
    _known(matrix, AXES, where)
    axes: Axes = {}
    for name, given in matrix.items():
        values = given if isinstance(given, list) else [given]
        if not values:
            raise UsageError(f"{where}.{name}: got an empty list; allowed: {AXES[name].allowed}.")
        axes[name] = read_axis(name, values, f"{where}.{name}")
    return axes


def _known(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    for name in given:
        if name not in (names := list(allowed)):
            raise UsageError(f"{where}: unknown key {name!r}; allowed: {', '.join(names)}.{near(name, names)}")


def make_plan(asked: Asked, machine: Machine) -> Plan:
    """All cases, equal ones once, in the order of the matrix. UsageError for what no machine of this kind can do."""
    protocol = Protocol(**{**{name: option.default for name, option in SETTINGS.items()}, **asked.settings})  # type: ignore[arg-type]
    cases = dict.fromkeys(case for matrix in asked.matrices for case in _cases(matrix, machine, asked.oversubscribe))
    _check_effects(asked.matrices, list(cases))
    planned = []
    for case in cases:
        samples = check_inputs(case)
        planned.append(Planned(case, refusal(case, facts(machine, samples)), samples))
    return Plan(tuple(planned), protocol, asked)


def facts(machine: Machine, samples: int | None, description: Description | None = None) -> Facts:
    """What the rules may look at, here and now."""
    return Facts(machine, samples, description, compiler_lacks(), numactl())


def _cases(matrix: Axes, machine: Machine, oversubscribe: bool) -> list[Case]:
    values = {name: matrix.get(name, [option.default]) for name, option in AXES.items()}
    return [
        make_case(dict(zip(values, point, strict=True)), machine, oversubscribe)
        for point in itertools.product(*values.values())
    ]


def _check_effects(matrices: Sequence[Axes], cases: Sequence[Case]) -> None:
    """UsageError for an option that was given and changes nothing anywhere."""
    for name in dict.fromkeys((*LOADER_AXES, *GPU_AXES, "channels_last")):
        if any(name in matrix for matrix in matrices) and all(getattr(case, name) is None for case in cases):
            raise UsageError(_without_effect(name, cases))


def make_case(values: Mapping[str, Any], machine: Machine, oversubscribe: bool = False) -> Case:
    """A case from a value for every axis: defaults of this machine filled in, axes without effect emptied."""
    given = dict(values)
    spread = parse_strategy(given["strategy"])
    if given["device"] == "auto":
        given["device"] = "cuda" if machine.gpus or given["gpus"] is not None else "cpu"
    cuda = given["device"] == "cuda"
    if spread.name == "single":
        given["gpus"] = 1
    elif given["gpus"] is None:
        given["gpus"] = len(machine.gpus) if cuda else DEFAULT_CPU_RANKS
    _check_gpus(given["gpus"], cuda, machine, oversubscribe)
    if given["data"] == "resident":
        given.update(dict.fromkeys(LOADER_AXES))
    elif given["num_workers"] == 0:
        given.update(prefetch_factor=None, persistent_workers=None)
    if not cuda:
        given.update(dict.fromkeys(GPU_AXES))
    elif given["deterministic"]:
        given["cudnn_benchmark"] = False
    entry = parse_workload(given["workload"]).entry
    if entry and not entry.images:
        given["channels_last"] = None
    given["strategy"] = _without_idle_options(spread, given["precision"]).spec
    shares = cuda and oversubscribe and given["gpus"] > len(machine.gpus)
    auto = given["batch_size"] == AUTO
    case = Case(**{**given, "batch_size": None if auto else given["batch_size"]}, oversubscribe=shares, auto_batch=auto)
    return case if case.batch_size or auto or not entry else dataclasses.replace(case, batch_size=entry.batch_size)


def _without_idle_options(spread: StrategySpec, precision: str) -> StrategySpec:
    """``fsdp:reduce=`` left out where it names the type that gradients are reduced in anyway, ``ddp:hook=`` where they
    are of its type already."""
    own = "bf16" if precision == "bf16" else "fp32"
    idle = {"reduce": own, "hook": own}
    defaults = {name: choice.default for name, choice in STRATEGIES[spread.name].options.items()}
    options = {name: defaults[name] if idle.get(name) == value else value for name, value in spread.options.items()}
    return dataclasses.replace(spread, options=options)


def _check_gpus(gpus: int, cuda: bool, machine: Machine, oversubscribe: bool) -> None:
    there = len(machine.gpus)
    if not cuda or (gpus <= there and there):
        return
    if not there:
        raise UsageError("this machine has no GPU; add --device cpu for ranks on the CPU.")
    if not oversubscribe:
        raise UsageError(
            f"--gpus {gpus}: this machine has {there}; ask for at most {there}, or add --device cpu (ranks on the CPU) "
            "or --oversubscribe (ranks share a GPU over Gloo, and the rows say so)."
        )


def _without_effect(name: str, cases: Sequence[Case]) -> str:
    flag = AXES[name].flag
    if name == "channels_last":
        return f"{flag} has no effect without images; add a workload that has them, or leave it out."
    if name in LOADER_AXES and all(case.data == "resident" for case in cases):
        return f"{flag} has no effect with --data resident, which needs no DataLoader; add --data synthetic (or files)."
    if name in GPU_AXES:
        return f"{flag} has no effect on the CPU; add --device cuda, or leave it out."
    return f"{flag} has no effect without DataLoader workers; add --num-workers 1 or more."


def command(case: Case, protocol: Protocol) -> str:
    """The command line that runs this case alone."""
    words = ["bench", "run"]
    for name in AXES:
        value = getattr(case, name)
        if name == "env":
            words += [w for variable, text in case.environment.items() for w in (AXES[name].flag, f"{variable}={text}")]
        elif value is not None and (value != AXES[name].default or name in ("workload", "strategy", "device")):
            words += [AXES[name].flag, show(value)]
    for name, option in SETTINGS.items():
        value = getattr(protocol, name)
        if value != option.default:
            words += [option.flag, show(value).removesuffix(".0")]
    words += [AXES["batch_size"].flag, AUTO] if case.auto_batch else []
    return shlex.join([*words, *(["--oversubscribe"] if case.oversubscribe else [])])


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as ``plan.json`` and ``--dry-run --json`` show it."""
    return {
        "asked": dataclasses.asdict(plan.asked),
        "protocol": dataclasses.asdict(plan.protocol),
        "cases": [
            {
                "case_id": planned.case.case_id,
                **dataclasses.asdict(planned.case),
                "world_size": planned.case.world_size,
                "skip": planned.skip,
            }
            for planned in plan.cases
        ],
    }


def asked_of(plan: Mapping[str, Any]) -> Asked:
    """What was asked for, from a ``plan.json``."""
    given = plan["asked"]
    return Asked(tuple(given["matrices"]), given["settings"], given["oversubscribe"])
