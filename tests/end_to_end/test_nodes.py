"""Two nodes on one host, which meet at its loopback interface: each is a ``bench run`` of its own."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from command_line import run_bench
from two_nodes import LIMIT_S, Nodes, ended

SCRIPTS = Path(__file__).parents[1] / "scripts"
FAULTY = f"{Path(__file__).parents[1]}/helpers/faulty.py:Faulty"


@pytest.mark.launch
def test_launches_fill_node_0_first_and_train_on_both(launching: None, tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    follower = nodes.start(1)
    words = [
        "--workload",
        "mlp",
        "--strategy",
        "ddp,fsdp",
        "--gpus",
        "1,3",
        "--nproc-per-node",
        "2",
        "--batch-size",
        "4",
    ]
    code, said = ended(nodes.start(0, *words, "--launches", "1", "--steps", "4"))
    assert code == 0, said
    assert ended(follower)[0] == 0
    rows = nodes.rows()
    assert sorted((row["strategy"], row["gpus"], row["nodes"], row["status"]) for row in rows) == [
        *[("ddp", "1", "1", "ok"), ("ddp", "3", "2", "ok")],
        *[("fsdp", "1", "1", "ok"), ("fsdp", "3", "2", "ok")],
    ]
    ranks = [(row["rank"], row["local_rank"], row["node"]) for row in nodes.rows("ranks.csv")]
    assert sorted(ranks) == sorted([*[("0", "0", "0")] * 4, *[("1", "1", "0")] * 2, *[("2", "0", "1")] * 2])
    assert all(float(row["peak_host_mib"]) > 0 for row in nodes.rows("ranks.csv"))
    over = next(row for row in rows if row["nodes"] == "2")
    assert over["interface"] == "lo"
    assert [one["cpu_model"] for one in json.loads(over["node_facts"])] == [over["cpu_model"]]
    for row in rows:  # replicas are equal over nodes, and gradients were exchanged
        assert ("equal bit by bit over 3 replicas" in row["took_effect"]) == (row["strategy"] + row["gpus"] == "ddp3")
    assert int(over["collectives"]) > 0


@pytest.mark.slow
@pytest.mark.launch
def test_ranks_are_on_one_node_or_evenly_on_both(launching: None, tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    follower = nodes.start(1)
    axes = ["--workload", "mlp", "--strategy", "ddp", "--gpus", "1,2,3,4", "--spread", "pack,even", "--batch-size", "4"]
    code, said = ended(nodes.start(0, *axes, "--nproc-per-node", "3", "--launches", "1", "--steps", "4"))
    assert code == 0, said
    assert ended(follower)[0] == 0
    rows = [row for row in nodes.rows() if row["status"] == "ok"]
    assert sorted((row["placement"], row["gpus"], row["nodes"], row["nproc_per_node"]) for row in rows) == [
        *[("even", "2", "2", "1(x2)"), ("even", "4", "2", "2(x2)")],
        *[("pack", "1", "1", "1"), ("pack", "2", "1", "2"), ("pack", "3", "1", "3"), ("pack", "4", "2", "3,1")],
    ]
    [skipped] = [row for row in nodes.rows() if row["status"] == "skipped"]
    assert skipped["reason"] == "--placement even: 3 ranks cannot be divided evenly by 2 nodes"
    on_nodes = [(row["rank"], row["node"]) for row in nodes.rows("ranks.csv") if "even" in row["launch_id"]]
    assert sorted(on_nodes) == [("0", "0"), ("0", "0"), ("1", "0"), ("1", "1"), ("2", "1"), ("3", "1")]


@pytest.mark.slow
@pytest.mark.launch
def test_a_script_trains_over_both(launching: None, tmp_path: Path) -> None:
    """Its ranks agree on their window, and each node writes what the script saves into a folder of its own."""
    nodes = Nodes(tmp_path)
    follower = nodes.start(1)
    script = ["--script", f"{SCRIPTS}/ddp.py", "--gpus", "1,2", "--nproc-per-node", "1", "--batch-size", "4"]
    code, said = ended(nodes.start(0, *script, "--launches", "1", "--steps", "10", "--", "--bs", "{batch_size}"))
    assert code == 0, said
    assert ended(follower)[0] == 0
    rows = {row["gpus"]: row for row in nodes.rows()}
    assert {gpus: (row["status"], row["nodes"], row["samples"]) for gpus, row in rows.items()} == {
        "1": ("ok", "1", "40"),
        "2": ("ok", "2", "80"),
    }
    assert rows["2"]["collectives"] == "1"  # DDP's all-reduce
    assert rows["2"]["script_seen"].startswith("ddp")
    assert sorted((row["rank"], row["node"]) for row in nodes.rows("ranks.csv")) == [("0", "0"), ("0", "0"), ("1", "1")]


@pytest.mark.slow
@pytest.mark.launch
def test_node_0_may_be_killed_and_resumed(launching: None, tmp_path: Path) -> None:
    """The follower ends its ranks, waits, and joins the same run again; what was measured stays."""
    nodes = Nodes(tmp_path)
    words = ["--workload", f"{FAULTY}:sleep_ms=20", "--gpus", "2", "--batch-size", "4"]
    follower = nodes.start(1, "--join-timeout", "120")
    first = nodes.start(0, *words, "--launches", "3", "--steps", "20", "--nproc-per-node", "1")
    deadline = time.monotonic() + LIMIT_S
    while len(nodes.rows()) < 1:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    code, said = ended(nodes.start(0, "--resume", "latest", "--nproc-per-node", "1"))
    assert code == 0, said
    code, said = ended(follower)
    assert (code, "node 0 was lost" in said) == (0, True), said
    rows = nodes.rows()
    assert len({row["launch_id"] for row in rows}) >= 3
    assert [row["status"] for row in rows if row["status"] == "ok"] == ["ok"] * 3
    assert {row["nodes"] for row in rows if row["status"] == "ok"} == {"2"}


@pytest.mark.launch
def test_a_node_that_is_absent_or_has_another_token(launching: None, tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    head = nodes.start(0, "--workload", "mlp", "--gpus", "2", "--join-timeout", "6", token="one")
    code, said = ended(nodes.start(1, "--join-timeout", "20", token="two"))
    assert (code, "it does not know this node's token (STEPBENCH_TOKEN)" in said) == (5, True), said
    code, said = ended(head)
    assert (code, "node 1 of 2 did not join within 6 s" in said) == (5, True), said
    assert "a process that wanted to join was refused" in said
    assert not nodes.out.exists()
    code, said = ended(nodes.start(1, "--join-timeout", "1"))
    assert (code, "node 0 was not there within 1 s" in said) == (5, True), said


@pytest.mark.launch
def test_ranks_that_do_not_fit(launching: None, tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    follower = nodes.start(1)
    code, said = ended(nodes.start(0, "--workload", "mlp", "--gpus", "3", "--nproc-per-node", "1"))
    assert (code, "--gpus: got 3; allowed: at most 2, the ranks of 2 nodes" in said) == (2, True), said
    code, said = ended(follower)
    assert (code, "the run has ended with exit code 2: --gpus: got 3" in said) == (2, True), said


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_sides_are_compared_over_nodes(launching: None, tmp_path: Path) -> None:
    """Three times the work on side B, which is slower in every block."""
    nodes = Nodes(tmp_path)
    follower = nodes.start(1, of="ab")
    words = [
        "--workload",
        f"{FAULTY}:sleep_ms=10",
        "--gpus",
        "2",
        "--nproc-per-node",
        "1",
        "--batch-size",
        "4",
        "--steps",
        "5",
    ]
    sides = ["--b", f"workload={FAULTY}:sleep_ms=30", "--blocks", "5"]
    code, said = ended(nodes.start(0, *words, *sides, of="ab"))
    assert (code, "slower" in said) == (1, True), said
    assert ended(follower)[0] == 0
    rows = nodes.rows()
    assert {(row["nodes"], row["status"]) for row in rows} == {("2", "ok")}
    assert len(rows) >= 20


@pytest.mark.launch
def test_a_duet_is_refused_over_nodes(launching: None, tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    follower = nodes.start(1, of="ab")
    code, told = ended(nodes.start(0, "--workload", "mlp", "--gpus", "2", "--nproc-per-node", "1", "--duet", of="ab"))
    said = "--duet: over several nodes the messages of one side would disturb"
    assert (code, said in told) == (2, True), told
    assert ended(follower)[0] == 2


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_noise_and_baselines_are_measured_over_nodes(launching: None, tmp_path: Path) -> None:
    """A calibration of five blocks of four launches, and a check of five rounds with its control."""
    nodes = Nodes(tmp_path)
    case = ["--workload", f"{FAULTY}:sleep_ms=10", "--batch-size", "4", "--gpus", "2", "--steps", "5"]
    follower = nodes.start(1, of="calibrate")
    code, said = ended(nodes.start(0, *case, "--nproc-per-node", "1", "--blocks", "5", of="calibrate"))
    assert (code, ended(follower)[0]) == (0, 0), said
    assert [(row["role"], row["nodes"], row["status"]) for row in nodes.rows()] == [("control", "2", "ok")] * 20
    follower = nodes.start(1)
    code, said = ended(nodes.start(0, *case, "--nproc-per-node", "1", "--launches", "5"))
    assert (code, ended(follower)[0]) == (0, 0), said
    added = run_bench(tmp_path, "baseline", "add", "main", "latest")
    assert added.code == 0, added.stderr
    follower = nodes.start(1, of="check")
    code, said = ended(nodes.start(0, "--baseline", "main", "--nproc-per-node", "1", of="check"))
    assert (code, ended(follower)[0]) == (3, 0), said  # one session decides nothing
    rows = nodes.rows()[25:]
    assert {(row["nodes"], row["status"]) for row in rows} == {("2", "ok")}
    assert [row["role"] for row in rows].count("control") == 5


@pytest.mark.slow
@pytest.mark.launch
def test_a_state_is_saved_to_a_folder_that_both_nodes_share(launching: None, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    nodes = Nodes(tmp_path)
    follower = nodes.start(1)
    axes = ["--workload", "mlp", "--strategy", "ddp,fsdp", "--gpus", "2", "--spread", "even", "--batch-size", "4"]
    saves = ["--save-checkpoint", "full,dcp,dcp-async", "--save-dir", str(shared)]
    code, said = ended(nodes.start(0, *axes, *saves, "--launches", "1", "--steps", "4"))
    assert code == 0, said
    assert ended(follower)[0] == 0
    rows = nodes.rows()
    assert [(row["status"], row["nodes"], row["save_restored"], row["save_note"]) for row in rows] == [
        ("ok", "2", "true", "")
    ] * 6
    assert list(shared.iterdir()) == []
