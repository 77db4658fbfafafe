"""All that ranks use of PyTorch although it is private: it may change with any release, so it stands in one place.

tests/test_private.py checks each of these against the torch that is installed, and ``make test-oldest`` does so with
the oldest release that is promised. What is private in torchrun is in launch/serve.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._ops import OpOverload as OpOverload
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

# The operators to which scaled_dot_product_attention comes down, each where a device has it.
ATTENTION: frozenset[OpOverload] = frozenset(
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}").default
    for kind in (
        *("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"),
        "fused_attention_overrideable",
    )
)


def allow_recompilations(count: int) -> None:
    """Let torch.compile compile one function ``count`` times before it gives up on it."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, count)


def import_code_cache() -> None:
    """Import the module of Inductor that looks up the temporary folder for precompiled headers."""
    importlib.import_module("torch._inductor.codecache")


def hear_compiler(start: Callable[[Any], None], end: Callable[[Any], None]) -> bool:
    """Call ``start`` and ``end`` around every compilation, with ``.callback_trigger.name`` and ``.compile_id``.

    False if this torch does not tell of them.
    """
    try:
        from torch._dynamo.callback import callback_handler

        callback_handler.register_start_callback(start)
        callback_handler.register_end_callback(end)
    except (ImportError, AttributeError):
        return False
    return True


def compiler_counters() -> Mapping[str, Mapping[str, int]] | None:
    """What torch.compile has counted in this process, 0 where nothing was; None if this torch does not count."""
    try:
        from torch._dynamo.utils import counters
    except ImportError:
        return None
    counted: Mapping[str, Mapping[str, int]] = counters
    return counted
