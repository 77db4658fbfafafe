"""What took effect, as whole launches find it: models that go round what they were asked for."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run, run_bench

from bench.messages.rank_record import RankRecord

MINE = """
import os
import torch
from torch import nn


class Net:
    unit, batch_size = "samples", 4

    def build(self):
        return nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 1))

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    def samples(self, data):
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        return torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))

    def layers(self, model):
        return [model[0]]


class Round(Net):
    def loss(self, model, batch):
        return super().loss(getattr(model, "module", model), batch)


class Alike(Round):
    # every rank has the same batch, so that replicas stay equal without any exchange
    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.ones(64, 8), torch.ones(64, 1))


class Now(Net):
    # goes round in some steps only
    steps = 0

    def loss(self, model, batch):
        self.steps += 1
        return super().loss(model.module if hasattr(model, "module") and self.steps == 6 else model, batch)


class InPlace(Net):
    def loss(self, model, batch):
        if batch[0].device.type != "meta" and os.environ.get("RANK") == "0":
            torch.set_num_threads(3)
        batch[1].mul_(0.5)
        return super().loss(model, batch)


class Late(Net):
    # writes into its batch from the middle of the window on
    steps = 0

    def loss(self, model, batch):
        self.steps += 1
        if self.steps == 8:
            batch[0].zero_()
        return super().loss(model, batch)


class Noisy(Net):
    # each rank changes a parameter of its own
    def loss(self, model, batch):
        with torch.no_grad():
            next(model.parameters()).add_(int(os.environ.get("RANK", 0)))
        return super().loss(model, batch)


class Ends(Net):
    # one rank fails in the step after the window
    steps = 0

    def loss(self, model, batch):
        self.steps += 1
        if self.steps == 5 + 6 + 1 and os.environ["RANK"] == "1":
            raise ValueError("after the window")
        return super().loss(model, batch)


class WithSpare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(8, 1), nn.Linear(8, 8)

    def forward(self, x):
        return self.used(x)


class Unused(Net):
    def build(self):
        return WithSpare()

    def layers(self, model):
        return []


class Bare(Net):
    def loss(self, model, batch):
        with torch.autocast("cpu", enabled=False):
            return super().loss(model, batch)
"""
SHORT = ("--device", "cpu", "--launches", "1", "--steps", "6", "--warmup-steps", "5", "--quiet")
ROUND = "bypasses DistributedDataParallel's forward pass, as model.module(x)"


def by_workload(run: Run) -> dict[str, dict[str, str]]:
    return {row["workload"].partition(":")[2]: row for row in run.rows()}


def net(bench: Any, folder: Path, *names: str, more: tuple[str, ...] = (), **how: Any) -> dict[str, dict[str, str]]:
    (folder / "mine.py").write_text(textwrap.dedent(MINE))
    return by_workload(bench("run", "--workload", ",".join(f"mine.py:{name}" for name in names), *SHORT, *more, **how))


SPREAD = {
    "ddp:hook=bf16": "all-reduce of 34,176 numbers for 34,176 gradients in bfloat16; ",
    "fsdp:reshard=off": "gathered 3 times forward and 0 times backward, reduce-scatter of 34,176 numbers for 34,176 "
    "gradients in float32; ",
    "fsdp:reduce=bf16": "reduce-scatter of 34,176 numbers for 34,176 gradients in bfloat16; ",
}  # what each is seen to do with the 34,176 parameters of GPT
OVERFLOW = f"{Path(__file__).parents[1]}/helpers/overflowing_workload.py:Overflow"
GPT = "gpt-nano:layers=2:width=32:seq=16"
CASES = f"""
[[matrix]]
workload = ["mine.py:Round", "mine.py:InPlace"]
strategy = "ddp"
gpus = 2

[[matrix]]
workload = "{GPT}"
batch_size = 2
strategy = {json.dumps(list(SPREAD))}
gpus = 2
precision = "amp-bf16"
activation_checkpointing = "full"
grad_accum_steps = 2
max_grad_norm = 1

[[matrix]]
workload = "{OVERFLOW}"
strategy = ["ddp", "fsdp"]
gpus = 2
precision = "amp-fp16"
"""


@pytest.fixture(scope="module")
def seen(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of all that is looked at by default."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "mine.py").write_text(MINE)
    (folder / "cases.toml").write_text(CASES)
    return run_bench(folder, "run", "--suite", "cases.toml", *SHORT)


def test_what_two_ranks_made_of_it(seen: Run) -> None:
    rows = by_workload(seen)
    assert rows["Round"]["status"] == "invalid"
    assert f"DDP had no effect in 11 of 11 steps: the loss {ROUND}" in rows["Round"]["reason"]
    assert (
        "the replicas are not equal after the window: rank 0 and rank 1 differ in 0.0.weight" in rows["Round"]["reason"]
    )
    sound = rows["InPlace"]
    assert (sound["status"], sound["num_threads"]) == ("ok", "1")
    assert sound["not_as_asked"] == (
        "the model changes its batch in place: each step gets a copy; OpenMP threads: 3 in rank 0, not 1 as asked"
    )
    assert sound["took_effect"] == (
        "gradients exchanged after 11 forward passes in 11 steps, all-reduce of 81 numbers for 81 gradients in float32; "
        "4 parameters equal bit by bit over 2 replicas; float32 in 2 of 2 matmuls and convolutions"
    )
    assert seen.folder is not None
    (record,) = seen.folder.glob("logs/*inplace*/rank0.json")
    losses = json.loads(record.read_text())["measurement"]["losses"]
    assert losses[-1] > 0.5 * losses[0]  # labels that are halved in each step would be 0 by now, and learned


def test_unused_parameters_under_ddp(bench: Any, tmp_path: Path) -> None:
    """Of 81 parameters 9 have a gradient; the bucket that is reduced holds all of them."""
    (tmp_path / "mine.py").write_text(MINE)
    strategies = ("--strategy", "ddp,ddp:find-unused=on,ddp:static-graph=on", "--gpus", "2")
    crashed, found, static = bench("run", "--workload", "mine.py:Unused", *SHORT, *strategies).by_case()
    assert [row["status"] for row in (crashed, found, static)] == ["crashed", "ok", "ok"]
    assert re.fullmatch(
        r"rank [01] on \S+, step 2: RuntimeError: Expected to have finished reduction in the prior iteration before "
        r"starting a new one\. \(hint: try ddp:find-unused=on, or ddp:static-graph=on if the same parameters are unused in "
        r"each step\)",
        crashed["reason"],
    )
    assert found["took_effect"] == (
        "gradients exchanged after 11 forward passes in 11 steps, all-reduce of 81 numbers for 9 gradients in float32; "
        "4 parameters equal bit by bit over 2 replicas; float32 in 1 of 1 matmuls and convolutions"
    )


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_an_overflow_of_one_rank_skips_the_step_on_all(seen: Run, strategy: str) -> None:
    (row,) = [row for row in seen.rows() if (row["workload"], row["strategy"]) == (OVERFLOW, strategy)]
    assert (row["status"], row["optimizer_steps_skipped"]) == ("ok", "1"), row["reason"]
    assert seen.folder is not None
    records = RankRecord.read_all(seen.folder / "logs" / row["launch_id"], 2)
    assert [r.measurement.optimizer_steps_skipped for r in records.values() if r.measurement] == [1, 1]


@pytest.mark.slow
def test_other_ways_round(bench: Any, tmp_path: Path) -> None:
    names = ("Alike", "Now", "Late", "Noisy", "Ends")
    rows = net(bench, tmp_path, *names, more=("--strategy", "ddp", "--gpus", "2"))
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(names, "invalid") | {"Ends": "ok"}
    assert "DDP had no effect in 11 of 11 steps" in rows["Alike"]["reason"]
    assert "not equal" not in rows["Alike"]["reason"]
    assert f"DDP had no effect in 1 of 11 steps: the loss {ROUND}" in rows["Now"]["reason"]
    assert "began to change its batch in place inside the window" in rows["Late"]["reason"]
    assert rows["Noisy"]["reason"].startswith("the replicas are not equal after the window")
    assert rows["Ends"]["took_effect"] == (
        "gradients exchanged after 11 forward passes in 11 steps; 4 parameters equal bit by bit over 2 replicas"
    )


@pytest.mark.slow
def test_precision_that_the_model_turns_off(bench: Any, tmp_path: Path) -> None:
    rows = net(bench, tmp_path, "Bare", more=("--precision", "amp-bf16", "--strategy", "ddp", "--gpus", "2"))
    assert rows["Bare"]["reason"] == "--precision amp-bf16 had no effect: all matmuls ran in float32, none in bfloat16"


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="a PyTorch without MKL takes OMP_NUM_THREADS")
def test_threads_that_a_variable_decides(bench: Any, tmp_path: Path) -> None:
    more = ("--omp-num-threads", "1,2", "--strategy", "single")
    (tmp_path / "mine.py").write_text(MINE)
    run = bench("run", "--workload", "mine.py:Net", *SHORT, *more, environment={"MKL_NUM_THREADS": "1"})
    rows = {row["omp_num_threads"]: row for row in run.rows()}
    assert "--omp-num-threads 2 may have no effect: MKL_NUM_THREADS=1 overrides it" in run.stderr
    assert "--omp-num-threads 1 may" not in run.stderr
    assert {asked: (row["num_threads"], row["not_as_asked"]) for asked, row in rows.items()} == {
        "1": ("1", ""),
        "2": ("1", "OpenMP threads: 1, not 2 as asked"),
    }
    assert "OpenMP threads: 1, not 2 as asked" in bench("report").stdout


@pytest.mark.parametrize("strategy", SPREAD)
def test_strategies_and_the_rest_say_how_they_know(seen: Run, strategy: str) -> None:
    (row,) = [row for row in seen.rows() if row["strategy"] == strategy]
    how_they_know(row, SPREAD[strategy])


@pytest.mark.slow
def test_hybrid_sharding_says_how_it_knows(bench: Any) -> None:
    """Each rank has half of the gradients, which it exchanges with the other replica."""
    what = ("--workload", GPT, "--batch-size", "2", "--strategy", "fsdp:replicate=2", "--gpus", "4")
    more = ("--precision", "amp-bf16", "--activation-checkpointing", "full", "--grad-accum-steps", "2")
    (row,) = bench("run", *what, *more, "--max-grad-norm", "1", *SHORT).rows()
    reduced = "all-reduce of 17,088 numbers for 34,176 gradients in float32, reduce-scatter of 34,176 numbers"
    how_they_know(row, reduced)


def how_they_know(row: dict[str, str], reduced: str) -> None:
    assert row["status"] == "ok", row["reason"]
    for words in (
        reduced,
        "once in 2 micro-batches",
        "bfloat16 in 22 of 22 matmuls",
        "2 of 2 checkpointed layers recomputed",
    ):
        assert words in row["took_effect"]
    assert "; gradient norm " in row["took_effect"]
    assert "; attention flash (4)" in row["took_effect"]


@pytest.mark.slow
def test_a_compiled_model_says_how_many_graphs(bench: Any) -> None:
    what = ("--workload", GPT, "--batch-size", "2", "--strategy", "fsdp", "--gpus", "2")
    (row,) = bench("run", *what, "--compile", "default", "--activation-checkpointing", "full", *SHORT).rows()
    assert row["status"] == "ok", row["reason"]
    for words in ("graphs compiled, 0 graph breaks", "2 of 2 checkpointed layers recomputed", "attention flash (2)"):
        assert words in row["took_effect"]
