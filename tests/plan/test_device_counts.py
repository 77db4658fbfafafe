"""How many devices a matrix asks for, what strong scaling makes of their batch, and which machine a matrix is for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from plain_case import PLAIN

from bench.errors import UsageError
from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.device_counts import with_global_batch_of
from bench.plan.options import SELECTORS
from bench.plan.plan import Plan, asked, command, make_plan
from bench.plan.suite_file import read_suite, suites
from bench.store.plan_file import asked_of, plan_json

LAPTOP = Machine()
H100 = Gpu("GPU-0", "NVIDIA H100 80GB HBM3", 81559.0, (9, 0))
NODE = Machine(tuple(dataclasses.replace(H100, uuid=f"GPU-{n}") for n in range(6)), "550.54")

NO_GPU = (
    "Add --device cpu --gpus 2 for ranks on its processors, and take a workload that a processor can train, such as "
    "--workload gpt-nano or resnet18:size=64."
)


def plan(machine: Machine = LAPTOP, suite: str | None = None, **axes: str) -> Plan:
    base = read_suite(suite) if suite else None
    return make_plan(asked({name: [text] for name, text in axes.items()}, {}, base), machine)


def gpus(machine: Machine, **axes: str) -> list[tuple[str, int]]:
    return [(planned.case.device, planned.case.gpus) for planned in plan(machine, workload="mlp", **axes).cases]


def batches(found: Plan) -> list[tuple[int, int | None]]:
    return [(planned.case.gpus, planned.case.batch_size) for planned in found.cases]


def refusal(machine: Machine = LAPTOP, suite: str | None = None, **axes: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        plan(machine, suite, **axes)
    return raised.value


# -- how many ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("1..1", [1]),
        ("1..2", [1, 2]),
        ("1..6", [1, 2, 4, 6]),
        ("1..all", [1, 2, 4, 6]),
        ("1..4", [1, 2, 4]),
        ("1..5", [1, 2, 4, 5]),
        ("all", [6]),
        ("3,1..4,all", [3, 1, 2, 4, 6]),
    ],
)
def test_words_for_numbers_of_gpus(words: str, numbers: list[int]) -> None:
    assert gpus(NODE, gpus=words) == [("cuda", number) for number in numbers]


def test_all_is_two_ranks_where_there_is_no_gpu() -> None:
    assert gpus(LAPTOP, gpus="all") == gpus(LAPTOP) == [("cpu", 2)]
    assert gpus(LAPTOP, gpus="1..all") == [("cpu", 1), ("cpu", 2)]
    assert gpus(NODE, gpus="1..all", device="cpu") == [("cpu", 1), ("cpu", 2)]
    assert gpus(LAPTOP, gpus="1..8", device="cpu") == [("cpu", n) for n in (1, 2, 4, 8)]


def test_each_device_has_its_own_all() -> None:
    found = gpus(NODE, gpus="2,all", device="cpu,cuda")
    assert found == [("cpu", 2), ("cuda", 2), ("cuda", 6)]


@pytest.mark.parametrize(
    "axes", [{"gpus": "1..4"}, {"gpus": "all", "device": "cuda"}, {"gpus": "1..all", "device": "cuda"}]
)
def test_gpus_that_are_not_there(axes: dict[str, str]) -> None:
    error = refusal(LAPTOP, **axes)
    assert (error.option, error.hint) == ("--device", NO_GPU)


@pytest.mark.parametrize("text", ["1..", "1..0", "2..4", "1..x", "..4", "1...4", "some", "1..1..2", "ALL", "1..-2"])
def test_what_is_no_number_of_gpus(text: str) -> None:
    error = refusal(gpus=text)
    assert (error.option, error.given) == ("--gpus", text)
    assert error.allowed == "a whole number from 1, all, 1..N, 1..all"


def test_one_number_written_in_two_ways_is_one_case() -> None:
    assert gpus(NODE, gpus="1..04,4") == [("cuda", 1), ("cuda", 2), ("cuda", 4)]


# -- scaling ----------------------------------------------------------------------------------------------------


def test_weak_scaling_is_what_is_without_it() -> None:
    axes = {"workload": "mlp", "gpus": "1,2,4", "device": "cpu", "batch_size": "8"}
    assert plan(**axes, scaling="weak").cases == plan(**axes).cases


def test_strong_scaling_shares_out_the_global_batch_of_the_smallest() -> None:
    axes = {"workload": "mlp", "device": "cpu", "scaling": "strong"}
    assert batches(plan(**axes, gpus="1..4")) == [(1, 64), (2, 32), (4, 16)]  # 64 is the workload's own
    assert batches(plan(**axes, gpus="4,2,8", batch_size="24")) == [(4, 12), (2, 24), (8, 6)]
    assert {p.case.global_batch for p in plan(**axes, gpus="4,2,8", batch_size="24").cases} == {48}
    assert batches(plan(**axes, gpus="2,1", batch_size="8,6")) == [(2, 4), (2, 3), (1, 8), (1, 6)]


def test_weak_and_strong_share_their_base() -> None:
    found = plan(workload="mlp", device="cpu", gpus="1..4", scaling="weak,strong", batch_size="8")
    assert batches(found) == [(1, 8), (2, 8), (4, 8), (2, 4), (4, 2)]
    assert len({planned.case.case_id for planned in found.cases}) == 5


def test_a_case_of_strong_scaling_is_an_ordinary_case() -> None:
    both = plan(workload="mlp", device="cpu", gpus="1,2", scaling="strong").cases
    plainly = [
        *plan(workload="mlp", device="cpu", gpus="1").cases,
        *plan(workload="mlp", gpus="2", device="cpu", batch_size="32").cases,
    ]
    assert both == tuple(plainly)
    again = "bench run --workload mlp --strategy ddp --gpus 2 --device cpu --batch-size 32"
    assert command(both[1].case, plan().protocol) == again


def test_accumulation_and_single_under_strong_scaling() -> None:
    """single has one device whatever was asked, so that it trains the whole global batch on it."""
    found = plan(
        workload="mlp",
        device="cpu",
        strategy="single,ddp",
        gpus="2,4",
        batch_size="8",
        grad_accum_steps="3",
        scaling="strong",
    )
    assert [(p.case.strategy, p.case.gpus, p.case.batch_size, p.case.global_batch) for p in found.cases] == [
        ("single", 1, 16, 48),
        ("ddp", 2, 8, 48),
        ("ddp", 4, 4, 48),
    ]


def test_each_device_has_its_own_base() -> None:
    found = plan(NODE, workload="mlp", device="cuda,cpu", gpus="2,all,1..4", batch_size="12", scaling="strong")
    assert [(p.case.device, p.case.gpus, p.case.batch_size) for p in found.cases] == [
        ("cuda", 2, 6),
        ("cpu", 2, 6),
        ("cuda", 6, 2),
        ("cuda", 1, 12),
        ("cuda", 4, 3),
        ("cpu", 1, 12),
        ("cpu", 4, 3),
    ]


UNEVEN = "strong scaling keeps the 6 x 1 = 6 samples of 1 device, and they do not divide evenly over 4; give another --batch-size or other --gpus"


def test_a_batch_that_cannot_be_shared_out_is_skipped_with_the_numbers() -> None:
    found = plan(workload="mlp", device="cpu", gpus="1..4", batch_size="6", scaling="weak,strong").cases
    assert [(p.case.gpus, p.case.batch_size, p.skip) for p in found] == [
        (1, 6, None),
        (2, 6, None),
        (4, 6, None),
        (2, 3, None),
        (4, None, UNEVEN),
    ]
    assert len({p.case.case_id for p in found}) == 5
    [*_, more] = plan(workload="mlp", device="cpu", gpus="2,8", batch_size="1", scaling="strong").cases
    assert more.skip is not None
    assert more.skip.startswith(
        "strong scaling keeps the 1 x 2 = 2 samples of 2 devices, and they do not divide evenly over 8;"
    )


def test_batches_that_cannot_be_shared_out_are_one_case_with_all_their_reasons() -> None:
    """4 and 8 samples over 3 devices: no case of 3 has a batch, so that both are the same one."""
    found = plan(workload="gpt-nano", device="cpu", gpus="1,3", batch_size="4,8,6", scaling="strong").cases
    uneven = UNEVEN.replace("over 4", "over 3")
    assert [(p.case.gpus, p.case.batch_size, p.skip) for p in found] == [
        (1, 4, None),
        (1, 8, None),
        (1, 6, None),
        (3, None, f"{uneven.replace('6', '4')}; {uneven.replace('6', '8')}"),
        (3, 2, None),
    ]
    assert len({p.case.case_id for p in found}) == 5


def test_strong_scaling_by_hand() -> None:
    case = dataclasses.replace(PLAIN, gpus=3, batch_size=4)
    assert with_global_batch_of(case, 6) == (
        dataclasses.replace(case, batch_size=8),
        None,
    )  # 24 samples, 8 for each of 3
    left, reason = with_global_batch_of(case, 1)
    assert (left.batch_size, reason is None) == (None, False)


def test_the_batch_of_a_users_own_workload_is_not_known_yet() -> None:
    found = plan(workload="net:Net", device="cpu", gpus="1,2", scaling="weak,strong").cases
    assert [(p.case.gpus, p.case.batch_size, p.strong_from) for p in found] == [
        (1, None, None),
        (2, None, None),
        (2, None, 1),
    ]
    given = plan(workload="net:Net", device="cpu", gpus="1,2", scaling="weak,strong", batch_size="4").cases
    assert [(p.case.gpus, p.case.batch_size, p.strong_from) for p in given] == [
        (1, 4, None),
        (2, 4, None),
        (2, 2, None),
    ]


def test_a_refused_case_of_unknown_batch_is_one_case() -> None:
    found = plan(workload="net:Net", device="cpu", precision="tf32", gpus="1,2", scaling="weak,strong").cases
    assert [(p.case.gpus, p.skip is None, p.strong_from) for p in found] == [(1, False, None), (2, False, None)]


@pytest.mark.parametrize("words", ["weak", "strong", "weak,strong"])
def test_scaling_without_a_batch_or_anything_to_scale(words: str) -> None:
    error = refusal(gpus="1..4", device="cpu", batch_size="auto", scaling=words)
    assert (error.option, error.given) == ("--batch-size", "auto")
    for axes in ({}, {"gpus": "2"}, {"gpus": "all"}, {"gpus": "2,2"}, {"gpus": "1..1"}, {"gpus": "1,1..1"}):
        error = refusal(device="cpu", scaling=words, **axes)
        assert (error.option, error.hint) == (
            "--scaling",
            "Add --gpus 1..all (or 1,2,4), or leave --scaling out.",
        )


@pytest.mark.parametrize("numbers", ["1..all", "1,all", "2,all", "1..2"])
def test_there_may_be_several_numbers_on_another_machine(numbers: str) -> None:
    two = Machine(NODE.gpus[:2])
    assert plan(two, gpus=numbers, scaling="weak").cases == plan(two, gpus=numbers).cases


def test_a_suites_own_scaling_may_have_no_effect_where_the_numbers_are_given() -> None:
    found = plan(LAPTOP, "scaling", gpus="2", device="cpu")
    assert batches(found) == [(2, 8), (2, 8)]  # ddp and fsdp
    assert refusal(LAPTOP, "scaling", gpus="2", device="cpu", scaling="strong").option == "--scaling"


def test_scaling_that_is_not_known() -> None:
    error = refusal(scaling="weekly")
    assert (error.option, error.given, error.allowed) == ("--scaling", "weekly", "weak, strong")
    assert error.hint == "Did you mean 'weak'?"
    assert set(SELECTORS) == {"scaling", "machine"}
    assert not {field.name for field in dataclasses.fields(Case)} & set(SELECTORS)


def test_what_was_asked_is_read_back_from_the_plans_file() -> None:
    made = plan(workload="mlp", device="cpu", gpus="1..all", scaling="weak,strong")
    read = asked_of(json.loads(json.dumps(plan_json(made))))
    assert read == made.asked
    assert make_plan(read, LAPTOP) == made


# -- machine ----------------------------------------------------------------------------------------------------


BOTH = """
[[matrix]]
machine = "gpu"
workload = "gpt-124m"

[[matrix]]
machine = "cpu"
workload = "gpt-nano"

[[matrix]]
workload = "mlp"
"""


@pytest.mark.parametrize(
    ("machine", "axes", "found"),
    [
        (LAPTOP, {}, [("gpt-nano", "cpu"), ("mlp", "cpu")]),
        (NODE, {}, [("gpt-124m", "cuda"), ("mlp", "cuda")]),
        (NODE, {"device": "cpu"}, [("gpt-nano", "cpu"), ("mlp", "cpu")]),
        (NODE, {"device": "cuda,cpu"}, [("gpt-124m", "cuda"), ("gpt-nano", "cpu"), ("mlp", "cuda"), ("mlp", "cpu")]),
        (LAPTOP, {"workload": "dlrm"}, [("dlrm", "cpu")]),
        (LAPTOP, {"gpus": "2", "device": "cpu"}, [("gpt-nano", "cpu"), ("mlp", "cpu")]),
        (LAPTOP, {"device": "auto,cpu"}, [("gpt-nano", "cpu"), ("mlp", "cpu")]),
    ],
)
def test_a_matrix_is_for_one_kind_of_machine(
    suite: Any, machine: Machine, axes: dict[str, str], found: list[tuple[str, str]]
) -> None:
    made = plan(machine, suite(BOTH), **axes).cases
    assert [(planned.case.workload, planned.case.device) for planned in made] == found


def test_a_number_of_gpus_counts_ranks_in_a_matrix_for_machines_without(suite: Any) -> None:
    file = suite('[[matrix]]\nmachine = "gpu"\ngpus = 4\n[[matrix]]\nmachine = "cpu"\nworkload = "mlp"\ngpus = 3\n')
    for axes, numbers in (({}, [3]), ({"gpus": "1,2"}, [1, 2]), ({"gpus": "1..4"}, [1, 2, 4])):
        made = plan(LAPTOP, file, **axes).cases
        assert [(p.case.workload, p.case.device, p.case.gpus) for p in made] == [("mlp", "cpu", n) for n in numbers]
    assert [(p.case.device, p.case.gpus) for p in plan(NODE, file).cases] == [("cuda", 4)]
    assert refusal(LAPTOP, file, device="cuda").hint == NO_GPU


def test_a_device_in_the_matrix_decides(suite: Any) -> None:
    text = (
        '[[matrix]]\nmachine = "cpu"\ndevice = "cpu"\nworkload = "mlp"\n[[matrix]]\nmachine = "gpu"\ndevice = "cpu"\n'
    )
    assert [p.case.workload for p in plan(NODE, suite(text)).cases] == ["mlp"]


def test_a_suite_of_which_nothing_is_left(suite: Any) -> None:
    file = suite('[[matrix]]\nmachine = "gpu"\nworkload = "mlp"\n')
    for error in (refusal(LAPTOP, file), refusal(NODE, file, device="cpu")):
        assert (error.option, error.given) == ("machine", ["gpu"])
        assert error.hint == "Add a [[matrix]] for this machine, or choose another --device."
    assert refusal(NODE, suite('[[matrix]]\nmachine = "cpu"\n')).given == ["cpu"]


def test_machine_that_is_not_known(suite: Any) -> None:
    with pytest.raises(UsageError) as raised:
        read_suite(suite('[[matrix]]\nmachine = "tpu"\n'))
    assert (raised.value.option, raised.value.given) == ("mine.toml: matrix[0].machine", "tpu")
    assert (raised.value.allowed, raised.value.hint) == ("gpu, cpu", "Did you mean 'gpu' or 'cpu'?")


# -- the built-in suites ----------------------------------------------------------------------------------------


EIGHT = Machine(tuple(dataclasses.replace(H100, uuid=f"GPU-{n}") for n in range(8)), "550.54")


@pytest.mark.parametrize("machine", [LAPTOP, EIGHT, Machine((H100,), "550.54")])
@pytest.mark.parametrize("name", suites())
def test_a_built_in_suite_runs_on_every_machine(name: str, machine: Machine) -> None:
    made = plan(machine, name)
    ran = [planned.case for planned in made.cases if planned.skip is None]
    assert {case.device for case in ran} == {"cuda" if machine.gpus else "cpu"}
    of_gpus = ("TF32 is a mode of", "nn.DataParallel copies", "GradScaler copies its scale")
    assert [p.skip for p in made.cases if p.skip and not p.skip.startswith(of_gpus)] == []
    assert plan(machine, name, workload="mlp", data="synthetic").cases


def test_the_suite_of_scaling_has_weak_and_strong_of_every_strategy() -> None:
    found = plan(LAPTOP, "scaling").cases
    assert [(p.case.strategy, p.case.gpus, p.case.batch_size) for p in found] == [
        *[("ddp", 1, 8), ("ddp", 2, 8), ("fsdp", 1, 8), ("fsdp", 2, 8)],
        *[("ddp", 2, 4), ("fsdp", 2, 4)],
    ]


def test_six_gpus_have_no_strong_scaling_of_the_suite_as_it_says() -> None:
    skipped = [p for p in plan(NODE, "scaling").cases if p.skip]
    assert [(p.case.workload, p.case.strategy, p.case.gpus) for p in skipped] == [
        *[("gpt-124m", "ddp", 6), ("gpt-124m", "fsdp", 6)],
        *[("resnet50", "ddp", 6), ("resnet50", "fsdp", 6)],
    ]
