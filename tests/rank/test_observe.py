"""What a rank observes of its own training, in this process: one more step, its parameters, threads and data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from made_up_plans import case
from torch import Tensor

from bench.messages.rank_record import Observed, State
from bench.messages.spec import Spec
from bench.rank.build import Training, build, pin_numerics
from bench.rank.checksum import CHUNK, checksum
from bench.rank.observe import observe as observe_and_count
from bench.rank.resident import Resident
from bench.rank.settings import threads
from bench.rank.state import state_of

CPU = torch.device("cpu")
MINE = """
import torch
from torch import nn
from torch.nn import functional as F



class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class Net:
    unit, batch_size, how = "samples", 2, ""

    def __init__(self, how=""):
        self.how = how

    def build(self):
        return nn.Sequential(nn.Linear(8, 8), Block(), Block())

    def loss(self, model, batch):
        return getattr(self, self.how or "plain")(model, batch[0]).square().mean()

    def plain(self, model, x):
        return model(x)

    def inner(self, model, x):
        return getattr(model, "module", model)(x)

    def without_autocast(self, model, x):
        with torch.autocast("cpu", enabled=False):
            return model(x)

    def parts(self, model, x):
        for block in list(model)[1:]:
            x = block.out(block.qkv(x)[..., :8])
        return x

    def other(self, model, x):
        return x * torch.ones(1, requires_grad=True)

    def wild(self, model, x):
        torch.set_float32_matmul_precision("high")
        return model(x)

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.ones(16, 4, 8))

    def layers(self, model):
        return list(model)[1:]


class Images(Net):
    def build(self):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))

    def nchw(self, model, x):
        return model(x.contiguous())

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.ones(16, 3, 8, 8))

    def layers(self, model):
        return []
"""


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(folder: Path, how: str = "plain", steps: int = 0, kind: str = "Net", **axes: object) -> Training:
    (folder / "mine.py").write_text(MINE)
    asked = case(**{"workload": f"{folder}/mine.py:{kind}", "strategy": "single", "gpus": 1, "batch_size": 2, **axes})
    spec = Spec(asked, f"{folder}/mine.py:{kind}", {"how": how}, "resident", 5, 5, 0.0, 60.0, str(folder), str(folder))
    pin_numerics(asked)
    training = build(spec, [CPU])
    for _ in range(steps):
        training.backward(training.loss(training.to_device(next(training.batches))))
        training.update()
    return training


def observe(training: Training) -> Observed:
    return observe_and_count(training)[0]


def looked(*args: Any, **axes: Any) -> Observed:
    return observe(trained(*args, **axes))


def test_a_step_is_seen_operation_by_operation(tmp_path: Path) -> None:
    seen = looked(tmp_path, activation_checkpointing="full", max_grad_norm=0.5)
    assert seen.matmuls == {"float32": 7}  # 1 + 2 x (2 linear layers and the attention)
    assert seen.attention == {"flash": 2}
    assert seen.gradients == 8 * 8 + 8 + 2 * (24 * 8 + 24 + 8 * 8 + 8)
    assert (seen.checkpointed, seen.recomputed) == (2, 2)
    assert seen.gradient_norm is not None
    assert seen.gradient_norm > 0
    assert seen.collectives == {}


def test_the_kernel_of_attention_is_seen(tmp_path: Path) -> None:
    assert looked(tmp_path).attention == {"flash": 2}
    seen = looked(tmp_path, attention="math")
    assert seen.attention == {"math": 2}
    assert seen.matmuls == {"float32": 9}  # two products in each


@pytest.mark.parametrize(
    ("how", "precision", "matmuls"),
    [
        ("plain", "amp-bf16", {"bfloat16": 7}),
        ("without_autocast", "amp-bf16", {"float32": 7}),
        ("plain", "bf16", {"bfloat16": 7}),
    ],
)
def test_the_type_that_is_computed_in_is_seen(
    tmp_path: Path, how: str, precision: str, matmuls: dict[str, int]
) -> None:
    training = trained(tmp_path, how, precision=precision)
    assert observe(training).matmuls == matmuls
    assert list(state_of(training).types) == ["bfloat16" if precision == "bf16" else "float32"]


def test_layers_that_are_gone_round_are_not_recomputed(tmp_path: Path) -> None:
    seen = looked(tmp_path, "parts", activation_checkpointing="full")
    assert (seen.checkpointed, seen.recomputed) == (2, 0)


def test_a_loss_that_trains_something_else_leaves_no_gradients(tmp_path: Path) -> None:
    assert looked(tmp_path, "other").gradients == 0


@pytest.mark.slow
def test_compiled_layers_are_looked_at_as_they_were_written(tmp_path: Path) -> None:
    assert looked(tmp_path, compile="default", activation_checkpointing="full") == looked(
        tmp_path, activation_checkpointing="full"
    )


@pytest.mark.parametrize(("how", "nhwc"), [("plain", [2, 2]), ("nchw", [0, 2])])
def test_the_layout_of_images_is_seen(tmp_path: Path, how: str, nhwc: list[int]) -> None:
    training = trained(tmp_path, how, kind="Images", channels_last=True)
    if how == "nchw":
        training.model.to(memory_format=torch.contiguous_format)
    assert observe(training).convolutions == nhwc


@pytest.mark.usefixtures("alone")
def test_ddp_is_seen_to_exchange_and_counts_it(tmp_path: Path) -> None:
    training = trained(tmp_path, steps=3, strategy="ddp")
    assert state_of(training).forwards == 3
    seen = observe(training)
    assert seen.collectives["backward all-reduce float32"] == [1, seen.gradients]


@pytest.mark.usefixtures("alone")
def test_a_model_that_goes_round_ddp_exchanges_nothing(tmp_path: Path) -> None:
    training = trained(tmp_path, "inner", steps=3, strategy="ddp")
    assert state_of(training).forwards == 0
    assert observe(training).collectives == {}


@pytest.mark.usefixtures("alone")
def test_micro_batches_exchange_once(tmp_path: Path) -> None:
    seen = looked(tmp_path, strategy="ddp:hook=fp16", grad_accum_steps=3)
    assert {name for name in seen.collectives if "all-reduce" in name} == {"backward all-reduce float16"}


@pytest.mark.usefixtures("alone")
def test_sharded_parameters_have_gradients_and_a_norm(tmp_path: Path) -> None:
    training = trained(tmp_path, steps=1, strategy="fsdp", max_grad_norm=1.0, activation_checkpointing="full")
    assert state_of(training) == State(
        num_threads=torch.get_num_threads(),
        checksums={n: checksum(p.to_local()) for n, p in training.model.named_parameters()},  # type: ignore[attr-defined]
        types={"float32": 648},
    )
    seen = observe(training)
    assert (seen.gradients, seen.recomputed) == (648, 2)
    assert seen.gradient_norm is not None


def test_settings_that_the_workload_changes_are_told(tmp_path: Path) -> None:
    training = trained(tmp_path, "wild", steps=1)
    try:
        assert state_of(training).settings["float32_matmul_precision"] == ["highest", "high"]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert state_of(training).settings == {}


# -- checksums ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64, torch.bool]
)
def test_a_checksum_is_that_of_all_bits(kind: torch.dtype) -> None:
    tensor = (torch.arange(24).reshape(2, 3, 4) % 5 - 1).to(kind)
    same = checksum(tensor)
    assert checksum(tensor.clone()) == same
    other = tensor.clone()
    other[1, 2, 3] = other[1, 2, 3] == 0
    assert checksum(other) != same
    assert checksum(tensor.flip(2)) != same  # the same numbers in another order


def test_a_checksum_knows_the_last_bit_and_nan_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK, "cpu", 7)
    tensor = torch.linspace(-1, 1, 100)
    tensor[50] = float("nan")
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    for place in (0, 49, 99):
        other = tensor.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(9.0))
        assert checksum(other) != before
    swapped = tensor.clone()
    swapped[:7], swapped[7:14] = tensor[7:14], tensor[:7]
    assert checksum(swapped) != before


def test_a_checksum_of_any_strides() -> None:
    images = torch.randn(2, 3, 4, 4)
    nhwc = images.to(memory_format=torch.channels_last)
    assert checksum(nhwc) == checksum(nhwc.clone(memory_format=torch.preserve_format))
    assert checksum(images[:, :, ::2]) == checksum(images[:, :, ::2].contiguous())
    assert checksum(torch.ones(3).expand(2, 3)) == checksum(torch.ones(3).expand(2, 3))
    assert checksum(torch.empty(0)) == 0


# -- resident data ------------------------------------------------------------------------------------------------


def halve(x: Tensor) -> None:
    x.div_(2)


def halve_a_view(x: Tensor) -> None:
    x[0].view(-1)[0] /= 2


def halve_data(x: Tensor) -> None:
    x.data.div_(2)


def halve_by_numpy(x: Tensor) -> None:
    x.numpy()[...] /= 2


def add_a_dimension(x: Tensor) -> None:
    x.unsqueeze_(0)


@pytest.mark.parametrize("change", [halve, halve_a_view, add_a_dimension])
def test_data_that_is_changed_in_place_is_made_anew(tmp_path: Path, change: Any) -> None:
    training = trained(tmp_path)
    first = next(training.batches)[0]
    change(training.to_device([first])[0])
    for _ in range(3):
        (x,) = training.to_device(next(training.batches))
        assert x.equal(torch.ones(2, 4, 8))
        change(x)
    assert state_of(training).batch == "copied in the window"  # nobody had said that it begins
    training.batches.resident.begin_window()  # type: ignore[union-attr]
    assert state_of(training).batch == "copied"


@pytest.mark.parametrize("change", [halve_data, halve_by_numpy])
def test_data_that_is_changed_unseen_is_found_by_its_bits(tmp_path: Path, change: Any) -> None:
    training = trained(tmp_path)
    resident = training.batches.resident
    assert resident is not None
    change(next(training.batches)[0])
    assert state_of(training).batch == "changed"
    resident.check()
    resident.begin_window()
    assert training.to_device(next(training.batches))[0].equal(torch.ones(2, 4, 8))
    assert state_of(training).batch == "copied"


def test_each_micro_batch_is_watched() -> None:
    made = [[torch.ones(2)], [torch.ones(2), torch.zeros(3)]]
    resident = Resident(lambda: [[tensor.clone() for tensor in batch] for batch in made])
    batches = iter(resident)
    assert [next(batches) for _ in range(4)][1][1].equal(torch.zeros(3))
    assert not resident.copies
    next(batches)
    next(batches)[1].add_(1)  # a label, in a later step
    next(batches)
    assert resident.copies
    assert next(batches)[1].equal(torch.zeros(3))


# -- threads ------------------------------------------------------------------------------------------------------


def test_threads_that_are_set_by_hand() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads() == (2, False)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, "(1, False)"),
        ({"OMP_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true"}, "(1, True)"),
        ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "1"}, "(1, False)"),
    ],
)
def test_threads_are_those_that_run(variables: dict[str, str], expected: str) -> None:
    code = "from bench.rank.settings import threads; print(threads())"
    names = ("OMP_", "MKL_", "KMP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)} | variables
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    if "MKL_NUM_THREADS" in variables and not torch.backends.mkl.is_available():
        pytest.skip("this PyTorch has no MKL, whose number of threads it would take")
    assert run.stdout.strip() == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(4)]),
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.eye(4).to_sparse_csr(),
        lambda: torch.eye(4).to_sparse_csc(),
    ],
    ids=["jagged", "nested", "coo", "csr", "csc"],
)
def test_resident_batches_of_tensors_that_are_not_dense(make: Callable[[], Tensor]) -> None:
    resident = Resident(lambda: [{"x": make()}])
    batches = iter(resident)
    for _ in range(2):
        batch = next(batches)
    resident.check()
    assert resident.condition() == "as made"
    values = (
        batch["x"].unbind()[0]
        if batch["x"].is_nested
        else batch["x"].values()
        if batch["x"].layout != torch.sparse_coo
        else batch["x"]._values()
    )
    values.mul_(2)
    assert next(batches)["x"] is not batch["x"]
    assert resident.copies
