"""The distribution of step times: their quantiles, and outliers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches, steps
from bench.analysis.step_noise import COLUMNS, noise
from bench.store.columns import LaunchRow
from bench.store.environments import with_environments


def row(launch_id: str, **changes: Any) -> LaunchRow:
    said = {"run_id": "r", "launch_id": launch_id, "case_id": "a", "role": "measure", "status": "ok", "block": 0}
    return LaunchRow.of({**said, "order": 0, "work_key": "w", **changes})


def times(launch_id: str, *values: float, run_id: str = "r") -> pd.DataFrame:
    said = {"run_id": run_id, "launch_id": launch_id, "step": range(len(values)), "step_ms": values}
    return pd.DataFrame(said).astype({"run_id": "str", "launch_id": "str", "step_ms": "float64"})


def found(rows: list[LaunchRow], *parts: pd.DataFrame) -> list[dict[str, Any]]:
    frame = noise(with_environments(launches(rows)), pd.concat(parts, ignore_index=True))
    assert list(frame.columns) == list(COLUMNS)
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def test_quantiles_and_the_fence_of_tukey() -> None:
    """1 … 8 and 20, so quartiles at places 2 and 6 from 0: 3 and 7; the fence is 7 + 1.5 x 4 = 13. The median is at
    place 4: 5; the 5th percentile at 0.4: 1.4; the 95th at 7.6: 8 + 0.6 x 12 = 15.2."""
    assert found([row("l")], times("l", 5.0, 3.0, 20.0, 1.0, 2.0, 8.0, 7.0, 6.0, 4.0)) == [
        {
            **{"environment": "A", "case_id": "a", "nproc_per_node": "", "work_key": "w", "code_key": None},
            **{"run_id": "r", "launch_id": "l", "block": 0},
            **{"steps": 9, "median_ms": 5.0, "p05_ms": pytest.approx(1.4), "p95_ms": pytest.approx(15.2)},
            **{"outliers": 1, "largest_ms": 20.0},
        }
    ]


@pytest.mark.parametrize(("last", "outliers", "largest"), [(13.0, 0, None), (13.001, 1, 13.001)])
def test_what_lies_on_the_fence_is_not_outside(last: float, outliers: int, largest: float | None) -> None:
    [row_] = found([row("l")], times("l", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, last))
    assert (row_["outliers"], row_["largest_ms"]) == (outliers, largest)


def test_fast_steps_are_no_outliers() -> None:
    [row_] = found([row("l")], times("l", 0.001, 100.0, 101.0, 102.0, 103.0))
    assert (row_["outliers"], row_["largest_ms"]) == (0, None)


def test_equal_steps_have_no_outliers_and_one_that_is_longer_is_one() -> None:
    assert found([row("l")], times("l", 5.0, 5.0, 5.0))[0]["outliers"] == 0
    assert found([row("l")], times("l", *[5.0] * 9, 5.1))[0]["outliers"] == 1


def test_each_launch_of_each_run_is_by_itself() -> None:
    rows = [row("l"), row("m", case_id="b", block=2), row("l", run_id="s")]
    both = found(rows, times("m", 7.0, 9.0), times("l", 1.0), times("l", 3.0, run_id="s"))
    assert [(r["run_id"], r["launch_id"], r["case_id"], r["block"], r["median_ms"]) for r in both] == [
        *(("r", "l", "a", 0, 1.0), ("r", "m", "b", 2, 8.0), ("s", "l", "a", 0, 3.0)),
    ]


def test_only_good_launches_that_have_steps_are_there() -> None:
    rows = [row("l", status="invalid"), row("m", role="probe"), row("n"), row("o")]
    assert [r["launch_id"] for r in found(rows, *(times(name, 1.0, 2.0) for name in "lmox"))] == ["o"]


def test_without_steps_there_is_nothing(tmp_path: Any) -> None:
    assert found([row("l")], steps(tmp_path / "steps.csv", print)) == []
