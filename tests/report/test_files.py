"""A report as files: what other programs read is data, what people read is text, and no rows are too odd for it."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up_rows import write
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from bench.analysis.answers import Answers, answer
from bench.analysis.frames import steps
from bench.cli.report import report
from bench.errors import ResultsError, UsageError
from bench.report.files import EXPORTED, csv_text, report_json, write_csv, write_text
from bench.report.headline import headline
from bench.report.markdown import escaped, markdown
from bench.report.tables import Column, Table, tables
from bench.report.terminal import print_report
from bench.store.columns import LaunchRow


def row(strategy: str = "ddp", gpus: int = 2, **changes: Any) -> LaunchRow:
    """A launch of a case that its strategy and devices tell."""
    axes = {"workload": "mlp", "strategy": strategy, "gpus": gpus, "device": "cuda", "precision": "fp32", "seed": 0}
    axes |= {"batch_size": 8, "data": "resident", "omp_num_threads": 1, "compile": "off", "optimizer": "adamw"}
    said = {"schema": 4, "run_id": "r", "launch_id": f"0-{strategy}-{gpus}", "case_id": f"{strategy}-{gpus}"}
    said |= {"role": "measure", "order": 0, "block": 0, "status": "ok", "work_key": str(8 * gpus), "env_key": "e"}
    facts = {"torch": "2.11.0", "device_name": "A GPU", "command": "bench run", "global_batch": 8 * gpus}
    figures = {"samples_per_s": 90.0 * gpus, "step_ms": 88.9, "device_used_mib": 2048.0}
    return LaunchRow.of({**axes, **said, **facts, **figures, **changes})


FAILED: dict[str, Any] = {
    "status": "crashed",
    "reason": "rank 1 died",
    "samples_per_s": None,
    "step_ms": None,
    "device_used_mib": None,
}
SKIPPED: dict[str, Any] = {**FAILED, "status": "skipped", "order": None, "block": None, "launch_id": None}


def answered(*rows: LaunchRow) -> Answers:
    return answer(rows, steps(Path("of no run"), pytest.fail), [24])


# -- CSV -----------------------------------------------------------------------------------------------------------


def cells(values: Sequence[Any], kind: str | None = None) -> list[str]:
    """What a column of these values is in CSV, beside one that is never empty."""
    frame = pd.DataFrame({"x": pd.Series(list(values), dtype=kind or object), "y": 0})
    header, *rows = csv.reader(io.StringIO(csv_text(frame), newline=""), strict=True)
    assert (header, {y for _, y in rows}) == (["x", "y"], {"0"})
    return [x for x, _ in rows]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0", "--"])
def test_a_text_that_a_spreadsheet_would_run_is_only_text(text: str) -> None:
    assert cells([text]) == [f"'{text}"]
    assert cells([text, None], "str") == [f"'{text}", ""]


@pytest.mark.parametrize(
    "text", ["a=1", "1-2", "'=1", " =1", "ddp:hook=fp16", 'a "b", c\r\nd', "ü 𝟙", "1e5", "007", "true"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert cells([text]) == [text]


def test_numbers_are_left_alone_negative_ones_too() -> None:
    assert cells([-1.5, -2, 0, 1e-7, 0.1 + 0.2]) == ["-1.5", "-2", "0", "1e-07", "0.30000000000000004"]
    assert cells([-1.5, 3.0], "Float64") == cells([-1.5, 3.0], "float64") == ["-1.5", "3.0"]
    assert cells([-1, 3, None], "Int64") == ["-1", "3", ""]


def test_booleans_are_true_and_false() -> None:
    assert cells([True, False, None], "boolean") == ["true", "false", ""]
    assert cells([True, False]) == ["true", "false"]


def test_what_is_unknown_or_no_number_is_empty() -> None:
    assert cells([None, math.nan, math.inf, -math.inf, pd.NA, pd.NaT]) == [""] * 6
    assert cells([math.nan, math.inf, 1.5], "float64") == ["", "", "1.5"]


def test_files_are_utf_8_with_the_line_ends_of_the_standard(tmp_path: Path) -> None:
    files = write_csv(
        answered(row(workload="ü.py:Net"), row("fsdp"), row("ddp", 4), row("fsdp", 4, **FAILED)), tmp_path / "a" / "b"
    )
    assert [file.name for file in files] == [f"{name}.csv" for name in EXPORTED]
    for file in files:
        content = file.read_bytes()
        assert content.count(b"\n") == content.count(b"\r\n") >= 1
    assert "ü.py:Net".encode() in files[0].read_bytes()


def test_a_report_without_answers_has_only_headers(tmp_path: Path) -> None:
    for file in write_csv(answered(row()), tmp_path)[1:]:
        assert len(file.read_text().splitlines()) == 1, file


def test_hostile_names_come_back_from_the_files_as_they_were(tmp_path: Path) -> None:
    name = '=HYPERLINK("http://x"),\r\n`|$<b>'
    folder = write_csv(answered(row(case_id=name), row("fsdp", case_id="b", **FAILED | {"reason": name})), tmp_path)[
        0
    ].parent
    for file, column in (("summary", "case_id"), ("failures", "reason")):
        with (folder / f"{file}.csv").open(newline="") as stream:
            assert f"'{name}" in [line[column] for line in csv.DictReader(stream, strict=True)]


# -- JSON ----------------------------------------------------------------------------------------------------------


def parsed(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_has_null_for_what_is_unknown_or_no_number() -> None:
    odd = {"mfu": math.nan, "step_ms": math.inf, "data_wait_share": -math.inf, "max_grad_norm": None}
    found = parsed(report_json(answered(row(**odd), row("fsdp", **FAILED)), ["said"]))
    assert list(found) == ["runs", "headline", *EXPORTED]
    assert (found["runs"], found["headline"]) == (["r"], ["said"])
    assert [found["summary"][0][name] for name in odd] == [None] * 4
    [failure] = found["failures"]
    assert (failure["case_id"], failure["status"], failure["launches"]) == ("fsdp-2", "crashed", 1)


def test_json_has_numbers_texts_and_booleans_as_such_and_formulas_as_they_are() -> None:
    [case] = parsed(report_json(answered(row(case_id="=1+1", pin_memory=True)), []))["summary"]
    assert {name: case[name] for name in ("case_id", "pin_memory", "gpus", "samples_per_s", "num_workers")} == {
        **{"case_id": "=1+1", "pin_memory": True, "gpus": 2, "samples_per_s": 180.0, "num_workers": None},
    }
    assert type(case["gpus"]) is int


# -- files that cannot be written ----------------------------------------------------------------------------------


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target, why in (((tmp_path / "file" / "x.md"), "File exists|Not a directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ResultsError, match=f"^cannot write {target}: (?:{why})\\. Choose another path\\.$"):
            write_text(target, "x")
    with pytest.raises(ResultsError, match=r"^cannot write .*summary\.csv: "):
        write_csv(answered(row()), tmp_path / "file")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """Who has the old one open reads all of it; its permissions and the link to it stay, and nothing is left beside it."""
    file, link = tmp_path / "x.md", tmp_path / "link.md"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("x.md")
    with file.open() as before:
        write_text(link, "new")
        assert before.read() == "old"
    assert (file.read_text(), link.is_symlink(), file.stat().st_mode & 0o777) == ("new", True, 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "x.md"]


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new text does not fit into what a file may have here: 10 bytes."""
    file = tmp_path / "x.md"
    file.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(ResultsError, match="File too large"):
            write_text(file, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.md", "old")]


def test_a_file_that_cannot_be_replaced_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is mounted into a container: the system refuses to rename another over it."""

    def refused(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "x.md").write_text("old, and longer")
    monkeypatch.setattr("bench.untrusted.files.os.replace", refused)
    write_text(tmp_path / "x.md", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.md", "new")]


def test_a_text_that_is_no_unicode_is_no_traceback(tmp_path: Path) -> None:
    """Half of a surrogate pair, as a JSON file or a path may hold."""
    write_text(tmp_path / "x.md", "\ud800")


# -- Markdown ------------------------------------------------------------------------------------------------------

NASTY = [
    *(
        "a|b",
        "`code`",
        "``",
        "```",
        "<script>alert(1)</script>",
        "<!-- x",
        "&lt;b&gt;",
        "&copy;",
        "a & b",
        "*a*",
        "__a__",
    ),
    *(
        "[a](http://x)",
        "![a](x)",
        "[a]: x",
        "~~a~~",
        "$a$",
        "$$a$$",
        "# a",
        "#1",
        "\\",
        "\\|",
        "a\\",
        "a\nb",
        "a\r\n\r\nb",
    ),
    *(
        "a\n\n| x | y |\n|---|---|",
        "<a\nhref=x>",
        "\ta",
        "    a",
        "> a",
        "===",
        "---",
        "a  ",
        "\u2028a",
        "{{ x }}",
        "%s",
    ),
    *(
        "<https://x.org>",
        "\x00a".replace("\x00", "\x01"),
        "|",
        "||",
        "`|`",
        "\\`",
        "_a_ |\n",
        "x_y_z",
        "1) a",
        "1. a",
        "+ a",
    ),
]
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def shown(cell: Token) -> str:
    """What a reader sees; nothing of it may be more than text."""
    assert {child.type for child in cell.children or ()} <= {"text"}, cell.content
    return "".join(child.content for child in cell.children or ())


def line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_a_cell_is_only_text(text: str) -> None:
    table = Table(
        "x", "t", "", (Column(text, lambda row: row["x"]), Column("y", lambda row: "1")), pd.DataFrame({"x": [text]})
    )
    tokens = PARSER.parse(markdown("title", [], [], [table]))
    found = [tokens[i + 1] for i, token in enumerate(tokens) if token.type in ("th_open", "td_open")]
    assert [shown(cell) for cell in found] == [line(text), "y", line(text) or "—", "1"]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_titles_small_print_and_sentences_are_only_text(text: str) -> None:
    tokens = PARSER.parse(markdown(text, [f"a {text}", "b"], [f"say {text}"], []))
    heading, about, sentence = (token for token in tokens if token.type == "inline")
    assert shown(heading) == line(text)
    assert [child.content for child in about.children or () if child.type != "hardbreak"] == [line(f"a {text}"), "b"]
    assert shown(sentence) == line(f"say {text}")
    assert [token.type for token in tokens if token.nesting == 1] == [
        *("heading_open", "paragraph_open", "bullet_list_open", "list_item_open", "paragraph_open"),
    ]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_an_escaped_text_is_one_line(text: str) -> None:
    assert escaped(text).splitlines() in ([], [escaped(text)])


@pytest.mark.parametrize("text", ["+ a", "- a", "1. a", "1) a"])
def test_a_sentence_that_begins_as_a_list_does_is_only_text(text: str) -> None:
    tokens = PARSER.parse(markdown("title", [], [f"{text} on 2 GPUs"], []))
    assert shown([token for token in tokens if token.type == "inline"][-1]) == f"{text} on 2 GPUs"
    assert sum(token.type.endswith("_list_open") for token in tokens) == 1


def fence(*rows: LaunchRow) -> tuple[Token, str]:
    answers = answered(*rows)
    text = markdown("t", [], headline(answers), tables(answers))
    [found] = [token for token in PARSER.parse(text) if token.type == "fence"]
    return found, text


@pytest.mark.parametrize("command", ["bench run", "a ``` b", "`", "a\n```\nb", "````` x", "$(x) | <y> && *"])
def test_commands_are_copied_as_they_are(command: str) -> None:
    found, _ = fence(row(command=command), row("fsdp", command="bench run --x"))
    assert found.info == "sh"
    assert found.content == f"{command}  # ddp ×2 fp32\nbench run --x  # fsdp ×2 fp32\n"


def test_a_fence_is_longer_than_any_run_of_backticks_in_it() -> None:
    assert fence(row(command="a ```` b"))[0].markup == "`" * 5
    assert fence(row(command="a"))[0].markup == "`" * 3


def test_a_name_of_two_lines_adds_no_command() -> None:
    found, _ = fence(row(strategy="ddp\nrm -rf x"))
    assert found.content.count("\n") == 1


def test_columns_of_a_table_stand_as_their_numbers_do() -> None:
    answers = answered(row(), row("fsdp"))
    text = markdown("t", ["about"], ["one"], tables(answers))
    assert text.startswith("# t\n\nabout  \n\n- one\n\n## Machine and software\n")
    assert CASES in text


CASES = """\
## Cases

| case | status | launches | samples/s | step p50 ms | memory GiB |
| --- | --- | --: | --: | --: | --: |
| ddp ×2 fp32 | ok | 1 | 180 | 88.9 | 2 |
| fsdp ×2 fp32 | ok | 1 | 180 | 88.9 | 2 |

"""


# -- rows of all kinds ---------------------------------------------------------------------------------------------


def reported(rows: Sequence[LaunchRow], folder: Path) -> dict[str, Any]:
    """A report in all its forms but pictures; what ``--json`` says."""
    answers = answered(*rows)
    sentences, found = headline(answers, [24]), tables(answers)
    print_report(sentences, found, Console(file=io.StringIO(), width=120))
    assert all(file.stat().st_size for file in write_csv(answers, folder))
    write_text(folder / "report.md", markdown("title", [], sentences, found))
    said: dict[str, Any] = parsed(report_json(answers, sentences))
    return said


def with_rates(*rates: float | None, **changes: Any) -> list[LaunchRow]:
    cases = (("ddp", 2), ("ddp", 4), ("fsdp", 4))
    return [row(s, n, samples_per_s=rate, **changes) for (s, n), rate in zip(cases, rates, strict=True)]


def tuned(*rates: float | None) -> list[LaunchRow]:
    return [row(num_workers=w, case_id=f"w{w}", data="synthetic", samples_per_s=rate) for w, rate in enumerate(rates)]


ROWS: dict[str, list[LaunchRow]] = {
    "one row": [row()],
    "one failed": [row(**FAILED)],
    "one skipped": [row(**SKIPPED)],
    "all failed": [row(s, n, **FAILED) for s in ("ddp", "fsdp") for n in (1, 2)],
    "all skipped": [row(s, n, **SKIPPED) for s in ("ddp", "fsdp") for n in (1, 2)],
    "all of tuning failed": [one.but(**FAILED) for one in tuned(None, None, None)],
    "all that scales failed": [row("ddp", 1), row("ddp", 2, **FAILED)],
    "all that scales was skipped": [row("ddp", 1), row("ddp", 2, **SKIPPED)],
    "nothing may be compared": [row("ddp", 1), row("ddp", 2, seed=1, batch_size=3)],
    "the base failed": [row("ddp", 1, **FAILED), row("ddp", 2)],
    "each failed once": [one for n in (1, 2) for one in (row("ddp", n), row("ddp", n, block=1, **FAILED))],
    "only a probe": [row(role="probe")],
    "only a control": [row(role="control")],
    "only dp": [row("dp", n, world_size=1, block=b) for n in (1, 2, 4) for b in (0, 1)],
    "version 2": [row("ddp", n, schema=2, launch_s=None) for n in (1, 2)],
    "no work_key": [row("ddp", n, work_key=None) for n in (1, 2)],
    "no env_key": [row(env_key=None, torch=None, device_name=None)],
    "other work": [row(work_key="a"), row(work_key="b", block=1)],
    "no device_name": [row(device_name=None), row("fsdp", device_name=None)],
    "rates of 0": with_rates(0.0, 0.0, 0.0),
    "one rate of 0": with_rates(0.0, 10.0, 20.0),
    "negative rates": with_rates(-5.0, -2.0, -2.0),
    "infinite rates": with_rates(math.inf, math.inf, 10.0),
    "rates that are no numbers": with_rates(math.nan, math.nan, 10.0),
    "no rate though ok": with_rates(None, None, 10.0),
    "no rate of tuning": tuned(None, None),
    "one rate of tuning": tuned(None, 10.0),
    "no rate of one launch": [row(samples_per_s=rate, block=b) for b, rate in enumerate((None, 10.0, 11.0))],
    "rates far apart": [row("ddp", 1, samples_per_s=1e-200), row("ddp", 1, samples_per_s=1e200, block=1)],
    "all memory unknown": with_rates(10.0, 20.0, 30.0, device_used_mib=None),
    "memory of nothing": with_rates(10.0, 20.0, 30.0, device_used_mib=0.0),
    "infinite memory": with_rates(10.0, 20.0, 30.0, device_used_mib=math.inf),
    "infinite figures": [row(step_ms=math.inf, mfu=math.inf, data_wait_share=-math.inf, throttled_share=math.inf)],
    "figures that are no numbers": [row(step_ms=math.nan, mfu=math.nan, throttled_share=math.nan)],
    "no gpus": [row(gpus=2).but(gpus=None), row("ddp", 4)],
    "gpus of 0": [row(gpus=2).but(gpus=0), row("ddp", 4)],
    "no axes": [
        LaunchRow(run_id="r", case_id=c, role="measure", status="ok", order=0, samples_per_s=1.0) for c in "ab"
    ],
    "no axes and nothing ok": [LaunchRow(run_id="r", case_id="a", role="measure", status="oom", order=0)],
    "no role": [row(role=None)],
    "no status": [row(status=None)],
    "no reason": [row(**FAILED | {"reason": None}), row("fsdp")],
    "a later status": [row(status="melted", reason="it was hot")],
    "no case_id": [row(case_id=None), row("fsdp", case_id=None)],
    "no run_id": [row(run_id=None), row("fsdp", run_id=None)],
    "no block": [row(block=None), row("fsdp", block=None)],
    "an unknown setting": [row(settings='{"A": [1, {"b": null}]}'), row("fsdp", run_id="s", settings='{"A": 3}')],
    "env that is cut": [row(env="A='x", settings="{}")],
    "many machines": [row(run_id=f"r{i}", torch=str(i), env_key=str(i)) for i in range(28)],
    "a large number": [row(seed=2**63 - 1), row("fsdp", seed=2**63 - 2), row("fsdp", 4)],
    "hostile": [
        row("ddp:x=[/]", workload="<script>$x|`b`", case_id="=1+1\r\n`*", device_name="[red]x[/]", hostname="]]>&'"),
        row("$\\frac{a}", 4, workload="{0}%s", reason="[bold]x | ``` \u202e", status="oom", command="```\n$(rm)"),
        row("[link=x]", data="folder=/a b/</script>", env="A=[/]", settings="{}", torch="[bold]", block=3),
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_no_rows_end_in_a_traceback(name: str, tmp_path: Path) -> None:
    said = reported(ROWS[name], tmp_path)
    assert said["headline"]
    assert not re.search(r"\bnan\b", " ".join(said["headline"]))


def test_settings_that_are_no_object_are_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="column settings: got '\\[1\\]'; allowed: a JSON object"):
        reported([row(settings="[1]")], tmp_path)


@pytest.mark.parametrize("given", ["x", "24,", "0", "-1", "nan", "inf", ","])
def test_memory_that_is_no_number_above_0_is_told(given: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--within-gib: got .*allowed: numbers above 0, such as 24,80"):
        report(run=None, out=tmp_path, within_gib=given)


def test_a_run_without_rows_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "launches.csv").write_text("schema,run_id\r\n")
    with pytest.raises(ResultsError, match=r"no launch is recorded in .*\. Choose another run\."):
        report(run=["r"], out=tmp_path)


def test_a_run_that_is_named_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs" / "r", [row()])
    report(run=["r", "latest", str(tmp_path / "runs" / "r")], out=tmp_path, as_json=True)
    [case] = json.loads(capsys.readouterr().out)["summary"]
    assert (case["launches"], case["runs"]) == (1, "r")
