"""The private parts of PyTorch that are used: they are where they are expected, and used in one module only."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bench.rank import private

ROOT = Path(__file__).parents[2]
ALLOWED = {"bench/rank/private.py", "launch/server_process.py"}
# public by name but undocumented: torchrun itself is made of them
INNARDS = ("torch.distributed.launcher", "torch.distributed.elastic", "torch.numa")


def private_names(text: str) -> Iterator[str]:
    """Return dotted names below ``torch`` or ``aten`` with a part that begins with one underscore, and such imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            found = [ast.unparse(node)]
        else:
            continue
        for name in found:
            parts = name.split(".")
            hidden = any(part.startswith("_") and not part.startswith("__") for part in parts)
            if parts[0] in ("torch", "aten", "dist") and (hidden or name.startswith(INNARDS)):
                yield name


def test_private_names_are_found() -> None:
    text = "import torch\nfrom torch._ops import OpOverload\ntorch._C._x()\ntorch.__version__\naten._b.default\nself._c.torch\n"
    assert {name.split("(")[0] for name in private_names(text)} == {
        *("torch._ops.OpOverload", "torch._C._x", "torch._C", "aten._b.default", "aten._b")
    }
    assert list(private_names("from torch.distributed.elastic.agent.server import api")) != []


@pytest.mark.parametrize("folder", ["bench", "launch", "workloads"])
def test_only_two_modules_use_what_is_private(folder: str) -> None:
    files = {str(file.relative_to(ROOT)): file for file in (ROOT / folder).rglob("*.py")}
    found = {name: sorted(set(private_names(file.read_text()))) for name, file in files.items()}
    assert {name: names for name, names in found.items() if names and name not in ALLOWED} == {}


def test_attention_comes_down_to_what_is_kept() -> None:
    """On the CPU it is one of these operators; the others have the schema of an attention."""
    seen: list[Any] = []

    class Watch(private.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            return function(*args, **(kwargs or {}))

    query = torch.randn(1, 2, 8, 16, requires_grad=True)
    with Watch():
        F.scaled_dot_product_attention(query, query, query, is_causal=True)
    assert private.ATTENTION & set(seen)
    for operator in private.ATTENTION:
        assert isinstance(operator, private.OpOverload)
        assert [argument.name for argument in operator._schema.arguments][:3] == ["query", "key", "value"]


def test_fake_tensors_have_shapes_and_no_memory() -> None:
    with private.FakeTensorMode() as mode:
        product = torch.empty(1 << 20, 1 << 20) @ torch.empty(1 << 20, 3)
        fake = mode.from_tensor(torch.ones(2))
    assert isinstance(product, private.FakeTensor)
    assert isinstance(fake, private.FakeTensor)
    assert product.shape == (1 << 20, 3)


def test_the_compiler_tells_what_it_does() -> None:
    """Two shapes are two compilations of one frame."""
    torch._dynamo.reset()
    started: list[Any] = []
    ended: list[tuple[str, str]] = []
    heard = private.on_compilation(
        started.append, lambda args: ended.append((args.callback_trigger.name, str(args.compile_id)))
    )
    assert heard
    counters = private.compiler_counters()
    assert counters is not None
    before = counters["stats"]["unique_graphs"]
    compiled = torch.compile(lambda x: x.sin() + 1, backend="eager", dynamic=False)
    compiled(torch.ones(2))
    compiled(torch.ones(3))
    frames = [compile_id for trigger, compile_id in ended if trigger == "DYNAMO"]
    assert len(started) == len(ended)
    assert [compile_id.strip("[]").partition("/")[2].partition("_")[0] for compile_id in frames] == ["0", "1"]
    assert counters["stats"]["unique_graphs"] - before == 2
    assert counters["inductor"]["fxgraph_cache_hit"] == 0
    assert counters["aot_autograd"]["autograd_cache_hit"] == 0


def test_more_recompilations_are_allowed_but_never_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = torch._dynamo.config
    before = config.recompile_limit
    try:
        private.allow_recompilations(before + 7)
        private.allow_recompilations(1)
        assert config.recompile_limit == before + 7
    finally:
        config.recompile_limit = before


def test_the_code_cache_is_where_it_is_imported_from() -> None:
    private.import_code_cache()
    assert importlib.import_module("torch._inductor.codecache") is not None


def test_an_agent_of_torchrun_has_the_processes_of_its_ranks() -> None:
    """``launch.server_process`` takes their exit codes from it."""
    from torch.distributed.elastic.agent.server import api as agent
    from torch.distributed.elastic.multiprocessing.api import MultiprocessContext
    from torch.distributed.launcher import api
    from torch.multiprocessing.spawn import ProcessContext

    assert list(inspect.signature(api.LocalElasticAgent._monitor_workers).parameters) == ["self", "worker_group"]
    assert "_pcontext" in inspect.getsource(api.LocalElasticAgent)
    assert "self._pc" in inspect.getsource(MultiprocessContext)
    assert ProcessContext([], []).processes == []
    result = agent.RunResult(agent.WorkerState.SUCCEEDED, return_values={0: None})
    assert not result.is_failed()
    asked = inspect.signature(api.LaunchConfig).parameters
    assert {"numa_options", "start_method", "rdzv_configs", "local_addr", "monitor_interval"} <= set(asked)


def test_checkpoint_calls_what_is_said_to_do_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("torch.utils.checkpoint")
    called: list[str] = []
    for name in (private.CHECKPOINT_FUNCTION, *private.CHECKPOINT_GENERATORS):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda *_, name=name, **__: called.append(name) or iter([None]))
    module.checkpoint(lambda: None, use_reentrant=False)
    assert called
    assert set(called) < set(private.CHECKPOINT_GENERATORS)
    assert callable(module.CheckpointFunction)


def test_tensor_subclasses_that_define_operations_are_known() -> None:
    class Own(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, *_: Any) -> Any: ...

    kinds = [torch.Tensor, torch.nn.Parameter, private.FakeTensor, Own]
    assert [private.dispatches(kind) for kind in kinds] == [False, False, False, True]
    assert private.tree_leaves(([1, 2], {"a": 3})) == [1, 2, 3]


def test_iterators_of_loaders_have_what_scripts_are_watched_by() -> None:
    """Methods that hooks wrap, and attributes that they read."""
    base = private.loader_iterator()
    assert {"__init__", "_reset", "_next_index", "__next__"} <= set(vars(base))
    iterator = iter(DataLoader(TensorDataset(torch.ones(4)), batch_size=2))
    assert isinstance(iterator, base)
    assert (iterator._dataset_kind, iterator._num_workers, len(iterator._dataset)) == (0, 0, 4)  # type: ignore[attr-defined]
    assert "start_processes" in vars(sys.modules["torch.multiprocessing.spawn"])
    autocast = torch.autocast("cpu", torch.bfloat16)
    assert (autocast._enabled, autocast.fast_dtype) == (True, torch.bfloat16)


def test_a_disabled_function_is_called_as_it_is_by_compiled_code() -> None:
    called: list[int] = []

    def note(number: int) -> None:
        called.append(number)

    plain = private.disable_dynamo(note)

    @torch.compile(backend="eager")
    def compiled(x: torch.Tensor) -> torch.Tensor:
        plain(3)
        return x + 1

    assert compiled(torch.ones(1)).item() == 2
    assert called == [3]
