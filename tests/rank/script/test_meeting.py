"""Ranks that wait for each other through files."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bench.messages.heartbeat import Heartbeat
from bench.rank.script.meeting import Meeting, Store, exchange
from launch.rendezvous import host_store


def meeting(tmp_path: Path, rank: int, ranks: int = 2, patience_s: float = 60.0) -> Meeting:
    return Meeting(str(tmp_path), "launch", rank, ranks, patience_s)


def test_all_get_the_numbers_of_all(tmp_path: Path) -> None:
    found: dict[int, list[float]] = {}

    def meet(rank: int) -> None:
        found[rank] = meeting(tmp_path, rank).meet("window", 1.5 + rank)

    other = threading.Thread(target=meet, args=[1])
    other.start()
    meet(0)
    other.join()
    assert found == {0: [1.5, 2.5], 1: [1.5, 2.5]}


def test_ranks_of_several_nodes_meet_at_the_store_of_the_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each node has a scratch folder of its own."""
    store = host_store(60)
    for name, value in {"GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}.items():
        monkeypatch.setenv(name, value)
    found: dict[int, list[float]] = {}

    def meet(rank: int) -> None:
        (folder := tmp_path / str(rank)).mkdir()
        own = Meeting(str(folder), "launch", rank, 2, 60.0, exchange(str(folder), 60.0))
        found[rank] = [*own.meet("window", 1.5 + rank), *own.meet("end", rank)]

    other = threading.Thread(target=meet, args=[1])
    other.start()
    meet(0)
    other.join()
    assert found == {0: [1.5, 2.5, 0.0, 1.0], 1: [1.5, 2.5, 0.0, 1.0]}


@pytest.mark.parametrize(("node", "says"), [("0", True), ("1", False)])
def test_a_rank_of_node_0_says_that_ranks_disagree(
    node: str, says: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another node does not know the steps of all."""
    store = host_store(60)
    monkeypatch.setenv("GROUP_RANK", node)
    by = Store("127.0.0.1", store.port, 60.0)
    waits: list[int] = []

    def waiting() -> None:
        waits.append(1)
        if len(waits) == 50:
            by.put("window-launch-1", "2.5")

    own = Meeting(str(tmp_path), "launch", 0, 2, 0.01, by)
    if says:
        with pytest.raises(RuntimeError, match="ranks disagree"):
            own.meet("window")
    else:
        assert own.meet("window", 1.0, waiting) == [1.0, 2.5]


def test_nobody_waits_for_ever_for_a_rank_that_makes_no_steps(tmp_path: Path) -> None:
    for rank, done in enumerate((35, 0)):
        Heartbeat(tmp_path, "launch", rank).beat(done, 40, 1)
    with pytest.raises(RuntimeError, match="ranks disagree: rank 0 is at step 35, rank 1 at 0; every rank must"):
        meeting(tmp_path, 0, patience_s=0.05).meet("window")


def test_a_rank_that_makes_steps_is_waited_for(tmp_path: Path) -> None:
    beats = [Heartbeat(tmp_path, "launch", rank) for rank in range(2)]
    beats[0].beat(5, 40, 1)

    def comes_late() -> None:
        for done in range(1, 6):
            beats[1].beat(done, 40, 1)
            time.sleep(0.1)
        meeting(tmp_path, 1).meet("window")

    other = threading.Thread(target=comes_late)
    other.start()
    assert meeting(tmp_path, 0, patience_s=0.3).meet("window") == [0.0, 0.0]
    other.join()
