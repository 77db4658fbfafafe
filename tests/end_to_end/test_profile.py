"""How much of a step waits for communication, where it is known: over a link whose rate is given."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from namespaces import Hosts, hosts, missing

MBIT_PER_S = 200
WIDTH, LAYERS = 1024, 4
GRADIENT_BYTES = 4 * LAYERS * (WIDTH + 1) * WIDTH
# A step sends so many times the bytes of all gradients. DDP: an all-reduce of 2 ranks. FSDP of the whole model at once:
# an all-gather of half of it, and what Gloo makes of a reduce-scatter, an all-reduce.
SENT = {"ddp:bucket-mb=1000": 1.0, "fsdp": 1.5}
# How many times as long it may take: an all-gather of Gloo was seen to take 1.5 times the time of its bytes.
MOST = {"ddp:bucket-mb=1000": 1.15, "fsdp": 1.5}
FRAMES = 1.05  # headers of Ethernet, IP and TCP, which the link counts as well
MINE = f"""
import torch
from torch import nn

class Wide:
    unit, batch_size = "samples", 2

    def build(self):
        return nn.Sequential(*[nn.Linear({WIDTH}, {WIDTH}) for _ in range({LAYERS})])

    def loss(self, model, batch):
        return model(batch[0]).square().mean()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.randn(64, {WIDTH}))

    def layers(self, model):
        return []
"""
LIMIT_S = 400


def run(at: Hosts, folder: Path, *words: str) -> list[dict[str, str]]:
    """Run over both hosts, a rank on each, and return the rows of launches.csv."""
    (folder / "mine.py").write_text(MINE)
    command = [sys.executable, "-m", "bench", "run", "--nnodes", "2", "--rdzv-endpoint", "n1:29500", "--quiet"]
    command += ["--out", str(folder / "results"), "--workload", "mine.py:Wide", "--gpus", "2", "--nproc-per-node", "1"]
    command += ["--device", "cpu", "--launches", "1", "--steps", "2", "--warmup-steps", "3", *words]
    environment = {**os.environ, "STEPBENCH_TOKEN": "s", "PYTHONPATH": str(Path(__file__).parents[2])}
    nodes = [
        subprocess.Popen(
            at.command(name, [*command, "--node-rank", str(node)]),
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for node, name in enumerate(at.names)
    ]
    said = [node.communicate(timeout=LIMIT_S)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    [file] = (folder / "results").glob("runs/*/launches.csv")
    return list(csv.DictReader(file.open()))


@pytest.mark.launch
def test_a_profile_is_part_of_no_statistic_and_its_traces_are_kept(bench: Any) -> None:
    words = ("--workload", "mlp", "--device", "cpu", "--gpus", "2", "--launches", "1", "--steps", "4")
    ran = bench("run", *words, "--strategy", "single,ddp,fsdp", "--profile", "traces")
    assert ran.code == 0, ran.stderr
    single, ddp, fsdp = ran.by_case()
    for row in (single, ddp, fsdp):
        assert (row["status"], row["comm_method"], row["comm_note"]) == ("ok", "profile", "")
        assert (row["window_steps"], row["profile"]) == ("4", "traces")
        assert float(row["compute_ms"]) > 0
    assert float(single["comm_ms"]) == 0
    for row in (ddp, fsdp):
        parts = {name: float(row[name]) for name in ("comm_ms", "compute_ms", "overlap_ms", "exposed_comm_ms")}
        assert parts["comm_ms"] > parts["overlap_ms"] >= 0
        assert parts["exposed_comm_ms"] == pytest.approx(parts["comm_ms"] - parts["overlap_ms"])
        traces = sorted(trace.name for trace in (ran.folder / "logs" / row["launch_id"]).glob("*.trace.json.gz"))
        assert traces == ["rank0.trace.json.gz", "rank1.trace.json.gz"]
        [of_critical] = [
            rank
            for rank in ran.rows("ranks.csv")
            if rank["launch_id"] == row["launch_id"] and rank["rank"] == row["critical_rank"]
        ]
        assert of_critical["exposed_comm_ms"] == row["exposed_comm_ms"]


@pytest.mark.slow
@pytest.mark.launch
def test_a_compiled_step_on_the_cpu_is_compared_with_one_without_collectives(bench: Any) -> None:
    words = ("--workload", "mlp", "--device", "cpu", "--gpus", "2", "--launches", "1", "--steps", "4")
    ran = bench("run", *words, "--strategy", "ddp", "--compile", "default", "--profile", "on")
    [row] = ran.rows()
    assert (row["status"], row["comm_method"], row["comm_note"]) == ("ok", "ablation", "")
    assert (row["comm_ms"], row["compute_ms"]) == ("", "")
    assert row["exposed_comm_ms"] != ""


@pytest.mark.slow
@pytest.mark.launch
@pytest.mark.skipif(missing() != "", reason=missing())
def test_both_methods_find_the_time_that_the_link_needs(launching: None, tmp_path: Path) -> None:
    """All collectives of a step run alone: the gradients are one bucket, and the parameters one group.

    A step can wait no less than the link needs for the bytes, and little more, as it computes next to nothing.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    with hosts(2) as at:
        at.shape(f"{MBIT_PER_S}mbit")
        for asked in ("traces", "ablation"):
            (folder := tmp_path / asked).mkdir()
            for row in run(at, folder, "--strategy", ",".join(SENT), "--profile", asked):
                assert (row["status"], row["nodes"]) == ("ok", "2"), row["reason"]
                found[row["strategy"], row["comm_method"]] = row
            traces = sorted((folder / "results").glob("runs/*/logs/*/*.trace.json.gz"))
            of_a_launch = ["rank0.trace.json.gz", "rank1.trace.json.gz"]  # that of the other node as well
            assert [trace.name for trace in traces] == (of_a_launch * len(SENT) if asked == "traces" else [])
            for trace in traces:
                assert json.loads(gzip.open(trace).read())["traceEvents"]
    for strategy, sent in SENT.items():
        truth_ms = sent * GRADIENT_BYTES * 8 / (MBIT_PER_S * 1e3)
        rows = {method: found[strategy, method] for method in ("profile", "ablation")}
        exposed = {method: float(row["exposed_comm_ms"]) for method, row in rows.items()}
        print(f"{strategy}: the link needs {truth_ms:.0f} ms (× {FRAMES} with headers); exposed: {exposed}")
        for ms in exposed.values():
            assert truth_ms < ms < MOST[strategy] * FRAMES * truth_ms
        assert exposed["profile"] == pytest.approx(exposed["ablation"], rel=0.15)
        names = ("profiled_step_ms", "comm_ms", "compute_ms", "overlap_ms", "exposed_comm_share")
        step, comm, compute, overlap, share = (float(rows["profile"][name]) for name in names)
        assert comm - overlap == pytest.approx(exposed["profile"])
        assert comm + compute - overlap <= step
        assert share == pytest.approx(exposed["profile"] / step)
        assert rows["ablation"]["comm_ms"] == rows["ablation"]["overlap_ms"] == ""
