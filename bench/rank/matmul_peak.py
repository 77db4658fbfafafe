"""The fastest matrix products of this rank: square and rectangular ones are timed, the small ones first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.messages.heartbeat import STAGE
from bench.messages.matmul_peak import MatmulPeak, Product
from bench.messages.spec import Spec
from bench.plan.options import arithmetic
from bench.rank.build import device_of, pin_numerics
from bench.rank.clock import AcceleratorClock, HostClock, run_delay_ns
from bench.rank.private import scaled_mm
from bench.rank.recorded import recorded
from bench.rank.settings import threads
from bench.rank.software import device_facts

# (m, n, k), each with more FLOPs than the one before: small ones for a processor that computes a type in software, and
# large ones, without which a GPU is not busy.
SHAPES = (
    *((256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 512), (2048, 2048, 2048)),
    *((4096, 4096, 1024), (4096, 4096, 4096), (8192, 8192, 2048), (8192, 8192, 8192), (16384, 16384, 4096)),
)
TYPES = {
    **{"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16},
    "fp8": torch.float8_e4m3fn,
}
Multiply = Callable[[], object]
SECONDS = 3.0  # for all shapes
SECONDS_A_SHAPE, LEAST_PRODUCTS = 0.2, 5
MOST_BYTES = 1 << 30  # of the matrices of a product on the CPU


def run(spec_path: str) -> None:
    """Write ``matmul_peak.json`` for the device, the threads and the precision of ``spec.json``."""
    spec = Spec.read(spec_path)
    with recorded(spec) as (_, heartbeat):
        pin_numerics(spec.case)
        device, kind = device_of(spec.case), arithmetic(str(spec.case.precision))
        delay_ns = run_delay_ns(all_threads=True)
        products = timed(device, TYPES[kind])
        delay_ns = run_delay_ns(all_threads=True) - delay_ns
        waited = 0.0 if spec.case.on_accelerator else delay_ns / 1e9 / sum(one.times * one.median_s for one in products)
        name, (number, _) = device_facts([device])[0], threads()
        MatmulPeak(name, kind, number, torch.__version__, products, waited).write(Path(spec.folder))
        heartbeat.enter(STAGE["done"])


def timed(
    device: torch.device,
    dtype: torch.dtype,
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    seconds: float = SECONDS,
) -> list[Product]:
    """Return the time of each shape's product, without those for which ``seconds`` or the memory do not suffice.

    The first shape is always measured, at least once.
    """
    until, found, most = time.monotonic() + seconds, list[Product](), _most_bytes(device)
    for m, n, k in shapes:
        fastest = max((product.tflops for product in found), default=None)
        left = until - time.monotonic()
        if fastest and (LEAST_PRODUCTS + 1) * 2 * m * n * k / (fastest * 1e12) > left:
            break
        if found and (m * k + k * n + m * n) * dtype.itemsize > most:
            break
        found.append(_product(device, dtype, (m, n, k), until))
    return found


def _product(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], until: float) -> Product:
    """Multiply until LEAST_PRODUCTS and SECONDS_A_SHAPE are reached, or the time is over; the first is not counted."""
    m, n, k = shape
    multiply = _multiplying(device, dtype, (m, n, k))
    multiply()
    found: list[float] = []
    while not found or time.monotonic() < until:
        found += _seconds(device, multiply)
        if len(found) >= LEAST_PRODUCTS and sum(found) >= SECONDS_A_SHAPE:
            break
    return Product(m, n, k, len(found), statistics.median(found))


def _multiplying(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> Multiply:
    """Return a function that multiplies matrices of random numbers; those of float8 into bfloat16."""
    m, n, k = shape
    # Random numbers: a GPU multiplies zeros faster, as it then needs less power.
    if dtype.itemsize > 1:
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
        out = torch.empty(m, n, device=device, dtype=dtype)
        return lambda: torch.mm(a, b, out=out)
    left, right = torch.randn(m, k, device=device).to(dtype), torch.randn(n, k, device=device).to(dtype).t()
    narrow, scale = torch.empty(m, n, device=device, dtype=torch.bfloat16), torch.ones((), device=device)
    return lambda: scaled_mm(left, right, scale, narrow)


def _seconds(device: torch.device, multiply: Multiply) -> list[float]:
    """Return the seconds of one product on the CPU, or of each of LEAST_PRODUCTS, by events, on an accelerator."""
    on_cpu = device.type == "cpu"
    clock = HostClock() if on_cpu else AcceleratorClock(device)
    clock.start()
    for _ in range(1 if on_cpu else LEAST_PRODUCTS):
        multiply()
        clock.mark()
    if not on_cpu:
        torch.get_device_module(device).synchronize(device)
    return [ns / 1e9 for ns in clock.parts_ns()]


def _most_bytes(device: torch.device) -> int:
    """Return how many bytes the matrices of a product may have: half of what is free on an accelerator."""
    return MOST_BYTES if device.type == "cpu" else int(torch.get_device_module(device).mem_get_info(device)[0]) // 2
