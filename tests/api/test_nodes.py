"""What node 0 asks of followers before they take part, and again when they come back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from fake_ranks import MLP, Quiet
from processes import wait_for

from bench.api.nodes import Nodes
from bench.errors import IncomparableError
from bench.machine.gpus import Machine
from bench.nodes.channel import Channel, connect
from bench.nodes.head import Head
from bench.nodes.options import NodesAsked
from bench.plan.code_key import digest
from bench.plan.data_files import absolute_data
from bench.plan.plan import Plan, asked, make_plan
from bench.runner.make_sites import SiteAsked
from bench.runner.rank_site import Site
from launch.ports import free_port
from workloads.data.paths import fingerprint

MINE = b"class Mine:\n    unit, batch_size = 'samples', 16\n"


class Run:
    """Node 0, and followers that answer as a test tells them."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", free_port())
        self.head = Head(self.address, 2, "s", {}, 10.0, print)
        self.nodes = Nodes(NodesAsked(2, 0, self.address, "s", 1), self.head, Machine())
        self.channels: list[Channel] = []

    def join(self) -> Channel:
        channel = connect(self.address, "s", 5)
        self.channels.append(channel)
        channel.send("hello", node=1, nodes=2, host="n2", places=1, facts={}, gpus=[])
        return channel


def answer(channel: Channel, kind: str, **values: Any) -> dict[str, Any]:
    """Answer the next question of a kind, and return it."""
    while True:
        message, _ = channel.receive(10)
        if message["kind"] == kind:
            channel.send(kind, question=message["question"], **values)
            return message


@pytest.fixture
def run() -> Iterator[Run]:
    one = Run()
    yield one
    one.head.close("", 0)
    for channel in one.channels:
        channel.close()


@pytest.fixture
def thread() -> Iterator[futures.Executor]:
    with futures.ThreadPoolExecutor(1) as one:
        yield one


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan with a workload of the user's own."""
    (tmp_path / "mine.py").write_bytes(MINE)
    axes = {**{name: [value] for name, value in MLP.items()}, "workload": [f"{tmp_path}/mine.py:Mine"]}
    return make_plan(asked(axes, {}), Machine())


def test_files_are_compared_whenever_a_follower_joins(
    run: Run, plan: Plan, thread: futures.Executor, tmp_path: Path
) -> None:
    file = str(tmp_path / "mine.py")
    first = run.join()
    checked = thread.submit(run.nodes.checked, {"": plan}, Quiet())
    assert answer(first, "files", digests={file: digest(MINE)})["names"] == [file]
    assert checked.result(10)[""].cases
    first.close()
    wait_for(lambda: run.head.peers[1].lost)
    waiting = thread.submit(run.head.wait, 2)
    answer(run.join(), "files", digests={file: digest(b"other")})
    with pytest.raises(IncomparableError) as raised:
        waiting.result(10)
    assert str(raised.value) == (
        f"{file} differs from that of node 0 on node 1 (n2). Files are not sent: put the same ones at the same path on "
        "all nodes."
    )


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (True, ""),
        ("text:0123456789abcdef", "and text:0123456789abcdef on node 1 (n2)"),
        (None, "and not there on node 1 (n2)"),
    ],
)
def test_data_on_disks_are_compared(
    theirs: str | bool | None, why: str, run: Run, thread: futures.Executor, tmp_path: Path
) -> None:
    (text := tmp_path / "words").write_bytes(bytes(5000))
    axes = {"workload": ["gpt-nano"], "data": [f"text={text}"], "gpus": ["1"], "device": ["cpu"]}
    # by hand: sha256 of the size in digits and of the content twice, as both ends of a small file are all of it
    own = "text:" + hashlib.sha256(b"5000" + bytes(5000) * 2).hexdigest()[:16]
    channel = run.join()
    checked = thread.submit(run.nodes.checked, {"": make_plan(asked(axes, {}), Machine())}, Quiet())
    answer(channel, "files", digests={})
    found = {f"text={text}": own if theirs is True else theirs} if theirs else {}
    assert answer(channel, "data", fingerprints=found)["names"] == [f"text={text}"]
    if not why:
        assert checked.result(10)[""].cases
        return
    with pytest.raises(IncomparableError) as raised:
        checked.result(10)
    assert f"--data text={text} is {own} on node 0 {why}" in str(raised.value)


def test_demo_data_are_asked_for_by_their_name_as_each_node_makes_its_own(run: Run, thread: futures.Executor) -> None:
    channel = run.join()
    axes = {"workload": ["gpt-nano"], "data": ["text=demo"], "gpus": ["1"], "device": ["cpu"]}
    checked = thread.submit(run.nodes.checked, {"": make_plan(asked(axes, {}), Machine())}, Quiet())
    answer(channel, "files", digests={})
    assert answer(channel, "data", fingerprints={"text=demo": fingerprint(absolute_data("text=demo"))})["names"] == [
        "text=demo"
    ]
    assert checked.result(10)[""].cases


@pytest.mark.parametrize("nonsense", [{}, {"digests": 3}, {"digests": None}])
def test_an_answer_that_is_not_understood_makes_a_follower_lost(
    run: Run, plan: Plan, thread: futures.Executor, nonsense: dict[str, Any]
) -> None:
    channel = run.join()
    thread.submit(run.nodes.checked, {"": plan}, Quiet())
    answer(channel, "files", **nonsense)
    wait_for(lambda: "its answer to 'files' is not understood" in run.head.peers[1].lost)
    answer(run.join(), "files", digests={str(plan.cases[0].case.spec.target.rpartition(":")[0]): digest(MINE)})


def test_a_file_that_is_not_there_is_said(run: Run, plan: Plan, thread: futures.Executor, tmp_path: Path) -> None:
    channel = run.join()
    checked = thread.submit(run.nodes.checked, {"": plan}, Quiet())
    answer(channel, "files", digests={str(tmp_path / "mine.py"): None})
    with pytest.raises(IncomparableError, match=r"mine.py cannot be read on node 1 \(n2\)"):
        checked.result(10)


def test_a_file_of_which_a_side_has_a_revision_may_differ(run: Run, plan: Plan, thread: futures.Executor) -> None:
    channel = run.join()
    checked = thread.submit(run.nodes.checked, {"A": plan, "B": plan}, Quiet(), {"A", "B"})
    assert answer(channel, "files", digests={})["names"] == []
    checked.result(10)


def test_the_sites_of_a_follower_are_known_by_side(run: Run, thread: futures.Executor) -> None:
    channel = run.join()
    wanted = [SiteAsked("A", top="/repo", rev="main", commit="c" * 40), SiteAsked("B", "/py", "/repo")]
    here = {"A": Site("", "", "/repo", "/x/A"), "B": Site("/py", "/x/packages", "/repo", "/repo", "torch 2.14.1")}
    there = {"A": Site("", "", "/repo", "/y/A"), "B": Site("/py", "/y/packages", "/repo", "/repo", "torch 2.14.1")}
    made = thread.submit(run.nodes.make_sites, wanted, here)
    asked_for = answer(channel, "sites", sites={side: vars(site) for side, site in there.items()})["sites"]
    assert [SiteAsked(**one) for one in asked_for] == wanted
    made.result(10)
    assert run.head.peers[1].sites == {"": Site(), **there}


def test_what_a_follower_cannot_make_ends_the_comparison(run: Run, thread: futures.Executor) -> None:
    channel = run.join()
    made = thread.submit(run.nodes.make_sites, [SiteAsked("B", "/py")], {"B": Site("/py")})
    answer(channel, "sites", error="--b-python /py: cannot run it: No such file or directory", hint=None)
    with pytest.raises(IncomparableError) as raised:
        made.result(10)
    assert str(raised.value) == (
        "node 1 (n2): --b-python /py: cannot run it: No such file or directory. Each node needs the same repository and "
        "interpreters, at the same paths."
    )
