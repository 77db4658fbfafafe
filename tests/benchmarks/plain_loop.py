"""Trains a workload in a loop as one writes it by hand, with nothing of ``bench``: the stopwatch of real_models.py."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset, default_collate

sys.path.append(str(Path(__file__).parents[1] / "real_models"))

from find import module_of, workload_of


class Plain:
    """A model with its optimizers and its batch: ``train(steps)`` returns the losses."""

    def __init__(self, name: str, options: dict[str, Any], strategy: str, batch_size: int = 0) -> None:
        torch.manual_seed(0)
        workload = workload_of(name, **options)
        built = workload.build()
        if isinstance(built, dict):
            built = {key: distributed(one, workload.layers(built), strategy) for key, one in built.items()}
        else:
            built = distributed(built, workload.layers(built), strategy)
        self.optimizers, self.schedulers = optimizers_of(workload, built)
        self.batch = first_batch(workload, batch_size or workload.batch_size)
        if hasattr(workload, "step"):
            self.step = by_hand(module_of(name.partition(".")[0]).plain, built, self.optimizers)
        else:
            self.step = by_loss(workload, built, self.optimizers)

    def train(self, steps: int) -> list[torch.Tensor]:
        losses = []
        for _ in range(steps):
            losses.append(self.step(self.batch).detach())
            for scheduler in self.schedulers:
                scheduler.step()
        return losses

    def timed(self, steps: int) -> int:
        """Train, and return nanoseconds by one outer clock, from when all ranks are ready."""
        if dist.is_initialized():
            dist.barrier()
        start = time.perf_counter_ns()
        self.train(steps)
        return time.perf_counter_ns() - start


def by_loss(workload: Any, model: nn.Module, optimizers: list[Any]) -> Callable[[Any], torch.Tensor]:
    def step(batch: Any) -> torch.Tensor:
        loss = workload.loss(model, batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return step


def by_hand(plain: Callable[..., torch.Tensor], models: Any, optimizers: list[Any]) -> Callable[[Any], torch.Tensor]:
    return lambda batch: plain(models, optimizers, batch)


def distributed(model: nn.Module, layers: list[nn.Module], strategy: str) -> nn.Module:
    model.train()
    if strategy == "ddp":
        return DistributedDataParallel(model)
    if strategy == "fsdp":
        inside = set(model.modules())
        for layer in layers:
            if layer in inside:
                fully_shard(layer)
        fully_shard(model)
    return model


def optimizers_of(workload: Any, model: Any) -> tuple[list[Any], list[Any]]:
    """Return the workload's own, or what ``--optimizer`` is by default."""
    if not hasattr(workload, "optimizers"):
        usual = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.1}
        return [torch.optim.AdamW(model.parameters(), fused=True, **usual)], []
    given = workload.optimizers(model)
    pairs = [one if isinstance(one, tuple) else (one, None) for one in (given if isinstance(given, list) else [given])]
    return [optimizer for optimizer, _ in pairs], [scheduler for _, scheduler in pairs if scheduler]


def first_batch(workload: Any, size: int) -> Any:
    """Return this rank's first batch, which all steps train on."""
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if hasattr(workload, "loader"):
        return next(iter(workload.loader(rank, ranks, size)))
    dataset = workload.samples("resident")
    if isinstance(dataset, IterableDataset):
        items = list(itertools.islice(dataset, rank, size * ranks, ranks))
    else:
        items = [dataset[index] for index in range(rank * size, (rank + 1) * size)]
    return getattr(workload, "collate_fn", default_collate)(items)
