"""Activations that wait on the host: what is copied, and that gradients are the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.rank.activation_offload import ActivationOffload, Moved

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(32, 48, device=device), nn.Linear(48, 8, device=device)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.first(x).view(16, 2, 24).unbind(1)  # parts of one tensor, which are not contiguous
        return self.second(torch.cat([q.sigmoid() * k, k.exp()], -1)).square().sum()


def gradients(device: torch.device, inside: Callable[[Callable[[], Tensor]], Tensor]) -> list[Tensor]:
    model = Net(device)
    x = torch.linspace(-1, 1, 16 * 32, device=device).view(16, 32)
    inside(lambda: model(x)).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def offloaded(offload: ActivationOffload) -> Callable[[Callable[[], Tensor]], Tensor]:
    def inside(forward: Callable[[], Tensor]) -> Tensor:
        with offload.active():
            return forward()

    return inside


def compare(device: torch.device) -> ActivationOffload:
    offload = ActivationOffload(device)
    plain, other = gradients(device, lambda forward: forward()), gradients(device, offloaded(offload))
    assert len(plain) == len(other) == 4
    for one, two in zip(plain, other, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    return offload


def test_gradients_are_the_same_and_what_moves_is_counted() -> None:
    offload = compare(CPU)
    # x (16 × 32), of the sigmoid its result, of the product both factors, of exp its result, the second's input, and
    # its output, which is below 1024 bytes: 16 × 24 three times over and 16 × 48, of 4 bytes.
    sizes = [16 * 32, 16 * 24, 16 * 24, 16 * 24, 16 * 24, 16 * 48]
    assert (offload.tensors, offload.bytes) == (len(sizes), 4 * sum(sizes))


def test_parameters_and_small_tensors_stay() -> None:
    offload = ActivationOffload(CPU)
    weight, small = nn.Parameter(torch.ones(64, 64)), torch.ones(255)
    wide = torch.ones(1).expand(4096)  # one number at many places
    for stays in (weight, weight.t(), small, wide):
        assert offload._pack(stays) is stays
    assert offload.tensors == 0


def test_strides_come_back_as_they_were() -> None:
    offload = ActivationOffload(CPU, keeps_strides=True)
    for tensor in (
        torch.randn(64, 96)[:, :32],
        torch.randn(16, 32).t(),
        torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last),
    ):
        back = offload._unpack(offload._pack(tensor))
        assert back.data_ptr() != tensor.data_ptr()
        assert back.stride() == tensor.stride()
        torch.testing.assert_close(back, tensor, rtol=0, atol=0)


def test_a_part_of_a_larger_tensor_takes_no_more_than_its_own_memory() -> None:
    offload = ActivationOffload(CPU)
    part = torch.randn(64, 96)[:, :32]
    packed = offload._pack(part)
    assert isinstance(packed, Moved)
    for tensor in (packed.host, back := offload._unpack(packed)):
        assert tensor.untyped_storage().nbytes() == 4 * 64 * 32
    assert back.is_contiguous()
    torch.testing.assert_close(back, part, rtol=0, atol=0)


def test_each_saved_tensor_is_told() -> None:
    offload, told = ActivationOffload(CPU), list[int]()
    offload.seen = lambda tensor: told.append(tensor.numel())
    gradients(CPU, offloaded(offload))
    assert len(told) > offload.tensors


@pytest.mark.gpu
def test_on_a_gpu_activations_leave_the_device() -> None:
    device = torch.device("cuda", 0)
    compare(device)
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(1024, 1024), nn.GELU()) for _ in range(8))).to(device)
    x = torch.randn(4096, 1024, device=device)
    held, reserved = {}, {}
    for name, offload in (("plain", None), ("offloaded", ActivationOffload(device))):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss = offloaded(offload)(lambda: layers(x).sum()) if offload else layers(x).sum()
        torch.cuda.synchronize()
        held[name] = torch.cuda.memory_allocated() - before
        loss.backward()
        reserved[name] = torch.cuda.memory_stats()["active_bytes.all.peak"] - before
    # 16 activations of 16 MiB, of which the batch is in memory anyway; the last four may still be on their way.
    assert held["plain"] > 200 * 2**20
    assert held["offloaded"] < 96 * 2**20
    assert reserved["offloaded"] < reserved["plain"] / 2
