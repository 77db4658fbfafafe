"""What ranks have left is checked before it is believed: records, heartbeats, last words."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.messages.heartbeat import LAST_WORDS, STAGE, Heartbeat
from bench.messages.rank_record import PARTS, Failure, Measurement, RankRecord, disagreement
from bench.plan.description import Description
from bench.runner.failure_cause import Evidence, cause
from bench.store.columns import MEMORY
from bench.untrusted.rank_files import NonsenseError, read_file
from launch import Outcome

MEASURED = Measurement(
    first_step_at_ns=1,
    window_at_ns=2,
    first_step_ns=3,
    warmup_steps=3,
    window_ns=20,
    steps_ns=[10, 10],
    parts_ns={part: [2, 2] for part in PARTS},
    data_wait_host_ns=[0, 0],
    samples=4,
    losses=[1.0, float("nan"), 2, float("inf"), 0.5],
    forward_is_local=None,
    steps_per_epoch=None,
    memory={**dict.fromkeys(MEMORY), "peak_rss_mib": 400.5},
)
RECORD = RankRecord(1, 1, "node1", 4242, True, "cpu", [], {"torch": "2.14"}, measurement=MEASURED)


def left(folder: Path, values: Any) -> RankRecord | None:
    (folder / "rank1.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return RankRecord.read(folder, 1)


def test_what_a_rank_has_written_is_read_as_it_was(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    read = RankRecord.read(tmp_path, 1)
    assert repr(read) == repr(RECORD)  # nan is unlike itself
    failed = dataclasses.replace(RECORD, measurement=None, failure=Failure("oom", "MemoryError: \ud800", 7, None, 12.5))
    failed.write(tmp_path)
    assert RankRecord.read(tmp_path, 1) == failed
    assert RankRecord.read(tmp_path, 0) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rank", 0, "is the record of rank 0"),
        ("rank", "1", "has a str as rank"),
        ("rank", True, "has True as rank"),
        ("pid", -1, "has -1 as pid"),
        ("pid", 1.5, "has 1.5 as pid"),
        ("pid", 2**63, "has 9223372036854775808 as pid"),
        ("host", None, "has None as host"),
        ("host", ["a"], "has a list as host"),
        ("software", {"torch": 2}, "has 2 as software['torch']"),
        ("software", {"case_id": "mine"}, "has an unknown software 'case_id'"),
        ("device_uuids", "GPU", "has a str as device_uuids"),
        ("failure", {"kind": "oom"}, "lacks message (failure)"),
        ("failure", [], "holds a list where it should hold the fields of a Failure (failure)"),
        ("nothing", 1, "has a field 'nothing', which is unknown"),
    ],
)
def test_a_field_of_another_kind_is_nonsense(tmp_path: Path, name: str, value: Any, words: str) -> None:
    with pytest.raises(NonsenseError) as error:
        left(tmp_path, {**dataclasses.asdict(RECORD), name: value})
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps_ns": []}, "measured no time"),
        ({"steps_ns": [0, 0]}, "measured no time"),
        ({"window_ns": 0}, "measured no time"),
        ({"steps_ns": [10, -10]}, "has -10 as steps_ns[1] (measurement)"),
        ({"steps_ns": [10, 1e300]}, "has 1e+300 as steps_ns[1] (measurement)"),
        ({"steps_ns": [10, 10**30]}, "has 1000000000000000000000000000000 as steps_ns[1] (measurement)"),
        ({"steps_ns": [10, 10, 10]}, "has parts of more or fewer than its 3 steps"),
        ({"parts_ns": {}}, "has other parts of a step than data_wait, copy, forward, backward, optimizer"),
        ({"data_wait_host_ns": [1]}, "has parts of more or fewer than its 2 steps"),
        ({"losses": [1.0]}, "has 1 losses of 3 + 2 steps"),
        ({"losses": [1.0, None, 1.0, 1.0, 1.0]}, "has None as losses[1] (measurement)"),
        ({"memory": {"peak_rss_mib": float("nan")}}, "has nan as memory['peak_rss_mib'] (measurement)"),
        ({"warmup_steps": 10**18}, "has 5 losses of 1000000000000000000 + 2 steps"),
        ({"bursts_ns": [1]}, "has bursts without a time"),
    ],
)
def test_a_measurement_that_cannot_be_is_nonsense(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    values = dataclasses.asdict(RECORD)
    with pytest.raises(NonsenseError) as error:
        left(tmp_path, {**values, "measurement": {**values["measurement"], **change}})
    assert str(error.value) == words


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\0\0\0", "[" * 100_000])
def test_a_torn_record_is_nonsense(tmp_path: Path, text: str) -> None:
    with pytest.raises(NonsenseError, match="is not JSON"):
        left(tmp_path, text)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"rank"'])
def test_json_of_another_shape_is_nonsense(tmp_path: Path, text: str) -> None:
    with pytest.raises(NonsenseError, match="where it should hold the fields of a RankRecord"):
        left(tmp_path, text)


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "socket"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path: Path, what: str) -> None:
    import socket

    path = tmp_path / "rank1.json"
    if what == "link":
        RECORD.write(tmp_path)
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(path))
    with pytest.raises(NonsenseError, match="is not a regular file"):
        RankRecord.read(tmp_path, 1)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(1 << 40)  # takes no room
    with pytest.raises(NonsenseError, match="has 1099511627776 bytes"):
        read_file(tmp_path / "x")


def test_ranks_that_trained_other_steps_disagree() -> None:
    other = dataclasses.replace(MEASURED, warmup_steps=4, losses=[1.0] * 6)
    records = {0: RECORD, 1: dataclasses.replace(RECORD, measurement=other)}
    assert disagreement({0: RECORD, 1: RECORD}) == {}
    assert disagreement(records) == {1: "its record rank1.json has 4 steps before them, that of another rank 3"}


def test_a_description_is_checked_as_well(tmp_path: Path) -> None:
    with pytest.raises(NonsenseError, match="is missing"):
        Description.read(tmp_path)
    (tmp_path / "description.json").write_text('{"unit": 1}')
    with pytest.raises(NonsenseError):
        Description.read(tmp_path)


@pytest.mark.parametrize(
    ("beat", "words"),
    [
        ((-1, 10, 1, 0, 0, 3), "has -1 steps done"),
        ((1, 2**62, 1, 0, 0, 3), "has 4611686018427387904 steps planned"),
        ((1, 10, -5, 0, 0, 3), "has a time below 0"),
        ((1, 10, 1, 0, 0, 99), "has stage 99, which does not exist"),
        ((1, 10, 1, 0, 0, -1), "has stage -1, which does not exist"),
    ],
)
def test_a_heartbeat_of_nonsense(tmp_path: Path, beat: tuple[int, ...], words: str) -> None:
    heart = Heartbeat(tmp_path, "0000-case", 0)
    done, planned, time_ns, synced, step_ns, stage = beat
    heart.beat(done, planned, time_ns)
    heart.synced(synced, step_ns)
    heart.enter(stage)
    with pytest.raises(NonsenseError) as error:
        Heartbeat.read(tmp_path, "0000-case", 0)
    assert str(error.value) == words


def test_a_heartbeat_cut_short(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, "0000-case", 0)
    os.truncate(heart.path, 7)
    with pytest.raises(NonsenseError, match="has 7 bytes"):
        Heartbeat.read(tmp_path, "0000-case", 0)
    os.truncate(heart.path, 0)
    assert Heartbeat.read(tmp_path, "0000-case", 0) is None


@pytest.mark.parametrize("message", ["ValueError: short", "é" * LAST_WORDS, "x" * 100_000, "\ud800\0" * 500])
def test_last_words_need_no_file(tmp_path: Path, message: str) -> None:
    heart = Heartbeat(tmp_path, "0000-case", 0)
    heart.enter(STAGE["forward"])
    assert Heartbeat.last_words(tmp_path, "0000-case", 0) is None
    heart.say(Failure("oom", "MemoryError", 1))
    heart.say(Failure("crashed", message, 2, None, 12.5))
    said = Heartbeat.last_words(tmp_path, "0000-case", 0)
    assert said is not None
    assert (said.kind, said.time_ns, said.rss_mib) == ("crashed", 2, 12.5)
    assert message.startswith(said.message)
    assert len(said.message) >= min(len(message), LAST_WORDS // 8)
    assert Heartbeat.read(tmp_path, "0000-case", 0) == (0, 0, 0, 0, 0, "forward")


def test_nonsense_comes_before_all_other_causes() -> None:
    records = {0: RankRecord(0, 0, "node1", 1, True, failure=Failure("crashed", "RuntimeError: Broken pipe", 5))}
    evidence = Evidence(records, Outcome({0: 1, 1: -9}, "failed"), 2, nonsense={1: "its heartbeat has 7 bytes"})
    assert cause(evidence) == ("crashed", "rank 1: its heartbeat has 7 bytes")
