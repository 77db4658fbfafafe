"""A script's surroundings: what it must find as if it had been started by torchrun alone."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.messages.spec import Script

OURS = ("bench", "launch", "workloads")
ALIAS = Path(__file__).parents[2] / "alias" / "stepbench" / "__init__.py"
# Variables that torch and its libraries read when they are imported.
READ_AT_IMPORT = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "MALLOC_", "LD_"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
    *("PYTORCH_JIT", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_LOGS", "TORCH_DISTRIBUTED_DEBUG"),
)


def alias() -> Any:
    """Return the module ``stepbench``, which scripts import their marker from, wherever it is installed."""
    if "stepbench" not in sys.modules:
        spec = importlib.util.spec_from_file_location("stepbench", ALIAS)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["stepbench"] = module
        spec.loader.exec_module(module)
    return sys.modules["stepbench"]


class OwnNames:
    """Takes the names of our packages out of the script's way, and puts them back.

    A script may have a ``bench.py`` of its own beside it. Our modules keep working without their names, except for
    imports inside of functions.
    """

    def __init__(self) -> None:
        self._other: dict[str, ModuleType] = {}
        self.hidden = False

    def hide(self) -> None:
        """Let these names mean the script's modules."""
        if not self.hidden:
            self._swap()

    def show(self) -> None:
        """Let these names mean our modules."""
        if self.hidden:
            self._swap()

    def _swap(self) -> None:
        present = [name for name in sys.modules if name.partition(".")[0] in OURS]
        removed = {name: sys.modules.pop(name) for name in present}
        sys.modules.update(self._other)
        self._other, self.hidden = removed, not self.hidden


def set_up(script: Script) -> None:
    """Set arguments, search path, folder and processes as for a script that was started directly."""
    os.chdir(script.folder)
    sys.argv = [script.target, *script.arguments]
    sys.path.insert(0, script.home if script.is_module else os.path.dirname(script.target))
    multiprocessing.set_start_method(None, force=True)  # a script may set its own
    multiprocessing.current_process().name = "MainProcess"
    if script.hides_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if loopback := loopback_interface():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


def loopback_interface() -> str:
    """Return the name of the loopback interface, which Gloo uses on one host; empty if there is none."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "")


def run(script: Script) -> int:
    """Run the script as ``__main__`` until its end. Return its exit code."""
    try:
        if script.is_module:
            runpy.run_module(script.target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script.target, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


class TorchImport:
    """Notices when a script imports torch for the first time.

    If torch was there before the script, variables that the script has set until then come too late for it: ``ignored``
    has each as ``NAME=VALUE``. Otherwise ``imported`` is called when the import is complete.
    """

    def __init__(self, imported: Callable[[], None]) -> None:
        self.ignored: list[str] = []
        self._imported, self._early = imported, "torch" in sys.modules

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the script's imports until then."""
        before, original = dict(os.environ), builtins.__import__

        def importing(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.partition(".")[0] != "torch":
                return original(name, *args, **kwargs)
            _restore(importing, original)
            if self._early:
                self.ignored = _late(before)
                return original(name, *args, **kwargs)
            module = original(name, *args, **kwargs)
            self._imported()
            return module

        builtins.__import__ = importing
        try:
            yield
        finally:
            _restore(importing, original)


def _late(before: dict[str, str]) -> list[str]:
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    return sorted(f"{name}={value}" for name, value in changed.items() if name.startswith(READ_AT_IMPORT))


def _restore(ours: Callable[..., Any], original: Callable[..., Any]) -> None:
    if builtins.__import__ is ours:
        builtins.__import__ = original
