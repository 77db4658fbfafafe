"""Pipeline parallel: a rank has some consecutive layers of a model, and the micro-batches of a step go through them.

Stages and schedules are those of ``torch.distributed.pipelining``. In a step with M micro-batches two neighbouring
stages send each other M times the activations between them, and as much of their gradients.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.nn.parallel import DistributedDataParallel

from bench.messages.rank_record import BUBBLE
from bench.plan.case import Case
from bench.rank.clipping import clip_over
from bench.rank.distributed_tensors import local_of
from bench.rank.mesh import PIPELINE
from workloads.base import Batch
from workloads.checks import Checked, WorkloadError

FORWARD, BACKWARD = "forward", "backward"
Turn = Callable[[str], None]  # is told which part of a step begins
Names = Mapping[int, str]  # of one parameter in each stage that has it


@dataclass(frozen=True)
class Shared:
    """A parameter that stages of several ranks have: its name in each stage, and the ranks of this pipeline with it."""

    names: Names
    group: dist.ProcessGroup | None  # None if this rank has it not


def cut(workload: Checked, model: nn.Module, case: Case, mesh: DeviceMesh) -> tuple[dict[int, nn.Module], list[Shared]]:
    """Return this rank's stages by their number, and the parameters that several stages have.

    Raise WorkloadError if two stages of one rank share a parameter.
    """
    stages, ranks = workload.stages(model, case.stages), case.pipeline_ranks
    shared = []
    for names in _in_several(stages):
        owners = [number % ranks for number in names]
        if len(set(owners)) < len(owners):
            several = " and ".join(f"{name} of stage {number}" for number, name in names.items())
            raise WorkloadError(f"{several} are one parameter in two stages of a rank, which no schedule trains")
        shared.append(Shared(names, _group(sorted(owners), mesh)))
    own = mesh.get_local_rank(PIPELINE)
    return {number: stage for number, stage in enumerate(stages) if number % ranks == own}, shared


def _in_several(stages: Sequence[nn.Module]) -> list[Names]:
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for number, stage in enumerate(stages):
        for name, parameter in stage.named_parameters():
            found[id(parameter)][number] = name
    return [names for names in found.values() if len(names) > 1]


def _group(owners: Sequence[int], mesh: DeviceMesh) -> dist.ProcessGroup | None:
    """Return the group of those ranks of this rank's pipeline that are at the positions ``owners``.

    All ranks make the groups of all pipelines, as torch requires.
    """
    assert mesh.mesh_dim_names is not None
    pipelines = mesh.mesh.movedim(mesh.mesh_dim_names.index(PIPELINE), -1).flatten(0, -2)
    mine: dist.ProcessGroup | None = None
    for ranks in pipelines.tolist():
        members = [ranks[position] for position in owners]
        group = dist.new_group(members)
        if isinstance(group, dist.ProcessGroup):  # else this rank is none of the members
            mine = group
    return mine


class _Stage(PipelineStage):
    """Tells when it computes."""

    computing: Callable[[str], contextlib.AbstractContextManager[None]]

    def forward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:
        with self.computing(FORWARD):
            return super().forward_one_chunk(*args, **kwargs)

    def backward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:
        with self.computing(BACKWARD):
            return super().backward_one_chunk(*args, **kwargs)

    def perform_reduce_grad(self, *args: Any, **kwargs: Any) -> Any:
        with self.computing(BACKWARD):
            return super().perform_reduce_grad(*args, **kwargs)


class Pipeline:
    """The stages of a rank, and the schedule by which they train."""

    def __init__(
        self,
        case: Case,
        workload: Checked,
        stages: Mapping[int, nn.Module],
        shared: Sequence[Shared],
        mesh: DeviceMesh,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> None:
        """Take the rank's stages by their number, each distributed over the ranks that have the same."""
        self._case, self._workload, self._device, self._autocast = case, workload, device, autocast
        self._group: dist.ProcessGroup = mesh.get_group(PIPELINE)
        self._shared = [(_named(stages, one.names), one.group) for one in shared if one.group is not None]
        rank = dist.get_rank()
        self._counted_elsewhere = {id(p) for p, group in self._shared if dist.get_group_rank(group, rank) > 0}
        self._replicas = [stage for stage in stages.values() if isinstance(stage, DistributedDataParallel)]
        self._first, self.has_loss = 0 in stages, case.stages - 1 in stages
        self._turn: Turn = lambda part: None
        self._batches: Sequence[Batch] = []
        self._inputs_seen = False
        made = [self._stage(number, stage) for number, stage in stages.items()]
        options: dict[str, Any] = {"loss_fn": self._loss, "scale_grads": False}  # the loss is that of a micro-batch / M
        micro = case.micro_batches
        match case.spread.options["schedule"]:
            case "gpipe":
                self._schedule: Any = ScheduleGPipe(made[0], micro, **options)
            case "1f1b":
                self._schedule = Schedule1F1B(made[0], micro, **options)
            case _:
                self._schedule = ScheduleInterleaved1F1B(made, micro, **options)  # type: ignore[arg-type]

    def step(self, batches: Sequence[Batch], turn: Turn) -> Tensor | None:
        """Compute the gradients of a step's micro-batches, and return their mean loss; None without the last stage.

        ``turn`` is told when this rank begins to compute a part of the step, or, as BUBBLE, to wait for other stages.
        """
        self._batches, self._turn = batches, turn
        tensors = [_in_a_row(some) for some in zip(*map(self._workload.inputs, batches), strict=True)]
        first = tensors[:1] if self._first else []
        of_all = {_name(at): tensor for at, tensor in enumerate(tensors) if at}
        losses: list[Tensor] = []
        target = torch.arange(len(batches)) if self.has_loss else None
        turn(BUBBLE)
        with self._no_sync():
            self._schedule.step(*first, target=target, losses=losses, return_outputs=False, **of_all)
        for parameter, group in self._shared:  # which waits for other stages
            if parameter.grad is not None:
                dist.all_reduce(local_of(parameter.grad), group=group)
        self._batches = []
        return torch.stack(losses).sum() if losses else None

    def clip(self, parameters: Sequence[nn.Parameter], most: float) -> Tensor:
        """Clip the gradients of this rank's parameters, and return the norm of those of all stages.

        A parameter that several stages have counts once.
        """
        counted = [p.grad for p in parameters if p.grad is not None and id(p) not in self._counted_elsewhere]
        return clip_over(self._group, parameters, most, counted)

    @contextlib.contextmanager
    def _no_sync(self) -> Iterator[None]:
        """Let no forward pass of DDP prepare an exchange: torch's stage does so before the last backward pass.

        In the first step torch runs a stage once to learn the shapes of its results, and that prepares one as well.
        """
        with contextlib.ExitStack() as stack:
            for replica in self._replicas:
                stack.enter_context(replica.no_sync())
            yield

    def _stage(self, number: int, module: nn.Module) -> _Stage:
        stage = _Stage(module, number, self._case.stages, self._device, group=self._group)
        stage.computing = self._computing
        return stage

    @contextlib.contextmanager
    def _computing(self, part: str) -> Iterator[None]:
        self._turn(part)
        try:
            yield
        finally:
            self._turn(BUBBLE)

    def _loss(self, output: Any, number: Tensor) -> Tensor:
        """Return the loss of a micro-batch, divided by how many there are in a step."""
        batch = self._batches[int(number)]
        with self._computing(FORWARD), autocasting(self._device, self._autocast):
            model: Any = lambda *given, **named: self._answer(batch, output, given, named)  # noqa: E731
            loss = self._workload.loss(model, batch)
        return loss / len(self._batches)

    def _answer(self, batch: Batch, output: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Return what the last stage returned as what the model does when the loss calls it.

        Raise WorkloadError if it is called with other values than those that went through the stages.
        """
        if not self._inputs_seen:
            inputs = self._workload.inputs(batch)
            same = len(given) == len(inputs) and not named
            if not same or not all(torch.equal(one, other) for one, other in zip(given, inputs, strict=True)):
                raise WorkloadError("loss() calls the model with other values than inputs(batch) returns")
            self._inputs_seen = True
        return output


def adapted(stage: nn.Module, device: torch.device, autocast: torch.dtype | None) -> nn.Module:
    """Return the stage, which computes in ``autocast`` and takes by name what every stage is given.

    torch calls a stage with what the one before it returned, and gives all else by name.
    """
    forward = stage.forward

    def of_stage(received: Tensor, **others: Tensor) -> Any:
        with autocasting(device, autocast):
            returned = forward(received, *(others[_name(at)] for at in range(1, len(others) + 1)))
        return returned.contiguous() if isinstance(returned, Tensor) else returned  # as it is sent

    stage.forward = of_stage
    return stage


def autocasting(device: torch.device, autocast: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a model computes in this type; an empty one for None."""
    return torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext()


def _name(at: int) -> str:
    """Return the name of what every stage is given: of the input at a position."""
    return f"input_{at}"


def _named(stages: Mapping[int, nn.Module], names: Names) -> nn.Parameter:
    """Return the parameter that one of these stages has under its name."""
    number = next(number for number in names if number in stages)
    model = stages[number]
    return getattr(model, "module", model).get_parameter(names[number])


def _in_a_row(tensors: Sequence[Tensor]) -> Tensor:
    """Return the tensors of all micro-batches as one. Raise WorkloadError if they differ in shape."""
    if len({tensor.shape for tensor in tensors}) > 1:
        raise WorkloadError("inputs(batch) differ in shape between micro-batches; a stage takes tensors of one shape")
    return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0].contiguous()
