"""The key of an environment over several nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.machine.hardware import FACTS
from bench.store.columns import LAUNCHES
from bench.store.env_key import env_key

OTHER = {
    **{"hostname": "n2", "cpu_model": "x", "ram_gib": 503.4, "os": "Linux-6.1", "driver": "550", "gpus": "H100, H100"},
    **{"settings": '{"NCCL_ALGO": "Ring"}', "ranks": 2},
}


def key(*others: dict[str, Any], interface: str = "eth0") -> str:
    row = {"cpu_model": "x", "ram_gib": 503.4, "settings": "{}"}
    return env_key({**row, "node_facts": json.dumps(others), "interface": interface} if others else row)


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": "n9"},
        {"ram_gib": 503.6},
        {"os": "Linux-6.2"},
        {"settings": '{"NCCL_ALGO": "Ring", "CUDA_VISIBLE_DEVICES": "1"}'},
    ],
)
def test_what_is_not_of_the_kind_of_machine_is_not_in_it(change: dict[str, Any]) -> None:
    assert key({**OTHER, **change}) == key(OTHER)


@pytest.mark.parametrize(
    "change",
    [{"cpu_model": "y"}, {"ram_gib": 250.0}, {"driver": "560"}, {"gpus": "A100"}, {"settings": "{}"}, {"ranks": 3}],
)
def test_another_kind_of_node_is_another_key(change: dict[str, Any]) -> None:
    assert key({**OTHER, **change}) != key(OTHER)


def test_the_order_of_nodes_does_not_matter_but_their_number_and_way_do() -> None:
    third = {**OTHER, "driver": "560"}
    assert key(OTHER, third) == key(third, OTHER)
    assert len({key(), key(OTHER), key(OTHER, OTHER), key(OTHER, interface="ib0")}) == 4


HARDWARE = {
    "cpu_governor": "performance",
    "smt": None,
    "kernel": "6.8",
    "gpu_power_limit_w": "700",
    "gpu_ecc_errors": "0",
}


def with_hardware(device: str = "NVIDIA H200", **changes: str | None) -> str:
    return env_key({"torch": "2.14", "device_name": device, "hardware": json.dumps({**HARDWARE, **changes})})


def test_hardware_that_changes_speed_is_in_it() -> None:
    assert with_hardware(cpu_governor="powersave") != with_hardware()
    assert with_hardware(smt="on") != with_hardware()
    assert with_hardware(gpu_power_limit_w="500") != with_hardware()
    assert with_hardware(kernel="6.9", gpu_ecc_errors="3") == with_hardware()


def test_a_launch_on_the_cpu_asks_for_no_gpu() -> None:
    assert with_hardware("cpu", gpu_power_limit_w="500") == with_hardware("cpu")
    assert with_hardware("cpu", cpu_governor="powersave") != with_hardware("cpu")


def test_a_row_without_facts_about_hardware_keeps_its_key() -> None:
    row = {"torch": "2.14", "settings": "{}"}
    assert env_key({**row, "hardware": None}) == env_key({**row, "hardware": "{}"}) == env_key(row)
    old = json.dumps([OTHER])
    assert env_key({**row, "node_facts": old, "hardware": None}) == env_key({**row, "node_facts": old})


def test_hardware_of_other_nodes_is_in_it() -> None:
    one, other = ({**OTHER, "hardware": json.dumps({**HARDWARE, "smt": smt})} for smt in ("on", "off"))
    errors = {**OTHER, "hardware": json.dumps({**HARDWARE, "smt": "on", "gpu_ecc_errors": "9"})}
    assert key(one) == key(errors)
    assert len({key(OTHER), key(one), key(other)}) == 3


def test_facts_have_names_that_no_column_has() -> None:
    """Environments are compared by both together."""
    assert not set(FACTS) & set(LAUNCHES)
