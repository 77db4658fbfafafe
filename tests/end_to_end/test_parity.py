"""Same training however it is done: losses and gradients equal those of `single` in fp32 for the same global batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from same_training import TOLERANCE, Seen, assert_gradients, assert_same, case_of, gradients, read
from torch.utils.data import default_collate
from trainings import Trainings, cases_of

from bench.plan.case import Case
from bench.rank.loader import GlobalBatches
from launch.server_launcher import ServerLauncher
from workloads.base import load

STEPS = 4
REFERENCE = case_of("single")


@pytest.fixture(scope="module")
def trainings(
    request: pytest.FixtureRequest, launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory
) -> Trainings:
    """The trainings of all cases that are parameters of the selected tests of this module."""
    cases = [REFERENCE, *cases_of(request)]
    return Trainings(launcher, tmp_path_factory.mktemp("parity"), "train", "seen.npz", cases, STEPS)


@pytest.fixture
def seen(trainings: Trainings, case: Case) -> Seen:
    """What the optimizer saw of the case that is the test's parameter; see ``rank_entries.py``."""
    return read(trainings, case)


@pytest.fixture
def reference(trainings: Trainings) -> Seen:
    return read(trainings, REFERENCE)


CHECKPOINTING = ("none", "full", "selective", "every=2")
# Each precision once, each checkpointing once; the rest of the product takes minutes.
POINTS = [
    pytest.param(
        case_of(strategy, precision=precision, activation_checkpointing=checkpointing),
        precision,
        id=f"{strategy}-{precision}-{checkpointing}",
        marks=[pytest.mark.slow] if precision != "fp32" and checkpointing != "none" else [],
    )
    for strategy, precision, checkpointing in itertools.product(
        ("single", "ddp", "zero1", "fsdp"), TOLERANCE, CHECKPOINTING
    )
]


@pytest.mark.parametrize(("case", "precision"), POINTS)
def test_strategies_precisions_and_checkpointing(seen: Seen, reference: Seen, precision: str) -> None:
    assert_same(seen, reference, TOLERANCE[precision])


FURTHER = [
    pytest.param(case_of(strategy, **axes), id="-".join([strategy, *map(str, axes.values())]))
    for strategy in ("single", "ddp", "fsdp")
    for axes in (
        *({"attention": kernel} for kernel in ("flash", "math")),
        *({"activation_offload": "cpu", "activation_checkpointing": checkpointing} for checkpointing in CHECKPOINTING),
    )
]


@pytest.mark.parametrize("case", FURTHER)
def test_attention_and_offload(seen: Seen, reference: Seen) -> None:
    assert_same(seen, reference, TOLERANCE["fp32"])


FLOAT8 = [
    pytest.param(case_of(strategy, precision=precision, **axes), id="-".join([strategy, precision, *axes.values()]))
    for strategy in ("single", "ddp", "zero1", "fsdp")
    for precision, axes in (
        ("fp8", {}),
        ("fp8-rowwise", {}),
        ("fp8", {"activation_checkpointing": "full"}),
        ("fp8", {"activation_checkpointing": "selective"}),
    )
]


@pytest.mark.parametrize("case", FLOAT8)
def test_float8_as_the_cpu_rounds_it(seen: Seen, reference: Seen) -> None:
    """The CPU multiplies float8 in another type. A number of 3 bits is off by up to 2^-4, one of bfloat16 by 2^-9."""
    np.testing.assert_allclose(seen["losses"], reference["losses"], rtol=5e-4)
    np.testing.assert_allclose(seen["norms"], reference["norms"], rtol=1e-2)
    wanted = gradients(reference)
    off = sum(np.square(one - wanted[name]).sum() for name, one in gradients(seen).items())
    assert 2**-7 < np.sqrt(off / sum(np.square(one).sum() for one in wanted.values())) < 2**-4


LIKE = {
    "ddp:bucket-mb=1": "fp32",
    "ddp:bucket-view=on": "fp32",
    "ddp:find-unused=on": "fp32",
    "ddp:hook=bf16": "amp-bf16",
    "ddp:hook=fp16": "amp-fp16",
    "zero1": "fp32",
    "zero1:bucket-view=on": "fp32",
    "fsdp:reshard=off": "fp32",
    "fsdp:reduce=bf16": "amp-bf16",
    "single": "fp32",
    "ddp": "fp32",
    "fsdp": "fp32",
}  # which precision a strategy rounds as


@pytest.mark.parametrize(
    ("case", "like"),
    [
        pytest.param(case_of(strategy, grad_accum_steps=accumulation), like, id=f"{strategy}-{accumulation}")
        for accumulation, (strategy, like) in itertools.product((1, 4), LIKE.items())
    ],
)
def test_options_of_strategies_and_accumulation(seen: Seen, reference: Seen, like: str) -> None:
    assert_same(seen, reference, TOLERANCE[like])


@pytest.mark.parametrize("case", [case_of("ddp:static-graph=on")])
def test_static_graph(seen: Seen, reference: Seen) -> None:
    assert_same(seen, reference, TOLERANCE["fp32"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        case_of(strategy, gpus=4, grad_accum_steps=accumulation, activation_checkpointing=checkpointing)
        for strategy, accumulation, checkpointing in itertools.product(
            ("ddp", "zero1", "fsdp", "fsdp:replicate=2", "fsdp:reshard=2"), (1, 2), ("none", "full")
        )
    ],
    ids=lambda case: case.case_id,
)
def test_four_ranks(seen: Seen, reference: Seen) -> None:
    assert_same(seen, reference, TOLERANCE["fp32"])


IMAGES = "mnist-cnn"


@pytest.mark.parametrize("plain", [case_of("single", workload=IMAGES)], ids=["plain"])
@pytest.mark.parametrize(
    "case",
    [case_of(strategy, workload=IMAGES, channels_last=True) for strategy in ("single", "ddp", "zero1", "fsdp")],
    ids=lambda case: case.strategy,
)
def test_images_in_channels_last(trainings: Trainings, seen: Seen, plain: Case) -> None:
    assert_same(seen, read(trainings, plain), TOLERANCE["fp32"])


@pytest.mark.parametrize(
    ("plain", "case"),
    [
        pytest.param(
            case_of("single", workload=workload),
            case_of(strategy, workload=workload, grad_accum_steps=2),
            id=f"{workload}-{strategy}",
        )
        for workload, strategy in itertools.product(
            ("llama:layers=2:width=32:hidden=48:seq=16", "bert:layers=2:width=24:seq=16", "dlrm"), ("ddp", "fsdp")
        )
    ],
)
def test_other_models(trainings: Trainings, seen: Seen, plain: Case) -> None:
    assert_same(seen, read(trainings, plain), (1e-5, 2e-5))


NORM = 0.2


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        pytest.param(
            case_of(strategy, precision=precision, max_grad_norm=NORM, grad_accum_steps=2),
            precision,
            id=f"{strategy}-{precision}",
        )
        for strategy, precision in itertools.product(("single", "ddp", "zero1", "fsdp"), ("fp32", "amp-fp16"))
    ],
)
def test_clipping_bounds_the_norm_of_all_gradients(seen: Seen, reference: Seen, precision: str) -> None:
    """However gradients are sharded and scaled: the optimizer sees the reference's, shrunk to the norm."""
    norm = float(np.sqrt(sum(np.square(gradient).sum() for gradient in gradients(reference).values())))
    assert norm > 5 * NORM
    shrunk = {name: gradient * (NORM / norm) for name, gradient in gradients(reference).items()}
    _, of_gradients = TOLERANCE[precision]
    assert_gradients(gradients(seen), shrunk, of_gradients)


COMPILED = [
    pytest.param(
        case_of(strategy, compile=mode, activation_checkpointing=checkpointing),
        id=f"{strategy}-{mode}-{checkpointing}",
        marks=[pytest.mark.slow] if (strategy, mode, checkpointing) != ("fsdp", "default", "none") else [],
    )
    for strategy, mode, checkpointing in itertools.product(
        ("single", "ddp", "fsdp"), ("default", "max-autotune"), ("none", "full", "selective")
    )
]


# Each layer by itself where the whole model is compiled otherwise, and the other way round.
SCOPES = [
    pytest.param(
        case_of(strategy, compile="default", compile_scope=scope, activation_checkpointing=checkpointing),
        id=f"{strategy}-{scope}-{checkpointing}",
        marks=pytest.mark.slow,
    )
    for (strategy, scope), checkpointing in itertools.product(
        (("single", "block"), ("ddp", "block"), ("fsdp", "model")), ("none", "full", "selective")
    )
]
COMPILED_WITH = [
    pytest.param(
        case_of(strategy, compile="default", **axes),
        id="-".join([strategy, *map(str, axes.values())]),
        marks=pytest.mark.slow,
    )
    for strategy, axes in itertools.product(
        ("single", "fsdp"),
        (
            {"attention": "math"},
            {"activation_offload": "cpu"},
            {"activation_offload": "cpu", "compile_scope": "block", "activation_checkpointing": "full"},
        ),
    )
]


@pytest.mark.parametrize("case", [*COMPILED, *SCOPES, *COMPILED_WITH])
def test_compiled_code_trains_the_same(seen: Seen, reference: Seen) -> None:
    assert_same(seen, reference, TOLERANCE["fp32"])


@pytest.mark.parametrize(
    ("case", "optimizer"),
    [
        pytest.param(case_of(strategy, optimizer=optimizer), optimizer, id=f"{strategy}-{optimizer}")
        for strategy, optimizer in itertools.product(("single", "zero1", "fsdp"), ("sgd", "adamw"))
    ],
)
def test_the_first_step_is_the_optimizers(seen: Seen, optimizer: str) -> None:
    """By hand, where momentum and moments are still those of one gradient."""
    for name, gradient in gradients(seen).items():
        before, gradient = seen[f"{name} before"].astype(np.float64), gradient.astype(np.float64)
        if optimizer == "sgd":  # lr 0.01, weight decay 1e-4
            expected = before - 0.01 * (gradient + 1e-4 * before)
        else:  # lr 1e-4, decoupled weight decay 0.1, epsilon 1e-8; corrected moments are g and g²
            expected = before * (1 - 1e-4 * 0.1) - 1e-4 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(seen[f"{name} after"], expected, atol=3e-7, err_msg=name)
        assert np.abs(seen[f"{name} after"] - before).max() > 3e-6, name


def test_the_reference_is_a_plain_loop_of_pytorch(reference: Seen) -> None:
    torch.manual_seed(REFERENCE.seed)
    workload = load(REFERENCE.spec.target, REFERENCE.spec.options)
    model, data = workload.build().train(), workload.samples("synthetic")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for indices in itertools.islice(GlobalBatches(len(data), REFERENCE, 0), STEPS):
        optimizer.zero_grad()
        loss = workload.loss(model, default_collate([data[i] for i in indices]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(reference["losses"], losses, rtol=1e-5)


@pytest.mark.parametrize("case", [case_of("single", seed=1)], ids=["another seed"])
def test_the_reference_learns_and_another_seed_differs(seen: Seen, reference: Seen) -> None:
    """Else the comparisons above could hold for constants."""
    assert len(set(reference["losses"])) == STEPS
    assert not np.allclose(seen["losses"], reference["losses"], rtol=1e-4)
