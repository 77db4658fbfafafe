"""The best threads and workers, and what the defaults lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches
from bench.analysis.summary import summarise
from bench.analysis.tuning import COLUMNS, tuning
from bench.store.columns import LaunchRow
from bench.store.environments import with_environments


def row(
    omp: int, workers: int | None, prefetch: int | None, rate: float | None, block: int = 0, **changes: Any
) -> LaunchRow:
    """A launch of a case with these threads, workers and prefetched batches; without workers none are persistent."""
    axes = {
        "workload": "resnet50",
        "strategy": "ddp",
        "gpus": 2,
        "device": "cuda",
        "data": "synthetic",
        "pin_memory": True,
    }
    tuned = {"omp_num_threads": omp, "num_workers": workers, "prefetch_factor": prefetch}
    kept = {"persistent_workers": True if workers else None}
    said = {"case_id": f"omp{omp}-w{workers}-p{prefetch}", "work_key": "w", "run_id": "r", "role": "measure"}
    said |= {"status": "ok", "block": block, "order": block}
    return LaunchRow.of({**axes, **tuned, **kept, **said, "samples_per_s": rate, **changes})


FAILED = {"status": "crashed", "reason": "no"}


def tuned(rows: Sequence[LaunchRow]) -> list[dict[str, Any]]:
    frame = with_environments(launches(rows))
    found = tuning(summarise(frame), frame)
    assert list(found.columns) == list(COLUMNS)
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in found.to_dict("records")]


def marked(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    return [row["case_id"] for row in rows if row[name]]


def test_the_best_and_the_defaults_are_marked_and_the_loss_is_of_the_best() -> None:
    rows = tuned([row(1, 2, 2, 90.0), row(4, 8, 2, 120.0), row(1, 0, None, 30.0)])
    assert (marked(rows, "best"), marked(rows, "default")) == (["omp4-w8-p2"], ["omp1-w2-p2"])
    assert {r["case_id"]: r["loss"] for r in rows} == {
        "omp1-w0-pNone": 0.75,  # 1 - 30 / 120
        "omp1-w2-p2": 0.25,
        "omp4-w8-p2": 0.0,
    }
    assert {r["group"] for r in rows} == {0}


def test_no_workers_are_not_the_default_number_of_them() -> None:
    """0 workers have no prefetching; that is no reason to be the default, which is 2 workers."""
    assert marked(tuned([row(1, 0, None, 90.0), row(1, 4, 2, 120.0)]), "default") == []


def test_where_nothing_is_loaded_only_the_threads_are_to_be_the_default() -> None:
    rows = tuned([row(1, None, None, 90.0, data="resident"), row(2, None, None, 95.0, data="resident")])
    assert (marked(rows, "default"), marked(rows, "best")) == (["omp1-wNone-pNone"], ["omp2-wNone-pNone"])


def test_what_has_no_effect_without_workers_splits_no_group() -> None:
    """0 workers, for which persistent and prefetch are unknown, belong to the group of those with workers."""
    rows = tuned([row(1, 0, None, 50.0), row(1, 2, 4, 90.0), row(2, 2, 2, 80.0)])
    assert [r["group"] for r in rows] == [0, 0, 0]


def test_workers_that_do_not_persist_are_another_group() -> None:
    rows = [row(t, 2, 2, 50.0, persistent_workers=k, case_id=f"{t}-{k}") for t in (1, 2) for k in (True, False)]
    assert sorted((r["group"], r["case_id"]) for r in tuned(rows)) == [
        *((0, "1-False"), (0, "2-False")),
        *((1, "1-True"), (1, "2-True")),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        *({"workload": "gpt"}, {"strategy": "fsdp"}, {"gpus": 4}, {"data": "resident"}, {"batch_size": 4}),
        *({"oversubscribe": True}, {"seed": 3}, {"env": "A=1"}, {"pin_memory": False}, {"torch": "2", "run_id": "s"}),
    ],
)
def test_another_difference_is_another_group(changes: dict[str, Any]) -> None:
    assert tuned([row(1, 2, 2, 90.0), row(2, 2, 2, 95.0, **changes)]) == []


def test_other_work_is_another_group() -> None:
    """The global batch is equal, so the keys differ by the data or by the way of measuring."""
    assert tuned([row(1, 2, 2, 90.0, work_key="before"), row(1, 2, 2, 95.0, work_key="after")]) == []


def test_a_case_with_a_failed_launch_is_not_the_best() -> None:
    rows = tuned([row(1, 2, 2, 90.0), row(4, 8, 2, 120.0), row(4, 8, 2, None, 1, **FAILED)])
    assert marked(rows, "best") == ["omp1-w2-p2"]
    assert {r["case_id"]: r["loss"] for r in rows} == {"omp1-w2-p2": 0.0, "omp4-w8-p2": pytest.approx(-1 / 3)}


def test_where_no_case_had_all_its_launches_ok_none_is_the_best() -> None:
    rows = [row(omp, 2, 2, 90.0) for omp in (1, 2)] + [row(omp, 2, 2, None, 1, **FAILED) for omp in (1, 2)]
    assert [(r["best"], r["loss"], r["loss_low"], r["interval"]) for r in tuned(rows)] == [
        (False, None, None, None)
    ] * 2


def test_a_failed_case_stands_in_its_group_without_a_loss() -> None:
    rows = tuned([row(1, 2, 2, 90.0), row(2, 2, 2, 95.0), row(4, 2, 2, None, **FAILED)])
    assert {r["case_id"]: (r["status"], r["loss"]) for r in rows}["omp4-w2-p2"] == ("crashed", None)


def test_one_case_with_a_number_is_no_group() -> None:
    assert tuned([row(1, 2, 2, 90.0), row(4, 2, 2, None, **FAILED)]) == []


def test_a_loss_that_may_be_none_has_a_bound_at_or_below_0() -> None:
    """Equal in one block and 10 % slower in the other: undecided. 10 % slower in every block: slower."""
    noisy = tuned([row(1, 2, 2, r, i) for i, r in enumerate((100.0, 90.0))] + [row(2, 2, 2, 100.0, i) for i in (0, 1)])
    steady = tuned(
        [row(1, 2, 2, r, i) for i, r in enumerate((90.0, 81.0))]
        + [row(2, 2, 2, r, i) for i, r in enumerate((100.0, 90.0))]
    )
    [lost] = [r for r in noisy if not r["best"]]
    assert lost["loss"] == pytest.approx(0.05)  # 1 - 95 / 100
    assert lost["loss_low"] < 0 < lost["loss_high"]
    [lost] = [r for r in steady if not r["best"]]
    assert (lost["loss"], lost["loss_low"], lost["loss_high"]) == (pytest.approx(0.1),) * 3


def test_a_base_of_unknown_throughput_is_not_the_best() -> None:
    rows = tuned([row(1, 2, 2, None), row(2, 2, 2, 50.0), row(4, 2, 2, 40.0)])
    assert marked(rows, "best") == ["omp2-w2-p2"]


def test_where_no_throughput_is_known_none_is_the_best() -> None:
    assert not any(r["best"] for r in tuned([row(1, 2, 2, None), row(2, 2, 2, None)]))
