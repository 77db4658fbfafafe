"""Same training however it is done: losses and gradients equal those of `single` in fp32 for the same global batch."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.machine.gpus import Machine
from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.options import AXES
from bench.plan.plan import make_case
from launch import Request
from launch.server_launcher import ServerLauncher

GLOBAL_BATCH, STEPS = 8, 4
# Of losses relative, of gradients relative to the largest. A rounding to bfloat16 is off by up to 2^-9 = 0.2 %, to
# float16 by 2^-12 = 0.02 %; with bfloat16 parameters the update is rounded as well.
TOLERANCE = {"fp32": (1e-5, 1e-5), "amp-bf16": (2e-3, 3e-2), "amp-fp16": (3e-4, 4e-3), "bf16": (5e-3, 3e-2)}

Seen = dict[str, NDArray[np.float64]]


def train(launcher: ServerLauncher, folder: Path, steps: int = STEPS, **axes: object) -> Seen:
    """Losses and first gradients of a few steps of a small GPT on synthetic data."""
    values = {name: option.default for name, option in AXES.items()} | {
        "workload": "gpt:layers=2:width=32:seq=16:heads=2",
        "gpus": 2,
        "device": "cpu",
        "data": "synthetic",
        "num_workers": 0,
    }
    case: Case = make_case({**values, **axes}, Machine())
    case = dataclasses.replace(case, batch_size=GLOBAL_BATCH // (case.world_size * case.grad_accum_steps))
    assert case.global_batch == GLOBAL_BATCH
    folder = folder / case.case_id
    folder.mkdir()
    spec = Spec(case, case.spec.target, case.spec.options, case.data, 0, steps, 0, 60, str(folder), str(folder))
    files = {"out": str(folder / "out.npz"), "parameters": str(folder / "parameters.npz")}
    argument = json.dumps({"spec": str(spec.write()), **files})
    request = Request("rank_entries:train", argument, case.world_size, 240, folder, {"OMP_NUM_THREADS": "1"})
    outcome = launcher.launch(request)
    assert outcome.ok, outcome
    return dict(np.load(folder / "out.npz"))


@pytest.fixture(scope="module")
def reference(launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return train(launcher, tmp_path_factory.mktemp("reference"), strategy="single")


def assert_same(seen: Seen, reference: Seen, tolerance: tuple[float, float]) -> None:
    of_losses, of_gradients = tolerance
    assert seen.keys() == reference.keys()
    np.testing.assert_allclose(seen["losses"], reference["losses"], rtol=of_losses)
    for name in reference.keys() - {"losses"}:
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(seen[name], reference[name], atol=of_gradients * scale, err_msg=name)


CHECKPOINTING = ("none", "full", "selective", "every=2")
# Each precision once, each checkpointing once; the rest of the product takes minutes.
POINTS = [
    pytest.param(*point, marks=[pytest.mark.slow] if point[1] != "fp32" and point[2] != "none" else [])
    for point in itertools.product(("single", "ddp", "fsdp"), TOLERANCE, CHECKPOINTING)
]


@pytest.mark.parametrize(("strategy", "precision", "checkpointing"), POINTS)
def test_strategies_precisions_and_checkpointing(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, precision: str, checkpointing: str
) -> None:
    seen = train(
        launcher, tmp_path, strategy=strategy, precision=precision, activation_checkpointing=checkpointing, gpus=2
    )
    assert_same(seen, reference, TOLERANCE[precision])


@pytest.mark.parametrize("accumulation", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize(
    ("strategy", "like"),
    [
        ("ddp:bucket-mb=1", "fp32"),
        ("ddp:bucket-view=on", "fp32"),
        ("ddp:hook=bf16", "amp-bf16"),
        ("ddp:hook=fp16", "amp-fp16"),
        ("fsdp:reshard=off", "fp32"),
        ("fsdp:reduce=bf16", "amp-bf16"),
        ("single", "fp32"),
        ("ddp", "fp32"),
        ("fsdp", "fp32"),
    ],
)
def test_options_of_strategies_and_accumulation(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, like: str, accumulation: int
) -> None:
    seen = train(launcher, tmp_path, strategy=strategy, grad_accum_steps=accumulation, gpus=2)
    assert_same(seen, reference, TOLERANCE[like])


def test_static_graph(launcher: ServerLauncher, reference: Seen, tmp_path: Path) -> None:
    assert_same(train(launcher, tmp_path, strategy="ddp:static-graph=on"), reference, TOLERANCE["fp32"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "accumulation", "checkpointing"),
    [*itertools.product(("ddp", "fsdp", "fsdp:replicate=2", "fsdp:reshard=2"), (1, 2), ("none", "full"))],
)
def test_four_ranks(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, accumulation: int, checkpointing: str
) -> None:
    seen = train(
        launcher,
        tmp_path,
        strategy=strategy,
        gpus=4,
        grad_accum_steps=accumulation,
        activation_checkpointing=checkpointing,
    )
    assert_same(seen, reference, TOLERANCE["fp32"])


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_images_in_channels_last(launcher: ServerLauncher, tmp_path: Path, strategy: str) -> None:
    plain = train(launcher, tmp_path, workload="mnist-cnn", strategy="single")
    seen = train(launcher, tmp_path, workload="mnist-cnn", strategy=strategy, channels_last=True)
    assert_same(seen, plain, TOLERANCE["fp32"])


@pytest.mark.parametrize(
    "workload", ["llama:layers=2:width=32:hidden=48:seq=16", "bert:layers=2:width=24:seq=16", "dlrm"]
)
def test_other_models(launcher: ServerLauncher, tmp_path: Path, workload: str) -> None:
    plain = train(launcher, tmp_path, workload=workload, strategy="single")
    for strategy in ("ddp", "fsdp"):
        seen = train(launcher, tmp_path, workload=workload, strategy=strategy, grad_accum_steps=2)
        assert_same(seen, plain, (1e-5, 2e-5))


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16"])
@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_clipping_bounds_the_norm_of_all_gradients(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, precision: str
) -> None:
    """However gradients are sharded and scaled: the optimizer sees the reference's, shrunk to the norm."""
    norm = np.sqrt(sum(np.square(reference[name]).sum() for name in reference.keys() - {"losses"}))
    limit = 0.1 * float(norm)
    seen = train(
        launcher, tmp_path, strategy=strategy, precision=precision, max_grad_norm=limit, grad_accum_steps=2, gpus=2
    )
    shrunk = {name: reference[name] * 0.1 for name in reference.keys() - {"losses"}}
    _, of_gradients = TOLERANCE[precision]
    for name, gradient in shrunk.items():
        np.testing.assert_allclose(seen[name], gradient, atol=of_gradients * np.abs(gradient).max(), err_msg=name)


COMPILED = [
    pytest.param(*point, marks=[pytest.mark.slow] if point != ("fsdp", "default", "none") else [])
    for point in itertools.product(
        ("single", "ddp", "fsdp"), ("default", "max-autotune"), ("none", "full", "selective")
    )
]


@pytest.mark.parametrize(("strategy", "mode", "checkpointing"), COMPILED)
def test_compiled_code_trains_the_same(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, mode: str, checkpointing: str
) -> None:
    seen = train(launcher, tmp_path, strategy=strategy, compile=mode, activation_checkpointing=checkpointing, gpus=2)
    assert_same(seen, reference, TOLERANCE["fp32"])


@pytest.mark.parametrize("strategy", ["single", "fsdp"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_first_step_is_the_optimizers(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path, strategy: str, optimizer: str
) -> None:
    """By hand, where momentum and moments are still those of one gradient."""
    gradients = train(launcher, tmp_path, strategy=strategy, optimizer=optimizer, gpus=2, steps=1)
    (file,) = tmp_path.glob("*/parameters.npz")
    parameters = np.load(file)
    for name in reference.keys() - {"losses"}:
        before, gradient = parameters[f"{name} before"].astype(np.float64), gradients[name].astype(np.float64)
        if optimizer == "sgd":  # lr 0.01, weight decay 1e-4
            expected = before - 0.01 * (gradient + 1e-4 * before)
        else:  # lr 1e-4, decoupled weight decay 0.1, epsilon 1e-8; corrected moments are g and g²
            expected = before * (1 - 1e-4 * 0.1) - 1e-4 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(parameters[name], expected, atol=3e-7, err_msg=name)
        assert np.abs(parameters[name] - before).max() > 3e-6, name


def test_the_reference_learns_and_another_seed_differs(
    launcher: ServerLauncher, reference: Seen, tmp_path: Path
) -> None:
    """Else the comparisons above could hold for constants."""
    other = train(launcher, tmp_path, strategy="single", seed=1)
    assert len(set(reference["losses"])) == STEPS
    assert not np.allclose(other["losses"], reference["losses"], rtol=1e-4)
