"""Which cases cannot run, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plain_case import PLAIN

from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.constraints import Facts, refusal
from bench.plan.description import Description
from workloads import WORKLOADS

A100 = Gpu("GPU-a", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
T4 = Gpu("GPU-t", "Tesla T4", 15360.0, (7, 5))
V100 = Gpu("GPU-v", "Tesla V100-SXM2-16GB", 16384.0, (7, 0))
P100 = Gpu("GPU-p", "Tesla P100-PCIE-16GB", 16384.0, (6, 0))


def case(**changes: Any) -> Case:
    return dataclasses.replace(PLAIN, **changes)


def description(**changes: Any) -> Description:
    plain = Description(
        unit="samples",
        batch_size=4,
        data=("resident", "folder"),
        tokens_per_sample=None,
        parameters=10,
        layers=2,
        flops_per_sample=None,
        hardware_flops_per_sample=None,
    )
    return dataclasses.replace(plain, **changes)


def why(
    case: Case, *gpus: Gpu, samples: int | None = None, description: Description | None = None, lacks: str = ""
) -> str | None:
    return refusal(case, Facts(Machine(gpus), samples, description, lacks))


def test_plain_case_runs() -> None:
    assert why(PLAIN) is None


def test_data_that_a_built_in_workload_cannot_read() -> None:
    reason = "gpt-nano cannot read folder; it takes resident, synthetic, text"
    assert why(case(workload="gpt-nano", data="folder=/a")) == reason
    assert why(case(workload="gpt-nano", data="text=/a")) is None
    assert why(case(data="text=/a")) == "resnet18 cannot read text; it takes resident, synthetic, folder"


def test_data_of_an_own_workload_is_known_once_torch_has_described_it() -> None:
    own = case(workload="net.py:Net", data="synthetic")
    assert why(own) is None
    assert why(own, description=description()) == "net.py:Net cannot read synthetic; it takes resident, folder"


def test_samples_must_fill_one_global_batch() -> None:
    # 32 x 2 ranks = 64
    reason = "63 samples do not fill one global batch of 64; give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data"
    assert why(case(data="folder=/a"), samples=63) == reason
    assert why(case(data="folder=/a"), samples=64) is None
    assert why(case(data="folder=/a", strategy="single", gpus=1), samples=63) is None
    assert why(case(data="folder=/a", batch_size=None), samples=1) is None


def test_micro_batches_and_devices_count_for_a_global_batch() -> None:
    # 32 x 2 ranks x 3 micro-batches = 192
    reason = "191 samples do not fill one global batch of 192; give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data"
    thrice = case(data="folder=/a", grad_accum_steps=3)
    assert why(thrice, samples=191) == reason
    assert why(thrice, samples=192) is None
    # nn.DataParallel: one rank, 32 x 4 devices
    dp = case(data="folder=/a", strategy="dp", gpus=4, device="cuda")
    assert str(why(dp, A100, samples=127)).startswith("127 samples do not fill one global batch of 128; ")
    assert why(dp, A100, samples=128) is None


@pytest.mark.parametrize("gpus", [(T4,), (A100, T4)])
def test_bfloat16_needs_ampere_on_every_gpu(gpus: tuple[Gpu, ...]) -> None:
    reason = "bfloat16 needs compute capability 8.0 (Ampere) or newer"
    assert why(case(device="cuda", precision="amp-bf16"), *gpus) == reason
    assert why(case(device="cuda"), *gpus) is None
    assert why(case(device="cpu", precision="amp-bf16"), *gpus) is None


def test_bfloat16_runs_on_ampere() -> None:
    assert why(case(device="cuda", precision="amp-bf16"), A100) is None


def test_fsdp_cannot_share_a_gpu() -> None:
    shared = case(device="cuda", gpus=2, oversubscribe=True)
    assert why(shared, A100) is None
    assert why(dataclasses.replace(shared, strategy="fsdp"), A100) == (
        "ranks that share a GPU talk over Gloo, for which PyTorch documents no all-gather or reduce-scatter "
        "of CUDA tensors; use ddp"
    )


def test_checkpointing_needs_layers() -> None:
    wanted = case(activation_checkpointing="full")
    assert why(wanted) is None
    assert why(wanted, description=description(layers=2)) is None
    assert why(wanted, description=description(layers=0)) == (
        "resnet18 names no layers to checkpoint: its layers() is empty"
    )
    assert why(PLAIN, description=description(layers=0)) is None


def test_first_broken_rule_gives_the_reason() -> None:
    both = case(workload="gpt-nano", data="folder=/a")
    assert why(both, samples=1) == "gpt-nano cannot read folder; it takes resident, synthetic, text"


# -- strategies -------------------------------------------------------------------------------------------------


def test_data_parallel_has_no_form_for_the_cpu() -> None:
    reason = "nn.DataParallel copies a model to GPUs and does not support the CPU; use ddp"
    assert why(case(strategy="dp")) == reason
    assert why(case(strategy="dp", gpus=1), A100) == reason
    assert why(case(strategy="dp", device="cuda"), A100, A100) is None
    assert why(case(strategy="dp", device="cuda", oversubscribe=True), A100) is None


@pytest.mark.parametrize("strategy", ["fsdp:reshard=off", "fsdp:offload=cpu", "fsdp:replicate=2"])
def test_no_form_of_fsdp_can_share_a_gpu(strategy: str) -> None:
    shared = case(strategy=strategy, device="cuda", gpus=4, oversubscribe=True)
    assert why(shared, A100) == (
        "ranks that share a GPU talk over Gloo, for which PyTorch documents no all-gather or reduce-scatter "
        "of CUDA tensors; use ddp"
    )
    assert why(dataclasses.replace(shared, oversubscribe=False), A100) is None


def test_offloading_needs_somewhere_to_offload_from() -> None:
    assert why(case(strategy="fsdp:offload=cpu")) == (
        "fsdp:offload=cpu moves parameters from a GPU to the host; on the CPU they are there already"
    )
    assert why(case(strategy="fsdp:offload=cpu", device="cuda"), A100) is None
    assert why(case(strategy="fsdp")) is None


@pytest.mark.parametrize(
    ("gpus", "replicas", "runs"),
    [
        *[(1, 1, True), (1, 2, False), (2, 1, True), (2, 2, False), (2, 3, False)],
        *[(4, 2, True), (4, 3, False), (4, 4, False), (4, 8, False)],
        *[(6, 2, True), (6, 3, True), (6, 4, False), (6, 6, False)],
    ],
)
def test_replicas_have_two_ranks_or_more_each(gpus: int, replicas: int, runs: bool) -> None:
    reason = (
        f"fsdp:replicate={replicas} does not split {gpus} ranks into replicas of two or more; "
        "give a smaller divisor of --gpus, or use ddp"
    )
    assert why(case(strategy=f"fsdp:replicate={replicas}", gpus=gpus)) == (None if runs else reason)


@pytest.mark.parametrize(
    ("gpus", "options", "group", "ranks"),
    [
        *[(4, "reshard=2", 2, None), (8, "reshard=4", 4, None), (6, "reshard=3", 3, None), (4, "reshard=off", 0, None)],
        *[(4, "reshard=3", 3, 4), (4, "reshard=4", 4, 4), (4, "reshard=8", 8, 4), (2, "reshard=2", 2, 2)],
        (1, "reshard=2", 2, 1),
        (8, "reshard=2:replicate=2", 2, None),  # four ranks a replica
        (8, "reshard=4:replicate=2", 4, 4),
        (8, "reshard=2:replicate=4", 2, 2),
        (1, "reshard=off", 0, None),
    ],
)
def test_reshard_takes_a_proper_divisor_of_what_a_replica_is_sharded_over(
    gpus: int, options: str, group: int, ranks: int | None
) -> None:
    reason = (
        f"fsdp:reshard={group} is no proper divisor of the {ranks} ranks that a replica is sharded over; "
        "reshard=on frees all, reshard=off nothing"
    )
    assert why(case(strategy=f"fsdp:{options}", gpus=gpus)) == (reason if ranks else None)


def test_replicas_that_do_not_divide_are_told_before_what_they_are_sharded_over() -> None:
    assert str(why(case(strategy="fsdp:reshard=2:replicate=8", gpus=4))).startswith("fsdp:replicate=8 does not split 4")


def test_static_graph_and_accumulation() -> None:
    reason = (
        "under no_sync, DDP's static graph leaves out the all-reduce or fails (pytorch/pytorch#187732); "
        "use ddp:static-graph=off"
    )
    assert why(case(strategy="ddp:static-graph=on", grad_accum_steps=2)) == reason
    zero1 = case(strategy="zero1:static-graph=on", grad_accum_steps=2)
    assert why(zero1) == reason.replace("use ddp", "use zero1")
    assert why(case(strategy="ddp:static-graph=on", grad_accum_steps=1)) is None
    assert why(case(strategy="ddp:bucket-view=on", grad_accum_steps=2)) is None


def test_static_graph_finds_unused_parameters_itself() -> None:
    reason = "DDP's static graph finds unused parameters itself; use ddp:find-unused=off"
    assert why(case(strategy="ddp:static-graph=on:find-unused=on")) == reason
    assert why(case(strategy="ddp:find-unused=on", grad_accum_steps=2)) is None


def test_binding_needs_the_command_that_torch_binds_by() -> None:
    bound = case(device="cuda", numa_binding="node")
    facts = Facts(Machine((A100, A100)), numactl=False)
    assert (
        refusal(bound, facts) == "NUMA binding needs the command numactl, which this machine does not have; install it"
    )
    assert refusal(bound, dataclasses.replace(facts, numactl=True)) is None
    assert refusal(dataclasses.replace(bound, numa_binding="off"), facts) is None


def test_binding_would_take_data_parallel_to_its_first_gpu() -> None:
    reason = "NUMA binding would place the one process of dp near its first GPU and far from the others"
    assert why(case(strategy="dp", device="cuda", numa_binding="node"), A100, A100) == reason
    assert why(case(strategy="dp", device="cuda", numa_binding="node", gpus=1), A100) is None
    assert why(case(strategy="dp", device="cuda", numa_binding="off"), A100, A100) is None


def test_offloaded_gradients_are_not_scaled() -> None:
    reason = (
        "GradScaler copies its scale to the host asynchronously, so offloaded gradients may be divided by an old "
        "scale; use amp-bf16"
    )
    assert why(case(strategy="fsdp:offload=cpu", device="cuda", precision="amp-fp16"), A100) == reason
    assert why(case(strategy="fsdp:offload=cpu", device="cuda", precision="amp-bf16"), A100) is None
    assert why(case(strategy="fsdp", device="cuda", precision="amp-fp16"), A100) is None


def test_ranks_that_share_a_gpu_cannot_be_bound_to_their_own() -> None:
    shared = case(device="cuda", oversubscribe=True, numa_binding="node")
    assert (
        why(shared, A100)
        == "NUMA binding assigns rank N to GPU N, and with --oversubscribe there are more ranks than GPUs"
    )
    assert why(dataclasses.replace(shared, numa_binding="off"), A100) is None
    assert why(dataclasses.replace(shared, numa_binding=None), A100) is None
    assert why(dataclasses.replace(shared, oversubscribe=False), A100) is None


# -- precision --------------------------------------------------------------------------------------------------

NO_TENSOR_CORES = "TF32 is a mode of NVIDIA's tensor cores; the CPU has none"
TF32, BF16 = (f"{what} needs compute capability 8.0 (Ampere) or newer" for what in ("TF32", "bfloat16"))


@pytest.mark.parametrize(
    ("precision", "on_cpu", "on_t4", "on_a100"),
    [
        ("fp32", None, None, None),
        ("tf32", NO_TENSOR_CORES, TF32, None),
        ("amp-bf16", None, BF16, None),
        ("amp-fp16", None, None, None),
        ("bf16", None, BF16, None),
    ],
)
def test_precisions_need_the_hardware_for_them(
    precision: str, on_cpu: str | None, on_t4: str | None, on_a100: str | None
) -> None:
    assert why(case(precision=precision)) == on_cpu
    assert why(case(precision=precision), T4) == on_cpu  # a GPU that is there, and not used
    assert why(case(precision=precision, device="cuda"), T4) == on_t4
    assert why(case(precision=precision, device="cuda"), A100, T4) == on_t4
    assert why(case(precision=precision, device="cuda"), A100, A100) == on_a100


# -- checkpointing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "selective", "every=2"])
def test_every_form_of_checkpointing_needs_layers(mode: str) -> None:
    wanted = case(activation_checkpointing=mode)
    assert why(wanted) is None
    assert why(wanted, description=description(layers=0)) == (
        "resnet18 names no layers to checkpoint: its layers() is empty"
    )
    assert why(wanted, description=description(layers=2)) is None


def test_every_must_reach_a_layer() -> None:
    fifth = case(activation_checkpointing="every=5")
    assert why(fifth) is None
    assert why(fifth, description=description(layers=5)) is None  # the last
    assert why(fifth, description=description(layers=4)) == "every=5 reaches none of the 4 layers of resnet18"
    for mode in ("none", "full", "selective"):
        assert why(case(activation_checkpointing=mode), description=description(layers=1)) is None


# -- compile ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["default", "max-autotune"])
def test_compiling_needs_a_compiler(mode: str) -> None:
    lacks = "a C++ compiler (g++) and Python's headers (python3-dev)"
    assert why(case(compile=mode), lacks=lacks) == f"torch.compile needs {lacks}"
    assert why(case(compile=mode)) is None
    assert why(case(compile="off"), lacks=lacks) is None


def test_compiling_needs_volta() -> None:
    reason = "torch.compile's Triton needs compute capability 7.0 (Volta) or newer"
    assert why(case(compile="default", device="cuda"), P100) == reason
    assert why(case(compile="default", device="cuda"), V100, P100) == reason
    assert why(case(compile="default", device="cuda"), V100) is None
    assert why(case(compile="default"), P100) is None  # on the CPU
    assert why(case(device="cuda"), P100) is None


def test_data_parallel_is_not_compiled_on_several_gpus() -> None:
    reason = "under nn.DataParallel on several GPUs torch.compile falls back to eager (pytorch/pytorch#94636); use ddp"
    assert why(case(strategy="dp", device="cuda", compile="default"), A100) == reason
    assert why(case(strategy="dp", device="cuda", compile="default"), A100, lacks="a compiler") == reason
    assert why(case(strategy="dp", device="cuda", compile="default", gpus=1), A100) is None
    assert why(case(strategy="ddp", device="cuda", compile="default"), A100) is None


def test_static_graph_is_not_compiled() -> None:
    assert why(case(strategy="ddp:static-graph=on", compile="default")) == (
        "torch.compile's DDP support does not include static graphs (torchdynamo#1237); use ddp:static-graph=off"
    )
    assert why(case(strategy="ddp:bucket-view=on", compile="default")) is None
    assert why(case(strategy="fsdp", compile="default")) is None
    assert why(case(strategy="single", gpus=1, compile="default")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "ddp:bucket-mb=1:bucket-view=on:hook=fp16", "grad_accum_steps": 4, "max_grad_norm": 1.0},
        {"strategy": "fsdp:reduce=bf16", "precision": "amp-fp16", "optimizer": "sgd", "grad_accum_steps": 2},
        {"strategy": "ddp", "channels_last": True, "deterministic": True, "env": "A=1", "compile": "max-autotune"},
        {"strategy": "single", "gpus": 1, "precision": "bf16", "activation_checkpointing": "every=2"},
    ],
)
def test_everything_else_runs(changes: dict[str, Any]) -> None:
    assert why(case(**changes), description=description(data=("resident",), layers=4)) is None
    on_gpu = {"device": "cuda", "cudnn_benchmark": False, "numa_binding": "exclusive"}
    assert why(case(**changes, **on_gpu), A100, description=description(data=("resident",), layers=4)) is None


# -- tensor parallel -----------------------------------------------------------------------------------------------


def tensor(strategy: str = "ddp:tp=2", gpus: int = 4, **axes: Any) -> Case:
    return case(**{"workload": "gpt", "strategy": strategy, "gpus": gpus, **axes})


DIVIDED = description(data=("resident",), max_split=4)


@pytest.mark.parametrize("strategy", ["ddp:tp=2", "ddp:tp=4", "ddp:bucket-mb=1:bucket-view=on:tp=2", "fsdp:tp=2"])
@pytest.mark.parametrize("loss", ["", ":loss-parallel=on"])
@pytest.mark.parametrize(
    "axes", [{}, {"optimizer": "sgd:for-loop"}, {"precision": "bf16"}, {"activation_checkpointing": "full"}]
)
def test_what_tensor_parallel_was_shown_to_train(strategy: str, loss: str, axes: dict[str, Any]) -> None:
    assert why(tensor(strategy + loss, **axes), description=DIVIDED) is None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (tensor("ddp:loss-parallel=on"), "and there is none; give tp=2 or more as well"),
        (tensor("ddp:tp=3"), "tp=3 does not divide 4 ranks into groups"),
        (tensor("ddp:tp=8"), "tp=8 does not divide 4 ranks into groups"),
        (tensor("fsdp:tp=4"), "tp=4 leaves one data rank of 4, and fsdp nothing to shard; use ddp:tp=4"),
        (tensor("fsdp:replicate=2:tp=2"), "does not split 2 data ranks into replicas of two or more"),
        (tensor("fsdp:reshard=2:tp=2", 8), "has reshard=2 with tp=2, which has not been shown"),
        (tensor("fsdp:offload=cpu:tp=2", device="cuda"), "has offload=cpu with tp=2"),
        (tensor("fsdp:reduce=fp32:tp=2"), "has reduce=fp32 with tp=2"),
        (tensor("ddp:hook=bf16:find-unused=on:tp=2"), "has find-unused=on and hook=bf16 with tp=2"),
        (tensor("ddp:static-graph=on:tp=2"), "has static-graph=on with tp=2"),
        (tensor(fake_ranks=True), "tp=2 runs on fake ranks, which has not"),
        (tensor(oversubscribe=True, device="cuda"), "tp=2 runs on ranks that share a GPU, which has not"),
        (tensor("ddp:tp=8", 8), "tp=8 does not divide max_split of gpt, which is 4"),
        (tensor(compile="default"), "torch.compile fails with some models under tp=2 (torch 2.14, DTensor: "),
        (tensor(precision="amp-fp16"), "GradScaler looks for infinities"),
        (tensor(channels_last=True), "--channels-last on is used with tp=2"),
        (tensor("fsdp:tp=2", init="meta"), "--init meta fills parts of a model under tp=2"),
        (tensor(optimizer="muon"), "--optimizer muon would see a part of the model under tp=2"),
        (tensor(optimizer="adam"), "use adamw or sgd"),
    ],
)
def test_what_tensor_parallel_was_not_shown_to_train_is_refused(asked: Case, reason: str) -> None:
    assert reason in (why(asked, A100, A100, A100, A100, description=DIVIDED) or "")


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ({"max_split": None}, "gpt lacks split(model) and max_split"),
        ({"own_optimizer": True}, "gpt has its own optimizers(model) under tp=2"),
        ({"own_loader": True}, "gpt has its own loader(rank, world_size, batch_size) under tp=2"),
        ({"own_checkpointing": True}, "gpt has its own activation_checkpoint(model) under tp=2"),
        ({"own_step": True}, "gpt has its own step(model, batch, ctx) under tp=2"),
        ({"methods": {"": ["loss"]}}, "gpt has its own methods that its loss calls under tp=2"),
    ],
)
def test_members_that_tensor_parallel_needs_or_does_not_know(lacks: dict[str, Any], reason: str) -> None:
    assert reason in (why(tensor(), description=dataclasses.replace(DIVIDED, **lacks)) or "")
    assert why(tensor("ddp"), description=dataclasses.replace(DIVIDED, **lacks)) is None


# -- pipeline parallel ---------------------------------------------------------------------------------------------


def pipeline(strategy: str = "ddp:pp=2", gpus: int = 4, **axes: Any) -> Case:
    return case(**{"workload": "gpt", "strategy": strategy, "gpus": gpus, "grad_accum_steps": 4, **axes})


STAGED = description(data=("resident",), has_stages=True, layers=4)


@pytest.mark.parametrize(
    "strategy", ["ddp:pp=2", "ddp:pp=4:schedule=1f1b", "fsdp:pp=2:schedule=interleaved", "fsdp:reshard=off:pp=2"]
)
@pytest.mark.parametrize(
    "axes", [{}, {"optimizer": "sgd:for-loop"}, {"precision": "bf16"}, {"activation_checkpointing": "full"}]
)
def test_what_pipeline_parallel_was_shown_to_train(strategy: str, axes: dict[str, Any]) -> None:
    assert why(pipeline(strategy, **axes), description=STAGED) is None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (pipeline("ddp:schedule=1f1b"), "there is none; give pp=2 or more"),
        (pipeline("ddp:pp=3"), "pp=3 does not divide 4 ranks into groups"),
        (pipeline("ddp:tp=2:pp=2"), "has tp and pp together, which has not been shown"),
        (pipeline("fsdp:pp=4"), "pp=4 leaves one data rank of 4, and fsdp nothing to shard; use ddp:pp=4"),
        (pipeline("ddp:pp=2:schedule=interleaved"), "use fsdp, or gpipe or 1f1b"),
        (pipeline("ddp:pp=8", 8), "has 8 stages, and gpt only 4 layers"),
        (pipeline("fsdp:pp=4:schedule=interleaved", 8), "has 8 stages, and gpt only 4 layers"),
        (
            pipeline("ddp:pp=2:schedule=1f1b", grad_accum_steps=1),
            "give --grad-accum-steps 2 or more, or schedule=gpipe",
        ),
        (pipeline("fsdp:pp=2:schedule=interleaved", grad_accum_steps=5), "give --grad-accum-steps 4"),
        (pipeline("fsdp:reduce=fp32:pp=2"), "has reduce=fp32 with pp=2"),
        (pipeline("ddp:hook=bf16:pp=2"), "has hook=bf16 with pp=2"),
        (pipeline("fsdp:replicate=2:pp=2", 8), "has replicate=2 with pp=2"),
        (pipeline(fake_ranks=True), "pp=2 runs on fake ranks, which has not"),
        (pipeline(compile="default"), "--compile compiles around what ranks exchange under pp=2"),
        (pipeline(precision="amp-fp16"), "GradScaler looks for infinities"),
        (pipeline(channels_last=True), "--channels-last on is used with pp=2"),
        (pipeline("fsdp:pp=2", init="meta"), "--init meta fills parts of a model under pp=2"),
        (pipeline(optimizer="muon"), "--optimizer muon would see a part of the model under pp=2"),
    ],
)
def test_what_pipeline_parallel_was_not_shown_to_train_is_refused(asked: Case, reason: str) -> None:
    assert reason in (why(asked, description=STAGED) or "")


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ({"has_stages": False}, "gpt lacks stages(model, count) and inputs(batch)"),
        ({"own_step": True}, "gpt has its own step(model, batch, ctx) under pp=2"),
        ({"methods": {"": ["loss"]}}, "gpt has its own methods that its loss calls under pp=2"),
    ],
)
def test_members_that_pipeline_parallel_needs_or_does_not_know(lacks: dict[str, Any], reason: str) -> None:
    assert reason in (why(pipeline(), description=dataclasses.replace(STAGED, **lacks)) or "")


# -- float8, attention, offload, compile scope, saving ---------------------------------------------------------------

H100 = Gpu("GPU-h", "NVIDIA H100 80GB HBM3", 81559.0, (9, 0))
L4 = Gpu("GPU-l", "NVIDIA L4", 23034.0, (8, 9))


@pytest.mark.parametrize(
    ("asked", "gpus", "reason"),
    [
        (case(precision="fp8"), (), "--precision fp8 needs a GPU that multiplies float8; the CPU does not"),
        (
            case(precision="fp8", device="cuda"),
            (H100, A100),
            "the matrix products of float8 need compute capability 8.9",
        ),
        (case(precision="fp8", device="cuda"), (L4,), None),
        (case(precision="fp8-rowwise", device="cuda"), (L4,), "need compute capability 9.0 (Hopper) or newer"),
        (case(precision="fp8-rowwise", device="cuda"), (H100,), None),
        (
            case(precision="fp8", device="cuda", strategy="dp"),
            (H100, H100),
            "--precision fp8 is used with dp, which has",
        ),
        (case(precision="fp8", device="cuda", strategy="dp", gpus=1), (H100,), None),
        (case(precision="fp8", device="cuda", strategy="fsdp:reduce=bf16"), (H100,), None),
        (case(attention="flash"), (), None),
        (case(attention="math"), (), None),
        (case(attention="efficient"), (), "the CPU has no efficient kernel of attention; give auto, flash or math"),
        (case(attention="cudnn"), (), "the CPU has no cudnn kernel of attention"),
        (
            case(attention="flash", device="cuda"),
            (H100,),
            "the flash kernel of attention takes float16 and bfloat16 only",
        ),
        (
            case(attention="cudnn", device="cuda", precision="tf32"),
            (H100,),
            "the cudnn kernel of attention takes float16",
        ),
        (case(attention="efficient", device="cuda"), (H100,), None),
        (
            case(attention="flash", device="cuda", precision="amp-fp16"),
            (T4,),
            "the flash kernel of attention needs compute",
        ),
        (case(attention="flash", device="cuda", precision="amp-bf16"), (A100,), None),
        (case(attention="flash", device="cuda", precision="fp8"), (H100,), None),
        (
            case(activation_offload="cpu"),
            (),
            "moves activations from a GPU to the host; on the CPU they are there already",
        ),
        (case(activation_offload="cpu", device="cuda"), (T4,), None),
        (
            case(activation_offload="cpu", device="cuda", strategy="dp"),
            (T4, T4),
            "which do not offload activations; use ddp",
        ),
        (case(save_checkpoint="full", strategy="zero1"), (), None),
        (case(save_checkpoint="dcp", strategy="zero1"), (), "gives its state as a whole only"),
        (case(save_checkpoint="dcp-async", strategy="zero1"), (), "use --save-checkpoint full"),
        (case(save_checkpoint="dcp", fake_ranks=True), (), "fake ranks have no state that could be saved"),
        (case(save_checkpoint="dcp-async", strategy="fsdp:replicate=2", gpus=4), (), None),
    ],
)
def test_further_axes(asked: Case, gpus: tuple[Gpu, ...], reason: str | None) -> None:
    found = why(asked, *gpus, description=description(data=("resident",)))
    assert found is None if reason is None else reason in str(found)


def test_float8_needs_torchao_and_layers() -> None:
    asked = case(precision="fp8", device="cuda")
    facts = Facts(Machine((H100, H100)), torchao=False)
    assert (
        refusal(asked, facts) == "--precision fp8 needs torchao, which is not installed; pip install 'stepbench[fp8]'"
    )
    assert "names no layers, whose Linear modules" in str(
        why(asked, H100, description=description(layers=0, data=("resident",)))
    )


def test_compiling_blocks_needs_layers() -> None:
    without = description(layers=0, data=("resident",))
    asked = case(compile="default", compile_scope="block")
    assert why(asked, description=without) == "resnet18 names no layers to compile by themselves: its layers() is empty"
    assert why(dataclasses.replace(asked, compile_scope="model"), description=without) is None
    assert why(dataclasses.replace(asked, strategy="fsdp"), description=without) is None  # its whole model is a block
    assert why(asked, description=description(data=("resident",))) is None


@pytest.mark.parametrize("changes", [{"precision": "fp8"}, {"activation_offload": "cpu"}])
def test_what_was_not_shown_with_parts_of_a_model(changes: dict[str, Any]) -> None:
    for asked, known in ((tensor(device="cuda", **changes), DIVIDED), (pipeline(device="cuda", **changes), STAGED)):
        assert "which has not been shown to train the same" in str(why(asked, H100, description=known))


def test_an_own_step_is_not_shown_with_offload() -> None:
    own = description(own_step=True, data=("resident",))
    assert "has its own step(model, batch, ctx) under --activation-offload cpu" in str(
        why(case(activation_offload="cpu", device="cuda"), H100, description=own)
    )


@pytest.mark.parametrize("workload", ["bert", "vit-b-16", "resnet18", "gpt-nano", "llama-8b", "mlp"])
def test_a_built_in_workload_is_known_to_lack_what_divides_it_before_torch_is_asked(workload: str) -> None:
    entry = WORKLOADS[workload]
    for strategy, way in (("ddp:tp=2", "tp"), ("ddp:pp=2", "pp")):
        found = why(case(workload=workload, strategy=strategy))
        assert (found is None) == (way in entry.parallel), found
        assert found is None or found.startswith(f"{workload} lacks ")
