"""Two sides for people: sentences whose numbers were worked out by hand, tables, and the page read as HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import in_process
import pytest
from in_process import Done
from made_up_rows import launch, write

import bench
from bench.analysis.two_sides import Side, TwoSides, two_sides
from bench.report.gate import COMMENT_BYTES
from bench.report.two_sides import comment_of, sentences, tables
from bench.report.two_sides_page import charts, page_of
from bench.stats.comparison import compare
from bench.stats.verdict import Rules
from bench.store.columns import COMMS, LaunchRow
from bench.store.comms_rates import with_rates

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "a\x1b[2Jb", "@team")
KNOWN = {"gpus": 4, "world_size": 4, "data_wait_share": 0.0, "comm_method": "profile", "workload": "gpt-nano"}
MEASURE = "measure both with bench run --profile on"


class Document(HTMLParser):
    """The elements of a page as (tag, attributes)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def sessions(name: str, steps_ms: Sequence[float], share: float, **known: Any) -> list[LaunchRow]:
    """A session for each duration of a step of 4 samples, of which a share waits for communication."""
    return [
        launch(**{"run_id": f"2026010{n}-000000-{name}", "samples_per_s": 4000 / step, "step_mean_ms": step}
               | {"exposed_comm_share": share, **KNOWN, **known})
        for n, step in enumerate(steps_ms, 1)
    ]  # fmt: skip


# A: 100 ms, of which 10 communicate. B: 200 ms, of which 110 do: the rest stays at 90 but for noise.
A = sessions("aaaa", [99.9, 100.0, 100.1], 0.10)
B = sessions("bbbb", [199.8, 200.0, 200.2], 0.55)


def comms_rows(name: str, times: float, collective: str = "all_reduce") -> tuple[list[LaunchRow], list[dict[str, Any]]]:
    """A run of collectives with two launches, each size of which takes ``times`` as long as on A."""
    launches = [
        launch(run_id=f"2026020{n}-000000-{name}", launch_id=f"c{n}", workload="comms", gpus=4, samples_per_s=None,
               strategy=None, device="cpu")
        for n in range(2)
    ]  # fmt: skip
    rows = [
        dict.fromkeys(COMMS)
        | {column: getattr(of, column) for column in COMMS if column in LaunchRow._fields}
        | {"status": "ok", "collective": collective, "group": "all", "group_ranks": "0-3", "group_size": 4}
        | {"dtype": "float32", "size_bytes": size, "message_bytes": size, "backend": "gloo"}
        | {"time_us": us * times * (1 + n / 1e3), "busbw_gb_per_s": 1.5 * size / us / times / 1e3 / (1 + n / 1e3)}
        for size, us in ((1024, 400.0), (64 << 20, 1e5))
        for n, of in enumerate(launches)
    ]
    return launches, rows


def found(a: Sequence[LaunchRow], b: Sequence[LaunchRow], **more: Any) -> TwoSides:
    return two_sides(compare(a, b, Rules(), ("x/fast", "x/slow")), Side(a), Side(b), **more)


def with_comms(times: float, collective: str = "all_reduce") -> TwoSides:
    of_a, of_b = comms_rows("caaa", 1.0, collective), comms_rows("cbbb", times, collective)
    sides = Side([*A, *of_a[0]], of_a[1]), Side([*B, *of_b[0]], of_b[1])
    return two_sides(compare(A, B, Rules(), ("x/fast", "x/slow")), *sides)


# -- sentences -----------------------------------------------------------------------------------------------------


def test_the_cause_of_a_slowdown() -> None:
    """Throughput halves. Communication grows from 10 to 110 ms of 100 to 200: all of the difference. Its sessions' variances
    are (0.01)^2 and (0.11)^2, so that the half width is 4.3027 sqrt((0.0001 + 0.0121) / 3) = 0.274."""
    said, next_step = sentences(found(A, B))
    assert said == (
        "B is 50% slower for gpt-nano ddp ×4: 100% of the difference of a step (100 → 200 ms) is exposed communication, "
        "+100 ms (+99.73…+100.3) by 3 sessions a side."
    )
    assert next_step == "bench comms --gpus 4 on both sides says how their links compare."


def test_the_cause_of_a_speedup() -> None:
    said, _ = sentences(found(B, A))
    assert said.startswith("B is 100% faster for gpt-nano ddp ×4: 100% of the difference of a step (200 → 100 ms) is")
    assert "-100 ms (-100.3…-99.73)" in said


def test_the_link_is_named_where_it_was_measured() -> None:
    """Every all-reduce takes 4 times as long: a quarter of the bandwidth."""
    [said] = sentences(with_comms(4.0))
    assert said.endswith(
        "; B's all_reduce of 64M has 0.25 of A's bus bandwidth, and one of 1K takes 4 times A's time (bench comms)."
    )
    assert "0.25" not in sentences(with_comms(4.0, "broadcast"))[0]  # which ddp does not wait for


def test_another_cause_than_the_network() -> None:
    slow = sessions("bbbb", [199.8, 200.0, 200.2], 0.05)
    [said] = sentences(found(A, slow))
    assert "100% of the difference of a step (100 → 200 ms) is computation and the rest, +100 ms" in said
    assert "comms" not in said
    waiting = sessions("bbbb", [199.8, 200.0, 200.2], 0.05, data_wait_share=0.5)
    [said] = sentences(found(A, waiting))
    assert "is data, +100 ms" in said


def test_no_cause_is_guessed() -> None:
    """Two launches with steps 50 ms apart show nothing; one session a side decides nothing."""
    [said] = sentences(found(sessions("a", [75.0, 125.0], 0.1), sessions("b", [175.0, 225.0], 0.55)))
    assert said == (
        "Whether B is slower or faster, and where that comes from, is not decided for gpt-nano ddp ×4: measure more "
        "sessions of both."
    )
    assert sentences(found(A[:1], B[:1])) == [said]
    uneven = [*sessions("bbbb", [199.8, 200.0, 200.2], 0.55)]
    uneven[0] = uneven[0].but(exposed_comm_share=0.1)
    [said] = sentences(found(A, uneven))
    assert said == (
        "B is 50% slower for gpt-nano ddp ×4: a step takes 100 → 200 ms, but no part of that is shown by 3 sessions a "
        "side; measure more sessions of both."
    )


def test_a_cause_that_launches_show_before_a_verdict_is_decided() -> None:
    """One session a side, in which the launches agree; how far sessions differ is not known."""
    a, b = ([row.but(run_id=side[0].run_id, block=n) for n, row in enumerate(side)] for side in (A, B))
    said, *_ = sentences(found(a, b))
    assert said.startswith(
        "Not decided for gpt-nano ddp ×4, but 100% of the difference of a step (100 → 200 ms) is exposed"
    )
    assert said.endswith(" by 3 launches a side.")


def test_where_nothing_is_known_the_option_is_named() -> None:
    bare = {"comm_method": None, "exposed_comm_share": None}
    a, b = ([row.but(**bare) for row in side] for side in (A, B))
    [said] = sentences(found(a, b))
    assert said == (
        f"Where the difference comes from is not known for gpt-nano ddp ×4: neither side was profiled; {MEASURE}."
    )
    assert sentences(found(a, a)) == []  # There is no difference.


def test_sides_without_a_matching_case_have_nothing_to_say() -> None:
    both = found(A, [row.but(batch_size=9) for row in B], prices=(1.0, 2.0))
    assert (sentences(both), tables(both)) == ([], [])
    assert "missing" in page_of(both, [])


def test_costs_in_words() -> None:
    """Four devices at $9 an hour are $0.01 a second, and A takes 25,000 s for a million samples: $250. B takes twice as long,
    at half the price for as much. A tenth for a token of ten a sample."""
    *_, said = sentences(found(A, B, prices=(9.0, 4.5)))
    assert said == (
        "Which side costs less is not decided for gpt-nano ddp ×4 ($250 in A, $250 in B per million samples)."
    )
    *_, said = sentences(found(A, B, prices=(9.0, 9.0)))
    assert said == "A costs less for gpt-nano ddp ×4 ($250 in A, $500 in B per million samples)."
    tokens = [[row.but(tokens_per_s=(row.samples_per_s or 0) * 10) for row in side] for side in (A, B)]
    *_, said = sentences(found(tokens[0], tokens[1], prices=(9.0, 2.25)))
    assert said == "B costs less for gpt-nano ddp ×4 ($25 in A, $12.5 in B per million tokens)."


# -- tables and pages ----------------------------------------------------------------------------------------------


def test_the_table_of_parts() -> None:
    [table] = tables(found(A, B))
    [cells] = table.cells()
    assert cells[:3] == ["gpt-nano ddp ×4", "100", "200"]
    assert cells[3].startswith("+100 (")
    assert [text.split()[-1] for text in cells[4:7]] == ["0%", "100%", "0%"]
    assert cells[7:] == ["profile", "3 sessions"]


def test_the_page_has_all_of_it() -> None:
    scaled = [
        [row.but(gpus=1, world_size=1, samples_per_s=30.0, global_batch=1, case_id="one") for row in side]
        + [row.but(global_batch=4) for row in side]
        for side in (A, B)
    ]
    of_a, of_b = comms_rows("caaa", 1.0), comms_rows("cbbb", 4.0)
    sides = Side([*scaled[0], *of_a[0]], of_a[1]), Side([*scaled[1], *of_b[0]], of_b[1])
    gate = compare(*scaled, Rules(), ("x/fast", "x/slow"))
    both = two_sides(gate, *sides, prices=(9.0, 9.0))
    text = page_of(both, ["stepbench"])
    page = Document(text)
    assert "<title>fast and slow, compared</title>" in text
    names = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert names == ["headline", "verdicts", "split", "links", "scaling", "costs"]
    assert {chart.name for chart in charts(both)} == {"split", "scaling-weak-gpt-nano"}
    [scaling] = [chart for chart in charts(both) if chart.name.startswith("scaling")]
    assert scaling.data["series"].unique().tolist() == ["A ddp fp32", "B ddp fp32"]


def test_bars_are_the_parts_of_both_sides() -> None:
    [chart] = charts(found(A, B))
    rows = chart.data.to_dict("records")
    assert [row["side"] for row in rows] == ["A", "B"]
    assert [row["exposed communication, ms"] for row in rows] == pytest.approx([10, 110])
    assert [row["computation and the rest, ms"] for row in rows] == pytest.approx([90, 90])
    chart.figure()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_rows_is_only_text(text: str) -> None:
    a, b = ([row.but(workload=text, os=f"{side}{text}") for row in rows] for side, rows in (("a", A), ("b", B)))
    both = two_sides(compare(a, b, Rules(), (text, "b")), Side(a), Side(b), prices=(1.0, 2.0))
    page = page_of(both, [text])
    assert not {tag for tag, _ in Document(page).elements} & {"img", "iframe"}
    assert page.count("<script") == 1
    assert "alert(1)</script>" not in page
    markdown = comment_of(both)
    assert not any(sign in markdown for sign in ("<script", "<img", "@team"))


def test_a_comment_ends_before_it_is_too_long() -> None:
    many = [
        [row.but(batch_size=size, case_id=f"a{size}", workload="m" * 99) for size in range(1, 300) for row in side]
        for side in (A, B)
    ]
    text = comment_of(found(*many))
    assert len(text.encode()) <= COMMENT_BYTES
    assert "## Where the difference comes from" not in text
    assert "## Where the difference comes from" in comment_of(found(A, B))


# -- the command ---------------------------------------------------------------------------------------------------


def command(cwd: Path, *words: str) -> Done:
    return in_process.bench(cwd, "compare", *words)


@pytest.fixture
def clusters(tmp_path: Path) -> Path:
    """Three sessions of each of two clusters, in folders of results."""
    for name, rows in (("fast", A), ("slow", B)):
        for row in rows:
            write(tmp_path / name / "runs" / str(row.run_id), [row])
    return tmp_path


def test_folders_of_several_sessions(clusters: Path) -> None:
    done = command(clusters, "fast", "slow", "--price", "fast=9,slow=2.25", "--html", "both.html", "--plots", "charts")
    assert done.code == 1, done.err
    assert "by 3 and 3 sessions" in done.out
    assert "• B is 50% slower for gpt-nano ddp ×4: 100% of the difference" in done.out
    assert "B costs less for gpt-nano ddp ×4" in done.out
    assert "Where the difference comes from" in (clusters / "both.html").read_text()
    assert sorted(file.name for file in (clusters / "charts").iterdir()) == ["split.png", "split.svg"]


def test_the_forms_for_programs(clusters: Path) -> None:
    done = command(clusters, "fast", "slow", "--json", "--md", "both.md")
    assert done.told["findings"][0].startswith("B is 50% slower")
    by_part = {row["part"]: row for row in done.told["split"]}
    assert by_part["exposed communication"]["change_ms"] == pytest.approx(100)
    assert math.isclose(sum(row["change_ms"] for part, row in by_part.items() if part != "step"), 100)
    assert (done.told["links"], done.told["scaling"], done.told["costs"]) == ([], [], [])
    assert "## Where the difference comes from" in (clusters / "both.md").read_text()


def test_python_has_the_same(clusters: Path) -> None:
    both = bench.compare(clusters / "fast", clusters / "slow", price={"A": 9, "B": 9}, out=clusters)
    assert both.findings[0].startswith("B is 50% slower")
    assert both.split["change_ms"].tolist() == pytest.approx([0, 100, 0, 100], abs=1e-9)
    assert both.costs["cheaper"].tolist() == ["A"]
    assert (both.links.empty, both.scaling.empty) == (True, True)
    assert both.html().startswith("<!doctype html>")
    with pytest.raises(bench.UsageError, match="only a comparison of two results has this"):
        _ = bench.api.gates.Comparison(both.gate).findings


def test_a_baseline_is_a_side(clusters: Path) -> None:
    write(clusters / "results" / "baselines", A, name="usual.csv")
    done = command(clusters, "usual", "slow", "--json")
    assert (done.code, done.told["a"], len(done.told["verdicts"])) == (1, "usual", 1)
    assert done.told["split"][0]["units"] == "sessions"


def test_collectives_of_a_baseline_are_compared_without_their_launches(clusters: Path) -> None:
    launches, rows = comms_rows("caaa", 1.0)
    kept = [*launches, *with_rates(launches, rows)]
    write(clusters / "results" / "baselines", kept, name="links.csv")
    done = command(clusters, "links", "links", "--json")
    assert [one["case"] for one in done.told["verdicts"]] == [
        *("all_reduce-1K-float32-all-0-3-x4-cpu", "all_reduce-64M-float32-all-0-3-x4-cpu")
    ]


def test_runs_right_in_a_folder_and_none_of_a_comparison(clusters: Path) -> None:
    for row in A:
        write(clusters / "mine" / str(row.run_id), [row])
    write(clusters / "mine" / "20260109-000000-abab", [A[0].but(run_id="20260109-000000-abab", side="B", pair="a")])
    done = command(clusters, "mine", "slow", "--json")
    assert done.told["verdicts"][0]["samples_per_s_a"] == 40.0
    assert "warning: mine: without 20260109-000000-abab, which bench ab measured" in done.err


def test_the_runs_of_jobs_are_sessions_as_well(clusters: Path) -> None:
    for number, row in enumerate(A):
        write(clusters / "jobs" / "slurm" / str(number) / "runs" / str(row.run_id), [row])
    assert command(clusters, "jobs", "slow", "--json").told["split"][0]["count"] == 3


def test_what_there_is_not(clusters: Path) -> None:
    (clusters / "empty").mkdir()
    for name in ("empty", "nowhere"):
        done = command(clusters, name, "slow")
        assert (done.code, done.out) == (5, "")
        assert f"bench: run: got '{name}'; allowed: a run's id, latest, " in done.err
        assert "a folder with runs, or the name of a baseline" in done.err


@pytest.mark.parametrize("given", ["", "A=1", "A=1,B=", "A=1,B=0", "A=1,B=-1", "A=1,B=inf", "A=1,B=nan", "A=x,B=1",
                                   "A=1,A=2", "A=1,C=2", "1,2", "A=1,B=2,fast=3"])  # fmt: skip
def test_prices_that_are_none(clusters: Path, given: str) -> None:
    done = command(clusters, "fast", "slow", "--price", given)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("bench: --price: ")


def test_options_for_two_results_alone(clusters: Path) -> None:
    write(clusters / "results" / "runs" / "20260101-000000-abab", [A[0].but(side="A"), A[0].but(side="B")])
    for flag, value in (("--price", "A=1,B=1"), ("--html", "x.html"), ("--plots", "x")):
        done = command(clusters, "20260101-000000-abab", flag, value)
        assert (done.code, done.err) == (2, f"bench: {flag} needs two arguments, A and B. Give B as well.\n")


def test_json_has_null_for_what_is_unknown(clusters: Path) -> None:
    told = json.loads(command(clusters, "fast", "slow", "--price", "A=1,B=1", "--json").out)
    assert told["costs"][0]["per_million_tokens_a"] is None
