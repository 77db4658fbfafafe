"""The share of the fastest matrix products, in a run of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matmul_loop import bare_tflops

WORDS = ("--workload", "mlp", "--strategy", "single", "--device", "cpu", "--launches", "1", "--steps", "5")
MEASURING = "measuring the fastest matrix products"


@pytest.mark.slow
def test_a_run_measures_the_peak_once_and_later_runs_use_it(bench: Any, tmp_path: Path) -> None:
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = (bench("run", *WORDS, "--omp-num-threads", "1,2", environment=own) for _ in range(2))
    disturbed = first.stderr.count("other programs ran while the matmul peak")  # those are measured once more
    assert (first.stderr.count(MEASURING), second.stderr.count(MEASURING)) == (2, disturbed)
    peaks = [[float(row["matmul_peak_tflops"]) for row in run.by_case()] for run in (first, second)]
    assert sum(a == b for a, b in zip(*peaks, strict=True)) >= 2 - disturbed
    for row in [*first.rows(), *second.rows()]:
        achieved = float(row["mfu_achievable"]) * float(row["matmul_peak_tflops"])
        assert achieved == pytest.approx(float(row["tflops_per_device"]))
        assert (row["mfu"], row["peak_tflops"], row["flops_note"]) == ("", "", "")
    shown = bench("env", environment=own)
    assert shown.stdout.count("matmul peak, fp32") == 2


@pytest.mark.slow
def test_a_script_in_float32_has_a_share_too(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "model = torch.nn.Linear(512, 512)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
        "for x in torch.utils.data.DataLoader(torch.randn(4096, 512), 64):\n"
        "    optimizer.zero_grad()\n"
        "    model(x).square().mean().backward()\n"
        "    optimizer.step()\n"
    )
    words = ("--script", "train.py", "--gpus", "1", "--device", "cpu", "--launches", "1", "--steps", "5")
    (row,) = bench("run", *words, "--count-flops", "on").rows()
    assert float(row["mfu_achievable"]) * float(row["matmul_peak_tflops"]) == pytest.approx(
        float(row["tflops_per_device"])
    )


@pytest.mark.slow
def test_the_peak_is_that_of_a_bare_loop(bench: Any, tmp_path: Path) -> None:
    """By torch's own timer, the fastest shape is as fast; other programs may disturb either of both."""
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    bench("run", *WORDS, environment=own)
    (stored,) = json.loads(bench("env", "--json", environment=own).stdout)["matmul_peaks"]
    m, n, k = (max(stored["peak"]["products"], key=rate)[name] for name in "mnk")
    ratio = stored["tflops"] / bare_tflops("cpu", torch.float32, (m, n, k), threads=1)
    print(f"peak / bare loop of ({m}, {k}) by ({k}, {n}): {ratio:.3f}")
    assert 1 / 3 < ratio < 3


def rate(product: dict[str, Any]) -> float:
    return float(product["m"] * product["n"] * product["k"] / product["median_s"])
