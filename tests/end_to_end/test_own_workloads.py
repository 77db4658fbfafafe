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
TOKENS = [i % 7 + 3 for i in range(64)]


@pytest.fixture(scope="module")
def measured(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("own")
    for name, text in files(ROOT / "README.md", ROOT / "docs" / PAGE).items():
        (folder / name).write_text(text)
    # An epoch of padded.py on two ranks has 8 steps: the window of 16 begins at the start of one and has two.
    (folder / "suite.toml").write_text("""
[protocol]
launches = 1
steps = 16
warmup_steps = 8
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
""")
    return run_bench(Path(folder), "run", "--suite", "suite.toml", "--quiet")


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
        assert row["flops_note"].startswith("the workload has a step of its own; say flops_per_sample")
    losses = [float(found[strategy, "fp32"]["loss_last"]) for strategy in ("ddp", "fsdp")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert abs(losses[0] - float(found["ddp", "fp32"]["loss_first"])) > 0.01
    assert "parameters equal bit by bit over 2 replicas" in found["ddp", "fp32"]["took_effect"]


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
