"""Builds the training of a spec: device, process group, model, strategy, optimizer and batches."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import loss_parallel

from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.options import FLOAT8
from bench.plan.strategies import ONE_PROCESS, REPLICATED
from bench.rank.activation_offload import ActivationOffload
from bench.rank.attention import choose_attention
from bench.rank.compiling import CompileLog
from bench.rank.distributed_tensors import local_of
from bench.rank.loader import Batches, batches, to_device
from bench.rank.mesh import mesh_of, of_tensor
from bench.rank.optimizers import Optimizers, by_class, optimizers_of
from bench.rank.parallelize import Way, parallelize
from bench.rank.pipeline import Pipeline, autocasting
from bench.rank.private import FakeStore
from bench.rank.recorded import PATIENCE_S
from bench.rank.script.names import loopback_interface
from bench.rank.settings import settings
from bench.rank.tensor_parallel import clip
from bench.strategies.dp import device_ids
from workloads.base import Batch, load
from workloads.batches import map_tensors
from workloads.checks import Checked

AUTOCAST = {"amp-fp16": torch.float16, **dict.fromkeys(("amp-bf16", *FLOAT8), torch.bfloat16)}
NEVER = 1 << 30  # steps: the scale never grows, so that it shows how many steps were skipped


@dataclass
class Training:
    """A model under its strategy, ready to train."""

    case: Case
    workload: Checked
    strategy: Any
    model: nn.Module
    optimizers: Optimizers
    scaler: torch.amp.GradScaler
    batches: Batches
    device: torch.device
    devices: list[torch.device]  # all devices of this rank, ``device`` first
    distributed: bool
    autocast: torch.dtype | None
    forward_is_local: bool | None
    compile_log: CompileLog | None
    mesh: DeviceMesh | None  # of all ranks
    pipeline: Pipeline | None
    pinned: dict[str, str]  # PyTorch's settings before the workload's code ran
    offload: ActivationOffload | None = None

    @property
    def models(self) -> Sequence[nn.Module]:
        """What the strategy has distributed: the model, each of several of a step of the workload's own, or stages."""
        several = isinstance(self.model, nn.ModuleDict) and (self.workload.has_step or self.pipeline)
        return list(self.model.values()) if several else [self.model]  # type: ignore[operator]

    def synchronize(self) -> None:
        """Wait until the devices of this rank have done all that they were given."""
        if self.case.on_accelerator:
            for device in self.devices:
                torch.get_device_module(device).synchronize(device)

    def gradient_sync(self, on: bool) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the backward pass exchanges gradients if ``on``, else accumulates them."""
        if self.case.micro_batches == 1:
            return contextlib.nullcontext()
        with contextlib.ExitStack() as stack:
            for model in self.models:
                stack.enter_context(self.strategy.gradient_sync(model, on))
            return stack.pop_all()

    def autocasting(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model computes in another precision, if the strategy leaves that to it."""
        return autocasting(self.device, self.autocast)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a micro-batch, divided by the number of micro-batches in a step."""
        offloading = self.offload.active() if self.offload else contextlib.nullcontext()
        with self.autocasting(), offloading, self._of_divided_logits():
            loss = self.workload.loss(self.model, batch)
            loss = local_of(loss)
        return loss / self.case.micro_batches if self.case.micro_batches > 1 else loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients, of a scaled loss under amp-fp16."""
        with self._of_divided_logits():
            self.scaler.scale(loss).backward()

    def _of_divided_logits(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a loss and its gradients are computed from parts of the logits, if asked for."""
        asked = self.case.spread.options.get("loss-parallel") == "on"
        return loss_parallel() if asked else contextlib.nullcontext()

    def update(self) -> Tensor | None:
        """Clip the gradients, take the optimizer step and free the gradients.

        Return their norm before clipping, or None without clipping.
        """
        norm = None
        if self.case.max_grad_norm:
            self.optimizers.unscale(self.scaler)
            norm = self._clip(self.case.max_grad_norm)
        self.optimizers.step(self.scaler)
        return norm

    def _clip(self, most: float) -> Tensor:
        """Clip the gradients, and return the norm that they had over all ranks."""
        parameters = list(self.model.parameters())
        if self.pipeline:
            return self.pipeline.clip(parameters, most)
        tensor = of_tensor(self.mesh)
        if tensor is not None and self.case.spread.name in REPLICATED:
            return clip(parameters, most, tensor)
        return torch.nn.utils.clip_grad_norm_(parameters, most)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch on the device, in the type and layout that the model computes with."""
        if self.batches.resident is not None and self.batches.resident.copies:
            return map_tensors(Tensor.clone, batch)  # already on the device; the model changes it in place
        return to_device(batch, self.case, self.device)


def place(spec: Spec) -> list[torch.device]:
    """Pin numerics, create the process group and return the devices of this rank, its own first."""
    case = spec.case
    pin_numerics(case)
    device = device_of(case)
    if case.fake_ranks:
        join_fake_group(case.world_size)
    elif case.spread.name not in ONE_PROCESS:
        # The parent process ends a hang, so that this time-out never ends a healthy rank.
        timeout = timedelta(seconds=spec.timeout_s + PATIENCE_S)
        backend = _backend(case)
        if loopback := loopback_interface():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        dist.init_process_group(backend, timeout=timeout, device_id=device if backend == "nccl" else None)
    return (
        [torch.device(device.type, i) for i in dict.fromkeys(device_ids(case))]
        if case.spread.name == "dp"
        else [device]
    )


def build(spec: Spec, devices: list[torch.device], loaded: Callable[[], None] = lambda: None) -> Training:
    """Build everything that the first step needs. Every rank draws the same weights from the seed.

    ``loaded`` is called as soon as the workload's module has been imported.
    """
    case, device = spec.case, devices[0]
    pinned = settings()
    workload = load(spec.target, spec.options)
    loaded()
    torch.manual_seed(case.seed)
    strategy = importlib.import_module(f"bench.strategies.{case.spread.name}")
    mesh = mesh_of(case, device)
    compile_log = CompileLog() if case.compile != "off" else None
    autocast = None if strategy.OWN_PRECISION else AUTOCAST.get(str(case.precision))
    way = Way(workload, case, strategy, device, mesh, spec.compile_cache, autocast)
    made = parallelize(way, spec.methods)
    model = made.model
    return Training(
        case=case,
        workload=workload,
        strategy=strategy,
        model=model,
        optimizers=optimizers_of(workload, model, case, getattr(strategy, "optimizer", by_class)),
        scaler=torch.amp.GradScaler(device.type, growth_interval=NEVER, enabled=case.precision == "amp-fp16"),
        batches=batches(workload, spec.data, case, device),
        device=device,
        devices=devices,
        distributed=case.spread.name not in ONE_PROCESS,
        autocast=autocast,
        forward_is_local=made.forward_is_local,
        compile_log=compile_log,
        mesh=mesh,
        pipeline=made.pipeline,
        pinned=pinned,
        offload=_offload(case, device),
    )


def _offload(case: Case, device: torch.device) -> ActivationOffload | None:
    if case.activation_offload in (None, "none"):
        return None
    return ActivationOffload(device, keeps_strides=case.compile != "off")


def pin_numerics(case: Case) -> None:
    """Pin precision and determinism: fp32 turns TF32 off, whatever the environment says."""
    tf32 = case.precision == "tf32"
    if tf32 and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise RuntimeError("NVIDIA_TF32_OVERRIDE=0 forbids what --precision tf32 asks for; unset it")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = bool(case.cudnn_benchmark)
    choose_attention(case.attention or "auto")
    if case.deterministic:
        # required by cuBLAS, which reads it with its first handle
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def join_fake_group(ranks: int) -> None:
    """Make this process rank 0 of ``ranks``; the collectives of its group do as if all ranks had the same tensors."""
    os.environ["WORLD_SIZE"] = str(ranks)  # for workloads that read it
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)


def _backend(case: Case) -> str:
    if not case.on_accelerator or case.oversubscribe:
        return "gloo"
    # The norm of gradients on the host is summed over ranks on the host.
    return "cpu:gloo,cuda:nccl" if case.spread.options.get("offload") == "cpu" else "nccl"


def device_of(case: Case) -> torch.device:
    """Return the device of this rank, which becomes the current one."""
    if not case.on_accelerator:
        return torch.device("cpu")
    module, index = torch.get_device_module(case.device), int(os.environ["LOCAL_RANK"])
    if case.oversubscribe:
        index %= module.device_count()
    module.set_device(index)
    return torch.device(case.device, index)
