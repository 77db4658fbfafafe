"""Warnings over several nodes: whose machine they are of, and which cases they are about."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from plain_case import PLAIN

from bench.errors import BenchError
from bench.machine.gpus import Machine
from bench.machine.preflight import GpuLook, Look, run_warnings
from bench.plan.case import Case
from bench.runner.batch_size import Probes
from bench.runner.machine_survey import Survey
from bench.runner.machine_warnings import ranks_here

BUSY = Look(
    processors=4,
    cpu_quota=2.5,
    busy_processors=2.0,
    busiest=(("make", 1.5), ("cc1plus", 0.5)),
    gpus=(GpuLook(0, "GPU-b", math.nan, 5.0, ((11, 2.5), (12, None))),),
    variables={"MKL_NUM_THREADS": "8"},
)
OTHERS = "other programs keep 2.0 of 4 processors busy, mostly make (1.5) and cc1plus (0.5)"


def answer(look: Look = BUSY, **changed: Any) -> dict[str, Any]:
    """Return the answer of a follower as it comes over the channel."""
    values = {"look": {**dataclasses.asdict(look), **changed}, "note": "NVML cannot be used"}
    return dict(json.loads(json.dumps(values)))


def ranks(number: int) -> Case:
    return dataclasses.replace(PLAIN, strategy="ddp", gpus=number, device="cpu")


def over_two_nodes(look: Look = BUSY) -> Survey:
    """Return the survey of two nodes of 2 ranks each; the second one is as it was found."""
    far = Survey.received(answer(look))
    far = dataclasses.replace(far, look=dataclasses.replace(far.look, node=1, places=(2, 2)))
    here = Look(processors=4, places=(2, 2))
    return Survey(Machine(), here, ("the disk is full",), {"node 1 (n2)": far})


def test_what_a_follower_found_is_read_as_it_was() -> None:
    found = Survey.received(answer())
    assert repr(found.look) == repr(BUSY)  # nan is unlike itself
    assert (found.machine, found.warnings) == (Machine(note="NVML cannot be used"), tuple(run_warnings(BUSY)))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"processors": "many"}, "has a str as processors"),
        ({"busy_processors": math.inf}, "has inf as busy_processors"),
        ({"busiest": [["make"]]}, "has a list as busiest[0]"),
        ({"busiest": [["make", "much"]]}, "has a str as busiest[0]"),
        ({"variables": {"OMP_DYNAMIC": 1}}, "has 1 as variables['OMP_DYNAMIC']"),
        ({"temperature": 4}, "has a field 'temperature', which is unknown"),
    ],
)
def test_what_it_cannot_have_found_is_not_believed(changed: dict[str, Any], why: str) -> None:
    found = Survey.received(answer(**changed))
    assert (found.look, found.warnings) == (Look(), (f"how it was found is not known: its answer {why}",))


def test_ranks_fill_one_node_after_the_other() -> None:
    looks = [Look(node=node, places=(2, 3, 2)) for node in range(3)]
    assert [[ranks_here(ranks(number), look) for look in looks] for number in (1, 2, 4, 7, 8)] == [
        [1, 0, 0],
        [2, 0, 0],
        [2, 2, 0],
        [2, 3, 2],
        [0, 0, 0],  # they do not fit
    ]
    evenly = dataclasses.replace(ranks(3), placement="even")
    assert [ranks_here(evenly, look) for look in looks] == [1, 1, 1]
    assert ranks_here(ranks(4), Look()) == 4


def test_notes_before_the_run_name_the_node() -> None:
    disk, note, gpu, others = over_two_nodes().notes()
    assert (disk, note) == ("the disk is full", "node 1 (n2): NVML cannot be used")
    assert gpu.startswith("node 1 (n2): GPU 0 (GPU-b) is in use already: processes 11 (2 MiB) and 12 compute")
    assert others.startswith(f"node 1 (n2): {OTHERS}")


def test_a_case_is_warned_of_the_nodes_that_it_uses() -> None:
    survey = over_two_nodes()
    assert survey.of_case(ranks(2)) == []
    found = survey.of_case(ranks(4))
    assert found[1].startswith(f"node 1 (n2): {OTHERS}")
    assert [text for text in found if "--omp-num-threads" in text] == [
        "node 1 (n2): --omp-num-threads 1 may have no effect: MKL_NUM_THREADS=8 overrides it if PyTorch uses MKL; "
        "unset the variables that you do not need"
    ]
    threads = survey.of_case(dataclasses.replace(ranks(3), omp_num_threads=5))
    assert threads[0].startswith("2 ranks x 5 OMP threads = 10 threads on 4 processors")
    there = "node 1 (n2): 1 rank x 5 OMP threads = 5 threads on 3 processors (a CPU quota of 2.5)"
    assert [text.startswith(there) for text in threads].count(True) == 1


def test_a_strict_run_is_refused_for_another_node() -> None:
    survey = dataclasses.replace(over_two_nodes(), warnings=())
    survey.refuse([ranks(2)])
    with pytest.raises(BenchError, match=r"- node 1 \(n2\): other programs keep"):
        survey.refuse([ranks(2), ranks(4)])


@pytest.mark.parametrize(("there_mib", "fits"), [(2000.0, True), (1999.0, False), (None, True)])
def test_a_batch_must_fit_into_the_memory_of_each_node(there_mib: float | None, fits: bool) -> None:
    """A batch of 8 took 400 MiB a rank: one of 16 takes 800, 80 % of what each of 2 ranks has of 2,000 MiB."""
    here = Look(places=(2, 2), memory_available_mib=9000.0)
    there = Look(node=1, places=(2, 2), memory_available_mib=there_mib)
    probes = Probes(ranks(4), lambda case: None, (here, there), {8: 400.0})  # type: ignore[arg-type,return-value]
    assert probes._too_much(16) is not fits
    assert not Probes(ranks(2), lambda case: None, (here, there), {8: 400.0})._too_much(16)  # type: ignore[arg-type,return-value]
