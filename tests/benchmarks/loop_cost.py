"""Microseconds that our measuring loop adds to a step: what it does beside training does not depend on the model.

    python tests/benchmarks/loop_cost.py --passes 200

Our loop and a bare one train the same tiny model in one process, in turns (see agreement_pair.py), so that a step takes
a fraction of a millisecond and the difference is seen even on a noisy machine. Prints the median difference of a step
with its 95 % interval (order statistics), and what share of a step of the built-in models' 10 to 100 ms that is.
"""

import argparse
import os
import statistics
import tempfile

import bare_loop
from agreement_pair import ours, same, spec_of

from bench.rank.build import build, place
from bench.stats.intervals import of_median_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="ddp", choices=["single", "ddp", "fsdp"])
    parser.add_argument("--steps", type=int, default=100, help="in a burst")
    parser.add_argument("--passes", type=int, default=200, help="bursts of each loop")
    args = parser.parse_args()
    os.environ.update({**bare_loop.ALONE, **os.environ})

    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of("mlp", args.strategy, 1, folder)
        training = build(spec, place(spec))
        sides = {"ours": ours(training, spec), "same": same(training)}
        added, steps_us = [], []
        for number in range(args.passes):
            names = list(sides) if number % 2 == 0 else list(reversed(sides))
            us = {name: sides[name](args.steps) / args.steps / 1000 for name in names}
            added.append(us["ours"] - us["same"])
            steps_us.append(us["same"])
    low, high = of_median_log(added)  # which takes any numbers
    print(
        f"mlp, {args.strategy}, one rank: a bare step takes {statistics.median(steps_us):.0f} us; ours adds "
        f"{statistics.median(added):.1f} us ({low:.1f}…{high:.1f}), {args.passes} pairs of bursts of "
        f"{args.steps} steps: {statistics.median(added) / 1e4:.2%} of a step of 10 ms"
    )
    os._exit(0)


if __name__ == "__main__":
    main()
