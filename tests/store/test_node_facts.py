"""What differs between the nodes of a run, and between the nodes of two runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.errors import ResultsError
from bench.store.columns import LaunchRow
from bench.store.node_facts import between_nodes, differences_of_nodes

HERE = {"cpu_model": "EPYC", "ram_gib": 755.2, "driver": "550.54", "settings": '{"NCCL_DEBUG": "INFO"}'}


def row(*others: dict[str, Any], **changes: Any) -> LaunchRow:
    return LaunchRow.of({**HERE, "node_facts": json.dumps(others) if others else None, **changes})


def other(hostname: str, **changes: Any) -> dict[str, Any]:
    return {**HERE, "hostname": hostname, "gpus": "", "ranks": 2, **changes}


def test_nodes_of_a_run_are_held_against_node_0() -> None:
    rows = [
        row(),
        row(other("n2", driver="560.1"), other("n3")),
        row(other("n2", driver="560.1", settings="{}", ram_gib=755.4)),  # so little memory is no difference
    ]
    found = between_nodes(rows)
    assert {host: [one.words("on node 0", "there") for one in unlike] for host, unlike in found.items()} == {
        "n2": ["driver: 550.54 on node 0, 560.1 there", "NCCL_DEBUG: INFO on node 0, not set there"]
    }


def test_two_runs_differ_in_their_other_nodes_and_in_where_ranks_were() -> None:
    a = [row(other("n2"), nproc_per_node="2(x2)", interface="eth0")]
    b = [row(other("n2", driver="560.1"), nproc_per_node="3,1", interface="ib0")]
    assert [(one.words(), one.in_env_key) for one in differences_of_nodes(a, b)] == [
        ("nproc_per_node: 2(x2) in A, 3,1 in B", True),
        ("interface: eth0 in A, ib0 in B", True),
        ("driver of other nodes: 550.54 in A, 560.1 in B", True),
    ]
    assert differences_of_nodes(a, a) == differences_of_nodes([row()], [row()]) == []


@pytest.mark.parametrize("cell", ["{", "{}", '["n2"]', "3"])
def test_a_damaged_cell_is_told(cell: str) -> None:
    with pytest.raises(ResultsError, match="column node_facts"):
        between_nodes([row(node_facts=cell, run_id="r", launch_id="l")])


def test_hardware_of_nodes_is_compared_in_what_the_launch_used() -> None:
    here, there = (
        json.dumps({"smt": smt, "gpu_power_limit_w": watts}) for smt, watts in (("on", "700"), ("off", "500"))
    )
    on_cpu, on_gpus = (row(other("n2", hardware=there), hardware=here, device_name=name) for name in ("cpu", "H100"))
    found = [[one.words("on node 0", "there") for one in between_nodes([of])["n2"]] for of in (on_cpu, on_gpus)]
    assert found[0] == ["smt: on on node 0, off there"]
    assert found[1] == [*found[0], "gpu_power_limit_w: 700 on node 0, 500 there"]
    equal = row(other("n2", hardware=here), hardware=here, device_name="H100")
    assert [one.words() for one in differences_of_nodes([equal], [on_gpus])] == [
        "smt of other nodes: on in A, off in B",
        "gpu_power_limit_w of other nodes: 700 in A, 500 in B",
    ]


@pytest.mark.parametrize("damaged", ["{", 3, {"smt": "on"}])
def test_damaged_hardware_of_a_node_is_told(damaged: object) -> None:
    with pytest.raises(ResultsError, match="column hardware"):
        between_nodes([row(other("n2", hardware=damaged), hardware='{"smt": "on"}')])
