"""A plain loop and bench's own in the same processes, taking turns: one line of real_models.py.

    torchrun --nproc-per-node 2 real_models_pair.py vae.Vae ddp --workload vae.py:Vae --half-width 2 --limit 60

Every round builds both models anew, in an order that is turned round in the next one, as two models lie in memory in
two ways. Both train the same five steps from the same seed, and their losses are compared; then they train in short
bursts, in an order that is turned round in each next pass. A burst has one step that is not timed, as the other side
has left its data in the caches. The ratio of a round is the mean of the middle half of those of its passes; the
interval is Student's t on the logarithms of the rounds. Python's collector is on in the plain loop and off in ours.

Prints one JSON line from rank 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import tempfile
import time
from typing import Any

import torch
import torch.distributed as dist
from agreement import interval
from agreement_pair import spec_of
from plain_loop import Plain, workload_of
from scipy import stats

from bench.messages.heartbeat import Heartbeat
from bench.messages.spec import Spec
from bench.rank.build import build, place
from bench.rank.measure import _Run

COMPARED_STEPS, WARMUP_STEPS = 5, 3
LEAST_ROUNDS = 5
ROUND_SECONDS, PASSES = 4.0, (4, 16)  # all bursts of a round, and how many of each side it may have


class Ours:
    """What bench.rank.measure does around a window, with all that it writes down on the way."""

    def __init__(self, spec: Spec, device: torch.device, number: int) -> None:
        self.training = build(spec, [device])
        self.run = _Run(self.training, spec, Heartbeat(spec.scratch, f"round{number}", int(os.environ["RANK"])))

    def train(self, steps: int) -> list[torch.Tensor]:
        self.run._window(steps)
        return list(self.run.losses[-1].unbind())

    def timed(self, steps: int) -> int:
        return self.run._window(steps).ns


def over_ranks(values: list[float]) -> list[float]:
    """Return the largest of each over all ranks."""
    if not dist.is_initialized():
        return values
    largest = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.tolist()


def burst(side: Plain | Ours, steps: int) -> int:
    """Return the nanoseconds of a burst."""
    if isinstance(side, Ours):
        gc.freeze()
        gc.disable()
    else:
        gc.unfreeze()
        gc.enable()
    side.train(1)
    return side.timed(steps)


def difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """Return the largest relative difference of two lists of losses."""
    pairs = [(a.item(), b.item()) for a, b in zip(one, other, strict=True)]
    return max(abs(a - b) / max(abs(a), abs(b), 1e-3) for a, b in pairs)


def options_of(words: list[str]) -> dict[str, Any]:
    """Return the keyword arguments of NAME=VALUE."""
    pairs = (word.split("=") for word in words)
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


def one_round(number: int, args: argparse.Namespace, spec: Spec, device: torch.device) -> dict[str, float]:
    make = {
        "plain": lambda: Plain(args.of, options_of(args.option), args.strategy, args.batch_size),
        "ours": lambda: Ours(spec, device, number),
    }
    sides: dict[str, Any] = {}
    losses = {}
    for name in ("plain", "ours") if number % 2 == 0 else ("ours", "plain"):
        sides[name] = make[name]()
        losses[name] = sides[name].train(COMPARED_STEPS)
    for side in sides.values():
        side.train(WARMUP_STEPS)
    gc.unfreeze()
    gc.collect()
    differs, step_ns = over_ranks(
        [difference(losses["plain"], losses["ours"]), max(burst(side, 2) / 2 for side in sides.values())]
    )
    steps = max(1, round(args.burst_seconds * 1e9 / step_ns))
    fit = int(ROUND_SECONDS * 1e9 / (2 * (steps + 1) * step_ns))
    passes = min(max(fit // 2 * 2, PASSES[0]), PASSES[1])
    took: dict[str, list[int]] = {"plain": [], "ours": []}
    for turn in range(passes):
        for name in ("plain", "ours") if turn % 2 == 0 else ("ours", "plain"):
            took[name].append(burst(sides[name], steps))
    plain, ours = (over_ranks([float(ns) for ns in took[name]]) for name in ("plain", "ours"))
    logs = [math.log(a / b) for a, b in zip(plain, ours, strict=True)]
    ratio = math.exp(float(stats.trim_mean(logs, 0.25)))
    return {"ratio": ratio, "differs": differs, "step_ms": statistics.median(plain) / steps / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("of", help="MODULE.CLASS of tests/real_models, or an adapter")
    parser.add_argument("strategy", choices=["single", "ddp", "fsdp"])
    parser.add_argument("--workload", required=True, help="the same, as bench run is given it")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE")
    parser.add_argument("--batch-size", type=int, default=0, help="0: the workload's own")
    parser.add_argument("--half-width", type=float, default=2.0, help="per cent")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds")
    parser.add_argument("--burst-seconds", type=float, default=0.1)
    args = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        batch_size = args.batch_size or workload_of(args.of, **options_of(args.option)).batch_size
        spec = spec_of(args.workload, args.strategy, batch_size, folder)
        (device,) = place(spec)
        began, longest = time.monotonic(), 0.0
        while True:
            before = time.monotonic()
            rounds.append(one_round(len(rounds), args, spec, device))
            [spent, longest] = over_ranks([time.monotonic() - began, max(longest, time.monotonic() - before)])
            narrow = interval([one["ratio"] for one in rounds])[1] <= args.half_width / 100
            if (len(rounds) >= LEAST_ROUNDS and narrow) or spent + longest > args.limit:
                break
    if int(os.environ["RANK"]) == 0:
        print(json.dumps({"rounds": rounds, "seconds": round(spent, 1)}), flush=True)
    os._exit(0)  # as bare_loop.py does


if __name__ == "__main__":
    main()
