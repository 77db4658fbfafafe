"""What a script does by itself, as far as its warm-up shows: strategy, autocast, checkpointing, compilation."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

from bench.rank.private import CHECKPOINT_FUNCTION, CHECKPOINT_GENERATORS, compiler_counters
from bench.rank.replaced import replaced
from bench.rank.settings import settings

WRAPPERS = {DistributedDataParallel: "ddp", FullyShardedDataParallel: "fsdp1", DataParallel: "dp"}
SHORT = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class Seen:
    """Notes calls between ``install`` and ``remove``, which cost the window nothing."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.modules: list[Any] = []  # what was wrapped for data parallelism
        self._autocast: set[torch.dtype] = set()
        self._checkpoints = 0
        self._graphs_before = 0
        self._optimizers: dict[int, tuple[str, list[Any]]] = {}
        self._made: list[Any] = []  # these optimizers themselves

    def install(self) -> None:
        """Begin to note."""
        self._graphs_before = _graphs()
        for kind in WRAPPERS:
            self._stack.enter_context(replaced(kind, "__init__", self._noting_module))
        self._stack.enter_context(replaced(torch.autocast, "__enter__", self._noting_autocast))
        checkpoints = torch.utils.checkpoint
        places = [(checkpoints, name) for name in CHECKPOINT_GENERATORS if hasattr(checkpoints, name)]
        for owner, name in [*places, (getattr(checkpoints, CHECKPOINT_FUNCTION), "forward")]:
            self._stack.enter_context(replaced(owner, name, self._noting_checkpoint))

    def remove(self) -> None:
        """Note nothing any more."""
        self._stack.close()

    def compiles(self) -> bool:
        """Return whether the script has compiled anything."""
        return _graphs() > self._graphs_before

    def held(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the parameters that optimizers update, the optimizers of torch, and the wrapped modules."""
        return self._parameters(), [one for one in self._made if isinstance(one, torch.optim.Optimizer)], self.modules

    def optimizer(self, key: int, optimizer: Any) -> None:
        """Note an optimizer that has made a step."""
        if key not in self._optimizers:
            self._made.append(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._optimizers[key] = type(optimizer).__name__, parameters

    def name(self, key: int) -> str:
        """Return the name of an optimizer's class."""
        return self._optimizers[key][0] if key in self._optimizers else "an optimizer"

    def words(self) -> list[str]:
        """Return what the script does by itself: the strategy first."""
        graphs = _graphs() - self._graphs_before
        return [
            *self._strategies(),
            *(f"autocast {SHORT.get(dtype, str(dtype))}" for dtype in sorted(self._autocast, key=str)),
            *(["checkpointing"] if self._checkpoints else []),
            *([f"compiled, {graphs} graph{'s' * (graphs != 1)}"] if graphs else []),
        ]

    def precision(self) -> str | None:
        """Return the precision as ``--precision`` names it, if what was seen tells it.

        On an accelerator float32 does not tell it: convolutions and products may compute in TF32, each by its setting.
        """
        types = {p.dtype for p in self._parameters() if p.is_floating_point()}
        on_cpu = {p.device.type for p in self._parameters()} == {"cpu"}
        if len(self._autocast) == 1 and types == {torch.float32}:
            return {torch.bfloat16: "amp-bf16", torch.float16: "amp-fp16"}.get(next(iter(self._autocast)))
        if not self._autocast and types == {torch.bfloat16}:
            return "bf16"
        if not self._autocast and types == {torch.float32} and on_cpu:
            return "fp32" if settings()["float32_matmul_precision"] == "highest" else None
        return None

    def parameters(self) -> int | None:
        """Return the number of parameters that the optimizers update; None for shards of unknown tensors."""
        if any(isinstance(module, FullyShardedDataParallel) for module in self.modules):
            return None
        found = self._parameters()
        return sum(parameter.numel() for parameter in found) if found else None

    def replicas(self) -> dict[str, torch.Tensor]:
        """Return the parameters that every rank has, by name: those of modules under DistributedDataParallel."""
        found = {}
        for number, module in enumerate(m for m in self.modules if isinstance(m, DistributedDataParallel)):
            ignored: set[str] = module.parameters_to_ignore
            for name, parameter in module.module.named_parameters():
                if name not in ignored and not isinstance(parameter, DTensor):
                    found[f"{number}.{name}" if number else name] = parameter
        return found

    def _strategies(self) -> list[str]:
        found = Counter(WRAPPERS[kind] for kind in WRAPPERS for m in self.modules if isinstance(m, kind))
        words = [name if number == 1 else f"{name} of {number} modules" for name, number in found.items()]
        meshes = {_layout(p) for p in self._parameters() if isinstance(p, DTensor)}
        return words + sorted(meshes)

    def _parameters(self) -> list[Any]:
        return list({id(p): p for _, parameters in self._optimizers.values() for p in parameters}.values())

    def _noting_module(self, init: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(init)
        def noted(module: Any, /, *args: Any, **kwargs: Any) -> None:
            init(module, *args, **kwargs)
            self.modules.append(module)

        return noted

    def _noting_autocast(self, enter: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(enter)
        def noted(autocast: Any) -> Any:
            if autocast._enabled and torch.is_grad_enabled():
                self._autocast.add(autocast.fast_dtype)
            return enter(autocast)

        return noted

    def _noting_checkpoint(self, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(checkpoint)
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._checkpoints += 1
            return checkpoint(*args, **kwargs)

        return noted


def _graphs() -> int:
    """Return how many graphs this process has compiled."""
    return ((compiler_counters() or {}).get("stats") or {}).get("unique_graphs", 0)


def _layout(parameter: DTensor) -> str:
    """Return how a distributed tensor is laid out, such as ``fsdp2, mesh 8: S`` or ``mesh dp 2 x tp 4: S(0), R``."""
    mesh = parameter.device_mesh
    names = mesh.mesh_dim_names or ("",) * mesh.ndim
    sizes = " x ".join(f"{name} {size}".strip() for name, size in zip(names, mesh.shape, strict=True))
    placements = ", ".join("S" if placement.is_shard() else "R" for placement in parameter.placements)
    fsdp = "fsdp2, " if FSDPModule.__subclasses__() else ""  # fully_shard makes a subclass for each class of module
    return f"{fsdp}mesh {sizes}: {placements}"
