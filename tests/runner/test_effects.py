"""Which options took effect: from records made by hand to the columns and faults of a row."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from made_up_measurements import rank
from made_up_plans import case

from bench.messages.rank_record import Observed, RankRecord, State
from bench.runner.effects import effects

STEPS = {"losses": [1.0] * 13}
SEEN = Observed(matmuls={"float32": 4}, gradients=100, collectives={"backward all-reduce float32": [1, 100]})


def records(*states: State, observed: Observed | None = SEEN, **measured: Any) -> dict[int, RankRecord]:
    measurement = rank([10] * 12, **{**STEPS, **measured})
    return {
        number: RankRecord(number, number, "here", 1, True, measurement=measurement, state=state, observed=observed)
        for number, state in enumerate(states)
    }


def seen(**changes: Any) -> Observed:
    return dataclasses.replace(SEEN, **changes)


def reduced(numbers: int, kind: str = "all-reduce", type_: str = "float32", phase: str = "backward") -> dict[str, Any]:
    return {f"{phase} {kind} {type_}": [2, numbers]}


def ddp(strategy: str = "ddp", **axes: object) -> Any:
    return case(strategy=strategy, gpus=2, **axes)


def state(**changes: Any) -> State:
    return State(
        **{"num_threads": 1, "forwards": 13, "checksums": {"a": 1, "b": 2}, "types": {"float32": 9}, **changes}
    )


def test_what_took_effect_is_said() -> None:
    looked = seen(
        collectives=reduced(128) | reduced(64, phase="forward"),
        gradient_norm=2.5,
        attention={"flash": 2, "math": 1},
        checkpointed=3,
        recomputed=2,
    )
    asked = ddp(max_grad_norm=1.0, activation_checkpointing="full", grad_accum_steps=2)
    row, faults = effects(asked, records(state(), state(), observed=looked))
    assert faults == []
    assert row == {
        "num_threads": 1,
        "took_effect": "gradients exchanged after 13 forward passes in 13 steps, all-reduce of 128 numbers for 100 gradients "
        "in float32; gradients exchanged once in 2 micro-batches; 2 parameters equal bit by bit over 2 replicas; "
        "float32 in 4 of 4 matmuls and convolutions; 2 of 3 checkpointed layers recomputed; "
        "gradient norm 2.5, clipped to 1; attention flash (2), math (1)",
        "not_as_asked": None,
        "attention_kernels": "flash (2), math (1)",
    }


@pytest.mark.parametrize(
    ("asked", "calls", "fault", "mark"),
    [
        ("auto", {"math": 2}, [], None),
        ("flash", {"flash": 2}, [], None),
        ("math", {"flash": 1, "math": 2}, [], "attention ran with flash (1), math (2), and not with math alone"),
        ("flash", {"math": 2}, ["--attention flash had no effect: attention ran with math (2)"], None),
        (
            "efficient",
            {},
            ["--attention efficient had no effect: the model does not call scaled_dot_product_attention"],
            None,
        ),
    ],
)
def test_the_kernel_that_ran_is_held_against_the_one_asked_for(
    asked: str, calls: dict[str, int], fault: list[str], mark: str | None
) -> None:
    row, faults = effects(case(strategy="single", attention=asked), records(state(), observed=seen(attention=calls)))
    assert (faults, row["not_as_asked"]) == (fault, mark)


def test_a_workload_that_allows_other_kernels_has_an_invalid_row() -> None:
    changed = state(settings={"cuda.math_sdp_enabled": ["False", "True"]})
    looked = seen(attention={"flash": 1})
    _, faults = effects(case(strategy="single", attention="flash"), records(changed, observed=looked))
    assert faults == [
        "the workload changed what --attention flash pins: cuda.math_sdp_enabled is True and not False; leave that to "
        "the options"
    ]
    row, faults = effects(case(strategy="single"), records(changed, observed=looked))
    assert faults == []
    assert row["not_as_asked"] == "the workload changed PyTorch's settings: cuda.math_sdp_enabled is True and not False"


def test_activations_on_the_host() -> None:
    asked = case(strategy="single", activation_offload="cpu")
    row, faults = effects(asked, records(state(), observed=seen(offloaded=[3, 3 << 20])))
    assert faults == []
    assert "3 activations of 3.0 MiB waited on the host" in row["took_effect"]
    _, faults = effects(asked, records(state(), observed=SEEN))
    assert faults == ["--activation-offload cpu had no effect: no activation was copied to the host"]


def test_float8_leaves_other_products_in_bfloat16() -> None:
    asked = case(strategy="single", precision="fp8")
    row, faults = effects(asked, records(state(), observed=seen(matmuls={"float8_e4m3fn": 3, "bfloat16": 1})))
    assert (faults, row["not_as_asked"]) == ([], None)
    assert "float8_e4m3fn in 3 of 4 matmuls and convolutions" in row["took_effect"]
    _, faults = effects(asked, records(state(), observed=seen(matmuls={"bfloat16": 4})))
    assert faults == ["--precision fp8 had no effect: all matmuls ran in bfloat16, none in float8_e4m3fn"]


def test_tensor_parallel_says_what_is_divided_and_exchanged() -> None:
    of_layers = {"forward tensor all-gather float32": [3, 6], "backward tensor reduce-scatter float32": [2, 6]}
    asked = ddp("ddp:tp=2", grad_accum_steps=2)
    states = [state(split=[80, 100], shard=rank, checksums={"a": rank}) for rank in range(2)]
    looked = seen(collectives=reduced(100) | of_layers | {"early backward tensor all-reduce float32": [9, 900]})
    row, faults = effects(asked, records(*states, observed=looked))
    assert faults == []
    assert "80 of 100 numbers of the parameters divided over 2 ranks" in row["took_effect"]
    assert "all-gather 3 times forward and 0 backward, reduce-scatter 0 times forward and 2" in row["took_effect"]
    assert "equal bit by bit" not in row["took_effect"]  # the two have different parts


def test_tensor_parallel_without_effect_is_a_fault() -> None:
    for split, collectives, said in (
        ([0, 100], reduced(100), "tp=2 had no effect: no parameter is divided"),
        ([80, 100], reduced(100), "tp=2 had no effect: ranks exchanged no activations"),
    ):
        states = [state(split=split, shard=rank) for rank in range(2)]
        _, faults = effects(ddp("ddp:tp=2"), records(*states, observed=seen(collectives=collectives)))
        assert faults == [said]


def test_a_launch_of_which_nothing_was_seen_has_no_such_columns() -> None:
    assert effects(ddp(), {0: RankRecord(0, 0, "here", 1, True)}) == ({}, [])


def test_what_could_not_be_looked_at_costs_no_row() -> None:
    row, faults = effects(ddp(activation_checkpointing="full"), records(state(), state(), observed=None))
    assert faults == []
    assert row["took_effect"] == (
        "gradients exchanged after 13 forward passes in 13 steps; 2 parameters equal bit by bit over 2 replicas"
    )


@pytest.mark.parametrize(
    ("asked", "states", "observed", "said"),
    [
        (ddp(), [state(forwards=0)] * 2, SEEN, "DDP had no effect in 13 of 13 steps"),
        (ddp(), [state(forwards=13), state(forwards=12)], SEEN, "DDP had no effect in 1 of 13 steps"),
        (ddp(), [state()] * 2, seen(collectives=reduced(99)), "all-reduce of 99 numbers in a step of 100 gradients"),
        (ddp(), [state()] * 2, seen(collectives={}), "ddp had no effect: all-reduce of 0 numbers"),
        (
            ddp("zero1"),
            [state(forwards=0)] * 2,
            seen(collectives=reduced(100, "broadcast", phase="optimizer")),
            "DDP had no effect in 13 of 13 steps",
        ),
        (ddp("zero1"), [state()] * 2, seen(collectives=reduced(100)), "zero1 had no effect: ranks broadcast 0 updated"),
        (
            ddp("zero1"),
            [state()] * 2,
            seen(collectives=reduced(100) | reduced(99, "broadcast", phase="optimizer")),
            "zero1 had no effect: ranks broadcast 99 updated numbers",
        ),
        (ddp("ddp:hook=fp16"), [state()] * 2, seen(collectives=reduced(100)), "gradients were reduced in float32"),
        (
            ddp(),
            [state(), state(checksums={"a": 1, "b": 3})],
            None,
            "rank 0 and rank 1 differ in b; gradients bypassed",
        ),
        (
            case(strategy="fsdp", gpus=4),
            [state(shard=n) for n in range(4)],
            seen(collectives=reduced(50, "reduce-scatter")),
            "fsdp had no effect: reduce-scatter of 50 numbers",
        ),
        (
            case(strategy="fsdp:replicate=2", gpus=4),
            [state(shard=0), state(shard=1, checksums={"a": 7}), state(shard=0), state(shard=1, checksums={"a": 8})],
            None,
            "rank 1 and rank 3 differ in a",
        ),
        (
            case(strategy="fsdp:replicate=2", gpus=4),
            [state(shard=n % 2) for n in range(4)],
            seen(collectives=reduced(100, "reduce-scatter")),
            "fsdp:replicate=2 had no effect: all-reduce of 0 numbers in a step of 50",
        ),
        (
            ddp(grad_accum_steps=2),
            [state()] * 2,
            seen(collectives=reduced(100) | reduced(100, phase="early backward")),
            "exchanged before the last of 2 micro-batches",
        ),
        (case(strategy="single"), [state()], seen(gradients=0), "no parameter had a gradient"),
        (case(precision="amp-bf16"), [state()], SEEN, "had no effect: all matmuls ran in float32, none in bfloat16"),
        (
            case(),
            [state()],
            seen(matmuls={"bfloat16": 3}),
            "--precision fp32 had no effect: all matmuls ran in bfloat16",
        ),
        (case(precision="bf16"), [state()], None, "the parameters are in float32, not bfloat16"),
        (case(activation_checkpointing="full"), [state()], seen(checkpointed=3), "none of 3 layers was recomputed"),
        (
            case(workload="mnist-cnn", channels_last=True),
            [state()],
            seen(convolutions=[0, 5]),
            "--channels-last had no effect: none of 5 convolutions",
        ),
        (
            case(),
            [state(settings={"float32_matmul_precision": ["highest", "high"]})],
            SEEN,
            "changed what --precision fp32 pins: float32_matmul_precision is high and not highest",
        ),
        (
            case(deterministic=True),
            [state(settings={"deterministic_algorithms": ["True", "False"]})],
            SEEN,
            "changed what --deterministic pins: deterministic_algorithms is False and not True",
        ),
        (case(), [state(batch="changed")], SEEN, "the model changes its batch in place, so that"),
        (case(), [state(batch="copied in the window")], SEEN, "inside the window"),
    ],
)
def test_what_had_no_effect_is_a_fault(asked: Any, states: list[State], observed: Any, said: str) -> None:
    _, faults = effects(asked, records(*states, observed=observed))
    assert len(faults) == 1, faults
    assert said in faults[0]


def test_graphs_that_were_not_compiled() -> None:
    asked = case(strategy="single", compile="default")
    assert effects(asked, records(state(), compile_ns=5, graphs=0, graph_breaks=0))[1] == [
        "--compile default had no effect: no graph was compiled"
    ]
    row, faults = effects(asked, records(state(), compile_ns=5, graphs=2, graph_breaks=1))
    assert (faults, row["took_effect"].split("; ")[-1]) == ([], "2 graphs compiled, 1 graph break")


@pytest.mark.parametrize(
    ("asked", "states", "observed", "said"),
    [
        (case(omp_num_threads=2), [state(num_threads=1)] * 2, SEEN, "OpenMP threads: 1, not 2 as asked"),
        (case(), [state(), state(num_threads=3)], SEEN, "OpenMP threads: 3 in rank 1, not 1 as asked"),
        (case(), [state(dynamic_threads=True)], SEEN, "OMP_DYNAMIC lets OpenMP run fewer threads"),
        (case(), [state(batch="copied")], SEEN, "the model changes its batch in place: each step gets a copy"),
        (case(), [state()], seen(matmuls={"float32": 3, "float64": 1}), "1 of 4 matmuls ran in float64"),
        (case(), [state(types={"float32": 3, "bfloat16": 1})], SEEN, "25% of the parameters are not in float32"),
        (
            case(),
            [state(settings={"cudnn.benchmark": ["False", "True"]})],
            SEEN,
            "the workload changed PyTorch's settings: cudnn.benchmark is True and not False",
        ),
        (
            case(precision="amp-bf16"),
            [state(settings={"float32_matmul_precision": ["highest", "high"]})],
            seen(matmuls={"bfloat16": 3, "float32": 1}),
            "the workload changed PyTorch's settings: float32_matmul_precision is high and not highest",
        ),
    ],
)
def test_what_was_otherwise_than_asked_is_a_mark(asked: Any, states: list[State], observed: Any, said: str) -> None:
    row, faults = effects(dataclasses.replace(asked, strategy="single"), records(*states, observed=observed))
    assert (faults, row["not_as_asked"]) == ([], said)
    assert row["num_threads"] == min(one.num_threads for one in states)


def test_a_pipeline_sends_and_receives_each_micro_batch() -> None:
    asked = case(strategy="ddp:pp=2", gpus=2, grad_accum_steps=3)
    between = {"between send float32": [3, 60], "between receive float32": [3, 60]}
    row, faults = effects(
        asked, records(state(shard=0), state(shard=1), observed=seen(collectives=reduced(100) | between))
    )
    assert faults == []
    assert "2 stages, 3 sends and 3 receives of the first rank in a step" in row["took_effect"]
    _, faults = effects(asked, records(state(shard=0), state(shard=1), observed=seen(collectives=reduced(100))))
    assert faults == ["pp=2 had no effect: 2 stages, 0 sends and 0 receives of the first rank in a step"]
