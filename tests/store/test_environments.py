"""Which runs may be put together, and what went wrong in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from bench.analysis.failures import COLUMNS, failures
from bench.analysis.frames import launches
from bench.errors import ResultsError
from bench.store.columns import LaunchRow
from bench.store.counting_rows import counted
from bench.store.environments import unlike, with_environments

KNOWN = {"torch": "2.11.0", "driver": "575.51", "cpu_model": "A CPU", "device_name": "A GPU", "hostname": "one"}


def row(run_id: str, settings: dict[str, str] | None = None, **changes: Any) -> LaunchRow:
    said = {"run_id": run_id, "case_id": "a", "role": "measure", "status": "ok", "order": 0, "block": 0}
    settings = {"OMP_NUM_THREADS": "1", "NCCL_DEBUG": "WARN"} if settings is None else settings
    return LaunchRow.of({**said, **KNOWN, "settings": json.dumps(settings), **changes})


def letters(*rows: LaunchRow) -> str:
    return "".join(with_environments(launches(rows))["environment"])


def test_the_first_run_is_a_and_those_like_it() -> None:
    rows = [row("r"), row("s", torch="2.12.0"), row("t"), row("u", torch="2.13.0"), row("v", torch="2.12.0")]
    assert letters(*rows) == "ABACB"


@pytest.mark.parametrize(
    "changes",
    [
        *({"torch": "2.12.0"}, {"driver": "580"}, {"cpu_model": "B CPU"}, {"device_name": "B GPU"}, {"ram_gib": 64.0}),
        *({"cuda": "13.0"}, {"nccl": "2.28"}, {"python": "3.13"}, {"cpu_cores": 8}, {"cpu_threads": 8}),
        *({"torchvision": "0.27"}, {"cudnn": "9"}),
    ],
)
def test_other_machines_and_versions_are_another_environment(changes: dict[str, Any]) -> None:
    whole = {"ram_gib": 32.0, "cuda": "12.9", "nccl": "2.27", "python": "3.12", "cpu_cores": 4, "cpu_threads": 4}
    whole |= {"torchvision": "0.26", "cudnn": "8"}
    assert letters(row("r", **whole), row("s", **{**whole, **changes})) == "AB"


@pytest.mark.parametrize(
    "changes",
    [{"hostname": "two"}, {"device_uuids": "x"}, {"tool_version": "9"}, {"work_commit": "f"}, {"env_key": "k"}],
)
def test_where_the_machine_stands_and_who_it_is_make_no_environment(changes: dict[str, Any]) -> None:
    assert letters(row("r"), row("s", **changes)) == "AA"


def test_settings_of_the_whole_run_are_the_environments() -> None:
    assert letters(row("r"), row("s", {"OMP_NUM_THREADS": "1", "NCCL_DEBUG": "INFO"})) == "AB"
    assert letters(row("r"), row("s", {"OMP_NUM_THREADS": "1"})) == "AB"


def test_what_a_case_sets_itself_is_not() -> None:
    """OMP_NUM_THREADS always is the case's, and so is what its --env sets."""
    assert letters(row("r"), row("s", {"OMP_NUM_THREADS": "8", "NCCL_DEBUG": "WARN"})) == "AA"
    of_the_case = {"OMP_NUM_THREADS": "1", "NCCL_DEBUG": "WARN", "NCCL_ALGO": "Ring", "MY": "a b"}
    assert letters(row("r"), row("s", of_the_case, env="'MY=a b' NCCL_ALGO=Ring")) == "AA"
    assert letters(row("r"), row("s", of_the_case, env="NCCL_ALGO=Ring")) == "AB"  # MY is the run's


def test_a_case_that_sets_what_the_run_has_set_as_well_makes_no_environment() -> None:
    """Of run r one case has NCCL_DEBUG=INFO by --env, the others have the run's WARN, as all of run s have."""
    by_env = row("r", {"OMP_NUM_THREADS": "1", "NCCL_DEBUG": "INFO"}, env="NCCL_DEBUG=INFO", case_id="b")
    assert letters(row("r"), by_env, row("s")) == "AAA"


def test_devices_visible_are_not() -> None:
    settings = {"OMP_NUM_THREADS": "1", "NCCL_DEBUG": "WARN"}
    assert letters(row("r"), row("s", {**settings, "CUDA_VISIBLE_DEVICES": "3"})) == "AA"


def test_a_launch_that_failed_early_knows_little_and_splits_nothing() -> None:
    early = dict.fromkeys(KNOWN, None) | {"status": "crashed"}
    assert letters(row("r"), row("r", **early), row("s", **early), row("s")) == "AAAA"


def test_all_launches_of_a_run_have_its_letter() -> None:
    assert letters(row("r"), row("s", torch="2.12.0"), row("r"), row("s", torch="2.12.0")) == "ABAB"


def test_after_z_there_are_more() -> None:
    rows = [row(f"r{i}", torch=str(i)) for i in range(30)]
    assert list(with_environments(launches(rows))["environment"].iloc[[0, 25, 26, 29]]) == ["A", "Z", "E26", "E29"]


def test_what_differs_is_told_in_words() -> None:
    frame = with_environments(
        launches([row("r"), row("s", {"OMP_NUM_THREADS": "4", "NCCL_DEBUG": "INFO"}, torch="2.12.0", hostname="two")])
    )
    assert [difference.words() for difference in unlike(frame, "A", "B")] == [
        "torch: 2.11.0 in A, 2.12.0 in B",
        "NCCL_DEBUG: WARN in A, INFO in B",
    ]
    assert unlike(frame, "A", "A") == []


def test_damaged_settings_are_told() -> None:
    with pytest.raises(ResultsError, match="run s, column settings"):
        letters(row("r"), row("s", settings="{"))


def test_a_damaged_env_is_no_traceback() -> None:
    letters(row("r"), row("s", env="A='x"))


def test_a_row_without_a_run_is_no_traceback() -> None:
    letters(row("r"), row("s").but(run_id=None))


# -- launches that were made again ---------------------------------------------------------------------------------


def kept(*rows: LaunchRow) -> list[int]:
    return [int(row.launch_id or "") for row in counted([r.but(launch_id=str(i)) for i, r in enumerate(rows)])]


def test_of_a_launch_that_was_made_again_the_last_counts() -> None:
    rows = [
        row("r", block=0),
        row("r", block=1, status="interrupted"),
        row("r", block=1),
        row("r", block=0, case_id="b"),
    ]
    assert kept(*rows) == [0, 2, 3]


def test_the_same_block_of_another_run_is_another_launch() -> None:
    assert kept(row("r"), row("s"), row("r")) == [1, 2]


def test_probes_and_controls_stay_and_replace_nothing() -> None:
    assert kept(row("r"), row("r", role="probe"), row("r", role="control")) == [0, 1, 2]


def test_a_case_that_could_not_run_in_one_session_and_did_in_another_ran() -> None:
    skipped = {"status": "skipped", "block": None, "order": None}
    assert kept(row("r", **skipped), row("r"), row("r", case_id="b", **skipped), row("s", **skipped)) == [1, 2, 3]
    assert kept(row("r"), row("r", **skipped)) == [0]
    assert kept(row("r", **skipped), row("r", **skipped)) == [1]


def test_launches_of_a_file_without_blocks_all_count() -> None:
    assert kept(*[row("r", block=None)] * 4, row("r", block=None, status="skipped")) == [0, 1, 2, 3, 4]


# -- failures ------------------------------------------------------------------------------------------------------


def failed(case_id: str, status: str, reason: str | None, launch: int | None, **changes: Any) -> LaunchRow:
    axes = {"workload": "mlp", "strategy": "ddp", "gpus": 2}
    made = {"order": launch, "block": launch, "launch_id": None if launch is None else f"{launch:04}-{case_id}"}
    return row(
        "r",
        case_id=case_id,
        status=status,
        reason=reason,
        command=f"bench run {case_id}",
        **{**axes, **made, **changes},
    )


def found(rows: Sequence[LaunchRow]) -> list[dict[str, Any]]:
    frame = failures(with_environments(launches(rows)))
    assert list(frame.columns) == list(COLUMNS)
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def test_failures_of_one_reason_are_one_row_with_their_number() -> None:
    rows = [
        failed("a", "crashed", "rank 1 died", 4),
        failed("a", "ok", None, 5),
        failed("a", "crashed", "rank 1 died", 6),
        failed("a", "crashed", "rank 0 died", 7),
        failed("a", "timeout", "rank 0 died", 8),
    ]
    assert [(r["status"], r["reason"], r["launches"], r["launch_id"], r["log"]) for r in found(rows)] == [
        ("crashed", "rank 1 died", 2, "0004-a", "logs/0004-a"),
        ("crashed", "rank 0 died", 1, "0007-a", "logs/0007-a"),
        ("timeout", "rank 0 died", 1, "0008-a", "logs/0008-a"),
    ]
    assert found(rows)[0] == {
        **{
            "environment": "A",
            "case_id": "a",
            "nproc_per_node": "",
            "work_key": "",
            "code_key": None,
            "status": "crashed",
            "reason": "rank 1 died",
            "launches": 2,
            "run_id": "r",
        },
        **{"launch_id": "0004-a", "log": "logs/0004-a", "command": "bench run a"},
    }


def test_what_was_never_launched_has_no_launch_and_no_log() -> None:
    [row] = found([failed("a", "skipped", "no room", None)] * 3)
    assert (row["launches"], row["launch_id"], row["log"]) == (0, None, None)


def test_each_run_has_its_own_failures_in_the_order_of_the_axes() -> None:
    rows = [
        failed("d", "oom", "no", 0, strategy="fsdp"),
        failed("c", "oom", "no", 1, gpus=10),
        failed("b", "oom", "no", 2),
        failed("b", "oom", "no", 3).but(run_id="s"),
    ]
    assert [(r["case_id"], r["run_id"], r["launches"]) for r in found(rows)] == [
        *(("b", "r", 1), ("b", "s", 1), ("c", "r", 1), ("d", "r", 1)),
    ]


def test_a_failure_without_a_reason_is_a_row_as_well() -> None:
    [row] = found([failed("a", "crashed", None, 0), failed("a", "crashed", None, 1)])
    assert (row["reason"], row["launches"]) == (None, 2)


def test_probes_controls_and_good_launches_are_no_failures() -> None:
    assert (
        found(
            [
                failed("a", "ok", None, 0),
                failed("a", "crashed", "x", 1, role="probe"),
                failed("a", "oom", "x", 2, role="control"),
            ]
        )
        == []
    )


def test_hardware_that_changes_speed_is_the_environments() -> None:
    def of(run_id: str, **facts: str | None) -> LaunchRow:
        return row(run_id, hardware=json.dumps({"cpu_governor": "performance", "kernel": "6.8", **facts}))

    rows = [of("r"), of("s", kernel="6.9"), of("t", cpu_governor="powersave"), of("u", cpu_governor=None)]
    assert letters(*rows) == "AABC"
    [found] = unlike(with_environments(launches(rows)), "A", "B")
    assert found.words() == "cpu_governor: performance in A, powersave in B"


def test_rows_of_versions_without_facts_about_hardware_make_no_environment() -> None:
    rows = [row("old"), *(row(f"r{n}", hardware=json.dumps({"cpu_governor": said})) for n, said in enumerate("xxy"))]
    assert letters(*rows) == "AAAB"
    assert letters(rows[1], row("r", hardware=json.dumps({"cpu_governor": "x", "smt": "on"})), rows[0]) == "AAA"


def test_facts_about_gpus_make_no_environment_on_the_cpu() -> None:
    watts = [json.dumps({"gpu_power_limit_w": said}) for said in ("700", "500")]
    assert letters(*(row(f"r{n}", hardware=facts, device_name="cpu") for n, facts in enumerate(watts))) == "AA"
    assert letters(*(row(f"r{n}", hardware=facts) for n, facts in enumerate(watts))) == "AB"
