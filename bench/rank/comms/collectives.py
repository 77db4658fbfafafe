"""The collectives: what each is called with, and the result that it must have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from bench.plan.comms import BARRIER, DTYPES
from bench.plan.comms_rounds import message_bytes

PERIOD, VALUES = 5, 3  # Element i of rank r's message is (i mod 5 + r) mod 3: small, and another one on each rank.
CHUNK = PERIOD << 18  # Elements that are filled or compared at once, so that a check needs little memory.
Group = dist.ProcessGroup


@dataclass
class Operation:
    """A collective of one size and type in one process group.

    ``call`` does it once. ``inputs`` are filled with values of this rank before it is checked; then each part of the
    ``output`` must be as ``expected``.
    """

    call: Callable[[], object]
    inputs: list[Tensor]
    output: Tensor | None
    expected: list[Expected]


@dataclass(frozen=True)
class Expected:
    """What a part of the output must be: the sum of the messages of ``ranks``, from their element ``start`` on."""

    ranks: Sequence[int]
    start: int = 0


def make(collective: str, dtype: str, size: int, ranks: Sequence[int], group: Group, device: torch.device) -> Operation:
    """Return a collective of the ranks of a group with its buffers, which may raise out-of-memory errors.

    ``ranks`` are global ones, and ``size`` is in bytes.
    """
    if collective == BARRIER:
        ids = [device.index] if dist.get_backend(group) == "nccl" else None  # else it would guess the device
        return Operation(lambda: dist.barrier(group, device_ids=ids), [], None, [])
    number = message_bytes(collective, dtype, size, len(ranks)) // DTYPES[dtype]
    return MAKERS[collective](_Buffers(getattr(torch, dtype), number, ranks, group, device))


@dataclass(frozen=True)
class _Buffers:
    """Allocates the buffers of an operation; ``number`` is that of the elements of its message."""

    dtype: torch.dtype
    number: int
    ranks: Sequence[int]
    group: Group
    device: torch.device

    def whole(self) -> Tensor:
        """Return a buffer for the message."""
        return torch.zeros(self.number, dtype=self.dtype, device=self.device)

    def part(self) -> Tensor:
        """Return a buffer for the part of one rank."""
        return torch.zeros(self.in_part, dtype=self.dtype, device=self.device)

    @property
    def in_part(self) -> int:
        """Number of elements in the part of one rank."""
        return self.number // len(self.ranks)

    @property
    def own(self) -> int:
        """Position of this rank in the group."""
        return self.ranks.index(dist.get_rank())


def _all_reduce(of: _Buffers) -> Operation:
    message = of.whole()
    return Operation(lambda: dist.all_reduce(message, group=of.group), [message], message, [Expected(of.ranks)])


def _all_gather(of: _Buffers) -> Operation:
    part, message = of.part(), of.whole()
    expected = [Expected([rank]) for rank in of.ranks]
    return Operation(lambda: dist.all_gather_into_tensor(message, part, of.group), [part], message, expected)


def _reduce_scatter(of: _Buffers) -> Operation:
    message, part = of.whole(), of.part()
    expected = [Expected(of.ranks, of.own * of.in_part)]
    return Operation(lambda: dist.reduce_scatter_tensor(part, message, group=of.group), [message], part, expected)


def _broadcast(of: _Buffers) -> Operation:
    message, root = of.whole(), of.ranks[0]
    return Operation(lambda: dist.broadcast(message, root, of.group), [message], message, [Expected([root])])


def _all_to_all(of: _Buffers) -> Operation:
    sent, received = of.whole(), of.whole()
    expected = [Expected([rank], of.own * of.in_part) for rank in of.ranks]
    return Operation(lambda: dist.all_to_all_single(received, sent, group=of.group), [sent], received, expected)


def _send_recv(of: _Buffers) -> Operation:
    sent, received = of.whole(), of.whole()
    after, before = (of.ranks[(of.own + step) % len(of.ranks)] for step in (1, -1))

    def call() -> None:
        # Gloo says on the same connection that it is ready to receive: after a long message it would be late.
        both = [dist.P2POp(dist.irecv, received, before, of.group), dist.P2POp(dist.isend, sent, after, of.group)]
        for work in dist.batch_isend_irecv(both):
            work.wait()

    return Operation(call, [sent], received, [Expected([before])])


MAKERS: dict[str, Callable[[_Buffers], Operation]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "broadcast": _broadcast,
    "all_to_all": _all_to_all,
    "send_recv": _send_recv,
}


# -- values --------------------------------------------------------------------------------------------------------


def fill(operation: Operation, rank: int) -> None:
    """Fill the inputs with the values of a rank."""
    for tensor in operation.inputs:
        for start in range(0, tensor.numel(), CHUNK):
            chunk = tensor[start : start + CHUNK]
            chunk.copy_(_values(Expected([rank], start), chunk))


def clear(operation: Operation) -> None:
    """Set the inputs to zero, so that sums stay as they are however often they are summed again."""
    for tensor in operation.inputs:
        tensor.zero_()


def is_correct(operation: Operation) -> bool | None:
    """Return whether each number of the output is as expected; None if there is no output."""
    if operation.output is None:
        return None
    in_part = operation.output.numel() // len(operation.expected)
    return all(
        _is(part, expected) for part, expected in zip(operation.output.split(in_part), operation.expected, strict=True)
    )


def _is(part: Tensor, expected: Expected) -> bool:
    for start in range(0, part.numel(), CHUNK):
        chunk = part[start : start + CHUNK]
        values = _values(Expected(expected.ranks, expected.start + start), chunk)
        if not _equal(chunk, values, len(expected.ranks)):
            return False
    return True


def _equal(found: Tensor, expected: Tensor, summands: int) -> bool:
    """Return whether all numbers are equal, or as near as rounded sums of small numbers are.

    Sums of so few small whole numbers are exact in every type, unless there are hundreds of ranks.
    """
    if not found.is_floating_point() or (VALUES - 1) * summands * torch.finfo(found.dtype).eps <= 1:
        return torch.equal(found, expected)
    error = (found.double() - expected.double()).abs()
    return bool((error <= summands * torch.finfo(found.dtype).eps * expected.double()).all())


def _values(expected: Expected, like: Tensor) -> Tensor:
    """Return the values of a chunk, in its type and on its device."""
    places = range(expected.start, expected.start + PERIOD)
    period = [sum((place % PERIOD + rank) % VALUES for rank in expected.ranks) for place in places]
    number = like.numel()
    repeats = -(-number // PERIOD)
    return torch.tensor(period, device=like.device).to(like.dtype).repeat(repeats)[:number]
