"""The key of an environment over several nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
