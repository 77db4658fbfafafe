"""What a step sends and keeps under each strategy, counted, against formulas from the number of parameters."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

pytestmark = [pytest.mark.launch, pytest.mark.slow]
P = 820_352  # parameters of llama-nano
NORMS, TENSORS = 1_152, 38  # of which numbers of norms, and how many parameters there are
LAYERS, BATCH, SEQ, WIDTH, VOCAB = 4, 2, 128, 128, 256
A = 4 * BATCH * SEQ * WIDTH  # bytes of the activations between two layers
PART = (P - NORMS) // 2 + NORMS  # numbers that a rank has where two share each layer
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


TWO = "ddp,zero1,fsdp,ddp:tp=2,ddp:tp=2:loss-parallel=on"


@pytest.fixture(scope="module")
def ran(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from command_line import run_bench

    return run_bench(tmp_path_factory.mktemp("traffic"), "run", *LLAMA, "--gpus", "2", "--strategy", TWO)


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


def test_fsdp_gathers_layers_twice_and_the_rest_once(ran: Run) -> None:
    root = VOCAB * WIDTH + WIDTH  # the embedding, which is the head as well, and the last norm
    assert counted(ran, "fsdp", "collective") == {
        "all-gather ×2": 4 * (2 * (P - root) + root),
        "reduce-scatter ×2": 4 * P,
    }
    held = counted(ran, "fsdp", "memory")
    assert held["parameters"] == held["gradients"] == 4 * P // 2
    assert held["optimizer state"] == 8 * P // 2 + 4 * TENSORS


def test_zero1_divides_the_state_of_the_optimizer(ran: Run) -> None:
    """AdamW keeps two numbers of a parameter, and its step for each tensor: ranks have whole tensors."""
    whole, shared = counted(ran, "ddp", "memory"), counted(ran, "zero1", "memory")
    assert whole["optimizer state"] == 8 * P + 4 * TENSORS
    assert shared["parameters"] == whole["parameters"] == 4 * P
    assert shared["gradients"] == whole["gradients"] == 4 * P
    assert shared["optimizer state"] == pytest.approx(8 * P / 2, rel=0.001)
    assert ran.by_case()[1]["took_effect"].count("updated numbers broadcast") == 1


def test_tensor_parallel_exchanges_activations_and_the_gradients_of_norms(ran: Run) -> None:
    """Of a block each norm gathers what two ranks have of a sequence, and each row-wise layer scatters its sums."""
    activations = (4 * LAYERS + 2) * A
    logits, numbers = 4 * BATCH * SEQ * VOCAB, 4 * BATCH * SEQ
    gradients = {"all-reduce ×1": 4 * PART, "reduce-scatter ×2": activations}
    assert counted(ran, "ddp:tp=2", "collective") == {
        **gradients,
        "all-gather ×2": activations + logits,
        "all-reduce ×2": 4 * NORMS,
    }
    # The largest logit of each token, the sum of exponentials and the logit of the target.
    assert counted(ran, "ddp:tp=2:loss-parallel=on", "collective") == {
        **gradients,
        "all-gather ×2": activations,
        "all-reduce ×2": 4 * NORMS + 3 * numbers,
    }


def test_tensor_parallel_divides_all_but_norms(ran: Run) -> None:
    for strategy in ("ddp:tp=2", "ddp:tp=2:loss-parallel=on"):
        held = counted(ran, strategy, "memory")
        assert held["parameters"] == held["gradients"] == 4 * PART
        assert held["optimizer state"] == 8 * PART + 4 * TENSORS
        assert not counted(ran, strategy, "uncounted")


def test_a_group_of_ranks_trains_its_samples_once(ran: Run) -> None:
    by_strategy = {row["strategy"]: row for row in ran.rows()}
    for strategy, data_ranks in (("ddp", 2), ("ddp:tp=2", 1)):
        row = by_strategy[strategy]
        assert (row["global_batch"], row["samples"]) == (str(BATCH * data_ranks), str(3 * BATCH * data_ranks))
        per_device = float(row["samples_per_s"]) / 2
        assert float(row["samples_per_s_per_device"]) == pytest.approx(per_device)
        # Two devices did the work of these samples together.
        assert float(row["tflops_per_device"]) == pytest.approx(per_device * float(row["flops_per_sample"]) / 1e12)
        assert row["flops_per_sample"] == by_strategy["ddp"]["flops_per_sample"]
    assert "819,200 of 820,352 numbers of the parameters divided over 2 ranks" in by_strategy["ddp:tp=2"]["took_effect"]


def test_whole_activations_are_reduced(launching: None, tmp_path: Path) -> None:
    """Of a block the sums of both row-wise layers forward, and of both column-wise ones the gradients of their inputs.

    So are the embedding's sum, and the gradients of what the head takes: 19 tokens of a sequence.
    """
    from command_line import run_bench

    sizes = {"layers": 3, "width": 64, "heads": 4, "vocab": 300}
    words = ("--workload", ":".join(["bert", *(f"{name}={size}" for name, size in sizes.items())]), *LLAMA[2:])
    ran = run_bench(tmp_path, "run", *words, "--gpus", "2", "--strategy", "ddp:tp=2")
    width, vocab, layers = sizes["width"], sizes["vocab"], sizes["layers"]
    whole = (512 + 2) * width + 2 * width + layers * (4 + 2) * width + width * width + width + 2 * width
    halves = vocab * width + vocab + layers * (12 * width * width + 3 * width + 4 * width)
    activations = 4 * BATCH * SEQ * width
    assert counted(ran, "ddp:tp=2", "collective") == {
        "all-reduce ×1": 4 * (whole + halves // 2),
        "all-reduce ×2": (4 * layers + 1) * activations + 4 * BATCH * 19 * width,
        "all-gather ×2": 4 * BATCH * 19 * vocab,
    }
    held = counted(ran, "ddp:tp=2", "memory")
    assert held["parameters"] == held["gradients"] == 4 * (whole + halves // 2)


@pytest.mark.slow
def test_shards_of_shards(launching: None, tmp_path: Path) -> None:
    """FSDP gathers and scatters what a rank has of a layer: in both passes, and of the rest once."""
    from command_line import run_bench

    ran = run_bench(tmp_path, "run", *LLAMA, "--gpus", "4", "--strategy", "fsdp:tp=2")
    root = VOCAB * WIDTH // 2 + WIDTH  # the embedding, which is the head as well, and the last norm
    activations, logits = (4 * LAYERS + 2) * A, 4 * BATCH * SEQ * VOCAB
    assert counted(ran, "fsdp:tp=2", "collective") == {
        "all-gather ×2": 4 * (2 * (PART - root) + root) + activations + logits,
        "reduce-scatter ×2": 4 * PART + activations,
        "all-reduce ×2": 4 * NORMS,
    }
    held = counted(ran, "fsdp:tp=2", "memory")
    assert held["parameters"] == held["gradients"] == 4 * PART // 2
    assert held["optimizer state"] == 8 * PART // 2 + 4 * TENSORS


def test_the_same_losses(ran: Run) -> None:
    """Of the same global batch; that of the others is smaller."""
    first: Any = {(row["loss_first"], row["loss_last"]) for row in ran.rows() if row["global_batch"] == str(2 * BATCH)}
    assert len(first) == 1


EMBEDDING = VOCAB * WIDTH  # which is the head as well, so that both stages have it
MICRO = 4


def test_a_pipeline_sends_activations_and_their_gradients(launching: None, tmp_path: Path) -> None:
    """The first rank has the embedding and two of four blocks; it reduces their gradients alone, as it has no replica."""
    from command_line import run_bench

    strategies = "ddp:pp=2,ddp:pp=2:schedule=1f1b"
    words = ("run", *LLAMA, "--gpus", "2", "--grad-accum-steps", str(MICRO))
    ran = run_bench(tmp_path, *words, "--strategy", strategies)
    of_blocks = (P - EMBEDDING - WIDTH) // 2  # all but the embedding and the last norm
    for strategy in strategies.split(","):
        assert counted(ran, strategy, "collective") == {
            "send ×2": MICRO * A,
            "receive ×2": MICRO * A,
            "all-reduce ×1": 4 * (of_blocks + EMBEDDING),
            "all-reduce ×2": 4 * EMBEDDING,
        }
        held = counted(ran, strategy, "memory")
        assert held["parameters"] == held["gradients"] == 4 * (of_blocks + EMBEDDING)
        assert held["optimizer state"] == 8 * (of_blocks + EMBEDDING) + 4 * (TENSORS // 2)
    assert {row["loss_last"] for row in ran.rows()} == {ran.rows()[0]["loss_last"]}


def test_fsdp_gathers_the_layers_of_a_stage_once_a_micro_batch_and_once_more(launching: None, tmp_path: Path) -> None:
    """The embedding is outside of layers, and stays gathered in the first stage of a rank."""
    from command_line import run_bench

    schedules = ("fsdp:pp=2", "fsdp:pp=2:schedule=1f1b", "fsdp:pp=2:schedule=interleaved", "fsdp:reshard=off:pp=2")
    words = ("run", *LLAMA, "--gpus", "4", "--grad-accum-steps", str(MICRO))
    ran = run_bench(tmp_path, *words, "--strategy", ",".join(schedules))
    of_blocks = (P - EMBEDDING - WIDTH) // 2
    for strategy in schedules:
        found = counted(ran, strategy, "collective")
        boundaries = 3 if "interleaved" in strategy else 1  # of the first rank's stages with those of the other
        again = 1 if "off" in strategy else MICRO + 1
        assert found == {
            "send ×2": boundaries * MICRO * A,
            "receive ×2": boundaries * MICRO * A,
            "all-gather ×2": 4 * (again * of_blocks + EMBEDDING),
            "reduce-scatter ×2": 4 * (of_blocks + EMBEDDING),
            "all-reduce ×2": 4 * EMBEDDING // 2,
        }, strategy
        held = counted(ran, strategy, "memory")
        assert held["parameters"] == held["gradients"] == 4 * (of_blocks + EMBEDDING) // 2
    assert {row["loss_last"] for row in ran.rows()} == {ran.rows()[0]["loss_last"]}
