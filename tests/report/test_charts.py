"""The charts of ``bench report``: what is drawn is the data, nothing misleads, and every word of a row is only text."""

from __future__ import annotations

import itertools
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from bench.analysis.answers import Answers, answer
from bench.analysis.frames import steps
from bench.errors import ResultsError
from bench.report.charts import Chart, charts, parallel, svg
from bench.report.charts.canvas import WIDTH, text_width, truncate, wrap
from bench.report.charts.style import HATCHES, MARKERS, SENTINELS, SERIES, THEMES, css_variables, series_numbers
from bench.report.plots import write_plots
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches

RUNS = sorted((Path(__file__).parents[1] / "data" / "results" / "runs").iterdir())
NEW = RUNS[-1]  # of 8 GPUs, with all kinds of failures
NAMESPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>",
    "$x$",
    "=cmd|' /C calc'!A0",
    "W" * 300,
    "a\x1b[31m\u202eb\nc",
    "#f0010d",
    "&amp;",
)


def answers(
    runs: Sequence[Path] = (NEW,),
    change: Callable[[LaunchRow], LaunchRow] = lambda row: row,
    only: Callable[[LaunchRow], bool] | None = None,
) -> Answers:
    """Answers to the made-up runs, with each row changed."""
    rows = [
        change(row)
        for run in runs
        for row in read_launches(run / "launches.csv", lambda _: None)
        if not only or only(row)
    ]
    return answer(rows, pd.concat([steps(run / "steps.csv", lambda _: None) for run in runs]), [24, 40])


@pytest.fixture(scope="module")
def drawn() -> dict[str, Chart]:
    return {chart.name: chart for chart in charts(answers())}


@pytest.fixture(scope="module")
def pages(drawn: dict[str, Chart]) -> dict[str, str]:
    return {name: svg(chart) for name, chart in drawn.items()}


def bars(chart: Chart) -> list[Rectangle]:
    """The rectangles of the plot: not those of the legend, which stands on an axes of its own."""
    plot = chart.figure().axes[1]
    return sorted((p for p in plot.patches if isinstance(p, Rectangle)), key=lambda p: (p.get_y(), p.get_x()))


def words(page: str) -> str:
    return " ".join(node.text or "" for node in ElementTree.fromstring(page).iter(NAMESPACE + "text"))


def test_one_chart_a_question_in_the_order_of_a_report(drawn: dict[str, Chart]) -> None:
    gpt = [f"gpt-124m-x{n}" for n in (1, 2, 4, 8)]
    assert list(drawn) == [
        "models-x8",
        *(f"throughput-{of}" for of in ("resnet50-x8", *gpt, "gpt-350m-x8")),
        *(f"memory-{of}" for of in ("resnet50-x8", *gpt, "gpt-350m-x8")),
        *("scaling-weak-gpt-124m", "scaling-strong-gpt-124m", "heatmap-resnet50-x8-ddp-amp-bf16"),
        *(f"parts-{of}" for of in ("resnet50-x8", *gpt, "gpt-350m-x8")),
        *(f"steps-{of}" for of in ("resnet50-x8", *gpt, "gpt-350m-x8")),
        *(f"pareto-{of}" for of in (*gpt, "gpt-350m-x8")),  # resnet50 needs the same memory in all its cases
    ]


def test_every_chart_says_what_it_is(drawn: dict[str, Chart]) -> None:
    for chart in drawn.values():
        assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", chart.name)
        assert "\n" not in chart.title
        assert re.search("samples/s|GiB|ms|times", chart.title)
        assert re.match("Bar chart|Dot chart|Stacked bar chart|Line chart|Heat map|Step times|Scatter chart", chart.alt)
        assert re.search(r"\d", chart.alt)
        assert re.search(r"\d launches", chart.note)
        assert len(chart.data)


@pytest.mark.parametrize(
    ("name", "column"),
    [("throughput-gpt-124m-x8", "median, samples/s"), ("memory-gpt-350m-x8", "median, GiB")],
)
def test_bars_are_the_data_from_zero(drawn: dict[str, Chart], name: str, column: str) -> None:
    chart = drawn[name]
    assert [bar.get_width() for bar in bars(chart)] == list(chart.data[column].dropna())
    assert {bar.get_x() for bar in bars(chart)} == {0}
    low, high = chart.figure().axes[1].get_xlim()
    assert low == 0
    assert high > chart.data[column].max()


def test_throughput_is_the_median_of_the_launches_of_the_file(drawn: dict[str, Chart]) -> None:
    rates = [
        float(row.samples_per_s)  # type: ignore[arg-type]
        for row in read_launches(NEW / "launches.csv", lambda _: None)
        if row.case_id == "gpt-124m-ddp-x8-cuda-amp-bf16-7c3e083d" and row.role == "measure"
    ]
    table = drawn["throughput-gpt-124m-x8"].data.set_index("case")
    assert len(rates) == 3
    assert table.loc["ddp amp-bf16 batch 8 adamw", "median, samples/s"] == statistics.median(rates)


def test_a_disturbed_launch_squashes_no_bar(drawn: dict[str, Chart]) -> None:
    chart = drawn["throughput-gpt-124m-x8"]
    table = chart.data.set_index("case")
    end = chart.figure().axes[1].get_xlim()[1]
    assert table.loc["fsdp amp-bf16 batch 8 adamw", "95 % to, samples/s"] > 1.5 * end
    assert "arrow are clipped: fsdp amp-bf16 batch 8 adamw to 2,056 samples/s." in chart.note


def test_failed_cases_are_seen(drawn: dict[str, Chart], pages: dict[str, str]) -> None:
    for kind in ("throughput", "memory", "parts", "steps"):
        page = words(pages[f"{kind}-gpt-124m-x8"])
        for status, case in (
            *(("invalid", "ddp amp-fp16 batch 8 sgd"), ("timeout", "ddp:hook=fp16 amp-bf16 batch 8 adamw")),
            *(("skipped", "fsdp:replicate=3 amp-bf16 batch 8 adamw"),),
        ):
            assert f"{case} × {status}" in page
            assert f"{case} ({status}: " in drawn[f"{kind}-gpt-124m-x8"].note
    assert "× oom" in words(pages["throughput-gpt-350m-x8"])
    assert "oom: ddp amp-bf16 ac none" in words(pages["pareto-gpt-350m-x8"])
    assert "timeout: ddp:hook=fp16 ×8 amp-bf16 adamw" in words(pages["scaling-weak-gpt-124m"])
    assert "9,511 · 2 of 3 launches ok" in words(pages["throughput-resnet50-x8"])
    assert "9,511 2 of 3" in words(pages["heatmap-resnet50-x8-ddp-amp-bf16"])


def test_scaling_is_log_log_with_the_ideal_line(drawn: dict[str, Chart]) -> None:
    plot: Axes = drawn["scaling-strong-gpt-124m"].figure().axes[1]
    assert (plot.get_xscale(), plot.get_yscale()) == ("log", "log")
    assert [list(ticks) for ticks in (plot.get_xticks(), plot.get_yticks())] == [[1, 2, 4, 8]] * 2
    lines = {line.get_label(): line for line in plot.lines}
    x, y = lines.pop("ideal").get_data()
    assert list(x) == list(y)
    ((x, y),) = [line.get_data() for line in lines.values()]
    assert list(x) == [1, 2, 4, 8]
    # the medians of samples/s over that of one GPU, 138.968
    assert list(y) == pytest.approx([1, 291.69952 / 138.96763, 518.11301 / 138.96763, 899.68378 / 138.96763], rel=1e-6)
    assert "suspicious: ddp amp-bf16 on 2 GPUs (105%)" in drawn["scaling-strong-gpt-124m"].note


def test_a_base_of_more_devices_has_an_ideal_line_of_its_own() -> None:
    found = charts(answers(only=lambda row: row.gpus != 1))
    (weak,) = [chart for chart in found if chart.name == "scaling-weak-gpt-124m"]
    (ideal,) = [line for line in weak.figure().axes[1].lines if line.get_label() == "ideal"]
    x, y = ideal.get_data()
    assert list(np.asarray(x) / np.asarray(y)) == [2, 2]
    assert "ideal from 2" in words(svg(weak))


def test_heat_map_marks_the_best_and_the_default(drawn: dict[str, Chart], pages: dict[str, str]) -> None:
    chart = drawn["heatmap-resnet50-x8-ddp-amp-bf16"]
    marks = chart.data.set_index(["OMP_NUM_THREADS", "workers"])["mark"]
    assert {place: mark for place, mark in marks.items() if mark} == {(2, 8): "best", (1, 2): "default"}
    page = words(pages[chart.name])
    assert "0 2 4 8 1 3,060 6,109 9,248 9,736 2 3,139 6,264 9,357 10,069 4 2,960" in page
    assert "Default: OMP 1, 2 workers, prefetch 2 with 6,109 samples/s, 39.3% less than the best." in chart.alt


def test_a_cell_that_failed_or_was_not_run_is_no_number() -> None:
    def change(row: LaunchRow) -> LaunchRow:
        lost = row.workload == "resnet50" and (row.omp_num_threads, row.num_workers) == (2, 4)
        return row.but(status="oom", reason="no memory", samples_per_s=None) if lost else row

    found = charts(answers(change=change, only=lambda row: (row.omp_num_threads, row.num_workers) != (1, 8)))
    (page,) = [words(svg(chart)) for chart in found if chart.name.startswith("heatmap")]
    assert "1 3,060 6,109 9,248 — 2 3,139 6,264 oom 10,069" in page


@pytest.mark.parametrize(("device", "first"), [("cuda", "gap on the device, ms"), ("cpu", "wait for data, ms")])
def test_parts_of_one_timeline_add_up(device: str, first: str) -> None:
    found = {chart.name: chart for chart in charts(answers(change=lambda row: row.but(device=device)))}
    chart = found["parts-gpt-350m-x8"]
    parts = [first, "copy, ms", "forward, ms", "backward, ms", "optimizer, ms"]
    assert [name for name in chart.data if name.endswith(", ms")] == [*parts, "sum, ms"]
    known = chart.data.dropna(subset=["sum, ms"])
    ends = iter(bars(chart))
    for _, case in known.iterrows():
        left = 0.0
        for part, bar in zip(parts, itertools.islice(ends, len(parts)), strict=True):
            assert (bar.get_x(), bar.get_width()) == pytest.approx((left, case[part]))
            left += case[part]
        assert left == pytest.approx(case["sum, ms"])
    assert next(ends, None) is None


def test_steps_are_in_times_the_median_of_their_case(drawn: dict[str, Chart]) -> None:
    table = drawn["steps-gpt-124m-x8"].data
    disturbed = table[table["case"] == "fsdp amp-bf16 batch 8 adamw"]
    assert len(disturbed) == 3
    # one launch of three is 2.6 times as slow; the case's median is another's
    assert sorted(disturbed["median, times"].astype(float))[1:] == pytest.approx([1, 2.6], rel=0.03)
    assert drawn["steps-gpt-124m-x8"].figure().axes[1].get_xscale() == "linear"
    assert "does not start at zero" in drawn["steps-gpt-124m-x8"].note


def test_far_off_steps_are_kept_on_a_logarithmic_axis() -> None:
    of = answers()
    of.noise.loc[0, ["outliers", "largest_ms"]] = [1, 20 * of.noise.loc[0, "median_ms"]]
    name = of.summary.set_index("case_id").loc[of.noise.loc[0, "case_id"], ["workload", "gpus"]]
    (chart,) = [c for c in charts(of) if c.name == f"steps-{name['workload']}-x{name['gpus']}"]
    plot = chart.figure().axes[1]
    assert plot.get_xscale() == "log"
    assert plot.get_xlim()[1] > 20 * 0.9
    assert "The axis is logarithmic." in chart.note


def test_of_many_launches_of_a_case_twenty_are_drawn() -> None:
    """101 launches whose medians are 100 … 200 ms in a mixed order: every fifth or sixth, both ends, and the one with the
    largest outlier, which is none of those."""
    of = answers()
    first = of.noise.iloc[0]
    many = pd.DataFrame([first] * 101).reset_index(drop=True)
    medians = [100.0 + i * 37 % 101 for i in range(101)]
    many = many.assign(launch_id=[f"l{i}" for i in range(101)], median_ms=medians, p05_ms=medians, p95_ms=medians)
    many = many.assign(outliers=0, largest_ms=float("nan"))
    far = medians.index(103.0)
    many.loc[far, ["outliers", "largest_ms"]] = [1, 900.0]
    case = of.summary.set_index("case_id").loc[first["case_id"]]
    name = f"steps-{case['workload']}-x{case['gpus']}"
    (chart,) = [chart for chart in charts(replace(of, noise=many)) if chart.name == name]
    table = chart.data[chart.data["launch"].notna()]
    shown = [int(name[1:]) for name in table["launch"]]
    assert shown == sorted(shown)
    assert len(shown) == 20
    assert {medians.index(100.0), medians.index(200.0), far} <= set(shown)
    gaps = np.diff(sorted(medians[i] for i in shown if i != far))
    assert gaps.max() <= 11
    assert "of which 20 are drawn, evenly from the fastest to the slowest" in chart.note


def test_pareto_front(drawn: dict[str, Chart]) -> None:
    chart = drawn["pareto-gpt-124m-x8"]
    front = chart.data[chart.data["on the front"].eq(True)]
    assert list(front["number"]) == [1, 2]
    assert list(front["case"]) == ["ddp amp-bf16 batch 8 adamw", "fsdp amp-bf16 batch 8 adamw"]
    assert list(front["memory, GiB"]) == pytest.approx([14_077.6 / 1024, 7_464.6625 / 1024])
    plot = chart.figure().axes[1]
    assert (plot.get_xlim()[0], plot.get_ylim()[0]) == (0, 0)
    assert {"oom", "timeout", "skipped", "invalid"} & set(chart.data["status"]) == {"timeout", "skipped", "invalid"}


def test_no_pareto_where_memory_is_unknown() -> None:
    unknown = dict.fromkeys(("device_used_mib", "peak_reserved_mib", "peak_allocated_mib"))
    found = charts(answers(change=lambda row: row.but(**unknown)))
    assert not [chart.name for chart in found if chart.name.startswith(("pareto", "memory"))]


def test_the_measure_of_memory_is_said(drawn: dict[str, Chart]) -> None:
    assert "CUDA context and NCCL included" in drawn["memory-gpt-350m-x8"].note
    less = charts(answers(change=lambda row: row.but(device_used_mib=None)))
    assert "allocator's pool" in next(chart.note for chart in less if chart.name == "memory-gpt-350m-x8")


def test_environments_are_named_only_where_there_are_several(drawn: dict[str, Chart]) -> None:
    assert not any("environment" in chart.title for chart in drawn.values())
    both = {chart.name: chart.title for chart in charts(answers(RUNS))}
    assert both["throughput-gpt-124m-x8-environment-a"] == "Throughput of gpt-124m on 8 GPUs, environment A, samples/s"
    assert "throughput-gpt-124m-x8-environment-b" in both


def test_nothing_of_nothing() -> None:
    assert charts(answers(only=lambda row: False)) == []
    assert charts(answers(only=lambda row: row.status != "ok")) == []


def test_many_cases_are_split_and_none_is_dropped() -> None:
    rows = [row for row in read_launches(NEW / "launches.csv", lambda _: None) if row.workload == "gpt-350m"]
    more = [row.but(case_id=f"{row.case_id}-{seed}", seed=seed) for seed in range(9) for row in rows]
    of = answer(more, steps(NEW / "steps.csv", lambda _: None))
    first, second = (chart for chart in charts(of) if chart.name.startswith("throughput"))
    assert (first.name, second.name) == ("throughput-gpt-350m-x8-1", "throughput-gpt-350m-x8-2")
    assert first.title == "Throughput of gpt-350m on 8 GPUs, samples/s (1 of 2)"
    assert [len(first.data), len(second.data)] == [27, 27]
    assert pd.concat([first.data, second.data])["case"].nunique() == 9 * 6
    assert first.figure().axes[1].get_xlim() == second.figure().axes[1].get_xlim()


def test_an_svg_is_one_element_that_fits_its_place(pages: dict[str, str], drawn: dict[str, Chart]) -> None:
    for name, page in pages.items():
        root = ElementTree.fromstring(page)
        assert page.startswith("<svg")
        assert root.get("viewBox", "").startswith(f"0 0 {WIDTH:g} ")
        assert (root.get("width"), root.get("height"), root.get("role")) == ("100%", None, "img")
        title, alt = (root.find(NAMESPACE + tag) for tag in ("title", "desc"))
        assert title is not None
        assert alt is not None
        assert (title.text, alt.text) == (drawn[name].title, drawn[name].alt)
        assert root.get("aria-labelledby") == f"{title.get('id')} {alt.get('id')}"
        assert not re.search("DOCTYPE|metadata|<style|<script|DejaVu|https?://(?!www.w3.org/)", page)


def test_no_text_leaves_the_picture(drawn: dict[str, Chart]) -> None:
    for chart in drawn.values():
        figure = chart.figure()
        width, height = figure.get_size_inches() * figure.dpi
        for axes in figure.axes:
            for text in axes.texts:
                box = text.get_window_extent()
                assert -1 <= box.x0 <= box.x1 <= width + 1, (chart.name, text.get_text())
                assert -1 <= box.y0 <= box.y1 <= height + 1, (chart.name, text.get_text())


def test_ids_are_unlike_over_all_charts_and_found(pages: dict[str, str]) -> None:
    ids = [one for page in pages.values() for one in re.findall(r' id="([^"]+)"', page)]
    assert len(ids) == len(set(ids))
    for name, page in pages.items():
        own = set(re.findall(r' id="([^"]+)"', page))
        assert all(one.startswith(name) for one in own)
        assert set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page)) <= {
            pair for one in own for pair in ((one, ""), ("", one))
        }


def test_colours_are_the_pages(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        left = set(re.findall("#[0-9a-f]{6}", page))
        assert not left & set(SENTINELS.values())
        assert name.startswith("heatmap") or not left  # whose cells have colours of their own
        assert {one for one in re.findall(r"var\(--([a-z0-9-]+)\)", page)} <= set(THEMES["light"])
        assert "var(--ink)" in page
    assert css_variables("dark").startswith("--paper:#14181d;--ink:#")


def test_bytes_are_the_same_each_time(drawn: dict[str, Chart], pages: dict[str, str]) -> None:
    again = {chart.name: svg(chart) for chart in charts(answers()) if chart.name in list(drawn)[:7]}
    assert again == {name: pages[name] for name in again}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_words_of_rows_are_only_text(hostile: str) -> None:
    def change(row: LaunchRow) -> LaunchRow:
        name = hostile if row.workload == "gpt-350m" else row.workload
        reason = hostile if row.reason else None
        strategy = f"ddp:{hostile}" if row.strategy == "ddp" else row.strategy
        return row.but(workload=name, reason=reason, strategy=strategy)

    kinds = {"models", "throughput", "memory", "heatmap", "parts", "steps", "pareto"}
    of = ("gpt-350m", "resnet50") if hostile == HOSTILE[0] else ("gpt-350m",)
    found = charts(answers(change=change, only=lambda row: row.workload in of))
    assert {chart.name.split("-")[0] for chart in found} == (
        kinds if "resnet50" in of else kinds - {"heatmap", "models"}
    )
    shown = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(hostile.split()))
    for chart in found:
        root = ElementTree.fromstring(svg(chart))
        tags = {node.tag.removeprefix(NAMESPACE) for node in root.iter()}
        assert tags <= {"svg", "title", "desc", "g", "defs", "path", "text", "use", "clipPath", "rect", "pattern"}
        texts = [node.text or "" for node in root.iter(NAMESPACE + "text")]
        assert any(shown[:20] in text for text in texts) or chart.name.startswith("heatmap")
        assert re.fullmatch("[a-z0-9-]+", chart.name)
        assert len(chart.title) < 220
        assert all(text_width(text) < 1.01 * WIDTH for text in texts)
    assert any(shown in chart.alt for chart in found)


def test_names_that_read_alike_get_ids_of_their_own() -> None:
    rows = [row for row in read_launches(NEW / "launches.csv", lambda _: None) if row.workload == "gpt-350m"]
    both = [row.but(workload=name, case_id=f"{name} {row.case_id}") for name in ("a b", "a-b") for row in rows]
    found = charts(answer(both, steps(NEW / "steps.csv", lambda _: None)))
    names = [chart.name for chart in found]
    assert len(names) == len(set(names))
    assert names[1:3] == ["throughput-a-b-x8", "throughput-a-b-x8-2"]


def test_plots_are_written_with_title_and_note(drawn: dict[str, Chart], tmp_path: Path) -> None:
    chosen = [drawn["pareto-gpt-350m-x8"], drawn["scaling-strong-gpt-124m"]]
    files = write_plots(chosen, tmp_path / "new" / "plots")
    assert [file.name for file in files] == [
        *("pareto-gpt-350m-x8.png", "pareto-gpt-350m-x8.svg"),
        *("scaling-strong-gpt-124m.png", "scaling-strong-gpt-124m.svg"),
    ]
    png, page = files[0].read_bytes(), files[1].read_text()
    assert png.startswith(b"\x89PNG")
    root = ElementTree.fromstring(page)
    assert THEMES["light"]["ink"] in page
    assert "var(" not in page
    paper = root.find(NAMESPACE + "rect")
    assert paper is not None
    assert paper.get("fill") == "#ffffff"
    assert "Throughput against memory of gpt-350m on 8 GPUs, samples/s and" in words(page)
    assert write_plots(chosen, tmp_path / "new" / "plots")[0].read_bytes() == png


def test_plots_that_cannot_be_written_are_said(drawn: dict[str, Chart], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot write plots to .*file"):
        write_plots(list(drawn.values())[:1], tmp_path / "file")


def test_the_users_own_settings_of_matplotlib_change_nothing(drawn: dict[str, Chart], pages: dict[str, str]) -> None:
    import matplotlib

    name = "throughput-gpt-350m-x8"
    with matplotlib.rc_context({"axes.facecolor": "red", "svg.fonttype": "path", "font.size": 30, "axes.grid": True}):
        assert svg(drawn[name]) == pages[name]


def test_pyplot_is_never_imported() -> None:
    """It would choose a backend for the whole process."""
    code = "import sys, bench.report.charts, bench.report.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cut_and_wrap_fit() -> None:
    assert truncate("short", 100) == "short"
    assert truncate("W" * 300, 100).endswith("…")
    assert text_width(truncate("W" * 300, 100)) <= 100
    assert wrap("one two three", text_width("one two")) == ["one two", "three"]
    assert wrap("a b c d", 1.2 * text_width("a"), most=2)[-1].endswith("…")


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def linear(colour: str) -> np.ndarray[Any, Any]:
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def ratio(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_contrast(theme: str) -> None:
    colours = THEMES[theme]
    assert ratio("#000000", "#ffffff") == pytest.approx(21)
    assert ratio("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # a known pair
    assert colours.keys() == SENTINELS.keys()
    for name in ("ink", "muted", "bad", "idle"):
        assert ratio(colours[name], colours["paper"]) >= 4.5, name
    for number in range(1, SERIES + 1):
        assert ratio(colours[f"series-{number}"], colours["paper"]) >= 3, number
    assert ratio(colours["faint"], colours["paper"]) >= 3


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", THEMES)
def test_series_are_told_apart_without_full_colour_vision(theme: str, sight: str) -> None:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

    def lab(colour: str) -> np.ndarray[Any, Any]:
        seen = np.clip(np.asarray(SIGHT[sight]) @ linear(colour), 0, 1)
        x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz @ seen / [0.95047, 1, 1.08883])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    series = [lab(THEMES[theme][f"series-{number}"]) for number in range(1, SERIES + 1)]
    assert min(math.dist(one, other) for one, other in itertools.combinations(series, 2)) > 24


def test_colour_is_never_alone() -> None:
    assert len(set(HATCHES)) == len(set(MARKERS)) == SERIES
    assert series_numbers("precision", pd.Series(["amp-bf16", "fp32"])) == {"amp-bf16": 2, "fp32": 0}
    every = series_numbers("activation_checkpointing", pd.Series(["every=2", "every=4", "full", None]))
    assert len(set(every.values())) == 3


@pytest.mark.parametrize(
    "error", [PermissionError("no semaphores"), NotImplementedError(), OSError(11, "no processes")]
)
def test_charts_are_drawn_one_by_one_where_no_process_can_be_started(
    drawn: dict[str, Chart], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    chosen = list(drawn.values())[: parallel.FEW]

    def refused(*_: object, **__: object) -> None:
        raise error

    together = parallel.svgs(chosen)
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refused)
    assert parallel.svgs(chosen) == together == [svg(chart) for chart in chosen]
