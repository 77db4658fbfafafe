"""A session on a machine with fake GPUs (NVML below pynvml is made by hand), and with fake ranks."""

from __future__ import annotations

import csv
import dataclasses
import getpass
import hashlib
import json
import os
from pathlib import Path

import fake_nvml
import pytest
from fake_ranks import RANK_PIDS, STRANGER, Quiet, Ranks

from bench.errors import IncomparableError, UsageError
from bench.machine.environment import rank_environment
from bench.machine.gpus import Machine, this_machine
from bench.machine.preflight import Look
from bench.messages.rank_record import Failure, RankRecord
from bench.messages.spec import Spec
from bench.plan.description import Description
from bench.plan.plan import Asked, Axes, asked, make_plan
from bench.runner.launch_request import DESCRIBE_ENTRY, MATMUL_ENTRY, RANK_ENTRY
from bench.runner.machine_survey import Survey
from bench.runner.run_session import Session, begun
from bench.runner.schedule import Rounds
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted, latest
from bench.store.reader import read_launches
from bench.store.resume import earlier_run
from bench.store.writer import Store
from launch import Outcome, Request, Watch, never_stop
from workloads.data import paths

MIB = 2**20
FIRST, SECOND = "GPU-bbbb", "GPU-aaaa"  # in NVML's order, which differs from CUDA's


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Peaks of made-up ranks are kept apart from real ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def gpu(uuid: str, pids: tuple[int, ...], used_mib: int, reasons: int = 0) -> fake_nvml.Device:
    frame = {"millijoules": 10**6, "milliwatts": 500_000, "used": used_mib * MIB, "busy": 80, "sm_clock": 1500}
    facts = {"name": "NVIDIA H200", "total": 143_771 * MIB, "capability": (9, 0)}
    return fake_nvml.Device(uuid, [{**frame, "celsius": 60, "reasons": reasons, "pids": pids}], facts)


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: list[fake_nvml.Device], ranks: Ranks, **axes: str
) -> tuple[list[LaunchRow], list[dict[str, str]], list[str]]:
    """Return the rows of a run, its readings, and the notes."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake_nvml.Library(*gpus).load(monkeypatch)
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks)
    machine = this_machine()
    plan = make_plan(asked({k: [v] for k, v in {"workload": "mlp", **axes}.items()}, {"launches": "1"}), machine)
    observer = Quiet()
    session = Session(plan, Survey(machine), Store.create(tmp_path), observer)
    rows = Rounds(session).run()
    with (session.store.folder / "devices.csv").open(newline="") as stream:
        return rows, list(csv.DictReader(stream)), observer.notes


def test_what_gpus_did_is_in_the_row_of_the_ranks_that_used_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus = [gpu(FIRST, (RANK_PIDS[1],), 3000), gpu(SECOND, (RANK_PIDS[0],), 5000, reasons=0x04)]
    ranks = Ranks(tmp_path, [[SECOND], [FIRST]])
    [row], readings, notes = run(monkeypatch, tmp_path, gpus, ranks, strategy="ddp")
    assert (row.status, row.device_uuids) == ("ok", f"{SECOND};{FIRST}")
    assert (row.device_memory_peak_mib, row.sm_clock_min_mhz, row.temperature_max_c) == (5000, 1500, 60)
    assert (row.throttled_share, row.throttle_reasons, row.foreign_processes) == (1.0, "SwPowerCap", False)
    assert (row.energy_j, row.joules_per_sample) == (None, None)  # no reading lies beyond the window's ends
    assert {reading["device_uuid"] for reading in readings} == {FIRST, SECOND}
    assert {reading["launch_id"] for reading in readings} == {row.launch_id}
    assert not [note for note in notes if "NVML" in note]


def test_readings_of_gpus_that_no_rank_used_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = [gpu(FIRST, (STRANGER,), 90_000), gpu(SECOND, (RANK_PIDS[0],), 5000)]
    [row], readings, _ = run(monkeypatch, tmp_path, gpus, Ranks(tmp_path, [[SECOND]]), strategy="single")
    assert {reading["device_uuid"] for reading in readings} == {SECOND}
    assert (row.device_memory_peak_mib, row.foreign_processes) == (5000, False)


def test_a_stranger_is_told_even_if_the_launch_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = [gpu(FIRST, (RANK_PIDS[0], STRANGER), 140_000)]
    [row], readings, _ = run(monkeypatch, tmp_path, gpus, Ranks(tmp_path, [[FIRST]], fails=True), strategy="single")
    assert (row.status, row.foreign_processes) == ("oom", True)
    assert {reading["in_window"] for reading in readings} == {""}


def test_one_rank_of_data_parallel_uses_all_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = [gpu(FIRST, (RANK_PIDS[0],), 3000), gpu(SECOND, (RANK_PIDS[0],), 5000)]
    [row], _, _ = run(monkeypatch, tmp_path, gpus, Ranks(tmp_path, [[FIRST, SECOND]]), strategy="dp", precision="fp32")
    assert (row.status, row.world_size, row.gpus, row.global_batch) == ("ok", 1, 2, 128)
    assert row.samples_per_s == pytest.approx(128 * 30 / (30 * 2.5))
    assert row.samples_per_s_per_device == pytest.approx(row.samples_per_s / 2)
    assert row.tflops_per_device == pytest.approx(row.samples_per_s / 2 * 6e9 / 1e12)
    assert (row.device_memory_peak_mib, row.foreign_processes) == (5000, False)


def test_without_nvml_one_line_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = f'import json; print(json.dumps([["{FIRST}", "NVIDIA H200", 143771.0, [9, 0]]]))'
    monkeypatch.setattr("bench.machine.gpus.LIST_BY_TORCH", listed)
    monkeypatch.setattr("bench.machine.gpus.DRIVER_FILES", (str(tmp_path),))
    library = fake_nvml.Library()
    library.init = fake_nvml.DRIVER_NOT_LOADED
    monkeypatch.setattr(fake_nvml, "Library", lambda *gpus: library)
    [row], readings, notes = run(monkeypatch, tmp_path, [], Ranks(tmp_path, [[FIRST]]), strategy="single")
    assert (row.status, row.device, readings) == ("ok", "cuda", [])
    assert (row.energy_j, row.throttled_share, row.foreign_processes, row.driver) == (None, None, None, "")
    assert [note for note in notes if "NVML" in note] == [
        "warning: NVML cannot be used (Driver Not Loaded): torch listed the GPUs, NVML's columns stay empty"
    ]


# -- a run and its resumption, with ranks that are made up ------------------------------------------------------------


def session(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    ranks: Ranks,
    folder: Path | None = None,
    anyway: bool = False,
    **axes: str,
) -> Store:
    """Run, or resume the run in ``folder``; the files are written even if it raises."""
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks)
    given = {k: [v] for k, v in {"workload": "mlp", "strategy": "single", "device": "cpu", **axes}.items()}
    plan = make_plan(asked(given, {"launches": "2"}), Machine())
    store, earlier = Store.create(out) if folder is None else None, None
    if folder is not None:
        store, rows = Store.resume(folder, print)
        earlier = dataclasses.replace(earlier_run(folder, frozenset(), anyway), rows=tuple(rows))
    assert store is not None
    try:
        Rounds(Session(plan, Survey(Machine()), store, Quiet(), earlier=earlier)).run()
    finally:
        store.close()
    return store


def rows_of(folder: Path) -> list[LaunchRow]:
    return read_launches(folder / "launches.csv", print)


def without_last(folder: Path) -> None:
    """Remove the last launch from the files."""
    file = folder / "launches.csv"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def test_what_a_run_began_with_is_remembered_however_often_it_is_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ranks = Ranks(tmp_path, [[]])
    folder = session(monkeypatch, tmp_path, ranks).folder
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    for _ in range(2):
        without_last(folder)
        session(monkeypatch, tmp_path, ranks, folder, anyway=True)
        assert rows_of(folder)[-1].resumed_despite == "NCCL_ALGO: not set when it began, Ring now"
    without_last(folder)
    with pytest.raises(IncomparableError, match="NCCL_ALGO: not set when it began, Ring now"):
        session(monkeypatch, tmp_path, ranks, folder)
    assert len(rows_of(folder)) == 1  # nothing was launched


def test_a_run_that_was_killed_before_it_knew_its_workloads_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its plan has no batch sizes yet, so torch is asked for them; other changes of the options are still reported."""
    ranks, users = Ranks(tmp_path, [[]]), f"{Path(__file__).parents[1]}/helpers/faulty.py:Faulty"
    given = {"workload": [users], "strategy": ["single"], "device": ["cpu"]}
    plan = make_plan(asked(given, {"launches": "2"}), Machine())
    store = Store.create(tmp_path, begun(plan, Machine()))
    store.close()
    assert [case["batch_size"] for case in json.loads((store.folder / "plan.json").read_text())["cases"]] == [None]
    with pytest.raises(IncomparableError, match=r"cases no longer asked for: faulty-.*; new cases: faulty-.*-ddp-"):
        session(monkeypatch, tmp_path, ranks, store.folder, workload=users, strategy="ddp", gpus="2")
    for _ in range(2):  # nothing is left to be done the second time
        session(monkeypatch, tmp_path, ranks, store.folder, workload=users)
        assert [(row.status, row.batch_size, row.resumed_despite) for row in rows_of(store.folder)] == [
            ("ok", 64, None),
            ("ok", 64, None),
        ]
    assert json.loads((store.folder / "plan.json").read_text())["described"] is True


@pytest.mark.parametrize(
    "outcome",
    [Outcome({1: -9}, "rank 1 ended with exit code -9"), Outcome({}, stopped=True), Outcome({}, "the server died")],
)
def test_a_launch_whose_ranks_have_measured_all_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome
) -> None:
    """However their processes end: the launcher may have to wait for a thread that was left."""

    class Left(Ranks):
        def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
            done = super().launch(request, watch)
            return outcome if request.entry == RANK_ENTRY else done

    folder = session(monkeypatch, tmp_path, Left(tmp_path, [[]])).folder
    assert [(row.status, row.reason) for row in rows_of(folder)] == [("ok", None)] * 2


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("{", "rank 0: its record rank0.json is not JSON"),
        ('{"rank": 7}', "rank 0: its record rank0.json lacks local_rank"),
    ],
)
def test_a_record_of_nonsense_is_a_row_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str, words: str
) -> None:
    class Writes(Ranks):
        def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
            outcome = super().launch(request, watch)
            if request.entry == RANK_ENTRY and (made := self.__dict__.setdefault("launches", [])) == []:
                made.append(1)
                (request.log / "rank0.json").write_text(left)
            return outcome

    folder = session(monkeypatch, tmp_path, Writes(tmp_path, [[]])).folder
    assert [(row.status, row.reason) for row in rows_of(folder)] == [("crashed", words), ("ok", None)]


def test_a_launch_on_another_device_is_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only ranks know the device's name: the launch is made, but does not count."""
    here, there = Ranks(tmp_path, [[]]), Ranks(tmp_path, [[]], name="NVIDIA H100")
    folder = session(monkeypatch, tmp_path, here).folder
    without_last(folder)
    with pytest.raises(IncomparableError, match="device_name: NVIDIA H200 when it began, NVIDIA H100 now"):
        session(monkeypatch, tmp_path, there, folder)
    session(monkeypatch, tmp_path, here, folder)
    assert [(row.block, row.status, row.device_name) for row in rows_of(folder)] == [
        (0, "ok", "NVIDIA H200"),
        (1, "interrupted", "NVIDIA H100"),
        (1, "ok", "NVIDIA H200"),
    ]


def test_a_batch_size_that_is_found_and_asked_for_is_launched_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = session(monkeypatch, tmp_path, Ranks(tmp_path, [[]], fits=64), batch_size="64,auto")
    rows = rows_of(store.folder)
    assert [(row.role, row.batch_size, row.status) for row in rows if row.role == "measure"] == [
        ("measure", 64, "ok"),
        ("measure", 64, "ok"),
    ]


def test_a_search_in_vain_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, [[]], fits=0)
    folder = session(monkeypatch, tmp_path, ranks, batch_size="auto").folder
    rows = rows_of(folder)
    assert [(row.role, row.batch_size, row.status) for row in rows] == [
        *(("probe", batch, "oom") for batch in (64, 32, 16, 8, 4, 2, 1)),
        ("measure", None, "skipped"),
    ]
    assert rows[-1].reason == ("no batch size fits: 64 oom, 32 oom, 16 oom, 8 oom, 4 oom, 2 oom, 1 oom")
    session(monkeypatch, tmp_path, ranks, folder, batch_size="auto")
    assert rows_of(folder) == rows


def test_other_data_is_no_resumption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text, ranks = tmp_path / "text", Ranks(tmp_path, [[]], units=("resident", "text"))
    text.write_bytes(b"a" * 100_000)
    axes = {"workload": "gpt-nano", "data": f"text={text}", "num_workers": "0"}
    folder = session(monkeypatch, tmp_path, ranks, **axes).folder
    text.write_bytes(b"b" * 100_000)
    paths.fingerprint.cache_clear()
    with pytest.raises(IncomparableError, match="other data or work now in: gpt-nano-single"):
        session(monkeypatch, tmp_path, ranks, folder, **axes)


def test_a_case_that_can_run_now_is_no_longer_a_skipped_one() -> None:
    common = {"role": "measure", "run_id": "r", "case_id": "a"}
    skipped = LaunchRow.of({**common, "block": None, "status": "skipped"})
    ok, other = skipped.but(block=0, status="ok"), skipped.but(case_id="b")
    assert list(latest([skipped, ok, other])) == [("a", 0), ("b", None)]
    assert [row.status for row in counted([skipped, ok, other])] == ["ok", "skipped"]


def test_what_does_not_fit_the_machine_is_in_the_rows_of_its_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: Ranks(tmp_path, [[]]))
    given = {"workload": ["mlp"], "strategy": ["single"], "device": ["cpu"], "omp_num_threads": ["1,4"]}
    plan = make_plan(asked(given, {"launches": "1"}), Machine())
    observer = Quiet()
    store = Store.create(tmp_path)
    survey = Survey(Machine(), Look(processors=2), ("the disk is full",))
    one, four = Rounds(Session(plan, survey, store, observer)).run()
    case = (
        "1 rank x 4 OMP threads = 4 threads on 2 processors: they take turns, so steps are slower and uneven; lower "
        "--omp-num-threads"
    )
    assert (one.machine_warnings, four.machine_warnings) == ("the disk is full", f"the disk is full; {case}")
    assert [note for note in observer.notes if note.startswith("warning: ")][:2] == [
        "warning: the disk is full",
        f"warning: {case}",
    ]


# -- rounds and the budget ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Timed(Ranks):
    """Ranks on a fake clock.

    A launch takes the next of the ``seconds`` of its case's seed, a description takes ``describing`` seconds, and a
    matmul peak ``multiplying``.
    """

    seconds: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    describing: float = 0
    multiplying: float = 0
    now: float = 1000.0
    stops_at: float = float("inf")

    def clock(self) -> float:
        return self.now

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        spec = Spec.read(request.argument)
        alone = {DESCRIBE_ENTRY: self.describing, MATMUL_ENTRY: self.multiplying}
        left = self.seconds.get(spec.case.seed, [1])
        self.now += alone[request.entry] if request.entry in alone else left.pop(0) if len(left) > 1 else left[0]
        if self.now > self.stops_at:
            raise KeyboardInterrupt
        return super().launch(request, watch)


class Told(Quiet):
    """What the progress shows: (number, of, or more)."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[object, ...]] = []

    def launch_begins(self, _: object, *told: object) -> None:
        self.begun.append(told)


def rounds(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    ranks: Timed,
    settings: dict[str, str],
    folder: Path | None = None,
    retry: frozenset[str] = frozenset(),
    **axes: str,
) -> tuple[list[tuple[int, int | None]], Told, Path]:
    """Return (block, seed) of the run's launches in their order, what the observer was told, and the folder."""
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks)
    for module in ("run_session", "workload_descriptions", "matmul_peaks"):
        monkeypatch.setattr(f"bench.runner.{module}.monotonic", ranks.clock)
    given = {k: [v] for k, v in {"workload": "mlp", "strategy": "single", "device": "cpu", **axes}.items()}
    plan, told = make_plan(asked(given, settings), Machine()), Told()
    store, earlier = Store.create(out) if folder is None else None, None
    if folder is not None:
        store, rows = Store.resume(folder, print)
        earlier = dataclasses.replace(earlier_run(folder, retry, False), rows=tuple(rows))
    assert store is not None
    try:
        Rounds(Session(plan, Survey(Machine()), store, told, earlier=earlier)).run()
    except KeyboardInterrupt:
        pass
    finally:
        store.close()
    launched = [row for row in rows_of(store.folder) if row.role == "measure"]
    return [(row.block, row.seed) for row in launched], told, store.folder


def test_each_round_has_every_case_once_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By sha256sum of ROUND/BLOCK/CASE_ID, e.g. 0/0/mlp-single-x1-cpu-b64-…"""
    one, told, folder = rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]]), {}, seed="0,1,2")
    assert [block for block, _ in one] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    ids = {row.seed: row.case_id for row in rows_of(folder)}
    for block in range(3):
        digests = {hashlib.sha256(f"0/{block}/{ids[seed]}".encode()).hexdigest(): seed for seed in (0, 1, 2)}
        assert [seed for b, seed in one if b == block] == [digests[digest] for digest in sorted(digests)]
    other, _, folder = rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]]), {"order_seed": "1"}, seed="0,1,2")
    assert sorted(one) == sorted(other)
    assert one != other
    assert told.begun == [(number, 9, False) for number in range(1, 10)]
    assert {(row.order_seed, row.launches, row.budget) for row in rows_of(folder)} == {(1, 3, None)}
    assert not any("order" in row.command for row in rows_of(folder))


def test_a_budget_says_how_many_rounds_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """3 s to describe the workload, 30 s for a round: 3, 33, 63, 93; a fourth would end at 123."""
    ranks = Timed(tmp_path, [[]], seconds={0: [10], 1: [20]}, describing=3)
    launched, told, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "2m"}, seed="0,1")
    assert sorted(launched) == [(block, seed) for block in range(3) for seed in (0, 1)]
    assert told.begun == [(1, 2, True), (2, 2, True), (3, 4, True), (4, 4, True), (5, 6, True), (6, 6, True)]
    assert told.notes[-1] == "budget: 3 launches a case in 1m33s of 2m00s"
    assert {(row.seed, row.launch_s, row.launches, row.budget) for row in rows_of(folder)} == {
        (0, 10.0, None, 120.0),
        (1, 20.0, None, 120.0),
    }
    assert not any("budget" in row.command or "launches" in row.command for row in rows_of(folder))


def test_a_matmul_peak_takes_time_of_the_budget_of_the_run_that_measures_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """4 s for the peak, 3 s to describe the workload, 30 s for a round; a later run finds the peak."""
    for spent in ("1m37s", "1m33s"):
        ranks = Timed(tmp_path, [[]], seconds={0: [10], 1: [20]}, describing=3, multiplying=4)
        _, told, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "2m"}, seed="0,1")
        assert told.notes[-1] == f"budget: 3 launches a case in {spent} of 2m00s"
        assert {row.launch_s for row in rows_of(folder)} == {10.0, 20.0}


def test_a_round_is_expected_to_take_what_each_case_took_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """40 s, then 10 s each: 40, 50 … 90. At the start 40 more would have ended at 80, but after 50 s 10 fit."""
    ranks = Timed(tmp_path, [[]], seconds={0: [40, 10]})
    launched, told, _ = rounds(monkeypatch, tmp_path, ranks, {"budget": "90s"}, seed="0")
    assert [block for block, _ in launched] == [0, 1, 2, 3, 4, 5]
    assert told.notes[-1] == "budget: 6 launches a case in 1m30s of 1m30s"


def test_the_first_round_is_whole_and_warned_of_where_it_takes_longer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ranks = Timed(tmp_path, [[]], seconds={0: [10], 1: [20]})
    launched, told, _ = rounds(monkeypatch, tmp_path, ranks, {"budget": "25s"}, seed="0,1")
    assert sorted(launched) == [(0, 0), (0, 1)]
    assert told.notes[-2:] == [
        "warning: the first round ended after 30s, and the budget is 25s",
        "budget: 1 launch a case in 30s of 25s",
    ]


def test_a_retry_in_the_first_round_is_not_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three rounds of 10 s for one case; the first launch is marked as crashed, and repeated as the fourth."""
    ranks = Timed(tmp_path, [[]], seconds={0: [10]})
    launched, _, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "35s"})
    assert [block for block, _ in launched] == [0, 1, 2]
    file = folder / "launches.csv"
    file.write_bytes(file.read_bytes().replace(b",ok,", b",crashed,", 1))
    launched, told, _ = rounds(monkeypatch, tmp_path, ranks, {"budget": "35s"}, folder, frozenset(["crashed"]))
    assert [block for block, _ in launched] == [0, 1, 2, 0]
    assert [note for note in told.notes if "round" in note] == []
    assert told.notes[-1] == "budget: 3 launches a case in 40s of 35s"


def test_what_ran_out_of_memory_is_not_among_the_launches_of_a_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With batches of 64 and 128 samples the larger fails once and is left out of the later rounds."""
    ranks = Timed(tmp_path, [[]], seconds={0: [10]}, fits=64)
    _, told, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "40s"}, batch_size="64,128")
    assert told.begun == [(1, 2, True), (2, 2, True), (3, 3, True), (4, 4, True)]
    rows = [(row.block, row.batch_size, row.status) for row in rows_of(folder)]
    assert sorted(rows) == [
        *[(0, 64, "ok"), (0, 128, "oom"), (1, 64, "ok"), (1, 128, "skipped"), (2, 64, "ok"), (2, 128, "skipped")],
    ]


def test_launches_beside_a_budget_are_the_most(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched, told, _ = rounds(
        monkeypatch, tmp_path, Timed(tmp_path, [[]]), {"budget": "1h", "launches": "2"}, seed="0"
    )
    assert launched == [(0, 0), (1, 0)]
    assert told.notes[-1] == "budget: 2 launches a case in 2.0s of 1h00m00s"


def test_a_budget_is_not_spent_on_failures_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched, told, _ = rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]], fails=True), {"budget": "1h"}, seed="0,1")
    assert sorted(launched) == [(0, 0), (0, 1)]
    nothing, told, _ = rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]]), {"budget": "1h"}, precision="tf32")
    assert nothing == [(None, 0)]  # cannot run here
    assert told.notes[-1] == "budget: 0 launches a case in 0.0s of 1h00m00s"


def test_probes_count_as_time_that_is_spent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Probes of 64, 128, 96, 80, 72, 68 and 66 take 70 s, which leaves 50 s for launches of 10 s."""
    ranks = Timed(tmp_path, [[]], seconds={0: [10]}, fits=64)
    launched, told, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "2m"}, batch_size="auto")
    assert [row.launch_s for row in rows_of(folder) if row.role == "probe"] == [10.0] * 7
    assert [block for block, _ in launched] == [0, 1, 2, 3, 4]
    assert told.begun[0] == (1, 1, True)
    assert told.notes[-1] == "budget: 5 launches a case in 2m00s of 2m00s"


def test_a_resumed_run_completes_its_round_and_has_what_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped in the second round after 3 launches of 10 s; the fourth completes it, and 60 s leave one more round."""
    ranks = Timed(tmp_path, [[]], seconds={0: [10], 1: [10]}, stops_at=1035)
    launched, _, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "65s"}, seed="0,1")
    assert [block for block, _ in launched] == [0, 0, 1]
    again = Timed(tmp_path, [[]], seconds={0: [10], 1: [10]}, now=5000)
    launched, told, _ = rounds(monkeypatch, tmp_path, again, {"budget": "65s"}, folder, seed="0,1")
    assert [block for block, _ in launched] == [0, 0, 1, 1, 2, 2]
    assert len(set(launched)) == 6
    assert told.begun == [(1, 1, True), (2, 3, True), (3, 3, True)]
    assert told.notes[-1] == "budget: 3 launches a case in 1m00s of 1m05s"
    nothing, told, _ = rounds(monkeypatch, tmp_path, again, {"budget": "65s"}, folder, seed="0,1")
    assert (nothing, told.begun) == (launched, [])


def test_a_round_that_was_begun_is_completed_whatever_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranks = Timed(tmp_path, [[]], seconds={0: [10], 1: [10]}, stops_at=1035)
    _, _, folder = rounds(monkeypatch, tmp_path, ranks, {"budget": "40s"}, seed="0,1")
    slow = Timed(tmp_path, [[]], seconds={0: [500], 1: [500]})
    launched, told, _ = rounds(monkeypatch, tmp_path, slow, {"budget": "40s"}, folder, seed="0,1")
    assert [block for block, _ in launched] == [0, 0, 1, 1]
    assert told.notes[-1] == "budget: 2 launches a case in 8m50s of 40s"


def test_a_budget_that_changed_is_another_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, _, folder = rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]]), {"budget": "2s"})
    for settings, words in (
        ({"budget": "3s"}, "budget: 2.0 when it began, 3.0 now"),
        ({"budget": "2s", "order_seed": "1"}, "order_seed: 0 when it began, 1 now"),
    ):
        with pytest.raises(IncomparableError, match=words):
            rounds(monkeypatch, tmp_path, Timed(tmp_path, [[]]), settings, folder)


# -- strong scaling of a workload whose batch only torch can tell -----------------------------------------------------


def strongly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: str, scaling: str) -> tuple[Store, list[LaunchRow]]:
    (tmp_path / "net.py").write_text("")
    store = session(
        monkeypatch,
        tmp_path,
        Ranks(tmp_path, [[], [], []]),
        workload=f"{tmp_path}/net.py:Net",
        strategy="ddp",
        gpus=gpus,
        scaling=scaling,
    )
    return store, rows_of(store.folder)


def test_strong_scaling_of_a_users_own_workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its batch is 64, as it reports when it is described."""
    _, rows = strongly(monkeypatch, tmp_path, "1,2", "weak,strong")
    found = {(row.block, row.gpus, row.batch_size, row.global_batch, row.status) for row in rows}
    cases = [(1, 64, 64, "ok"), (2, 64, 128, "ok"), (2, 32, 64, "ok")]
    assert found == {(block, *case) for block in (0, 1) for case in cases}
    assert len(rows) == 6
    assert {row.command.partition("--batch-size ")[2].split()[0] for row in rows} == {"64", "32"}


def test_a_batch_of_a_users_own_and_a_given_one_that_cannot_be_shared_out_are_one_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: Ranks(tmp_path, [[]]))
    (tmp_path / "net.py").write_text("")
    matrix: Axes = {"workload": [f"{tmp_path}/net.py:Net"], "device": ["cpu"], "gpus": [1, 3], "scaling": ["strong"]}
    plan = make_plan(Asked((matrix, {**matrix, "batch_size": [32]}), {"launches": 1}), Machine())
    rows = Rounds(Session(plan, Survey(Machine()), Store.create(tmp_path), Quiet())).run()
    [skipped] = [row for row in rows if row.status == "skipped"]
    uneven = "samples of 1 device, and they do not divide evenly over 3; give another --batch-size or other --gpus"
    assert skipped.reason == (
        f"strong scaling keeps the 64 x 1 = 64 {uneven}; strong scaling keeps the 32 x 1 = 32 {uneven}"
    )
    assert skipped.command is None
    assert len({row.case_id for row in rows}) == len(rows) == 3


def test_a_batch_of_a_users_own_that_cannot_be_shared_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, rows = strongly(monkeypatch, tmp_path, "1,3", "strong")
    [skipped] = [row for row in rows if row.status == "skipped"]
    assert (skipped.gpus, skipped.batch_size, skipped.command) == (3, None, None)
    assert skipped.reason.startswith(
        "strong scaling keeps the 64 x 1 = 64 samples of 1 device, and they do not divide evenly over 3;"
    )
    assert len(rows) == 3


# -- what is found out of a workload before it is launched ------------------------------------------------------------


@dataclasses.dataclass
class Looked(Ranks):
    """Ranks that describe workloads.

    Those in ``bad.py`` are invalid, and describing those in ``dies.py`` ends while FLOPs are counted. Others have as
    many FLOPs in a sample as samples in a batch. ``asked`` has the batch of each description.
    """

    asked: list[int | None] = dataclasses.field(default_factory=list)

    def launch(self, request: Request, watch: Watch = never_stop) -> Outcome:
        if request.entry != DESCRIBE_ENTRY:
            return super().launch(request, watch)
        case = Spec.read(request.argument).case
        self.asked.append(case.batch_size)
        record, plain = (
            RankRecord(0, 0, "host", 1, True),
            Description("samples", 64, ("resident",), None, 10, 2, None, None),
        )
        if "bad.py" in case.workload:
            failure = Failure("crashed", "ImportError: no module named timm", 1)
            dataclasses.replace(record, failure=failure).write(request.log)
            return Outcome({0: 1})
        record.write(request.log)
        flops = None if case.auto_batch or "dies.py" in case.workload else float(case.batch_size or 64)
        dataclasses.replace(plain, flops_per_sample=flops, hardware_flops_per_sample=flops).write(request.log)
        return Outcome({0: -11} if "dies.py" in case.workload else {})


def looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ranks: Looked, **axes: str
) -> tuple[list[LaunchRow], list[str], list[int | None]]:
    """Return rows, notes, and the batches of the descriptions."""
    for name in ("bad", "dies", "own"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.runner.launch_case.make_launcher", lambda *_: ranks)
    given = {k: [v] for k, v in {"strategy": "single", "device": "cpu", **axes}.items()}
    observer = Quiet()
    plan = make_plan(asked(given, {"launches": "1"}), Machine())
    rows = Rounds(Session(plan, Survey(Machine()), Store.create(tmp_path), observer)).run()
    return rows, observer.notes, ranks.asked


def test_what_is_wrong_with_one_workload_is_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = {"workload": "bad.py:Net,mlp", "seed": "0,1"}
    rows, _, asked_for = looked(monkeypatch, tmp_path, Looked(tmp_path, [[]]), **words)
    found = {(row.workload, row.seed): row for row in rows}
    assert {key: row.status for key, row in found.items()} == {
        **{("bad.py:Net", seed): "crashed" for seed in (0, 1)},
        **{("mlp", seed): "ok" for seed in (0, 1)},
    }
    assert "--workload bad.py:Net: ImportError: no module named timm" in found["bad.py:Net", 0].reason
    assert found["bad.py:Net", 0].parameters is None
    assert asked_for == [None, 64]  # each described once, for all seeds


def test_a_workload_that_is_none_and_has_no_other_beside_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no module named timm"):
        looked(monkeypatch, tmp_path, Looked(tmp_path, [[]]), workload="bad.py:Net", seed="0,1")


def test_counting_may_be_the_end_of_its_process_and_the_case_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = {"workload": "dies.py:Net", "seed": "0,1"}
    rows, notes, _ = looked(monkeypatch, tmp_path, Looked(tmp_path, [[]]), **words)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert {(row.batch_size, row.parameters, row.flops_per_sample) for row in rows} == {(64, 10, None)}
    [why] = {row.flops_note for row in rows}
    assert why.startswith("the process that counted them ended: ")
    assert "SIGSEGV" in why
    assert [note for note in notes if "FLOPs" in note] == [f"warning: FLOPs of dies.py:Net stay empty: {why}"]


def test_flops_are_those_of_each_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranks = Looked(tmp_path, [[]])
    rows, _, asked_for = looked(monkeypatch, tmp_path, ranks, workload="own.py:Net", batch_size="8,32", seed="0,1")
    assert {(row.batch_size, row.flops_per_sample) for row in rows} == {(8, 8.0), (32, 32.0)}
    assert sorted(filter(None, asked_for)) == [8, 32]


def test_flops_of_a_batch_that_is_found_are_counted_once_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranks = Looked(tmp_path, [[]], fits=100)
    rows, _, asked_for = looked(monkeypatch, tmp_path, ranks, workload="own.py:Net", batch_size="auto")
    assert [(row.role, row.flops_per_sample) for row in rows if row.batch_size == 64][:1] == [("probe", None)]
    [row] = [row for row in rows if row.role == "measure"]
    assert (row.batch_size, row.flops_per_sample) == (100, 100.0)
    assert asked_for == [None, 100]


def test_a_user_whom_nobody_knows_gets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `docker run --user 4711`: torch 2.11 and 2.12 cannot be imported without one."""
    assert "LOGNAME" not in rank_environment() or "LOGNAME" in os.environ
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    named = rank_environment()
    assert named["LOGNAME"] == f"uid{os.getuid()}"
    monkeypatch.setenv("LOGNAME", named["LOGNAME"])
    assert getpass.getuser() == named["LOGNAME"]
