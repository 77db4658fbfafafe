"""``plan.json`` is read by a schema: what is wrong is told with its place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_plans import NODE, plan

from bench.errors import EXIT_FAILED, ResultsError
from bench.machine import environment
from bench.machine.gpus import Machine
from bench.store.plan_file import asked_of, case_of, plan_json, read_plan
from bench.store.resume import earlier_run

MADE = plan(NODE, workload="mlp,gpt-nano", strategy="single,ddp,fsdp", data="resident,synthetic", env="A=b c|d")
FACTS = {**environment.host_facts(Machine(), {}), "gpus": "H100", "workloads": {"/a/mine.py": "0123"}}
PLAN = json.loads(json.dumps({**plan_json(MADE), "facts": FACTS}))


def read(folder: Path, plan: Any) -> dict[str, Any]:
    (folder / "plan.json").write_text(json.dumps(plan))
    return read_plan(folder)


def test_a_plan_comes_back_as_it_was_written(tmp_path: Path) -> None:
    found = read(tmp_path, PLAN)
    assert found == PLAN
    assert asked_of(found) == MADE.asked
    assert [case_of(entry) for entry in found["cases"]] == [planned.case for planned in MADE.cases]


def test_an_older_plan_lacks_what_has_a_default(tmp_path: Path) -> None:
    old = copy.deepcopy(PLAN)
    del old["asked"]["typed"]
    for entry in old["cases"]:
        for name in ("compile", "optimizer", "numa_binding", "strong_from", "oversubscribe"):
            del entry[name]
    found = read(tmp_path, old)
    assert asked_of(found).typed == ()
    assert case_of(found["cases"][0]).optimizer == "adamw"


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def edit(plan: Any) -> None:
        *holders, last = path
        for key in holders:
            plan = plan[key]
        plan[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("cases", 2, "gpus", value="two"), "cases[2].gpus: got 'two'; allowed: a whole number from 1, all, 1..N, 1..all."),
        (put("cases", 2, "gpus", value="all"), "cases[2].gpus: got 'all'; allowed: a value of kind int"),
        (put("cases", 2, "gpus", value=None), "cases[2].gpus: got None; allowed: a whole number from 1, all, 1..N, 1..all."),
        (put("cases", 2, "gpus", value=[2]), "cases[2].gpus: got [2]; allowed: a whole number"),
        (put("cases", 1, "seed", value=2**70), f"cases[1].seed: got {2**70}; allowed: a whole number from 0. At most"),
        (put("cases", 1, "device", value="auto"), "cases[1].device: got 'auto'; allowed: a value of kind str"),
        (put("cases", 1, "batch_size", value="auto"), "cases[1].batch_size: got 'auto'; allowed: a value of kind int"),
        (put("cases", 1, "oversubscribe", value="no"), "cases[1].oversubscribe: got 'no'; allowed: a value of kind bool"),
        (put("cases", 1, "max_grad_norm", value=float("nan")), "cases[1].max_grad_norm: got nan; allowed: a number from 0."),
        (put("cases", 1, "workload", value=7), "cases[1].workload: got '7'; allowed: "),
        (put("cases", 1, "skip", value=True), "cases[1].skip: got True; allowed: a text"),
        (put("cases", 1, "strong_from", value=-1), "cases[1].strong_from: got -1; allowed: a whole number from 1"),
        (put("cases", 1, "search", value=[]), "cases[1].search: got []; allowed: a text"),
        (put("cases", 1, "case_id", value=""), "cases[1].case_id: got ''; allowed: a text"),
        (put("cases", 1, value="case"), "cases[1]: got 'case'; allowed: an object"),
        (put("cases", value={}), "cases: got {}; allowed: a list of objects"),
        (lambda plan: plan["cases"][3].pop("omp_num_threads"), "cases[3].omp_num_threads is missing"),
        (lambda plan: plan.pop("facts"), "facts is missing"),
        (put("facts", value=[]), "facts: got []; allowed: an object"),
        (put("facts", "ram_gib", value="much"), "facts.ram_gib: got 'much'; allowed: a value of kind float, or null"),
        (put("facts", "cpu_cores", value=1e308), "facts.cpu_cores: got 1e+308; allowed: a value of kind int, or null"),
        (put("facts", "gpus", value=4), "facts.gpus: got 4; allowed: a text"),
        (put("facts", "workloads", value={"a.py": None}), "facts.workloads['a.py']: got None; allowed: a text"),
        (put("protocol", value=None), "protocol: got None; allowed: an object"),
        (put("protocol", "steps", value="many"), "protocol.steps: got 'many'; allowed: a whole number from 2."),
        (put("protocol", "timeout", value=float("inf")), "protocol.timeout: got inf; allowed: seconds from 1."),
        (put("protocol", "stepss", value=3), "protocol: got 'stepss'; allowed: the keys warmup_steps"),
        (put("asked", value=3), "asked: got 3; allowed: an object"),
        (put("asked", "oversubscribe", value="x"), "asked.oversubscribe: got 'x'; allowed: true, false"),
        (put("asked", "matrices", value=[]), "asked.matrices: got []; allowed: one object or more"),
        (put("asked", "matrices", 0, "seed", value=3), "asked.matrices[0].seed: got 3; allowed: a list"),
        (put("asked", "matrices", 0, "seed", value=[]), "asked.matrices[0].seed: got []; allowed: a whole number from 0"),
        (put("asked", "matrices", 0, "seed", value=[0, {}]), "asked.matrices[0].seed[1]: got {}; allowed: a whole number"),
        (put("asked", "matrices", 0, "sed", value=[0]), "asked.matrices[0]: got 'sed'; allowed: the keys workload"),
        (put("asked", "settings", value={"steps": 1}), "asked.settings.steps: got 1; allowed: a whole number from 2."),
        (put("asked", "typed", value=[1]), "asked.typed[0]: got 1; allowed: a text"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(tmp_path: Path, edit: Callable[[Any], None], message: str) -> None:
    plan = copy.deepcopy(PLAN)
    edit(plan)
    with pytest.raises(ResultsError) as error:
        read(tmp_path, plan)
    assert str(error.value).startswith(f"{tmp_path}/plan.json: {message}")
    place = re.split(r":| is missing", message)[0]
    assert error.value.option == f"{tmp_path}/plan.json: {place}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ", line 1, column 1: not JSON: Expecting value"),
        (b'{"asked":\n  {,}', ", line 2, column 4: not JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": "\xff"}', ", line 1: byte 0xff is not UTF-8"),
        (b'{"a": "\0"}', ", line 1, column 8: not JSON: Invalid control character at"),
        (b"[" * 100_000, ": its lists or objects are nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", ": a number in it has too many digits"),
        (b"[]", ": got []; allowed: an object"),
        (b'{"kind": "ab"}', " was written by bench ab"),
    ],
)
def test_what_is_no_plan_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ResultsError) as error:
        earlier_run(tmp_path, frozenset(), anyway=False)
    assert error.value.message.rstrip(".") == f"cannot resume {tmp_path.name}: {tmp_path}/plan.json{message}"
    assert error.value.hint == "Start a new run."
    assert error.value.exit_code == EXIT_FAILED == 5
