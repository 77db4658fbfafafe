"""Thousands of cases and of rows: what takes time is done once for each, whatever the machine's speed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_plans import LAPTOP, plan
from made_up_rows import launch, session, write
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.machine.environment import host_facts
from bench.plan import plan as planning
from bench.report.wide_tables import LONG, print_table
from bench.runner import estimate
from bench.store import reader, runs
from bench.store.columns import LAUNCHES, SCHEMA

CASES = 400
SEEDS = ",".join(map(str, range(CASES)))


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, *names: str) -> Counter[str]:
    """How often functions of a module are called from now on."""
    calls: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            calls[name] += 1
            return function(*args, **named)

        return call

    for name in names:
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    return calls


def test_a_plan_looks_at_its_data_and_its_machine_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_bytes(bytes(10_000))
    calls = counted(monkeypatch, planning, "check_inputs", "compiler_lacks", "numactl")
    made = plan(workload="gpt-nano", data=f"resident,text={tmp_path}/text", seed=SEEDS, device="cpu", gpus="2")
    assert len(made.cases) == 2 * CASES
    assert {one.samples for one in made.cases} == {None, (10_000 - 1) // 128}
    assert calls == {"check_inputs": 2, "compiler_lacks": 1, "numactl": 1}


def test_the_id_of_a_case_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(workload="mlp", seed=SEEDS, device="cpu", gpus="2")
    calls = counted(monkeypatch, hashlib, "sha256")
    ids = [{one.case.case_id for one in made.cases} for _ in range(3)]
    assert [len(names) for names in ids] == [CASES] * 3
    assert calls == {"sha256": CASES}
    other = dataclasses.replace(made.cases[0].case, seed=CASES)
    assert other.case_id not in ids[0]


def test_an_estimate_looks_at_each_earlier_launch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases of a user's own workload, of whose batch only torch knows, are found by their other axes."""
    made = plan(workload="pack.age:Net", seed=SEEDS, device="cpu", gpus="2")
    host = host_facts(LAPTOP, {})
    told = {"launch_s": 5.0, "window_s": 1.0, "window_steps": 30, "warmup_steps": 5, "warmup_steps_done": 5}
    told |= {"launcher": "server", "device_name": "cpu", "hostname": host["hostname"], "cpu_model": host["cpu_model"]}
    axes = [
        {name: getattr(one.case, name) for name in dataclasses.asdict(one.case) if name in LAUNCHES}
        for one in made.cases
    ]
    rows = [launch(**known | told | {"case_id": "known by its axes", "batch_size": 8}) for known in axes[: CASES // 2]]
    write(tmp_path / "runs" / "20260101-120000-00aa", rows)
    calls = counted(monkeypatch, estimate, "_key_without_batch")
    found = estimate.estimate(made, tmp_path, LAPTOP, pytest.fail)
    assert calls == {"_key_without_batch": CASES + CASES // 2}
    assert [seconds for seconds in found.launch_s.values()] == [5.0] * (CASES // 2) + [None] * (CASES // 2)


def test_a_list_of_runs_types_only_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "runs" / "20260101-120000-00aa", session([100.0] * 2500))
    calls = counted(monkeypatch, reader, "_column")
    [found] = runs.runs(tmp_path)
    assert (found.cases, found.launches, found.statuses, found.hostname) == (1, 2500, {"ok": 2500}, "here")
    chunks = -(-2500 // reader.CHUNK)
    assert calls == {"_column": chunks * len({"schema", *runs.SHOWN_OF_A_ROW})}


def test_a_row_of_a_later_version_is_refused_in_a_list_too(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "20260101-120000-00aa", [launch(), launch(schema=99)])
    [found] = runs.runs(tmp_path)
    assert f"line 3, column schema: got 99; allowed: {SCHEMA} or less" in str(found.trouble)


def test_a_long_table_in_a_pipe_is_what_rich_prints() -> None:
    printed = []
    for rows in (LONG, LONG + 1):
        table = Table(show_edge=False, pad_edge=False)
        for title, justify in (("case", "left"), ("samples/s", "right"), ("runs", "left")):
            table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for n in range(rows):
            table.add_row(Text(f"größer-漢字-{n % 7}"), f"{n * 3.5:.1f}", Text("yes" if n % 2 else ""))
        console = Console(file=io.StringIO(), width=200)
        print_table(table, console)
        printed.append(console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    by_rich, by_hand = printed
    assert by_hand[: len(by_rich)] == by_rich
    assert by_hand[-1].split() == ["größer-漢字-4", "│", "700.0", "│"]
