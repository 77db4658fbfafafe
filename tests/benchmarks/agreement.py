"""Ours over a bare loop's throughput, interleaved (bare, ours, ours, bare), as medians of per-round ratios.

    python tests/benchmarks/agreement.py --rounds 6 [--only gpt-nano] [--launcher torchrun]

Every launch of ours is an invocation of ``bench run`` of its own, so that each has a launch server of its own.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from launch.ports import free_port

HERE = Path(__file__).parent
CASES = {  # name -> (our workload, batch size, steps, more of our options)
    "gpt-nano": ("gpt-nano", 4, 80, []),
    "resnet18": ("resnet18:size=64", 8, 25, []),
    "slow-loader": (f"{HERE}/slow_loader.py:SlowLoader", 4, 150, ["--data", "synthetic", "--num-workers", "2"]),
}
WARMUP = 10


def bare(name: str, strategy: str, ranks: int) -> float:
    _, batch, steps, _ = CASES[name]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--master-port", str(free_port()), str(HERE / "bare_loop.py"), name, strategy]
    command += ["--batch-size", str(batch), "--warmup", str(WARMUP), "--steps", str(steps)]
    return float(run(command)["samples_per_s"])


def ours(name: str, strategy: str, ranks: int, launcher: str) -> float:
    workload, batch, steps, more = CASES[name]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-P", "-m", "bench", "run", "--workload", workload, "--strategy", strategy]
        command += [
            "--gpus",
            str(ranks),
            "--batch-size",
            str(batch),
            "--warmup-steps",
            str(WARMUP),
            "--steps",
            str(steps),
        ]
        command += ["--launches", "1", "--launcher", launcher, "--out", out, "--quiet", "--json", *more]
        command += [] if cuda() else ["--device", "cpu"]
        return float(run(command)["launches"][0]["samples_per_s"])


def cuda() -> bool:
    from bench.devices import this_machine

    return bool(this_machine().gpus)


def run(command: list[str]) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--strategy", default="ddp,fsdp")
    parser.add_argument("--launcher", default="server", choices=["server", "torchrun"])
    args = parser.parse_args()
    for name in [args.only] if args.only else CASES:
        for strategy in args.strategy.split(","):
            ratios, theirs, mine = [], [], []
            for _ in range(args.rounds):
                first = bare(name, strategy, args.ranks)
                both = [ours(name, strategy, args.ranks, args.launcher) for _ in range(2)]
                last = bare(name, strategy, args.ranks)
                theirs += [first, last]
                mine += both
                ratios.append(math.sqrt(both[0] * both[1] / (first * last)))
            spread = statistics.stdev(map(math.log, ratios)) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
            print(
                f"{name:12} {strategy:5} ours/bare: median {statistics.median(ratios):.4f}  "
                f"mean {math.exp(statistics.mean(map(math.log, ratios))):.4f} ± {spread:.4f} (standard error)  "
                f"range {min(ratios):.3f}-{max(ratios):.3f}  "
                f"bare {statistics.median(theirs):.1f}  ours {statistics.median(mine):.1f} samples/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
