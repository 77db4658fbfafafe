"""What watching costs a step of a script: the same loop with and without hooks, in turns.

    python tests/benchmarks/script_cost.py [--passes 40] [--steps 200] [--micro-batches 1]

Prints the difference of the medians in microseconds, with the quartiles of the passes' differences.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.rank.script.observer import Observer, Window
from bench.rank.script.surroundings import Surroundings


class Loop:
    """A loop of small steps, each with ``micro`` micro-batches."""

    def __init__(self, micro: int) -> None:
        self.model = nn.Linear(64, 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.data = TensorDataset(torch.randn(1 << 16, 64), torch.randint(0, 10, (1 << 16,)))
        self.micro = micro

    def ns_a_step(self, steps: int) -> float:
        """Return the mean nanoseconds of a step."""
        batches: Any = iter(DataLoader(self.data, batch_size=4))
        began = time.perf_counter_ns()
        for _ in range(steps):
            for _ in range(self.micro):
                x, y = next(batches)
                nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return (time.perf_counter_ns() - began) / steps


def main() -> None:
    """Measure in turns, and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--micro-batches", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loop, differences, plain = Loop(args.micro_batches), [], []
    loop.ns_a_step(args.steps)
    for _ in range(args.passes):
        without = loop.ns_a_step(args.steps)
        observer = Observer(Window(3, 10 * args.steps), Surroundings())
        observer.install()
        loop.ns_a_step(20)  # warm-up ends
        watched = loop.ns_a_step(args.steps)
        observer.remove()
        differences.append((watched - without) / 1e3)
        plain.append(without / 1e3)
    low, middle, high = statistics.quantiles(differences, n=4)
    print(f"{middle:.1f} us ({low:.1f} to {high:.1f}) on {statistics.median(plain):.0f} us a step")


if __name__ == "__main__":
    main()
