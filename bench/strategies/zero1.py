"""Replicas as under DDP, with the state of the optimizer sharded over all ranks (ZeRO stage 1, arXiv:1910.02054).

Each rank updates its share of the parameters and broadcasts them to the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from bench.plan.case import Case
from bench.strategies.ddp import OWN_PRECISION as OWN_PRECISION
from bench.strategies.ddp import apply as apply
from bench.strategies.ddp import forward_is_local as forward_is_local
from bench.strategies.ddp import gradient_sync as gradient_sync


def optimizer(
    kind: type[torch.optim.Optimizer], parameters: Iterable[nn.Parameter], **options: Any
) -> torch.optim.Optimizer:
    """Return an optimizer of this kind whose state is sharded.

    Parameters become views of one buffer for each rank's share, which is one broadcast instead of one for each. Not
    parameters in channels_last: as views they would be in another order than their gradients, which fused and foreach
    implementations take to be the same (seen in torch 2.15).
    """
    every = list(parameters)
    views = all(parameter.is_contiguous() for parameter in every)
    return ZeroRedundancyOptimizer(every, kind, parameters_as_bucket_view=views, **options)


def remove_collectives(model: nn.Module, case: Case) -> bool:
    """Return False: without its broadcasts the optimizer would update a share of the parameters only."""
    return False
