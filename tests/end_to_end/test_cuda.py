"""On a GPU: the same command, measured by events, seen by the allocator and by NVML."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import in_process
import pytest
from command_line import Run, run_bench

from bench.machine.gpus import this_machine

HELPERS = Path(__file__).parents[1] / "helpers"
GPUS = len(this_machine().gpus)
pytestmark = [
    pytest.mark.launch,
    pytest.mark.gpu,
    pytest.mark.skipif(not GPUS, reason="this machine has no NVIDIA GPU"),
]
BRIEF = ("--steps", "20", "--launches", "1", "--quiet")
SMALL = ("--workload", "gpt-nano", "--batch-size", "4")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every strategy, the common precisions and both ends of checkpointing, in one run."""
    words = ("--strategy", "single,ddp,fsdp", "--precision", "fp32,amp-bf16", "--checkpointing", "none,full")
    return run_bench(tmp_path_factory.mktemp("matrix"), "run", *SMALL, *words, *BRIEF)


def test_parts_and_memory_add_up_on_all_gpus(matrix: Run) -> None:
    assert matrix.code == 0, matrix.stdout + matrix.stderr
    assert len(matrix.rows()) == 12
    uuids = {gpu.uuid for gpu in this_machine().gpus}
    for row in matrix.rows():
        assert (row["device"], row["backend"]) == ("cuda", "" if row["strategy"] == "single" else "nccl")
        parts = [float(row[f"{part}_ms"]) for part in ("device_gap", "copy", "forward", "backward", "optimizer")]
        ranks = [rank for rank in matrix.rows("ranks.csv") if rank["launch_id"] == row["launch_id"]]
        assert sum(parts) * 20 / 1e3 == pytest.approx(float(ranks[int(row["critical_rank"])]["window_s"]), rel=0.01)
        assert 0 < float(row["peak_allocated_mib"]) <= float(row["peak_reserved_mib"]) <= float(row["device_used_mib"])
        assert {uuid for rank in ranks for uuid in rank["device_uuids"].split(";")} <= uuids


def test_all_cases_of_the_matrix_train_alike(matrix: Run) -> None:
    for strategy in ("single", "ddp", "fsdp"):
        losses = [float(row["loss_last"]) for row in matrix.rows() if row["strategy"] == strategy]
        assert losses == pytest.approx([losses[0]] * 4, rel=0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["single", "dp", "ddp", "fsdp"])
def test_every_precision_and_checkpointing_trains(bench: Any, strategy: str) -> None:
    precisions, checkpointing = "fp32,tf32,amp-bf16,amp-fp16,bf16", "none,selective,full,every=2"
    words = ("--strategy", strategy, "--precision", precisions, "--checkpointing", checkpointing)
    run = bench("run", *SMALL, *words, "--grad-accum-steps", "2", "--max-grad-norm", "1", *BRIEF, timeout=900)
    assert {row["status"] for row in run.rows()} == {"ok"}, run.stdout
    losses = [float(row["loss_last"]) for row in run.rows()]
    assert losses == pytest.approx([losses[0]] * 20, rel=0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_compiled_training_is_the_same(bench: Any, mode: str) -> None:
    words = ("--strategy", "single,ddp,fsdp", "--compile", f"off,{mode}", "--checkpointing", "none,selective")
    run = bench("run", *SMALL, *words, *BRIEF, timeout=1200)
    assert {row["status"] for row in run.rows()} == {"ok"}, run.stdout
    assert {row["window_compilations"] for row in run.rows()} == {"", "0"}
    for strategy in ("single", "ddp", "fsdp"):
        losses = [float(row["loss_last"]) for row in run.rows() if row["strategy"] == strategy]
        assert losses == pytest.approx([losses[0]] * 4, rel=1e-3)


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_kernels_of_attention_and_offload(bench: Any, strategy: str) -> None:
    words = ("--strategy", strategy, "--precision", "amp-bf16", *BRIEF)
    run = bench("run", *SMALL, *words, "--attention", "auto,flash,efficient,cudnn,math", timeout=600)
    assert {row["status"] for row in run.rows()} == {"ok"}, run.stdout
    ran = {row["attention"]: row["attention_kernels"].partition(" ")[0] for row in run.rows()}
    assert {asked: kernel for asked, kernel in ran.items() if asked != "auto"} == {
        kernel: kernel for kernel in ("flash", "efficient", "cudnn", "math")
    }
    moved = bench("run", *SMALL, *words, "--activation-offload", "none,cpu", timeout=600)
    assert {row["status"] for row in moved.rows()} == {"ok"}, moved.stdout
    losses = [float(row["loss_last"]) for row in [*run.rows(), *moved.rows()]]
    assert losses == pytest.approx([losses[0]] * 7, rel=0.02)


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_float8_trains(bench: Any, strategy: str) -> None:
    pytest.importorskip("torchao")
    if any(gpu.capability < (9, 0) for gpu in this_machine().gpus):
        pytest.skip("float8 with a scale for each row needs compute capability 9.0")
    words = ("--strategy", strategy, "--precision", "amp-bf16,fp8,fp8-rowwise", *BRIEF)
    run = bench("run", *SMALL, *words, timeout=600)
    assert {row["status"] for row in run.rows()} == {"ok"}, run.stdout
    assert ["float8_e4m3fn in" in row["took_effect"] for row in run.by_case()] == [False, True, True]
    losses = [float(row["loss_last"]) for row in run.rows()]
    assert losses == pytest.approx([losses[0]] * 3, rel=0.02)


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_a_state_on_a_gpu_is_the_same_after_loading(bench: Any, strategy: str) -> None:
    words = ("--strategy", strategy, "--save-checkpoint", "full,dcp,dcp-async", *BRIEF)
    run = bench("run", *SMALL, *words, timeout=600)
    assert [(row["status"], row["save_restored"], row["save_note"]) for row in run.rows()] == [("ok", "true", "")] * 3
    assert all(float(row["save_peak_allocated_mib"]) > 0 for row in run.rows())


def test_data_parallel_is_one_rank_on_all_gpus(bench: Any) -> None:
    run = bench("run", *SMALL, "--strategy", "dp", *BRIEF)
    (row,) = run.rows()
    assert (row["status"], row["world_size"], row["gpus"], row["backend"]) == ("ok", "1", str(GPUS), "")
    assert row["global_batch"] == str(4 * GPUS)
    assert len(row["device_uuids"].split(";")) == GPUS


@pytest.mark.slow
def test_data_parallel_makes_replicas_on_one_gpu_when_told_to(bench: Any) -> None:
    words = ("--data", "text=demo", *BRIEF)
    halves = bench("run", *SMALL, "--strategy", "dp", "--gpus", str(2 * GPUS), "--oversubscribe", *words)
    (row,) = halves.rows()
    assert (row["status"], row["oversubscribe"], row["global_batch"]) == ("ok", "true", str(8 * GPUS))
    whole = bench("run", "--workload", "gpt-nano", "--strategy", "single", "--batch-size", str(8 * GPUS), *words)
    assert float(row["loss_last"]) == pytest.approx(float(whole.rows()[0]["loss_last"]), rel=1e-3)


@pytest.mark.slow
def test_replicas_compute_in_the_type_that_was_asked_for(bench: Any) -> None:
    workload = f"{Path(__file__).parents[1]}/helpers/says_type.py:Says"
    words = ("--workload", workload, "--strategy", "dp", "--gpus", str(2 * GPUS), "--oversubscribe")
    run = bench("run", *words, "--precision", "fp32,amp-bf16,amp-fp16,bf16", *BRIEF)
    logs = [(run.folder / "logs" / row["launch_id"] / "rank0.log").read_text() for row in run.by_case()]
    types = ("float32", "bfloat16", "float16", "bfloat16")
    assert [f"computed in torch.{name}" in log for name, log in zip(types, logs, strict=True)] == [True] * 4


def test_options_of_strategies(bench: Any) -> None:
    strategies = "fsdp:offload=cpu,ddp:hook=bf16,ddp:bucket-view=on,fsdp:reduce=bf16"
    words = ("--strategy", strategies, "--max-grad-norm", "1", "--precision", "amp-bf16")
    run = bench("run", *SMALL, *words, *BRIEF)
    assert [row["status"] for row in run.rows()] == ["ok"] * 4, run.stdout


@pytest.mark.slow
def test_offloading_leaves_less_on_the_device(bench: Any) -> None:
    run = bench("run", "--workload", "gpt-124m", "--batch-size", "1", "--strategy", "fsdp,fsdp:offload=cpu", *BRIEF)
    kept, offloaded = (float(row["peak_allocated_mib"]) for row in run.by_case())
    assert offloaded < kept - 124_439_808 * 8 / 2**20 / GPUS  # at least AdamW's two moments, of 4 bytes each


@pytest.mark.slow
def test_images_in_channels_last_and_deterministic(bench: Any) -> None:
    words = ("--workload", "resnet18:size=64", "--strategy", "single", "--channels-last", "on,off")
    run = bench("run", *words, "--deterministic", "on,off", "--cudnn-benchmark", "on,off", *BRIEF)
    # deterministic turns cuDNN's benchmark off, so that half of its cases are equal
    assert [row["status"] for row in run.rows()] == ["ok"] * 6
    losses = [float(row["loss_first"]) for row in run.rows()]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-3)


@pytest.mark.slow
def test_numa_binding(bench: Any) -> None:
    run = bench("run", *SMALL, "--strategy", "ddp", "--numa-binding", "off,node", "--launcher", "server", *BRIEF)
    off, node = run.by_case()
    assert (off["numa_binding"], off["status"], node["numa_binding"]) == ("off", "ok", "node")
    # not every container shows where its GPUs are
    assert node["status"] == ("ok" if shutil.which("numactl") else "skipped"), node["reason"]


@pytest.mark.slow
def test_nvml_watches_the_gpus_that_were_used(bench: Any) -> None:
    words = ("--workload", "gpt-124m", "--precision", "amp-bf16", "--strategy", "ddp", "--min-seconds", "5")
    (row,) = (run := bench("run", *words, *BRIEF)).rows()
    assert row["energy_source"] == "counter"
    assert float(row["joules_per_sample"]) == pytest.approx(float(row["energy_j"]) / int(row["samples"]))
    readings = [r for r in run.rows("devices.csv") if r["in_window"] == "true"]
    assert {r["device_uuid"] for r in readings} == set(row["device_uuids"].split(";"))
    # the counter against the power readings, which are another instrument
    watts = sum(float(r["power_w"]) for r in readings) / len(readings) * GPUS
    assert float(row["power_mean_w"]) == pytest.approx(watts, rel=0.15)
    assert float(row["device_memory_peak_mib"]) >= float(row["peak_reserved_mib"])
    assert 0.5 < float(row["utilisation_mean"]) <= 1
    assert row["foreign_processes"] in ("false", "")


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


def test_counts_have_what_only_a_gpu_shows(tmp_path: Path) -> None:
    """A copy of the batch to the host, for which the host waits; kernels; and the allocator's peak."""
    shutil.copy(HELPERS / "habits.py", tmp_path)
    (tmp_path / "flags.py").write_text("CHANGED = False\n")
    words = ["lock", "--workload", "habits.py:ToHost", "--gpus", "1", "--device", "cuda", "--quiet"]
    assert in_process.bench(tmp_path, *words).code == 0
    text = (tmp_path / "bench.lock").read_text()
    assert '"kernel launches" = ' in text
    assert in_process.bench(tmp_path, "lock", "--check", "--quiet").code == 0
    (tmp_path / "flags.py").write_text("CHANGED = True\n")
    told = in_process.bench(tmp_path, "lock", "--check", "--quiet")
    assert told.code == 1
    assert "+1 copy to host in forward" in told.out
    assert "+1 wait for the device in forward" in told.out


def test_live_tensors_are_what_the_allocator_holds(bench: Any) -> None:
    """The allocator rounds each tensor up to 512 bytes, and kernels have work space."""
    run = bench("run", *SMALL, "--strategy", "single", *BRIEF)
    [row] = run.rows()
    assert int(row["kernel_launches"]) > int(row["operations"]) / 2
    memory = {line["name"]: int(line["bytes"]) for line in run.rows("counts.csv") if line["kind"] == "memory"}
    live, allocated = memory["peak of live tensors"], memory["peak of the device's allocator"]
    assert 0.7 * allocated < live < 1.05 * allocated


def test_a_profile_has_the_kernels_of_steps(bench: Any) -> None:
    run = bench("run", *SMALL, "--strategy", "single,ddp,fsdp", "--profile", "on", *BRIEF)
    for row in run.by_case():
        assert (row["status"], row["comm_method"], row["comm_note"]) == ("ok", "profile", ""), row["reason"]
        step, comm, compute, both = (
            float(row[name]) for name in ("profiled_step_ms", "comm_ms", "compute_ms", "overlap_ms")
        )
        assert 0 < compute <= comm + compute - both <= step
        assert (comm > 0) == (row["world_size"] != "1")


def test_gloo_is_seen_beside_kernels(bench: Any) -> None:
    words = ("run", "--workload", "mlp", "--strategy", "ddp", "--gpus", str(GPUS + 1), "--oversubscribe", *BRIEF)
    [row] = bench(*words, "--profile", "on").rows()
    assert (row["backend"], row["comm_method"], row["comm_note"]) == ("gloo", "profile", "")
    assert float(row["comm_ms"]) > 0
    assert float(row["compute_ms"]) > 0
