"""What only torch can know of a workload, found on the meta device before anything is measured."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.messages import STAGE, Description, Spec
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.main import recorded
from workloads.base import Workload, load
from workloads.checks import WorkloadError, collated

COUNTED_SAMPLES = 2  # batch norm cannot train on one


def run(spec_path: str) -> None:
    """Write ``description.json`` for the workload of ``spec.json``."""
    spec = Spec.read(spec_path)
    with recorded(spec) as (_, heartbeat):
        description = describe(load(spec.target, spec.options), spec.case.activation_checkpointing, spec.data)
        description.write(Path(spec.folder))
        heartbeat.enter(STAGE["done"])


def describe(workload: Workload, checkpointing: str, data: str) -> Description:
    """Counts of a freshly built model; FLOPs are None where the model cannot run on the meta device.

    WorkloadError if the workload gives what it must not.
    """
    with torch.device("meta"):
        model = workload.build()
    flops, hardware_flops = None, None
    try:
        flops = flops_per_sample(workload, "none", data)
        hardware_flops = flops if checkpointing == "none" else flops_per_sample(workload, checkpointing, data)
    except WorkloadError:
        raise
    except Exception:
        traceback.print_exc()
        print("FLOPs unknown: the model does not run on the meta device")
    return Description(
        unit=workload.unit,
        batch_size=workload.batch_size,
        data=tuple(getattr(workload, "data", ("resident", "synthetic"))),
        tokens_per_sample=getattr(workload, "tokens", None) if workload.unit == "tokens" else None,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=len(workload.layers(model)),
        flops_per_sample=flops,
        hardware_flops_per_sample=hardware_flops,
    )


def flops_per_sample(workload: Workload, checkpointing: str, data: str) -> float:
    """Forward and backward, counted op by op (FlopCounterMode: 2 a multiply-add, causal attention in full)."""
    with torch.device("meta"):
        model: nn.Module = workload.build()
    checkpoint_layers(workload.layers(model), checkpointing)
    batch = [tensor.to("meta") for tensor in collated(workload.samples(data), COUNTED_SAMPLES)]
    with FlopCounterMode(display=False) as counter:
        workload.loss(model, batch).backward()
    return float(counter.get_total_flops()) / COUNTED_SAMPLES
