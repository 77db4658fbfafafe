"""The operations of a step, with numbers that were worked out by hand."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.messages.counts import CountLine
from bench.rank.flops import counting
from bench.rank.work.collectives import Collectives
from bench.rank.work.live_memory import LiveMemory
from bench.rank.work.operations import Operations
from bench.rank.work.saved import SavedActivations

F32 = 4


def counted(step: Callable[[], object]) -> tuple[Operations, dict[tuple[str, str], CountLine]]:
    operations = Operations(LiveMemory(), Collectives())
    operations.part = "forward"
    with counting(operations):
        step()
    assert operations.failed == ""
    lines = [line for part, work in operations.parts.items() for line in work.lines(part)]
    return operations, {(line.kind, line.name): line for line in lines}


def test_a_linear_layer_forward_and_backward() -> None:
    """x is 2 x 4, the weight 3 x 4: y = x W' + b; dW = dy' x; db = the sum of dy."""
    x, layer = torch.ones(2, 4), nn.Linear(4, 3)
    operations, lines = counted(lambda: layer(x).sum().backward())
    forward = lines["operation", "addmm"]
    assert (forward.type, forward.calls) == ("float32", 1)
    assert forward.bytes_read == F32 * (3 + 2 * 4 + 4 * 3)
    assert forward.bytes_written == F32 * 2 * 3
    gradient = lines["operation", "mm"]  # dW; x needs no gradient
    assert (gradient.calls, gradient.bytes_read, gradient.bytes_written) == (1, F32 * (3 * 2 + 2 * 4), F32 * 3 * 4)
    assert operations.parts["forward"].flops == 2 * (2 * 2 * 4 * 3)
    names = {name for kind, name in lines if kind == "operation"}
    assert not names & {"t", "detach", "view", "expand", "transpose"}  # views cost nothing


def test_bytes_of_an_operation_in_place_and_of_lists() -> None:
    a, b = torch.ones(10), torch.ones(10)
    _, lines = counted(lambda: a.add_(b))
    assert (lines["operation", "add_"].bytes_read, lines["operation", "add_"].bytes_written) == (80, 40)
    assert ("allocation", "") not in lines
    _, lines = counted(lambda: torch._foreach_add_([a, b], 1.0))
    assert (lines["operation", "_foreach_add_"].calls, lines["operation", "_foreach_add_"].bytes_written) == (1, 80)


def test_what_is_allocated() -> None:
    x = torch.ones(100)
    _, lines = counted(lambda: [x * 2, torch.empty(5), x.view(10, 10)])
    assert (lines["allocation", ""].calls, lines["allocation", ""].bytes) == (2, 420)
    assert ("operation", "empty") not in lines


@pytest.mark.parametrize(
    ("step", "waits"),
    [
        (lambda x: x.sum().item(), {"item": 1}),
        (lambda x: bool((x > 0).any()), {"item": 1}),
        (lambda x: x.nonzero(), {"nonzero": 1}),
        (lambda x: x[x > 0], {"index by a mask": 1}),
        (lambda x: x.masked_select(x > 0), {"masked_select": 1}),
        (lambda x: x[torch.tensor([0, 1])], {}),
        (lambda x: torch.where(x > 0, x, 0.0), {}),
        (lambda x: torch.unique(x), {"_unique2": 1}),
        (lambda x: torch.equal(x, x + 1), {"equal": 1}),
    ],
)
def test_operations_whose_value_the_host_waits_for(step: Callable[[Tensor], object], waits: dict[str, int]) -> None:
    operations, _ = counted(lambda: step(torch.arange(3.0)))
    assert operations.parts["forward"].synchronisations == waits


def test_a_value_that_is_on_the_host_anyway_is_no_wait() -> None:
    step = torch.ones(())
    operations = Operations(LiveMemory(), Collectives())
    operations.host_values = {id(step)}
    with counting(operations):
        assert step.item() == 1.0
    assert operations.parts[""].synchronisations == {}


def test_an_operation_that_cannot_be_counted_does_not_end_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = Operations(LiveMemory(), Collectives())
    operations.parts = None  # type: ignore[assignment]
    operations.part = "forward"
    with pytest.raises(AttributeError):  # of the flops, outside of any operation
        operations._part()
    memory = LiveMemory()
    monkeypatch.setattr(memory, "see", lambda tensors: 1 / 0)
    operations = Operations(memory, Collectives())
    with counting(operations):
        assert (torch.ones(2) * 2).tolist() == [2.0, 2.0]
    assert "raised ZeroDivisionError when it was counted" in operations.failed


def test_what_lives_at_once() -> None:
    """Two tensors of 400 bytes live at once, and the first of them until the end."""
    memory = LiveMemory()
    operations = Operations(memory, Collectives())
    with counting(operations):
        a = torch.ones(100)
        b = a * 2
        del b
        c = a.view(10, 10) + 1
        assert (memory.now, memory.peak) == (800, 800)
        del c
        gc.collect()
        assert memory.now == 400
    assert (memory.made_without([]), memory.made_without([a])) == (400, 0)
    del a
    assert (memory.now, memory.made_without([])) == (0, 0)


def test_a_storage_that_takes_the_place_of_another_is_not_taken_for_it() -> None:
    """Python gives the identity of an object that is gone to a later one."""
    memory = LiveMemory()
    operations = Operations(memory, Collectives())
    before = [torch.ones(10) for _ in range(50)]
    with counting(operations):
        for tensor in before:
            tensor * 2  # its result is gone at once
            tensor.view(2, 5)
    assert memory.made_without([]) == 0
    assert memory.now == 50 * 40


def test_a_storage_that_changes_its_size_is_followed() -> None:
    memory, tensor = LiveMemory(), torch.ones(100)
    memory.see([tensor, tensor.view(10, 10)])
    with memory.following_sizes():
        tensor.untyped_storage().resize_(0)
        assert memory.now == 0
        tensor.untyped_storage().resize_(800)
    assert (memory.now, memory.peak) == (800, 800)


def test_saved_activations_of_layers() -> None:
    """A linear layer saves its input, GELU its input; parameters and the batch are no activations."""
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    model, x = nn.Sequential(first, nn.GELU(), second), torch.ones(5, 4)
    saved = SavedActivations({first: "first", second: "second"}, model.buffers())
    saved.leave_out([x])
    with saved.noting():
        saved.on = True
        loss = (model(x) ** 2).sum()
        saved.on = False
        loss.backward()
    # GELU's input, outside of both; GELU's output in the second; and the square's input outside.
    assert saved.bytes == {"second": F32 * 5 * 8, "": F32 * 5 * 8 + F32 * 5 * 2}
