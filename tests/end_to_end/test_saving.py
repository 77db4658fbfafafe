"""The state is the same after saving and loading it, under each strategy and by each way, and training goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from same_training import case_of
from trainings import Trainings, cases_of

from bench.plan.case import Case
from launch.server_launcher import ServerLauncher

pytestmark = pytest.mark.timeout(1800)  # The first test of a number of ranks trains all cases of it.
GPT, LLAMA = "gpt:layers=4:width=32:seq=16:heads=2", "llama:layers=4:width=32:hidden=48:seq=16:heads=2:kv_heads=2"
BERT = "bert:layers=2:width=32:seq=16:heads=4:vocab=260"
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
    *pairs("ddp:tp=2", 2, fast=False, workload=BERT),
    *pairs("fsdp:tp=2", 4, fast=False, workload=BERT),
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


GAN = """
import torch
from torch import nn


class Gan:
    unit, batch_size = "samples", 8

    def build(self):
        return {"generator": nn.Linear(8, 8), "critic": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))}

    def optimizers(self, models):
        return [torch.optim.Adam(models[name].parameters(), 1e-3) for name in ("generator", "critic")]

    def step(self, models, batch, ctx):
        of_generator, of_critic = ctx.optimizers
        made, critic = models["generator"](torch.randn_like(batch[0])), models["critic"]
        lost = critic(made.detach()).mean() - critic(batch[0]).mean()
        ctx.backward(lost)
        ctx.update(of_critic)
        won = -critic(made).mean()
        ctx.backward(won)
        ctx.update(of_generator)
        return lost + won

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.randn(64, 8))

    def layers(self, models):
        return []
"""
PARAMETERS = 8 * 8 + 8 + 8 * 16 + 16 + 16 + 1


def test_what_saving_costs_is_in_the_rows(bench: Any, tmp_path: Path) -> None:
    """Of two models, each with an optimizer of its own. Adam's state has 12 bytes for each parameter."""
    (tmp_path / "gan.py").write_text(GAN)
    disk = tmp_path / "disk"
    disk.mkdir()
    where = ("--save-dir", str(disk), "--save-interval", "100")
    words = ("--workload", "gan.py:Gan", "--strategy", "ddp,fsdp", "--save-checkpoint", "none,full,dcp-async", *where)
    ran = bench("run", *words, "--device", "cpu", "--steps", "5", "--launches", "1", "--matmul-peak", "off")
    assert [row["status"] for row in ran.rows()] == ["ok"] * 6
    assert list(disk.iterdir()) == []
    for row in ran.rows():
        if row["save_checkpoint"] == "none":
            assert {row[name] for name in row if name.startswith("save_") and name[5:] not in OF_THE_RUN} == {""}
            assert (row["goodput"], row["load_s"]) == ("", "")
            continue
        assert (row["save_restored"], row["save_note"]) == ("true", "")
        assert int(row["save_bytes"]) > 12 * PARAMETERS
        blocked, total = float(row["save_blocked_s"]), float(row["save_total_s"])
        assert 0 < blocked <= total
        assert float(row["save_mb_per_s"]) == pytest.approx(int(row["save_bytes"]) / 1e6 / total, rel=1e-6)
        interval = 100 * float(row["step_mean_ms"]) / 1e3
        assert float(row["goodput"]) <= interval / max(interval + blocked, total) + 1e-9
        if row["save_checkpoint"] == "full":
            assert blocked == total
            assert float(row["goodput"]) == pytest.approx(interval / (interval + blocked), rel=1e-6)


OF_THE_RUN = ("checkpoint", "dir", "interval")


def test_a_state_without_room_costs_no_row(bench: Any, tmp_path: Path) -> None:
    """The files of each rank may have 1 MiB, and the state of this model has more."""
    words = ("--workload", "mlp:width=512", "--strategy", "single", "--save-checkpoint", "full", "--device", "cpu")
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({1 << 20}, {1 << 20}))"
    (tmp_path / "small.py").write_text(f"{limited}\nfrom workloads.mlp import MLP\n")
    words = ("--workload", "small.py:MLP:width=512", *words[2:])
    ran = bench("run", *words, "--steps", "5", "--launches", "1", "--matmul-peak", "off")
    (row,) = ran.rows()
    assert row["status"] == "ok"
    assert float(row["samples_per_s"]) > 0
    assert (row["save_bytes"], row["save_restored"], row["goodput"]) == ("", "", "")
    assert row["save_note"].startswith("saving failed: ")
    assert f"--save-checkpoint: {row['save_note']}" in ran.stderr
    assert not list(ran.folder.rglob("saved"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--save-interval", "10"), "--save-interval has no effect without --save-checkpoint"),
        (("--save-dir", "."), "--save-dir has no effect without --save-checkpoint"),
        (("--save-checkpoint", "dcp", "--save-dir", "nowhere"), "allowed: a folder that exists, and in which you may"),
        (("--compile-scope", "block"), "--compile-scope has no effect without torch.compile. Add --compile default"),
        (("--save-checkpoint", "dpc"), "Did you mean 'dcp'?"),
    ],
)
def test_what_has_no_effect_or_is_not_there_is_refused(bench_here: Any, words: tuple[str, ...], said: str) -> None:
    ran = bench_here("run", "--workload", "mlp", "--device", "cpu", *words)
    assert ran.code == 2
    assert said in ran.stderr
