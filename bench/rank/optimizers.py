"""The optimizers of a training, with their schedulers: those of ``--optimizer``, or the workload's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.plan.case import Case
from bench.plan.optimizers import parse_optimizer
from workloads.checks import Checked

GPT3_ADAM: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.95)}  # Brown et al. 2020, appendix B
DECAY: dict[str, Any] = {"weight_decay": 0.1}
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "for-loop": {"foreach": False},
}
PERIOD = 10_000  # steps in which a schedule ends


@dataclass
class Optimizers:
    """All optimizers of a model, which are updated one after the other, and schedulers that follow each step."""

    optimizers: Sequence[torch.optim.Optimizer]
    schedulers: Sequence[Any] = field(default_factory=list)

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Divide the gradients by the scale."""
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)

    def step(self, scaler: torch.amp.GradScaler) -> None:
        """Update the parameters, free the gradients and change the learning rates."""
        for optimizer in self.optimizers:
            scaler.step(optimizer)
        scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.next_rates()

    def next_rates(self) -> None:
        """Change the learning rates as the schedules say."""
        for scheduler in self.schedulers:
            scheduler.step()


Make = Callable[..., torch.optim.Optimizer]


def by_class(kind: type[torch.optim.Optimizer], parameters: Sequence[nn.Parameter], **options: Any) -> Any:
    """Return the optimizer as its class makes it."""
    return kind(parameters, **options)


def state_of(optimizer: torch.optim.Optimizer) -> Iterable[dict[str, Any]]:
    """Return what an optimizer keeps of each parameter on this rank, in the order of its groups.

    That of its own dictionary is the order in which parameters were first updated, and another one after loading.
    """
    own = getattr(optimizer, "optim", optimizer)  # ZeroRedundancyOptimizer's state is in its local optimizer
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    places = {id(parameter): place for place, parameter in enumerate(parameters)}
    return [own.state[key] for key in sorted(own.state, key=lambda key: places.get(id(key), len(places)))]


def optimizers_of(workload: Checked, model: nn.Module, case: Case, make: Make = by_class) -> Optimizers:
    """Return the workload's own optimizers if it has any, else those of the case, by ``make`` of the strategy."""
    if workload.has_optimizers:
        pairs = workload.optimizers(model)
        return Optimizers([optimizer for optimizer, _ in pairs], [s for _, s in pairs if s is not None])
    optimizers = _built_in(model, str(case.optimizer), make)
    return Optimizers(optimizers, [s for o in optimizers if (s := _scheduler(o, case.lr_scheduler)) is not None])


def _built_in(model: nn.Module, text: str, make: Make) -> list[torch.optim.Optimizer]:
    name, implementation = parse_optimizer(text)
    how, parameters = IMPLEMENTATIONS[implementation], list(model.parameters())
    if name == "adamw":
        return [make(torch.optim.AdamW, parameters, **how, **GPT3_ADAM, **DECAY)]
    if name == "adam":
        return [make(torch.optim.Adam, parameters, **how, **GPT3_ADAM)]
    if name == "rmsprop":
        return [make(torch.optim.RMSprop, parameters, lr=1e-4, **how)]
    if name == "adafactor":
        return [make(torch.optim.Adafactor, parameters, lr=1e-3, **how)]
    if name == "muon":
        matrices = [parameter for parameter in parameters if parameter.dim() == 2]
        others = [parameter for parameter in parameters if parameter.dim() != 2]
        found = [make(torch.optim.Muon, matrices, lr=1e-3, **DECAY)] if matrices else []
        return found + ([make(torch.optim.AdamW, others, foreach=True, **GPT3_ADAM, **DECAY)] if others else [])
    return [make(torch.optim.SGD, parameters, **how, **SGD)]


def _scheduler(optimizer: torch.optim.Optimizer, name: str | None) -> Any:
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, PERIOD)
    if name == "linear":
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, PERIOD)
    return None
