"""The state of a training: its parameters, buffers and optimizer state, as PyTorch's distributed checkpoints have it.

Ranks that have different parts of one model as plain tensors, as under ``ddp:tp`` and ``pp``, name them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.optim import ZeroRedundancyOptimizer

from bench.plan.strategies import REPLICATED
from bench.rank.build import Training
from bench.rank.checksum import checksum
from bench.rank.distributed_tensors import local_of
from bench.rank.mesh import PIPELINE, TENSOR
from bench.rank.optimizers import state_of

MODEL, OPTIMIZER = "model", "optimizer"


class TrainingState:
    """The state of this rank.

    ``part`` names the part of the model that it has; ``leads`` is whether it is the first rank that has it.
    """

    def __init__(self, training: Training) -> None:
        """Take the state of a training as it is at each call."""
        self._training = training
        self._optimizers: list[torch.optim.Optimizer] = list(training.optimizers.optimizers)
        place = _place(training)
        plain = (PIPELINE, TENSOR) if training.case.spread.name in REPLICATED else (PIPELINE,)
        apart = [name for name in plain if name in place]
        self.part = "-".join(f"{name}{place[name]}" for name in apart) or "all"
        self.leads = not any(at for name, at in place.items() if name not in apart)

    @property
    def on_accelerator(self) -> bool:
        """Whether it is on an accelerator."""
        return self._training.case.on_accelerator

    @property
    def sharded_optimizers(self) -> list[ZeroRedundancyOptimizer]:
        """Optimizers whose state only they can gather."""
        return [one for one in self._optimizers if isinstance(one, ZeroRedundancyOptimizer)]

    def parts(self) -> dict[str, Any]:
        """Return this rank's state, its tensors distributed as they are, without copies."""
        model, optimizer = get_state_dict(self._training.model, self._optimizers)
        return {MODEL: model, OPTIMIZER: optimizer}

    def put(self, state: Mapping[str, Any], whole: bool = False) -> None:
        """Load a state of ``parts``, or the ``whole`` of each of its tensors."""
        set_state_dict(
            self._training.model,
            self._optimizers,
            model_state_dict=state[MODEL],
            optim_state_dict=state[OPTIMIZER],
            # A parameter that is never used has no state. What is missing otherwise is found by the checksums.
            options=StateDictOptions(full_state_dict=whole, strict=False),
        )

    def gathered_by_optimizers(self) -> dict[str, Any]:
        """Return the model's state and, in rank 0, what the optimizers have gathered there."""
        model = get_model_state_dict(self._training.model)
        for one in self.sharded_optimizers:
            one.consolidate_state_dict(to=0)
        optimizer = [one.state_dict() for one in self._optimizers] if self.leads else []
        return {MODEL: model, OPTIMIZER: optimizer}

    def put_to_optimizers(self, state: Mapping[str, Any]) -> None:
        """Load a state of ``gathered_by_optimizers``."""
        set_model_state_dict(self._training.model, state[MODEL])
        for one, own in zip(self._optimizers, state[OPTIMIZER], strict=True):
            one.load_state_dict(own)

    def checksums(self) -> dict[str, int]:
        """Return a checksum of each tensor that this rank has."""
        return {name: checksum(local_of(tensor)) for name, tensor in self._tensors()}

    def buffers(self) -> list[str]:
        """Return which of ``checksums`` are of buffers, of which each rank has its own."""
        known = self._of_model()
        return [name for one, _ in self._training.model.named_buffers() if (name := f"{MODEL} {one}") in known]

    def spoil(self) -> None:
        """Overwrite all tensors, so that what is not loaded can be told from what is."""
        with torch.no_grad():
            for _, tensor in self._tensors():
                own = local_of(tensor)
                own.fill_(torch.nan if own.is_floating_point() or own.is_complex() else 0)

    def bytes(self) -> int:
        """Return the bytes of the tensors that this rank stands for; the sum over ranks is the whole state."""
        of_model = sum(map(_bytes, self._of_model().values())) if self.leads else 0
        of_optimizers = sum(map(_bytes, self._of_optimizers().values()))
        return of_model + (of_optimizers if self.leads or self.sharded_optimizers else 0)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._of_model().items()
        yield from self._of_optimizers().items()

    def _of_model(self) -> dict[str, Tensor]:
        found = self._training.model.state_dict()
        return {f"{MODEL} {name}": tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}

    def _of_optimizers(self) -> dict[str, Tensor]:
        return {
            f"{OPTIMIZER} {number}: {name} of parameter {at}": value
            for number, optimizer in enumerate(self._optimizers)
            for at, values in enumerate(state_of(optimizer))
            for name, value in values.items()
            if isinstance(value, Tensor)
        }


def _place(training: Training) -> dict[str, int]:
    """Return the position of this rank in each dimension of the mesh; nothing for a rank alone."""
    mesh = training.mesh
    return {} if mesh is None else dict(zip(mesh.mesh_dim_names or (), mesh.get_coordinate() or (), strict=True))


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor, over all ranks that it is distributed over."""
    return tensor.numel() * tensor.element_size()
