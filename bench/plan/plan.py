"""Makes the plan of a run from options and suite files: its cases in order, with reasons for those that cannot run.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.machine.environment import compiler_lacks, numactl
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.constraints import Facts, refusal
from bench.plan.data_files import check_inputs
from bench.plan.device_counts import check_scaling, for_machine, no_gpu, places, with_global_batch_of
from bench.plan.options import AUTO, AXES, SELECTORS, SETTINGS, Value, read_axis, show, split_list
from bench.plan.strategies import STRATEGIES
from bench.plan.strategy_spec import StrategySpec, parse_strategy
from bench.plan.workload_spec import parse_workload

if TYPE_CHECKING:
    from bench.plan.description import Description

LOADER_AXES = ("num_workers", "pin_memory", "prefetch_factor", "persistent_workers")
GPU_AXES = ("pin_memory", "cudnn_benchmark", "numa_binding")
NOT_OF_A_CASE = ("order_seed", "budget")  # Settings of a run that have no effect on a single case.

KEYS = {**AXES, **SELECTORS}  # The keys of a matrix.

Axes = dict[str, list[Value]]


@dataclass(frozen=True)
class Protocol:
    """How each case is measured; SETTINGS describes the fields. ``launches`` is None if the budget decides."""

    warmup_steps: int
    steps: int
    min_seconds: float
    max_seconds: float
    launches: int | None
    timeout: float
    hang_timeout: float
    launcher: str
    order_seed: int
    budget: float | None


@dataclass(frozen=True)
class Asked:
    """The request of a user, with each value checked by itself.

    ``matrices``: each is a product of axes; the run has the cases of all. ``typed``: the keys that must have an effect:
    those of the command line or, if it has none, those of the suite file.
    """

    matrices: tuple[Axes, ...] = ({},)
    settings: Mapping[str, Value] = field(default_factory=dict)
    oversubscribe: bool = False
    typed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A case, and in ``skip`` the reason why it cannot run, None if it can.

    ``samples``: number of samples in its data, None if unknown. ``strong_from``: number of devices whose global batch
    the case shall have, while its own batch size is not known. ``failed``: the case cannot run because its workload is
    invalid, whatever the machine.
    """

    case: Case
    skip: str | None
    samples: int | None
    strong_from: int | None = None
    failed: bool = False


@dataclass(frozen=True)
class Plan:
    """The cases of a run in order, how they are measured, and the request that they come from."""

    cases: tuple[Planned, ...]
    protocol: Protocol
    asked: Asked


def asked(
    axes: Mapping[str, Sequence[object]],
    settings: Mapping[str, object],
    base: Asked | None = None,
    oversubscribe: bool = False,
) -> Asked:
    """Return the request of axes and settings, on top of ``base``, a suite's or an earlier run's request.

    A text of an axis may be a comma-separated list, as on the command line.
    """
    base = base or Asked()
    given: Axes = {
        name: read_axis(name, [value for one in values for value in _split(name, one)], KEYS[name].flag)
        for name, values in axes.items()
    }
    own = {name: SETTINGS[name].read(value, SETTINGS[name].flag) for name, value in settings.items()}
    before = dict(base.settings)
    if "budget" in own and "budget" not in before:
        before.pop("launches", None)  # The budget replaces the suite's number of launches.
    return Asked(
        matrices=tuple({**matrix, **given} for matrix in base.matrices),
        settings={**before, **own},
        oversubscribe=oversubscribe or base.oversubscribe,
        typed=tuple(given) or base.typed,
    )


def _split(name: str, given: object) -> Sequence[object]:
    return split_list(name, given) if isinstance(given, str) and name != "env" else [given]


def make_plan(asked: Asked, machine: Machine) -> Plan:
    """Return the plan with all distinct cases in the order of the matrices; UsageError for an impossible request."""
    matrices = for_machine(asked.matrices, machine)
    check_scaling(matrices, "scaling" in asked.typed)
    found = dict.fromkeys(point for matrix in matrices for point in _points(matrix, machine, asked.oversubscribe))
    _check_effects([name for name in asked.typed if any(name in m for m in matrices)], [case for case, _ in found])
    here, samples = facts(machine, None), _samples([case for case, _ in found])
    cases = joined(
        plan_case(case, dataclasses.replace(here, samples=samples[case.workload, case.data]), base)
        for case, base in found
    )
    return Plan(cases, _protocol(asked.settings), asked)


def _samples(cases: Iterable[Case]) -> dict[tuple[str, str], int | None]:
    """Return the number of samples by workload and data; each file is read once, however many cases use it."""
    distinct = {(case.workload, case.data): case for case in cases}
    return {key: check_inputs(case) for key, case in distinct.items()}


def joined(planned: Iterable[Planned]) -> tuple[Planned, ...]:
    """Return each planned case once; equal cases that cannot run are merged, and their reasons joined."""
    groups: dict[Planned | Case, list[Planned]] = {}
    for one in planned:
        groups.setdefault(one.case if one.skip else one, []).append(one)
    reasons = ("; ".join(dict.fromkeys(one.skip for one in alike if one.skip)) for alike in groups.values())
    return tuple(
        dataclasses.replace(alike[0], skip=reason or None)
        for alike, reason in zip(groups.values(), reasons, strict=True)
    )


def _protocol(settings: Mapping[str, Value]) -> Protocol:
    values = {name: option.default for name, option in SETTINGS.items()} | dict(settings)
    if values["budget"] is not None and "launches" not in settings:
        values["launches"] = None
    least, most = values["min_seconds"], values["max_seconds"]
    if most and least > most:  # type: ignore[operator]
        raise UsageError(
            option=SETTINGS["min_seconds"].flag,
            given=least,
            allowed=f"at most --max-seconds, which is {show(most)}",
            hint="Give a smaller --min-seconds, or a larger --max-seconds (0: no limit).",
        )
    return Protocol(**values)  # type: ignore[arg-type]


def plan_case(case: Case, facts: Facts, strong_from: int | None = None) -> Planned:
    """Return the planned case, with the batch size of strong scaling if ``strong_from`` is given."""
    uneven = None
    if strong_from and case.batch_size:
        case, uneven = with_global_batch_of(case, strong_from)
    refused = refusal(case, facts)
    pending = case.batch_size is None and refused is None
    return Planned(case, refused or uneven, facts.samples, strong_from if pending else None)


def facts(machine: Machine, samples: int | None, description: Description | None = None) -> Facts:
    """Return the facts that the rules need, for this machine as it is now."""
    return Facts(machine, samples, description, compiler_lacks(), numactl())


def _points(matrix: Axes, machine: Machine, oversubscribe: bool) -> list[tuple[Case, int | None]]:
    """Return the cases of a matrix, each with the number of devices whose global batch it shall have, or None."""
    wanted = places(matrix, machine)
    least = {device: min(number for number, other in wanted if other == device) for _, device in wanted}
    values: dict[str, Sequence[Any]] = {name: matrix.get(name, [option.default]) for name, option in AXES.items()}
    values["gpus"] = wanted  # Numbers together with their device.
    del values["device"]
    found = []
    for scaling, *point in itertools.product(matrix.get("scaling", [SELECTORS["scaling"].default]), *values.values()):
        given = dict(zip(values, point, strict=True))
        given["gpus"], given["device"] = given["gpus"]
        case = make_case(given, machine, oversubscribe)
        base = least[case.device] if scaling == "strong" else case.devices
        found.append((case, None if base == case.devices else base))
    return found


def _check_effects(typed: Sequence[str], cases: Sequence[Case]) -> None:
    """Raise UsageError for an axis that was given and has no effect in any case."""
    for name in dict.fromkeys((*LOADER_AXES, *GPU_AXES, "channels_last")):
        if name in typed and all(getattr(case, name) is None for case in cases):
            raise _without_effect(name, cases)


def make_case(values: Mapping[str, Any], machine: Machine, oversubscribe: bool = False) -> Case:
    """Return the case of a value for every axis, with axes that have no effect set to None; UsageError if too few GPUs.

    ``gpus`` is a number here, and ``device`` is cuda or cpu.
    """
    given = dict(values)
    spread = parse_strategy(given["strategy"])
    on_gpus = given["device"] != "cpu"
    if spread.name == "single":
        given["gpus"] = 1
    there = len(machine.gpus)
    if on_gpus and given["gpus"] > there and not oversubscribe:
        if not there:
            raise no_gpu(AXES["gpus"].flag, given["gpus"])
        raise UsageError(
            option=AXES["gpus"].flag,
            given=given["gpus"],
            allowed=f"at most {there}, the GPUs of this machine",
            hint="For more ranks add --device cpu, or --oversubscribe (ranks share a GPU over Gloo; rows record it).",
        )
    if given["data"] == "resident":
        given.update(dict.fromkeys(LOADER_AXES))
    elif given["num_workers"] == 0:
        given.update(prefetch_factor=None, persistent_workers=None)
    if not on_gpus:
        given.update(dict.fromkeys(GPU_AXES))
    elif given["deterministic"]:
        given["cudnn_benchmark"] = False
    entry = parse_workload(given["workload"]).entry
    if entry and not entry.images:
        given["channels_last"] = None
    given["strategy"] = _without_idle_options(spread, given["precision"]).spec
    shares = on_gpus and given["gpus"] > there
    auto = given["batch_size"] == AUTO
    case = Case(**{**given, "batch_size": None if auto else given["batch_size"]}, oversubscribe=shares, auto_batch=auto)
    return case if case.batch_size or auto or not entry else dataclasses.replace(case, batch_size=entry.batch_size)


def _without_idle_options(spread: StrategySpec, precision: str) -> StrategySpec:
    """Reset options that have no effect: ``fsdp:reduce`` and ``ddp:hook`` with the type that gradients have anyway."""
    own = "bf16" if precision == "bf16" else "fp32"
    idle = {"reduce": own, "hook": own}
    defaults = {name: choice.default for name, choice in STRATEGIES[spread.name].options.items()}
    options = {name: defaults[name] if idle.get(name) == value else value for name, value in spread.options.items()}
    return dataclasses.replace(spread, options=options)


def _without_effect(name: str, cases: Sequence[Case]) -> UsageError:
    flag = AXES[name].flag
    if name == "channels_last":
        where, hint = "without images", f"Choose a workload that has images, or leave {flag} out."
    elif name in LOADER_AXES and all(case.data == "resident" for case in cases):
        where, hint = "with --data resident, which needs no DataLoader", "Add --data synthetic (or files)."
    elif name in GPU_AXES:
        where, hint = "on the CPU", f"Add --device cuda, or leave {flag} out."
    else:
        where, hint = "without DataLoader workers", "Add --num-workers 1 or more."
    return UsageError(f"{flag} has no effect {where}", option=flag, hint=hint)


def command(case: Case, protocol: Protocol) -> str:
    """Return the command line that runs this case alone."""
    words = ["bench", "run"]
    for name in AXES:
        value = getattr(case, name)
        if name == "env":
            words += [w for variable, text in case.environment.items() for w in (AXES[name].flag, f"{variable}={text}")]
        elif value is not None and (value != AXES[name].default or name in ("workload", "strategy", "device")):
            words += [AXES[name].flag, show(value)]
    for name, option in SETTINGS.items():
        value = getattr(protocol, name)
        if value not in (option.default, None) and name not in NOT_OF_A_CASE:
            words += [option.flag, show(value).removesuffix(".0")]
    words += [AXES["batch_size"].flag, AUTO] if case.auto_batch else []
    return shlex.join([*words, *(["--oversubscribe"] if case.oversubscribe else [])])
