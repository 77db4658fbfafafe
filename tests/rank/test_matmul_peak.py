"""Products that a rank times: which shapes, how often, and when it stops. Nothing here depends on how fast they are."""

from __future__ import annotations

import pytest
import torch

from bench.rank import matmul_peak
from bench.rank.matmul_peak import LEAST_PRODUCTS, SHAPES, timed
from bench.rank.private import scaled_mm

CPU = torch.device("cpu")
SMALL = ((16, 32, 48), (64, 32, 48))
LONG = 1e6  # seconds


def test_each_shape_is_multiplied_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_peak, "SECONDS_A_SHAPE", 0.0)
    found = timed(CPU, torch.float32, SMALL, LONG)
    assert [(product.m, product.n, product.k) for product in found] == list(SMALL)
    assert [product.times for product in found] == [LEAST_PRODUCTS] * 2
    assert all(product.median_s > 0 for product in found)


def test_without_time_one_product_of_the_first_shape_is_measured() -> None:
    (only,) = timed(CPU, torch.bfloat16, SMALL, 0.0)
    assert (only.m, only.n, only.k, only.times) == (16, 32, 48, 1)


def test_float8_is_multiplied_into_bfloat16_with_a_scale() -> None:
    """By the definition of a product of matrices, in float64; the sum is rounded to bfloat16, off by up to 2^-9."""
    a, b = torch.randn(16, 48).to(torch.float8_e4m3fn), torch.randn(32, 48).to(torch.float8_e4m3fn)
    out = torch.empty(16, 32, dtype=torch.bfloat16)
    scaled_mm(a, b.t(), torch.ones(()), out)
    exact = a.double() @ b.double().t()
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=0.01)
    (only,) = timed(CPU, torch.float8_e4m3fn, SMALL, 0.0)
    assert (only.m, only.n, only.k, only.times) == (16, 32, 48, 1)


def test_a_shape_that_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rate so far: 2 x 10^18 FLOPs take every CPU longer than these seconds, and 10^12 numbers its memory."""
    monkeypatch.setattr(matmul_peak, "SECONDS_A_SHAPE", 0.0)
    monkeypatch.setattr(matmul_peak, "MOST_BYTES", 1 << 60)
    found = timed(CPU, torch.float32, ((16, 16, 16), (10**6, 10**6, 10**6)), 60.0)
    assert len(found) == 1


def test_a_shape_that_does_not_fit_the_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_peak, "SECONDS_A_SHAPE", 0.0)
    monkeypatch.setattr(matmul_peak, "MOST_BYTES", 4 * (16 * 48 + 48 * 32 + 16 * 32))
    assert len(timed(CPU, torch.float32, (SMALL[0], SMALL[0], SMALL[1]), LONG)) == 2


def test_each_shape_has_more_flops_than_the_one_before() -> None:
    flops = [m * n * k for m, n, k in SHAPES]
    assert flops == sorted(set(flops))
    assert any(m != k for m, _, k in SHAPES)
    assert any(m == n == k for m, n, k in SHAPES)


@pytest.mark.gpu
def test_products_on_a_gpu_are_timed_by_its_events() -> None:
    """A product of 8192^3 in bfloat16 takes every GPU more than 0.1 ms, and the host far less to enqueue."""
    (found,) = timed(torch.device("cuda", 0), torch.bfloat16, ((8192, 8192, 8192),), 60.0)
    assert found.median_s > 1e-4
