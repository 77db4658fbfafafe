"""The report's page: what is in it, read as HTML; and how it behaves, in a browser where there is one."""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
import math
import re
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis.answers import Answers, answer
from bench.analysis.frames import steps
from bench.report.charts import Chart, charts
from bench.report.headline import headline
from bench.report.html import page
from bench.report.tables import tables
from bench.store.columns import LaunchRow
from bench.store.reader import read_launches

RUNS = Path(__file__).parents[1] / "data" / "results" / "runs"
OLD, NEW = sorted(RUNS.iterdir())
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', '=HYPERLINK("x")', "{{7*7}}")
VOID = {"meta", "link", "input", "br", "img"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


class Document(HTMLParser):
    """A page's elements as (tag, attributes), the text in each kind of them, and the rows of each section's table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts += [(tag, "")] if tag not in VOID else []
        self._open += [tag] if tag not in VOID else []
        if tag in ("section", "figure"):
            self._section = dict(attrs)["id"] or ""
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in ("th", "td"):
            self.rows[self._section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "figure":
            self._section = next(a["id"] or "" for t, a in reversed(self.elements) if t == "section")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))
        if {"th", "td"} & set(self._open):
            self.rows[self._section][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str = "") -> str:
        return "".join(text for name, text in self.texts if tag in ("", name))


def raw(folder: Path) -> list[LaunchRow]:
    return read_launches(folder / "launches.csv", lambda message: None)


def stepped(folder: Path) -> pd.DataFrame:
    return steps(folder / "steps.csv", lambda message: None)


def written(answers: Answers, drawn: Sequence[Chart]) -> str:
    about = ["stepbench 0.2.0, 2026-11-02 12:00 UTC", f"runs {OLD.name}, {NEW.name}"]
    return page("gpt-124m and more", about, headline(answers, [24]), tables(answers), drawn)


@pytest.fixture(scope="module")
def made_up() -> tuple[str, list[Chart]]:
    answers = answer([*raw(OLD), *raw(NEW)], pd.concat([stepped(OLD), stepped(NEW)]), [24])
    drawn = charts(answers)
    return written(answers, drawn), drawn


@pytest.fixture(scope="module")
def hostile() -> str:
    """Workloads, and in one case a reason, that would be markup, formulas or templates if they were not text."""
    rows = []
    for number, name in enumerate(HOSTILE):
        for row in raw(OLD)[:4]:
            same = {"workload": name, "case_id": f"{row.case_id}-{number}", "work_key": name}
            rows.append(row.but(**same, launch_id=f"{number}-{row.launch_id}", command=f"bench run {name}"))
    rows[0] = rows[0].but(status="crashed", reason=f"rank 0: {HOSTILE[0]} {HOSTILE[1]}", hostname=HOSTILE[1])
    answers = answer(rows, stepped(OLD), [24])
    drawn = charts(answers)
    text = written(answers, drawn)
    assert written(answers, drawn) == text  # the same bytes each time
    return text


def test_everything_is_in_it(made_up: tuple[str, list[Chart]]) -> None:
    text, drawn = made_up
    document = Document(text)
    sections = [attributes["id"] for attributes in document.all("section")]
    assert sections == [
        *("headline", "environments", "summary", "scaling", "tradeoff", "tuning", "timeline", "failures", "commands")
    ]
    assert len(document.rows["summary"]) == 1 + 44
    rows = [row for row in [*raw(OLD), *raw(NEW)] if row.role == "measure"]
    commands = {row.command for row in rows}
    assert commands == {cells[-1] for cells in document.rows["commands"][1:]}
    reasons = {row.reason for row in rows if row.status != "ok"}
    assert reasons == {cells[3] for cells in document.rows["failures"][1:]}
    for name in sections[2:6]:
        assert {cells[0] for cells in document.rows[str(name)]} <= {cells[0] for cells in document.rows["summary"]}
    assert [attributes["id"] for attributes in document.all("figure")] == [
        chart.name for kind in ("models", "throughput", "memory", "scaling", "pareto", "heatmap", "parts", "steps")
        for chart in drawn if chart.name.startswith(f"{kind}-")
    ]  # fmt: skip
    assert len(document.all("figure")) == len(drawn)
    for chart in drawn:
        assert chart.title in document.text("h3")
        assert chart.note in document.text("figcaption")
        assert chart.alt in document.text("desc")
        assert document.rows[chart.name][0] == list(chart.data.columns)
        assert len(document.rows[chart.name]) == 1 + len(chart.data)
    best = ["ddp amp-bf16 8 workers OMP 2", "amp-bf16", "ok", "—", "3", "3", "10,069"]
    assert best in [cells[:7] for cells in document.rows["throughput-resnet50-x8-environment-b"]]


def test_structure(made_up: tuple[str, list[Chart]], hostile: str) -> None:
    for text in (made_up[0], hostile):
        document = Document(text)
        assert text.startswith('<!doctype html>\n<html lang="en">')
        ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for name, attributes in itertools.product(("href", "aria-labelledby"), (a for _, a in document.elements)):
            for target in (attributes.get(name) or "data:,").split():
                assert target == "data:," or target.removeprefix("#") in ids
        levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert len(document.all("caption")) == len(document.all("table"))
        assert {attributes["scope"] for attributes in document.all("th")} == {"col", "row"}
        for svg in document.all("svg"):
            assert svg["role"] == "img"


def test_hostile_names_are_text(made_up: tuple[str, list[Chart]], hostile: str) -> None:
    document = Document(hostile)
    for name in HOSTILE:
        assert name in document.text("th")
        assert name in document.text("b")
        assert any(cells[-1] == f"bench run {name}" for cells in document.rows["commands"])
    assert f"rank 0: {HOSTILE[0]} {HOSTILE[1]}" in document.text("td")
    assert {tag for tag, _ in document.elements} <= {tag for tag, _ in Document(made_up[0]).elements}
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]


def test_nothing_is_fetched_and_only_its_own_script_runs(made_up: tuple[str, list[Chart]], hostile: str) -> None:
    for text in (made_up[0], hostile):
        document = Document(text)
        for _, attributes in document.elements:
            for name in {"src", "href", "xlink:href", "action", "data", "srcset"} & attributes.keys():
                assert str(attributes[name]).startswith(("#", "data:"))
        assert not re.search(r"@import|url\((?!#)", document.text("style"))
        assert len(document.all("script")) == 1
        (policy,) = (a["content"] for a in document.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
        digest = base64.b64encode(hashlib.sha256(document.text("script").encode()).digest()).decode()
        assert str(policy).startswith(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';")


@pytest.mark.slow
def test_200_cases_of_5_launches_stay_under_5_mb() -> None:
    like = next(row for row in raw(NEW) if row.status == "ok" and row.role == "measure")
    assert like.samples_per_s is not None
    of_one = stepped(NEW)
    of_one = of_one[of_one["launch_id"] == like.launch_id]
    space = itertools.product(("ddp", "fsdp"), ("fp32", "amp-bf16"), (1, 2, 4, 8), range(1, 14))
    rows, found = [], []
    for number, (strategy, precision, gpus, batch) in enumerate(itertools.islice(space, 200)):
        case = {"strategy": strategy, "precision": precision, "gpus": gpus, "batch_size": batch}
        case |= {"workload": "gpt:layers=12:width=768:heads=12", "global_batch": batch * gpus, "world_size": gpus}
        case |= {"case_id": f"gpt-layers-12-width-768-heads-12-{strategy}-{number}", "work_key": f"{batch * gpus}"}
        for launch in range(5):
            ran = {"launch_id": f"{len(rows):04}-{case['case_id']}", "order": len(rows), "block": launch}
            rate = like.samples_per_s * (1 + number / 100 + launch / 1000)
            rows.append(like.but(**case, **ran, samples_per_s=rate))
            found.append(of_one.assign(launch_id=ran["launch_id"]))
    rows[7] = rows[7].but(status="crashed", reason="x" * 2000)
    answers = answer(rows, pd.concat(found))
    assert len(answers.summary) == 200
    assert len(written(answers, charts(answers)).encode()) < 5_000_000


# In a browser

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a text as a page. At the end nothing may have gone wrong in it, run in it, or left it."""
    seen: list[str] = []

    def open_page(text: str, width: int = 1280, scheme: str = "light") -> Any:
        file = tmp_path / "report.html"
        file.write_text(text)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.on("console", lambda message: seen.append(message.text))
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: seen.append(request.url))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in browser.contexts:
        context.close()
    assert {text for text in seen if not text.startswith("data:")} == {(tmp_path / "report.html").as_uri()}


def first_cells(tab: Any, section: str) -> list[str]:
    return tab.locator(f"#{section} .sortable tbody tr:visible > :first-child").all_text_contents()


def expected_order(labels: Iterable[str], ids: Sequence[Sequence[str]], descending: bool) -> list[str]:
    """Labels by the median samples/s of the launches in the files; those without keep their order, at the end."""
    rates: dict[tuple[str, str], list[float]] = {}
    for letter, folder in (("A", OLD), ("B", NEW)):
        with (folder / "launches.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                if row["role"] == "measure" and row["status"] == "ok" and row["samples_per_s"]:
                    rates.setdefault((row["case_id"], letter), []).append(float(row["samples_per_s"]))
    case = {label: (case_id, label[-2]) for label, case_id, _ in ids}
    known = {label: statistics.median(rates[case[label]]) for label in labels if case[label] in rates}
    sign = -1 if descending else 1
    return sorted(labels, key=lambda label: sign * known[label] if label in known else math.inf)


def test_sorting(made_up: tuple[str, list[Chart]], opened: Open) -> None:
    rows = Document(made_up[0]).rows
    labels = [cells[0] for cells in rows["summary"][1:]]
    rising, falling = (expected_order(labels, rows["commands"][1:], descending) for descending in (False, True))
    assert rising[0] == "gpt-124m fsdp ×1 fp32 batch 8 adamw (B)"
    assert falling[0] == "resnet50 ddp ×8 amp-bf16 8 workers OMP 2 (B)"
    unknown = [cells[0] for cells in rows["summary"][1:] if cells[3] == "—"]
    assert len(unknown) == 4
    assert rising[-4:] == falling[-4:] == unknown
    tab = opened(made_up[0])
    header = tab.locator("#summary .sortable th", has_text=re.compile("^samples/s$"))
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert first_cells(tab, "summary") == rising
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert first_cells(tab, "summary") == falling
    tab.locator("#tuning .sortable th", has_text="slower").get_by_role("button").click()  # by a share of the fastest's
    assert first_cells(tab, "tuning") == [label for label in falling if label.startswith("resnet50")]
    case = tab.locator("#summary .sortable th").first
    case.get_by_role("button").click()
    assert [header.get_attribute("aria-sort"), case.get_attribute("aria-sort")] == [None, "ascending"]
    assert first_cells(tab, "summary")[:2] == [
        "gpt-124m ddp ×1 amp-bf16 batch 8 adamw (B)",
        "gpt-124m ddp ×1 fp32 batch 8 adamw (B)",
    ]


def test_filter(made_up: tuple[str, list[Chart]], opened: Open) -> None:
    tab = opened(made_up[0])
    assert tab.locator("#failures input").count() == 0  # a short table
    tab.locator("#summary input").fill("OMP Resnet50 crashed")
    assert first_cells(tab, "summary") == ["resnet50 ddp ×8 amp-bf16 8 workers OMP 4 (B)"]
    assert tab.locator("#summary output").text_content().strip() == "1 of 44"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(
    made_up: tuple[str, list[Chart]], hostile: str, opened: Open, width: int
) -> None:
    for text in (made_up[0], hostile):
        tab = opened(text, width)
        tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        inner, outer = tab.evaluate("[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]")
        assert inner <= outer


LEAST_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return parts(colour)[3] === 0 ? behind(node.parentElement) : colour;
  };
  const ratio = (node) => {
    const [dark, bright] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const texts = [...document.body.querySelectorAll("*")].filter((node) => !node.closest("svg, script"));
  return [Math.min(...texts.map(ratio)), texts.filter((node) => node.matches(".bad, .idle")).length];
}"""


def test_contrast_in_both_themes(made_up: tuple[str, list[Chart]], opened: Open) -> None:
    papers = []
    for scheme in ("light", "dark"):
        tab = opened(made_up[0], 1280, scheme)
        least, coloured = tab.evaluate(LEAST_CONTRAST)
        assert least >= 4.5
        assert coloured == 5 + 6  # in the tables of cases and failures
        papers.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]


def test_print(made_up: tuple[str, list[Chart]], opened: Open) -> None:
    tab = opened(made_up[0], 965, "dark")  # pixels between the margins of a landscape letter
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    cut = "[...document.querySelectorAll('section > .scroll')].filter((one) => one.scrollWidth > one.clientWidth)"
    assert tab.evaluate(f"{cut}.map((one) => one.ariaLabel)") == []
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_hostile_names_do_not_run(hostile: str, opened: Open) -> None:
    tab = opened(hostile)
    assert tab.locator("#summary .sortable th").first.get_by_role("button").count() == 1  # its own script did
    tab.wait_for_timeout(200)  # for what an image's error would start; a dialog fails `opened`
