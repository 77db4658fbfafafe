"""Makes the plan of a run from options and suite files: its cases in order, with reasons for those that cannot run.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.machine.environment import compiler_lacks, has_torchao, numactl
from bench.machine.gpus import Machine
from bench.plan import comms
from bench.plan.case import PLACEHOLDERS, Case
from bench.plan.constraints import Facts, refusal
from bench.plan.data_files import check_inputs
from bench.plan.device_counts import check_scaling, for_machine, places, with_global_batch_of
from bench.plan.make_case import FROM_OUTSIDE, GPU_AXES, make_case
from bench.plan.options import (
    AUTO,
    AXES,
    FAKE_RANKS,
    KEYS,
    LOADER_AXES,
    SELECTORS,
    SETTINGS,
    Value,
    read_axis,
    show,
    split_list,
)
from bench.plan.script_arguments import as_text, split
from bench.plan.strategies import NONE, SCRIPTS_OWN

if TYPE_CHECKING:
    from bench.plan.description import Description

# Settings of a run that have no effect on a single case.
NOT_OF_A_CASE = ("order_seed", "budget", "count_work", "profile", "stragglers", "matmul_peak")
SAVING_SETTINGS = ("save_dir", "save_interval")

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
    samples_per_step: int | None = None
    count_flops: bool = False
    count_work: bool = True
    profile: str = "off"
    stragglers: bool = True
    save_dir: str | None = None
    save_interval: int = 500
    matmul_peak: str = "on"


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
    return split_list(name, given) if isinstance(given, str) else [given]


def make_plan(asked: Asked, machine: Machine, code_is_here: bool = True) -> Plan:
    """Return the plan with all distinct cases in the order of the matrices; UsageError for an impossible request.

    Without ``code_is_here`` the files of workloads may be in another revision only.
    """
    matrices = for_machine(asked.matrices, machine)
    check_scaling(matrices, "scaling" in asked.typed)
    found = dict.fromkeys(point for matrix in matrices for point in _points(matrix, machine, asked.oversubscribe))
    cases = [case for case, _ in found]
    _check_effects([name for name in asked.typed if any(name in m for m in matrices)], cases)
    _check_settings(asked.settings, cases)
    here, samples = facts(machine, None), _samples(cases, code_is_here)
    planned = joined(
        plan_case(case, dataclasses.replace(here, samples=samples[case.workload, case.data]), base)
        for case, base in found
    )
    return Plan(planned, _protocol(asked.settings), asked)


def _samples(cases: Iterable[Case], code_is_here: bool) -> dict[tuple[str, str | None], int | None]:
    """Return the number of samples by workload and data; each file is read once, however many cases use it."""
    distinct = {(case.workload, case.data): case for case in cases}
    return {key: check_inputs(case, code_is_here) for key, case in distinct.items()}


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
    return Facts(machine, samples, description, compiler_lacks(), numactl(), has_torchao())


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
        if FAKE_RANKS.name in matrix:
            case = dataclasses.replace(case, fake_ranks=True)
        base = least[case.device] if scaling == "strong" else case.devices
        found.append((case, None if base == case.devices else base))
    return found


def _check_effects(typed: Sequence[str], cases: Sequence[Case]) -> None:
    """Raise UsageError for an axis that was given and has no effect in any case."""
    if all(case.is_script for case in cases):
        _check_placeholders(typed, cases)
    if all(case.is_comms for case in cases):
        _check_of_comms(typed)
    for name in dict.fromkeys((*LOADER_AXES, *GPU_AXES, "channels_last", "compile_scope")):
        if name in typed and all(getattr(case, name) is None for case in cases):
            raise _without_effect(name, cases)


def _check_of_comms(typed: Sequence[str]) -> None:
    """Raise UsageError for an axis of training, if nothing is trained."""
    for name in typed:
        if name not in ("workload", *FROM_OUTSIDE):
            flag = KEYS[name].flag
            raise UsageError(f"{flag} has no effect on collectives", option=flag, hint=f"Leave {flag} out.")


def _check_placeholders(typed: Sequence[str], cases: Sequence[Case]) -> None:
    """Raise UsageError for an axis that works on scripts through their arguments, which do not name it."""
    batch = ["batch_size"] if "scaling" in typed else []  # strong scaling divides it
    for name in (*typed, *batch):
        if name in PLACEHOLDERS and all(getattr(case, name) in (None, SCRIPTS_OWN) for case in cases):
            flag = AXES[name].flag if name in typed else "--scaling"
            raise UsageError(
                f"{flag} has no effect: --args does not contain {{{name}}}",
                option=flag,
                hint=f"Add {{{name}}} to the arguments of the script, or leave {flag} out.",
            )


def _check_settings(settings: Mapping[str, Value], cases: Sequence[Case]) -> None:
    """Raise UsageError for a setting of scripts without a script, or of workloads with one."""
    for name in ("samples_per_step", "count_flops"):
        if settings.get(name) and not any(case.is_script for case in cases):
            flag = SETTINGS[name].flag
            raise UsageError(f"{flag} has no effect without a script", option=flag, hint="Add --script FILE.")
    for name in SAVING_SETTINGS:
        default = SETTINGS[name].default
        if settings.get(name, default) != default and not any(case.saves for case in cases):
            flag = SETTINGS[name].flag
            raise UsageError(f"{flag} has no effect without --save-checkpoint", option=flag, hint=f"Leave {flag} out.")
    folder = settings.get("save_dir")
    if folder and not (os.path.isdir(str(folder)) and os.access(str(folder), os.W_OK | os.X_OK)):
        raise UsageError(
            option=SETTINGS["save_dir"].flag,
            given=folder,
            allowed="a folder that exists, and in which you may write",
            hint="Create it.",
        )
    if settings.get("profile", "off") != "off" and any(case.is_script for case in cases):
        flag = SETTINGS["profile"].flag
        raise UsageError(
            f"{flag} is not possible with a script, whose steps after the window are its own",
            option=flag,
            hint=f"Leave {flag} out.",
        )


def _without_effect(name: str, cases: Sequence[Case]) -> UsageError:
    flag = AXES[name].flag
    if name == "channels_last":
        where, hint = "without images", f"Choose a workload that has images, or leave {flag} out."
    elif name == "compile_scope":
        where, hint = "without torch.compile", f"Add --compile default, or leave {flag} out."
    elif name in LOADER_AXES and all(case.data == "resident" for case in cases):
        where, hint = "with --data resident, which needs no DataLoader", "Add --data synthetic (or files)."
    elif name in GPU_AXES:
        where, hint = "on the CPU", f"Add --device cuda, or leave {flag} out."
    else:
        where, hint = "without DataLoader workers", "Add --num-workers 1 or more."
    return UsageError(f"{flag} has no effect {where}", option=flag, hint=hint)


def command(case: Case, protocol: Protocol) -> str:
    """Return the command line that runs this case alone."""
    words = ["bench", *_subject(case)]
    for name in AXES:
        value = getattr(case, name)
        if name in ("workload", "args") or value in (None, SCRIPTS_OWN, NONE):
            continue
        if name == "env":
            words += [w for variable, text in case.environment.items() for w in (AXES[name].flag, f"{variable}={text}")]
        elif value != case.default_of(name) or name in ("strategy", "device"):
            words += [AXES[name].flag, show(value)]
    for name, option in SETTINGS.items():
        value = getattr(protocol, name)
        of_comms = not case.is_comms or name in comms.SETTINGS
        if value not in (option.default, None) and name not in NOT_OF_A_CASE and of_comms:
            words += [option.flag, show(value).removesuffix(".0")]
    words += [AXES["batch_size"].flag, AUTO] if case.auto_batch else []
    said = shlex.join([*words, *(["--oversubscribe"] if case.oversubscribe else [])])
    return f"{said} -- {as_text(split(case.args))}" if case.args else said


def _subject(case: Case) -> list[str]:
    """Return the words that say what to run, the subcommand first."""
    if case.is_comms:
        options = comms.options_of(case.workload)
        return ["comms", *(word for name in options for word in (comms.OPTIONS[name].flag, options[name]))]
    return ["run", *(_script_words(case) if case.is_script else [AXES["workload"].flag, case.workload])]


def _script_words(case: Case) -> list[str]:
    return ["--script", case.spec.target, *(["--as-module"] if case.spec.script == "module" else [])]
