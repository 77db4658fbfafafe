"""What a row says about its surroundings, and the two keys that say what may be compared."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from plain import PLAIN

import bench
from bench.devices import Machine
from bench.environment import env_key, host_facts, installed, settings, work_key
from bench.record import FILES

ROW: dict[str, Any] = {
    "cpu_model": "AMD EPYC 9654",
    "cpu_cores": 96,
    "cpu_threads": 192,
    "ram_gib": 755.2,
    "device_name": "NVIDIA H100 80GB HBM3",
    "driver": "550.54",
    "python": "3.11.7",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "cuda": "12.8",
    "cudnn": "91002",
    "nccl": "2.27.3",
    "settings": '{"OMP_NUM_THREADS": "1"}',
    "hostname": "node1",
    "device_uuids": "GPU-a;GPU-b",
    "samples_per_s": 711.0,
    "strategy": "ddp",
}


def key(data: str = "resident", **changes: Any) -> str:
    return work_key(dataclasses.replace(PLAIN, **changes), data)


def twelve_digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# -- work_key ---------------------------------------------------------------------------------------------------


def test_work_key_hashes_target_options_data_and_global_batch() -> None:
    # global batch: 32 x 2; the version of the measurement: 1
    by_hand = '["workloads.resnet:ResNet", {"classes": 1000, "size": 224}, "resident", 64, 1]'
    assert key() == twelve_digits(by_hand) == "650b52741bfe"


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "fsdp"},
        {"precision": "amp-bf16"},
        {"activation_checkpointing": "full"},
        {"device": "cuda", "oversubscribe": True},
        {"omp_num_threads": 4},
        {"seed": 3},
        {"num_workers": 4},
        {"gpus": 4, "batch_size": 16},  # 4 x 16 = 2 x 32
        {"strategy": "single", "gpus": 1, "batch_size": 64},
        {"workload": "resnet18:size=224"},  # the default
    ],
)
def test_work_is_the_same_however_it_is_done(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": "mlp"},
        {"workload": "resnet18:size=64"},
        {"batch_size": 16},
        {"gpus": 4},
        {"strategy": "single"},  # one rank of 32 samples
        {"data": "synthetic"},
        {"data": "folder:0123456789abcdef"},
    ],
)
def test_other_work_has_another_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_names_of_one_model_are_the_same_work() -> None:
    assert key(workload="gpt", batch_size=16) == key(workload="gpt-nano", batch_size=16)


def test_own_file_is_the_same_work_wherever_it_lies() -> None:
    here, there = key(workload="net.py:Net:depth=3"), key(workload="/home/me/net.py:Net:depth=3")
    assert here == there == twelve_digits('["net.py:Net", {"depth": 3}, "resident", 64, 1]')
    assert here != key(workload="net.py:Other:depth=3")
    assert here != key(workload="net.py:Net:depth=4")


def test_options_in_another_order_are_the_same_work() -> None:
    assert key(workload="net.py:Net:a=1:b=2") == key(workload="net.py:Net:b=2:a=1")


# -- env_key ----------------------------------------------------------------------------------------------------


def test_env_key_hashes_machine_software_and_settings() -> None:
    by_hand = (
        '[{"OMP_NUM_THREADS": "1"}, "AMD EPYC 9654", 96, 192, 755.2, "NVIDIA H100 80GB HBM3", "550.54", "3.11.7", "2.11.0", "0.26.0", "12.8", '
        '"91002", "2.27.3"]'
    )
    assert env_key(ROW) == twelve_digits(by_hand)


@pytest.mark.parametrize(
    ("column", "value"),
    [("hostname", "node2"), ("device_uuids", "GPU-c;GPU-d"), ("samples_per_s", 1.0), ("strategy", "fsdp")],
)
def test_env_key_ignores(column: str, value: object) -> None:
    assert env_key({**ROW, column: value}) == env_key(ROW)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("torch", "2.11.1"),
        ("cuda", None),
        ("driver", "560.1"),
        ("device_name", "NVIDIA H200"),
        ("cpu_model", "Intel Xeon"),
        ("cpu_cores", 48),
        ("settings", '{"OMP_NUM_THREADS": "2"}'),
    ],
)
def test_env_key_depends_on(column: str, value: object) -> None:
    assert env_key({**ROW, column: value}) != env_key(ROW)


# -- facts ------------------------------------------------------------------------------------------------------


def test_settings_are_those_that_steer_libraries_sorted() -> None:
    environment = {"OMP_NUM_THREADS": "1", "HOME": "/root", "NCCL_DEBUG": "INFO", "MY_OMP_X": "no", "CUDA_CACHE": 'a"b'}
    assert settings(environment) == r'{"CUDA_CACHE": "a\"b", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"}'
    assert settings({}) == "{}"


def test_installed_asks_for_versions_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"torch": "2.11.0", "pandas": "3.0", "numpy": "2.4"}

    def version(package: str) -> str:
        if package not in known:
            raise importlib.metadata.PackageNotFoundError(package)
        return known[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert installed() == {**known, "torchvision": "", "nvidia-ml-py": ""}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit; it is also the current folder."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(tmp_path, "init", "-q")
    (tmp_path / "net.py").write_text("one\n")
    git(tmp_path, "add", "net.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_facts_of_the_host_name_its_commit(checkout: Path) -> None:
    facts = host_facts(Machine(driver="550.54"), {"NCCL_DEBUG": "INFO", "HOME": "/root"})
    assert facts["work_commit"] == git(checkout, "rev-parse", "HEAD")
    assert facts["work_dirty"] is False
    assert facts["driver"] == "550.54"
    assert json.loads(facts["settings"]) == {"NCCL_DEBUG": "INFO"}
    assert facts["tool_version"] == bench.__version__
    assert set(facts) <= set(FILES["launches.csv"])


def test_checkout_is_dirty_if_a_tracked_file_differs(checkout: Path) -> None:
    (checkout / "new.py").touch()  # untracked
    assert host_facts(Machine(), {})["work_dirty"] is False
    (checkout / "net.py").write_text("two\n")
    assert host_facts(Machine(), {})["work_dirty"] is True


def test_folder_that_is_no_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = host_facts(Machine(), {})
    assert (facts["work_commit"], facts["work_dirty"]) == ("", None)


def test_env_key_does_not_ask_which_devices() -> None:
    two = [json.dumps({"CUDA_VISIBLE_DEVICES": which, "NCCL_ALGO": "Ring"}) for which in ("0", "1")]
    first, second = (env_key({**ROW, "settings": settings}) for settings in two)
    assert first == second != env_key({**ROW, "settings": json.dumps({"NCCL_ALGO": "Tree"})})
