"""What a report says in sentences: no more than its launches show."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle

from bench.analysis.answers import answer
from bench.analysis.frames import steps
from bench.report.charts import charts
from bench.report.charts.models import ticks
from bench.report.headline import headline
from bench.report.tables import tables
from bench.store.columns import LaunchRow

FACTS = {"role": "measure", "status": "ok", "workload": "mlp", "gpus": 2, "device": "cpu", "precision": "fp32"}
AXES = {"batch_size": 8, "omp_num_threads": 1, "data": "resident", "run_id": "r", "work_key": "w"}


def launches(strategy: str, rates: list[float], mib: float, **columns: object) -> list[LaunchRow]:
    """A launch a rate, in blocks of their own."""
    case = {**FACTS, **AXES, "case_id": f"mlp-{strategy}", "strategy": strategy, "peak_rss_mib": mib}
    return [
        LaunchRow.of({**case, "order": block, "block": block, "samples_per_s": rate, "step_ms": 1.0, **columns})
        for block, rate in enumerate(rates)
    ]


def sentences(*rows: list[LaunchRow]) -> list[str]:
    return headline(answer([*itertools.chain(*rows)], steps(Path("of no run"), print)))


def test_one_launch_tells_no_two_cases_apart() -> None:
    said = sentences(launches("ddp", [200.0], 583.6), launches("fsdp", [112.6], 582.7))[1]
    assert said == (
        "mlp on 2 × CPU rank: fastest is ddp with 200 samples/s (1 launch) at 0.57 GiB; "
        "a case with one launch cannot be told from the others (--launches 5)."
    )  # 582.7 MiB are less by 0.15 %: none is the smallest


def test_the_smallest_is_smaller_by_more_than_the_floor() -> None:
    slow, fast = [100.0, 100.1, 100.2], [200.0, 200.1, 200.2]
    nearly = sentences(launches("ddp", fast, 1000.0), launches("fsdp", slow, 981.0))[1]
    assert "smallest" not in nearly  # by 1.9 %
    said = sentences(launches("ddp", fast, 1000.0), launches("fsdp", slow, 979.0))[1]
    assert said.endswith("; smallest is fsdp with 0.956 GiB, 50.0% slower.")  # by 2.1 %; 1 - 100.1 / 200.1 = 49.98 %


def test_no_percentage_of_what_is_within_the_noise() -> None:
    said = sentences(launches("ddp", [100.0, 110.0, 120.0], 1000.0), launches("fsdp", [99.0, 109.0, 121.0], 500.0))[1]
    assert said.endswith("at 0.977 GiB; 1 other within the noise of it (fsdp); smallest is fsdp with 0.488 GiB.")


def test_all_that_failed_is_counted() -> None:
    mixed = launches("ddp", [1.0, 1.0, 1.0], 1000.0)
    mixed[0] = mixed[0].but(status="oom", samples_per_s=None)
    mixed[1] = mixed[1].but(status="crashed", samples_per_s=None)
    skipped = [mixed[2].but(status="skipped", order=None, samples_per_s=None, case_id="mlp-dp", strategy="dp")]
    assert sentences(mixed, skipped)[0] == (
        "2 cases, 3 launches in 1 run; 2 launches failed (1 crashed, 1 oom); 1 case was not launched (skipped)."
    )


def test_warnings_about_the_machine_are_told_with_how_many_launches_they_are_of() -> None:
    busy = "others keep 1.3 of 2 processors busy: stop them"
    rows = launches("ddp", [1.0, 1.0], 1.0, machine_warnings=busy) + launches("fsdp", [1.0], 1.0)
    assert f"Machine, 2 launches: {busy}." in sentences(rows)
    many = [launches(f"ddp:bucket-mb={n}", [1.0], 1.0, machine_warnings=f"warning {n}") for n in range(9)]
    assert sum(said.startswith("Machine") for said in sentences(*many)) == 3 + 1  # three, and how many more


def test_the_models_of_a_run_are_in_one_chart() -> None:
    rows = launches("ddp", [100.0, 101.0, 102.0], 1.0) + launches("fsdp", [10.0, 11.0, 12.0], 1.0)
    other = launches("ddp", [7.0, 8.0, 9.0], 1.0, workload="bert", case_id="bert-ddp")
    [chart] = [
        chart for chart in charts(answer([*rows, *other], steps(Path("no"), print))) if chart.name == "models-x2"
    ]
    assert chart.data["workload"].to_list() == ["bert", "mlp"]
    assert chart.data["median, samples/s"].to_list() == [8.0, 101.0]
    assert chart.data["slowest case, samples/s"].to_list() == [8.0, 11.0]
    assert chart.data["cases"].to_list() == [1, 2]
    alone = charts(answer(rows, steps(Path("no"), print)))
    assert not [chart for chart in alone if chart.name.startswith("models")]


def test_ticks_of_a_logarithmic_axis_are_round_and_few() -> None:
    assert ticks(3.0, 70.0) == [5.0, 10.0, 20.0, 50.0]
    assert ticks(0.9, 1200.0) == [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
    assert ticks(1.0, 1e6) == [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]


def waiting(share: float | None, method: str = "profile") -> dict[str, object]:
    """Columns of a launch on two ranks whose step of 10 ms waits for so large a share of it."""
    known = {"profiled_step_ms": 10.0, "exposed_comm_ms": None if share is None else 10 * share}
    parts = {"comm_ms": 10 * share + 1, "compute_ms": 3.0, "overlap_ms": 1.0} if share and method == "profile" else {}
    return {"world_size": 2, "comm_method": method, "exposed_comm_share": share, **known, **parts}


def test_how_much_of_a_step_waits_for_communication() -> None:
    rows = launches("ddp", [200.0], 1.0, **waiting(0.34)), launches("fsdp", [112.6], 1.0, **waiting(0.51))
    said = "mlp on 2 × CPU rank: 34.0% (ddp) to 51.0% (fsdp) of a step waits for communication."
    assert said in sentences(*rows)
    alone = launches("ddp", [200.0], 1.0, **waiting(-0.02, "ablation"))  # noise
    assert "mlp on 2 × CPU rank: 0.0% (ddp, by ablation) of a step waits for communication." in sentences(alone)
    unknown = launches("ddp", [200.0], 1.0, **waiting(None))
    assert not [said for said in sentences(unknown, launches("fsdp", [1.0], 1.0)) if "communication" in said]


def test_communication_in_the_summary_is_by_one_method() -> None:
    shares = [("profile", 0.2), ("ablation", 0.9), ("profile", 0.4), ("profile", None)]
    rows = [
        launches("ddp", [100.0], 1.0, **waiting(share, method), order=n, block=n)[0]
        for n, (method, share) in enumerate(shares)
    ]
    summary = answer(rows, steps(Path("of no run"), print)).summary
    assert (summary["comm_method"][0], summary["exposed_comm_share"][0]) == ("profile", pytest.approx(0.3))
    assert summary["exposed_comm_ms"][0] == pytest.approx(3.0)


def test_the_parts_of_a_profiled_step_are_drawn() -> None:
    """They add up to the step; by ablation all that is known is what waits."""
    rows = launches("ddp", [200.0], 1.0, **waiting(0.3)), launches("fsdp", [112.6], 1.0, **waiting(0.5, "ablation"))
    found = answer([*itertools.chain(*rows)], steps(Path("no"), print))
    [chart] = [chart for chart in charts(found) if chart.name.startswith("communication")]
    parts = [name for name in chart.data if str(name).endswith(", ms")]
    assert parts == ["computation, ms", "both at once, ms", "exposed communication, ms", "neither, or unknown, ms"]
    table = chart.data.set_index("method")[parts]
    assert table.loc["profile"].to_list() == [2.0, 1.0, 3.0, 4.0]
    assert table.loc["ablation"].to_list()[2:] == [5.0, 5.0]
    assert table.loc["ablation"].isna().to_list()[:2] == [True, True]
    assert "fsdp fp32 waits most: 5 ms, 50% of its step. ddp fp32 waits least: 3 ms, 30% of its step." in chart.alt
    drawn = [patch.get_width() for patch in chart.figure().axes[1].patches if isinstance(patch, Rectangle)]
    assert drawn[-6:] == [2.0, 1.0, 3.0, 4.0, 5.0, 5.0]
    assert not [c for c in charts(answer(launches("ddp", [1.0], 1.0), steps(Path("no"), print))) if "comm" in c.name]


def test_tables_have_the_share_only_where_it_is_known() -> None:
    def titles(*rows: list[LaunchRow]) -> list[str]:
        found = answer([*itertools.chain(*rows)], steps(Path("no"), print))
        return [column.title for column in next(table for table in tables(found) if table.name == "summary").columns]

    assert "exposed comm" in titles(launches("ddp", [1.0], 1.0, **waiting(0.2)))
    assert not [title for title in titles(launches("ddp", [1.0], 1.0)) if "comm" in title]
