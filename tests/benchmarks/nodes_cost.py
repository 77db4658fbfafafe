"""What does a launch over two nodes cost, and is its throughput that of a plain loop under two `torchrun`s?

    python tests/benchmarks/nodes_cost.py --rounds 4
    python tests/benchmarks/nodes_cost.py --throughput --half-width 1 --limit 900

Two hosts as network namespaces (which needs root), on the CPU. A round is both torchruns with `tiny_script.py`, two ranks
each, then one `bench run` over both hosts, whose first launch is that of a fresh server: from the request to the last
rank's first step. With `--throughput` a round is `bare_loop.py` under both torchruns, ours, ours, `bare_loop.py`, with
one rank on each host; the ratio is a geometric mean over rounds, its interval Student's t on their logarithms.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from agreement import LEAST_ROUNDS, interval
from namespaces import Hosts, hosts, missing

HERE = Path(__file__).parent
LAUNCHES = 4


def together(at: Hosts, commands: list[list[str]], **variables: str) -> str:
    """Run a command on each host at once, and return what the first one prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STEPBENCH_TOKEN": "s", **variables}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": HERE.parents[1]}
    started = [
        subprocess.Popen(at.command(f"n{node + 1}", command), env=environment, **quiet)  # type: ignore[call-overload]
        for node, command in enumerate(commands)
    ]
    said = []
    for process in started:
        out, words = process.communicate(timeout=300)
        if process.returncode:
            sys.exit(words[-2000:])
        said.append(out)
    return str(said[0])


def torchruns(at: Hosts) -> float:
    with tempfile.TemporaryDirectory() as started:
        where = ["--nnodes", "2", "--nproc-per-node", "2", "--master-addr", "10.99.0.1", "--master-port", "29400"]
        command = [sys.executable, "-m", "torch.distributed.run", *where]
        script = str(HERE / "tiny_script.py")
        requested = time.time_ns()
        commands = [[*command, "--node-rank", str(node), script] for node in range(2)]
        together(at, commands, STARTED=started, GLOO_SOCKET_IFNAME="eth0")
        return (max(int(file.read_text()) for file in Path(started).iterdir()) - requested) / 1e9


def ours(at: Hosts) -> list[float]:
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-P", "-m", "bench", "run", "--workload", "mlp", "--gpus", "4", "--device", "cpu"]
        command += ["--launches", str(LAUNCHES), "--steps", "2", "--warmup-steps", "0", "--out", out, "--quiet"]
        command += ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-endpoint", "n1:29500"]
        together(at, [[*command, "--node-rank", str(node)] for node in range(2)])
        [file] = Path(out).glob("runs/*/launches.csv")
        return [float(row["startup_s"]) for row in csv.DictReader(file.open())]


BATCH, WARMUP, STEPS = 4, 10, 240


def bare(at: Hosts) -> float:
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "10.99.0.1", "--master-port", "29400"]
    words = ["gpt-nano", "ddp", "--batch-size", str(BATCH), "--warmup", str(WARMUP), "--steps", str(STEPS)]
    command = [sys.executable, "-m", "torch.distributed.run", *where]
    script = str(HERE / "bare_loop.py")
    commands = [[*command, "--node-rank", str(node), script, *words] for node in range(2)]
    told = together(at, commands, GLOO_SOCKET_IFNAME="eth0")
    return float(json.loads(told.strip().splitlines()[-1])["samples_per_s"])


def rate(at: Hosts) -> float:
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-P",
            "-m",
            "bench",
            "run",
            "--workload",
            "gpt-nano",
            "--strategy",
            "ddp",
            "--gpus",
            "2",
        ]
        command += ["--device", "cpu", "--batch-size", str(BATCH), "--warmup-steps", str(WARMUP), "--steps", str(STEPS)]
        command += ["--launches", "1", "--count", "off", "--out", out, "--quiet"]
        command += ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-endpoint", "n1:29500"]
        together(at, [[*command, "--node-rank", str(node)] for node in range(2)])
        [file] = Path(out).glob("runs/*/launches.csv")
        [row] = csv.DictReader(file.open())
        return float(row["samples_per_s"])


def throughput(half_width: float, limit_s: float) -> None:
    logs, began = [], time.monotonic()
    with hosts(2) as at:
        while time.monotonic() - began < limit_s:
            rates = [bare(at), rate(at), rate(at), bare(at)]
            logs.append(math.log(rates[1] * rates[2] / rates[0] / rates[3]) / 2)
            mean, half = interval([math.exp(log) for log in logs])
            print(f"{' '.join(f'{one:.1f}' for one in rates)} samples/s; ours/bare {mean:.4f} ± {half:.2%}", flush=True)
            if len(logs) >= LEAST_ROUNDS and half <= half_width / 100:
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--half-width", type=float, default=1.0, help="per cent, of --throughput")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds, of --throughput")
    args = parser.parse_args()
    if why := missing():
        sys.exit(why)
    if args.throughput:
        throughput(args.half_width, args.limit)
        return
    cold, warm = [], []
    with hosts(2) as at:
        for _ in range(args.rounds):
            cold.append(torchruns(at))
            warm += ours(at)[1:]
            print(
                f"two torchruns {cold[-1]:.2f} s; ours {' '.join(f'{s:.3f}' for s in warm[1 - LAUNCHES :])} s",
                flush=True,
            )
    a, b = statistics.median(cold), statistics.median(warm)
    print(
        f"two torchruns {a:.2f} s ({min(cold):.2f}-{max(cold):.2f}), ours {b:.3f} s ({min(warm):.3f}-{max(warm):.3f}): {b / a:.1%}"
    )


if __name__ == "__main__":
    main()
