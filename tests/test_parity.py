"""Same training under every strategy: losses and gradients equal those of `single` for the same global batch."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.case import Case
from bench.devices import Machine
from bench.messages import Spec
from bench.options import AXES
from bench.suite import make_case
from launch import Request
from launch.server import ServerLauncher

GLOBAL_BATCH, STEPS = 8, 4
# Relative to the largest gradient; bfloat16 has 8 bits of mantissa, so one rounding is 0.4 %.
TOLERANCE = {"fp32": (1e-5, 1e-5), "amp-bf16": (2e-3, 3e-2)}


def train(launcher: ServerLauncher, folder: Path, **axes: object) -> dict[str, NDArray[np.float64]]:
    """Losses and first gradients of a few steps of a small GPT on synthetic data."""
    values = {name: option.default for name, option in AXES.items()} | {
        "workload": "gpt:layers=2:width=32:seq=16:heads=2",
        "device": "cpu",
        "data": "synthetic",
        "num_workers": 0,
    }
    case: Case = make_case({**values, **axes}, Machine())
    case = dataclasses.replace(case, batch_size=GLOBAL_BATCH // case.world_size)
    folder = folder / case.case_id
    folder.mkdir()
    spec = Spec(case, case.spec.target, case.spec.options, case.data, 0, STEPS, 0, 60, str(folder), str(folder))
    argument = json.dumps({"spec": str(spec.write()), "steps": STEPS, "out": str(folder / "out.npz")})
    request = Request("entries:train", argument, case.world_size, 120, folder, {"OMP_NUM_THREADS": "1"})
    outcome = launcher.launch(request)
    assert outcome.ok, outcome
    return dict(np.load(folder / "out.npz"))


@pytest.fixture(scope="module")
def reference(launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float64]]:
    return train(launcher, tmp_path_factory.mktemp("reference"), strategy="single")


POINTS = [
    pytest.param(strategy, gpus, precision, checkpointing, marks=[pytest.mark.slow] if gpus == 4 else [])
    for strategy, gpus, precision, checkpointing in itertools.product(
        ("ddp", "fsdp"), (2, 4), ("fp32", "amp-bf16"), ("none", "full")
    )
]


@pytest.mark.parametrize(("strategy", "gpus", "precision", "checkpointing"), POINTS)
def test_losses_and_gradients_equal_those_of_single(
    launcher: ServerLauncher,
    reference: dict[str, NDArray[np.float64]],
    tmp_path: Path,
    strategy: str,
    gpus: int,
    precision: str,
    checkpointing: str,
) -> None:
    seen = train(
        launcher,
        tmp_path,
        strategy=strategy,
        gpus=gpus,
        precision=precision,
        activation_checkpointing=checkpointing,
    )
    loss_tolerance, gradient_tolerance = TOLERANCE[precision]
    assert seen.keys() == reference.keys()
    np.testing.assert_allclose(seen["losses"], reference["losses"], rtol=loss_tolerance)
    for name in reference.keys() - {"losses"}:
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(seen[name], reference[name], atol=gradient_tolerance * scale, err_msg=name)


def test_the_reference_learns_and_another_seed_differs(
    launcher: ServerLauncher, reference: dict[str, NDArray[np.float64]], tmp_path: Path
) -> None:
    """Else the comparisons above could hold for constants."""
    other = train(launcher, tmp_path, strategy="single", seed=1)
    assert len(set(reference["losses"])) == STEPS
    assert not np.allclose(other["losses"], reference["losses"], rtol=1e-4)
