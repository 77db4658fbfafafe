"""Steps that are found in training code of many kinds: samples, numbers and parts, worked out for each."""

from __future__ import annotations

import gc
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stepbench
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from bench.errors import UsageError
from bench.rank.private import loader_iterator

STEPS = 10
Row = dict[str, Any]


def watched(train: Callable[[], None], **options: Any) -> Row:
    with stepbench.watch(steps=STEPS, warmup_steps=3, **options) as seen:
        train()
    row: Row = seen.row
    return row


def data(samples: int = 800) -> Dataset[Any]:
    return TensorDataset(torch.randn(samples, 16), torch.randint(0, 4, (samples,)))


def batches(samples: int = 800, **options: Any) -> Iterator[Any]:
    while True:
        yield from DataLoader(data(samples), **{"batch_size": 8, **options})


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def loss_of(net: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(net(batch[0]), batch[1])


def steps(number: int, optimizer: Any, net: nn.Module, of: Iterator[Any], micro: int = 1) -> None:
    for _ in range(number):
        for _ in range(micro):
            loss_of(net, next(of)).backward()
        optimizer.step()
        optimizer.zero_grad()


def plain(number: int = 40, micro: int = 1, **options: Any) -> None:
    net = model()
    steps(number, torch.optim.AdamW(net.parameters()), net, batches(**options), micro)


# -- what a step is --------------------------------------------------------------------------------------------------


def test_a_plain_loop() -> None:
    row = watched(plain)
    assert (row["status"], row["reason"], row["script_step"]) == ("ok", None, "AdamW")
    assert (row["window_steps"], row["samples"], row["global_batch"]) == (STEPS, 8 * STEPS, 8)
    assert row["parameters"] == 16 * 32 + 32 + 32 * 4 + 4
    assert row["samples_per_s"] == pytest.approx(8 * STEPS / row["window_s"])
    parts = ["data_wait_ms", "rest_ms", "backward_ms", "optimizer_ms", "outside_ms"]
    assert sum(row[part] for part in parts) == pytest.approx(row["step_mean_ms"])
    assert min(row[part] for part in parts) > 0


def test_accumulation_counts_all_micro_batches() -> None:
    row = watched(lambda: plain(micro=4))
    assert (row["samples"], row["global_batch"], row["status"]) == (32 * STEPS, 32, "ok")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_read_ahead_do_not_move_samples(workers: int, persistent: bool) -> None:
    """The last batch of an epoch has 4 samples."""
    row = watched(lambda: plain(samples=84, num_workers=workers, persistent_workers=persistent))
    assert row["status"] == "ok"
    assert row["samples"] in (8 * row["window_steps"], 8 * row["window_steps"] - 4)
    assert row["apart_why"] is None or "new epoch" in row["apart_why"]


def test_a_gan_makes_a_step_for_each_update_of_its_generator() -> None:
    def train() -> None:
        generator, critic = nn.Linear(4, 16), nn.Linear(16, 1)
        of_generator = torch.optim.Adam(generator.parameters())
        of_critic = torch.optim.SGD(critic.parameters(), lr=0.01)
        loader = batches()
        for number in range(1, 200):
            of_critic.zero_grad()
            (critic(generator(torch.randn(8, 4)).detach()).mean() - critic(next(loader)[0]).mean()).backward()
            of_critic.step()
            if number % 5 == 0:
                of_generator.zero_grad()
                (-critic(generator(torch.randn(8, 4))).mean()).backward()
                of_generator.step()

    row = watched(train)
    assert (row["script_step"], row["global_batch"], row["samples"]) == ("Adam", 40, 40 * STEPS)
    assert row["parameters"] == 4 * 16 + 16 + 16 + 1


def test_two_optimizers_in_turns_are_one_step() -> None:
    def train() -> None:
        first, second = nn.Linear(16, 32), nn.Linear(32, 4)
        optimizers = torch.optim.SGD(first.parameters(), lr=0.1), torch.optim.AdamW(second.parameters())
        loader, net = batches(), nn.Sequential(first, second)
        for _ in range(40):
            loss_of(net, next(loader)).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

    row = watched(train)
    assert (row["script_step"], row["global_batch"]) == ("AdamW", 8)


def test_lbfgs_makes_one_step_of_many_evaluations() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)
        for _ in range(40):
            batch = next(loader)

            def closure(batch: Any = batch) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(net, batch)
                loss.backward()
                return loss

            optimizer.step(closure)

    row = watched(train)
    assert (row["script_step"], row["samples"]) == ("LBFGS", 8 * STEPS)


def test_steps_that_the_grad_scaler_skips_are_steps() -> None:
    """A scale of 2**126 overflows in each of the first steps."""

    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.AdamW(net.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
        for _ in range(40):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(net, next(loader))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    row = watched(train)
    assert (row["warmup_steps_done"], row["window_steps"], row["global_batch"]) == (5, STEPS, 8)
    assert row["script_seen"] == "autocast bf16"


def test_an_optimizer_around_another_is_one() -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, base: torch.optim.Optimizer) -> None:
            self.base = base
            super().__init__([p for group in base.param_groups for p in group["params"]], {})

        def step(self, closure: Any = None) -> None:
            self.base.step()

    def train() -> None:
        net = model()
        steps(40, Lookahead(torch.optim.SGD(net.parameters(), lr=0.1)), net, batches())

    row = watched(train)
    assert (row["script_step"], row["global_batch"], row["status"]) == ("Lookahead", 8, "ok")


def test_optimizers_in_the_hooks_of_gradients_make_one_step() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}

        def update(parameter: torch.Tensor) -> None:
            optimizers[parameter].step()  # type: ignore[index]
            optimizers[parameter].zero_grad()  # type: ignore[index]

        for parameter in net.parameters():
            parameter.register_post_accumulate_grad_hook(update)
        for _ in range(40):
            loss_of(net, next(loader)).backward()

    row = watched(train)
    assert (row["status"], row["global_batch"], row["window_steps"]) == ("ok", 8, STEPS)


def test_a_compiled_step_is_seen() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.AdamW(net.parameters())
        step = torch.compile(lambda batch: loss_of(net, batch), backend="eager")
        for _ in range(40):
            step(next(loader)).backward()
            optimizer.step()
            optimizer.zero_grad()

    row = watched(train)
    assert (row["status"], row["global_batch"]) == ("ok", 8)
    assert "compiled, 1 graph" in row["script_seen"]


def test_the_script_itself_may_mark_its_steps() -> None:
    """With updates of its own, which no hook sees."""

    def train() -> None:
        net, loader = model(), batches()
        for _ in range(40):
            loss_of(net, next(loader)).backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * (parameter.grad if parameter.grad is not None else 0)
                    parameter.grad = None
            stepbench.step(samples=5)

    row = watched(train)
    assert (row["script_step"], row["global_batch"], row["window_steps"]) == ("stepbench.step", 5, STEPS)


# -- samples ---------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(torch.randn(84, 16), torch.randint(0, 4, (84,)), strict=True)


class Items(Dataset[Any]):
    def __len__(self) -> int:
        return 8000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.randn(16), index % 4


def odd_collate(items: list[Any]) -> Any:
    """As a detector's: the first tensor has another length than the batch."""
    return torch.randn(3, 16), torch.randint(0, 4, (3,)), [item[1] for item in items]


def named(items: list[Any]) -> dict[str, Any]:
    return {"name": "a batch", "inputs": {"x": torch.stack([item[0] for item in items])}}


@pytest.mark.parametrize(
    ("loader", "samples"),
    [
        (lambda: DataLoader(Items(), batch_size=6, collate_fn=odd_collate), 6),
        (lambda: DataLoader(Items(), batch_size=6, collate_fn=named), 6),
        (lambda: DataLoader(Items(), batch_sampler=[[1, 2, 3]] * 500), 3),
        (lambda: DataLoader(TensorDataset(torch.randn(500, 7, 16)), batch_size=None), 7),
        (lambda: DataLoader(Stream(), batch_size=4), 4),
        (lambda: DataLoader(Stream(), batch_size=4, num_workers=1), 4),
    ],
    ids=["detection", "dictionaries", "bucketing", "unbatched", "streamed", "streamed by a worker"],
)
def test_samples_of_loaders_of_all_kinds(loader: Callable[[], DataLoader[Any]], samples: int) -> None:
    def train() -> None:
        net = nn.Linear(16, 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            for number, _ in enumerate(loader()):
                net(torch.randn(2, 16)).sum().backward()
                optimizer.step()
                if number > 30:
                    break

    row = watched(train)
    assert (row["status"], row["global_batch"]) == ("ok", samples)


def test_a_stream_counts_its_shorter_last_batch() -> None:
    """84 samples are 10 batches of 8 and one of 4."""

    def train() -> None:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(9):
            for batch in DataLoader(Stream(), batch_size=8):
                loss_of(net, batch).backward()
                optimizer.step()

    with stepbench.watch(steps=22, warmup_steps=3) as seen:
        train()
    row = seen.row
    assert (row["apart_steps"], row["apart_why"], row["window_steps"]) == (2, "new epoch 2", 20)
    assert row["samples"] == 18 * 8 + 2 * 4


def test_without_a_loader_the_user_says_the_samples() -> None:
    def train() -> None:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(40):
            loss_of(net, (torch.randn(8, 16), torch.randint(0, 4, (8,)))).backward()
            optimizer.step()

    row = watched(train)
    assert row["status"] == "invalid"
    assert row["reason"] == "samples unknown: no DataLoader; give --samples-per-step"
    assert row["samples_per_s"] is None
    assert row["step_ms"] > 0
    told = watched(train, samples_per_step=8)
    assert (told["status"], told["samples"]) == ("ok", 8 * STEPS)


# -- what is set apart -----------------------------------------------------------------------------------------------


def test_validation_and_saves_are_set_apart(tmp_path: Any) -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        other = DataLoader(Subset(data(), range(32)), batch_size=8)
        for number in range(1, 60):
            loss_of(net, next(loader)).backward()
            optimizer.step()
            if number % 6 == 0:
                with torch.no_grad():
                    for batch in other:
                        loss_of(net, batch)
            if number % 10 == 0:
                torch.save(net.state_dict(), tmp_path / "checkpoint.pt")

    with stepbench.watch(steps=30, warmup_steps=5) as seen:  # steps 6 to 35: after 6, 12 … 30, and 10, 20, 30
        train()
    row = seen.row
    assert row["apart_why"] == "validation 5, save 3"
    assert (row["apart_steps"], row["window_steps"], row["samples"]) == (7, 23, 23 * 8)


class Encoding(UserDict[str, Any]):
    """As Hugging Face's BatchEncoding."""


def encoded(items: list[Any]) -> Encoding:
    return Encoding({"ids": torch.stack([item[0] for item in items])})


def test_an_iterator_that_is_older_than_the_block_is_seen() -> None:
    """And of a stream the samples of a batch that no pytree knows."""
    batches_of = iter(DataLoader(Stream(), batch_size=3, collate_fn=encoded, num_workers=1))

    def train() -> None:
        net = nn.Linear(16, 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for batch in batches_of:
            net(batch["ids"]).sum().backward()
            optimizer.step()

    row = watched(train)
    assert (row["status"], row["global_batch"], row["apart_steps"]) == ("ok", 3, 0)


def test_a_window_of_almost_nothing_else_is_invalid() -> None:
    def train() -> None:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(40):
            loss_of(net, next(iter(DataLoader(data(), batch_size=8)))).backward()
            optimizer.step()

    row = watched(train)
    assert row["status"] == "invalid"
    assert row["reason"].startswith("10 of 10 steps held validation, saves or a new epoch")


# -- what is seen besides --------------------------------------------------------------------------------------------


def test_flops_are_those_worked_out_by_hand() -> None:
    """Two linear layers, the first of which needs no gradient of its input: 2 x 8 x (2 x 16 x 32 + 3 x 32 x 4)."""
    row = watched(plain, count_flops=True)
    assert row["flops_per_sample"] == 2 * (2 * 16 * 32 + 3 * 32 * 4)
    assert (row["hardware_flops_per_sample"], row["flops_note"]) == (row["flops_per_sample"], None)


def test_flops_of_a_step_that_is_compiled_as_a_whole_are_unknown_and_no_zero() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.AdamW(net.parameters())

        @torch.compile(backend="eager")
        def step(batch: Any) -> None:
            loss_of(net, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

        for _ in range(40):
            step(next(loader))

    row = watched(train, count_flops=True)
    assert (row["status"], row["flops_per_sample"]) == ("ok", None)
    assert row["flops_note"] == "unknown operations: those of a step that is compiled as a whole"


def test_flops_of_a_compiled_model_are_those_of_the_eager_one() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.AdamW(net.parameters())
        compiled: Any = torch.compile(net, backend="eager")
        steps(40, optimizer, compiled, loader)

    assert watched(train, count_flops=True)["flops_per_sample"] == 2 * (2 * 16 * 32 + 3 * 32 * 4)


def test_checkpointing_is_seen_and_its_flops_are_the_hardwares() -> None:
    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(40):
            x, y = next(loader)
            nn.functional.cross_entropy(checkpoint(net, x, use_reentrant=False), y).backward()
            optimizer.step()

    row = watched(train, count_flops=True)
    assert row["script_seen"] == "checkpointing"
    assert row["flops_per_sample"] is None
    # The recomputation stops early: the output of the last layer is not needed.
    assert row["hardware_flops_per_sample"] == 2 * (3 * 16 * 32 + 3 * 32 * 4)


# -- how it ends -----------------------------------------------------------------------------------------------------


def test_too_few_steps_are_told_with_their_number() -> None:
    row = watched(lambda: plain(number=9))
    assert row == {
        "status": "invalid",
        "reason": "the block ended after 9 steps; 5 of warm-up and 10 measured are needed: train longer, or lower steps",
    }


def test_a_block_without_steps_is_told() -> None:
    row = watched(lambda: [loss_of(model(), next(batches())).backward() for _ in range(3)])  # type: ignore[func-returns-value]
    assert row["reason"].startswith(
        "the block ended, and no optimizer step was seen in 3 batches and 3 backward passes"
    )
    assert watched(lambda: None)["reason"].startswith("the block ended without training")


def test_training_goes_on_after_the_window_and_nothing_is_left_behind() -> None:
    base = loader_iterator()
    before = (
        *(torch.optim.Optimizer.__init__, torch.autograd.backward, torch.save, torch.amp.GradScaler.step),
        *(base.__next__, base.__init__, torch.autocast.__enter__, gc.isenabled(), stepbench._marked),
    )
    ended: list[int] = []

    def train() -> None:
        net, loader = model(), batches()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for number in range(100):
            loss_of(net, next(loader)).backward()
            optimizer.step()
            ended.append(number)

    assert watched(train)["status"] == "ok"
    assert len(ended) == 100
    assert before == (
        *(torch.optim.Optimizer.__init__, torch.autograd.backward, torch.save, torch.amp.GradScaler.step),
        *(base.__next__, base.__init__, torch.autocast.__enter__, gc.isenabled(), stepbench._marked),
    )


def test_an_exception_of_the_block_passes_and_the_hooks_are_gone() -> None:
    backward = torch.autograd.backward

    def fails() -> None:
        plain(number=4)
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        watched(fails)
    assert torch.autograd.backward is backward


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1), ("warmup_steps", -1), ("samples_per_step", 0), ("steps", "x")]
)
def test_values_that_are_not_allowed_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name), stepbench.watch(**{name: value}):
        pytest.fail("the block must not begin")
