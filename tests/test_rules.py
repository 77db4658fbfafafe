"""Which cases cannot run, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plain import PLAIN

from bench.case import Case
from bench.devices import Gpu, Machine
from bench.messages import Description
from bench.rules import Facts, refusal

A100 = Gpu("GPU-a", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
T4 = Gpu("GPU-t", "Tesla T4", 15360.0, (7, 5))


def case(**changes: Any) -> Case:
    return dataclasses.replace(PLAIN, **changes)


def description(**changes: Any) -> Description:
    plain = Description(
        unit="samples",
        batch_size=4,
        data=("resident", "folder"),
        tokens_per_sample=None,
        parameters=10,
        layers=2,
        flops_per_sample=None,
        hardware_flops_per_sample=None,
    )
    return dataclasses.replace(plain, **changes)


def why(case: Case, *gpus: Gpu, samples: int | None = None, description: Description | None = None) -> str | None:
    return refusal(case, Facts(Machine(gpus), samples, description))


def test_plain_case_runs() -> None:
    assert why(PLAIN) is None


def test_data_that_a_built_in_workload_cannot_read() -> None:
    reason = "gpt-nano cannot read folder; it takes resident, synthetic, text"
    assert why(case(workload="gpt-nano", data="folder=/a")) == reason
    assert why(case(workload="gpt-nano", data="text=/a")) is None
    assert why(case(data="text=/a")) == "resnet18 cannot read text; it takes resident, synthetic, folder"


def test_data_of_an_own_workload_is_known_once_torch_has_described_it() -> None:
    own = case(workload="net.py:Net", data="synthetic")
    assert why(own) is None
    assert why(own, description=description()) == "net.py:Net cannot read synthetic; it takes resident, folder"


def test_samples_must_fill_one_global_batch() -> None:
    # 32 x 2 ranks = 64
    reason = "63 samples do not fill one global batch of 64; give a smaller --batch-size, fewer --gpus or more data"
    assert why(case(data="folder=/a"), samples=63) == reason
    assert why(case(data="folder=/a"), samples=64) is None
    assert why(case(data="folder=/a", strategy="single", gpus=1), samples=63) is None
    assert why(case(data="folder=/a", batch_size=None), samples=1) is None


@pytest.mark.parametrize("gpus", [(T4,), (A100, T4)])
def test_bfloat16_needs_ampere_on_every_gpu(gpus: tuple[Gpu, ...]) -> None:
    reason = "bfloat16 needs compute capability 8.0 (Ampere) or newer"
    assert why(case(device="cuda", precision="amp-bf16"), *gpus) == reason
    assert why(case(device="cuda"), *gpus) is None
    assert why(case(device="cpu", precision="amp-bf16"), *gpus) is None


def test_bfloat16_runs_on_ampere() -> None:
    assert why(case(device="cuda", precision="amp-bf16"), A100) is None


def test_fsdp_cannot_share_a_gpu() -> None:
    shared = case(device="cuda", gpus=2, oversubscribe=True)
    assert why(shared, A100) is None
    assert why(dataclasses.replace(shared, strategy="fsdp"), A100) == (
        "ranks that share a GPU talk over Gloo, for which PyTorch documents no all-gather or reduce-scatter "
        "of CUDA tensors; use ddp"
    )


def test_checkpointing_needs_layers() -> None:
    wanted = case(activation_checkpointing="full")
    assert why(wanted) is None
    assert why(wanted, description=description(layers=2)) is None
    assert why(wanted, description=description(layers=0)) == (
        "resnet18 names no layers to checkpoint: its layers() is empty"
    )
    assert why(PLAIN, description=description(layers=0)) is None


def test_first_broken_rule_gives_the_reason() -> None:
    both = case(workload="gpt-nano", data="folder=/a")
    assert why(both, samples=1) == "gpt-nano cannot read folder; it takes resident, synthetic, text"
