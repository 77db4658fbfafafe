"""The workloads that the documents show: batches and optimizers of their own, under each strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run, run_bench
from documents import ROOT, files

from workloads.base import load

PAGE = "workloads" + ".md"
ODD = """
import torch
from methods import Denoising
from mine import Regression
from torch import nn


class Part(Denoising):
    def loss(self, model, batch):
        return model.body(batch[0]).mean()


class Reads(Denoising):
    def loss(self, model, batch):
        return model(batch[0]).mean() * model.scale.sum()

    def build(self):
        model = super().build()
        model.scale = nn.Parameter(torch.ones(2))
        return model


class NotRecomputed(Denoising):
    def activation_checkpoint(self, model):
        pass


class Contrastive(Regression):
    def build(self):
        return {"student": nn.Linear(64, 32), "teacher": nn.Linear(64, 32).requires_grad_(False)}

    def optimizers(self, models):
        return torch.optim.AdamW(models["student"].parameters())

    def step(self, models, batch, ctx):
        student = ctx.all_gather(models["student"](batch[0]))
        teacher = ctx.all_gather(models["teacher"](batch[0]))
        ctx.mark("copy")
        loss = nn.functional.cross_entropy(student @ teacher.T, torch.arange(len(student), device=ctx.device))
        ctx.backward(loss)
        ctx.update()
        return loss

    def layers(self, models):
        return []


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.dropout = nn.Linear(64, 1), nn.Dropout(0.5)
        self.register_buffer("flag", torch.rand(3) > 0.5)
        self.register_buffer("turn", torch.randn(2, dtype=torch.complex64), persistent=False)

    def forward(self, x):
        return self.body(self.dropout(x)) * self.turn.abs().sum() + self.flag.sum()


class Buffers(Regression):
    def build(self):
        return Noisy()

    def layers(self, model):
        return []


class NotOnMeta(Buffers):
    def build(self):
        model = Noisy()
        model.scale = float(torch.ones(()).item())
        return model
"""
TOKENS = [i % 7 + 3 for i in range(64)]


# An epoch of padded.py on two ranks has 8 steps: the window of 16 begins at the start of one and has two.
PROTOCOL = """
[protocol]
launches = 1
stragglers = "off"
matmul_peak = "off"
steps = 16
warmup_steps = 8
"""
OF_FOUR_RANKS = """
[[matrix]]
workload = "methods.py:Denoising"
strategy = ["fsdp", "fsdp:replicate=2"]
gpus = 4
device = "cpu"
init = ["cpu", "meta"]
"""


def run_suite(folder: Path, suite: str) -> Run:
    for name, text in files(ROOT / "README.md", ROOT / "docs" / PAGE).items():
        (folder / name).write_text(text)
    (folder / "odd.py").write_text(ODD)
    (folder / "suite.toml").write_text(PROTOCOL + suite)
    return run_bench(folder, "run", "--suite", "suite.toml", "--quiet")


@pytest.fixture(scope="module")
def measured(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_suite(tmp_path_factory.mktemp("own"), SUITE)


SUITE = """
[[matrix]]
workload = "padded.py:Padded"
strategy = ["single", "ddp"]
gpus = 2
device = "cpu"
data = ["resident", "synthetic"]
num_workers = 0
[[matrix]]
workload = "two.py:TwoOptimizers"
strategy = ["single", "ddp", "fsdp"]
gpus = 2
device = "cpu"
[[matrix]]
workload = "gan.py:Gan"
strategy = ["single", "ddp", "fsdp"]
gpus = 2
device = "cpu"
[[matrix]]
workload = "gan.py:Gan"
gpus = 2
device = "cpu"
precision = "amp-bf16"
[[matrix]]
workload = "gan.py:Gan"
strategy = ["ddp", "fsdp"]
gpus = 2
device = "cpu"
batch_size = 16
grad_accum_steps = 2
max_grad_norm = 0.1
[[matrix]]
workload = ["streams.py:Streamed", "streams.py:OwnLoader"]
gpus = 2
batch_size = 70
device = "cpu"
data = "synthetic"
[[matrix]]
workload = "streams.py:OwnLoader"
gpus = 2
device = "cpu"
data = "synthetic"
num_workers = 0
[[matrix]]
workload = "two.py:TwoOptimizers"
strategy = "ddp"
gpus = 2
device = "cpu"
optimizer = "sgd"
[[matrix]]
workload = "methods.py:Denoising"
strategy = ["single", "ddp", "fsdp"]
gpus = 2
device = "cpu"
activation_checkpointing = ["none", "full", "selective"]
[[matrix]]
workload = "methods.py:Denoising"
strategy = ["ddp", "fsdp"]
gpus = 2
device = "cpu"
init = ["meta", "device"]
[[matrix]]
workload = ["odd.py:Part", "odd.py:Reads", "odd.py:Contrastive"]
strategy = ["single", "ddp", "fsdp"]
gpus = 2
device = "cpu"
[[matrix]]
workload = "odd.py:NotRecomputed"
gpus = 2
device = "cpu"
activation_checkpointing = "full"
[[matrix]]
workload = ["odd.py:Buffers", "odd.py:NotOnMeta"]
strategy = "fsdp"
gpus = 2
device = "cpu"
init = ["cpu", "meta"]
"""


def rows(measured: Run, **axes: str) -> list[dict[str, Any]]:
    return [row for row in measured.rows() if all(row[name] == value for name, value in axes.items())]


def test_tokens_are_those_that_are_no_padding(measured: Run) -> None:
    for strategy, samples, epochs in (("single", 4, 1), ("ddp", 8, 2)):
        [resident] = rows(measured, workload="padded.py:Padded", strategy=strategy, data="resident")
        assert (resident["status"], int(resident["samples"])) == ("ok", 16 * samples)
        counted = float(resident["tokens_per_s"]) * float(resident["window_s"])
        assert counted == pytest.approx(16 * sum(TOKENS[:samples]), abs=0.01)
        [read] = rows(measured, workload="padded.py:Padded", strategy=strategy, data="synthetic")
        counted = float(read["tokens_per_s"]) * float(read["window_s"])
        if strategy == "ddp":  # whole epochs
            assert counted == pytest.approx(epochs * sum(TOKENS), abs=0.01)
        assert read["tokens_per_sample"] == ""


def test_optimizers_of_a_workload_train_the_same_under_ddp_and_fsdp(measured: Run) -> None:
    found = {row["strategy"]: row for row in rows(measured, workload="two.py:TwoOptimizers", optimizer="")}
    assert set(found) == {"single", "ddp", "fsdp"}
    assert {row["status"] for row in found.values()} == {"ok"}, [row["reason"] for row in found.values()]
    losses = [float(found[strategy]["loss_last"]) for strategy in ("ddp", "fsdp")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < float(found["ddp"]["loss_first"])
    assert {row["lr_scheduler"] for row in found.values()} == {""}


def test_an_optimizer_beside_those_of_the_workload_is_refused(measured: Run) -> None:
    [refused] = rows(measured, optimizer="sgd")
    assert refused["status"] == "skipped"
    assert refused["reason"] == (
        "two.py:TwoOptimizers has its own optimizers(model), so --optimizer and --lr-scheduler have no effect"
    )


def test_a_stream_has_full_batches_and_a_loader_those_that_it_makes(measured: Run) -> None:
    """500 items a rank are seven batches of 70 and one of 10; the window of 16 steps has two epochs of the loader."""
    [streamed] = rows(measured, workload="streams.py:Streamed")
    assert (streamed["status"], streamed["samples"], streamed["num_workers"]) == ("ok", str(16 * 2 * 70), "2")
    [own] = rows(measured, workload="streams.py:OwnLoader", status="ok")
    assert (own["samples"], own["num_workers"], own["prefetch_factor"]) == (str(2 * 2 * 500), "", "")
    [refused] = rows(measured, workload="streams.py:OwnLoader", status="skipped")
    assert refused["reason"].startswith("streams.py:OwnLoader has its own loader(rank, world_size, batch_size)")


PARTS = ("data_wait_ms", "copy_ms", "forward_ms", "backward_ms", "optimizer_ms")


def test_a_step_of_its_own_with_two_models(measured: Run) -> None:
    found = {(row["strategy"], row["precision"]): row for row in rows(measured, workload="gan.py:Gan", batch_size="32")}
    assert len(found) == 4
    for row in found.values():
        assert (row["status"], row["reason"]) == ("ok", "")
        assert (row["parameters"], row["optimizer"]) == (str(17 * 64 + 65 * 64 + 65), "")
        assert sum(float(row[part]) for part in PARTS) == pytest.approx(float(row["step_mean_ms"]), rel=0.2)
        assert float(row["backward_ms"]) > 0 < float(row["optimizer_ms"])
        # The generator, and the critic on two batches forward and backward, and on the fakes once more.
        generator, critic = 2 * 16 * 64, 2 * 64 * 64 + 2 * 64
        backward = 2 * (critic + 2 * 64) + 2 * critic + generator
        assert float(row["flops_per_sample"]) == generator + 2 * critic + backward + critic
    losses = [float(found[strategy, "fp32"]["loss_last"]) for strategy in ("ddp", "fsdp")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert abs(losses[0] - float(found["ddp", "fp32"]["loss_first"])) > 0.01
    of_ddp = found["ddp", "fp32"]["took_effect"]
    assert "parameters equal bit by bit over 2 replicas" in of_ddp
    # The critic's gradients are reduced in its own backward pass, and in that of the generator.
    parts = 17 * 64, 65 * 64 + 65
    assert f"all-reduce of {parts[0] + 2 * parts[1]:,} numbers for {sum(parts):,} gradients in float32" in of_ddp
    assert "bfloat16 in 7 of 7 matmuls" in found["ddp", "amp-bf16"]["took_effect"]


def test_a_step_of_its_own_accumulates_and_clips(measured: Run) -> None:
    found = rows(measured, workload="gan.py:Gan", batch_size="16")
    assert [(row["status"], row["samples"]) for row in found] == [("ok", str(16 * 2 * 2 * 16))] * 2
    assert float(found[0]["loss_last"]) == pytest.approx(float(found[1]["loss_last"]), rel=1e-4)


def test_a_step_of_its_own_trains_as_a_plain_loop(measured: Run, tmp_path: Path) -> None:
    """On the 32 samples of resident data, for the 8 steps of warm-up and the 16 of the window."""
    (tmp_path / "gan.py").write_text(files(ROOT / "docs" / PAGE)["gan.py"])
    gan = load(f"{tmp_path}/gan.py:Gan", {})
    torch.manual_seed(0)
    models, items, losses = gan.build(), gan.samples("resident"), []
    generator, critic = models["generator"], models["critic"]
    of_generator, of_critic = (torch.optim.Adam(one.parameters(), lr=1e-3) for one in (generator, critic))
    noise, real = (torch.stack([items[number][part] for number in range(32)]) for part in (0, 1))  # type: ignore[index]
    for _ in range(24):
        fake = generator(noise)
        of_critic.zero_grad()
        loss = critic(fake.detach()).mean() - critic(real).mean()
        loss.backward()
        of_critic.step()
        of_generator.zero_grad()
        (-critic(fake).mean()).backward()
        of_generator.step()
        losses.append(loss.item())
    [row] = rows(measured, workload="gan.py:Gan", strategy="single", precision="fp32", batch_size="32")
    assert float(row["loss_first"]) == pytest.approx(losses[0], rel=1e-4)
    assert float(row["loss_last"]) == pytest.approx(losses[-1], rel=1e-4)


def test_a_method_of_the_model_is_a_loss_under_every_strategy(measured: Run) -> None:
    found = rows(measured, workload="methods.py:Denoising", gpus="2", init="cpu")
    found += rows(measured, workload="methods.py:Denoising", strategy="single")
    by = {(row["strategy"], row["activation_checkpointing"]): row for row in found}
    for (_, mode), row in by.items():
        assert row["status"] == ("skipped" if mode == "selective" else "ok"), row["reason"]
    assert by["ddp", "selective"]["reason"] == (
        "methods.py:Denoising has its own activation_checkpoint(model), which --activation-checkpointing full calls; "
        "give none or full"
    )
    losses = {key: float(row["loss_last"]) for key, row in by.items() if row["status"] == "ok"}
    assert losses["ddp", "none"] == pytest.approx(losses["fsdp", "none"], rel=1e-5)
    for strategy in ("single", "ddp", "fsdp"):
        assert losses[strategy, "none"] == pytest.approx(losses[strategy, "full"], rel=1e-5)
        assert by[strategy, "none"]["flops_per_sample"] == by[strategy, "none"]["hardware_flops_per_sample"]
    products = 2 * 64 * 64
    assert {float(row["flops_per_sample"]) for row in by.values() if row["status"] == "ok"} == {
        2 * products + 3 * products
    }
    assert {float(by[s, "full"]["hardware_flops_per_sample"]) for s in ("single", "ddp", "fsdp")} == {6 * products}
    assert "gradients exchanged after 24 forward passes in 24 steps" in by["ddp", "none"]["took_effect"]


def assert_sent(measured: Run, strategy: str) -> None:
    axes = {"workload": "methods.py:Denoising", "strategy": strategy, "activation_checkpointing": "none"}
    [each], [sent] = rows(measured, **axes, init="cpu"), rows(measured, **axes, init="meta")
    assert [row["status"] for row in (each, sent)] == ["ok", "ok"], sent["reason"]
    assert [each[name] for name in ("loss_first", "loss_last")] == [sent[name] for name in ("loss_first", "loss_last")]


@pytest.mark.slow
def test_weights_that_rank_0_sends_to_four_ranks(launching: None, tmp_path: Path) -> None:
    measured = run_suite(tmp_path, OF_FOUR_RANKS)
    for strategy in ("fsdp", "fsdp:replicate=2"):
        assert_sent(measured, strategy)


def test_weights_that_rank_0_sends_are_those_that_each_rank_builds(measured: Run) -> None:
    assert_sent(measured, "fsdp")
    buffers = {row["init"]: row for row in rows(measured, workload="odd.py:Buffers")}
    assert {row["status"] for row in buffers.values()} == {"ok"}, buffers["meta"]["reason"]
    assert buffers["cpu"]["loss_last"] == buffers["meta"]["loss_last"]  # dropout draws the same numbers, too
    assert float(buffers["meta"]["build_peak_rss_mib"]) <= float(buffers["meta"]["life_peak_rss_mib"])


def test_an_initialization_without_effect_is_refused(measured: Run) -> None:
    by = {
        (row["strategy"], row["init"]): row["reason"]
        for row in rows(measured, workload="methods.py:Denoising", gpus="2", status="skipped")
    }
    assert by["ddp", "meta"] == (
        "--init meta spares ranks the whole model, and under ddp each has it; give cpu or device"
    )
    assert by["fsdp", "device"] == "on the CPU --init device is the same as --init cpu"
    found = {row["init"]: (row["status"], row["reason"]) for row in rows(measured, workload="odd.py:NotOnMeta")}
    assert found["cpu"] == ("ok", "")
    assert found["meta"] == (
        "skipped",
        "odd.py:NotOnMeta cannot be built on the meta device; give --init cpu or device",
    )


def test_what_goes_around_the_strategy_is_refused_before_the_launch(measured: Run) -> None:
    part = {row["strategy"]: row for row in rows(measured, workload="odd.py:Part")}
    assert part["ddp"]["reason"] == (
        "the loss of odd.py:Part calls model.body by itself, around the work of ddp; call the model, or write a method "
        "of the model that does this and call the method"
    )
    assert (part["fsdp"]["status"], part["single"]["status"]) == ("skipped", "ok")
    reads = {row["strategy"]: row for row in rows(measured, workload="odd.py:Reads")}
    assert reads["fsdp"]["reason"] == (
        "the loss of odd.py:Reads reads model.scale by itself, and under fsdp a rank has a part of it; return it from "
        "the model, or write a method of the model that uses it"
    )
    assert (reads["ddp"]["status"], reads["single"]["status"]) == ("ok", "ok"), reads["ddp"]["reason"]


def test_checkpointing_of_its_own_without_effect_is_a_fault(measured: Run) -> None:
    found = rows(measured, workload="odd.py:NotRecomputed")
    assert {(row["status"], row["reason"]) for row in found} == {
        (
            "invalid",
            "--activation-checkpointing had no effect: after activation_checkpoint(model) no module was recomputed in "
            "the backward pass",
        )
    }


def test_flops_of_a_step_that_gathers_are_those_of_all_ranks(measured: Run) -> None:
    """A rank of B samples multiplies all N by all N; the student's weights have gradients, the teacher's have none."""
    for strategy, ranks in (("single", 1), ("ddp", 2), ("fsdp", 2)):
        [row] = rows(measured, workload="odd.py:Contrastive", strategy=strategy)
        batch = 32 * ranks
        products = 2 * batch * batch * 32 * 2  # and as many for the student's gradient
        assert float(row["flops_per_sample"]) == 3 * 2 * 64 * 32 + products / 32
        assert float(row["copy_ms"]) > 0
