"""A number that tells whether two tensors are the same, bit by bit, without a copy of either."""

from __future__ import annotations

import torch
from torch import Tensor

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
CHUNK = {"cpu": 1 << 18}  # numbers that are widened to 8 bytes at a time
DEVICE_CHUNK = 1 << 22
PRIME = (1 << 61) - 1


def checksum(tensor: Tensor) -> int:
    """Return 64 bits that depend on every bit of the tensor and on its place, whatever its type; NaN is as any number.

    Numbers are taken in the order in which they lie in memory. The device is synchronised once.
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.numel():
        return 0
    chunk = CHUNK.get(tensor.device.type, DEVICE_CHUNK)
    bits = _flat(tensor).view(INTEGERS[tensor.element_size()])
    odd = torch.arange(1, 2 * min(chunk, bits.numel()), 2, device=tensor.device)  # int64 wraps around: modulo 2**64
    sums = torch.stack([(part.to(torch.int64) * odd[: part.numel()]).sum() for part in bits.split(chunk)])
    total = 0
    for one in sums.tolist():
        total = (total * PRIME + one) % (1 << 64)
    return total


def _flat(tensor: Tensor) -> Tensor:
    """One dimension: a view where the numbers lie side by side in memory, as in channels_last too, else a copy."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).reshape(-1)
