"""The summary as people see it, character for character."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.analysis.answers import answer
from bench.analysis.frames import launches, steps
from bench.analysis.summary import summarise
from bench.report.format import number, wide_console
from bench.report.headline import headline
from bench.report.tables import tables
from bench.report.terminal import print_report, print_summary
from bench.report.wide_tables import fold_name
from bench.store.columns import LaunchRow


def shown(summary: pd.DataFrame, width: int = 110, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=colour, color_system="standard" if colour else None)
    print_summary(summary, console)
    return file.getvalue()


def row(case_id: str, order: int | None, status: str = "ok", **columns: object) -> LaunchRow:
    return LaunchRow.of({"case_id": case_id, "role": "measure", "order": order, "status": status, **columns})


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
case                                ┃ status  ┃ samples/s ┃ spread ┃ step p50 ms ┃ wait ┃ RSS MiB
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━╇━━━━━━━━
resnet18-ddp-x2-cpu-05b98454        │ ok      │     1,050 │   9.5% │       15.25 │ 2.0% │   810.2
gpt-124m-single-x1-cpu-0badcafe     │ oom     │         — │      — │           — │    — │       —
mlp-ddp-x2-cpu-folder-demo-deadbeef │ skipped │         — │      — │           — │    — │       —
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
case                          ┃ status         ┃ samples/s ┃ spread ┃  tokens/s ┃ step p50 ms ┃ wait ┃   MFU ┃ GPU MiB ┃ RSS MiB
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━╇━━━━━━━╇━━━━━━━━━╇━━━━━━━━
gpt-nano-ddp-x8-cuda-abcdef01 │ 1 crashed of 2 │    12,346 │      — │ 1,580,237 │      0.9877 │ 0.0% │ 45.7% │  70,123 │   2,048
crashed: gpt-nano-ddp-x8-cuda-abcdef01: rank 3: ValueError: [red]no[/red]
"""


def test_table_on_gpus_and_reasons_that_look_like_markup() -> None:
    case = "gpt-nano-ddp-x8-cuda-abcdef01"
    rows = [row(case, 0, **ON_GPU), row(case, 1, "crashed", reason="rank 3: ValueError: [red]no[/red]")]
    assert lines(shown(summarise(launches(rows)), width=130)) == lines(GPU_TABLE)


def test_the_share_of_the_measured_peak_is_shown_where_it_is_known() -> None:
    table = lines(shown(summarise(launches([row("a", 0, **FIRST, mfu_achievable=0.5678)]))))
    assert table[0].split("┃")[5:7] == [" wait ", " MFU ach. "]
    assert table[2].split("│")[5:7] == [" 2.1% ", "    56.8% "]


def test_where_workers_vary_the_memory_is_theirs_as_well() -> None:
    rows = [row("a", 0, **FIRST, num_workers=0, peak_host_mib=500.0), row("b", 1, **SECOND, num_workers=2)]
    assert "RSS MiB" in shown(summarise(launches(rows)))  # it is not known of b
    rows[1] = rows[1].but(peak_host_mib=1300.0)
    table = shown(summarise(launches(rows)))
    assert "host MiB" in table
    assert "1,300" in table
    assert "RSS MiB" not in table


def test_colour_tells_the_status() -> None:
    text = shown(summarise(launches(ROWS)), colour=True)
    for code, status in ((32, "ok"), (31, "oom"), (33, "skipped")):  # green, red, yellow
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


def test_narrow_terminal_folds_only_the_names_and_at_a_separator() -> None:
    text = lines(shown(summarise(launches(ROWS[:2])), width=80))
    # 28 of the name + 6 + 9 + 6 + 11 + 4, and 3 between each two of six, are 79: the memory goes below
    assert text == [
        "case                         ┃ status ┃ samples/s ┃ spread ┃ step p50 ms ┃ wait",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━",
        "resnet18-ddp-x2-cpu-05b98454 │ ok     │     1,050 │   9.5% │       15.25 │ 2.0%",
        "",
        "case                         ┃ RSS MiB",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━",
        "resnet18-ddp-x2-cpu-05b98454 │   810.2",
    ]


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (60, ["resnet18-size-64-ddp-x2-cpu-b4-folder-demo-w0-bc63b0fc"]),
        (50, ["resnet18-size-64-ddp-x2-cpu-b4-folder-demo-w0-", "bc63b0fc"]),
        (30, ["resnet18-size-64-ddp-x2-cpu-", "b4-folder-demo-w0-bc63b0fc"]),
        (12, ["resnet18-", "size-64-ddp-", "x2-cpu-b4-", "folder-demo-", "w0-bc63b0fc"]),
    ],
)
def test_a_name_is_folded_at_its_separators(width: int, names: list[str]) -> None:
    assert str(fold_name("resnet18-size-64-ddp-x2-cpu-b4-folder-demo-w0-bc63b0fc", width)).split("\n") == names


NARROW_GPU_TABLE = """\
case                          ┃ status         ┃ samples/s ┃ spread ┃  tokens/s
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━
gpt-nano-ddp-x8-cuda-abcdef01 │ 1 crashed of 2 │    12,346 │      — │ 1,580,237

case                          ┃ step p50 ms ┃ wait ┃   MFU ┃ GPU MiB ┃ RSS MiB
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━╇━━━━━━━╇━━━━━━━━━╇━━━━━━━━
gpt-nano-ddp-x8-cuda-abcdef01 │      0.9877 │ 0.0% │ 45.7% │  70,123 │   2,048
"""


def test_columns_that_a_narrow_terminal_has_no_room_for_go_below() -> None:
    case = "gpt-nano-ddp-x8-cuda-abcdef01"
    rows = [row(case, 0, **ON_GPU), row(case, 1, "crashed", reason="rank 3 was killed")]
    # 29 of the name + 14 + 9 + 6 + 9, and 3 between each two of five, are 79: the step goes below
    text = shown(summarise(launches(rows)), width=80)
    assert lines(text)[:7] == lines(NARROW_GPU_TABLE)


def test_no_figure_is_cut_whatever_the_width() -> None:
    rows = [row("gpt-nano-ddp-x8-cuda-abcdef01", order, **ON_GPU) for order in (0, 1)]
    for width in range(36, 130, 9):
        text = shown(summarise(launches(rows)), width)
        assert all(len(line) <= width for line in text.splitlines())
        for figure in ("12,346", "1,580,237", "0.9877", "0.0%", "45.7%", "70,123", "2,048"):
            assert f" {figure} " in text.replace("\n", " \n"), width


ALL_FAILED = """\
case            ┃ status  ┃ samples/s ┃ spread ┃ step p50 ms
━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━
mlp-ddp-x2-cpu  │ crashed │         — │      — │           —
mlp-fsdp-x2-cpu │ skipped │         — │      — │           —
crashed: mlp-ddp-x2-cpu: rank 1 was killed
skipped: mlp-fsdp-x2-cpu: too big
"""


def test_table_where_every_launch_failed() -> None:
    crashed = {"status": "crashed", "reason": "rank 1 was killed"}
    rows = [row("mlp-ddp-x2-cpu", order, **crashed) for order in (0, 1)]
    rows.append(row("mlp-fsdp-x2-cpu", None, "skipped", reason="too big"))
    assert lines(shown(summarise(launches(rows)))) == lines(ALL_FAILED)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (["ok", "ok", "ok"], "ok"),
        (["oom", "ok", "ok"], "1 oom of 3"),  # not how many were ok
        (["ok", "oom", "oom"], "2 oom of 3"),
        (["oom", "crashed", "ok"], "1 crashed, 1 oom of 3"),  # Equally frequent: both are named, in alphabetical order.
        (["crashed", "crashed", "oom"], "2 crashed, 1 oom of 3"),
        (["timeout", "timeout"], "timeout"),
    ],
)
def test_a_status_says_how_many_launches_ended_so(ended: list[str], words: str) -> None:
    rows = [row("mlp", order, status, **(FIRST if status == "ok" else {})) for order, status in enumerate(ended)]
    assert f" {words} " in shown(summarise(launches(rows)))


def test_cases_that_failed_alike_share_a_line() -> None:
    failed = {"status": "crashed"}
    rows = [row(f"case-{n}", n, **failed, reason=f"rank {n % 2} on h, step {n}: ValueError: no") for n in range(20)]
    rows.append(row("other", 20, **failed, reason="rank 0 on h, step 4: TypeError: no"))
    told = lines(shown(summarise(launches(rows))))[2 + 21 :]
    assert told == [
        "crashed: 20 cases (case-0; case-1; case-2 and 17 more): rank 0 on h, step 0: ValueError: no",
        "crashed: other: rank 0 on h, step 4: TypeError: no",
    ]


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("132", 132), ("", 200), ("0", 200), ("wide", 200)])
def test_output_that_is_piped_is_as_wide_as_columns_says(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert wide_console().width == width


# -- a report ------------------------------------------------------------------------------------------------------


def reported(rows: list[LaunchRow]) -> str:
    file = io.StringIO()
    answers = answer(rows, steps(Path("of no run"), print))
    print_report(headline(answers), tables(answers), Console(width=100, file=file))
    return file.getvalue()


def of_report(strategy: str, gpus: int, rate: float | None, **columns: object) -> LaunchRow:
    axes: dict[str, object] = {"workload": "mlp", "strategy": strategy, "gpus": gpus, "device": "cuda"}
    axes |= {"precision": "fp32", "batch_size": 8, "omp_num_threads": 1, "data": "resident"}
    facts = {"run_id": "r", "block": 0, "global_batch": 8 * gpus, "work_key": str(gpus), "device_name": "GPU"}
    figures = {"samples_per_s": rate, "device_used_mib": 2048.0}
    return row(f"mlp-{strategy}-{gpus}", gpus, **{**axes, **facts, **figures, **columns})


# A bar is as long as the rate is of the largest: 1/2 of 12 characters is 6. Speed-up 200 / 100, of 2 devices 100 %.
REPORT = """\
• 2 cases, 2 launches in 1 run; every launch was ok.
• mlp on 1 × GPU: 100 samples/s (1 launch) at 2 GiB.
• mlp on 2 × GPU: 200 samples/s (1 launch) at 2 GiB.
• mlp scales weakly: from 1 to 2 devices at an efficiency of 100.0% with ddp ×2 fp32.

Cases
case        ┃ status ┃ samples/s ┃              ┃ memory GiB
━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━
ddp ×1 fp32 │ ok     │       100 │ ██████       │          2
ddp ×2 fp32 │ ok     │       200 │ ████████████ │          2
Figures are medians over the launches that were ok; the interval of samples/s is the 95 % interval
of the median, by order statistics. Memory is per device; on the CPU it is that of the rank with the
most.

Scaling
case        ┃ mode ┃ devices ┃ samples/s ┃ speed-up ┃ efficiency
━━━━━━━━━━━━╇━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━
ddp ×1 fp32 │ weak │       1 │       100 │        1 │     100.0%
ddp ×2 fp32 │ weak │       2 │       200 │        2 │     100.0%
"""


def test_report_of_two_cases_with_bars_from_zero() -> None:
    text = lines(reported([of_report("ddp", 1, 100.0), of_report("ddp", 2, 200.0)]))
    assert text[: len(lines(REPORT))] == lines(REPORT)


def test_what_looks_like_markup_is_only_text_in_a_report() -> None:
    crashed = of_report("fsdp", 1, None, status="crashed", reason="[bold]no[/bold] [/]", device_name="[red]GPU[/red]")
    text = reported([crashed, of_report("ddp", 1, 100.0, device_name="[red]GPU[/red]")])
    assert "[bold]no[/bold] [/]" in text
    assert "mlp on 1 × [red]GPU[/red]: 100 samples/s (1 launch) at 2 GiB." in text
