"""The largest sum of live tensors in a step against formulas, with the error: a table for docs/evidence.md.

    python tests/benchmarks/peak_memory.py

Persistent memory is by formula from the number of parameters (``bench list strategies --long``), activations are those
that were counted; the sum of both is held against ``live_peak_bytes``, which was counted as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

LAYERS, WIDTH, VOCAB, P, NORMS = 4, 128, 256, 820_352, 1_152  # of llama-nano, whose head is its embedding
EMBEDDING = VOCAB * WIDTH
LAYER = (P - EMBEDDING - WIDTH) // LAYERS
BATCH, GPUS = 8, 4
PART = (P - NORMS) // 2 + NORMS  # of a rank, where two share each layer
STAGE = EMBEDDING + LAYERS // 2 * LAYER  # of the first of two stages
# Bytes between two steps, by strategy: parameters, gradients, two numbers of AdamW; and what FSDP gathers at once.
PERSISTENT = {
    "single": 16 * P,
    "ddp": 16 * P,
    "zero1": 8 * P + 8 * P // GPUS,
    "fsdp": 16 * P // GPUS + 4 * (LAYER + EMBEDDING + WIDTH),
    "ddp:tp=2": 16 * PART,
    "fsdp:tp=2": 16 * PART // 2 + 4 * (LAYER + EMBEDDING) // 2,
    "ddp:pp=2": 16 * STAGE,
    "fsdp:pp=2": 16 * STAGE // 2 + 4 * (LAYER + EMBEDDING),
}


def main() -> int:
    rows = {row["strategy"]: row for row in _rows()}
    print("| strategy | persistent, formula | activations, counted | sum | live peak, counted | error |")
    print("|---|---|---|---|---|---|")
    for strategy, persistent in PERSISTENT.items():
        row = rows[strategy]
        activations, peak = int(row["activation_bytes"]), int(row["live_peak_bytes"])
        total = persistent + activations
        kib = " | ".join(f"{size / 1024:,.0f}" for size in (persistent, activations, total, peak))
        print(f"| {strategy} | {kib} | {total / peak - 1:+.0%} |")
    return 0


def _rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        words = ["--workload", "llama-nano", "--device", "cpu", "--gpus", str(GPUS), "--strategy", ",".join(PERSISTENT)]
        words += ["--batch-size", str(BATCH), "--launches", "1", "--steps", "3", "--matmul-peak", "off", "--json"]
        command = [sys.executable, "-m", "bench", "run", *words, "--out", folder, "--quiet"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(json.loads(said.splitlines()[-1])["launches"])


if __name__ == "__main__":
    raise SystemExit(main())
