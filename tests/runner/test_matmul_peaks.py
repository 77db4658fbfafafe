"""The peaks of a session, which ranks that are made up measure: 1 TFLOP/s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_ranks import Quiet, Ranks, plain

from bench.machine.gpus import Machine
from bench.plan.plan import asked, make_plan
from bench.runner.machine_survey import Survey
from bench.runner.run_session import Session
from bench.runner.schedule import Rounds
from bench.store.columns import LaunchRow
from bench.store.writer import Store

# The description of these ranks says 6 GFLOP a sample, and 64 samples take 2.5 s.
TFLOPS = 64 / 2.5 * 6e9 / 1e12


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ranks:
    ranks = Ranks(tmp_path, [[], []], name="cpu")
    plain(monkeypatch, ranks)
    return ranks


def run(ranks: Ranks, mode: str = "on", **axes: Any) -> tuple[list[LaunchRow], list[str]]:
    """The rows of a run with one launch a case, and what it tells of the peak."""
    given = {"workload": ["mlp"], "strategy": ["single"], "device": ["cpu"], **axes}
    plan = make_plan(asked(given, {"launches": "1", "matmul_peak": mode}), Machine())
    observer = Quiet()
    session = Session(plan, Survey(Machine()), Store.create(ranks.folder / "results"), observer)
    try:
        rows = Rounds(session).run()
    finally:
        session.store.close()
    return rows, [note for note in observer.notes if "matmul" in note or "matrix" in note]


def test_the_share_of_the_peak_is_in_the_row(ranks: Ranks) -> None:
    [row], notes = run(ranks)
    assert (row.status, row.matmul_peak, row.matmul_peak_tflops) == ("ok", "on", pytest.approx(1.0))
    assert row.mfu_achievable == pytest.approx(TFLOPS)
    assert (row.mfu, row.flops_note) == (None, None)
    assert notes == ["measuring the fastest matrix products in fp32 with 1 thread, for mfu_achievable"]


def test_each_type_and_number_of_threads_is_measured_once(ranks: Ranks) -> None:
    rows, notes = run(ranks, precision=["fp32", "bf16", "amp-bf16"], omp_num_threads=["1", "2"], batch_size=["32,64"])
    assert len(rows) == 12
    assert ranks.multiplied == 4  # float32 and bfloat16, each with 1 and 2 threads
    assert len(notes) == 4


def test_a_later_run_does_not_measure_again(ranks: Ranks) -> None:
    [first], _ = run(ranks)
    [second], notes = run(ranks)
    assert (ranks.multiplied, notes) == (1, [])
    assert first.matmul_peak_tflops == second.matmul_peak_tflops
    [third], notes = run(ranks, "again")
    assert (ranks.multiplied, len(notes), third.matmul_peak) == (2, 1, "again")


def test_a_damaged_file_is_measured_again(ranks: Ranks) -> None:
    run(ranks)
    (file,) = (ranks.folder / "cache" / "stepbench" / "matmul-peaks").iterdir()
    file.write_text('{"peak":')
    [row], _ = run(ranks)
    assert (ranks.multiplied, row.matmul_peak_tflops) == (2, pytest.approx(1.0))


def test_nothing_is_measured_if_it_is_switched_off(ranks: Ranks) -> None:
    [row], notes = run(ranks, "off")
    assert (row.matmul_peak_tflops, row.mfu_achievable, row.flops_note) == (None, None, None)
    assert (ranks.multiplied, notes) == (0, [])


def test_a_peak_that_cannot_be_measured_costs_no_row_and_is_tried_once(ranks: Ranks) -> None:
    ranks.multiplies = False
    rows, notes = run(ranks, batch_size=["32,64"])
    assert [row.status for row in rows] == ["ok", "ok"]
    assert {(row.matmul_peak_tflops, row.mfu_achievable) for row in rows} == {(None, None)}
    (why,) = {row.flops_note for row in rows}
    assert why == "no matmul peak: exited with code 1"
    assert ranks.multiplied == 1
    assert notes[1:] == [f"warning: {why}: mfu_achievable stays empty"]


def test_a_peak_that_cannot_be_stored_is_used_all_the_same(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    (ranks.folder / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(ranks.folder / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(ranks.folder / "file"))
    [row], notes = run(ranks)
    assert row.matmul_peak_tflops == pytest.approx(1.0)
    assert notes[1].startswith("warning: the matmul peak cannot be stored, and is measured again by the next run:")


def test_a_peak_of_another_device_is_not_used(ranks: Ranks) -> None:
    run(ranks)
    ranks.name = "another device"
    [row], _ = run(ranks)
    assert (row.matmul_peak_tflops, row.mfu_achievable) == (None, None)
    assert row.flops_note == "no matmul peak of another device: it was measured on cpu"


def test_a_peak_that_other_programs_disturbed_is_measured_again_and_never_falls(ranks: Ranks) -> None:
    ranks.waited, ranks.product_s = 0.021, [2e-3, 4e-3, 1e-3, 8e-3]
    found = []
    for waited in (0.021, 0.021, 0.019, 0.0):  # a thread may wait for 2 % of the time
        ranks.waited = waited
        [row], notes = run(ranks)
        found.append((row.matmul_peak_tflops, sum("may be too low" in note for note in notes)))
    assert found == [(pytest.approx(0.5), 1), (pytest.approx(0.5), 1), (pytest.approx(1.0), 0), (pytest.approx(1.0), 0)]
    assert ranks.multiplied == 3
    [row], _ = run(ranks, "again")
    assert row.matmul_peak_tflops == pytest.approx(0.125)  # whoever asks for it gets it
