"""Gates on this machine: how many cry wolf, and how many find a slowdown that is there. The certificate's other half.

Runs gates with the blocks that are asked for, or else with those that `bench calibrate` asks for, which is run first: in
turn one with two equal sides, and one whose B has a layer of seventeen more, which is work that is known, and no sleep.
Each gate is a row of results/certificate/measured.csv, written when it ends, and what was begun is gone on with.
``--page`` only writes docs/certificate.md from them. Nothing else should run on the machine, for hours.

    python -m tests.benchmarks.gates --gates 15 --mode launches
    python -m tests.benchmarks.gates --gates 15 --mode duet
    python -m tests.benchmarks.gates --page
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "results" / "certificate" / "measured.csv"
LAYERS = 16  # one more is 1/17 of the layers' work
WORKLOAD = "gpt:layers={}:heads=2:width=64:seq=32"
CASE = (
    *("--workload", WORKLOAD.format(LAYERS), "--strategy", "single", "--gpus", "1", "--device", "cpu"),
    *("--batch-size", "1", "--omp-num-threads", "1"),
)
MORE = f"workload={WORKLOAD.format(LAYERS + 1)}"
DETECT = "5%"  # of the throughput: the layer's share is 1/17 of the layers' time, and a little less of all
MODES = {"launches": ("--min-seconds", "2"), "duet": ("--duet", "--min-seconds", "2")}
COLUMNS = ("at", "machine", "mode", "slowed", "verdict", "exit_code", "ratio", "low", "high", "detectable", "blocks")
COLUMNS += ("launches", "control_flagged", "seconds", "run_id")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=15, help="of each kind")
    parser.add_argument("--mode", choices=list(MODES), default="launches")
    parser.add_argument("--blocks", type=int, help="of the first stage; by default what bench calibrate asks for")
    parser.add_argument("--out", type=Path, default=Path("gates"), help="folder of results")
    parser.add_argument("--page", action="store_true", help="only write docs/certificate.md")
    asked = parser.parse_args()
    if not asked.page:
        out = asked.out / asked.mode
        if asked.blocks is None and not out.exists():
            bench("calibrate", *CASE, *MODES[asked.mode], "--detect", DETECT, "--out", str(out))
        for number in range(done(asked.mode), 2 * asked.gates):
            record(gate(asked.mode, number % 2 == 1, number, asked.blocks, out))
    from .gates_page import update

    page = ROOT / "docs" / "certificate.md"
    page.write_text(update(page.read_text(), rows()))


def gate(mode: str, slowed: bool, seed: int, blocks: int | None, out: Path) -> dict[str, Any]:
    """One gate, as a row."""
    began = time.monotonic()
    words = ["ab", *CASE, *MODES[mode], "--detect", DETECT, "--order-seed", str(seed), "--json", "--out", str(out)]
    words += ["--blocks", str(blocks)] if blocks else []
    code, said = bench(*words, *(("--b", MORE) if slowed else ()))
    one = said["verdicts"][0]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors",
        **{"mode": mode, "slowed": slowed, "exit_code": code, "seconds": round(time.monotonic() - began)},
        **{name: one[name] for name in ("verdict", "ratio", "low", "high", "detectable", "blocks", "launches")},
        "control_flagged": bool(said["control"] and said["control"]["flagged"]),
        "run_id": said["run_id"],
    }


def bench(*words: str) -> tuple[int, Any]:
    """The command's exit code, and what it says on standard output; the rest goes to ours."""
    done = subprocess.run([sys.executable, "-m", "bench", *words], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1, 3, 5):  # of 5 there are verdicts as well
        raise SystemExit(f"bench {words[0]} ended with exit code {done.returncode}")
    return done.returncode, json.loads(done.stdout) if "--json" in words else print(done.stdout)


def record(row: dict[str, Any]) -> None:
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    begins = not MEASURED.exists()
    with MEASURED.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if begins:
            writer.writeheader()
        writer.writerow(row)
    print(", ".join(f"{name} {row[name]}" for name in ("mode", "slowed", "verdict", "ratio", "seconds")), flush=True)


def done(mode: str) -> int:
    return sum(row["mode"] == mode for row in rows()) if MEASURED.exists() else 0


def rows() -> list[dict[str, str]]:
    with MEASURED.open(newline="") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main()
