"""What a row says about machine, software and settings."""

from __future__ import annotations

import functools
import getpass
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
    "LD_PRELOAD",  # another allocator, say
    "MALLOC_",
    "GLIBC_TUNABLES",
)
OF_A_REPOSITORY = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"),
    *("GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX"),
)
GIT_SECONDS = 5.0


def host_facts(machine: Machine, environment: Mapping[str, str], work: Path | None = None) -> dict[str, Any]:
    """Columns that are the same for every launch of a run on this host. ``work``: where ranks run, by default here."""
    import psutil  # not on the way to --help, as importlib.metadata below

    home = Path(bench.__file__).parent.parent
    # not that of a checkout which only holds our venv
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
    }


def rank_environment() -> dict[str, str]:
    """The environment of every rank, less what a case decides: nothing of the user's folder may shadow our modules."""
    return {**os.environ, "PYTHONSAFEPATH": "1", **_user()}


def _user() -> dict[str, str]:
    """A name for who has none, as in many a container: before 2.13 torch cannot be imported without one."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return {"LOGNAME": f"uid{os.getuid()}"}
    return {}


def settings(environment: Mapping[str, str], always: Collection[str] = ()) -> str:
    """The environment variables that steer libraries, and those of ``always``, as JSON with sorted keys."""
    return json.dumps({k: v for k, v in sorted(environment.items()) if k.startswith(SETTINGS) or k in always})


@functools.cache
def compiler_lacks() -> str:
    """What torch.compile needs of this machine and does not find, in words; empty if all is there.

    Inductor builds its kernels for the CPU, and Triton its launchers, with a compiler and Python's own headers.
    """
    lacks = []
    if not shutil.which(shlex.split(os.environ.get("CXX") or "g++")[0]):
        lacks.append("a C++ compiler (g++)")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        lacks.append("Python's headers (python3-dev)")
    return " and ".join(lacks)


def numactl() -> bool:
    """Whether there is the command that torch binds ranks to processors with."""
    return shutil.which("numactl") is not None


def installed() -> dict[str, str]:
    """Versions of what a rank will import, without importing it."""
    import importlib.metadata

    versions = {}
    for package in ("torch", "torchvision", "nvidia-ml-py", "pandas", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


def proc(name: str) -> str:
    """The text of a file of /proc; empty where it cannot be read."""
    try:
        return Path("/proc", name).read_text()
    except OSError:
        return ""


def _cpu_model(cpuinfo: str) -> str:
    """By its name, or as the kernel numbers it: on ARM there are no names, and every processor is an ``aarch64``.

    ``cpuinfo`` is the text of /proc/cpuinfo.
    """
    pairs = [line.partition(":")[::2] for line in cpuinfo.splitlines()]
    known = {key.strip(): value.strip() for key, value in reversed(pairs)}  # the first processor's
    numbered = [f"{key} {known[key]}" for key in ("cpu", "CPU implementer", "CPU part", "CPU variant") if key in known]
    return known.get("model name") or " ".join([platform.machine(), *numbered])


def _git(folder: Path) -> tuple[str, bool | None]:
    """(commit, whether files differ from it) of the checkout that holds ``folder``; ('', None) outside of one."""
    commit = _git_says(folder, "rev-parse", "HEAD") or ""
    changed = _git_says(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return commit, None if changed is None else bool(changed)


def _git_says(folder: Path, *words: str) -> str | None:
    """None where it cannot tell, or not within GIT_SECONDS, as on a large repository far away."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS, env=git_environment()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_environment() -> dict[str, str]:
    """Ours, for git to look at a folder's own repository: hooks and aliases set these variables for another. It takes
    no lock to look, which would stay if it were killed."""
    ours = {name: value for name, value in os.environ.items() if name not in OF_A_REPOSITORY}
    return {**ours, "GIT_OPTIONAL_LOCKS": "0"}
