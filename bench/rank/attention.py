"""The kernel of ``scaled_dot_product_attention``."""

from __future__ import annotations

from collections.abc import Callable

import torch

# By the values of --attention: what allows PyTorch to choose each kernel.
ALLOW: dict[str, Callable[[bool], None]] = {
    "flash": torch.backends.cuda.enable_flash_sdp,
    "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
    "cudnn": torch.backends.cuda.enable_cudnn_sdp,
    "math": torch.backends.cuda.enable_math_sdp,
}


def choose_attention(kernel: str) -> None:
    """Allow one kernel alone for this process, on any device; each if it is ``auto``.

    A call that the kernel cannot compute then raises RuntimeError, except that the CPU takes ``math`` instead.
    """
    for name, allow in ALLOW.items():
        allow(kernel in (name, "auto"))
