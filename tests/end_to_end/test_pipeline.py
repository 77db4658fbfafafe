"""Pipeline parallel trains as `single` does: losses and norms of gradients over ten steps, and the first gradients."""

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
    "gpt": "gpt:layers=4:width=32:seq=16:heads=2",
    "llama": "llama:layers=4:width=32:hidden=48:seq=16:heads=2:kv_heads=2",
    "untied": "llama:layers=4:width=32:hidden=48:seq=16:heads=2:kv_heads=2:tied=0",
    "bert": "bert:layers=4:width=32:seq=16:heads=2:vocab=257",
}
pairs = functools.partial(same_training.pairs, MODELS)


@pytest.fixture(scope="module")
def trainings(
    request: pytest.FixtureRequest, launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory
) -> Trainings:
    """The trainings of all cases that are parameters of the selected tests of this module."""
    folder = tmp_path_factory.mktemp("pipeline")
    return Trainings(launcher, folder, "train", "seen.npz", cases_of(request), STEPS)


FOUR_MICRO: dict[str, object] = {"grad_accum_steps": 4, **SGD}
DDP = ("ddp:pp=2", "ddp:pp=2:schedule=1f1b")
TWO = [
    *pairs(("ddp:pp=2",), ("gpt", "llama"), {}, fast=True),
    *pairs(("ddp:pp=2:schedule=1f1b",), ("gpt", "bert"), FOUR_MICRO, fast=True),
]
AXES = (
    FOUR_MICRO,
    {"grad_accum_steps": 2},
    *({"activation_checkpointing": how, **FOUR_MICRO} for how in ("full", "selective", "every=2")),
    *({"precision": precision, "grad_accum_steps": 2} for precision in ("amp-bf16", "bf16")),
    {"max_grad_norm": 0.2, **FOUR_MICRO},
    {"max_grad_norm": 0.2, "grad_accum_steps": 2, "activation_checkpointing": "full", "precision": "amp-bf16"},
    *({"optimizer": optimizer, "grad_accum_steps": 2} for optimizer in ("adamw:foreach", "adamw:for-loop")),
)
TOGETHER = pairs(DDP, MODELS, *AXES)
OPTIONS = pairs(("ddp:bucket-view=on:pp=2", "ddp:bucket-mb=1:pp=2"), ("gpt", "llama"), FOUR_MICRO)
FOUR = [
    *pairs(("ddp:pp=4", "ddp:pp=4:schedule=1f1b"), MODELS, FOUR_MICRO, {"grad_accum_steps": 8}, gpus=4),
    *pairs(DDP, MODELS, *AXES, gpus=4),
]
OF_FSDP = ("fsdp:pp=2", "fsdp:pp=2:schedule=1f1b", "fsdp:pp=2:schedule=interleaved", "fsdp:reshard=off:pp=2")


@pytest.mark.parametrize(("alone", "case"), [*TWO, *TOGETHER, *OPTIONS])
def test_two_ranks(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)


@pytest.mark.parametrize(("alone", "case"), FOUR)
def test_four_ranks(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)


@pytest.mark.parametrize(("alone", "case"), pairs(OF_FSDP, MODELS, *AXES, gpus=4))
def test_shards_of_stages(trainings: Trainings, alone: Case, case: Case) -> None:
    assert_trained_the_same(trainings, alone, case, STEPS)
