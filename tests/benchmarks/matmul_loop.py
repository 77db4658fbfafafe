"""Is the measured peak that of a bare loop of ``torch.mm``, timed by ``torch.utils.benchmark``?

    python tests/benchmarks/matmul_loop.py [cpu|cuda] [THREADS]

Prints for each type and shape the rate of both, the loop after the peak, and the ratio of the largest rates.
"""

from __future__ import annotations

import sys

import torch
from torch.utils.benchmark import Timer

from bench.rank.matmul_peak import TYPES, timed


def bare_tflops(device: str, dtype: torch.dtype, shape: tuple[int, int, int], threads: int) -> float:
    """Return the largest rate of an (m, k) by (k, n) product in TFLOP/s; ``shape`` is (m, n, k)."""
    m, n, k = shape
    a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
    out = torch.empty(m, n, device=device, dtype=dtype)
    timer = Timer("torch.mm(a, b, out=out)", globals={"torch": torch, "a": a, "b": b, "out": out}, num_threads=threads)
    found = timer.blocked_autorange(min_run_time=0.5)
    return 2 * m * n * k / min(found.times) / 1e12


def main(device: str = "cpu", threads: str = "1") -> None:
    torch.set_num_threads(int(threads))
    for name in ("fp32", "bf16", *(("tf32", "fp16") if device != "cpu" else ())):
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        found = timed(torch.device(device), TYPES[name])
        bare = [bare_tflops(device, TYPES[name], (one.m, one.n, one.k), int(threads)) for one in found]
        for one, rate in zip(found, bare, strict=True):
            print(f"{name} ({one.m}, {one.k}) by ({one.k}, {one.n}): {one.tflops:.4f} and {rate:.4f} TFLOP/s")
        print(f"{name}: peak / bare loop {max(one.tflops for one in found) / max(bare):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
