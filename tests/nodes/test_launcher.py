"""Launches over several nodes, with a launcher of this node and followers that are neither processes nor connections."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.nodes.launcher import NodesLauncher, interface_of, with_interface
from bench.runner.gpu_sampler import DeviceSample
from bench.runner.node_sampler import NodeSamples
from bench.runner.rank_site import Site
from launch import Elsewhere, Launcher, LaunchError, Node, Outcome, Prepared, Request, Watch, never_stop

FACTS = {"hostname": "n2", "cpu_model": "x"}


@dataclass
class Channel:
    own_address: str = "127.0.0.1"


@dataclass
class Follower:
    """Answers as it is told, and ends with ``samples``; ``said`` has what node 0 told it."""

    node: int
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: str = ""
    ahead_ns: int = 0
    clocks_set: int = 0
    facts: Mapping[str, Any] = field(default_factory=lambda: FACTS)
    said: list[tuple[str, dict[str, Any], bytes]] = field(default_factory=list)
    channel: Channel = field(default_factory=Channel)
    sites: dict[str, Site] = field(default_factory=lambda: {"": Site()})
    heard: Any = None
    dropped: str = ""
    samples: bytes = b""

    @property
    def name(self) -> str:
        return f"node {self.node} (n{self.node + 1})"

    def say(self, kind: str, blob: bytes = b"", **values: Any) -> None:
        self.said.append((kind, values, blob))
        if kind == "launch" and "ended" in self.answers:
            self.heard({"kind": "ended", "run_id": values["node"]["run_id"], **self.answers["ended"]}, self.samples)

    def ask(self, kind: str, **values: Any) -> str:
        self.say(kind, **values)
        return {"prepare": "ready", "stacks": "places"}[kind]

    def answer(self, number: str, seconds: float, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        return None if self.lost else self.answers.get(number)

    def drop(self, why: str) -> None:
        self.dropped = why
        self.lost = self.lost or f"{self.name} was lost: {why}"

    def told(self, kind: str) -> dict[str, Any]:
        [values] = [values for name, values, _ in self.said if name == kind]
        return values


@dataclass
class Head:
    followers: list[Follower]

    def wait(self, needed: int) -> list[Follower]:
        return self.followers[: needed - 1]


@dataclass
class Here(Launcher):
    """The launcher of node 0: hosts a store at port 77 and ends as it is told."""

    scratch: Path
    outcome: Outcome
    during: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    elsewhere: Elsewhere | None = None
    stopped: bool = False
    hosts: bool = True
    looks: int = 1

    def prepare(self, request: Request, watch: Watch = never_stop) -> Prepared:
        self.requests.append(request)
        return self

    def launch(self, watch: Watch = never_stop) -> Outcome:  # type: ignore[override]
        node = self.requests[-1].node
        if node and node.hosted and self.hosts:
            node.hosted(77)
        self.during()
        for _ in range(self.looks):
            self.stopped = watch()
            time.sleep(0.01)
        return self.outcome

    def close(self) -> None:
        pass


def ready(node: int, **ended: Any) -> Follower:
    return Follower(node, {"ready": {"error": ""}, "ended": {"exit_codes": {}, "error": "", **ended}})


def request(folder: Path, ranks: int) -> Request:
    spec = folder / "spec.json"
    spec.write_text('{"a": 1}')
    return Request("m:f", str(spec), ranks, 60.0, folder, {"OMP_NUM_THREADS": "1"})


def launched(
    folder: Path, followers: list[Follower], ranks: int, outcome: Outcome, **more: Any
) -> tuple[Here, Outcome]:
    here = Here(folder, outcome, **more)
    launcher = NodesLauncher(here, Head(followers), [2, 2, 2], {})  # type: ignore[arg-type]
    prepared = launcher.prepare(request(folder, ranks))
    return here, prepared.launch()


def test_what_fits_into_node_0_is_a_launch_of_its_own(tmp_path: Path) -> None:
    follower = ready(1)
    here, outcome = launched(tmp_path, [follower], 2, Outcome({}))
    assert outcome.ok
    assert here.requests[0].node is None
    assert follower.said == []


def test_each_node_gets_its_part(tmp_path: Path) -> None:
    followers = [ready(1), ready(2)]
    here, outcome = launched(tmp_path, followers, 5, Outcome({}))
    assert outcome == Outcome({})
    [own] = here.requests
    assert own.ranks == 2
    assert isinstance(own.node, Node)
    assert (own.node.rank, own.node.nodes, own.node.own, own.node.first_rank) == (0, 3, "127.0.0.1", 0)
    assert own.environment == {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    first, second = (follower.told("launch") for follower in followers)
    assert (first["ranks"], first["node"]["first_rank"], first["node"]["rank"]) == (2, 2, 1)
    assert (second["ranks"], second["node"]["first_rank"], second["node"]["rank"]) == (1, 4, 2)
    assert first["node"]["port"] == second["node"]["port"] == 77
    assert first["node"]["run_id"] == own.node.run_id
    assert [blob for name, _, blob in followers[0].said if name == "launch"] == [b'{"a": 1}']
    assert followers[0].told("prepare")["environment"] == {"OMP_NUM_THREADS": "1"}
    assert followers[0].told("prepare")["launcher"] == first["launcher"]
    assert not any(name == "stop" for follower in followers for name, *_ in follower.said)


def test_exit_codes_are_of_all_ranks_and_a_bad_end_stops_all(tmp_path: Path) -> None:
    follower = ready(1, exit_codes={"2": -9, "3": -15}, error="rank 0 ended with exit code -9")
    _, outcome = launched(tmp_path, [follower], 4, Outcome({0: 1, 1: -15}, "rank 0 ended with exit code 1"))
    assert outcome.exit_codes == {0: 1, 1: -15, 2: -9, 3: -15}
    assert (outcome.error, outcome.lost) == ("rank 0 ended with exit code 1", "")
    assert follower.told("stop")


def test_a_server_that_died_on_another_node_is_the_cause(tmp_path: Path) -> None:
    follower = ready(1, error="the launch server was killed by SIGKILL")
    _, outcome = launched(tmp_path, [follower], 4, Outcome({0: 1}, "rank 0 ended with exit code 1"))
    assert outcome.lost == "node 1 (n2): the launch server was killed by SIGKILL"
    assert not outcome.ok


def test_what_elastic_says_of_its_peers_is_not_the_cause(tmp_path: Path) -> None:
    """Rank 0 was killed; the agent of node 1 lost its connection to the store, before it knew of any exit code."""
    follower = ready(1, error="DistNetworkError: Connection reset by peer")
    _, outcome = launched(tmp_path, [follower], 4, Outcome({0: -9, 1: -15}, "rank 0 ended with exit code -9"))
    assert (outcome.lost, outcome.error) == ("", "rank 0 ended with exit code -9")


def test_a_node_that_is_lost_ends_the_launch_and_is_the_cause(tmp_path: Path) -> None:
    follower = ready(1)

    def lose() -> None:
        follower.lost = "node 1 (n2) was lost: it closed the connection"

    here, outcome = launched(tmp_path, [follower], 4, Outcome({}, stopped=True), during=lose)
    assert here.stopped
    assert outcome.lost == "node 1 (n2) was lost: it closed the connection"


def test_a_launch_that_did_not_begin_here_began_nowhere(tmp_path: Path) -> None:
    """Node 0 could not host the store: followers were not told to launch, and have nothing to end."""
    follower = Follower(1, {"ready": {"error": ""}})
    here = Here(tmp_path, Outcome({}, "the launch server was killed by SIGKILL"), hosts=False)
    prepared = NodesLauncher(here, Head([follower]), [2, 2], {}).prepare(request(tmp_path, 4))  # type: ignore[arg-type]
    killed = "the launch server was killed by SIGKILL"
    assert prepared.launch() == Outcome({}, killed, lost=f"node 0: {killed}")
    assert (follower.lost, follower.dropped) == ("", "")


def test_an_error_here_stops_the_others(tmp_path: Path) -> None:
    follower = ready(1)

    def fail() -> None:
        raise OSError("no descriptors")

    with pytest.raises(OSError, match="no descriptors"):
        launched(tmp_path, [follower], 4, Outcome({}), during=fail)
    assert follower.told("stop")


def test_a_follower_that_fails_ends_the_launch_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ranks never came, so that ranks here wait for them: they would do so until the time limit."""
    follower = Follower(1, {"ready": {"error": ""}, "ended": {"error": "FileNotFoundError: /home/me"}})
    here, outcome = launched(tmp_path, [follower], 4, Outcome({}, stopped=True))
    assert not here.stopped  # ranks here may notice it by themselves, and say more
    monkeypatch.setattr("bench.nodes.launcher.FAILED_PATIENCE_S", 0.02)
    here, outcome = launched(tmp_path, [dataclasses.replace(follower, said=[])], 4, Outcome({}), looks=5)
    assert here.stopped
    assert outcome.lost == "node 1 (n2): FileNotFoundError: /home/me"


def test_a_follower_that_does_not_end_its_ranks_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.nodes.launcher.STOP_S", 0.05)
    follower = Follower(1, {"ready": {"error": ""}})
    _, outcome = launched(tmp_path, [follower], 4, Outcome({}, stopped=True))
    assert follower.dropped == "its ranks did not end within 0.05 s"
    assert "node 1 (n2) was lost" in outcome.lost


@pytest.mark.parametrize(
    ("follower", "said"),
    [
        (Follower(1, {"ready": {"error": "cannot start a launch server: No space left"}}), "node 1 (n2): cannot start"),
        (Follower(1), "node 1 (n2): it started no launch server within 180 s"),
        (Follower(1, lost="node 1 (n2) was lost: x"), "node 1 (n2) was lost: x"),
    ],
)
def test_a_follower_that_cannot_start(tmp_path: Path, follower: Follower, said: str) -> None:
    with pytest.raises(LaunchError) as raised:
        launched(tmp_path, [follower], 4, Outcome({}))
    assert said in str(raised.value)


def test_what_is_told_of_ranks_elsewhere(tmp_path: Path) -> None:
    follower = ready(1)
    follower.answers["places"] = {"places": {"2": "mine.py:3 in loss"}}
    here = Here(tmp_path, Outcome({}))
    launcher = NodesLauncher(here, Head([follower]), [2, 2], {})  # type: ignore[arg-type]
    prepared = launcher.prepare(request(tmp_path, 4))
    far = prepared.elsewhere
    assert far is not None
    assert far.nodes == {2: 1, 3: 1}
    assert far.status(2) == {}

    def hear() -> None:
        run_id = follower.told("launch")["node"]["run_id"]
        follower.heard({"kind": "ranks", "run_id": run_id, "ranks": {"2": {"State": "T"}, "0": {"State": "Z"}}}, b"")
        follower.heard({"kind": "ranks", "run_id": "of another launch", "ranks": {"3": {"State": "Z"}}}, b"")
        late = {"kind": "file", "run_id": run_id, "where": "folder", "name": "rank2.log", "adds": True}
        follower.heard(late, b"words\n")

    here.during = hear
    assert prepared.launch().ok
    assert (far.status(2), far.status(0), far.status(3)) == ({"State": "T"}, {}, {})
    assert (tmp_path / "rank2.log").read_text() == "words\n"
    assert far.places() == {2: "mine.py:3 in loss"}
    assert json.loads(far.facts["node_facts"])[0]["hostname"] == "n2"
    assert far.facts["interface"] == "lo"


def sampled(folder: Path, samples: bytes, ahead_ns: int = 0, sets_clock: bool = False) -> Mapping[int, NodeSamples]:
    """Return what node 0 takes from a follower with ranks 2 and 3 that ends with these samples."""
    follower = dataclasses.replace(ready(1), samples=samples, ahead_ns=ahead_ns)
    launcher = NodesLauncher(Here(folder, Outcome({})), Head([follower]), [2, 2], {})  # type: ignore[arg-type]
    prepared = launcher.prepare(request(folder, 4))
    follower.clocks_set += sets_clock
    assert prepared.launch().ok
    assert prepared.elsewhere is not None
    return prepared.elsewhere.samples()


def test_samples_of_another_node_have_the_time_of_this_one_and_are_of_its_ranks(tmp_path: Path) -> None:
    reading = DeviceSample(1_030_000_000_000, "GPU-b", energy_j=7.5, pids=(11, 12))
    sent = NodeSamples([reading], {0: 99.0, 2: 5.0, 3: 6.5}, 2, "NVML lost GPU-c")
    here = dataclasses.replace(reading, time_ns=1_000_000_000_000)
    expected = NodeSamples([here], {2: 5.0, 3: 6.5}, 2, "node 1 (n2): NVML lost GPU-c")
    assert sampled(tmp_path, sent.to_json(), ahead_ns=30_000_000_000) == {1: expected}
    assert sampled(tmp_path, b"") == {}


def test_times_of_a_clock_that_was_set_during_the_launch_are_not_used(tmp_path: Path) -> None:
    sent = NodeSamples([DeviceSample(1, "GPU-b")], {2: 5.0}, 1).to_json()
    note = "node 1 (n2): its clock was set during the launch"
    found = sampled(tmp_path, sent, sets_clock=True)
    assert found == {1: NodeSamples([], {2: 5.0}, 1, note, clock_set=True)}


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (b"{", "is not JSON"),
        (b'{"devices": [{"time_ns": -1, "uuid": "GPU-b"}]}', "has -1 as time_ns (devices[0])"),
        (b'{"devices": [{"time_ns": 1, "uuid": "GPU-b", "energy_j": NaN}]}', "has nan as energy_j (devices[0])"),
        (b'{"devices": [{"time_ns": 1, "uuid": "GPU-b", "pids": ["1"]}]}', "has a str as pids[0] (devices[0])"),
        (b'{"peaks_mib": {"2": "much"}}', "has a str as peaks_mib['2']"),
        (b'{"peaks_mib": {"two": 5.0}}', "has a key that is no number: peaks_mib['two']"),
        (b'{"oom_kills": 1e99}', "has 1e+99 as oom_kills"),
    ],
)
def test_samples_that_cannot_be_are_not_believed(tmp_path: Path, samples: bytes, why: str) -> None:
    assert sampled(tmp_path, samples) == {1: NodeSamples(note=f"node 1 (n2): what it sampled {why}")}


def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") == ""
    assert with_interface({"A": "b"}, {}, "127.0.0.1") == {"A": "b", "GLOO_SOCKET_IFNAME": "lo"}
    assert with_interface({"GLOO_SOCKET_IFNAME": "eth1"}, {}, "127.0.0.1") == {"GLOO_SOCKET_IFNAME": "eth1"}
    assert with_interface({}, {"GLOO_SOCKET_IFNAME": "eth1"}, "127.0.0.1") == {}
    assert with_interface({}, {}, "192.0.2.77") == {}


def test_each_node_runs_its_own_checkout_of_a_side(tmp_path: Path) -> None:
    """The spec and the variables name paths of the follower, and its records come back with those of node 0."""
    follower, other = ready(1), ready(2)
    here = Site("/py", "/t/x/packages", "/repo", "/t/x/B")
    follower.sites["B"] = Site("/py", "/t/y/packages", "/repo", "/t/y/B")
    other.sites["B"] = here  # a file system of its own
    record = {"rank": 2, "sources": ["/t/y/B/net.py"], "code": [{"module": "net", "file": "/t/y/B/net.py"}]}
    folder = tmp_path / "0001"
    folder.mkdir()

    def heard() -> None:
        message = {"kind": "file", "run_id": follower.told("launch")["node"]["run_id"], "where": "folder"}
        follower.heard({**message, "name": "rank2.json", "adds": False}, json.dumps(record).encode())

    head, own = Head([follower, other]), Here(tmp_path, Outcome({}), heard)
    launcher = NodesLauncher(own, head, [2, 2, 2], {}, side="B", site=here)  # type: ignore[arg-type]
    asked = request(folder, 6)
    spec = {"target": "/t/x/B/net.py:Net", "watched": ["/repo", "/t/x/B"], "script": None, "data": "folder=/t/x"}
    (folder / "spec.json").write_text(json.dumps(spec))
    variables = {"PYTHONPATH": "/t/x/packages:/mine"}
    assert launcher.prepare(dataclasses.replace(asked, environment=variables)).launch().ok
    assert (follower.told("prepare")["side"], follower.told("prepare")["environment"]) == (
        "B",
        {"PYTHONPATH": "/t/y/packages:/mine"},
    )
    assert follower.told("launch")["environment"] == {"PYTHONPATH": "/t/y/packages:/mine"}
    sent = {values["node"]["rank"]: json.loads(blob) for of in (follower, other) for _, values, blob in of.said[1:]}
    assert sent == {1: {**spec, "target": "/t/y/B/net.py:Net", "watched": ["/repo", "/t/y/B"]}, 2: spec}
    found = json.loads((folder / "rank2.json").read_text())
    assert (found["sources"], found["code"][0]["file"]) == (["/t/x/B/net.py"], "/t/x/B/net.py")
