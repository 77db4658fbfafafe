"""On a GPU: the same command, measured by events, seen by the allocator."""

from __future__ import annotations

from typing import Any

import pytest

from bench.devices import this_machine

GPUS = len(this_machine().gpus)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="this machine has no NVIDIA GPU")]
BRIEF = ("--steps", "20", "--launches", "1", "--quiet")


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
@pytest.mark.parametrize("precision", ["fp32", "amp-bf16"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_every_cell_runs_on_all_gpus(bench: Any, strategy: str, precision: str, checkpointing: str) -> None:
    words = ("--strategy", strategy, "--precision", precision, "--checkpointing", checkpointing)
    run = bench("run", "--workload", "gpt-nano", *words, *BRIEF)
    assert run.code == 0, run.stdout + run.stderr
    (row,) = run.rows()
    assert (row["device"], row["backend"]) == ("cuda", "" if strategy == "single" else "nccl")
    parts = [float(row[f"{part}_ms"]) for part in ("device_gap", "copy", "forward", "backward", "optimizer")]
    ranks = run.rows("ranks.csv")
    assert sum(parts) * 20 / 1e3 == pytest.approx(float(ranks[int(row["critical_rank"])]["window_s"]), rel=0.01)
    assert 0 < float(row["peak_allocated_mib"]) <= float(row["peak_reserved_mib"]) <= float(row["device_used_mib"])
    uuids = {gpu.uuid for gpu in this_machine().gpus}
    assert {uuid for rank in ranks for uuid in rank["device_uuids"].split(";")} <= uuids


def test_losses_equal_those_of_the_cpu(bench: Any) -> None:
    words = ("run", "--workload", "gpt-nano", "--strategy", "single", "--data", "text=demo", *BRIEF)
    gpu, cpu = bench(*words, "--device", "cuda").rows()[0], bench(*words, "--device", "cpu").rows()[0]
    assert float(gpu["loss_last"]) == pytest.approx(float(cpu["loss_last"]), rel=1e-3)


def test_running_out_of_device_memory_is_a_row(bench: Any) -> None:
    run = bench("run", "--workload", "gpt-124m", "--strategy", "single", "--batch-size", "4096", *BRIEF)
    assert run.code == 5
    assert run.rows()[0]["status"] == "oom"


def test_ranks_share_a_gpu_when_told_to(bench: Any) -> None:
    words = ("run", "--workload", "mlp", "--strategy", "ddp", "--gpus", str(GPUS + 1), *BRIEF)
    assert "--oversubscribe" in bench(*words).stderr
    (row,) = bench(*words, "--oversubscribe").rows()
    assert (row["status"], row["backend"], row["oversubscribe"]) == ("ok", "gloo", "true")
