"""stepbench: distributed training benchmarks for PyTorch, with numbers that are right, honest and cheap.

``bench.run``, ``bench.ab``, ``bench.check``, ``bench.compare``, ``bench.lock`` and ``bench.load`` are for Python
programs; docs/api.md shows them. Importing ``bench`` is fast: the functions import other modules when they are called,
and only ``bench.watch``, which measures code of the same process, imports torch.
"""

__version__ = "0.4.1"

# Public name -> the module that defines it, which is imported when the name is first used.
_PUBLIC = {
    "run": "bench.api.runs",
    "load": "bench.api.runs",
    "Run": "bench.api.runs",
    "ab": "bench.api.gates",
    "check": "bench.api.gates",
    "compare": "bench.api.gates",
    "Comparison": "bench.api.gates",
    "lock": "bench.api.locks",
    "add_to_history": "bench.api.history",
    "trend": "bench.api.history",
    "Trend": "bench.api.history",
    "watch": "bench.watching",
    "BenchError": "bench.errors",
    "UsageError": "bench.errors",
    "IncomparableError": "bench.errors",
    "ResultsError": "bench.errors",
}


def __getattr__(name: str) -> object:
    import importlib

    if name not in _PUBLIC:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
