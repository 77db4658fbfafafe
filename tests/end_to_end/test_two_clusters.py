"""Two clusters that differ in their network alone: two hosts with a free link, and with a slow one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import in_process
import pytest
from namespaces import Hosts, hosts, missing

RATE, GB_PER_S = "50mbit", 0.00625  # So slow that it does not matter how busy the processors are.
LIMIT_S = 250
RUN = ("run", "--workload", "gpt-nano", "--strategy", "ddp", "--batch-size", "1", "--steps", "5", "--profile", "on")
COMMS = ("comms", "--collectives", "all_reduce", "--sizes", "1K,4M", "--max-seconds", "0.5")


def measure(at: Hosts, folder: Path, name: str) -> None:
    """Measure training and collectives over both hosts, a rank on each, into a folder of results of that name."""
    environment = {**os.environ, "STEPBENCH_TOKEN": "s", "PYTHONPATH": str(Path(__file__).parents[2])}
    where = ["--nnodes", "2", "--rdzv-endpoint", "n1:29500", "--nproc-per-node", "1", "--out", name, "--quiet"]
    for words in (RUN, COMMS):
        command = [sys.executable, "-m", "bench", *words, *where, "--device", "cpu", "--gpus", "2", "--launches", "3"]
        nodes = [
            subprocess.Popen(
                at.command(host, [*command, "--node-rank", str(node)]),
                cwd=folder,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for node, host in enumerate(at.names)
        ]
        said = [node.communicate(timeout=LIMIT_S)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], said


@pytest.mark.slow
@pytest.mark.launch
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_slow_network_is_named_as_the_cause(launching: None, tmp_path: Path) -> None:
    """A step of gpt-nano sends 3.3 MB of gradients each way, which take half a second at this rate.

    A session a side decides only with a spread between sessions; it is given far beyond that of any machine.
    """
    for name, rate in (("free", ""), ("slow", RATE)):
        with hosts(2) as at:
            if rate:
                at.shape(rate)
            measure(at, tmp_path, name)
    done = in_process.bench(tmp_path, "compare", "free", "slow", "--session-spread", "2%", "--json")
    told = json.loads(done.out)
    assert (done.code, [one["verdict"] for one in told["verdicts"]]) == (1, ["slower"]), done.err
    by_part = {row["part"]: row for row in told["split"]}
    assert by_part["exposed communication"]["share"] > 0.8
    [link] = told["links"]
    assert link["busbw_ratio"] < 0.5
    assert link["busbw_b"] <= 1.05 * GB_PER_S
    [said] = told["findings"]
    assert "% slower for gpt-nano ddp ×2: " in said
    assert " ms) is exposed communication, " in said
    assert "B's all_reduce of 4M has 0." in said
