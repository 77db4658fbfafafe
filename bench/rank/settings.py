"""PyTorch's settings and threads as they are now: a model may change them for its whole process."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

OPENMP = ("libgomp", "libiomp", "libomp")
backends: Any = torch.backends
# By the names that they have below torch or torch.backends.
SETTINGS: dict[str, Callable[[], object]] = {
    "float32_matmul_precision": torch.get_float32_matmul_precision,
    "cuda.matmul.allow_tf32": lambda: backends.cuda.matmul.allow_tf32,
    "cuda.matmul.fp32_precision": lambda: backends.cuda.matmul.fp32_precision,
    "mkldnn.matmul.fp32_precision": lambda: backends.mkldnn.matmul.fp32_precision,
    "cudnn.allow_tf32": lambda: backends.cudnn.allow_tf32,
    "cudnn.conv.fp32_precision": lambda: backends.cudnn.conv.fp32_precision,
    "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
    "cudnn.benchmark": lambda: backends.cudnn.benchmark,
    "cudnn.deterministic": lambda: backends.cudnn.deterministic,
    "cudnn.enabled": lambda: backends.cudnn.enabled,
    "mkldnn.enabled": lambda: backends.mkldnn.enabled,
    "default_dtype": torch.get_default_dtype,
    "anomaly_detection": torch.is_anomaly_enabled,
}


def settings() -> dict[str, str]:
    """Return the values of SETTINGS as text. PyTorch refuses to read some after others were set: then why it does."""
    return {name: _text(read) for name, read in SETTINGS.items()}


def threads() -> tuple[int, bool]:
    """Return (how many threads PyTorch computes with, whether OpenMP may take fewer).

    torch.get_num_threads() knows nothing of OMP_THREAD_LIMIT and OMP_DYNAMIC, which the OpenMP library has read.
    """
    number, dynamic = torch.get_num_threads(), False
    for library in _openmp():
        with contextlib.suppress(OSError, AttributeError):
            functions = ctypes.CDLL(library)
            number = min(number, functions.omp_get_thread_limit())
            dynamic = dynamic or bool(functions.omp_get_dynamic())
    return number, dynamic


def _text(read: Callable[[], object]) -> str:
    try:
        return str(read()).removeprefix("torch.")
    except (AttributeError, RuntimeError) as error:
        return f"unreadable ({type(error).__name__})"


def _openmp() -> list[str]:
    """The OpenMP libraries that this process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
    return [path for path in paths if Path(path).name.startswith(OPENMP)]
