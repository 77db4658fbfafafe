"""Makes a case of a value for every axis: what has no effect has no value.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import PLACEHOLDERS, Case
from bench.plan.device_counts import no_gpu
from bench.plan.options import AUTO, AXES, LOADER_AXES
from bench.plan.script_arguments import placeholders, split
from bench.plan.strategies import NONE, ONE_PROCESS, SCRIPTS_OWN, STRATEGIES
from bench.plan.strategy_spec import StrategySpec, parse_strategy
from bench.plan.workload_spec import parse_workload

# Axes that work on any script, and on collectives.
FROM_OUTSIDE = ("gpus", "device", "omp_num_threads", "numa_binding", "placement", "env")
GPU_AXES = ("pin_memory", "cudnn_benchmark", "numa_binding")


def make_case(values: Mapping[str, Any], machine: Machine, oversubscribe: bool = False) -> Case:
    """Return the case of a value for every axis, with axes that have no effect set to None; UsageError if too few GPUs.

    ``gpus`` is a number here, and ``device`` is cuda or cpu.
    """
    given = dict(values)
    spread, on_gpus = parse_strategy(given["strategy"]), given["device"] != "cpu"
    if spread.name == "single":
        given["gpus"] = 1
    there = len(machine.gpus)
    if on_gpus and not oversubscribe:
        _check_gpus(given["gpus"], there)
    shares = on_gpus and given["gpus"] > there
    if given["placement"] == "even":
        _check_nodes(machine)
        if given["gpus"] == 1 or spread.name in ONE_PROCESS:
            given["placement"] = "pack"  # one rank is on node 0 anyway
    workload = parse_workload(given["workload"])
    make = _script_case if workload.script else _comms_case if workload.comms else _workload_case
    return make(given, spread, on_gpus, shares)


def _workload_case(given: dict[str, Any], spread: StrategySpec, on_gpus: bool, shares: bool) -> Case:
    """Return the case of a workload."""
    entry = parse_workload(given["workload"]).entry
    _refuse_what_only_scripts_have(given)
    if given["data"] == "resident":
        given.update(dict.fromkeys(LOADER_AXES))
    elif given["num_workers"] == 0:
        given.update(prefetch_factor=None, persistent_workers=None)
    if not on_gpus:
        given.update(dict.fromkeys(GPU_AXES))
    elif given["deterministic"]:
        given["cudnn_benchmark"] = False
    if entry and not entry.images:
        given["channels_last"] = None
    if given["compile"] == "off":
        given["compile_scope"] = None
    given["strategy"] = _without_idle_options(spread, given["precision"]).spec
    auto = given["batch_size"] == AUTO
    case = Case(**{**given, "batch_size": None if auto else given["batch_size"]}, oversubscribe=shares, auto_batch=auto)
    if case.compile != "off" and case.compile_scope is None:
        case = dataclasses.replace(case, compile_scope=case.own_compile_scope)
    return case if case.batch_size or auto or not entry else dataclasses.replace(case, batch_size=entry.batch_size)


def _refuse_what_only_scripts_have(given: Mapping[str, Any]) -> None:
    """Raise UsageError for values that only a script may have."""
    _refuse_arguments(given)
    if given["strategy"] in (SCRIPTS_OWN, NONE):
        allowed = f"{', '.join(STRATEGIES)} for a workload"
        raise UsageError(option="--strategy", given=given["strategy"], allowed=allowed)


def _refuse_arguments(given: Mapping[str, Any]) -> None:
    if given["args"]:
        raise UsageError("--args has no effect without a script", option="--args", hint="Add --script FILE.")


def _check_nodes(machine: Machine) -> None:
    if machine.nodes == 1:
        flag = AXES["placement"].flag
        raise UsageError(
            f"{flag} even has no effect on one node", option=flag, hint=f"Add --nnodes, or leave {flag} out."
        )


def _check_gpus(number: int, there: int) -> None:
    if number > there == 0:
        raise no_gpu(AXES["gpus"].flag, number)
    if number > there:
        raise UsageError(
            option=AXES["gpus"].flag,
            given=number,
            allowed=f"at most {there}, the GPUs of this machine",
            hint="For more ranks add --device cpu, or --oversubscribe (ranks share a GPU over Gloo; rows record it).",
        )


def _script_case(given: dict[str, Any], spread: StrategySpec, on_gpus: bool, shares: bool) -> Case:
    """Return the case of a script: only axes that work from outside, or that its arguments name, have a value."""
    split(given["args"])
    named = placeholders(given["args"], PLACEHOLDERS)
    if "strategy" in named and spread.name == SCRIPTS_OWN:
        allowed = f"{', '.join(STRATEGIES)}, as --args has {{strategy}}"
        raise UsageError(option=AXES["strategy"].flag, given=SCRIPTS_OWN, allowed=allowed)
    if "batch_size" in named and given["batch_size"] in (None, AUTO):
        raise UsageError(
            option=AXES["batch_size"].flag,
            given=given["batch_size"] or "nothing",
            allowed="a whole number from 1, as --args has {batch_size}",
            hint="Give --batch-size.",
        )
    for name in PLACEHOLDERS:
        if name not in (*named, *FROM_OUTSIDE):
            given[name] = SCRIPTS_OWN if name == "strategy" else None
    if not on_gpus:
        given["numa_binding"] = None
    return Case(**given, oversubscribe=shares)


def _comms_case(given: dict[str, Any], spread: StrategySpec, on_gpus: bool, shares: bool) -> Case:
    """Return the case of collectives: only axes that work from outside have a value."""
    _refuse_arguments(given)
    for name in PLACEHOLDERS:
        if name not in FROM_OUTSIDE:
            given[name] = NONE if name == "strategy" else None
    if not on_gpus:
        given["numa_binding"] = None
    return Case(**given, oversubscribe=shares)


def _without_idle_options(spread: StrategySpec, precision: str) -> StrategySpec:
    """Reset options that have no effect: ``fsdp:reduce`` and ``ddp:hook`` with the type that gradients have anyway."""
    own = "bf16" if precision == "bf16" else "fp32"
    idle = {"reduce": own, "hook": own}
    defaults = {name: choice.default for name, choice in STRATEGIES[spread.name].options.items()}
    options = {name: defaults[name] if idle.get(name) == value else value for name, value in spread.options.items()}
    return dataclasses.replace(spread, options=options)
