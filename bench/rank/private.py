"""All private interfaces of PyTorch that ranks use, in one place because any release may change them.

tests/rank/test_private.py checks each of these against the installed torch, and ``make test-oldest`` against the oldest
supported release. Private parts of torchrun are in launch/server_process.py.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._ops import OpOverload as OpOverload
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore as FakeStore
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map_only as tree_map_only

# The operators of scaled_dot_product_attention on all devices.
ATTENTION: frozenset[OpOverload] = frozenset(
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}").default
    for kind in (
        *("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"),
        "fused_attention_overrideable",
    )
)

# The matrix product of float8 with its scales.
SCALED_MM: OpOverload = torch.ops.aten._scaled_mm.default

# Names that torch.utils.checkpoint looks up in its own module at each call: the autograd function of the reentrant
# form, and the generators of the other form, of which a release has one or both.
CHECKPOINT_FUNCTION = "CheckpointFunction"
CHECKPOINT_GENERATORS = (
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)


def scaled_mm(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> None:
    """Multiply two matrices of float8 into ``out``, summed as fast as the device can.

    ``b`` is in column-major order; ``scale`` is one number in float32, for each of both.
    """
    multiply: Any = vars(torch)["_scaled_mm"]
    multiply(a, b, scale_a=scale, scale_b=scale, out_dtype=out.dtype, use_fast_accum=True, out=out)


def dispatches(kind: type) -> bool:
    """Return whether a tensor subclass implements operations itself. Fake tensors leave that to their mode."""
    own = getattr(kind, "__torch_dispatch__", None)
    by_others = (None, torch.Tensor.__torch_dispatch__, torch._C._disabled_torch_dispatch_impl)
    return own not in by_others and not issubclass(kind, FakeTensor)


def disable_dynamo(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function so that torch.compile calls it as it is, instead of tracing it. Not for bound methods."""
    disable: Any = vars(torch)["_disable_dynamo"]
    disabled: Callable[..., Any] = disable(function)
    return disabled


def inside_compiled_code() -> bool:
    """Return whether the caller was called by code that torch.compile has compiled or divided."""
    names = (frame.name for frame in traceback.extract_stack())
    return any(name == "compile_wrapper" or name.startswith("torch_dynamo_resume_in_") for name in names)


def loader_iterator() -> Any:
    """Return the base class of the iterators of a DataLoader."""
    return importlib.import_module("torch.utils.data.dataloader")._BaseDataLoaderIter


def allow_recompilations(count: int) -> None:
    """Let torch.compile compile one function ``count`` times before it falls back to eager."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, count)


def import_code_cache() -> None:
    """Import the module of Inductor that looks up the temporary folder for precompiled headers."""
    importlib.import_module("torch._inductor.codecache")


def on_compilation(start: Callable[[Any], None], end: Callable[[Any], None]) -> bool:
    """Call ``start`` and ``end`` around every compilation, with ``.callback_trigger.name`` and ``.compile_id``.

    Return False if this version of torch has no such callbacks.
    """
    try:
        from torch._dynamo.callback import callback_handler

        callback_handler.register_start_callback(start)
        callback_handler.register_end_callback(end)
    except (ImportError, AttributeError):
        return False
    return True


def compiler_counters() -> Mapping[str, Mapping[str, int]] | None:
    """Return the counters of torch.compile in this process, 0 by default; None if this version of torch has none."""
    try:
        from torch._dynamo.utils import counters
    except ImportError:
        return None
    counted: Mapping[str, Mapping[str, int]] = counters
    return counted


def group_of(boxed: Any) -> Any:
    """Return the process group in a script object; None if there is another object in it."""
    from torch._C._distributed_c10d import ProcessGroup

    try:
        return ProcessGroup.unbox(boxed)
    except (RuntimeError, TypeError):
        return None


def work_of(boxed: Any) -> Any:
    """Return the work of a collective in a script object; None if there is another object in it."""
    from torch._C._distributed_c10d import Work

    try:
        return Work.unbox(boxed)
    except (RuntimeError, TypeError):
        return None


def wait_for_functional(result: torch.Tensor) -> None:
    """Wait for the functional collective whose result this is."""
    torch.ops._c10d_functional.wait_tensor(result)


def group_named(name: str) -> Any:
    """Return the process group of a name; None if there is none."""
    module: Any = importlib.import_module("torch.distributed.distributed_c10d")
    try:
        return module._resolve_process_group(name)
    except (LookupError, RuntimeError, ValueError):
        return None


def generated_kernels() -> int | None:
    """Return how many kernels Inductor has generated in this process; None if this version of torch does not count."""
    try:
        metrics: Any = importlib.import_module("torch._inductor.metrics")
        return int(metrics.generated_kernel_count)
    except (ImportError, AttributeError):
        return None
