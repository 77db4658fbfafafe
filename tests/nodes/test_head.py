"""Node 0 and its followers: who may join, and who is there."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

from bench.errors import BenchError, IncomparableError, UsageError
from bench.nodes import head as module
from bench.nodes.channel import Channel, Refused, connect
from bench.nodes.facts import same_machine, unlike
from bench.nodes.head import Condition, Head, Peer

TOKEN = "s"
FACTS = {"tool_version": "0.3", "tool_commit": "", "torch": "2.14.1", "torchvision": "0.29", "python": "3.11.7"}
MACHINE = {"hostname": "n2", "cpu_model": "x", "ram_gib": 8.0, "gpus": ""}


class Running:
    def __init__(self, nodes: int = 2, join_s: float = 5.0) -> None:
        self.warned: list[str] = []
        self.address = ("127.0.0.1", _free())
        self.head = Head(self.address, nodes, TOKEN, FACTS, join_s, self.warned.append)
        self.channels: list[Channel] = []

    def join(self, node: int = 1, nodes: int = 2, **changed: Any) -> Channel:
        channel = connect(self.address, TOKEN, 5)
        self.channels.append(channel)
        facts = {**FACTS, **MACHINE, **changed}
        channel.send("hello", node=node, nodes=nodes, host=facts["hostname"], places=2, facts=facts)
        return channel

    def joined(self) -> tuple[Channel, Peer]:
        """Let a follower join, and return its side and node 0's."""
        channel = self.join()
        kind(channel, "welcome")
        [peer] = self.head.wait(2)
        return channel, peer


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _await(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def running() -> Iterator[Running]:
    one = Running()
    yield one
    one.head.close("", 0)
    for channel in one.channels:
        channel.close()


def kind(channel: Channel, wanted: str) -> dict[str, Any]:
    while True:
        message, _ = channel.receive(10)
        if message["kind"] == wanted:
            return message


def test_a_follower_joins_and_answers(running: Running) -> None:
    channel = running.join()
    assert kind(channel, "welcome")
    [peer] = running.head.wait(2)
    assert (peer.node, peer.name, peer.places, peer.lost) == (1, "node 1 (n2)", 2, "")
    first, second = peer.ask("prepare", environment={"A": "b"}), peer.ask("prepare", environment={"A": "c"})
    asked = kind(channel, "prepare")
    assert (asked["environment"], asked["question"]) == ({"A": "b"}, first)
    for number in (first, second):
        channel.send("ready", question=number, error=number)
    assert peer.answer(second, 5) == {"kind": "ready", "question": second, "error": second}
    assert peer.answer(second, 0.05) is None
    assert peer.answer(second, 60, lambda: True) is None  # at once


@pytest.mark.parametrize(
    ("join", "said"),
    [
        ({"node": 2}, "it says node 2 of 2, and this run has 2"),
        ({"node": 0}, "it says node 0 of 2"),
        ({"nodes": 3}, "it says node 1 of 3, and this run has 2"),
        ({"torch": "2.11.0"}, "torch is 2.14.1 on node 0 and 2.11.0 on node 1 (n2)"),
        ({"tool_commit": "abc"}, "stepbench's commit is unknown on node 0 and abc on node 1 (n2)"),
        ({"python": "3.13.0", "torchvision": ""}, "torchvision is 0.29 on node 0 and unknown on node 1"),
    ],
)
def test_who_must_not_join_is_told_why(running: Running, join: dict[str, Any], said: str) -> None:
    assert said in kind(running.join(**join), "refused")["why"]
    if set(join) - {"node", "nodes"}:
        with pytest.raises(IncomparableError, match="Install the same on all nodes"):
            running.head.wait(2)


def test_a_second_process_of_a_node_is_refused(running: Running) -> None:
    first = running.join()
    kind(first, "welcome")
    assert "node 1 (n2) is there already" in kind(running.join(), "busy")["why"]
    assert running.head.wait(2)


def test_another_token_lets_nobody_in(running: Running) -> None:
    with pytest.raises(Refused):
        connect(running.address, "wrong", 5)
    _await(lambda: running.warned)
    assert "a process that wanted to join was refused" in running.warned[0]
    assert running.head.peers == {}


def test_the_end_of_a_connection_is_told(running: Running) -> None:
    channel, peer = running.joined()
    channel.close()
    _await(lambda: peer.lost)
    assert peer.lost == "node 1 (n2) was lost: it closed the connection"
    assert peer.answer(peer.ask("prepare"), 60) is None  # at once


def test_silence_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    _, peer = running.joined()
    _await(lambda: peer.lost)
    assert peer.lost == "node 1 (n2) was lost: nothing was heard of it for 0.3 s"


def test_a_follower_may_come_back_but_not_as_another_machine(running: Running) -> None:
    first = running.join()
    kind(first, "welcome")
    [peer] = running.head.wait(2)
    first.close()
    _await(lambda: peer.lost)
    again = running.join()
    kind(again, "welcome")
    assert running.head.wait(2)[0] is not peer
    again.close()
    _await(lambda: running.head.peers[1].lost)
    assert "came back as another machine" in kind(running.join(ram_gib=16.0), "refused")["why"]
    with pytest.raises(IncomparableError):
        running.head.wait(2)


def asked_in(thread: futures.Executor, running: Running, answer: str) -> futures.Future[None]:
    """Require of all followers that they answer ``answer``."""

    def check(peer: Peer, message: dict[str, Any]) -> None:
        if message["is"] != answer:
            raise IncomparableError(f"{message['is']} on {peer.name}")

    return thread.submit(running.head.require, Condition("what", {"of": answer}, 10.0, check))


def answers(channel: Channel, answer: str) -> None:
    question = kind(channel, "what")
    channel.send("it", question=question["question"], **{"is": answer})


def test_conditions_are_asked_of_each_follower_once_and_again_when_it_comes_back(running: Running) -> None:
    with futures.ThreadPoolExecutor(1) as thread:
        first, _ = running.joined()
        for answer in ("good", "fine"):
            asked = asked_in(thread, running, answer)
            answers(first, answer)
            asked.result(10)
        assert running.head.wait(2)  # at once, without another question
        first.close()
        _await(lambda: running.head.peers[1].lost)
        again = running.join()
        kind(again, "welcome")
        waiting = thread.submit(running.head.wait, 2)
        answers(again, "good")
        answers(again, "bad")
        with pytest.raises(IncomparableError, match=r"bad on node 1 \(n2\)"):
            waiting.result(10)


def test_a_follower_that_is_lost_before_its_answer_is_waited_for(running: Running) -> None:
    with futures.ThreadPoolExecutor(1) as thread:
        first, _ = running.joined()
        asked = asked_in(thread, running, "good")
        kind(first, "what")
        first.close()
        answers(running.join(), "good")
        asked.result(10)


def test_a_follower_that_does_not_answer_is_lost(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.joined()
    running.head.join_s = 0.1
    with pytest.raises(
        BenchError, match=r"did not join within 0.1 s \(node 1 \(n2\) was lost: it did not answer within"
    ):
        running.head.require(Condition("what", {}, 0.3, lambda *_: None))


def test_what_a_follower_sends_wrongly_loses_it_alone(running: Running) -> None:
    channel, peer = running.joined()
    peer.heard = lambda message, blob: message["name"]  # as the copies of files do
    channel.send("file")
    _await(lambda: peer.lost)
    assert running.head.peers == {1: peer}


def test_absent_nodes_are_named() -> None:
    one = Running(nodes=3, join_s=0.2)
    with contextlib.closing(one.join(node=1, nodes=3)) as channel:
        kind(channel, "welcome")
        with pytest.raises(BenchError) as raised:
            one.head.wait(3)
    assert "node 2 of 3 did not join within 0.2 s" in str(raised.value)
    assert "bench run --nnodes 3 --node-rank 2" in str(raised.value)
    one.head.close("", 0)


def test_all_learn_the_exit_code(running: Running) -> None:
    channel = running.join()
    kind(channel, "welcome")
    running.head.wait(2)
    running.head.close("the run has ended", 5)
    bye = kind(channel, "bye")
    assert (bye["why"], bye["code"]) == ("the run has ended", 5)


def test_a_name_of_the_loopback_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian gives a host's own name the address 127.0.1.1, which other nodes cannot reach."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 1))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *words, **more: found)
    with pytest.raises(UsageError, match="which other nodes cannot reach"):
        Head(("node0", 1), 2, TOKEN, FACTS, 1.0, print)


def test_strangers_take_no_more_than_some_places(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = [socket.create_connection(running.address) for _ in range(module.MOST_STRANGERS + 10)]
    try:
        _await(lambda: running.head._strangers._value == 0)
        strangers[-1].settimeout(10)
        assert strangers[-1].recv(1) == b""
    finally:
        for stranger in strangers:
            stranger.close()
    _await(lambda: running.head._strangers._value == module.MOST_STRANGERS)
    assert kind(running.join(), "welcome")


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (("no-such-host.invalid", 1), "no-such-host.invalid cannot be resolved"),
        (("192.0.2.1", 29500), "node 0 cannot listen at 192.0.2.1:29500"),
    ],
)
def test_an_address_that_is_not_ones_own(endpoint: tuple[str, int], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        Head(endpoint, 2, TOKEN, FACTS, 1.0, print)
    assert said in str(raised.value)


def test_machines_may_differ_and_that_is_said() -> None:
    assert unlike({"ram_gib": 8.0}, {"ram_gib": 8.0}, "node 1 (n2)") == ""
    words = unlike({"ram_gib": 8.0, "driver": "1"}, {"ram_gib": 16.0, "driver": "1"}, "node 1 (n2)")
    assert words == "node 0 and node 1 (n2) are unlike: ram_gib 8.0 and 16.0"
    here, there = ({"hardware": json.dumps({"smt": smt, "kernel": smt})} for smt in ("on", "off"))
    assert unlike(here, there, "node 1 (n2)") == "node 0 and node 1 (n2) are unlike: smt 'on' and 'off'"


def test_errors_of_memory_make_no_other_machine() -> None:
    facts = {"hostname": "n2", "hardware": json.dumps({"smt": "on", "gpu_ecc_errors": "0 corrected / 0 not"})}
    assert same_machine(
        facts, {**facts, "hardware": json.dumps({"smt": "on", "gpu_ecc_errors": "1 corrected / 0 not"})}
    )
    assert not same_machine(facts, {**facts, "hardware": json.dumps({"smt": "off"})})
    assert not same_machine(facts, {**facts, "hostname": "n3"})


@pytest.mark.parametrize("hour", [3600, -3600])
def test_a_clock_that_is_set_is_noticed_at_the_next_ping(running: Running, hour: int) -> None:
    """What was known of it before is forgotten; small differences between pings are none."""
    channel, peer = running.joined()
    for ahead_s, known, times_set in [(0, 1, 0), (0, 2, 0), (hour, 1, 1), (hour, 2, 1)]:
        at = time.time_ns()
        channel.send("pong", at=at, here=at + ahead_s * 1_000_000_000)
        _await(lambda state=(known, times_set): (len(peer._clocks), peer.clocks_set) == state)  # type: ignore[misc]
        assert abs(peer.ahead_ns / 1e9 - ahead_s) < 60


def test_a_clock_that_is_ahead_is_known(running: Running) -> None:
    """By the ping that came back soonest, of a follower whose clock is 30 s ahead."""
    channel, peer = running.joined()
    for late_s in (0.2, 0.0, 0.1):
        at = kind(channel, "ping")["at"]
        time.sleep(late_s)
        channel.send("pong", at=at, here=time.time_ns() + 30_000_000_000)
    _await(lambda: len(peer._clocks) == 3)
    assert abs(peer.ahead_ns - 30_000_000_000) < 500_000_000
