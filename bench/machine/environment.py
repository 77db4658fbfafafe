"""Columns of a row about the machine, its software and its settings."""

from __future__ import annotations

import functools
import getpass
import importlib.util
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import bench
from bench.machine.cgroups import cpu_quota
from bench.machine.gpus import Machine
from bench.machine.hardware import hardware

SETTINGS = (
    "NCCL_",
    "OMP_",
    "TORCH_",
    "CUDA_",
    "PYTORCH_",
    "GLOO_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "CUDNN_",
    "CUBLAS_",
    "TORCHINDUCTOR_",
    "TRITON_",
    "NVIDIA_TF32_",
    "TORCHDYNAMO_",
    "ATEN_",
    "DNNL_",
    "ONEDNN_",
    "LD_PRELOAD",  # For example another allocator.
    "MALLOC_",
    "GLIBC_TUNABLES",
)
OF_A_REPOSITORY = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"),
)
GIT_SECONDS = 5.0


def host_facts(machine: Machine, environment: Mapping[str, str], work: Path | None = None) -> dict[str, Any]:
    """Return the columns that are equal for all launches of a run; ``work`` is the folder of the ranks."""
    import psutil  # Imported here, like importlib.metadata below, to keep --help fast.

    home = Path(bench.__file__).parent.parent
    # Only if stepbench itself is a checkout, not if its virtual environment is inside of one.
    commit = _git_says(home, "rev-parse", "HEAD") if (home / ".git").exists() else ""
    work_commit, dirty = _git(work or Path.cwd())
    return {
        "hostname": socket.gethostname(),
        "cpu_model": _cpu_model(proc("cpuinfo")),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_threads": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "cpu_quota": cpu_quota(proc("self/cgroup")),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "driver": machine.driver,
        "tool_version": bench.__version__,
        "tool_commit": commit or "",
        "work_commit": work_commit,
        "work_dirty": dirty,
        "settings": settings(environment),
        "hardware": json.dumps(hardware(machine, environment)),
    }


def rank_environment() -> dict[str, str]:
    """Return the environment of every rank without the variables of a case; the user's folder cannot shadow modules."""
    return {**os.environ, "PYTHONSAFEPATH": "1", **_user()}


def _user() -> dict[str, str]:
    """Set LOGNAME if the user id has no passwd entry, without which torch before 2.13 cannot be imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return {"LOGNAME": f"uid{os.getuid()}"}
    return {}


def settings(environment: Mapping[str, str], always: Collection[str] = ()) -> str:
    """Return the environment variables that configure libraries, and those in ``always``, as JSON with sorted keys."""
    return json.dumps({k: v for k, v in sorted(environment.items()) if k.startswith(SETTINGS) or k in always})


@functools.cache
def compiler_lacks() -> str:
    """Return what torch.compile needs and this machine does not have, in words; an empty text if it has everything.

    Inductor's CPU kernels and Triton's launchers are built with a C++ compiler and Python's headers.
    """
    lacks = []
    if not shutil.which(shlex.split(os.environ.get("CXX") or "g++")[0]):
        lacks.append("a C++ compiler (g++)")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        lacks.append("Python's headers (python3-dev)")
    return " and ".join(lacks)


def numactl() -> bool:
    """Return whether the command numactl is installed, with which torch binds ranks to processors."""
    return shutil.which("numactl") is not None


def has_torchao() -> bool:
    """Return whether torchao is installed, which multiplies float8."""
    return importlib.util.find_spec("torchao") is not None


def installed() -> dict[str, str]:
    """Return the versions of the packages that ranks import, without importing them."""
    import importlib.metadata

    versions = {}
    for package in ("torch", "torchvision", "nvidia-ml-py", "pandas", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


def proc(name: str) -> str:
    """Return the text of a file in /proc; an empty text if it cannot be read."""
    try:
        return Path("/proc", name).read_text()
    except OSError:
        return ""


def _cpu_model(cpuinfo: str) -> str:
    """Return the name of the processor or, as ARM has no names, the numbers of its implementer and part.

    ``cpuinfo``: the text of /proc/cpuinfo.
    """
    pairs = [line.partition(":")[::2] for line in cpuinfo.splitlines()]
    known = {key.strip(): value.strip() for key, value in reversed(pairs)}  # Those of the first processor.
    numbered = [f"{key} {known[key]}" for key in ("cpu", "CPU implementer", "CPU part", "CPU variant") if key in known]
    return known.get("model name") or " ".join([platform.machine(), *numbered])


def _git(folder: Path) -> tuple[str, bool | None]:
    """Return (commit, whether files differ from it) of the checkout around ``folder``; ('', None) outside of one."""
    commit = _git_says(folder, "rev-parse", "HEAD") or ""
    changed = _git_says(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return commit, None if changed is None else bool(changed)


def _git_says(folder: Path, *words: str) -> str | None:
    """Return the output of a git command; None if it fails or takes longer than GIT_SECONDS."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS, env=git_environment()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_environment() -> dict[str, str]:
    """Return this environment without the variables by which hooks and aliases name another repository.

    Git takes no optional locks, which would remain if it were killed.
    """
    ours = {name: value for name, value in os.environ.items() if name not in OF_A_REPOSITORY}
    return {**ours, "GIT_OPTIONAL_LOCKS": "0"}
