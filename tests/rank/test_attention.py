"""The kernel of attention that a rank asks for is the one that runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from bench.rank.attention import choose_attention


@pytest.fixture(autouse=True)
def chosen_as_before() -> Iterator[None]:
    yield
    choose_attention("auto")


def operators(kernel: str, device: str, dtype: torch.dtype) -> set[str]:
    """Return the operators by which PyTorch computes attention, as its profiler names them."""
    choose_attention(kernel)
    q, k, v = torch.randn(3, 2, 4, 16, 64, device=device, dtype=dtype)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return {event.key.removeprefix("aten::_scaled_dot_product_") for event in seen.key_averages()}


@pytest.mark.parametrize(
    ("kernel", "operator"), [("auto", "flash_attention_for_cpu"), ("flash", "flash_attention_for_cpu")]
)
def test_flash_attention_of_the_cpu(kernel: str, operator: str) -> None:
    found = operators(kernel, "cpu", torch.float32)
    assert operator in found
    assert "attention_math" not in found


def test_matrix_products_on_the_cpu() -> None:
    found = operators("math", "cpu", torch.float32)
    assert "attention_math" in found
    assert "flash_attention_for_cpu" not in found


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kernel", "operator"),
    [
        ("flash", "flash_attention"),
        ("efficient", "efficient_attention"),
        ("cudnn", "cudnn_attention"),
        ("math", "attention_math"),
    ],
)
def test_kernels_of_a_gpu(kernel: str, operator: str) -> None:
    assert operator in operators(kernel, "cuda", torch.bfloat16)


def test_all_are_allowed_again() -> None:
    choose_attention("math")
    assert not torch.backends.cuda.flash_sdp_enabled()
    choose_attention("auto")
    cuda = torch.backends.cuda
    assert all([cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()])
