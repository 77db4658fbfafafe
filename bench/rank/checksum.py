"""A checksum that tells whether two tensors are equal bit by bit, without copying them."""

from __future__ import annotations

import torch
from torch import Tensor

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
CHUNK = {"cpu": 1 << 18}  # numbers that are widened to 8 bytes at once
DEVICE_CHUNK = 1 << 22
PRIME = (1 << 61) - 1


def checksum(tensor: Tensor) -> int:
    """Return 64 bits that depend on every bit of the tensor and its position, for every type, NaN included.

    Numbers are taken in the order in which they lie in memory. The device is synchronised once.
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.numel():
        return 0
    chunk = CHUNK.get(tensor.device.type, DEVICE_CHUNK)
    bits = _flat(tensor).view(INTEGERS[tensor.element_size()])
    # int64 wraps around: arithmetic modulo 2**64
    odd = torch.arange(1, 2 * min(chunk, bits.numel()), 2, device=tensor.device)
    sums = torch.stack([(part.to(torch.int64) * odd[: part.numel()]).sum() for part in bits.split(chunk)])
    total = 0
    for one in sums.tolist():
        total = (total * PRIME + one) % (1 << 64)
    return total


def _flat(tensor: Tensor) -> Tensor:
    """Return the tensor in one dimension: a view if its numbers lie side by side in memory (also NHWC), else a copy."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).reshape(-1)
