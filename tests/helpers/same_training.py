"""When two trainings are the same: their losses, the norms of their gradients, and the first gradients themselves."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from trainings import Trainings

from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.make_case import make_case
from bench.plan.options import AXES

GLOBAL_BATCH = 8
# Of losses relative, of gradients relative to the largest. A rounding to bfloat16 is off by up to 2^-9 = 0.2 %, to
# float16 by 2^-12 = 0.02 %; with bfloat16 parameters the update is rounded as well.
TOLERANCE = {"fp32": (1e-5, 1e-5), "amp-bf16": (2e-3, 3e-2), "amp-fp16": (3e-4, 4e-3), "bf16": (5e-3, 3e-2)}

Seen = dict[str, NDArray[np.float64]]


def case_of(strategy: str, **axes: object) -> Case:
    """Return a case of a small GPT on synthetic data, with the global batch that all have."""
    values = {name: option.default for name, option in AXES.items()} | {
        "workload": "gpt:layers=2:width=32:seq=16:heads=2",
        "gpus": 2,
        "device": "cpu",
        "data": "synthetic",
        "num_workers": 0,
    }
    case = make_case({**values, "strategy": strategy, **axes}, Machine())
    case = dataclasses.replace(case, batch_size=GLOBAL_BATCH // (case.data_ranks * case.grad_accum_steps))
    assert case.global_batch == GLOBAL_BATCH
    return case


OF_BOTH = ("optimizer", "max_grad_norm")  # What `single` is to have as well.
SGD: dict[str, object] = {"optimizer": "sgd"}  # Adam hides gradients of a wrong scale.


def pairs(
    models: Mapping[str, str],
    strategies: Iterable[str],
    names: Iterable[str],
    *axes: dict[str, object],
    gpus: int = 2,
    fast: bool = False,
) -> list[object]:
    """Return (alone, case) of each strategy, name of a model and set of axes; a product is slow unless ``fast``."""
    return [
        pytest.param(
            case_of("single", workload=models[name], **{axis: some[axis] for axis in OF_BOTH if axis in some}),
            case_of(strategy, workload=models[name], gpus=gpus, **some),
            id="-".join([strategy, name, *map(str, some.values())]),
            marks=[] if fast else [pytest.mark.slow],
        )
        for strategy, name, some in itertools.product(strategies, names, axes)
    ]


def assert_trained_the_same(trainings: Trainings, alone: Case, case: Case, steps: int) -> None:
    """Compare losses and norms of gradients over ``steps`` steps, and the first gradients."""
    found = read(trainings, case)
    assert len(found["losses"]) == len(found["norms"]) == steps
    of_losses, of_gradients = TOLERANCE[str(case.precision)]
    assert_same(found, read(trainings, alone), (of_losses, max(of_gradients, 2e-5)))


def read(trainings: Trainings, case: Case) -> Seen:
    return dict(np.load(trainings[case]))


def gradients(seen: Seen) -> Seen:
    """Return the gradients of the first step by parameter."""
    return {name: value for name, value in seen.items() if name not in ("losses", "norms") and " " not in name}


def assert_same(seen: Seen, reference: Seen, tolerance: tuple[float, float]) -> None:
    of_losses, of_gradients = tolerance
    assert seen.keys() == reference.keys()
    np.testing.assert_allclose(seen["losses"], reference["losses"], rtol=of_losses)
    np.testing.assert_allclose(seen["norms"], reference["norms"], rtol=of_gradients)
    assert_gradients(gradients(seen), gradients(reference), of_gradients)


def assert_gradients(found: Seen, expected: Seen, tolerance: float) -> None:
    assert found.keys() == expected.keys() != set()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=tolerance * np.abs(gradient).max(), err_msg=name)
