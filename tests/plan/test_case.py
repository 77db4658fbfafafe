"""A case and its id."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from plain_case import PLAIN

from bench.plan.case import Case


def case(**changes: Any) -> Case:
    return dataclasses.replace(PLAIN, **changes)


LOADER: dict[str, Any] = {"num_workers": 2, "pin_memory": True, "prefetch_factor": 2, "persistent_workers": True}

# What is hashed, written by hand as JSON: the four axes that are always there, the batch size, and what differs from
# the defaults; keys sorted. The ids are frozen: rows of older versions must keep theirs.
GOLDEN = [
    (
        case(),
        '{"batch_size": 32, "device": "cpu", "gpus": 2, "strategy": "ddp", "workload": "resnet18"}',
        "resnet18-ddp-x2-cpu-05b98454",
    ),
    (
        case(workload="gpt-nano:layers=2", strategy="single", gpus=1, device="cuda", batch_size=4),
        '{"batch_size": 4, "device": "cuda", "gpus": 1, "strategy": "single", "workload": "gpt-nano:layers=2"}',
        "gpt-nano-layers-2-single-x1-cuda-b4-3d2c17f8",
    ),
    (
        case(device="cuda", data="synthetic", **LOADER),
        '{"batch_size": 32, "data": "synthetic", "device": "cuda", "gpus": 2, "strategy": "ddp", '
        '"workload": "resnet18"}',
        "resnet18-ddp-x2-cuda-synthetic-b82a9822",
    ),
    (
        case(
            strategy="fsdp",
            device="cuda",
            precision="amp-bf16",
            activation_checkpointing="full",
            batch_size=8,
            data="folder=/a/My Photos",
            num_workers=4,
            pin_memory=False,
            prefetch_factor=3,
            persistent_workers=False,
            omp_num_threads=3,
            seed=7,
        ),
        '{"activation_checkpointing": "full", "batch_size": 8, "data": "folder=/a/My Photos", "device": "cuda", '
        '"gpus": 2, "num_workers": 4, "omp_num_threads": 3, "persistent_workers": false, "pin_memory": false, '
        '"precision": "amp-bf16", "prefetch_factor": 3, "seed": 7, "strategy": "fsdp", "workload": "resnet18"}',
        "resnet18-fsdp-x2-cuda-amp-bf16-ac-full-b8-folder-my-photos-w4-pin-memory-off-prefetch-factor-3-"
        "persistent-workers-off-omp3-seed7-fd4acf83",
    ),
    (
        case(device="cuda", gpus=4, oversubscribe=True),
        '{"batch_size": 32, "device": "cuda", "gpus": 4, "oversubscribe": true, "strategy": "ddp", '
        '"workload": "resnet18"}',
        "resnet18-ddp-x4-cuda-oversubscribe-0c108af1",
    ),
    (
        case(workload="/home/me/nets.py:Net:depth=3", batch_size=None),
        '{"device": "cpu", "gpus": 2, "strategy": "ddp", "workload": "/home/me/nets.py:Net:depth=3"}',
        "nets-py-net-depth-3-ddp-x2-cpu-43cae353",
    ),
    (
        case(
            strategy="fsdp:reshard=off:reduce=bf16",
            gpus=4,
            device="cuda",
            precision="tf32",
            activation_checkpointing="every=2",
            compile="max-autotune",
            grad_accum_steps=4,
            max_grad_norm=0.5,
            optimizer="sgd",
            channels_last=True,
            deterministic=True,
            cudnn_benchmark=False,
            numa_binding="core-complex",
            env="NCCL_ALGO=Ring 'X=a b'",
        ),
        '{"activation_checkpointing": "every=2", "batch_size": 32, "channels_last": true, "compile": "max-autotune", '
        '"cudnn_benchmark": false, "deterministic": true, "device": "cuda", "env": "NCCL_ALGO=Ring \'X=a b\'", '
        '"gpus": 4, "grad_accum_steps": 4, "max_grad_norm": 0.5, "numa_binding": "core-complex", "optimizer": "sgd", '
        '"precision": "tf32", "strategy": "fsdp:reshard=off:reduce=bf16", "workload": "resnet18"}',
        "resnet18-fsdp-reshard-off-reduce-bf16-x4-cuda-tf32-ac-every-2-compile-max-autotune-accum4-clip0-5-sgd-"
        "channels-last-deterministic-cudnn-benchmark-off-numa-core-complex-nccl-algo-ring-x-a-b-42809169",
    ),
    (
        case(strategy="dp", device="cuda", cudnn_benchmark=True, numa_binding="off"),
        '{"batch_size": 32, "device": "cuda", "gpus": 2, "strategy": "dp", "workload": "resnet18"}',
        "resnet18-dp-x2-cuda-ed476820",
    ),
]


@pytest.mark.parametrize(("given", "hashed", "golden"), GOLDEN)
def test_id_is_a_slug_of_what_differs_and_a_hash_of_the_same(given: Case, hashed: str, golden: str) -> None:
    assert given.case_id == golden
    assert golden.endswith("-" + hashlib.sha256(hashed.encode()).hexdigest()[:8])


DEFAULTS: dict[str, Any] = {
    **{"compile": "off", "grad_accum_steps": 1, "max_grad_norm": 0.0, "optimizer": "adamw", "channels_last": False},
    **{"deterministic": False, "cudnn_benchmark": True, "numa_binding": "off", "env": ""},
}


@pytest.mark.parametrize(("given", "hashed", "golden"), GOLDEN[:6])
def test_axes_of_a_later_version_at_their_defaults_or_empty_leave_an_id_as_it_was(
    given: Case, hashed: str, golden: str
) -> None:
    assert dataclasses.replace(given, **DEFAULTS).case_id == golden
    assert dataclasses.replace(given, channels_last=None, cudnn_benchmark=None, numa_binding=None).case_id == golden


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "fsdp:reshard=2:replicate=4"}, "resnet18-fsdp-reshard-2-replicate-4-x2-cpu"),
        ({"strategy": "ddp:bucket-mb=50:hook=fp16"}, "resnet18-ddp-bucket-mb-50-hook-fp16-x2-cpu"),
        ({"precision": "amp-fp16"}, "resnet18-ddp-x2-cpu-amp-fp16"),
        ({"precision": "bf16"}, "resnet18-ddp-x2-cpu-bf16"),
        ({"activation_checkpointing": "selective"}, "resnet18-ddp-x2-cpu-ac-selective"),
        ({"activation_checkpointing": "every=12"}, "resnet18-ddp-x2-cpu-ac-every-12"),
        ({"compile": "default"}, "resnet18-ddp-x2-cpu-compile-default"),
        ({"attention": "math"}, "resnet18-ddp-x2-cpu-attention-math"),
        ({"activation_offload": "cpu"}, "resnet18-ddp-x2-cpu-offload-cpu"),
        ({"save_checkpoint": "dcp-async"}, "resnet18-ddp-x2-cpu-save-dcp-async"),
        ({"grad_accum_steps": 8}, "resnet18-ddp-x2-cpu-accum8"),
        ({"max_grad_norm": 0.25}, "resnet18-ddp-x2-cpu-clip0-25"),
        ({"optimizer": "sgd"}, "resnet18-ddp-x2-cpu-sgd"),
        ({"channels_last": True}, "resnet18-ddp-x2-cpu-channels-last"),
        ({"deterministic": True}, "resnet18-ddp-x2-cpu-deterministic"),
        ({"cudnn_benchmark": False}, "resnet18-ddp-x2-cpu-cudnn-benchmark-off"),
        ({"numa_binding": "node"}, "resnet18-ddp-x2-cpu-numa-node"),
        ({"env": "NCCL_ALGO=Ring"}, "resnet18-ddp-x2-cpu-nccl-algo-ring"),
        ({"env": "'LD_PRELOAD=/usr/lib/libtcmalloc.so' Z="}, "resnet18-ddp-x2-cpu-ld-preload-usr-lib-libtcmalloc-so-z"),
        ({"seed": 7, "compile": "default", "env": "A=1"}, "resnet18-ddp-x2-cpu-seed7-compile-default-a-1"),
    ],
)
def test_words_of_a_slug(changes: dict[str, Any], words: str) -> None:
    assert case(**changes).case_id.rpartition("-")[0] == words


@pytest.mark.parametrize(("strategy", "own"), [("ddp", "model"), ("single", "model"), ("fsdp", "block")])
def test_the_scope_that_a_strategy_compiles_anyway_is_not_in_the_id(strategy: str, own: str) -> None:
    """As it was not in those of versions without the axis."""
    compiled = case(strategy=strategy, compile="default")
    other = "model" if own == "block" else "block"
    assert dataclasses.replace(compiled, compile_scope=own).case_id == compiled.case_id
    assert f"-compile-scope-{other}-" in dataclasses.replace(compiled, compile_scope=other).case_id


def test_words_that_look_alike_have_other_hashes() -> None:
    alike = [
        [{"env": "A=b_c"}, {"env": "A=b-c"}, {"env": "'A=b c'"}, {"env": "A_B=c"}, {"env": "A=B-C"}, {"env": "A= B=c"}],
        [{"max_grad_norm": 1e20}, {"max_grad_norm": 1e-20}],
        [{"env": "A=é"}, {"env": "A=è"}, {"env": "A="}],
    ]
    for changes in alike[:1]:
        assert {case(**change).case_id.rpartition("-")[0] for change in changes[:5]} == {"resnet18-ddp-x2-cpu-a-b-c"}
    for changes in alike:
        ids = [case(**change).case_id for change in changes]
        assert len(set(ids)) == len(ids)


def test_batch_size_of_the_workload_itself_is_not_in_the_slug() -> None:
    assert "-b" not in case(batch_size=32).case_id  # resnet18's own
    assert "-b16-" in case(batch_size=16).case_id


def test_batch_size_of_an_own_workload_is_in_the_slug() -> None:
    assert case(workload="net.py:Net", batch_size=32).case_id.startswith("net-py-net-ddp-x2-cpu-b32-")


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": "resnet18:size=64"},
        {"strategy": "fsdp"},
        {"gpus": 3},
        {"device": "cuda"},
        {"precision": "amp-bf16"},
        {"activation_checkpointing": "full"},
        {"batch_size": 31},
        {"data": "synthetic"},
        {"num_workers": 0},
        {"pin_memory": False},
        {"prefetch_factor": 1},
        {"persistent_workers": False},
        {"omp_num_threads": 2},
        {"seed": 1},
        {"strategy": "dp"},
        {"strategy": "ddp:bucket-mb=24"},
        {"strategy": "ddp:static-graph=on"},
        {"strategy": "ddp:bucket-view=on"},
        {"strategy": "ddp:hook=bf16"},
        {"compile": "default"},
        {"compile": "max-autotune"},
        {"grad_accum_steps": 2},
        {"max_grad_norm": 1e-300},
        {"optimizer": "sgd"},
        {"channels_last": True},
        {"deterministic": True},
        {"cudnn_benchmark": False},
        {"numa_binding": "node"},
        {"env": "A="},
        {"oversubscribe": True},
    ],
)
def test_every_axis_changes_the_id(changes: dict[str, Any]) -> None:
    assert case(**changes).case_id != PLAIN.case_id


def test_two_folders_of_one_name_have_two_ids() -> None:
    here, there = case(data="folder=/a/cats", **LOADER).case_id, case(data="folder=/b/cats", **LOADER).case_id
    assert here.rpartition("-")[0] == there.rpartition("-")[0] == "resnet18-ddp-x2-cpu-folder-cats"
    assert here != there


@pytest.mark.parametrize(
    ("strategy", "gpus", "accumulate", "world_size", "devices", "rank_batch", "global_batch"),
    [
        # 32 samples a device and micro-batch
        ("single", 4, 1, 1, 1, 32, 32),
        ("single", 1, 3, 1, 1, 32, 96),
        ("dp", 4, 1, 1, 4, 128, 128),
        ("dp", 4, 3, 1, 4, 128, 384),
        ("dp", 1, 1, 1, 1, 32, 32),
        ("ddp", 4, 1, 4, 4, 32, 128),
        ("ddp:hook=fp16", 3, 5, 3, 3, 32, 480),
        ("fsdp:replicate=2", 4, 1, 4, 4, 32, 128),
        ("fsdp", 1, 2, 1, 1, 32, 64),
        # ranks of one group of tp train the same samples
        ("ddp:tp=2", 2, 1, 2, 2, 32, 32),
        ("ddp:tp=2", 4, 3, 4, 4, 32, 192),
        ("fsdp:replicate=2:tp=2", 8, 1, 8, 8, 32, 128),
    ],
)
def test_ranks_devices_and_batches(
    strategy: str, gpus: int, accumulate: int, world_size: int, devices: int, rank_batch: int, global_batch: int
) -> None:
    asked = case(strategy=strategy, gpus=gpus, device="cuda", grad_accum_steps=accumulate)
    assert (asked.world_size, asked.devices) == (world_size, devices)
    assert (asked.rank_batch, asked.global_batch) == (rank_batch, global_batch)
    unknown = dataclasses.replace(asked, batch_size=None)
    assert (unknown.rank_batch, unknown.global_batch) == (None, None)


@pytest.mark.parametrize(
    ("strategy", "gpus", "mesh", "data_ranks"),
    [
        ("single", 4, (1, 1, 1, 1), 1),
        ("ddp", 4, (1, 4, 1, 1), 4),
        ("zero1", 2, (1, 2, 1, 1), 2),
        ("fsdp", 4, (1, 1, 4, 1), 4),
        ("fsdp:replicate=2", 4, (1, 2, 2, 1), 4),
        ("ddp:tp=4", 4, (1, 1, 1, 4), 1),
        ("ddp:tp=2", 8, (1, 4, 1, 2), 4),
        ("fsdp:tp=2", 8, (1, 1, 4, 2), 4),
        ("fsdp:replicate=2:tp=2", 8, (1, 2, 2, 2), 4),
        ("ddp:pp=4", 4, (4, 1, 1, 1), 1),
        ("ddp:pp=2", 8, (2, 4, 1, 1), 4),
        ("fsdp:pp=2:schedule=interleaved", 8, (2, 1, 4, 1), 4),
    ],
)
def test_dimensions_of_the_mesh(strategy: str, gpus: int, mesh: tuple[int, ...], data_ranks: int) -> None:
    asked = case(strategy=strategy, gpus=gpus)
    assert tuple(asked.mesh.items()) == tuple(zip(("pipeline", "replicate", "shard", "tensor"), mesh, strict=True))
    assert (asked.data_ranks, asked.pipeline_ranks, asked.tensor_ranks) == (data_ranks, mesh[0], mesh[-1])


@pytest.mark.parametrize(
    ("strategy", "stages"),
    [("ddp", 1), ("ddp:tp=2", 1), ("ddp:pp=2:schedule=1f1b", 2), ("fsdp:pp=2:schedule=interleaved", 4)],
)
def test_stages_of_a_pipeline(strategy: str, stages: int) -> None:
    assert case(strategy=strategy, gpus=4).stages == stages


@pytest.mark.parametrize(
    ("env", "environment"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A= B=x=y", {"A": "", "B": "x=y"}),
        ("'A=a b' 'B=it'\"'\"'s'", {"A": "a b", "B": "it's"}),
        ("'A=$HOME \\'", {"A": "$HOME \\"}),
        ("'A= '", {"A": " "}),
    ],
)
def test_environment_is_read_from_its_words(env: str, environment: dict[str, str]) -> None:
    assert case(env=env).environment == environment


def test_strategy_is_understood() -> None:
    spread = case(strategy="fsdp:offload=cpu").spread
    of_fsdp = {"reshard": "on", "replicate": "1", "offload": "cpu", "reduce": "own"}
    of_model = {"tp": "1", "loss-parallel": "off", "pp": "1", "schedule": "gpipe"}
    assert (spread.name, spread.options) == ("fsdp", of_fsdp | of_model)


def test_single_has_one_rank_whatever_was_asked() -> None:
    assert case(strategy="single", gpus=4).world_size == 1
    assert case(strategy="single", gpus=4).global_batch == 32  # 32 x 1


def test_global_batch_is_that_of_all_ranks() -> None:
    assert case(gpus=3).world_size == 3
    assert case(gpus=3).global_batch == 96  # 32 x 3
    assert case(batch_size=None).global_batch is None


def test_kind_of_data_is_what_stands_before_the_path() -> None:
    assert case(data="folder=/a=b/c").data_kind == "folder"
    assert case(data="synthetic").data_kind == "synthetic"
