"""FLOPs against values worked out by hand: 2 for a multiply-add.

A training step has the forward pass, the gradient of each weight, and the gradient of each input that needs one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision  # noqa: F401, registers operations
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset, TensorDataset

from bench.rank.describe import describe
from bench.rank.flop_formulas import FORMULAS
from bench.rank.flops import UnknownOperationError, flops_of
from bench.rank.free_operations import is_free


class Own:
    """A user's workload; ``step`` is its loss."""

    unit, batch_size = "samples", 8

    def __init__(
        self, build: Callable[[], nn.Module], step: Callable[[Any, Sequence[Tensor]], Tensor], *shape: int, **more: Any
    ) -> None:
        self._build, self._step, self._shape = build, step, shape
        self.__dict__.update(more)

    def build(self) -> nn.Module:
        return self._build()

    def loss(self, model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        return self._step(model, batch)

    def samples(self, data: str) -> Dataset[Any]:
        return TensorDataset(torch.ones(16, *self._shape))

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        return list(model.children()) if isinstance(model, nn.Sequential) else []


def plainly(model: Any, batch: Sequence[Tensor]) -> Tensor:
    return model(batch[0]).sum()


def trained(model: nn.Module, *shapes: tuple[int, ...], needs_input: bool = False) -> int:
    inputs = [torch.ones(shape, requires_grad=needs_input) for shape in shapes]

    def step() -> Tensor:
        out = model(*inputs)
        return (out[0] if isinstance(out, tuple) else out).sum()

    return flops_of(step)


# -- single operations ------------------------------------------------------------------------------------------------

CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    # weights per output channel x output positions x samples x 2, for the forward pass and the weight's gradient
    "depthwise 1d": (lambda: nn.Conv1d(8, 8, 3, groups=8), (2, 8, 12), 2 * (2 * 8 * 3 * 10 * 2)),
    "grouped 2d, strided": (
        lambda: nn.Conv2d(8, 16, 3, stride=2, groups=4),
        (2, 8, 9, 9),
        2 * (2 * 16 * 2 * 9 * 16 * 2),
    ),
    "depthwise 3d, two a channel": (lambda: nn.Conv3d(4, 8, 3, groups=4), (1, 4, 5, 5, 5), 2 * (2 * 8 * 27 * 27)),
    "dilated": (lambda: nn.Conv2d(3, 5, 3, dilation=2), (1, 3, 8, 8), 2 * (2 * 5 * 3 * 9 * 16)),
    # each input position meets the weights of its group: 12 / 4 = 3 outputs x 3 positions
    "transposed, grouped": (
        lambda: nn.ConvTranspose1d(8, 12, 3, stride=2, groups=4),
        (2, 8, 10),
        2 * (2 * 8 * 3 * 3 * 10 * 2),
    ),
    "without a batch": (lambda: nn.Conv2d(3, 5, 1), (3, 4, 4), 2 * (2 * 5 * 3 * 16)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_convolutions_count_their_own_group(name: str, device: str) -> None:
    build, shape, expected = CONVOLUTIONS[name]
    with torch.device(device):
        assert trained(build(), shape) == expected
        assert trained(build(), shape, needs_input=True) == expected * 3 // 2


def test_six_depthwise_convolutions_count_as_worked_out() -> None:
    model = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1, groups=64) for _ in range(6)))
    one = 2 * 64 * 9 * 16 * 16
    # the first layer's input needs no gradient
    assert trained(model, (1, 64, 16, 16)) == 6 * 3 * one - one == 5_013_504


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = kind(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int) -> None:
    """5 positions of 3 samples: 8 inputs and 16 hidden to 16 x gates; the first hidden state needs no gradient."""
    of_input, of_hidden = 2 * 15 * 8 * 16 * gates, 2 * 15 * 16 * 16 * gates
    with torch.device("meta"):
        assert trained(Recurrent(kind), (5, 3, 8)) == 2 * of_input + 3 * of_hidden - of_hidden // 5


class Attends(nn.Module):
    """Attention with keys and values of another length, and fewer heads, if asked for."""

    def __init__(self, key_heads: int) -> None:
        super().__init__()
        self.query, self.key, self.key_heads = nn.Linear(16, 16), nn.Linear(16, 4 * key_heads), key_heads

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q = self.query(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k = self.key(y).unflatten(-1, (self.key_heads, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=self.key_heads != 4)


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_counts_in_full_by_every_kernel(device: str, key_heads: int) -> None:
    """2 samples, 4 heads of 4, 10 queries and 7 keys: scores and values, and twice that in the backward pass."""
    linear = 2 * (2 * 10 * 16 * 16 + 2 * 7 * 16 * 4 * key_heads)
    attention = 2 * (2 * 4 * 10 * 7 * 4) * 2
    with torch.device(device):
        assert trained(Attends(key_heads), (2, 10, 16), (2, 7, 16)) == 2 * linear + 3 * attention


def test_multihead_attention_and_an_encoder_layer() -> None:
    """2 x 10 tokens of width 32: q, k, v and out 32 x 32, scores and values 10 x 32 for a token; an MLP of 64."""
    projections, attention, mlp = 2 * 20 * 4 * 32 * 32, 2 * 2 * 20 * 10 * 32, 2 * 20 * 2 * 32 * 64
    first = 2 * 20 * 3 * 32 * 32  # whose input needs no gradient
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        assert trained(layer, (2, 10, 32)) == 3 * (projections + attention + mlp) - first


X, Y, Z = (lambda n: torch.ones(n, 3, requires_grad=True)), (lambda: torch.ones(3)), (lambda: torch.ones(3, 5))
SINGLE: dict[str, tuple[Callable[[], Tensor], int]] = {
    "matrix times vector": (lambda: (X(4) @ Y()).sum(), 2 * 12),  # its gradient is an outer product: elementwise
    "dot": (lambda: torch.dot(X(1)[0], Y()), 2 * 3),
    "addmv": (lambda: torch.addmv(torch.ones(4), X(4), Y()).sum(), 2 * 12),
    "addbmm": (lambda: torch.addbmm(torch.ones(4, 5), X(4)[None], Z()[None]).sum(), 2 * 2 * 4 * 3 * 5),
    "complex": (lambda: (X(4) * 1j @ Z().to(torch.complex64)).abs().sum(), 4 * 2 * 2 * 4 * 3 * 5),
    # x1 with the weights, the result with x2; of the gradients only the weight's is needed
    "bilinear": (lambda: nn.Bilinear(3, 3, 5)(X(2).detach(), X(2).detach()).sum(), 2 * (2 * 2 * 5 * 9) + 2 * 2 * 5 * 3),
    "einsum": (lambda: torch.einsum("bi,ij->bj", X(4), Z()).sum(), 2 * 2 * 4 * 3 * 5),
    "elementwise": (lambda: F.layer_norm(F.gelu(X(4).cumsum(0).softmax(1)), (3,)).sort().values.std(), 0),
    "embedding": (lambda: nn.Embedding(5, 3)(torch.tensor([1, 2])).sum(), 0),
    "pooling and resizing": (lambda: F.interpolate(F.max_pool1d(X(4)[None], 2), 9).sum(), 0),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_operations(name: str) -> None:
    step, expected = SINGLE[name]
    assert flops_of(step) == expected


# -- what is not known ------------------------------------------------------------------------------------------------


@torch.library.custom_op("stepbench_tests::matmul", mutates_args=())
def own_matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


own_matmul.register_autograd(
    lambda ctx, grad: (None, own_matmul(ctx.saved_tensors[0].T.contiguous(), grad)),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class Squares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda: own_matmul(X(2), Z().requires_grad_()).sum(), "unknown operation stepbench_tests::matmul"),
        (lambda: torch.linalg.inv(torch.eye(3, requires_grad=True)).sum(), "unknown operation aten::linalg_inv_ex"),
        (lambda: torch.fft.rfft(X(2).detach()).abs().sum().requires_grad_(), "unknown operation aten::_fft_r2c"),
        (lambda: Squares.apply(X(2)).sum(), "unknown operation what follows on Tensor.numpy, outside of torch"),
        (lambda: (torch.eye(3).to_sparse() @ X(3)).sum(), "unknown operation aten::mm of a sparse tensor"),
    ],
)
def test_an_unknown_operation_is_named_once(step: Callable[[], Tensor], words: str) -> None:
    with pytest.raises(UnknownOperationError) as error:
        flops_of(step)
    assert str(error.value).startswith(words)
    assert str(error.value).count("stepbench_tests") <= 1


def test_the_package_that_defines_an_operation_may_say_what_it_costs() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    packet = torch.ops.stepbench_tests.matmul
    register_flop_formula(packet)(lambda a, b, **_: 2 * a[0] * a[1] * b[1])
    try:
        assert flops_of(lambda: own_matmul(X(2), Z().requires_grad_()).sum()) == 2 * (2 * 2 * 3 * 5)
    finally:
        del flop_registry[packet]


def test_no_operation_has_a_formula_and_is_free() -> None:
    for name in FORMULAS:
        namespace, _, base = name.partition("::")
        packet = getattr(getattr(torch.ops, namespace), base, None)
        assert packet or name == "aten::_foreach_mm", name  # torch 2.11 does not have it
        overloads = packet.overloads() if packet else []
        assert not any(is_free(getattr(packet, overload)) for overload in overloads), name


# -- the step of a workload -------------------------------------------------------------------------------------------


def test_work_that_grows_with_the_square_of_the_batch() -> None:
    """All pairs of 64 samples of width 8: 64 x 8 for a sample, twice that backward; the layer has 32 x 8 weights."""
    own = Own(lambda: nn.Linear(32, 8), lambda model, batch: (z := model(batch[0])).matmul(z.T).sum(), 32)
    assert describe(own, "none", "resident", 64).flops_per_sample == 3 * 2 * 64 * 8 + 2 * 2 * 32 * 8
    assert describe(own, "none", "resident", 2).flops_per_sample == 3 * 2 * 2 * 8 + 2 * 2 * 32 * 8


class Merged(nn.Linear):
    """A frozen weight plus a low-rank change, merged in each step."""

    def __init__(self) -> None:
        super().__init__(64, 64, bias=False)
        self.weight.requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.ones(64, 4)), nn.Parameter(torch.ones(4, 64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.a @ self.b)


@pytest.mark.parametrize("samples", [2, 16])
def test_work_that_a_step_does_once_whatever_its_batch(samples: int) -> None:
    said = describe(Own(Merged, plainly, 64), "none", "resident", samples)
    assert said.flops_per_sample == 3 * 2 * 64 * 4 * 64 / samples + 2 * 2 * 64 * 64


def test_frozen_weights_have_no_gradient() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        model[0].requires_grad_(False)
        model[1].requires_grad_(False)
        return model

    said = describe(Own(build, plainly, 8), "none", "resident")
    assert said.flops_per_sample == (1 + 1 + 2) * 2 * 64  # forward, forward, forward and the last weight's gradient


class Checkpoints(nn.Module):
    """Two layers of 32 x 32. The model itself recomputes the second, with ``checkpoint`` imported in different ways."""

    def __init__(self, again: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.second, self.first(x))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("partial", [False, True])
def test_a_models_own_checkpointing_is_hardwares(reentrant: bool, partial: bool) -> None:
    again = functools.partial(checkpoint, use_reentrant=reentrant)
    own = Own(lambda: Checkpoints(again if partial else lambda *args: again(*args)), plainly, 32)
    said, layer = describe(own, "none", "resident"), 2 * 32 * 32
    assert said.flops_per_sample == 3 * 3 * layer - layer
    # non-reentrant: recomputing stops at the input of the last layer
    assert said.hardware_flops_per_sample == said.flops_per_sample + (2 if reentrant else 1) * layer


def test_layers_that_are_left_out_in_eval_mode_count_as_ranks_train() -> None:
    class Extra(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return super().forward(x) if self.training else x

    said = describe(Own(lambda: Extra(8, 8).eval(), plainly, 8), "none", "resident")
    assert said.flops_per_sample == 3 * 2 * 2 * 64 - 2 * 64


def depths() -> nn.Module:
    rates = [torch.linspace(0, 0.1, 3)[i].item() for i in range(3)]
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Dropout(rate)) for rate in rates))


def asking(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    x = model(batch[0])
    return (model(x) if x.abs().sum() >= 0 else x).sum()


def moved(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    return (model(batch[0]) + torch.arange(8)).sum()


@pytest.mark.parametrize(
    ("build", "step", "flops", "how"),
    [
        (depths, plainly, 3 * 3 * 128 - 128, "counted with fake tensors"),
        (lambda: nn.Linear(8, 8), moved, 2 * 128, "counted with fake tensors"),
        (lambda: nn.Linear(8, 8), asking, 3 * 2 * 128 - 128, "counted in one step of one rank"),
        (nn.LazyLinear, plainly, 2 * 128, "counted on the meta device"),
    ],
    ids=["a value asked for in building", "tensors made on the way", "control flow by values", "lazy"],
)
def test_what_cannot_run_on_the_meta_device_is_counted_otherwise(
    build: Callable[..., nn.Module], step: Callable[..., Tensor], flops: int, how: str
) -> None:
    make = functools.partial(build, 8) if build is nn.LazyLinear else build
    said = describe(Own(make, step, 8), "none", "resident")
    assert said.flops_per_sample == flops
    assert said.flops_convention is not None
    assert said.flops_convention.endswith(how)
    assert said.parameters == (3 if build is depths else 1) * (8 * 8 + 8)


def test_what_cannot_be_counted_is_empty_and_the_rest_is_known() -> None:
    def fails(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        raise RuntimeError("only with eight ranks")

    said = describe(Own(lambda: nn.Linear(8, 8), fails, 8), "none", "resident")
    assert (said.flops_per_sample, said.hardware_flops_per_sample, said.parameters) == (None, None, 72)
    assert said.flops_note == (
        "one step on the cpu raised RuntimeError: only with eight ranks; say flops_per_sample in the workload"
    )


def test_a_model_that_cannot_be_built_here_leaves_what_is_said_of_it() -> None:
    def fails() -> nn.Module:
        raise RuntimeError("no process group")

    said = describe(Own(fails, plainly, 8), "none", "resident")
    assert (said.parameters, said.layers, said.flops_per_sample, said.batch_size) == (None, None, None, 8)
    assert said.flops_note is not None
    assert "no process group" in said.flops_note


@pytest.mark.parametrize(
    ("step", "hardware"),
    [
        (lambda model, batch: own_matmul(model(batch[0]), model.weight).sum(), 1000.0),
        (lambda model, batch: checkpoint(lambda x: model(model(x)), batch[0], use_reentrant=False).sum(), None),
    ],
    ids=["nothing recomputed", "its own checkpointing"],
)
def test_a_workload_may_say_its_own(step: Callable[..., Tensor], hardware: float | None) -> None:
    said = describe(Own(lambda: nn.Linear(8, 8), step, 8, flops_per_sample=1000), "none", "resident")
    assert (said.flops_per_sample, said.hardware_flops_per_sample) == (1000.0, hardware)
    assert said.flops_note is not None
    assert said.flops_note.startswith("the workload says flops_per_sample itself")
    assert ("hfu stays empty" in said.flops_note) == (hardware is None)


def test_counting_leaves_no_trace() -> None:
    state, numpy, recomputing = torch.get_rng_state(), Tensor.numpy, torch.utils.checkpoint.CheckpointFunction
    own = Own(lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout()), asking, 8)
    describe(own, "none", "resident")  # on the meta device, with fake tensors and for real
    assert (Tensor.numpy, torch.utils.checkpoint.CheckpointFunction) == (numpy, recomputing)
    assert torch.equal(torch.get_rng_state(), state)
