"""All that ranks use of PyTorch although it is private: it may change with any release, so it stands in one place.

tests/rank/test_private.py checks each of these against the torch that is installed, and ``make test-oldest`` does so
with the oldest release that is promised. What is private in torchrun is in launch/server_process.py.
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
from torch.utils._pytree import tree_leaves as tree_leaves

# The operators to which scaled_dot_product_attention comes down, each where a device has it.
ATTENTION: frozenset[OpOverload] = frozenset(
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}").default
    for kind in (
        *("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"),
        "fused_attention_overrideable",
    )
)

# What torch.utils.checkpoint looks up in its own module whenever it is called: the autograd function of its reentrant
# form, and the generators of the other one, of which a release has one or both.
CHECKPOINT_FUNCTION = "CheckpointFunction"
CHECKPOINT_GENERATORS = (
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)


def dispatches(kind: type) -> bool:
    """Whether a tensor subclass says itself what operations do to it. Fake tensors leave that to their mode."""
    own = getattr(kind, "__torch_dispatch__", None)
    by_others = (None, torch.Tensor.__torch_dispatch__, torch._C._disabled_torch_dispatch_impl)
    return own not in by_others and not issubclass(kind, FakeTensor)


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
