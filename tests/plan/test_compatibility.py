"""What goes with what: as the rules say it, and as it runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.machine.environment import compiler_lacks
from bench.machine.gpus import Gpu, Machine
from bench.plan.compatibility import GPUS, MATRIX, cells

CELLS = 5 * 5 * 4 * 3  # strategies, precisions, checkpointing, compile
NO_TF32 = "TF32 is a mode of NVIDIA's tensor cores; the CPU has none"
NO_DP = "nn.DataParallel copies a model to GPUs and does not support the CPU; use ddp"
T4 = Gpu("GPU-t", "Tesla T4", 15360.0, (7, 5))


def reasons(device: str, machine: Machine, lacks: str = "") -> Counter[str | None]:
    return Counter(cell.reason for cell in cells("gpt-nano", device, machine, lacks))


def test_on_the_cpu() -> None:
    assert reasons("cpu", Machine()) == {
        None: 4 * 4 * 4 * 3,
        NO_DP: 5 * 4 * 3,
        NO_TF32: 4 * 4 * 3,
    }


def test_on_gpus_that_are_assumed() -> None:
    fallback = (
        "under nn.DataParallel on several GPUs torch.compile falls back to eager (pytorch/pytorch#94636); use ddp"
    )
    assert reasons("cuda", Machine()) == {None: CELLS - 5 * 4 * 2, fallback: 5 * 4 * 2}


def test_on_gpus_that_are_there() -> None:
    found = reasons("cuda", Machine((T4, T4)))
    assert found["TF32 needs compute capability 8.0 (Ampere) or newer"] == 5 * 4 * 3
    assert found["bfloat16 needs compute capability 8.0 (Ampere) or newer"] == 5 * 2 * 4 * 3  # amp-bf16 and bf16


def test_without_a_compiler() -> None:
    found = reasons("cpu", Machine(), "a C++ compiler (g++)")
    assert found["torch.compile needs a C++ compiler (g++)"] == 4 * 4 * 4 * 2  # what runs otherwise and is compiled
    assert found[None] == 4 * 4 * 4


def test_the_command_shows_every_reason_and_json_every_cell(bench_here: Any) -> None:
    run = bench_here("matrix")
    assert run.code == 0
    assert [line for line in run.stdout.splitlines() if line.startswith(("1:", "2:"))][:2] == [
        f"1: {NO_TF32}",
        f"2: {NO_DP}",
    ]
    said = json.loads(bench_here("matrix", "--json").stdout)
    assert len(said) == 2 * CELLS
    assert said[0] == {
        **{"device": "cpu", "strategy": "single", "precision": "fp32", "activation_checkpointing": "none"},
        **{"compile": "off", "runs": True, "reason": None},
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_cell_runs_or_says_why_not(bench: Any, tmp_path: Path) -> None:
    axes = [word for name, values in MATRIX.items() for word in ("--" + name.replace("_", "-"), ",".join(values))]
    words = ("--workload", "mlp:features=16:width=16", "--device", "cpu", "--gpus", str(GPUS), "--batch-size", "2")
    words += ("--env", f"TORCHINDUCTOR_CACHE_DIR={tmp_path}/cache")  # equal kernels are built once: minutes less
    run = bench("run", *words, *axes, "--steps", "2", "--launches", "1", "--quiet", timeout=3600)
    expected = {cell.values: cell.reason for cell in cells("mlp", "cpu", Machine(), compiler_lacks())}
    seen = {tuple(row[name] for name in MATRIX): (row["status"], row["reason"]) for row in run.rows()}
    assert seen == {values: ("ok", "") if why is None else ("skipped", why) for values, why in expected.items()}
    assert run.code == 0
