"""What each axis does to a launch, beyond leaving the training the same."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fed_batches import fed
from plain_case import PLAIN
from torch import nn
from trainings import Trainings

from bench.rank.build import pin_numerics
from bench.rank.compiling import is_recompilation
from bench.rank.describe import describe
from bench.rank.loader import batches, to_device
from bench.rank.measure import _Run
from bench.rank.parallelize import Way, parallelize
from bench.runner.launch_case import PRELOAD
from bench.strategies import single
from bench.strategies.dp import autocast_to
from launch import Request
from launch.server_launcher import ServerLauncher
from launch.torchrun import command
from workloads import WORKLOADS
from workloads.base import load

HELPERS = Path(__file__).parents[1] / "helpers"
BRIEF = ("--device", "cpu", "--steps", "4", "--launches", "1", "--quiet")
CPU = torch.device("cpu")


# -- numerics ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def numerics_restored() -> Iterator[None]:
    yield
    pin_numerics(PLAIN)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("environment", ["0", "1"])
def test_fp32_has_no_tf32_and_tf32_has_it_everywhere(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", environment)
    for precision, on in (("tf32", True), ("fp32", False), ("amp-bf16", False), ("bf16", False), ("amp-fp16", False)):
        with numerics_restored():
            pin_numerics(dataclasses.replace(PLAIN, precision=precision))
            assert torch.backends.cuda.matmul.allow_tf32 == on
            assert torch.backends.cudnn.allow_tf32 == on
            assert torch.get_float32_matmul_precision() == ("high" if on else "highest")


def test_an_environment_that_forbids_tf32_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(
        RuntimeError, match=r"^NVIDIA_TF32_OVERRIDE=0 forbids what --precision tf32 asks for; unset it$"
    ):
        pin_numerics(dataclasses.replace(PLAIN, precision="tf32"))
    pin_numerics(PLAIN)


def test_deterministic_and_cudnn_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with numerics_restored():
        pin_numerics(dataclasses.replace(PLAIN, deterministic=True, cudnn_benchmark=False))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with numerics_restored():
        pin_numerics(dataclasses.replace(PLAIN, cudnn_benchmark=True))
        assert torch.backends.cudnn.benchmark


# -- the model --------------------------------------------------------------------------------------------------------


def model_of(workload: str, **changes: Any) -> nn.Module:
    case = dataclasses.replace(PLAIN, workload=workload, strategy="single", gpus=1, **changes)
    return parallelize(Way(load(case.spec.target, case.spec.options), case, single, CPU, None, "")).model


def test_bf16_holds_for_parameters_and_statistics() -> None:
    model = model_of("resnet18:size=32", precision="bf16")
    types = {tensor.dtype for tensor in [*model.parameters(), *model.buffers()] if tensor.is_floating_point()}
    assert types == {torch.bfloat16}


@pytest.mark.parametrize("on", [True, False])
def test_channels_last_holds_for_every_convolution(on: bool) -> None:
    model = model_of("resnet18:size=32", channels_last=on)
    # a kernel of one place, or of one channel, is both orders at once
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(kernels) == 17  # of ResNet-18's 20 convolutions three are 1 x 1
    assert {kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels} == {on}


@pytest.mark.parametrize("data", ["resident", "synthetic"])
def test_batches_come_as_the_model_computes(data: str) -> None:
    changes = {"workload": "resnet18:size=32", "strategy": "single", "gpus": 1, "batch_size": 2, "num_workers": 0}
    case = dataclasses.replace(PLAIN, **changes, precision="bf16", channels_last=True, data=data)
    feed = batches(load(case.spec.target, case.spec.options), data, case, CPU)
    images, labels = to_device(next(feed), case, CPU)
    assert (images.dtype, labels.dtype) == (torch.bfloat16, torch.int64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    again = to_device([images], case, CPU)[0]
    assert again.data_ptr() == images.data_ptr()  # what is placed stays where it is


def test_replicas_are_told_the_type_of_autocast() -> None:
    """As nn.DataParallel's threads, which know only that autocast is on."""
    seen: list[torch.dtype] = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_autocast_dtype("cuda"))
            return x

    told, untold = Look(), Look()
    autocast_to(told, torch.bfloat16)
    for model in (untold, told):
        thread = threading.Thread(target=model, args=(torch.zeros(1),))
        thread.start()
        thread.join()
    assert seen == [torch.float16, torch.bfloat16]
    assert torch.get_autocast_dtype("cuda") == torch.float16


class DeathSignals(torch.utils.data.Dataset[tuple[torch.Tensor]]):
    """Each item is the signal that its process gets when its parent ends."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        signal = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(signal))  # PR_GET_PDEATHSIG
        return (torch.tensor(signal.value),)


def test_workers_end_with_their_rank() -> None:
    changes = {"strategy": "single", "gpus": 1, "batch_size": 2, "num_workers": 1, "prefetch_factor": 1}
    case = dataclasses.replace(PLAIN, **changes, data="synthetic", persistent_workers=True)
    feed = fed(DeathSignals(), case, CPU)
    (signals,) = next(feed)
    feed.close()
    assert signals.tolist() == [9, 9]


@pytest.mark.parametrize(("after", "skipped"), [(65536.0, 0), (16384.0, 2), (0.0, None)])
def test_skipped_steps_are_known_from_the_scale(after: float, skipped: int | None) -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict({**scaler.state_dict(), "scale": after})
    run = SimpleNamespace(training=SimpleNamespace(scaler=scaler))
    assert _Run._skipped(run, 65536.0) == skipped  # type: ignore[arg-type]


def test_nothing_that_is_preloaded_keeps_ranks_from_cuda() -> None:
    """A process that has asked CUDA for anything can no longer fork ranks that use it."""
    check = (
        "import importlib, os, sys, torch\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(torch.cuda._is_in_bad_fork())\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", check, *PRELOAD]).returncode == 0


# -- checkpointing ----------------------------------------------------------------------------------------------------


def test_recomputation_is_counted_as_it_happens() -> None:
    """Four equal layers: every second is half of all; selective recomputes nothing that counts."""
    entry = WORKLOADS["gpt-nano"]

    def recomputed(mode: str) -> float:
        said = describe(load(entry.target, entry.options), mode, "synthetic")
        assert said.hardware_flops_per_sample is not None
        assert said.flops_per_sample is not None
        return said.hardware_flops_per_sample - said.flops_per_sample

    full = recomputed("full")
    assert full > 0
    assert [recomputed(mode) / full for mode in ("none", "selective", "every=2", "every=3", "every=4")] == [
        *(0, 0, 0.5, 0.25, 0.25)
    ]


@pytest.mark.parametrize(
    ("mode", "runs"),
    [("none", [1, 1, 1, 1]), ("full", [2, 2, 2, 2]), ("every=2", [1, 2, 1, 2]), ("every=3", [1, 1, 2, 1])],
)
def test_the_named_layers_run_twice(mode: str, runs: list[int]) -> None:
    model = model_of("mlp", activation_checkpointing=mode)
    seen = [0, 0, 0, 0]
    for n, layer in enumerate(list(model.children())[:4]):
        layer[0].register_forward_hook(lambda *_, n=n: seen.__setitem__(n, seen[n] + 1))  # type: ignore[misc, index]
    model(torch.rand(2, 256, requires_grad=True)).sum().backward()
    assert seen == runs


def test_selective_keeps_matmuls_and_recomputes_the_rest() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            counts[func.overloadpacket] = counts.get(func.overloadpacket, 0) + 1
            return func(*args, **(kwargs or {}))

    seen = {}
    for mode in ("none", "selective", "full"):
        counts: dict[Any, int] = {}
        model = model_of("mlp:layers=2", activation_checkpointing=mode)
        with Count():
            model(torch.rand(2, 256)).sum().backward()
        seen[mode] = counts
    aten = torch.ops.aten
    # forward 2 layers; full recomputes both layers' addmm, selective none; either may stop early before the last gelu
    assert [seen[mode][aten.addmm] for mode in seen] == [3, 3, 5]
    assert seen["none"][aten.gelu] == 2


# -- communication ----------------------------------------------------------------------------------------------------


EXCHANGES = {
    "ddp": {"c10d::allreduce_": 1},  # one bucket
    "fsdp": {"c10d::_reduce_scatter_base_": 5},  # four layers and the root
}
EXCHANGING = {
    (strategy, accumulation): dataclasses.replace(
        PLAIN, workload="mlp", strategy=strategy, batch_size=2, grad_accum_steps=accumulation
    )
    for strategy in EXCHANGES
    for accumulation in (1, 4)
}


@pytest.fixture(scope="module")
def collectives(launcher: ServerLauncher, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """What the ranks of each case say about its collectives; all cases in one launch."""
    folder = tmp_path_factory.mktemp("collectives")
    return Trainings(launcher, folder, "communicate", "collectives.json", EXCHANGING.values(), 1)


@pytest.mark.parametrize(("strategy", "accumulation"), EXCHANGING)
def test_gradients_are_exchanged_once_a_step(collectives: Trainings, strategy: str, accumulation: int) -> None:
    counts = json.loads(collectives[EXCHANGING[strategy, accumulation]].read_text())["third"]
    gathers = {name: counts.pop(name) for name in list(counts) if "allgather" in name}
    assert counts == {"c10d::barrier": 1, **EXCHANGES[strategy]}
    # a micro-batch gathers every layer in each direction, the root once, as it stays gathered until its backward
    assert sum(gathers.values()) == (accumulation * (2 * 4 + 1) if strategy == "fsdp" else 0)


@pytest.mark.parametrize(("strategy", "accumulation"), EXCHANGING)
def test_collectives_can_be_taken_out_of_a_step(collectives: Trainings, strategy: str, accumulation: int) -> None:
    counts = json.loads(collectives[EXCHANGING[strategy, accumulation]].read_text())["without"]
    assert counts == {"c10d::barrier": 1}  # of the window


# -- environment ------------------------------------------------------------------------------------------------------


def test_variables_are_an_axis_and_reach_the_ranks(bench: Any) -> None:
    workload = f"{HELPERS}/says_environment.py:Says"
    words = ("--env", "COLOUR=red|dark blue", "--env", "TORCH_NUM_THREADS_INTEROP=1", "--strategy", "single")
    run = bench("run", "--workload", workload, *words, *BRIEF)
    assert run.code == 0, run.stdout + run.stderr
    rows = run.by_case()
    assert [row["env"] for row in rows] == [
        "COLOUR=red TORCH_NUM_THREADS_INTEROP=1",
        "'COLOUR=dark blue' TORCH_NUM_THREADS_INTEROP=1",
    ]
    assert len({row["case_id"] for row in rows}) == 2
    assert [json.loads(row["settings"])["COLOUR"] for row in rows] == ["red", "dark blue"]
    logs = [(run.folder / "logs" / row["launch_id"] / "rank0.log").read_text() for row in rows]
    assert ["COLOUR is red" in logs[0], "COLOUR is dark blue" in logs[1]] == [True, True]
    assert rows[1]["command"].endswith(
        "--env 'COLOUR=dark blue' --env TORCH_NUM_THREADS_INTEROP=1 --steps 4 --launches 1"
    )
    assert rows[0]["work_key"] == rows[1]["work_key"]
    assert rows[0]["env_key"] != rows[1]["env_key"]


def test_numa_binding_is_torchruns(tmp_path: Path) -> None:
    plain = Request("m:f", "", 2, 60, tmp_path)
    bound = dataclasses.replace(plain, numa_binding="node")
    words = command(bound, 1)
    assert words[words.index("--numa-binding") + 1] == "node"
    assert words.index("--numa-binding") < words.index("-m", 4)  # before the module, whose arguments follow
    assert [word for word in words if word not in ("--numa-binding", "node")] == command(plain, 1)


# -- compilation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "compile_id", "again"),
    [
        ("DYNAMO", "0/0", False),
        ("DYNAMO", "3/0", False),
        ("DYNAMO", "0/1", True),
        ("DYNAMO", "[2/12]", True),
        ("DYNAMO", "0/0_1", False),  # restarted, with the same code
        ("LAZY_BACKWARD", "0/1", False),
        ("DYNAMO", "None", False),
    ],
)
def test_a_second_compilation_of_a_frame_is_one(trigger: str, compile_id: str, again: bool) -> None:
    assert is_recompilation(trigger, compile_id) == again


@pytest.mark.slow
def test_compilation_is_told_and_leaves_nothing(bench: Any, tmp_path: Path) -> None:
    words = ("--workload", "mlp:layers=2", "--strategy", "ddp", "--compile", "off,default")
    run = bench("run", *words, *BRIEF, "--launches", "1")
    assert run.code == 0, run.stdout + run.stderr
    eager, compiled = run.by_case()
    assert [row["compile_cache_hits"] for row in (eager, compiled)] == ["", "0"]
    assert (eager["compile_s"], eager["recompilations"], eager["window_compilations"]) == ("", "", "")
    assert 0 < float(compiled["compile_s"]) < float(compiled["first_step_ms"]) / 1e3
    assert (compiled["recompilations"], compiled["window_compilations"]) == ("0", "0")
    assert float(compiled["loss_last"]) == pytest.approx(float(eager["loss_last"]), rel=1e-5)
    assert not [path for path in run.folder.rglob("*") if "inductor" in path.name]


@pytest.mark.slow
def test_each_launch_of_a_server_compiles_anew(bench: Any) -> None:
    words = ("--workload", "mlp:layers=2", "--strategy", "ddp", "--compile", "default")
    run = bench("run", *words, *BRIEF, "--launches", "2")
    assert [row["compile_cache_hits"] for row in run.rows()] == ["0", "0"]


@pytest.mark.slow
def test_a_cache_that_was_asked_for_is_kept(bench: Any, tmp_path: Path) -> None:
    words = ("--workload", "mlp:layers=2", "--strategy", "single", "--compile", "default")
    words += ("--env", f"TORCHINDUCTOR_CACHE_DIR={tmp_path}/cache", *BRIEF, "--launches", "2")
    run = bench("run", *words)
    assert run.code == 0, run.stdout + run.stderr
    assert list((tmp_path / "cache").rglob("*.py"))
    cold, warm = run.rows()
    assert cold["compile_cache_hits"] == "0"
    assert int(warm["compile_cache_hits"]) > 0
