"""The state is the same after saving and loading it, under each strategy and by each way, and training goes on."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from same_training import case_of
from trainings import Trainings, cases_of

from bench.plan.case import Case
from launch.server_launcher import ServerLauncher

pytestmark = pytest.mark.timeout(1800)  # The first test of a number of ranks trains all cases of it.
GPT, LLAMA = "gpt:layers=4:width=32:seq=16:heads=2", "llama:layers=4:width=32:hidden=48:seq=16:heads=2:kv_heads=2"
WAYS = ("full", "dcp", "dcp-async")


@pytest.fixture(scope="module")
def trainings(
    request: pytest.FixtureRequest, launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory
) -> Trainings:
    """The trainings of all cases that are parameters of the selected tests of this module."""
    folder = tmp_path_factory.mktemp("saving")
    return Trainings(launcher, folder, "save", "saved.json", cases_of(request), 3)


def pairs(strategy: str, gpus: int = 2, ways: tuple[str, ...] = WAYS, fast: bool = True, **axes: object) -> list[Any]:
    """Return (the case that saves nothing, the case) of each way."""
    found = [case_of(strategy, gpus=gpus, save_checkpoint=way, **{"workload": GPT, **axes}) for way in ways]
    marks = [] if fast else [pytest.mark.slow]
    return [
        pytest.param(
            dataclasses.replace(one, save_checkpoint="none"),
            one,
            id="-".join([strategy, str(one.save_checkpoint), *map(str, axes.values())]),
            marks=marks,
        )
        for one in found
    ]


TWO = [
    *(*pairs("single"), *pairs("ddp"), *pairs("fsdp"), *pairs("zero1", ways=("full",))),
    *(*pairs("ddp:tp=2"), *pairs("ddp:pp=2", ways=("full", "dcp"), workload=LLAMA)),
]
MORE = [
    *pairs("ddp", fast=False, optimizer="sgd"),
    *pairs("ddp", fast=False, precision="bf16", optimizer="adamw:foreach"),
    *pairs("fsdp", fast=False, precision="amp-bf16", optimizer="adamw:for-loop", workload=LLAMA),
    *pairs("fsdp", fast=False, optimizer="muon"),
    *pairs("ddp", fast=False, workload="resnet18:size=32", data="resident"),
    *pairs("fsdp", fast=False, workload="resnet18:size=32", data="resident"),
    *pairs("zero1", ways=("full",), fast=False, optimizer="sgd", workload=LLAMA),
    *pairs("ddp:tp=2:loss-parallel=on", fast=False, workload=LLAMA),
    *pairs("ddp:pp=2:schedule=1f1b", fast=False, grad_accum_steps=4),
]
FOUR = [
    *(case for name in ("ddp", "fsdp", "fsdp:replicate=2") for case in pairs(name, 4, fast=False)),
    *(case for name in ("ddp:tp=2", "fsdp:tp=2") for case in pairs(name, 4, fast=False, workload=LLAMA)),
    *pairs("ddp:tp=4", 4, fast=False, workload="gpt:layers=2:width=32:seq=16:heads=4"),
    *(case for name in ("ddp:pp=2", "fsdp:pp=2", "ddp:pp=4") for case in pairs(name, 4, fast=False)),
    *pairs("fsdp:pp=2:schedule=interleaved", 4, fast=False, grad_accum_steps=4, workload=LLAMA),
    *pairs("zero1", 4, ways=("full",), fast=False),
]


@pytest.mark.parametrize(("without", "case"), [*TWO, *MORE, *FOUR])
def test_the_state_is_the_same_and_training_goes_on(trainings: Trainings, without: Case, case: Case) -> None:
    said = json.loads(trainings[case].read_text())
    assert len(said["ranks"]) == case.world_size
    assert not said["left"]
    for of_rank in said["ranks"]:
        assert (of_rank["note"], of_rank["unlike"]) == ("", [])
        assert len(of_rank["saves"]) == 3
        assert of_rank["load_ns"] > 0
        assert of_rank["bytes"] == said["ranks"][0]["bytes"] > 0
        for save in of_rank["saves"]:
            assert 0 < save["blocked_ns"] <= save["total_ns"]
            assert case.save_checkpoint == "dcp-async" or (save["steps"], save["blocked_ns"]) == (0, save["total_ns"])
    if case.save_checkpoint != "dcp-async":  # which trains meanwhile
        assert said["losses"] == json.loads(trainings[without].read_text())["losses"]
