"""The mesh of ranks of a case: its dimensions with names, outermost first, as ``Case.mesh`` has them."""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from bench.plan.case import Case
from bench.plan.strategies import ONE_PROCESS, REPLICATED

TENSOR = "tensor"  # Ranks that share layers. They are neighbours, as they communicate most.
PIPELINE = "pipeline"  # Ranks with different layers. They are the farthest from each other, as they communicate least.


def mesh_of(case: Case, device: torch.device) -> DeviceMesh | None:
    """Return the mesh of all ranks; None with one process."""
    if case.spread.name in ONE_PROCESS:
        return None
    outer, inner = (PIPELINE,) if case.pipeline_ranks > 1 else (), (TENSOR,) if case.tensor_ranks > 1 else ()
    names = (*outer, *data_dimensions(case), *inner)
    return init_device_mesh(device.type, tuple(case.mesh[name] for name in names), mesh_dim_names=names)


def data_dimensions(case: Case) -> tuple[str, ...]:
    """Return the dimensions whose ranks train different samples: of replicas, of shards, or of both."""
    if case.spread.name in REPLICATED:
        return ("replicate",)
    return ("replicate", "shard") if case.mesh["replicate"] > 1 else ("shard",)


def of_data(mesh: DeviceMesh | None, case: Case) -> DeviceMesh | None:
    """Return the part of a mesh in which this rank's model is replicated or sharded."""
    return mesh[data_dimensions(case)] if mesh is not None and case.model_ranks > 1 else mesh


def of_tensor(mesh: DeviceMesh | None) -> DeviceMesh | None:
    """Return the part of a mesh whose ranks share layers; None without tensor parallel."""
    return mesh[TENSOR] if mesh is not None and TENSOR in (mesh.mesh_dim_names or ()) else None
