"""What torch must be asked about a workload before anything is measured."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from torch import nn
from torch.nn.parameter import UninitializedParameter

from bench.messages.heartbeat import STAGE
from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.description import Description
from bench.rank.counting import Micro, Models, count
from bench.rank.recorded import recorded
from workloads.base import Workload, load
from workloads.checks import Checked, WorkloadError

T = TypeVar("T")
CONVENTION = "2 a multiply-add, attention in full, its backward pass twice its forward"
SAID = "the workload says flops_per_sample itself"


def run(spec_path: str) -> None:
    """Write ``description.json`` for the workload of ``spec.json``.

    It is written first without FLOPs, as counting them may end this process.
    """
    spec = Spec.read(spec_path)
    with recorded(spec) as (_, heartbeat):
        workload, case = load(spec.target, spec.options), spec.case
        own = None if case.auto_batch else _rank_batch(case, workload)
        more = str(case.activation_checkpointing), spec.data, case.device, str(case.precision), case.world_size
        micro = Micro(workload.batch_size if own is None else own, *more)
        for description in descriptions(workload, micro, flops=own is not None):
            description.write(Path(spec.folder))
        heartbeat.enter(STAGE["done"])


def describe(workload: Workload, checkpointing: str, data: str, samples: int | None = None) -> Description:
    """Return all that can be found out about a workload.

    What cannot is None, and ``flops_note`` says why FLOPs are missing.

    ``samples`` is the size of a rank's micro-batch, by default the workload's own. Raise WorkloadError if the workload
    returns invalid values.
    """
    checked = workload if isinstance(workload, Checked) else Checked(type(workload).__name__, workload)
    *_, last = descriptions(checked, Micro(samples or workload.batch_size, checkpointing, data))
    return last


def descriptions(workload: Checked, micro: Micro, flops: bool = True) -> Iterator[Description]:
    """Yield the description without FLOPs, and then with them if ``flops`` is set, and with what the loss calls."""
    models = Models(workload)
    on_meta = _or_none(lambda: models.on_meta)
    model = on_meta or _or_none(lambda: models.real)
    if workload.has_optimizers and model:
        _or_none(lambda: workload.optimizers(model))  # raises WorkloadError before anything is launched
    plain = Description(
        unit=workload.unit,
        batch_size=workload.batch_size,
        data=tuple(getattr(workload, "data", ("resident", "synthetic"))),
        tokens_per_sample=getattr(workload, "tokens", None) if workload.unit == "tokens" else None,
        parameters=_parameters(model) if model else None,
        layers=_or_none(lambda: len(workload.layers(model))) if model else None,
        flops_per_sample=None,
        hardware_flops_per_sample=None,
        own_optimizer=workload.has_optimizers,
        own_loader=workload.has_loader,
        own_checkpointing=workload.has_checkpointing,
        own_step=workload.has_step,
        max_split=workload.max_split if workload.has_split else None,
        has_stages=workload.has_stages,
        on_meta=on_meta is not None,
    )
    yield plain
    counted = _with_flops(plain, workload, micro, models)
    yield dataclasses.replace(
        counted if flops else plain,
        # A lazy layer has parameters only after it has seen a batch.
        parameters=plain.parameters or (_parameters(model) if model else None),
        world_size=micro.world_size if models.used_ranks else None,
        methods={name: list(calls.methods) for name, calls in models.calls.items() if calls.methods},
        modules=_used(models, "modules"),
        read_parameters=_used(models, "parameters"),
    )


def _used(models: Models, kind: str) -> list[str]:
    """Return the full names of the modules or parameters that the loss uses by themselves."""
    return [f"{model or 'model'}.{name}" for model, calls in models.calls.items() for name in getattr(calls, kind)]


def _rank_batch(case: Case, workload: Checked) -> int | None:
    """Return the samples of a rank's micro-batch: those of the case, else of the workload."""
    return dataclasses.replace(case, batch_size=case.batch_size or workload.batch_size).rank_batch


def _with_flops(plain: Description, workload: Checked, micro: Micro, models: Models) -> Description:
    """Return ``plain`` with the counted FLOPs, or with those that the workload states itself."""
    said = getattr(workload, "flops_per_sample", None)
    counted = count(models, micro, to_the_end=said is not None)
    if said is not None:
        alike = counted.recomputes is False
        return dataclasses.replace(
            plain,
            flops_per_sample=float(said),
            hardware_flops_per_sample=float(said) if alike else None,
            flops_convention="as the workload says",
            flops_note=SAID + ("" if alike else ", and not what is recomputed: hfu stays empty"),
        )
    if counted.model is None or counted.hardware is None:
        return dataclasses.replace(plain, flops_note=counted.how)
    return dataclasses.replace(
        plain,
        flops_per_sample=counted.model / micro.samples,
        hardware_flops_per_sample=counted.hardware / micro.samples,
        flops_convention=f"{CONVENTION}; {counted.how}",
    )


def _parameters(model: nn.Module) -> int | None:
    """Return the number of parameters, shared ones counted once; None while a lazy layer has not seen its input."""
    parameters = list(model.parameters())
    if any(isinstance(parameter, UninitializedParameter) for parameter in parameters):
        return None
    return sum(parameter.numel() for parameter in parameters)


def _or_none(find: Callable[[], T]) -> T | None:
    """Return None for what cannot be found out here: ranks report what is wrong. Raise WorkloadError."""
    try:
        return find()
    except WorkloadError:
        raise
    except Exception:
        traceback.print_exc()
        return None
