"""Makes a workload's model what its case asks for: built, checkpointed, compiled and distributed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from bench.plan.case import Case
from bench.plan.options import FLOAT8
from bench.plan.strategies import REPLICATED
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.compiling import compile_parts
from bench.rank.float8 import to_float8
from bench.rank.initialization import built, fill
from bench.rank.mesh import of_data, of_tensor
from bench.rank.model_calls import expose, lead_through_call
from bench.rank.pipeline import Pipeline, adapted, cut
from bench.rank.tensor_parallel import make_local, split
from workloads.checks import Checked


class Parallelized(NamedTuple):
    """A model that its case has made, and the pipeline that it is part of, if there is one.

    ``forward_is_local`` is whether its forward pass waits for no other rank; None without other ranks.
    """

    model: nn.Module
    forward_is_local: bool | None
    pipeline: Pipeline | None = None


@dataclass(frozen=True)
class Way:
    """How each model of a case is distributed. ``autocast`` is the type that a strategy leaves to autocast."""

    workload: Checked
    case: Case
    strategy: Any
    device: torch.device
    mesh: DeviceMesh | None
    compile_cache: str
    autocast: torch.dtype | None = None
    checkpointing: str | None = None  # in place of the case's

    @property
    def _rows(self) -> int:
        """The number of tokens in a micro-batch of this rank; of its samples, where the workload has no tokens."""
        of_sample = int(getattr(self.workload, "tokens", 1)) if self.workload.unit == "tokens" else 1
        return of_sample * (self.case.rank_batch or 1)

    def parallelized(
        self, model: nn.Module, layers: Sequence[nn.Module], methods: Sequence[str]
    ) -> tuple[nn.Module, bool | None]:
        """Return one model as the case asks for."""
        case, strategy = self.case, self.strategy
        if case.precision == "bf16":
            model.to(torch.bfloat16)
        # fully_shard does not take NHWC parameters; activations are NHWC
        if case.channels_last and case.spread.name != "fsdp":
            model.to(memory_format=torch.channels_last)
        lead_through_call(model, methods)
        if case.precision in FLOAT8:
            to_float8(model, layers, str(case.precision), self.device, self._rows)
        if (tensor := of_tensor(self.mesh)) is not None:
            split(model, self.workload, tensor, self.device, case.spread.options["loss-parallel"] == "on")
            if case.spread.name in REPLICATED:
                make_local(model)
        checkpoint_layers(layers, self.checkpointing or str(case.activation_checkpointing))
        if case.compile != "off":
            parts = [*layers] if case.compile_scope == "block" and layers else [model]
            compile_parts(parts, str(case.compile), self.compile_cache)
        forward_is_local = strategy.forward_is_local(model) if case.model_ranks == 1 else False
        outermost = strategy.apply(model, layers, of_data(self.mesh, case), case, self.device)
        expose(outermost, model, methods)
        return outermost, forward_is_local


def parallelize(way: Way, methods: Mapping[str, Sequence[str]] | None = None) -> Parallelized:
    """Build, split, checkpoint, compile and distribute the model, in this order: each wraps what came before.

    Several models become one module with their names, each distributed by itself. ``methods`` has for each model, or
    for "", the names of the methods that the loss calls.
    """
    workload, case = way.workload, way.case
    models, source = built(workload, case.init, way.device)
    if case.pipeline_ranks > 1:
        return _pipelined(way, models)
    layers = workload.layers(models)
    if workload.has_checkpointing and case.activation_checkpointing != "none":
        workload.activation_checkpoint(models)
        way = dataclasses.replace(way, checkpointing="none")
    distributed: dict[str, nn.Module] = {}
    local: bool | None = None
    for name, model in (models if isinstance(models, dict) else {"": models}).items():
        inside = {id(part) for part in model.modules()}
        own = [layer for layer in layers if id(layer) in inside]
        distributed[name], local = way.parallelized(model.train(), own, (methods or {}).get(name, ()))
    model = nn.ModuleDict(distributed) if isinstance(models, dict) else distributed[""]
    if case.init == "meta":
        fill(model, source, way.device, host=case.spread.options.get("offload") == "cpu")
    return Parallelized(model, local)


def _pipelined(way: Way, model: nn.Module) -> Parallelized:
    """Return the stages of this rank, each distributed over the ranks that have the same ones.

    Several become one module, in which each is named by its number.
    """
    workload, case, device, mesh = way.workload, way.case, way.device, way.mesh
    assert mesh is not None
    own, shared = cut(workload, model, case, mesh)
    stages: dict[int, nn.Module] = {}
    for number, stage in own.items():
        part = adapted(stage.train(), device, way.autocast)
        stages[number], _ = way.parallelized(part, workload.layers(part), ())
    pipeline = Pipeline(case, workload, stages, shared, mesh, device, way.autocast)
    several = {str(number): stage for number, stage in stages.items()}
    return Parallelized(nn.ModuleDict(several) if len(several) > 1 else stages[next(iter(own))], False, pipeline)
