"""What a step sends and keeps under each strategy, counted, against formulas from the number of parameters."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from command_line import Run

pytestmark = pytest.mark.launch
P = 820_352  # parameters of llama-nano
LLAMA = (
    "--workload",
    "llama-nano",
    "--device",
    "cpu",
    "--launches",
    "1",
    "--steps",
    "3",
    "--batch-size",
    "2",
    "--quiet",
)


@pytest.fixture(scope="module")
def ran(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from command_line import run_bench

    return run_bench(tmp_path_factory.mktemp("traffic"), "run", *LLAMA, "--gpus", "2", "--strategy", "ddp,zero1")


def counted(ran: Run, strategy: str, kind: str) -> dict[str, int]:
    """Return the bytes by name of one launch."""
    [launch] = [row["launch_id"] for row in ran.rows() if row["strategy"] == strategy]
    found: dict[str, int] = defaultdict(int)
    for line in ran.rows("counts.csv"):
        if line["launch_id"] == launch and line["kind"] == kind:
            found[line["name"]] += int(line["bytes"])
    return dict(found)


def test_ddp_reduces_all_gradients(ran: Run) -> None:
    assert counted(ran, "ddp", "collective") == {"all-reduce ×2": 4 * P}


def test_zero1_also_broadcasts_all_parameters(ran: Run) -> None:
    assert counted(ran, "zero1", "collective") == {"all-reduce ×2": 4 * P, "broadcast ×2": 4 * P}


def test_zero1_divides_the_state_of_the_optimizer(ran: Run) -> None:
    """AdamW keeps two numbers of a parameter, and its step for each tensor: ranks have whole tensors."""
    whole, shared = counted(ran, "ddp", "memory"), counted(ran, "zero1", "memory")
    tensors = 38
    assert whole["optimizer state"] == 8 * P + 4 * tensors
    assert shared["parameters"] == whole["parameters"] == 4 * P
    assert shared["gradients"] == whole["gradients"] == 4 * P
    assert shared["optimizer state"] == pytest.approx(8 * P / 2, rel=0.001)
    assert ran.by_case()[1]["took_effect"].count("updated numbers broadcast") == 1


def test_the_same_losses(ran: Run) -> None:
    first: Any = {(row["loss_first"], row["loss_last"]) for row in ran.rows()}
    assert len(first) == 1
