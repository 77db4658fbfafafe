"""torch.compile and its cost: compile time, number of compilations, and whether any happened inside the window."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bench.rank.private import allow_recompilations, compiler_counters, import_code_cache, on_compilation

# CUDA graphs need fixed addresses, but FSDP gathers parameters to new ones in each step, and the second micro-batch
# overwrites the gradients of the first. max-autotune means the same under every strategy, so no strategy uses them.
MODES = {"default": "default", "max-autotune": "max-autotune-no-cudagraphs"}


def compile_parts(parts: Sequence[nn.Module], mode: str, cache: str) -> None:
    """Compile the forward and backward pass of each part; ``cache`` is the launch's own cache folder, or empty."""
    if cache:
        _start_cold(cache)
    # Layers of one class share a compiler cache; layers that differ (the stages of a ResNet) need an entry each.
    allow_recompilations(2 * len(parts))
    for part in parts:
        # Shapes do not change in a benchmark: a second shape is another layer, not a reason to generalise.
        part.forward = torch.compile(part.forward, mode=MODES[mode], dynamic=False)


def _start_cold(cache: str) -> None:
    """Use an empty cache for every rank of every launch, so that compile times can be compared."""
    cache = os.path.join(cache, f"rank{os.environ['RANK']}")
    os.makedirs(cache, exist_ok=True)
    os.environ.pop("TRITON_CACHE_DIR", None)  # Triton's cache then lies inside of it
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # set by the import of torch._dynamo for the whole fork server
    # C++ headers are precompiled into the temporary folder, which this module reads when it is imported.
    before, tempfile.tempdir = tempfile.tempdir, cache
    try:
        import_code_cache()
    finally:
        tempfile.tempdir = before


class CompileLog:
    """Counts every compilation of this process. Values are None where this version of torch does not report them."""

    def __init__(self) -> None:
        self.compilations: int | None = 0
        self.recompilations: int | None = 0
        self.total_ns: int | None = 0
        self._started_ns = 0
        if not on_compilation(self._start, self._end):
            self.compilations = self.recompilations = self.total_ns = None

    @property
    def cache_hits(self) -> int | None:
        """Graphs that came from a cache; None if this version of torch does not count them."""
        counters = compiler_counters()
        if counters is None:
            return None
        return counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"]

    @property
    def graphs(self) -> tuple[int, int] | None:
        """(compiled graphs, graph breaks); None if this version of torch does not count them."""
        counters = compiler_counters()
        if counters is None:
            return None
        return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())

    @property
    def breaks(self) -> dict[str, int]:
        """Graph breaks by their reason in one line."""
        counters = compiler_counters()
        found: Counter[str] = Counter()
        for reason, times in counters["graph_break"].items() if counters else ():
            found[in_one_line(reason)] += times
        return dict(sorted(found.items()))

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
    """Return whether a frame is compiled again.

    torch names a compilation ``frame/attempt``, both from 0 (``[0/1]``).
    """
    attempt = str(compile_id).rpartition("/")[2].partition("_")[0].rstrip("]")
    return trigger == "DYNAMO" and attempt.isdecimal() and int(attempt) > 0


def in_one_line(reason: str) -> str:
    """Return why a graph was divided: the kind, and torch's explanation, without what differs from run to run."""
    kind, *more = reason.strip().splitlines() or [""]
    said = [line.strip().removeprefix("Explanation: ") for line in more if line.strip().startswith("Explanation: ")]
    return re.sub(r"0x[0-9a-fA-F]+", "0x…", ": ".join([kind, *said[:1]]))
