"""From a spec to something that can take a step: device, process group, model, strategy, optimizer, batches."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.checkpoint import checkpoint

from bench.case import Case
from bench.messages import Spec
from bench.rank.loader import Batches, batches
from workloads.base import Batch, Workload, load

GPT3_ADAM: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}  # Brown et al. 2020, appendix B


@dataclass
class Training:
    """A model under its strategy, ready to step."""

    case: Case
    workload: Workload
    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    device: torch.device
    distributed: bool
    autocast: bool
    forward_is_local: bool | None

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of this rank's batch."""
        with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else contextlib.nullcontext():
            return self.workload.loss(self.model, batch)

    def to_device(self, batch: Batch) -> Batch:
        return [tensor.to(self.device, non_blocking=True) for tensor in batch]


def build(spec: Spec) -> Training:
    """Everything up to the first step. Every rank draws the same weights from the seed."""
    case = spec.case
    device = _device(case)
    pin_numerics(case)
    distributed = case.strategy != "single"
    if distributed:
        backend = "nccl" if device.type == "cuda" and not case.oversubscribe else "gloo"
        timeout = timedelta(seconds=spec.timeout_s)  # longer than the launch may take: the parent ends a hang
        dist.init_process_group(backend, timeout=timeout, device_id=device if backend == "nccl" else None)
    workload = load(spec.target, spec.options)
    torch.manual_seed(case.seed)
    model, forward_is_local = parallelize(workload, case, device, distributed)
    strategy_precision = _strategy(case).OWN_PRECISION
    return Training(
        case=case,
        workload=workload,
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), fused=True, **GPT3_ADAM),
        batches=batches(workload.samples(spec.data), case, device),
        device=device,
        distributed=distributed,
        autocast=case.precision == "amp-bf16" and not strategy_precision,
        forward_is_local=forward_is_local,
    )


def parallelize(
    workload: Workload, case: Case, device: torch.device, distributed: bool
) -> tuple[nn.Module, bool | None]:
    """Build, checkpoint, move, then spread: in this order, so that each wraps what came before."""
    strategy = _strategy(case)
    model = workload.build()
    layers = workload.layers(model)
    checkpoint_layers(layers, case.activation_checkpointing)
    model.train().to(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),)) if distributed else None
    return strategy.apply(model, layers, mesh, case), strategy.forward_is_local(model)


def checkpoint_layers(layers: Sequence[nn.Module], mode: str) -> None:
    """Recompute each layer in the backward pass. Hooks that a strategy adds later stay outside of it."""
    if mode == "full":
        for layer in layers:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def pin_numerics(case: Case) -> None:
    """fp32 means fp32: TF32 off for matmuls and convolutions. cuDNN picks its fastest kernel during warm-up."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def _strategy(case: Case) -> Any:
    return importlib.import_module(f"bench.strategies.{case.strategy}")


def _device(case: Case) -> torch.device:
    if case.device == "cpu":
        return torch.device("cpu")
    index = int(os.environ["LOCAL_RANK"])
    if case.oversubscribe:
        index %= torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
