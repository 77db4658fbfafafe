"""Two nodes at the loopback interface, each with a GPU: what a follower samples is in the row of the launch.

NVML is made by hand, and so are the ranks; node 0, its follower, their channel and the samplers are the real ones.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_nvml
import pytest
from fake_ranks import RANK_PIDS, STRANGER, TORCH, Quiet, Ranks

from bench.api.nodes import Nodes
from bench.machine.gpus import Machine, this_machine
from bench.messages.rank_record import RankRecord
from bench.messages.spec import Spec
from bench.nodes.facts import facts
from bench.nodes.follower import follow
from bench.nodes.head import Head
from bench.nodes.options import NodesAsked
from bench.plan.plan import asked, make_plan
from bench.runner import gpu_sampler
from bench.runner.launch_request import DESCRIBE_ENTRY
from bench.runner.machine_survey import Survey
from bench.runner.run_session import Session
from bench.runner.schedule import Rounds
from bench.store.columns import LaunchRow
from bench.store.writer import Store
from launch import Outcome, Request, Watch, never_stop
from launch.ports import free_port

A, B = "GPU-a", "GPU-b"  # of node 0, of node 1
SECOND = 10**9
AHEAD = 3600 * SECOND  # of the clock of node 1
TICK = SECOND // 10  # between two readings
BEGIN_S, END_S, LAST_S = 10, 20, 30  # the window, and the last reading, after the first reading


def gpu(uuid: str, watts: int, pids: tuple[int, ...], **frame: Any) -> fake_nvml.Device:
    """Return a GPU that takes this power in the middle of the window, none around its ends, and 10 kW far from it.

    Thus an error of less than a second between two clocks changes nothing.
    """
    joules, frames = 0, []
    for tick in range(LAST_S * 10 + 1):
        frames.append({"millijoules": joules * 1000, "pids": pids, **frame})
        middle, near = (BEGIN_S + around <= tick / 10 < END_S - around for around in (1, -5))
        joules += (watts if middle else 0 if near else 10_000) // 10
    return fake_nvml.Device(uuid, frames, {"name": "NVIDIA H200", "total": 143_771 * 2**20, "capability": (9, 0)})


class Clocks(fake_nvml.Library):
    """NVML of both nodes, and a clock for each thread that reads a GPU: 0.1 s pass from one reading to the next."""

    def __init__(self, begins: dict[str, int], *devices: fake_nvml.Device) -> None:
        self.begins, self.here = begins, threading.local()
        super().__init__(*devices)

    def time_ns(self) -> int:
        return int(next(self.here.ticks))

    def _by_uuid(self, uuid: bytes, out: Any) -> int:
        self.here.ticks = itertools.count(self.begins[uuid.decode()], TICK)
        return super()._by_uuid(uuid, out)


@dataclasses.dataclass
class NodeRanks(Ranks):
    """The rank of one node: it ends when its GPU was read to the end. Its window is that of the node's own clock."""

    device: fake_nvml.Device = dataclasses.field(default_factory=lambda: fake_nvml.Device(""))
    begin_ns: int = 0

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        if request.entry == DESCRIBE_ENTRY:
            return super().launch(request, watch)
        assert request.node is not None
        if request.node.hosted:
            request.node.hosted(77)
        assert self.device.ended.wait(60)
        rank, spec = request.node.first_rank, Spec.read(request.argument)
        measured = dataclasses.replace(
            self._measured(spec), first_step_at_ns=self.begin_ns, window_at_ns=self.begin_ns + BEGIN_S * SECOND
        )
        assert measured.window_ns == (END_S - BEGIN_S) * SECOND
        record = RankRecord(rank, 0, "host", RANK_PIDS[rank], True, self.name, [self.device.uuid], {"torch": TORCH})
        dataclasses.replace(record, measurement=measured).write(request.log)
        watch()
        return Outcome({})


@contextlib.contextmanager
def two_nodes(here: Machine, there: Machine, folder: Path) -> Iterator[Nodes]:
    """Node 0 and a follower in a thread of this process."""
    endpoint = ("127.0.0.1", free_port())
    head = Head(endpoint, 2, "s", facts(here), 30.0, print)
    gpus = [dataclasses.asdict(one) for one in there.gpus]
    hello = {"node": 1, "nodes": 2, "host": "n2", "places": 1, "gpus": gpus, "facts": facts(there)}
    follower = threading.Thread(target=follow, args=(endpoint, hello, there, "s", 30.0, folder / "log", print))
    follower.start()
    try:
        head.wait(2)
        yield Nodes(NodesAsked(2, 0, endpoint, "s", places=1), head, here)
    finally:
        head.close("", 0)
        follower.join(60)
        assert not follower.is_alive()


Run = Callable[..., tuple[LaunchRow, list[dict[str, str]], list[str]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs one launch on two nodes: its row, its readings, and what was said."""

    def one(a: fake_nvml.Device, b: fake_nvml.Device) -> tuple[LaunchRow, list[dict[str, str]], list[str]]:
        now, there = time.time_ns(), tmp_path / "there"
        there.mkdir()
        library = Clocks({A: now, B: now + AHEAD}, a, b)
        library.load(monkeypatch)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(gpu_sampler, "time_ns", library.time_ns)
        monkeypatch.setattr(gpu_sampler, "PERIOD_S", 0.0)
        monkeypatch.setattr(gpu_sampler, "PATIENCE_S", 60.0)
        clock = SimpleNamespace(time_ns=lambda: time.time_ns() + AHEAD, monotonic=time.monotonic, sleep=time.sleep)
        monkeypatch.setattr("bench.nodes.follower.time", clock)
        ranks = NodeRanks(tmp_path, [], device=a, begin_ns=now), NodeRanks(there, [], device=b, begin_ns=now + AHEAD)
        monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks[0])
        monkeypatch.setattr("bench.nodes.follower.make_launcher", lambda *_: ranks[1])
        machine, observer = this_machine(), Quiet()
        machines = [dataclasses.replace(machine, gpus=(gpu,)) for gpu in machine.gpus]
        axes = {"workload": ["mlp"], "strategy": ["ddp"], "gpus": ["2"], "batch_size": ["25"]}
        with two_nodes(machines[0], machines[1], there) as nodes:
            plan = make_plan(
                asked(axes, {"launches": "1", "steps": "4", "matmul_peak": "off"}), nodes.machine(machines[0])
            )
            plan = nodes.checked({"": plan}, observer)[""]
            survey = nodes.surveyed(Survey.taken(machines[0], (planned.case for planned in plan.cases), tmp_path))
            store = Store.create(tmp_path)
            [row] = Rounds(Session(plan, survey, store, observer, over_nodes=nodes.launcher)).run()
        with (store.folder / "devices.csv").open(newline="") as stream:
            return row, list(csv.DictReader(stream)), observer.notes

    return one


def test_a_launch_has_the_gpus_of_all_nodes(run: Run) -> None:
    a = gpu(A, 300, RANK_PIDS[:1], busy=80, celsius=60, used=5000 * 2**20, sm_clock=1500, reasons=0)
    b = gpu(B, 200, RANK_PIDS[1:], busy=60, celsius=70, used=3000 * 2**20, sm_clock=1400, reasons=0x04)
    row, readings, notes = run(a, b)
    assert (row.status, row.nodes, row.device_uuids) == ("ok", 2, f"{A};{B}")
    # 300 W and 200 W for 8 of the 10 s of the window, in which two ranks train 4 steps of 25 samples. The clock of node
    # 1 is an hour ahead: by that, no reading would be in the window.
    assert (row.energy_j, row.energy_source) == (pytest.approx(2400 + 1600), "counter")
    assert (row.joules_per_sample, row.power_mean_w) == (pytest.approx(4000 / 200), pytest.approx(400, rel=0.1))
    assert row.utilisation_mean == pytest.approx(0.7)
    assert (row.temperature_max_c, row.device_memory_peak_mib, row.sm_clock_min_mhz) == (70, 5000, 1400)
    assert (row.throttled_share, row.throttle_reasons, row.foreign_processes) == (1.0, "SwPowerCap", False)
    # both ends of the window and each 0.1 s between them, but for the error of the clocks
    inside = {uuid: sum(r["device_uuid"] == uuid and r["in_window"] == "true" for r in readings) for uuid in (A, B)}
    assert inside == {A: pytest.approx(101, abs=11), B: pytest.approx(101, abs=11)}
    assert not [note for note in notes if "NVML" in note]


def test_a_process_is_foreign_on_its_own_node(run: Run) -> None:
    """The second process on node 0's GPU has the id of the rank of node 1 by chance."""
    row, _, _ = run(gpu(A, 300, RANK_PIDS), gpu(B, 200, RANK_PIDS[1:]))
    assert (row.foreign_processes, row.energy_j) == (True, pytest.approx(4000))


def test_a_node_whose_gpu_cannot_be_read_is_named_and_leaves_the_columns_empty(run: Run) -> None:
    lost = gpu(B, 200, RANK_PIDS[1:])
    lost.frames = [*lost.frames[:5], *[dict.fromkeys(lost.frames[0], fake_nvml.Error(fake_nvml.LOST))] * 20]
    row, readings, notes = run(gpu(A, 300, RANK_PIDS[:1], busy=80), lost)
    assert (row.status, row.energy_j, row.energy_source, row.joules_per_sample) == ("ok", None, None, None)
    assert (row.utilisation_mean, row.foreign_processes) == (None, False)
    assert f"warning: node 1 (n2): NVML lost {B}: GPU is lost; columns of the devices stay empty" in notes
    assert {reading["device_uuid"] for reading in readings} == {A, B}


def test_a_node_that_is_in_use_is_named_before_the_run_and_in_the_row(run: Run) -> None:
    row, _, notes = run(gpu(A, 300, RANK_PIDS[:1]), gpu(B, 200, (STRANGER, RANK_PIDS[1])))
    words = f"node 1 (n2): GPU 0 ({B}) is in use already: processes {STRANGER} and {RANK_PIDS[1]} compute on it"
    assert any(words in note for note in notes)
    assert words in (row.machine_warnings or "")
    assert f"GPU 0 ({A}) is in use already: process {RANK_PIDS[0]} computes on it" in (row.machine_warnings or "")
    assert row.foreign_processes is True
