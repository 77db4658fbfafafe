"""Check that counts do not depend on the machine: the same lock under what a machine may change.

    python tests/benchmarks/lock_proof.py --repeats 10 --csv proof.csv [--python OTHER/bin/python ...]

A lock of some cases is written, and then checked again and again: plainly, with masked features of the processor, with
two OpenMP threads in torch's environment, under other interpreters with the same version of torch, and while other
processes keep all processors busy. Each check of a case is one trial; a trial that does not say "same" is a false alarm.
With none in n trials the rate is below 3 / n with 95 % confidence (the rule of three, Hanley and Lippman-Hand 1983).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = """
[[matrix]]
workload = ["gpt-nano", "llama-nano:seq=32"]
strategy = ["ddp", "fsdp"]
gpus = 2
device = "cpu"
batch_size = 1
[[matrix]]
workload = ["resnet18:size=32", "mlp"]
strategy = ["single", "ddp"]
gpus = 2
device = "cpu"
batch_size = 2
[[matrix]]
workload = ["mlp", "mnist-cnn"]
strategy = "ddp"
gpus = 2
device = "cpu"
precision = "amp-bf16"
batch_size = 2
"""
VARIATIONS: dict[str, dict[str, str]] = {
    "unchanged": {},
    "processor without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "processor with AVX2 at most": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN with SSE4.1 at most": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "two MKL threads": {"MKL_NUM_THREADS": "2"},
    "other memory addresses": {"MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONHASHSEED": "7"},
    "busy machine": {},
}


def lock(
    python: str, folder: Path, *words: str, more: dict[str, str] | None = None
) -> dict[str, tuple[str, list[str]]]:
    """Return the verdict on each case, and what changed."""
    command = [python, "-P", "-m", "bench", "lock", *words, "--json", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(more or {})}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return {one["case_id"]: (one["verdict"], one["changes"]) for one in told["cases"]}


def trials(name: str, python: str, folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Check all cases once under a variation."""
    busy = []
    if name == "busy machine":
        spin = [sys.executable, "-c", "while True: pass"]
        busy = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        return lock(python, folder, "--check", more=VARIATIONS.get(name))
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--python", action="append", default=[], help="another interpreter with the same torch")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "suite.toml").write_text(SUITE)
        written = lock(sys.executable, folder, "--suite", "suite.toml")
        print(f"{len(written)} cases locked: {sorted({verdict for verdict, _ in written.values()})}", flush=True)
        ways = [(name, sys.executable) for name in VARIATIONS] + [(f"interpreter {one}", one) for one in args.python]
        for name, python in ways:
            found = [one for _ in range(args.repeats) for one in trials(name, python, folder).items()]
            alarms = [(case, *one) for case, one in found if one != ("same", [])]
            rows.append([name, len(found), len(alarms)])
            print(f"{name:32} {len(found):4} checks, {len(alarms)} not the same", flush=True)
            for alarm in alarms[:5]:
                print("   ", *alarm, flush=True)
    total, wrong = sum(row[1] for row in rows), sum(row[2] for row in rows)
    bound = f", so the rate is below {3 / total:.1%} (95 %)" if not wrong else ""
    print(f"{'together':32} {total:4} checks, {wrong} not the same{bound}")
    if args.csv:
        with args.csv.open("w", newline="") as stream:
            csv.writer(stream).writerows([["variation", "checks", "not_the_same"], *rows])


if __name__ == "__main__":
    main()
