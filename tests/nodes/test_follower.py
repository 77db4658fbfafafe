"""A follower's own part of a launch: where its ranks write, and what it tells node 0 of them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from plain_case import PLAIN

from bench.errors import BenchError
from bench.messages.rank_record import RankRecord
from bench.messages.spec import Spec
from bench.nodes.follower import Relay, _gpus_of, _joined, _message_of, _spec_here
from bench.nodes.mirror import Source
from bench.runner.gpu_sampler import DeviceSample
from bench.runner.node_sampler import NodeSamples
from launch.ports import free_port


def spec(**fields: Any) -> bytes:
    sent = Spec(
        PLAIN, "/home/me/net.py:Net", {"depth": 3}, "resident", 5, 30, 0.0, 600.0, "/node0/run", "/node0/scratch"
    )
    return json.dumps(dataclasses.asdict(dataclasses.replace(sent, **fields))).encode()


def test_ranks_write_below_the_scratch_folder_of_their_own_node(tmp_path: Path) -> None:
    found = _spec_here(spec(compile_cache="/node0/scratch/inductor-x"), tmp_path, "0001-mlp")
    assert (found.folder, found.scratch) == (str(tmp_path / "records" / "0001-mlp"), str(tmp_path))
    assert found.compile_cache == f"{tmp_path}/inductor-0001-mlp"
    assert (found.target, found.options, found.case) == ("/home/me/net.py:Net", {"depth": 3}, PLAIN)
    assert Spec.read(Path(found.folder) / "spec.json") == found
    assert _spec_here(spec(), tmp_path, "0002-mlp").compile_cache == ""


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    inside = tmp_path / "scratch"
    inside.mkdir()
    assert _spec_here(spec(), inside, "../../evil").folder == str(inside / "records" / "evil")
    assert [one.name for one in tmp_path.iterdir()] == ["scratch"]


class Channel:
    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any], bytes]] = []

    def send(self, kind: str, blob: bytes = b"", **values: Any) -> None:
        self.said.append((kind, values, blob))


def test_node_0_is_told_what_is_new(tmp_path: Path) -> None:
    """This process stands for rank 2, and a process that does not exist for rank 3."""
    channel = Channel()
    relay = Relay(channel, "run", Source(tmp_path, tmp_path, [2, 3]))  # type: ignore[arg-type]
    relay.look()
    assert channel.said == []
    RankRecord(2, 0, "h", os.getpid(), True).write(tmp_path)
    RankRecord(3, 1, "h", 2**22 + 1, True).write(tmp_path)
    relay.look()
    files = [values["name"] for kind, values, _ in channel.said if kind == "file"]
    assert files == ["rank2.json", "rank3.json"]
    [states] = [values for kind, values, _ in channel.said if kind == "ranks"]
    assert states["run_id"] == "run"
    assert states["ranks"][2]["State"][0] in "RS"
    assert int(states["ranks"][2]["VmHWM"].split()[0]) > 1000
    assert states["ranks"][3] == {"State": "X"}
    channel.said.clear()
    relay.look(last=True)
    assert channel.said == []


def test_the_gpus_of_ranks_are_those_of_their_records(tmp_path: Path) -> None:
    RankRecord(2, 0, "h", 11, True, device_uuids=["GPU-a", "GPU-b"]).write(tmp_path)
    (tmp_path / "rank3.json").write_text("torn")
    RankRecord(5, 0, "h", 12, True, device_uuids=["GPU-c"]).write(tmp_path)
    assert _gpus_of(tmp_path, [2, 3, 4]) == {"GPU-a", "GPU-b"}


def test_samples_that_no_message_can_hold_leave_their_readings_out(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = NodeSamples([DeviceSample(1, "GPU-a"), DeviceSample(2, "GPU-a")], {2: 5.0}, 1)
    assert NodeSamples.from_json(_message_of(samples)) == samples
    monkeypatch.setattr("bench.nodes.follower.MOST_BYTES", 100)
    note = "2 readings of GPUs are too many for a message"
    assert NodeSamples.from_json(_message_of(samples)) == NodeSamples([], {2: 5.0}, 1, note)


def test_node_0_that_does_not_come_is_named() -> None:
    port = free_port()
    with pytest.raises(BenchError) as raised:
        _joined(("127.0.0.1", port), "token", 0.3, print)
    assert f"node 0 was not there within 0.3 s, at 127.0.0.1:{port}: Connection refused" in str(raised.value)
