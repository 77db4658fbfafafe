"""What goes with what: as the rules say it, and as it runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.machine.environment import compiler_lacks
from bench.machine.gpus import Gpu, Machine
from bench.plan.compatibility import FURTHER, GPUS, MATRIX, Cell, cells, further_cells
from bench.plan.constraints import Facts

# Strategies, precisions, checkpointing, compile: dp, 5 that have whole layers in each rank, 4 that have parts of them.
WHOLE, PARTS = (
    ("single", "ddp", "zero1", "fsdp", "fsdp:replicate=2"),
    ("ddp:tp=2", "fsdp:tp=2", "ddp:pp=2", "fsdp:pp=2"),
)
CELLS = (1 + 5 + 4) * 7 * 4 * 3
NO_TF32 = "TF32 is a mode of NVIDIA's tensor cores; the CPU has none"
NO_DP = "nn.DataParallel copies a model to GPUs and does not support the CPU; use ddp"
NO_FP8 = "--precision fp8 needs a GPU that multiplies float8; the CPU does not"
T4 = Gpu("GPU-t", "Tesla T4", 15360.0, (7, 5))
TINY = "gpt:layers=4:width=32:seq=16:heads=4:vocab=64"
HERE = Facts(Machine())
SHORT = ("--steps", "2", "--launches", "1", "--batch-size", "2", "--matmul-peak", "off", "--quiet")


def reasons(device: str, machine: Machine, lacks: str = "") -> Counter[str | None]:
    return Counter(cell.reason for cell in cells("gpt-nano", device, Facts(machine, compiler_lacks=lacks)))


def test_there_are_as_many_as_the_product() -> None:
    assert MATRIX["strategy"] == ["single", "dp", "ddp", "zero1", "fsdp", "fsdp:replicate=2", *PARTS]
    assert len(cells("gpt-nano", "cpu", HERE)) == CELLS == 840
    assert len(further_cells("gpt-nano", "cpu", HERE)) == 10 * (2 + 4 + 1 + 3)


def test_on_the_cpu() -> None:
    found = reasons("cpu", Machine())
    # Whole layers: fp32, amp-bf16, amp-fp16 and bf16. Parts: not amp-fp16, and nothing compiled.
    assert found[None] == 5 * 4 * 4 * 3 + 4 * 3 * 4
    assert found[NO_DP] == 7 * 4 * 3
    assert found[NO_TF32] == 5 * 4 * 3 + 4 * 4
    assert found[NO_FP8] == 5 * 4 * 3 + 4 * 4
    assert found[
        'torch.compile fails with some models under tp=2 (torch 2.14, DTensor: "Mixing fake modes NYI", "\'Tensor\' object '
        "has no attribute '_local_tensor'\"), and trains others in another way; give --compile off, or a strategy without tp"
    ] == (2 * 7 * 4 * 2)
    assert found[
        "--compile compiles around what ranks exchange under pp=2, which has not been shown to train the same as single"
    ] == (2 * 7 * 4 * 2)


def test_on_gpus_that_are_assumed() -> None:
    fallback = (
        "under nn.DataParallel on several GPUs torch.compile falls back to eager (pytorch/pytorch#94636); use ddp"
    )
    found = reasons("cuda", Machine())
    assert found[fallback] == 5 * 4 * 2  # and for dp in fp8 there is another reason
    # Parts of layers: fp32, tf32, amp-bf16 and bf16 without compile.
    assert found[None] == 5 * 7 * 4 * 3 + 5 * 4 + 4 * 4 * 4


def test_on_gpus_that_are_there() -> None:
    found = reasons("cuda", Machine((T4,) * GPUS))
    tf32 = found["TF32 needs compute capability 8.0 (Ampere) or newer"]
    assert tf32 == 6 * 4 * 3 + 4 * 4
    # amp-bf16 and bf16
    assert found["bfloat16 needs compute capability 8.0 (Ampere) or newer"] == 2 * tf32


def test_without_a_compiler() -> None:
    found = reasons("cpu", Machine(), "a C++ compiler (g++)")
    assert found["torch.compile needs a C++ compiler (g++)"] == 5 * 4 * 4 * 2  # what runs otherwise and is compiled
    assert found[None] == 5 * 4 * 4 + 4 * 3 * 4


def test_without_torchao() -> None:
    found = Counter(cell.reason for cell in cells("gpt-nano", "cuda", Facts(Machine(), torchao=False)))
    assert found["--precision fp8 needs torchao, which is not installed; pip install 'stepbench[fp8]'"] > 0
    assert found[None] == reasons("cuda", Machine())[None] - 5 * 2 * 4 * 3


def test_a_workload_that_cannot_be_divided() -> None:
    assert reasons_of_strategies("resnet18") == dict.fromkeys(PARTS, True)
    assert [reasons_of_strategies(name) for name in ("gpt-nano", "llama-8b", "bert", "vit-b-16")] == [{}] * 4


def reasons_of_strategies(workload: str) -> dict[str, bool]:
    """Return which strategies need a member that the workload lacks."""
    found = cells(workload, "cuda", HERE)
    return {
        cell.values["strategy"]: True for cell in found if cell.reason and cell.reason.startswith(f"{workload} lacks")
    }


def test_the_command_shows_every_reason_and_json_every_cell(bench_here: Any) -> None:
    run = bench_here("matrix")
    assert run.code == 0
    assert [line for line in run.stdout.splitlines() if line.startswith(("1:", "2:"))][:2] == [
        f"1: {NO_TF32}",
        f"2: {NO_FP8}",
    ]
    said = json.loads(bench_here("matrix", "--json").stdout)
    assert len(said) == 2 * (CELLS + 100)
    assert said[0] == {
        **{"device": "cpu", "strategy": "single", "precision": "fp32", "activation_checkpointing": "none"},
        **{"compile": "off", "compile_scope": "", "attention": "auto", "activation_offload": "none"},
        **{"save_checkpoint": "none", "runs": True, "reason": None},
    }


def choice() -> list[Cell]:
    """Return for each strategy that the CPU has a cell of the product and another one; no compiler is needed.

    Each precision and each way of checkpointing is among them.
    """
    product = [cell for cell in cells(TINY, "cpu", HERE) if not cell.reason and cell.values["compile"] == "off"]
    further = [cell for cell in further_cells(TINY, "cpu", HERE) if not cell.reason and "compile" not in cell.values]
    chosen = []
    for number, strategy in enumerate((*WHOLE, *PARTS)):
        for found, step in ((product, 5), (further, 1)):
            own = [cell for cell in found if cell.values["strategy"] == strategy]
            chosen.append(own[number * step % len(own)])
    return chosen


def test_the_choice_has_each_value() -> None:
    values = {(name, value) for cell in choice() for name, value in cell.values.items()}
    for name, of_axis in {**MATRIX, **FURTHER}.items():
        runs = {value for axis, value in values if axis == name}
        assert name in ("compile", "compile_scope") or runs | {"dp", "tf32", "fp8", "fp8-rowwise"} >= set(of_axis) - {
            *("efficient", "cudnn", "cpu")
        }


def suite(folder: Path, some: Sequence[Cell]) -> Path:
    """Write a suite with these cells."""
    file = folder / "cells.toml"
    rows = [[f"{name} = {json.dumps(value)}" for name, value in cell.values.items()] for cell in some]
    head = ["[[matrix]]", f"workload = {json.dumps(TINY)}", f"gpus = {GPUS}", 'device = "cpu"']
    file.write_text("\n".join("\n".join([*head, *row, ""]) for row in rows))
    return file


@pytest.mark.launch
def test_a_choice_of_cells_runs(bench: Any, tmp_path: Path) -> None:
    some = choice()
    less = ("--count", "off", "--stragglers", "off", "--warmup-steps", "3")
    run = bench("run", "--suite", str(suite(tmp_path, some)), *SHORT, *less)
    assert [(row["case_id"], row["status"]) for row in run.rows() if row["status"] != "ok"] == []
    assert len(run.by_case()) >= len({cell.case for cell in some})


@pytest.mark.slow
@pytest.mark.timeout(10800)
@pytest.mark.parametrize("compiled", [False, True], ids=["not compiled: 15 minutes", "compiled: 2 hours"])
def test_every_cell_runs_or_says_why_not(bench: Any, tmp_path: Path, compiled: bool) -> None:
    known = Facts(Machine(), compiler_lacks=compiler_lacks())
    every = [*cells(TINY, "cpu", known), *further_cells(TINY, "cpu", known)]
    some = [cell for cell in every if (cell.case.compile != "off") == compiled]
    words = ("--env", f"TORCHINDUCTOR_CACHE_DIR={tmp_path}/cache")  # equal kernels are built once: minutes less
    run = bench("run", "--suite", str(suite(tmp_path, some)), *SHORT, *words, timeout=10800)
    axes = (*MATRIX, *FURTHER)
    expected = {tuple(str(getattr(cell.case, name) or "") for name in axes): cell.reason for cell in some}
    seen = {tuple(row[name] for name in axes): (row["status"], row["reason"]) for row in run.rows()}
    assert seen == {values: ("ok", "") if why is None else ("skipped", why) for values, why in expected.items()}
    assert run.code == 0
