"""Cases in the expected order, and the shortest labels that distinguish them."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis.frames import launches
from bench.analysis.order import in_order, labels, varying, word
from bench.store.columns import LaunchRow
from bench.store.environments import with_environments


def cases(*axes: dict[str, Any]) -> Any:
    """Return one row for each case, with its number as its id; axes that are not given are unknown."""
    common = LaunchRow(run_id="r", workload="mlp", strategy="ddp", gpus=2, precision="fp32")
    return with_environments(launches([common.but(**{"case_id": str(i), **one}) for i, one in enumerate(axes)]))


def ordered(name: str, *values: Any) -> list[Any]:
    return list(in_order(cases(*({name: value} for value in values)))[name].astype(object))


# -- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("workload", ["resnet18", "gpt-nano", "gpt-124m", "bert", "mlp", "a.py:Net", "z.py:Net"]),
        ("strategy", ["single", "dp", "ddp", "ddp:hook=bf16", "ddp:hook=fp16", "fsdp", "fsdp:reshard=off"]),
        ("precision", ["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"]),
        ("compile", ["off", "default", "max-autotune"]),
        ("activation_checkpointing", ["none", "selective", "every=2", "full"]),
        ("optimizer", ["adamw", "sgd"]),
        ("gpus", [1, 2, 8, 10, 100]),
        ("batch_size", [8, 16, 64, 128]),
        ("max_grad_norm", [0.0, 0.5, 1.0, 10.0]),
        ("pin_memory", [False, True]),
    ],
)
def test_names_stand_as_registered_and_numbers_by_size(name: str, values: list[Any]) -> None:
    assert ordered(name, *reversed(values)) == values
    assert ordered(name, *sorted(values, key=str)) == values


def test_what_has_no_value_stands_first() -> None:
    assert list(in_order(cases({"num_workers": 4}, {"num_workers": None}, {"num_workers": 0}))["case_id"]) == [
        "1",
        "2",
        "0",
    ]


def test_the_first_axes_decide_and_equal_cases_keep_their_places() -> None:
    axes = [("fsdp", 2), ("ddp", 10), ("fsdp", 1), ("ddp", 2), ("ddp", 10)]
    found = in_order(cases(*({"strategy": s, "gpus": n} for s, n in axes)))
    assert list(found["case_id"]) == ["3", "1", "4", "2", "0"]
    assert list(found.index) == [0, 1, 2, 3, 4]


# -- labels --------------------------------------------------------------------------------------------------------


def test_strategy_devices_and_precision_are_always_said_and_else_what_varies() -> None:
    found = labels(cases({"batch_size": 8, "seed": 0}, {"batch_size": 16, "seed": 0}))
    assert list(found) == ["ddp ×2 fp32 batch 8", "ddp ×2 fp32 batch 16"]


def test_the_shortest_say_only_what_varies() -> None:
    both = cases({"batch_size": 8, "num_workers": 0}, {"batch_size": 16, "num_workers": 0})
    assert list(labels(both, ())) == ["batch 8", "batch 16"]


def test_where_nothing_varies_there_is_nothing_to_say() -> None:
    assert list(labels(cases({}, {"oversubscribe": True}), ())) == ["", ""]


def test_every_axis_has_its_words() -> None:
    axes: dict[str, Any] = {"grad_accum_steps": 4, "max_grad_norm": 0.5, "optimizer": "sgd", "data": "folder=/x"}
    axes |= {"num_workers": 8, "prefetch_factor": 4, "omp_num_threads": 2, "activation_checkpointing": "every=2"}
    axes |= {"pin_memory": False, "compile": "default", "env": "A=1", "channels_last": True}
    other: dict[str, Any] = {"grad_accum_steps": 1, "max_grad_norm": 0.0, "optimizer": "adamw", "data": "resident"}
    other |= {"num_workers": 0, "prefetch_factor": 2, "omp_num_threads": 1, "activation_checkpointing": "none"}
    other |= {"pin_memory": True, "compile": "off", "env": "A=2", "channels_last": False}
    assert list(labels(cases(axes, other), ())) == [
        "ac every=2 compile default accum 4 clip 0.5 sgd folder=/x 8 workers pin-memory off prefetch 4 OMP 2 channels-last on A=1",
        "ac none compile off accum 1 clip 0 adamw resident 0 workers pin-memory on prefetch 2 OMP 1 channels-last off A=2",
    ]


def test_cases_of_one_workload_do_not_name_what_varies_in_another() -> None:
    found = labels(
        cases({"batch_size": 8}, {"batch_size": 16}, {"workload": "gpt", "batch_size": 4, "data": "resident"}), ()
    )
    assert list(found) == ["mlp batch 8", "mlp batch 16", "gpt"]


def test_what_only_some_have_follows_from_another_and_is_not_said() -> None:
    some = cases({"num_workers": 0, "prefetch_factor": None}, {"num_workers": 2, "prefetch_factor": 2})
    assert varying(some) == ["num_workers"]
    assert list(labels(some, ())) == ["0 workers", "2 workers"]


def test_cases_of_several_environments_name_theirs() -> None:
    both = cases({"torch": "2.11.0"}, {"run_id": "s", "torch": "2.12.0"})
    assert list(labels(both)) == ["ddp ×2 fp32 (A)", "ddp ×2 fp32 (B)"]


def test_labels_go_with_their_rows() -> None:
    found = labels(cases({"gpus": 1}, {"gpus": 2}, {"gpus": 4}).iloc[[2, 0]], ())
    assert found.to_dict() == {2: "×4", 0: "×1"}


def test_labels_tell_all_cases_apart() -> None:
    """One case has --env A=1, the other none; nothing else differs."""
    assert len(set(labels(cases({"env": None}, {"env": "A=1"})))) == 2


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        *(("gpus", 8, "×8"), ("max_grad_norm", 1.0, "clip 1"), ("max_grad_norm", 0.25, "clip 0.25")),
        *(
            ("env", "", ""),
            ("num_workers", None, ""),
            ("deterministic", True, "deterministic on"),
            ("seed", 3, "seed 3"),
        ),
    ],
)
def test_a_value_in_words(axis: str, value: Any, text: str) -> None:
    assert word(axis, value) == text


def test_a_text_that_ends_like_a_number_stays() -> None:
    assert word("env", "VERSION=2.0") == "VERSION=2.0"
