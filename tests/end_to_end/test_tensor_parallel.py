"""Tensor parallel trains as `single` does: losses and norms of gradients over ten steps, and the first gradients."""

from __future__ import annotations

import functools

import pytest
import same_training
from same_training import SGD, assert_trained_the_same
from trainings import Trainings, cases_of

from bench.plan.case import Case
from launch.server_launcher import ServerLauncher

pytestmark = pytest.mark.timeout(1800)  # The first test of a number of ranks trains all cases of it.
STEPS = 10
MODELS = {
    "gpt": "gpt:layers=2:width=32:seq=16:heads=4",
    "llama": "llama:layers=2:width=32:hidden=48:seq=16:heads=4:kv_heads=4",
    "untied": "llama:layers=2:width=32:hidden=48:seq=16:heads=4:kv_heads=4:tied=0",
    # Its activations are whole between layers. 260 tokens divide by 4.
    "bert": "bert:layers=2:width=32:seq=16:heads=4:vocab=260",
}


@pytest.fixture(scope="module")
def trainings(
    request: pytest.FixtureRequest, launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory
) -> Trainings:
    """The trainings of all cases that are parameters of the selected tests of this module."""
    folder = tmp_path_factory.mktemp("tensor")
    return Trainings(launcher, folder, "train", "seen.npz", cases_of(request), STEPS)


pairs = functools.partial(same_training.pairs, MODELS)
TWO = pairs(("ddp:tp=2",), MODELS, {}, SGD, fast=True)
LOSS = pairs(("ddp:tp=2:loss-parallel=on",), ("gpt", "llama"), SGD, {"grad_accum_steps": 2}, fast=True)
AXES = (
    *({"activation_checkpointing": how, **SGD} for how in ("full", "selective", "every=2")),
    *({"precision": precision} for precision in ("amp-bf16", "bf16")),
    *({"optimizer": optimizer} for optimizer in ("adamw:foreach", "adamw:for-loop", "sgd:fused", "sgd:for-loop")),
    {"grad_accum_steps": 4, **SGD},
    {"max_grad_norm": 0.2, **SGD},
    {"max_grad_norm": 0.2, "grad_accum_steps": 2, "activation_checkpointing": "full", "precision": "amp-bf16"},
)
OF_DDP = ("ddp:tp=2", "ddp:tp=2:loss-parallel=on")
TOGETHER = [*pairs(OF_DDP, ("gpt", "llama"), *AXES), *pairs(OF_DDP[:1], ("bert",), *AXES)]
VIT = functools.partial(same_training.pairs, {"vit": "vit-b-16:size=32"})
IMAGES = [*VIT(("ddp:tp=2",), ("vit",), SGD), *VIT(("ddp:tp=2",), ("vit",), {"max_grad_norm": 0.2, **SGD})]
OPTIONS = pairs(("ddp:bucket-view=on:tp=2", "ddp:bucket-mb=1:tp=2"), ("gpt", "llama"), SGD)
SOME = (
    {"activation_checkpointing": "full", "grad_accum_steps": 2, "max_grad_norm": 0.2, **SGD},
    {"activation_checkpointing": "selective", "precision": "amp-bf16"},
    {"activation_checkpointing": "every=2", "precision": "bf16"},
    {"optimizer": "adamw:foreach"},
    {"optimizer": "adamw:for-loop", "max_grad_norm": 0.2},
    {"optimizer": "sgd:for-loop", "grad_accum_steps": 4},
)
FOUR = [
    *pairs(("ddp:tp=4", "ddp:tp=4:loss-parallel=on", *OF_DDP), MODELS, {}, SGD, gpus=4),
    *pairs(OF_DDP, ("gpt", "llama"), *SOME, gpus=4),
    *pairs(("ddp:tp=2", "ddp:tp=4"), ("bert",), *SOME, gpus=4),
]


@pytest.mark.parametrize(("alone", "case"), [*TWO, *LOSS, *TOGETHER, *OPTIONS, *IMAGES])
def test_two_ranks(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)


@pytest.mark.parametrize(("alone", "case"), FOUR)
def test_four_ranks(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)


OF_FSDP = ("fsdp:tp=2", "fsdp:tp=2:loss-parallel=on", "fsdp:reshard=off:tp=2")


@pytest.mark.parametrize(
    ("alone", "case"),
    [
        *pairs(OF_FSDP, MODELS, {}, SGD, gpus=4),
        *pairs(OF_FSDP[:2], ("gpt", "llama", "bert"), *SOME, gpus=4),
        *VIT(("fsdp:tp=2",), ("vit",), SGD, gpus=4),
    ],
)
def test_shards_of_shards(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)


@pytest.mark.parametrize(
    ("alone", "case"),
    pairs(("fsdp:replicate=2:tp=2",), ("gpt", "llama"), {}, SGD, {"max_grad_norm": 0.2, "grad_accum_steps": 2}, gpus=8),
)
def test_replicas_of_shards_of_shards(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)
