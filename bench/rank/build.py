"""From a spec to something that can take a step: device, process group, model, strategy, optimizer, batches."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.strategies import ONE_PROCESS
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.compiling import CompileLog, compile_parts
from bench.rank.loader import Batches, batches, to_device
from bench.rank.settings import settings
from bench.strategies.dp import device_ids
from workloads.base import Batch, Workload, load

GPT3_ADAM: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}  # Brown et al. 2020, appendix B
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}
PATIENCE_S = 60  # beyond what a launch may take
NEVER = 1 << 30  # steps: the scale only falls, so that how far says how many steps were left out


@dataclass
class Training:
    """A model under its strategy, ready to step."""

    case: Case
    workload: Workload
    strategy: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    batches: Batches
    device: torch.device
    devices: list[torch.device]  # all that this rank computes on, ``device`` first
    distributed: bool
    autocast: torch.dtype | None
    forward_is_local: bool | None
    compile_log: CompileLog | None
    pinned: dict[str, str]  # settings of PyTorch as they were before anything of the workload ran

    def gradient_sync(self, on: bool) -> contextlib.AbstractContextManager[None]:
        """Around a forward and backward pass: whether its gradients are exchanged at once."""
        if self.case.grad_accum_steps == 1:
            return contextlib.nullcontext()
        sync: contextlib.AbstractContextManager[None] = self.strategy.gradient_sync(self.model, on)
        return sync

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of this rank's micro-batch, over the micro-batches of a step: their sum is the step's."""
        with torch.autocast(self.device.type, self.autocast) if self.autocast else contextlib.nullcontext():
            loss = self.workload.loss(self.model, batch)
        return loss / self.case.grad_accum_steps if self.case.grad_accum_steps > 1 else loss

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def update(self) -> Tensor | None:
        """Clip, step, and forget the gradients. Return their norm before clipping; None where they are not."""
        norm = None
        if self.case.max_grad_norm:
            self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.case.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def to_device(self, batch: Batch) -> Batch:
        if self.batches.resident is not None and self.batches.resident.copies:
            return [tensor.clone() for tensor in batch]  # it is on the device; the model changes it in place
        return to_device(batch, self.case, self.device)


def place(spec: Spec) -> list[torch.device]:
    """All devices that this rank computes on, its own first; numerics are pinned, and the process group is there."""
    case = spec.case
    pin_numerics(case)
    device = _device(case)
    if case.spread.name not in ONE_PROCESS:
        timeout = timedelta(
            seconds=spec.timeout_s + PATIENCE_S
        )  # the parent ends a hang, not a healthy rank's patience
        backend = _backend(case)
        if loopback := _loopback():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        dist.init_process_group(backend, timeout=timeout, device_id=device if backend == "nccl" else None)
    return (
        [torch.device(device.type, i) for i in dict.fromkeys(device_ids(case))]
        if case.spread.name == "dp"
        else [device]
    )


def build(spec: Spec, devices: list[torch.device], loaded: Callable[[], None] = lambda: None) -> Training:
    """Everything else up to the first step. Every rank draws the same weights from the seed.

    ``loaded`` is called as soon as the workload's module has been imported."""
    case, device = spec.case, devices[0]
    pinned = settings()
    workload = load(spec.target, spec.options)
    loaded()
    torch.manual_seed(case.seed)
    strategy = importlib.import_module(f"bench.strategies.{case.spread.name}")
    compile_log = CompileLog() if case.compile != "off" else None
    model, forward_is_local = parallelize(workload, case, strategy, device, spec.compile_cache)
    return Training(
        case=case,
        workload=workload,
        strategy=strategy,
        model=model,
        optimizer=_optimizer(model, case),
        scaler=torch.amp.GradScaler(device.type, growth_interval=NEVER, enabled=case.precision == "amp-fp16"),
        batches=batches(workload.samples(spec.data), case, device),
        device=device,
        devices=devices,
        distributed=case.spread.name not in ONE_PROCESS,
        autocast=None if strategy.OWN_PRECISION else AUTOCAST.get(case.precision),
        forward_is_local=forward_is_local,
        compile_log=compile_log,
        pinned=pinned,
    )


def parallelize(
    workload: Workload, case: Case, strategy: Any, device: torch.device, compile_cache: str
) -> tuple[nn.Module, bool | None]:
    """Build, checkpoint, compile, then spread: in this order, so that each wraps what came before."""
    model = workload.build().train()
    layers = workload.layers(model)
    if case.precision == "bf16":
        model.to(torch.bfloat16)
    if case.channels_last and case.spread.name != "fsdp":  # which shards no such parameters; its activations are NHWC
        model.to(memory_format=torch.channels_last)
    checkpoint_layers(layers, case.activation_checkpointing)
    if case.compile != "off":
        compile_parts(strategy.compiled(model, layers), case.compile, compile_cache)
    forward_is_local = strategy.forward_is_local(model)
    return strategy.apply(model, layers, _mesh(case, device), case, device), forward_is_local


def pin_numerics(case: Case) -> None:
    """fp32 means fp32: TF32 off for matmuls and convolutions, whatever the environment says."""
    tf32 = case.precision == "tf32"
    if tf32 and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise RuntimeError("NVIDIA_TF32_OVERRIDE=0 forbids what --precision tf32 asks for; unset it")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = bool(case.cudnn_benchmark)
    if case.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs; read with its first handle
        torch.use_deterministic_algorithms(True)


def _optimizer(model: nn.Module, case: Case) -> torch.optim.Optimizer:
    if case.optimizer == "sgd":  # not fused: DTensor, and so FSDP, knows no fused SGD (2.15), and all must do the same
        return torch.optim.SGD(model.parameters(), foreach=True, **SGD)
    return torch.optim.AdamW(model.parameters(), fused=True, **GPT3_ADAM)


def _loopback() -> str:
    """The name of the loopback interface, on which Gloo's ranks of one host are to listen; empty if it has none."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "")


def _backend(case: Case) -> str:
    if not case.on_accelerator or case.oversubscribe:
        return "gloo"
    # The norm of gradients that live on the host is summed over ranks there.
    return "cpu:gloo,cuda:nccl" if case.spread.options.get("offload") == "cpu" else "nccl"


def _mesh(case: Case, device: torch.device) -> DeviceMesh | None:
    """One dimension; for hybrid sharding two, (replicas, shards). None where there is one process."""
    if case.spread.name in ONE_PROCESS:
        return None
    replicas = int(case.spread.options.get("replicate", 1))
    shape = (case.world_size,) if replicas == 1 else (replicas, case.world_size // replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard")[-len(shape) :])


def _device(case: Case) -> torch.device:
    if not case.on_accelerator:
        return torch.device("cpu")
    module, index = torch.get_device_module(case.device), int(os.environ["LOCAL_RANK"])
    if case.oversubscribe:
        index %= module.device_count()
    module.set_device(index)
    return torch.device(case.device, index)
