"""The summary of each case over its launches."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches
from bench.analysis.order import apart
from bench.analysis.summary import FIGURES, OF_THE_CASE, PARTS, SAVING, summarise
from bench.store.columns import COMMUNICATION, FILES, LaunchRow
from bench.store.environments import with_environments


def row(case_id: str, **changes: Any) -> LaunchRow:
    """A row of a launch; of its axes only the changes are known."""
    said = {"case_id": case_id, "run_id": "r", "role": "measure", "order": 0, "status": "ok"}
    return LaunchRow.of({**said, **changes})


def case_of(summary: pd.DataFrame, case_id: str) -> dict[str, Any]:
    """A row of the summary, None for unknown values."""
    [found] = summary[summary["case_id"] == case_id].to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in found.items()}


UNKNOWN: dict[str, Any] = dict.fromkeys(FIGURES)
# Columns that the rows of these tests do not have: the axes, the parts of a step, and figures that need two launches.
UNSAID: dict[str, Any] = {
    **dict.fromkeys(["nproc_per_node", "work_key", "code_key", *OF_THE_CASE, *PARTS, *SAVING, "marks"]),
    **dict.fromkeys(["comm_method", *COMMUNICATION]),
    **{"work": 0, "code": 0},
}


def test_figures_are_medians_over_launches() -> None:
    rates = [(100.0, 10.0, 0.5), (130.0, 8.0, 0.3), (110.0, 9.0, 0.1)]
    summary = summarise(
        launches([row("a", order=i, samples_per_s=s, step_ms=m, mfu=u) for i, (s, m, u) in enumerate(rates)])
    )
    assert len(summary) == 1
    assert case_of(summary, "a") == {
        "case_id": "a",
        "status": "ok",
        "reason": None,
        "launches": 3,
        "ok": 3,
        "failed": None,
        "runs": "r",
        **UNSAID,
        **UNKNOWN,
        "samples_per_s": 110.0,
        "step_ms": 9.0,
        "mfu": 0.3,
        # three launches extend beyond the smallest and the largest by 0.85 of their range, on logs: 1.3^0.85 = 1.249833
        "samples_per_s_low": pytest.approx(80.0107, abs=1e-3),  # 100 / 1.249833
        "samples_per_s_high": pytest.approx(162.4782, abs=1e-3),  # 130 x 1.249833
        "spread": pytest.approx(30 / 110),  # (130 - 100) / 110
    }


def test_even_number_of_launches_has_the_mean_of_the_middle_two() -> None:
    rows = [row("a", order=i, samples_per_s=value) for i, value in enumerate([100.0, 104.0, 90.0, 120.0])]
    found = case_of(summarise(launches(rows)), "a")
    assert found["samples_per_s"] == 102.0  # (100 + 104) / 2
    assert found["spread"] == pytest.approx(30 / 102)


def test_one_launch_has_no_spread() -> None:
    found = case_of(summarise(launches([row("a", samples_per_s=100.0)])), "a")
    assert (found["samples_per_s"], found["spread"]) == (100.0, None)
    assert (found["samples_per_s_low"], found["samples_per_s_high"]) == (None, None)


def test_failed_launches_count_and_the_first_gives_the_status() -> None:
    rows = [
        row("a", order=0, samples_per_s=100.0),
        row("a", order=1, status="crashed", reason="rank 1 was killed by SIGSEGV"),
        row("a", order=2, status="timeout", reason="still running"),
        row("a", order=3, samples_per_s=110.0),
    ]
    assert case_of(summarise(launches(rows)), "a") == {
        "case_id": "a",
        "status": "crashed",
        "reason": "rank 1 was killed by SIGSEGV",
        "launches": 4,
        "ok": 2,
        "failed": "1 crashed, 1 timeout",
        "runs": "r",
        **UNSAID,
        **UNKNOWN,
        "samples_per_s": 105.0,
        # sqrt(100 x 110) = 104.88088; ln 1.1 = 0.0953102, so the deviation / sqrt(2) is 0.0476551;
        # x t(0.975, 1) = 12.706205 is 0.605515; 104.88088 x exp(-+0.605515)
        "samples_per_s_low": pytest.approx(57.2433, abs=1e-3),
        "samples_per_s_high": pytest.approx(192.1624, abs=1e-3),
        "spread": pytest.approx(10 / 105),
    }


def test_invalid_launch_does_not_enter_the_figures() -> None:
    rows = [row("a", samples_per_s=100.0), row("a", order=1, status="invalid", reason="no", samples_per_s=9999.0)]
    found = case_of(summarise(launches(rows)), "a")
    assert (found["samples_per_s"], found["spread"], found["ok"], found["launches"]) == (100.0, None, 1, 2)


def test_case_that_was_never_launched_has_no_launches() -> None:
    found = case_of(summarise(launches([row("a", order=None, status="skipped", reason="too big")])), "a")
    assert (found["status"], found["reason"], found["launches"], found["ok"]) == ("skipped", "too big", 0, 0)
    assert {name: found[name] for name in FIGURES} == UNKNOWN


def test_where_every_launch_failed_none_was_ok() -> None:
    rows = [row(c, order=i, status="crashed", reason="no") for i, c in enumerate("aabbb")]
    summary = summarise(launches(rows))
    assert [list(summary[name]) for name in ("case_id", "launches", "ok")] == [["a", "b"], [2, 3], [0, 0]]
    assert summary[list(FIGURES)].isna().all(axis=None)


def test_a_failure_without_a_reason_takes_none_from_another() -> None:
    rows = [row("a", status="timeout"), row("a", order=1, status="crashed", reason="rank 1 was killed"), row("b")]
    found = case_of(summarise(launches(rows)), "a")
    assert (found["status"], found["reason"]) == ("timeout", None)


def test_rounds_left_out_after_running_out_of_memory_are_no_launches() -> None:
    rows = [
        row("a", order=0, status="oom", reason="rank 0: CUDA out of memory"),
        row("a", order=None, status="skipped", reason="it ran out of memory in an earlier launch"),
    ]
    found = case_of(summarise(launches(rows)), "a")
    assert (found["status"], found["reason"], found["launches"]) == ("oom", "rank 0: CUDA out of memory", 1)


def test_probes_and_controls_do_not_enter() -> None:
    rows = [row("a", samples_per_s=100.0), row("a", role="probe", samples_per_s=1.0), row("b", role="control")]
    summary = summarise(launches(rows))
    assert list(summary["case_id"]) == ["a"]
    assert case_of(summary, "a")["samples_per_s"] == 100.0


def test_cases_with_equal_axes_stand_in_the_order_of_their_first_launch() -> None:
    rows = [row(case_id, order=i, samples_per_s=1.0) for i, case_id in enumerate("bacab")]
    assert list(summarise(launches(rows))["case_id"]) == ["b", "a", "c"]


def test_cases_stand_in_the_order_of_their_axes() -> None:
    axes = {"e": ("ddp", 10), "d": ("ddp", 2), "c": ("single", 1), "b": ("fsdp", 1), "a": ("ddp", 1)}
    rows = [row(c, order=i, strategy=s, gpus=n) for i, (c, (s, n)) in enumerate(axes.items())]
    assert list(summarise(launches(rows))["case_id"]) == ["c", "a", "d", "e", "b"]  # single, ddp 1, 2, 10, fsdp


def test_what_is_other_work_or_was_measured_elsewhere_is_another_case() -> None:
    rows = [
        row("a", work_key="1", torch="2.11.0", samples_per_s=100.0),
        row("a", work_key="2", torch="2.11.0", samples_per_s=300.0, order=1),
        row("a", work_key="1", torch="2.12.0", samples_per_s=500.0, run_id="s"),
        row("a", work_key="1", torch="2.11.0", samples_per_s=120.0, run_id="t"),
    ]
    summary = summarise(with_environments(launches(rows)))
    assert summary[["environment", "work_key", "samples_per_s", "runs"]].to_dict("split")["data"] == [
        ["A", "1", 110.0, "r;t"],  # (100 + 120) / 2
        ["A", "2", 300.0, "r"],
        ["B", "1", 500.0, "s"],
    ]


def test_ranks_on_other_nodes_make_another_case_with_its_own_label() -> None:
    rows = [
        row("a", samples_per_s=100.0, world_size=4, nproc_per_node="4"),
        row("a", samples_per_s=110.0, world_size=4, run_id="old"),  # of a version that knew one node alone
        row("a", samples_per_s=50.0, world_size=4, run_id="s", nproc_per_node="2(x2)"),
        row("a", status="crashed", run_id="s"),  # before anything of its ranks was known
        row("a", samples_per_s=40.0, world_size=4, run_id="t", nproc_per_node="3,1"),
    ]
    summary = summarise(with_environments(launches(rows)))
    assert list(zip(summary["nproc_per_node"], summary["samples_per_s"], summary["runs"], strict=True)) == [
        *[("4", 105.0, "r;old"), ("2(x2)", 50.0, "s"), ("3,1", 40.0, "t")]
    ]
    assert list(apart(summary)) == ["", " (2(x2) ranks)", " (3,1 ranks)"]


def test_a_fact_that_one_launch_does_not_know_comes_from_another() -> None:
    rows = [row("a", status="crashed", reason="no", device_name=None, gpus=2), row("a", device_name="GPU", gpus=2)]
    found = case_of(summarise(launches(rows)), "a")
    assert (found["device_name"], found["gpus"]) == ("GPU", 2)


def test_frame_has_every_column_typed_and_na_for_the_unknown() -> None:
    frame = launches([row("a", gpus=2, pin_memory=False, samples_per_s=1.5, reason="x"), row("b", order=None)])
    assert list(frame.columns) == list(FILES["launches.csv"])
    assert [str(frame[name].dtype) for name in ("gpus", "samples_per_s", "pin_memory", "reason")] == [
        "Int64",
        "Float64",
        "boolean",
        "str",
    ]
    first, second = (frame.loc[i, ["gpus", "samples_per_s", "pin_memory", "reason", "order"]] for i in (0, 1))
    assert list(first) == [2, 1.5, False, "x", 0]
    assert second.isna().all()


def test_no_rows_make_an_empty_frame() -> None:
    assert launches([]).shape == (0, len(FILES["launches.csv"]))


def test_what_spoilt_a_launch_is_marked_by_the_worst() -> None:
    clean = {"throttled_share": 0.0, "foreign_processes": False, "alloc_retries": 0, "window_compilations": 0}
    rows = [
        row("clean", **clean),
        row("spoilt", **clean),
        row("spoilt", **{**clean, "throttled_share": 0.124, "foreign_processes": True, "alloc_retries": 3}),
        row("spoilt", throttled_share=0.5, window_compilations=2, optimizer_steps_skipped=1),
        row("failed", status="crashed", throttled_share=0.9),
        row("cut", window_cut=False),
        row("cut", window_cut=True),
    ]
    marks = summarise(launches([r.but(samples_per_s=1.0) for r in rows])).set_index("case_id")["marks"]
    assert marks["spoilt"] == (
        "throttled 50%; GPU used by others; 3 allocator retries; compiled in the window; 1 steps overflowed"
    )
    assert marks["cut"] == "fewer steps (--max-seconds)"
    assert marks[["clean", "failed"]].isna().all()
