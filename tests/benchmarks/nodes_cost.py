"""What does a launch over two nodes cost? Two `torchrun`s started together against our warm launches, side by side.

    python tests/benchmarks/nodes_cost.py --rounds 4

Two hosts as network namespaces (which needs root), two ranks each, on the CPU. A round is both torchruns with
`tiny_script.py`, then one `bench run` over both hosts, whose first launch is that of a fresh server. From the request to
the last rank's first step.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from namespaces import Hosts, hosts, missing

HERE = Path(__file__).parent
LAUNCHES = 4


def together(at: Hosts, commands: list[list[str]], **variables: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STEPBENCH_TOKEN": "s", **variables}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    started = [
        subprocess.Popen(at.command(f"n{node + 1}", command), env=environment, **quiet)  # type: ignore[call-overload]
        for node, command in enumerate(commands)
    ]
    for process in started:
        _, words = process.communicate(timeout=300)
        if process.returncode:
            sys.exit(words.decode()[-2000:])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    if why := missing():
        sys.exit(why)
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
