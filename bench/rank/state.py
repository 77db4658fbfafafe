"""The state of a rank after its window: threads, settings, parameters and data.

Nothing here communicates with other ranks: checksums are compared where the records of all ranks are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from bench.messages.rank_record import State
from bench.rank.build import Training
from bench.rank.checksum import checksum
from bench.rank.distributed_tensors import local_of
from bench.rank.mesh import of_tensor
from bench.rank.settings import settings, threads
from bench.rank.tensor_parallel import divided


def state_of(training: Training) -> State:
    """Return the state of this rank."""
    resident = training.batches.resident
    number, dynamic = threads()
    found = settings()
    parameters = dict(_parameters(training.model))
    return State(
        num_threads=number,
        dynamic_threads=dynamic,
        settings={name: [was, found[name]] for name, was in training.pinned.items() if found[name] != was},
        forwards=getattr(training.model, "exchanges", None),
        checksums={name: value for name, tensor in parameters.items() if (value := _checksum(tensor)) is not None},
        shard=_shard(training.mesh),
        split=[] if of_tensor(training.mesh) is None else list(divided(training.model)),
        types=_types(parameters),
        batch=resident.condition() if resident else "as made",
    )


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all parameters except those that DistributedDataParallel was told to ignore."""
    ignored: set[str] = getattr(model, "parameters_to_ignore", set())
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("module.")
        if plain not in ignored:
            yield plain, parameter


def _checksum(parameter: Tensor) -> int | None:
    """Return None for a tensor of a special kind, which has no bits to read."""
    try:
        return checksum(local_of(parameter))
    except Exception:
        return None


def _shard(mesh: DeviceMesh | None) -> int:
    """Return the position of this rank among those with different parts of the parameters; 0 if each has all."""
    position = 0
    if mesh is not None:
        for name, size, at in zip(mesh.mesh_dim_names or (), mesh.shape, mesh.get_coordinate() or (), strict=True):
            position = position if name == "replicate" else position * size + at
    return position


def _types(parameters: Mapping[str, Tensor]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for tensor in parameters.values():
        if tensor.is_floating_point() or tensor.is_complex():
            found[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return dict(found)
