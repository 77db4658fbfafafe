"""Ours over a bare loop's throughput, in as many interleaved rounds as it takes.

    python tests/benchmarks/agreement.py --pair --half-width 0.7 --limit 900 --csv rounds.csv
    python tests/benchmarks/agreement.py --rounds 6 [--only gpt-nano] [--launcher torchrun]

With ``--pair`` a round is one pair of fresh processes in which both train in turns (agreement_pair.py), and the ratio of
the two loops with one and the same model is told beside that of both whole programs. Else a round is four launches,
bare, ours, ours, bare, where every one of ours is an invocation of ``bench run`` of its own, so that each has
a launch server of its own. The ratio is a geometric mean over rounds, its interval Student's t on their logarithms.
"""

import argparse
import csv
import functools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from launch.ports import free_port

HERE = Path(__file__).parent
CASES = {  # name -> (our workload, batch size, steps, more of our options)
    "gpt-nano": ("gpt-nano", 4, 80, []),
    "resnet18": ("resnet18:size=64", 8, 25, []),
    "slow-loader": (f"{HERE}/slow_loader.py:SlowLoader", 4, 150, ["--data", "synthetic", "--num-workers", "2"]),
}
PAIRED = ("gpt-nano", "resnet18")  # a loader would fill its queues in the other side's bursts
WARMUP = 10
LEAST_ROUNDS = 5
ROUND_LIMIT_S = 300


class Round(NamedTuple):
    """Samples a second of both; ``loops`` is the ratio of our loop to the bare one with the same model."""

    bare: float
    ours: float
    loops: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


def pair(name: str, strategy: str, args: argparse.Namespace) -> Round:
    """One pair of processes. A ratio is the mean of the middle half of those of its passes, as in a duet."""
    workload, batch, _, _ = CASES[name]
    words = [name, strategy, "--workload", workload, "--batch-size", str(batch), "--passes", str(args.passes)]
    told = torchrun(HERE / "agreement_pair.py", args.ranks, words)

    def ratio(other: str) -> float:
        logs = [math.log(a / b) for a, b in zip(told[other], told["ours"], strict=True)]
        return math.exp(float(stats.trim_mean(logs, 0.25)))

    rate = told["samples"] / statistics.median(told["bare"]) * 1e9
    return Round(rate, rate * ratio("bare"), ratio("same"))


def in_turns(name: str, strategy: str, args: argparse.Namespace) -> Round:
    """Four launches: bare, ours, ours, bare."""
    first = bare(name, strategy, args.ranks)
    both = [ours(name, strategy, args.ranks, args.launcher) for _ in range(2)]
    return Round(math.sqrt(first * bare(name, strategy, args.ranks)), math.sqrt(both[0] * both[1]))


def bare(name: str, strategy: str, ranks: int) -> float:
    _, batch, steps, _ = CASES[name]
    words = [name, strategy, "--batch-size", str(batch), "--warmup", str(WARMUP), "--steps", str(steps)]
    return float(torchrun(HERE / "bare_loop.py", ranks, words)["samples_per_s"])


def ours(name: str, strategy: str, ranks: int, launcher: str) -> float:
    workload, batch, steps, more = CASES[name]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-P", "-m", "bench", "run", "--workload", workload, "--strategy", strategy]
        command += ["--gpus", str(ranks), "--batch-size", str(batch)]
        command += ["--warmup-steps", str(WARMUP), "--steps", str(steps)]
        command += ["--launches", "1", "--launcher", launcher, "--out", out, "--quiet", "--json", *more]
        command += [] if cuda() else ["--device", "cpu"]
        return float(run(command)["launches"][0]["samples_per_s"])


def cuda() -> bool:
    from bench.machine.gpus import this_machine

    return bool(this_machine().gpus)


def torchrun(script: Path, ranks: int, words: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    return run([*command, "--master-port", str(free_port()), str(script), *words])


def run(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, cwd=HERE.parents[1], start_new_session=True, **pipes)
    try:
        stdout, stderr = process.communicate(timeout=ROUND_LIMIT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{stderr[-3000:]}")
    told: dict[str, Any] = json.loads(stdout.strip().splitlines()[-1])
    return told


def interval(ratios: list[float]) -> tuple[float, float]:
    """(geometric mean, half-width of its 95 % interval as a share)."""
    logs = [math.log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return math.exp(logs[0]), math.inf
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(statistics.mean(logs)), half


def rounds(one: Callable[[], Round], most: int, half_width: float, limit_s: float) -> list[Round]:
    """Until the interval is as narrow as ``half_width`` (a share), or rounds or time are used up; one at least."""
    found: list[Round] = []
    began, longest = time.monotonic(), 0.0
    while not found or (len(found) < most and time.monotonic() - began + longest <= limit_s):
        before = time.monotonic()
        found.append(one())
        longest = max(longest, time.monotonic() - before)
        if len(found) >= LEAST_ROUNDS and interval([r.ratio for r in found])[1] <= half_width:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="store_true", help="both in the same processes")
    parser.add_argument("--passes", type=int, default=24, help="bursts of each side in a round of --pair")
    parser.add_argument("--rounds", type=int, default=1000, help="at most")
    parser.add_argument("--half-width", type=float, default=0.0, help="per cent; 0: all rounds are made")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for each workload and strategy")
    parser.add_argument("--csv", type=Path, help="a row a round is appended to it")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--strategy", default="ddp,fsdp")
    parser.add_argument("--launcher", default="server", choices=["server", "torchrun"])
    args = parser.parse_args()
    for name in [args.only] if args.only else PAIRED if args.pair else CASES:
        for strategy in args.strategy.split(","):
            one = functools.partial(kept, name, strategy, args)
            print(said(name, strategy, rounds(one, args.rounds, args.half_width / 100, args.limit)), flush=True)


def kept(name: str, strategy: str, args: argparse.Namespace) -> Round:
    """A round, written down as soon as it is done."""
    found = (pair if args.pair else in_turns)(name, strategy, args)
    if args.csv:
        write(args.csv, [name, strategy, "pair" if args.pair else "launches", *found[:2], found.ratio, found.loops])
    return found


def write(file: Path, row: list[Any]) -> None:
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(
                ["workload", "strategy", "method", "bare_samples_per_s", "ours_samples_per_s", "ratio", "loops"]
            )
        writer.writerow(row)


def said(name: str, strategy: str, found: list[Round]) -> str:
    ratios, loops = [r.ratio for r in found], [r.loops for r in found if r.loops]
    mean, half = interval(ratios)
    same = "of the loops with one model {:.4f} ± {:.2%}, ".format(*interval(loops)) if loops else ""
    return (
        f"{name:12} {strategy:5} ours/bare: {mean:.4f} ± {half:.2%} (95 %), {same}{len(found)} rounds, "
        f"median {statistics.median(ratios):.4f}, range {min(ratios):.3f}-{max(ratios):.3f}  "
        f"bare {statistics.median(r.bare for r in found):.1f}  "
        f"ours {statistics.median(r.ours for r in found):.1f} samples/s"
    )


if __name__ == "__main__":
    main()
