"""The present settings and threads of PyTorch, which a model may change for its whole process."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

OPENMP = ("libgomp", "libiomp", "libomp")
backends: Any = torch.backends
# Named as below torch or torch.backends.
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
    "cuda.flash_sdp_enabled": backends.cuda.flash_sdp_enabled,
    "cuda.mem_efficient_sdp_enabled": backends.cuda.mem_efficient_sdp_enabled,
    "cuda.cudnn_sdp_enabled": backends.cuda.cudnn_sdp_enabled,
    "cuda.math_sdp_enabled": backends.cuda.math_sdp_enabled,
    "default_dtype": torch.get_default_dtype,
    "anomaly_detection": torch.is_anomaly_enabled,
}


def settings() -> dict[str, str]:
    """Return the values of SETTINGS as text.

    PyTorch refuses to read some after others were set; the text then says why.
    """
    return {name: _text(read) for name, read in SETTINGS.items()}


def threads() -> tuple[int, bool]:
    """Return (number of PyTorch's threads, whether OpenMP may use fewer).

    torch.get_num_threads() ignores OMP_THREAD_LIMIT and OMP_DYNAMIC, which the OpenMP library has read.
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
    """Return the OpenMP libraries that this process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
    return [path for path in paths if Path(path).name.startswith(OPENMP)]
