"""docs/flops.md: known architectures, counted by us and independently."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks import flops

ROWS = [line.strip("| ").split(" | ") for line in flops.PAGE.read_text().splitlines() if line.startswith("| ")][1:]
COUNTED = {name: float(counted) for name, _, _, counted, *_ in ROWS}


def test_the_page_has_all_architectures_and_both_counts_agree() -> None:
    named = [*flops.TORCHVISION, *flops.TIMM, *flops.TRANSFORMERS]
    assert [row[0] for row in ROWS] == named
    assert len(named) >= 30
    for name, _, _, counted, independently, how in ROWS:
        assert counted == independently, name
        assert re.fullmatch(r"on the meta device|with fake tensors|in one step of one rank", how.rstrip(" |"))


def test_the_page_has_what_was_worked_out_elsewhere() -> None:
    """GFLOP of training on an image: 3 forward passes less the gradient of the image."""
    known = {
        **{"resnext50_32x4d": 25.15, "convnext_tiny": 26.70, "mobilenet_v2": 1.783, "mobilenet_v3_large": 1.289},
        **{"efficientnet_b0": 2.293, "shufflenet_v2_x1_0": 0.853, "resnet50": 24.30},
    }
    assert {name: COUNTED[name] for name in known} == pytest.approx(known, rel=5e-4)


@pytest.mark.parametrize("name", flops.TORCHVISION[:1])
def test_both_counts_are_made_alike_here(name: str) -> None:
    architecture = next(one for one in flops.architectures() if one.name == name)
    said = flops.describe(architecture, "none", "synthetic")
    assert said.flops_per_sample == flops.independently(architecture)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*flops.TORCHVISION[1:], *flops.TIMM, *flops.TRANSFORMERS])
def test_flops_equal_an_independent_count(name: str) -> None:
    if name not in flops.TORCHVISION:
        pytest.importorskip("timm" if name in flops.TIMM else "transformers", reason=f"{name} is one of its models")
    test_both_counts_are_made_alike_here(name)
