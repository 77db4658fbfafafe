"""Clips gradients that several ranks have parts of."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from bench.rank.distributed_tensors import whole_of


def clip_over(
    group: dist.ProcessGroup,
    parameters: Sequence[nn.Parameter],
    most: float,
    parts: Sequence[Tensor],
    same: Sequence[Tensor] = (),
) -> Tensor:
    """Clip the gradients of a rank's parameters, and return the norm of those of all ranks of a group together.

    Of the gradients that count, each rank has other ``parts``, and all ranks have the ``same`` others. Every rank has a
    parameter.
    """
    squares = whole_of(get_total_norm(parts)).to(parameters[0].device).square()
    dist.all_reduce(squares, group=group)
    norm = (squares + get_total_norm(same).square()).sqrt()
    clip_grads_with_norm_(parameters, most, norm)
    return norm
