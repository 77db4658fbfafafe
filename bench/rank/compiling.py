"""torch.compile, and what it costs: how long it compiled, how often, and whether it did so inside the window."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bench.rank.private import allow_recompilations, compiler_counters, hear_compiler, import_code_cache

# CUDA graphs fix the addresses of what they read; FSDP gathers its parameters to new ones each time, and a second
# micro-batch overwrites the gradients of the first. So that one word means one thing, no strategy has them.
MODES = {"default": "default", "max-autotune": "max-autotune-no-cudagraphs"}


def compile_parts(parts: Sequence[nn.Module], mode: str, cache: str) -> None:
    """Compile the forward (and with it the backward) pass of each part; ``cache`` is the launch's own, or empty."""
    if cache:
        _start_cold(cache)
    # Layers of one class share a compiler cache; unlike ones (the stages of a ResNet) need an entry each.
    allow_recompilations(2 * len(parts))
    for part in parts:
        # shapes never change in a benchmark, so a second shape is another layer and no reason to generalise
        part.forward = torch.compile(part.forward, mode=MODES[mode], dynamic=False)


def _start_cold(cache: str) -> None:
    """Every rank of every launch from an empty cache: a warm one would make compile time another quantity."""
    cache = os.path.join(cache, f"rank{os.environ['RANK']}")
    os.makedirs(cache, exist_ok=True)
    os.environ.pop("TRITON_CACHE_DIR", None)  # Triton's cache then lies inside of ours
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # importing torch._dynamo has set it, for the whole fork server
    # Headers for C++ are precompiled into the temporary folder, which this module looks up when it is imported.
    before, tempfile.tempdir = tempfile.tempdir, cache
    try:
        import_code_cache()
    finally:
        tempfile.tempdir = before


class CompileLog:
    """Listens to every compilation of this process. Values are None where this torch does not tell."""

    def __init__(self) -> None:
        self.compilations: int | None = 0
        self.recompilations: int | None = 0
        self.total_ns: int | None = 0
        self._started_ns = 0
        if not hear_compiler(self._start, self._end):
            self.compilations = self.recompilations = self.total_ns = None

    @property
    def cache_hits(self) -> int | None:
        """Graphs that were not compiled, as a cache had them; None if this torch does not count them."""
        counters = compiler_counters()
        if counters is None:
            return None
        return counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"]

    @property
    def graphs(self) -> tuple[int, int] | None:
        """(graphs that were compiled, places where a graph had to be broken); None if this torch does not count."""
        counters = compiler_counters()
        if counters is None:
            return None
        return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())

    def _start(self, args: Any) -> None:
        self._started_ns = time.perf_counter_ns()

    def _end(self, args: Any) -> None:
        assert self.total_ns is not None
        assert self.compilations is not None
        assert self.recompilations is not None
        self.total_ns += time.perf_counter_ns() - self._started_ns
        self.compilations += 1
        self.recompilations += is_recompilation(args.callback_trigger.name, args.compile_id)


def is_recompilation(trigger: str, compile_id: str) -> bool:
    """Whether a frame is compiled again. torch names a compilation ``frame/attempt``, both from 0 (``[0/1]``)."""
    attempt = str(compile_id).rpartition("/")[2].partition("_")[0].rstrip("]")
    return trigger == "DYNAMO" and attempt.isdecimal() and int(attempt) > 0
