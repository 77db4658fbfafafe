"""Is the bus bandwidth of large collectives that of the link? They are measured beside a plain stream over TCP.

    python tests/benchmarks/comms_link.py --rate 100mbit --rounds 3

Three hosts as network namespaces (which needs root) with one rank each, on the CPU over Gloo; the link of each has the
given rate both ways. A round is streams, `bench comms`, and streams again. Each host sends a stream to the next one and
receives one, all at once, as in a ring; a stream counts what its receiver reads in a few seconds, after the first, and
the slowest counts. Each line is a collective with its median over rounds: bus bandwidth / mean rate of the streams before
and after it.

With `--hosts 2` both neighbours of a rank are the same one, to which Gloo has one connection. There Gloo's all-gather
and all-to-all send one way after the other where ranks begin at different times: the message of the first rank to begin
delays its word that it is ready to receive.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from namespaces import Hosts, hosts, missing

ROOT = Path(__file__).parents[2]
PORT, BLOCK = 29600, 1 << 18
WARMUP_S, STREAM_S = 1.0, 3.0
SIZE = "16M"
WITHIN = {"all_reduce": 0.05, "all_gather": 0.05}  # Of the stream.
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send_recv")


def stream(address: str) -> None:
    """Send zeros to an address, and print the GB/s that arrive here from another host meanwhile."""
    with socket.create_server(("", PORT)) as server:
        sending = threading.Thread(target=send, args=(address,))
        sending.start()
        connection, _ = server.accept()
        buffer, counted, began = bytearray(BLOCK), 0, time.perf_counter()
        start = end = began
        while number := connection.recv_into(buffer):
            now = time.perf_counter()
            if now - began < WARMUP_S:
                start = end = now
            elif now - began < WARMUP_S + STREAM_S:  # then some hosts may have ended
                counted, end = counted + number, now
        sending.join()
        print(counted / (end - start) / 1e9)


def send(address: str) -> None:
    """Send zeros to an address, for longer than its stream is measured."""
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = socket.create_connection((address, PORT))
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    block, end = bytes(BLOCK), time.monotonic() + 2 * WARMUP_S + STREAM_S
    while time.monotonic() < end:
        connection.sendall(block)
    connection.close()


def together(at: Hosts, commands: Sequence[Sequence[str]]) -> list[str]:
    """Run a command on each host at once, and return what they print."""
    environment = {**os.environ, "STEPBENCH_TOKEN": "s", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            at.command(at.names[node], command),
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node, command in enumerate(commands)
    ]
    said = []
    for process in started:
        out, words = process.communicate(timeout=280)
        if process.returncode:
            raise RuntimeError(words[-2000:])
        said.append(out)
    return said


def streams(at: Hosts) -> float:
    """Return the GB/s of the slowest of the streams from each host to the next, which run at once."""
    number = len(at.names)
    after = [f"10.99.0.{(node + 1) % number + 1}" for node in range(number)]
    return min(map(float, together(at, [[sys.executable, __file__, "--stream", address] for address in after])))


class Found(NamedTuple):
    """Bus bandwidth: of the median iteration, and of the fastest one."""

    median: float
    best: float


def comms(at: Hosts, collectives: Sequence[str]) -> dict[str, Found]:
    """Return the bus bandwidth of collectives in GB/s; ValueError unless all results are right."""
    with tempfile.TemporaryDirectory() as out:
        number = len(at.names)
        command = [sys.executable, "-P", "-m", "bench", "comms", "--device", "cpu", "--gpus", str(number)]
        command += ["--collectives", ",".join(collectives), "--sizes", SIZE, "--max-seconds", "4", "--quiet"]
        command += ["--launches", "1", "--nproc-per-node", "1", "--nnodes", str(number), "--out", out]
        command += ["--rdzv-endpoint", "n1:29500"]
        together(at, [[*command, "--node-rank", str(node)] for node in range(number)])
        [file] = Path(out).glob("runs/*/comms.csv")
        rows = list(csv.DictReader(file.open()))
    if any((row["status"], row["correct"], row["interface"]) != ("ok", "true", "eth0") for row in rows):
        raise ValueError(str([(row["collective"], row["status"], row["reason"]) for row in rows]))
    rates = {row["collective"]: float(row["busbw_gb_per_s"]) for row in rows}
    faster = {row["collective"]: float(row["time_us"]) / float(row["time_min_us"]) for row in rows}
    return {name: Found(rate, rate * faster[name]) for name, rate in rates.items()}


def compared(at: Hosts, collectives: Sequence[str]) -> dict[str, Found]:
    """Return bus bandwidth / rate of the stream for each collective, of one round."""
    before = streams(at)
    found = comms(at, collectives)
    rate = (before + streams(at)) / 2
    print(
        f"stream {rate:.4f} GB/s; " + ", ".join(f"{name} {one.median:.4f}" for name, one in found.items()), flush=True
    )
    return {name: Found(one.median / rate, one.best / rate) for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="100mbit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream:
        stream(args.stream)
        return
    if why := missing():
        sys.exit(why)
    with hosts(args.hosts) as at:
        at.shape(args.rate)
        rounds = [compared(at, COLLECTIVES) for _ in range(args.rounds)]
    for name in COLLECTIVES:
        ratio, best = (statistics.median(one[name][which] for one in rounds) for which in (0, 1))
        far = name in WITHIN and abs(ratio - 1) > WITHIN[name]
        words = f", not within {WITHIN[name]:.0%}" if far else ""
        print(f"{name:<15} {ratio:.3f} of the stream{words}; the fastest iteration {best:.3f}")


if __name__ == "__main__":
    main()
