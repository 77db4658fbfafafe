"""How a node finds the others: by options, and by the variables of torchrun, Slurm and Kubeflow."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import UsageError
from bench.nodes.options import nodes_asked

GIVEN = {"nnodes": "2", "node_rank": "1", "rdzv_endpoint": "node0:29400"}
SECRET = {"STEPBENCH_TOKEN": "s"}


def test_options_and_their_defaults() -> None:
    found = nodes_asked(GIVEN, SECRET)
    assert found is not None
    assert (found.nnodes, found.node_rank, found.endpoint, found.places, found.join_s) == (
        2,
        1,
        ("node0", 29400),
        0,
        60.0,
    )
    assert not found.is_head
    more = nodes_asked({**GIVEN, "node_rank": "0", "nproc_per_node": "8", "join_timeout": "5"}, SECRET)
    assert more is not None
    assert (more.is_head, more.places, more.join_s, more.ports) == (True, 8, 5.0, (0, 0))
    ranged = nodes_asked({**GIVEN, "port_range": "40000-40999"}, SECRET)
    assert ranged is not None
    assert ranged.ports == (40000, 40999)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PET_NNODES": "3", "PET_NODE_RANK": "2", "PET_RDZV_ENDPOINT": "a:1"}, (3, 2, ("a", 1), 0)),
        (
            {"PET_NNODES": "2", "PET_NODE_RANK": "0", "MASTER_ADDR": "m", "PET_NPROC_PER_NODE": "4"},
            (2, 0, ("m", 29500), 4),
        ),
        (
            {"SLURM_STEP_NUM_NODES": "4", "SLURM_NODEID": "3", "MASTER_ADDR": "n1", "MASTER_PORT": "77"},
            (4, 3, ("n1", 77), 0),
        ),
        ({"PET_NNODES": "2", "NODE_RANK": "1", "PET_RDZV_ENDPOINT": "[fd00::1]:5"}, (2, 1, ("fd00::1", 5), 0)),
    ],
)
def test_variables(variables: dict[str, str], expected: tuple[Any, ...]) -> None:
    found = nodes_asked({}, {**variables, **SECRET})
    assert found is not None
    assert (found.nnodes, found.node_rank, found.endpoint, found.places) == expected


def test_an_option_is_stronger_than_a_variable() -> None:
    found = nodes_asked(GIVEN, {"PET_NNODES": "5", "SLURM_NODEID": "4", **SECRET})
    assert found is not None
    assert (found.nnodes, found.node_rank) == (2, 1)


def test_what_kubeflow_sets() -> None:
    """Also on one node, where it says nothing that matters here."""
    one = {"PET_NNODES": "1", "PET_NPROC_PER_NODE": "auto", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "job-0"}
    assert nodes_asked({}, one) is None
    two = {**one, **SECRET, "PET_NNODES": "2:2", "PET_MASTER_PORT": "3"}
    found = nodes_asked({}, two)
    assert found is not None
    assert (found.nnodes, found.node_rank, found.endpoint, found.places) == (2, 0, ("job-0", 3), 0)
    with pytest.raises(UsageError, match="PET_NNODES: got '1:3'"):
        nodes_asked({}, {**one, "PET_NNODES": "1:3"})


def test_one_node_is_none() -> None:
    assert nodes_asked({}, {}) is None
    assert nodes_asked({"nnodes": "1"}, {"SLURM_STEP_NUM_NODES": "4"}) is None
    in_the_shell_of_an_allocation = {"SLURM_NNODES": "4", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
    assert nodes_asked({}, in_the_shell_of_an_allocation) is None


@pytest.mark.parametrize(
    ("change", "variables", "said"),
    [
        ({"node_rank": None}, SECRET, "--node-rank: got 'nothing'; allowed: a whole number from 0 to 1"),
        ({"node_rank": "2"}, SECRET, "--node-rank: got '2'"),
        ({"nnodes": "two"}, SECRET, "--nnodes: got 'two'"),
        ({"nnodes": "9" * 40}, SECRET, "--nnodes: got '999"),
        ({"rdzv_endpoint": None}, SECRET, "--rdzv-endpoint: got 'nothing'; allowed: HOST:PORT"),
        ({"rdzv_endpoint": "node0:99999"}, SECRET, "--rdzv-endpoint: got 'node0:99999'"),
        ({"rdzv_endpoint": "a b:1"}, SECRET, "--rdzv-endpoint: got 'a b:1'"),
        ({"rdzv_endpoint": ":1"}, SECRET, "--rdzv-endpoint: got ':1'"),
        ({"nproc_per_node": "0"}, SECRET, "--nproc-per-node: got '0'"),
        ({"port_range": "41000-40000"}, SECRET, "--port-range: got '41000-40000'; allowed: FIRST-LAST"),
        ({"port_range": "0-9"}, SECRET, "--port-range: got '0-9'"),
        ({"port_range": "1-2-3"}, SECRET, "--port-range: got '1-2-3'"),
        ({"port_range": "40000"}, SECRET, "--port-range: got '40000'"),
        ({"port_range": "1-65536"}, SECRET, "--port-range: got '1-65536'"),
        ({"join_timeout": "-1"}, SECRET, "--join-timeout: got '-1'"),
        ({"rdzv_endpoint": "10.0.0.1:29500"}, {}, "STEPBENCH_TOKEN is not set, without which any process"),
        ({"nnodes": "1"}, SECRET, "--node-rank has no effect with one node"),
    ],
)
def test_what_is_not_allowed(change: dict[str, Any], variables: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        nodes_asked({**GIVEN, **change}, variables)
    assert said in str(raised.value)


def test_nodes_on_this_host_need_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert nodes_asked({**GIVEN, "rdzv_endpoint": f"{host}:1234"}, {}) is not None
