"""Tensor parallel: divides the layers of a model over a group of ranks, as the workload's ``split(model)`` says.

Activations between layers are divided along the sequence (sequence parallel, arXiv:2205.05198). What a rank then sends
in a step is, with A the bytes of the activations of its micro-batch (batch x sequence x width) and L blocks of two
norms, all-gathers of (4 L + 2) A and as many reduce-scatters, and without ``loss-parallel`` one all-gather of the
logits. A workload whose sequences cannot be divided has whole activations between layers: all-reduces of 4 L A
(arXiv:1909.08053), and one of A for an embedding that is divided.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from bench.rank.clipping import clip_over
from bench.rank.distributed_tensors import local_of
from bench.rank.mesh import TENSOR
from workloads.checks import Checked, WorkloadError

SEQUENCE = Shard(1)  # of activations (batch, sequence, width)
WHOLE = "is_whole"  # attribute of the class of a module that computes with plain parameters


class GatheredNorm(SequenceParallel):
    """A norm of a part of each sequence, whose results are gathered once for all layers that follow it.

    Left divided, each of them would gather the results anew.
    """

    @staticmethod
    def _prepare_output_fn(
        use_local_output: bool, mod: nn.Module, outputs: DTensor, device_mesh: DeviceMesh
    ) -> DTensor:
        return outputs.redistribute(placements=[Replicate()])


class Whole(ParallelStyle):
    """A module that each rank has all of, and which works on whole activations."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        own = dict(module.named_parameters(recurse=False))
        for name, parameter in own.items():
            whole = DTensor.from_local(parameter.detach(), device_mesh, [Replicate()], run_check=False)
            module.register_parameter(name, nn.Parameter(whole, requires_grad=parameter.requires_grad))
        kind = type(module)
        module.__class__ = type(kind.__name__, (kind,), {WHOLE: True, **{name: _of_rank(name) for name in own}})
        return module


def _of_rank(name: str) -> property:
    """Return a property that is the parameter of this name as a plain tensor, unless FSDP has sharded it as well."""

    def plain(module: nn.Module) -> Tensor | None:
        parameter = module._parameters[name]
        if isinstance(parameter, DTensor) and parameter.device_mesh.ndim > 1:
            return parameter
        return None if parameter is None else local_of(parameter)

    return property(plain)


class DividedPositions(ParallelStyle):
    """Embeddings of positions, of which each rank has those of its part of the sequence.

    The module returns (sequence, width), whatever it is called with.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def divide(name: str, part: nn.Module, mesh: DeviceMesh) -> None:
            for of, parameter in list(part.named_parameters(recurse=False)):
                shards = distribute_tensor(parameter, mesh, [Shard(0)], src_data_rank=None)
                part.register_parameter(of, nn.Parameter(shards))

        def local(part: nn.Module, outputs: Any, mesh: DeviceMesh) -> Any:
            return outputs.redistribute(placements=[Shard(0)]).to_local()

        return distribute_module(module, device_mesh, divide, output_fn=local)


def styles(loss_parallel: bool, split_sequence: bool = True) -> dict[str, ParallelStyle]:
    """Return how torch divides each kind of module that ``split(model)`` may name.

    Without ``split_sequence`` ranks have whole activations between layers.
    """
    logits = Shard(-1) if loss_parallel else Replicate()
    between = SEQUENCE if split_sequence else Replicate()
    common = {
        "column": ColwiseParallel(),
        "row": RowwiseParallel(output_layouts=between),
        "embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=between),
        "head": ColwiseParallel(output_layouts=logits, use_local_output=not loss_parallel),
    }
    own = {"positions": DividedPositions(), "norm": GatheredNorm()} if split_sequence else {"whole": Whole()}
    return {**common, **own}


def split(model: nn.Module, workload: Checked, mesh: DeviceMesh, device: torch.device, loss_parallel: bool) -> None:
    """Divide the modules of a model as the workload says, one by one as they move to the device.

    All ranks have the same model, of which each keeps its part. Raise WorkloadError if modules that shared a parameter
    do not afterwards: torch gives each its own, and the workload's ``tie`` has to share it again.
    """
    shared = _sharing(model)
    by_kind, kinds = styles(loss_parallel, workload.split_sequence), workload.split(model)
    if loss_parallel and "head" not in kinds.values():
        raise WorkloadError("loss-parallel=on divides the logits, and split(model) names no head that makes them")
    # A whole module may have others inside, which are divided before it moves to the device.
    for name, kind in sorted(kinds.items(), key=lambda item: item[1] == "whole"):
        parallelize_module(model.get_submodule(name).to(device), mesh, by_kind[kind], src_data_rank=None)
    workload.tie(model)
    if lost := shared - _sharing(model):
        names = " and ".join(sorted(next(iter(lost))))
        raise WorkloadError(f"{names} share a parameter, and not after split(model); write tie(model), which shares it")


def _sharing(model: nn.Module) -> set[frozenset[str]]:
    """Return the names of parameters that are one and the same."""
    names: dict[int, set[str]] = defaultdict(set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].add(name)
    return {frozenset(some) for some in names.values() if len(some) > 1}


@dataclass(frozen=True)
class Layout:
    """How a parameter that a rank has as a plain tensor is part of a whole one."""

    mesh: DeviceMesh
    placements: tuple[Any, ...]
    shape: torch.Size
    stride: tuple[int, ...]

    def whole(self, local: Tensor) -> DTensor:
        """Return this rank's part as the distributed tensor. Its gradient is laid out as the part is."""
        return DTensor.from_local(
            local, self.mesh, self.placements, run_check=False, shape=self.shape, stride=self.stride
        )

    @property
    def divided(self) -> bool:
        """Whether ranks have different parts."""
        return any(isinstance(placement, Shard) for placement in self.placements)


def make_local(model: nn.Module) -> None:
    """Make the distributed parameters of a model plain ones, of which its modules make distributed ones in each call.

    DistributedDataParallel reduces plain tensors only. Its own way (``torch.distributed.tensor.parallel.ddp``) makes
    parameters distributed from the begin of the forward pass to its end, so that a layer that is recomputed in the
    backward pass would find plain ones, and it does not know shared parameters.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        own = {name: p for name, p in module.named_parameters(recurse=False) if isinstance(p, DTensor)}
        for name, parameter in own.items():
            if id(parameter) not in made:
                local = nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)
                layout = Layout(parameter.device_mesh, parameter.placements, parameter.shape, parameter.stride())
                local.tensor_layout = layout  # type: ignore[attr-defined]
                made[id(parameter)] = local
            module._parameters[name] = made[id(parameter)]
        if own and not hasattr(type(module), WHOLE):
            kind = type(module)
            module.__class__ = type(kind.__name__, (kind,), {name: _distributed(name) for name in own})


def _distributed(name: str) -> property:
    """Return a property that is the parameter of this name as a distributed tensor."""

    def whole(module: nn.Module) -> DTensor:
        local = module._parameters[name]
        assert local is not None
        layout = layout_of(local)
        assert layout is not None
        return layout.whole(local)

    return property(whole)


def layout_of(parameter: Tensor) -> Layout | None:
    """Return how a plain parameter is part of a whole one; None if it is whole itself, or distributed."""
    return getattr(parameter, "tensor_layout", None)


def clip(parameters: list[nn.Parameter], most: float, mesh: DeviceMesh) -> Tensor:
    """Clip the gradients of a model with plain parts of parameters, and return the norm of the whole gradients.

    ``mesh`` is of the ranks that have the parts. Parameters that all of them have count once.
    """
    layouts = [layout_of(parameter) for parameter in parameters]
    parts = [p.grad for p, of in zip(parameters, layouts, strict=True) if p.grad is not None and of and of.divided]
    same = [p.grad for p, of in zip(parameters, layouts, strict=True) if p.grad is not None and not (of and of.divided)]
    return clip_over(mesh.get_group(), parameters, most, parts, same)


def divided(model: nn.Module) -> tuple[int, int]:
    """Return how many numbers of the parameters tensor parallel has divided, and how many there are in all."""
    found = every = 0
    for parameter in model.parameters():
        if (layout := layout_of(parameter)) is not None:
            numbers, shared = layout.shape.numel(), layout.divided
        elif isinstance(parameter, DTensor):
            numbers, names = parameter.numel(), parameter.device_mesh.mesh_dim_names or ()
            placement = parameter.placements[names.index(TENSOR)] if TENSOR in names else Replicate()
            shared = placement.is_shard()
        else:
            numbers, shared = parameter.numel(), False
        found, every = found + numbers * shared, every + numbers
    return found, every
