"""Which cases cannot run, and why: one table. A case that breaks a rule is a row with a reason, never a missing row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.case import Case
from bench.devices import Machine
from bench.messages import Description


@dataclass(frozen=True)
class Facts:
    """What a rule may look at beside the case. ``samples`` are those of the data; None where it is not known yet."""

    machine: Machine
    samples: int | None = None
    description: Description | None = None


@dataclass(frozen=True)
class Rule:
    """``broken`` says whether a case breaks the rule; ``reason`` why that cannot run, for a person to act on."""

    broken: Callable[[Case, Facts], bool]
    reason: Callable[[Case, Facts], str]


def _kinds(case: Case, facts: Facts) -> tuple[str, ...]:
    if facts.description:
        return facts.description.data
    return case.spec.entry.data if case.spec.entry else ()


RULES = (
    Rule(
        lambda case, facts: bool(_kinds(case, facts)) and case.data_kind not in _kinds(case, facts),
        lambda case, facts: f"{case.workload} cannot read {case.data_kind}; it takes {', '.join(_kinds(case, facts))}",
    ),
    Rule(
        lambda case, facts: (
            facts.samples is not None and case.global_batch is not None and facts.samples < case.global_batch
        ),
        lambda case, facts: (
            f"{facts.samples} samples do not fill one global batch of {case.global_batch}; "
            "give a smaller --batch-size, fewer --gpus or more data"
        ),
    ),
    Rule(
        lambda case, facts: (
            case.device == "cuda"
            and case.precision == "amp-bf16"
            and any(gpu.capability < (8, 0) for gpu in facts.machine.gpus)
        ),
        lambda case, facts: "bfloat16 needs compute capability 8.0 (Ampere) or newer",
    ),
    Rule(
        lambda case, facts: case.oversubscribe and case.strategy == "fsdp",
        lambda case, facts: (
            "ranks that share a GPU talk over Gloo, for which PyTorch documents no all-gather or reduce-scatter "
            "of CUDA tensors; use ddp"
        ),
    ),
    Rule(
        lambda case, facts: (
            case.activation_checkpointing != "none" and facts.description is not None and not facts.description.layers
        ),
        lambda case, facts: f"{case.workload} names no layers to checkpoint: its layers() is empty",
    ),
)


def refusal(case: Case, facts: Facts) -> str | None:
    """The reason why this case cannot run, of the first rule that it breaks; None if it can."""
    return next((rule.reason(case, facts) for rule in RULES if rule.broken(case, facts)), None)
