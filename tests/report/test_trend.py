"""The page of a history: its sentences, tables, charts and data, read as HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up_rows import session

from bench.analysis.trend import Change, Point, Series, Trend, trend
from bench.api.history import Trend as History
from bench.report.charts.style import SENTINELS
from bench.report.charts.svg import svg
from bench.report.charts.trend import change_words, draw, metric_words, trends
from bench.report.trend import ADVICE, sentences, sparkline, tables
from bench.stats.change_points import LEVEL
from bench.store.columns import LaunchRow

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "a\x1b[2Jb")


def rows(levels: Sequence[float | None], strategy: str = "ddp", **known: object) -> list[LaunchRow]:
    """A session for each level; None for one that failed."""
    random = np.random.default_rng(7)
    made: list[LaunchRow] = []
    for day, level in enumerate(levels, 1):
        when = {"run_id": f"202601{day:02}-030000-00aa", "started_at": f"2026-01-{day:02}T03:00:00Z"}
        software = {"torch": "2.11.0" if day <= 4 else "2.12.0", "settings": "{}", "tool_version": "0.3.0"}
        rates = [(level or 1.0) * math.exp(random.normal(0, 0.01)) for _ in range(3)]
        launches = session(rates, strategy=strategy, **{**when, **software, **known})
        lost = {"status": "oom", "reason": "rank 1: out of memory", "samples_per_s": None}
        made += [row.but(**({} if level else lost)) for row in launches]
    return made


FOUND = trend(
    [*rows([100.0] * 16 + [90.0] * 11 + [None]), *rows([50.0] * 28, "fsdp", recompilations=3)],
    ["samples_per_s", "recompilations"],
    print,
)


def table(name: str, found: Trend = FOUND) -> list[list[str]]:
    [one] = [one for one in tables(found) if one.name == name]
    return list(one.cells())


# -- sentences and tables ------------------------------------------------------------------------------------------


def test_the_findings() -> None:
    said = sentences(FOUND, 1200)
    assert said[:2] == [
        "Sessions: 28, 2026-01-01 to 2026-01-28, with 2 cases; 1,200 earlier ones are not shown (--last)",
        "Environments: A, B; sessions of different ones are never compared",
    ]
    assert re.fullmatch(
        r"Change points: 1, the latest: samples_per_s of ddp ×2 fp32 -(9|10|11)\.\d% \(worse\) since 2026-01-17",
        said[2],
    )
    assert said[3:] == [ADVICE, "No figure in the latest session: ddp ×2 fp32"]


def test_the_advice_has_the_rate_of_the_test() -> None:
    assert f"at most {100 * LEVEL:.0f} of 100 pages" in ADVICE
    assert ADVICE.startswith("Change points are advice and not a verdict")


def test_few_sessions_say_what_is_needed() -> None:
    few = trend(rows([100.0] * 3), ["samples_per_s"], print)
    assert sentences(few)[1].startswith("Change points: none looked for yet: that takes 10 sessions of a case")
    many = trend(rows([100.0] * 20), ["samples_per_s"], print)
    assert "Change points: none in 1 trend" in sentences(many)


def test_the_latest_session_is_held_against_those_of_its_environment() -> None:
    """Of fsdp, the 28th against 23 of the second environment; 4 are of the first one."""
    found = table("latest")
    assert [row[:2] for row in found] == [
        ["ddp ×2 fp32", "Throughput, samples/s"],
        ["fsdp ×2 fp32", "Throughput, samples/s"],
        ["fsdp ×2 fp32", "recompilations, times"],
    ]
    points = [point.value for point in FOUND.series[1].points]
    change = points[-1] / float(np.median(points[4:-1])) - 1
    assert found[1][4:6] == [f"{change:+.1%}", "24"]
    assert found[2][2:6] == ["3", "3…3", "+0.0%", "24"]
    assert found[0][7].endswith("×")


def test_the_change_points_say_what_changed_before_them() -> None:
    broken = [
        row.but(code_key="old" if str(row.run_id) < "20260117" else "new") for row in rows([100.0] * 16 + [90.0] * 12)
    ]
    [row] = table("changes", trend(broken, ["samples_per_s"], print))
    assert row[2:4] == ["2026-01-17 03:00", "20260117-030000-00aa"]
    assert row[5] == "worse"
    assert row[8] == "step"
    assert row[10] == "your code"


def test_what_changed_is_one_row_for_all_cases() -> None:
    assert [row[2:] for row in table("marks")] == [["environment B: torch: 2.11.0 before, 2.12.0 now", "all"]]


def test_sessions_without_a_figure_have_their_reason() -> None:
    assert table("gaps") == [
        ["2026-01-28 03:00", "20260128-030000-00aa", "ddp ×2 fp32", "oom", "rank 1: out of memory"]
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [([1, 2, 3, 8], "▁▂▃█"), ([5, 5], "▄▄"), ([1, math.nan, 8], "▁×█"), ([math.nan], "×"), ([], "")],
)
def test_sparklines(values: list[float], line: str) -> None:
    points = [Point(n, value, value, value, 1, "ok", "", "A", "w") for n, value in enumerate(values)]
    assert sparkline(points) == line


def test_changes_in_words() -> None:
    assert change_words(Change(0, 100, 96.9, 0.001, "step")) == "-3.1%"
    assert change_words(Change(0, 0, 4, None, "exact")) == "0 → 4"
    assert change_words(Change(0, 1_062_952, 1_062_960, None, "exact")) == "1,062,952 → 1,062,960"
    assert metric_words("step_ms") == "Step time, ms"
    assert metric_words("mfu") == "mfu, share"


# -- the page ------------------------------------------------------------------------------------------------------


class Words(HTMLParser):
    """The tags of a page, its text, and the addresses that it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text, self.addresses = "", list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_everything_and_needs_nothing_else() -> None:
    page = History(FOUND, "results/history").html()
    words = Words(page)
    assert words.tags.count("svg") == 3
    for text in (
        "The latest session",
        "Change points",
        "Trends",
        "What changed between sessions",
        ADVICE.partition(":")[2],
    ):
        assert text in words.text
    assert "history: results/history" in words.text
    assert [one for one in words.addresses if not one.startswith(("#", "data:,"))] == []
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_and_not_executed(text: str) -> None:
    hostile = trend(
        [row.but(reason=text, hostname=text, tool_version=text, workload=text, data=text, case_id=text, torch=text)
         for row in rows([100.0] * 3 + [None])],
        ["samples_per_s"], print,
    )  # fmt: skip
    words = Words(History(hostile, text).html())
    assert words.tags.count("script") == 1
    assert "img" not in words.tags
    assert text in words.text
    for chart in trends(hostile):
        ElementTree.fromstring(svg(chart))


# -- charts --------------------------------------------------------------------------------------------------------


def drawn(series: Series, marks: Sequence[object] = ()) -> ElementTree.Element:
    [chart] = [
        one for one in trends(FOUND) if f"of {series.label}," in one.title and series.metric in _metric(one.name)
    ]
    return ElementTree.fromstring(svg(chart))


def _metric(name: str) -> str:
    return name.replace("-", "_")


def test_a_chart_says_what_it_shows() -> None:
    first = next(trends(FOUND))
    assert first.title == "Throughput of ddp ×2 fp32, samples/s"
    assert re.search(
        r"over 27 sessions: \d+\.?\d* on 2026-01-01, .* on 2026-01-27\. Change points: -\d+\.\d% on 2026-01-17\.",
        first.alt,
    )
    assert "Sessions without a figure (1, marked ×), the latest: 2026-01-28 (oom)." in first.note
    texts = " ".join(node.text or "" for node in drawn(FOUND.series[0]).iter() if node.tag.endswith("text"))
    for text in ("change point (advice)", "environment A", "environment B", "×", "2026-01-01", "2026-01-28"):
        assert text in texts


def test_the_data_of_a_chart_are_its_points() -> None:
    data = next(trends(FOUND)).data
    assert list(data["session"]) == [one.run_id for one in FOUND.sessions]
    assert data["median, samples/s"].tolist()[:27] == [point.value for point in FOUND.series[0].points[:27]]
    assert math.isnan(data["median, samples/s"].iloc[27])
    assert data["changed before it"].tolist()[4] == "environment B: torch: 2.11.0 before, 2.12.0 now"
    assert [place for place, text in enumerate(data["change point"]) if text] == [16]


def test_a_gap_interrupts_the_line_and_is_not_zero() -> None:
    from bench.report.charts.trend import Drawn

    gap = trend(rows([100.0, 101.0, None, 99.0]), ["samples_per_s"], print)
    figure = draw(Drawn(gap.series[0], [], gap.sessions), SENTINELS)
    axes = figure.axes[1]
    lines = [line.get_ydata() for line in axes.get_lines() if len(line.get_xdata()) == 4]
    [values] = lines
    assert math.isnan(values[2])
    assert axes.get_ylim()[0] > 90
    assert [text.get_text() for text in axes.texts] == ["×"]


def test_one_session_and_one_figure_can_be_drawn() -> None:
    for metric, known in (("samples_per_s", {}), ("alloc_retries", {"alloc_retries": 0})):
        one = trend(rows([100.0], **known), [metric], print)
        assert "svg" in svg(next(trends(one)))


def test_names_are_unique_and_ids_are_those_of_the_chart() -> None:
    names = [chart.name for chart in trends(FOUND)]
    assert len(set(names)) == len(names) == 3
    assert all(name.startswith("trend-") for name in names)


def test_the_same_history_gives_the_same_charts() -> None:
    assert [svg(chart) for chart in trends(FOUND)] == [svg(chart) for chart in trends(FOUND)]
