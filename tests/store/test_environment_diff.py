"""What differs between the environments of two runs, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.errors import ResultsError
from bench.store.columns import ENVIRONMENT, LaunchRow
from bench.store.env_key import ENV_KEY_COLUMNS, MEASURED_BY
from bench.store.environment_diff import COLUMNS, Difference, between, differences

ROW = LaunchRow(
    run_id="r",
    launch_id="l",
    hostname="node1",
    cpu_cores=96,
    ram_gib=755.2,
    torch="2.11.0",
    driver="550.54",
    work_dirty=False,
    settings='{"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"}',
    work_key="a",
    env_key="b",
    command="bench run --steps 3",
    samples_per_s=711.0,
)


def row(**changes: Any) -> LaunchRow:
    return ROW.but(**changes)


def words(found: list[Difference]) -> list[str]:
    return [difference.words() for difference in found]


def test_what_enters_env_key_comes_first_then_what_is_merely_noted() -> None:
    a = [row()]
    b = [row(torch="2.15.0", hostname="node2", work_dirty=True, settings='{"OMP_NUM_THREADS": "1"}', ram_gib=775.3)]
    found = differences(a, b)
    assert found == [
        Difference("ram_gib", ("755.2",), ("775.3",), True),
        Difference("torch", ("2.11.0",), ("2.15.0",), True),
        Difference("NCCL_DEBUG", ("INFO",), (None,), True),
        Difference("hostname", ("node1",), ("node2",), False),
        Difference("work_dirty", ("false",), ("true",), False),
    ]
    assert words(found) == [
        "ram_gib: 755.2 in A, 775.3 in B",
        "torch: 2.11.0 in A, 2.15.0 in B",
        "NCCL_DEBUG: INFO in A, not set in B",
        "hostname: node1 in A, node2 in B",
        "work_dirty: false in A, true in B",
    ]


def test_columns_are_all_of_the_environment_but_keys_and_what_is_no_property_of_it() -> None:
    none = {"work_key", "env_key", "code_changed", "command", "sources", "device_uuids"}
    assert set(COLUMNS) == set(ENVIRONMENT) - none | set(MEASURED_BY)
    assert {"launcher", "warmup_steps", "steps", "min_seconds"} <= set(MEASURED_BY)
    assert not {"launches", "timeout", "hang_timeout", "order_seed", "budget"} & set(MEASURED_BY)
    assert len(COLUMNS) == len(set(COLUMNS))
    assert COLUMNS[: len(ENV_KEY_COLUMNS) + 2] == (*ENV_KEY_COLUMNS, "settings", "hardware")


def test_keys_the_command_and_what_was_measured_are_no_environment() -> None:
    assert differences([row()], [row(work_key="x", env_key="y", command="z", samples_per_s=1.0, case_id="c")]) == []


def test_several_values_of_a_run_in_any_order() -> None:
    one, two, four = (row(settings=json.dumps({"OMP_NUM_THREADS": n})) for n in "124")
    assert differences([one, two, one], [two, one]) == []
    assert words(differences([one, two], [one, four])) == ["OMP_NUM_THREADS: 1 and 2 in A, 1 and 4 in B"]
    assert words(differences([one], [one, row(settings="{}")])) == ["OMP_NUM_THREADS: 1 in A, 1 and not set in B"]


def test_an_empty_cell_counts_only_where_all_are_empty() -> None:
    assert differences([row(), row(torch=None)], [row()]) == []
    assert words(differences([row(torch=None)], [row(), row(torch=None)])) == ["torch: empty in A, 2.11.0 in B"]
    assert differences([row(torch=None)], [row(torch="")]) == []  # as it was written, and as it will be


def test_variables_added_removed_and_changed() -> None:
    a = '{"GONE": "x", "KEPT": "1", "MADE_EMPTY": "y", "NCCL_ALGO": "Ring"}'
    b = '{"KEPT": "1", "MADE_EMPTY": "", "NCCL_ALGO": "Tree", "NEW": "two\\nlines"}'
    assert words(between(row(settings=a).columns(), row(settings=b).columns(), ["settings"])) == [
        "GONE: x in A, not set in B",
        "MADE_EMPTY: y in A, empty in B",
        "NCCL_ALGO: Ring in A, Tree in B",
        r"NEW: not set in A, 'two\nlines' in B",
    ]


def test_which_devices_are_visible_is_noted_as_env_key_leaves_it_out() -> None:
    a, b = ('{"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1"}', '{"OMP_NUM_THREADS": "2"}')
    assert between(row(settings=a).columns(), row(settings=b).columns(), ["settings"]) == [
        Difference("OMP_NUM_THREADS", ("1",), ("2",), True),
        Difference("CUDA_VISIBLE_DEVICES", ("0",), (None,), False),
    ]


def test_settings_that_nobody_recorded_are_not_taken_for_none() -> None:
    assert words(differences([row(settings=None)], [row(settings='{"A": "1"}')])) == [
        'settings: empty in A, {"A": "1"} in B'
    ]
    assert differences([row(settings=None)], [row(settings=None)]) == []
    assert differences([row(settings=None), row()], [row()]) == []


def test_single_rows_are_compared_by_the_columns_asked_for() -> None:
    before = row(samples_per_s=1.0, gpus=2).columns()
    now = row(torch="2.15.0", driver=None, samples_per_s=2.0, gpus=4).columns()
    assert [d.words("when it began", "now") for d in between(before, now, ["gpus", "torch"])] == [
        "torch: 2.11.0 when it began, 2.15.0 now",
        "gpus: 2 when it began, 4 now",
    ]
    assert words(between(before, now, ["driver", "hostname"])) == ["driver: 550.54 in A, empty in B"]
    assert between(before, now, []) == []


def test_a_number_is_the_same_before_and_after_it_was_written() -> None:
    # ten digits in a file
    assert between(row(ram_gib=23.123456789012).columns(), row(ram_gib=23.12345679).columns(), ["ram_gib"]) == []
    assert between(row(cpu_cores=4).columns(), row(cpu_cores=4.0).columns(), ["cpu_cores"]) == []
    assert between({}, {"ram_gib": 0.0}, ["ram_gib"]) == [Difference("ram_gib", ("",), ("0",), True)]


@pytest.mark.parametrize("settings", ['{"A": ', "[]", "3"])
def test_settings_that_are_no_json_are_told(settings: str) -> None:
    with pytest.raises(ResultsError) as error:
        differences([row()], [row(settings=settings)])
    assert (error.value.option, error.value.given) == ("launch l of run r, column settings", settings)
    assert (error.value.allowed, error.value.hint) == ("a JSON object", "Restore the file from a copy.")


def test_another_kernel_may_leave_a_little_less_memory() -> None:
    [difference] = differences([row(ram_gib=755.2)], [row(ram_gib=755.0)])
    assert (difference.name, difference.in_env_key) == ("ram_gib", False)


def test_rows_that_do_not_know_their_processors_are_of_no_other_environment() -> None:
    [difference] = differences([row()], [row(cpus_allowed=192)])
    assert (difference.words(), difference.in_env_key) == ("cpus_allowed: empty in A, 192 in B", False)
    [difference] = differences([row(cpus_allowed=8)], [row(cpus_allowed=192)])
    assert difference.in_env_key


def hardware(**facts: str | None) -> str:
    return json.dumps(facts)


def test_hardware_is_compared_fact_by_fact() -> None:
    a = row(hardware=hardware(cpu_governor="performance", kernel="6.8", smt="on", cpu_turbo=None))
    b = row(hardware=hardware(cpu_governor="powersave", kernel="6.9", smt="on", cpu_turbo="on"))
    assert [(one.words(), one.in_env_key) for one in differences([a], [b])] == [
        ("cpu_governor: performance in A, powersave in B", True),
        ("cpu_turbo: empty in A, on in B", True),
        ("kernel: 6.8 in A, 6.9 in B", False),
    ]
    assert words(differences([a, b], [b])) == [
        "cpu_governor: performance and powersave in A, powersave in B",
        "cpu_turbo: empty and on in A, on in B",
        "kernel: 6.8 and 6.9 in A, 6.9 in B",
    ]


def test_facts_that_a_version_did_not_record_are_no_difference() -> None:
    new = row(hardware=hardware(cpu_governor="performance", smt="on"))
    assert differences([row()], [new]) == []
    assert differences([row(hardware=hardware(smt="on"))], [new]) == []


def test_facts_about_gpus_do_not_matter_on_the_cpu() -> None:
    a, b = (row(hardware=hardware(gpu_power_limit_w=watts), device_name="cpu") for watts in ("700", "500"))
    assert differences([a], [b]) == []
    [found] = differences([a.but(device_name="NVIDIA H200")], [b.but(device_name="NVIDIA H200")])
    assert found.words() == "gpu_power_limit_w: 700 in A, 500 in B"


@pytest.mark.parametrize("cell", ["{", "[]", '{"smt": 1}'])
def test_hardware_that_is_no_json_object_of_texts_is_told(cell: str) -> None:
    with pytest.raises(ResultsError) as error:
        differences([row()], [row(hardware=cell)])
    assert (error.value.option, error.value.given) == ("launch l of run r, column hardware", cell)
    assert error.value.allowed == "a JSON object of texts"
