"""A case and its id."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from plain import PLAIN

from bench.case import Case


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
]


@pytest.mark.parametrize(("given", "hashed", "golden"), GOLDEN)
def test_id_is_a_slug_of_what_differs_and_a_hash_of_the_same(given: Case, hashed: str, golden: str) -> None:
    assert given.case_id == golden
    assert golden.endswith("-" + hashlib.sha256(hashed.encode()).hexdigest()[:8])


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
        {"oversubscribe": True},
    ],
)
def test_every_axis_changes_the_id(changes: dict[str, Any]) -> None:
    assert case(**changes).case_id != PLAIN.case_id


def test_two_folders_of_one_name_have_two_ids() -> None:
    here, there = case(data="folder=/a/cats", **LOADER).case_id, case(data="folder=/b/cats", **LOADER).case_id
    assert here.rpartition("-")[0] == there.rpartition("-")[0] == "resnet18-ddp-x2-cpu-folder-cats"
    assert here != there


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
