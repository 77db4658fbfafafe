"""Scripts of frameworks with loops of their own, each with its real package, which is no dependency of this project."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from measured_scripts import STEPS, Scripts

pytestmark = pytest.mark.slow

# Script -> the package that it needs, the samples of a step on each rank, and what ends a step.
FRAMEWORKS = {
    "hf_trainer": ("transformers", 16, "AdamW"),
    "with_accelerate": ("accelerate", 32, "AdamW"),
    "with_lightning": ("lightning", 16, "AdamW"),
    "titan": ("torchdata", 8, "OptimizersContainer"),
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_loop_of_a_framework(launching: None, tmp_path: Path, name: str, ranks: int) -> None:
    package, samples, step = FRAMEWORKS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install {package}")
    row = Scripts(tmp_path, [name], "--gpus", str(ranks)).check(name, samples, ranks)
    assert row["script_step"] == step
    assert int(row["apart_steps"]) <= STEPS // 5
    if name != "titan":
        assert row["script_seen"] == ("ddp" if ranks == 2 or row["backend"] else "")


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_structure_of_torchvisions_references(launching: None, tmp_path: Path, ranks: int) -> None:
    row = Scripts(tmp_path, ["references"], "--gpus", str(ranks), "--timeout", "120").check("references", 4, ranks)
    assert (row["script_step"], row["script_seen"]) == ("SGD", "ddp")
    assert "validation" in row["apart_why"]
    assert "save" in row["apart_why"]
