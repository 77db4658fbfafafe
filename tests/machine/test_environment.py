"""What a row says about its surroundings, and the two keys that say what may be compared."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_case import PLAIN

import bench
from bench.machine.environment import _cpu_model, compiler_lacks, host_facts, installed, settings
from bench.machine.gpus import Machine
from bench.plan.options import SETTINGS
from bench.plan.work_key import work_key
from bench.store.columns import FILES
from bench.store.env_key import MEASURED_BY, env_key

MEASURED: dict[str, Any] = {name: option.default for name, option in SETTINGS.items()}
ROW: dict[str, Any] = {
    "cpu_model": "AMD EPYC 9654",
    "cpu_cores": 96,
    "cpu_threads": 192,
    "cpus_allowed": 192,
    "cpu_quota": None,
    "ram_gib": 755.2,
    "device_name": "NVIDIA H100 80GB HBM3",
    "driver": "550.54",
    "python": "3.11.7",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "cuda": "12.8",
    "cudnn": "91002",
    "nccl": "2.27.3",
    **MEASURED,
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
    # global batch: 32 x 2; the version of the measurement: 2
    by_hand = '["workloads.resnet:ResNet", {"classes": 1000, "size": 224}, "resident", 64, 2]'
    assert key() == "w" + twelve_digits(by_hand) == "w90f9f6fa2ea3"


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
        {"batch_size": 16, "grad_accum_steps": 2},  # 16 x 2 x 2
        {"batch_size": 4, "gpus": 4, "grad_accum_steps": 4},  # 4 x 4 x 4
        {"strategy": "single", "gpus": 1, "grad_accum_steps": 2},  # 32 x 2
        {"strategy": "dp", "device": "cuda"},
        {"strategy": "fsdp:reshard=off:reduce=bf16"},
        {"precision": "tf32"},
        {"compile": "default"},
        {"max_grad_norm": 1.0},
        {"optimizer": "sgd"},
        {"channels_last": True},
        {"deterministic": True},
        {"cudnn_benchmark": False},
        {"numa_binding": "node"},
        {"env": "A=1"},
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
        {"grad_accum_steps": 2},
        {"strategy": "dp", "gpus": 1},
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
    assert here == there == "w" + twelve_digits('["net.py:Net", {"depth": 3}, "resident", 64, 2]')
    assert here != key(workload="net.py:Other:depth=3")
    assert here != key(workload="net.py:Net:depth=4")


def test_options_in_another_order_are_the_same_work() -> None:
    assert key(workload="net.py:Net:a=1:b=2") == key(workload="net.py:Net:b=2:a=1")


# -- env_key ----------------------------------------------------------------------------------------------------


def test_env_key_hashes_machine_software_and_settings() -> None:
    by_hand = (
        '[{"OMP_NUM_THREADS": "1"}, "AMD EPYC 9654", 96, 192, 192, null, 756, "NVIDIA H100 80GB HBM3", "550.54", "3.11.7", "2.11.0", "0.26.0", "12.8", '
        '"91002", "2.27.3"'
    )
    by_hand += "".join(f", {json.dumps(MEASURED[name])}" for name in MEASURED_BY) + "]"
    assert env_key(ROW) == "e" + twelve_digits(by_hand)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hostname", "node2"),
        ("device_uuids", "GPU-c;GPU-d"),
        ("samples_per_s", 1.0),
        ("strategy", "fsdp"),
        ("ram_gib", 754.9),  # of 756 GiB another kernel keeps a little more
        ("ram_gib", "755.2"),
        ("cpu_quota", ""),  # as it is before it was written
        ("launches", 7),
        ("timeout", 60.0),
    ],
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
        ("cpus_allowed", 8),
        ("cpu_quota", 1.5),
        ("ram_gib", 377.1),
        ("settings", '{"OMP_NUM_THREADS": "2"}'),
        ("launcher", "torchrun"),
        ("steps", 300),
        ("warmup_steps", 50),
        ("min_seconds", 2.0),
    ],
)
def test_env_key_depends_on(column: str, value: object) -> None:
    assert env_key({**ROW, column: value}) != env_key(ROW)


def test_memory_that_is_no_number_has_a_key_as_well() -> None:
    """Of a file that somebody merged by hand."""
    assert len({env_key({**ROW, "ram_gib": value}) for value in (None, math.nan, math.inf, 1.0)}) == 4


# -- facts ------------------------------------------------------------------------------------------------------


def test_settings_are_those_that_steer_libraries_sorted() -> None:
    environment = {"OMP_NUM_THREADS": "1", "HOME": "/root", "NCCL_DEBUG": "INFO", "MY_OMP_X": "no", "CUDA_CACHE": 'a"b'}
    assert settings(environment) == r'{"CUDA_CACHE": "a\"b", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"}'
    assert settings({}) == "{}"
    assert settings({"NVIDIA_TF32_OVERRIDE": "0", "NVIDIA_VISIBLE_DEVICES": "all", "TORCHINDUCTOR_X": "1"}) == (
        '{"NVIDIA_TF32_OVERRIDE": "0", "TORCHINDUCTOR_X": "1"}'
    )


def test_settings_have_what_a_case_sets_whatever_it_is_called() -> None:
    environment = {"LD_BIND_NOW": "1", "HOME": "/root", "OMP_NUM_THREADS": "2", "A": ""}
    assert settings(environment, always=["LD_BIND_NOW", "A"]) == (
        '{"A": "", "LD_BIND_NOW": "1", "OMP_NUM_THREADS": "2"}'
    )
    assert settings(environment, always=["NOT_SET"]) == '{"OMP_NUM_THREADS": "2"}'
    assert settings(environment, always={"LD_BIND_NOW": "of the case"}) == (
        '{"LD_BIND_NOW": "1", "OMP_NUM_THREADS": "2"}'
    )


def test_variables_of_a_case_change_the_env_key() -> None:
    rows = [{**ROW, "settings": settings({"LD_BIND_NOW": value}, always=["LD_BIND_NOW"])} for value in ("", "1")]
    assert len({env_key(row) for row in [ROW, *rows]}) == 3


# -- what torch.compile needs -----------------------------------------------------------------------------------

NO_COMPILER, NO_HEADERS = "a C++ compiler (g++)", "Python's headers (python3-dev)"


def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], headers: bool = True) -> str:
    """What is lacking on a machine with these programs; CXX is taken from the environment as it is."""
    for name in programs:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    if headers:
        (tmp_path / "Python.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    compiler_lacks.cache_clear()
    try:
        return compiler_lacks()
    finally:
        compiler_lacks.cache_clear()


@pytest.mark.parametrize(
    ("programs", "headers", "lacks"),
    [
        (["g++"], True, ""),
        ([], True, NO_COMPILER),
        (["gcc", "cc"], True, NO_COMPILER),
        (["g++"], False, NO_HEADERS),
        ([], False, f"{NO_COMPILER} and {NO_HEADERS}"),
    ],
)
def test_what_the_compiler_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], headers: bool, lacks: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    assert lacking(tmp_path, monkeypatch, programs, headers) == lacks


@pytest.mark.parametrize(
    ("cxx", "programs", "lacks"),
    [
        ("icpx", ["icpx"], ""),
        ("icpx", ["g++"], NO_COMPILER),  # it is CXX or nothing
        ("icpx", [], NO_COMPILER),
        ("ccache g++", ["ccache", "g++"], ""),  # torch splits it as a shell does
    ],
)
def test_a_compiler_of_ones_own_is_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cxx: str, programs: list[str], lacks: str
) -> None:
    monkeypatch.setenv("CXX", cxx)
    assert lacking(tmp_path, monkeypatch, programs) == lacks


def test_clang_is_not_looked_for_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch._inductor.config.cpp.cxx is (None, os.environ.get("CXX", "g++")) but on macOS."""
    monkeypatch.delenv("CXX", raising=False)
    assert lacking(tmp_path, monkeypatch, ["clang++"]) == NO_COMPILER


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


def test_the_repository_of_a_hook_is_not_taken_for_the_folders(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git sets GIT_DIR for what its hooks run."""
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert host_facts(Machine(), {})["work_commit"] == commit


def test_folder_that_is_no_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = host_facts(Machine(), {})
    assert (facts["work_commit"], facts["work_dirty"]) == ("", None)


def test_env_key_does_not_ask_which_devices() -> None:
    two = [json.dumps({"CUDA_VISIBLE_DEVICES": which, "NCCL_ALGO": "Ring"}) for which in ("0", "1")]
    first, second = (env_key({**ROW, "settings": settings}) for settings in two)
    assert first == second != env_key({**ROW, "settings": json.dumps({"NCCL_ALGO": "Tree"})})


X86 = "processor\t: 0\nmodel name\t: AMD EPYC 9654\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9654\n"
ARM = (
    "processor\t: {}\nCPU implementer\t: 0x41\nCPU variant\t: {}\nCPU part\t: {}\n\n"  # 0xd40 is Neoverse-V1, 0xd0c N1
)


def test_a_processor_without_a_name_is_known_by_its_numbers() -> None:
    machine = platform.machine()
    for text, model in (
        (X86, "AMD EPYC 9654"),
        (
            ARM.format(0, "0x1", "0xd40") + ARM.format(1, "0x1", "0xd40"),
            f"{machine} CPU implementer 0x41 CPU part 0xd40 CPU variant 0x1",
        ),
        (ARM.format(0, "0x3", "0xd0c"), f"{machine} CPU implementer 0x41 CPU part 0xd0c CPU variant 0x3"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", f"{machine} cpu POWER9, altivec supported"),
        ("", machine),
    ):
        assert _cpu_model(text) == model


def test_processors_that_we_may_not_use_are_not_ours() -> None:
    """Under Slurm, in many a container, and after ``taskset``."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from bench.machine.gpus import Machine\n"
        "from bench.machine.environment import host_facts\n"
        "facts = host_facts(Machine(), {}); print(facts['cpus_allowed'], facts['cpu_threads'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", str(os.cpu_count())], done.stderr


def test_a_slow_git_keeps_what_is_known_and_leaves_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when it takes too long, and what it locked would stay locked."""
    locks = []

    def run(command: list[str], timeout: float, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        locks.append(env["GIT_OPTIONAL_LOCKS"])
        if "status" in command:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 0, "1f3a9c2\n")

    monkeypatch.setattr("bench.machine.environment.subprocess.run", run)
    facts = host_facts(Machine(), {})
    assert (facts["work_commit"], facts["work_dirty"]) == ("1f3a9c2", None)
    assert set(locks) == {"0"}
