"""What a loss uses of a model besides the model itself, and how methods are led through the model's call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.rank.model_calls import expose, lead_through_call, noted

X = torch.ones(2, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1)
        self.temperature = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(checkpoint(self.body, x, use_reentrant=False)) * self.temperature

    def training_loss(self, x: Tensor, power: int = 2) -> Tensor:
        return (self.features(x) ** power).mean()

    def features(self, x: Tensor) -> Tensor:
        return self(x)

    def mask(self, x: Tensor) -> Tensor:
        return x > 0

    def _internal(self, x: Tensor) -> Tensor:
        return self.body(x)


Use = Callable[[Net], Tensor]


@pytest.mark.parametrize(
    ("use", "methods", "modules", "parameters"),
    [
        (lambda net: net(X).mean(), [], [], []),
        (lambda net: net.training_loss(X), ["training_loss"], [], []),
        (lambda net: net.training_loss(X) + net.features(X).mean(), ["training_loss", "features"], [], []),
        (lambda net: net(X)[net.mask(X)[:, :1]].mean(), [], [], []),
        (lambda net: net.head(net.body(X)).mean(), [], ["body", "head"], []),
        (lambda net: net.body[0](X).mean(), [], ["body.0"], []),
        (lambda net: net._internal(X).mean(), [], ["body"], []),
        (lambda net: (net(X) / net.temperature).mean(), [], [], ["temperature"]),
        (lambda net: net.head.weight.norm() + net(X).mean(), [], [], []),
        (lambda net: sum(p.norm() for p in net.parameters()), [], [], []),
    ],
)
def test_what_a_loss_uses_is_noted(use: Use, methods: list[str], modules: list[str], parameters: list[str]) -> None:
    net = Net()
    with noted(net) as calls:
        use(net)
    assert (list(calls.methods), list(calls.modules), list(calls.parameters)) == (methods, modules, parameters)
    assert type(net) is Net


def test_noting_ends_with_an_exception() -> None:
    net = Net()
    with pytest.raises(RuntimeError), noted(net) as calls:
        net.training_loss(torch.ones(2, 3))
    assert (list(calls.methods), type(net)) == (["training_loss"], Net)
    net(X)
    assert list(calls.modules) == []


def led(names: list[str]) -> tuple[Net, list[int]]:
    """Return a model whose methods lead through its call, and the list of the calls that its hook saw."""
    net = Net()
    lead_through_call(net, names)
    expose(net, net, names)
    seen: list[int] = []
    net.register_forward_pre_hook(lambda *_: seen.append(1))
    return net, seen


def test_a_method_runs_inside_the_models_call() -> None:
    torch.manual_seed(0)
    plain = Net()
    torch.manual_seed(0)
    net, seen = led(["training_loss", "features"])
    assert net.training_loss(X, power=4).item() == plain.training_loss(X, power=4).item()
    assert len(seen) == 2  # of training_loss, and of the call in features, which it calls
    assert net.features(X).tolist() == plain(X).tolist()
    assert (len(seen), net.calls) == (4, 2)
    assert net(X).tolist() == plain(X).tolist()
    assert len(seen) == 5


def test_a_failing_method_leaves_the_next_call_as_it_was() -> None:
    net, seen = led(["training_loss"])
    with pytest.raises(RuntimeError):
        net.training_loss(torch.ones(2, 3))
    seen.clear()
    net.training_loss(X)
    assert len(seen) == 2


def test_a_model_without_methods_is_left_alone() -> None:
    net = Net()
    lead_through_call(net, [])
    expose(net, net, [])
    assert (type(net), net.__dict__.get("training_loss")) == (Net, None)
