"""The summary as people see it, character for character."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from bench.analysis.frames import launches
from bench.analysis.summary import summarise
from bench.record import Row
from bench.report.terminal import print_summary
from bench.report.words import number


def shown(summary: pd.DataFrame, width: int = 110, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=colour, color_system="standard" if colour else None)
    print_summary(summary, console)
    return file.getvalue()


def row(case_id: str, order: int | None, status: str = "ok", **columns: object) -> Row:
    return {"case_id": case_id, "role": "measure", "order": order, "status": status, **columns}


FIRST = {"samples_per_s": 1000.0, "step_ms": 16.0, "data_wait_share": 0.021, "peak_rss_mib": 812.34}
SECOND = {"samples_per_s": 1100.0, "step_ms": 14.5, "data_wait_share": 0.019, "peak_rss_mib": 808.0}
ROWS = [
    row("resnet18-ddp-x2-cpu-05b98454", 0, **FIRST),
    row("resnet18-ddp-x2-cpu-05b98454", 1, **SECOND),
    row("gpt-124m-single-x1-cpu-0badcafe", 2, "oom", reason="rank 0 was killed by the kernel: out of host memory"),
    row("gpt-124m-single-x1-cpu-0badcafe", None, "skipped", reason="it ran out of memory in an earlier launch"),
    row("mlp-ddp-x2-cpu-folder-demo-deadbeef", None, "skipped", reason="mlp cannot read folder; it takes resident"),
]

# 1050 = (1000 + 1100) / 2; spread 100 / 1050 = 9.5 %; 15.25 = (16 + 14.5) / 2; 2.0 % = (2.1 + 1.9) / 2;
# 810.2 = (812.34 + 808) / 2 = 810.17. No tokens, no GPU, no MFU anywhere: no such columns.
TABLE = """\
case                                ┃ status  ┃ samples/s ┃ spread ┃ step ms ┃ wait ┃ RSS MiB
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━╇━━━━━━╇━━━━━━━━
resnet18-ddp-x2-cpu-05b98454        │ ok      │     1,050 │   9.5% │   15.25 │ 2.0% │   810.2
gpt-124m-single-x1-cpu-0badcafe     │ oom 0/1 │         — │      — │       — │    — │       —
mlp-ddp-x2-cpu-folder-demo-deadbeef │ skipped │         — │      — │       — │    — │       —
oom: gpt-124m-single-x1-cpu-0badcafe: rank 0 was killed by the kernel: out of host memory
skipped: mlp-ddp-x2-cpu-folder-demo-deadbeef: mlp cannot read folder; it takes resident
"""


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_table_with_a_good_a_failed_and_a_skipped_case() -> None:
    assert lines(shown(summarise(launches(ROWS)))) == lines(TABLE)


ON_GPU = {
    "samples_per_s": 12345.6,
    "tokens_per_s": 1580236.8,
    "step_ms": 0.98766,
    "data_wait_share": 0.0,
    "mfu": 0.4567,
    "peak_allocated_mib": 70123.4,
    "peak_rss_mib": 2048.0,
}
GPU_TABLE = """\
case                          ┃ status      ┃ samples/s ┃ spread ┃  tokens/s ┃ step ms ┃ wait ┃   MFU ┃ GPU MiB ┃ RSS MiB
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━╇━━━━━━━╇━━━━━━━━━╇━━━━━━━━
gpt-nano-ddp-x8-cuda-abcdef01 │ crashed 1/2 │    12,346 │      — │ 1,580,237 │  0.9877 │ 0.0% │ 45.7% │  70,123 │   2,048
crashed: gpt-nano-ddp-x8-cuda-abcdef01: rank 3: ValueError: [red]no[/red]
"""


def test_table_on_gpus_and_reasons_that_look_like_markup() -> None:
    case = "gpt-nano-ddp-x8-cuda-abcdef01"
    rows = [row(case, 0, **ON_GPU), row(case, 1, "crashed", reason="rank 3: ValueError: [red]no[/red]")]
    assert lines(shown(summarise(launches(rows)), width=130)) == lines(GPU_TABLE)


def test_colour_tells_the_status() -> None:
    text = shown(summarise(launches(ROWS)), colour=True)
    for code, status in ((32, "ok"), (31, "oom 0/1"), (33, "skipped")):  # green, red, yellow
        assert f"\x1b[{code}m{status}" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.123456, "0.1235"),
        (15.25, "15.25"),
        (99.999, "100"),
        (812.34, "812.3"),
        (1000.0, "1,000"),
        (1234.5678, "1,235"),
        (1580236.8, "1,580,237"),
        (-1234.5, "-1,234"),
    ],
)
def test_numbers_have_four_digits_and_thousands_apart(value: float, text: str) -> None:
    assert number(value) == text


def test_narrow_terminal_folds_only_the_names() -> None:
    text = lines(shown(summarise(launches(ROWS[:2])), width=80))
    # 80 - (6 + 9 + 6 + 7 + 4 + 7 for the other columns, and 3 between each two of seven) = 80 - 39 - 18 = 23 for names
    assert text == [
        "case                    ┃ status ┃ samples/s ┃ spread ┃ step ms ┃ wait ┃ RSS MiB",
        "━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━╇━━━━━━╇━━━━━━━━",
        "resnet18-ddp-x2-cpu-05b │ ok     │     1,050 │   9.5% │   15.25 │ 2.0% │   810.2",
        "98454                   │        │           │        │         │      │",
    ]
