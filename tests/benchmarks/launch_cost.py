"""From the request to the start of the last rank's first step: `torchrun script.py`, our first and our later launches.

    python tests/benchmarks/launch_cost.py --rounds 6

A round is: torchrun, then one launch server's first launch (its boot included) and its later ones, on the CPU.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.machine.environment import rank_environment
from bench.machine.gpus import Machine
from bench.messages.rank_record import RankRecord
from bench.plan.plan import asked, make_plan
from bench.runner.launch_case import make_launcher
from bench.runner.launch_request import LaunchRequests
from bench.runner.rank_site import Site
from bench.runner.watchdog import Watchdog
from launch.ports import free_port

HERE = Path(__file__).parent
LATER = 3


def torchrun(ranks: int) -> float:
    with tempfile.TemporaryDirectory() as started:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "STARTED": started}
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        command += ["--master-port", str(free_port()), str(HERE / "tiny_script.py")]
        requested = time.time_ns()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return (max(int(file.read_text()) for file in Path(started).iterdir()) - requested) / 1e9


def ours(ranks: int) -> list[float]:
    """Seconds of the first launch of a fresh server, with its boot, and of LATER more."""
    with tempfile.TemporaryDirectory() as out:
        axes = {"workload": ["mlp"], "strategy": ["ddp"], "gpus": [str(ranks)], "device": ["cpu"]}
        plan = make_plan(asked(axes, {"steps": "2", "warmup_steps": "0"}), Machine())
        case, protocol, variables = plan.cases[0].case, plan.protocol, rank_environment()
        requests = LaunchRequests(Site(), variables)
        launcher = make_launcher(protocol.launcher, variables, Path(out) / "log")
        seconds = []
        try:
            for n in range(1 + LATER):
                folder = Path(out) / f"launch-{n}"
                folder.mkdir()
                requested = time.time_ns()
                request = requests.measuring(case, folder, protocol)
                prepared = launcher.prepare(request)
                requests.spec(case, request, prepared.scratch, protocol)
                limits = protocol.hang_timeout, protocol.timeout
                outcome = prepared.launch(Watchdog(folder, prepared.scratch, ranks, *limits, lambda beat: None))
                assert outcome.ok, outcome
                records = RankRecord.read_all(folder, ranks).values()
                seconds.append((max(r.measurement.first_step_at_ns for r in records) - requested) / 1e9)
        finally:
            launcher.close()
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    for ranks in (2, 4):
        cold, first, later = [], [], []
        for _ in range(args.rounds):
            cold.append(torchrun(ranks))
            mine = ours(ranks)
            first.append(mine[0])
            later += mine[1:]
        a, b, c = map(statistics.median, (cold, first, later))
        print(
            f"{ranks} ranks: torchrun {a:.2f} s ({min(cold):.2f}-{max(cold):.2f})  "
            f"first launch with the server's boot {b:.2f} s ({min(first):.2f}-{max(first):.2f})  "
            f"later {c:.3f} s ({min(later):.3f}-{max(later):.3f})  later/torchrun {c / a:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
