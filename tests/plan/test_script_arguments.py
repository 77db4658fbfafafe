"""The arguments of scripts, and the cases that they make."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from made_up_plans import A100

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import PLACEHOLDERS, Case
from bench.plan.plan import asked, command, make_plan
from bench.plan.script_arguments import arguments, as_text, placeholders

HERE = f"script={__file__}"


def cases(machine: Machine | None = None, **axes: Any) -> list[Case]:
    given = {name: [value] if isinstance(value, str) else value for name, value in axes.items()}
    plan = make_plan(asked({"workload": [HERE], "device": ["cpu"], **given}, {}), machine or Machine())
    assert not any(planned.skip for planned in plan.cases)
    return [planned.case for planned in plan.cases]


@pytest.mark.parametrize(
    ("template", "words", "named"),
    [
        ("--bs {batch_size} --x", ["--bs", "64", "--x"], {"batch_size"}),
        ("--bs={batch_size},{num_workers}", ["--bs=64,64"], {"batch_size", "num_workers"}),
        ("--name 'two words' \"{batch_size} x\"", ["--name", "two words", "64 x"], {"batch_size"}),
        ("{{batch_size}", ["{batch_size}"], set()),
        ("{{{batch_size}", ["{64"], {"batch_size"}),
        ('{"lr": {}, "n": {other}}', ["{lr:", "{},", "n:", "{other}}"], set()),
        ("{steps} {workload} {args}", ["{steps}", "{workload}", "{args}"], set()),
        ("$HOME `ls` ; rm *", ["$HOME", "`ls`", ";", "rm", "*"], set()),
        ("", [], set()),
    ],
)
def test_only_names_of_axes_are_replaced(template: str, words: list[str], named: set[str]) -> None:
    assert arguments(template, PLACEHOLDERS, lambda _: "64") == words
    assert placeholders(template, PLACEHOLDERS) == named


@pytest.mark.parametrize("words", [["--bs", "{batch_size}"], ["a b", "'", ""], ["{a,b}", "$x", "c;d"]])
def test_words_become_a_text_that_a_shell_splits_alike(words: list[str]) -> None:
    assert shlex.split(as_text(words)) == words


def test_a_value_is_never_a_placeholder_itself() -> None:
    [case] = cases(args="{env} {batch_size}", env="X={seed}", batch_size="8")
    assert case.arguments == ["'X={seed}'", "8"]  # quoted, as in rows


def test_axes_that_neither_work_from_outside_nor_are_named_have_no_value() -> None:
    first, second = cases(args="--bs {batch_size} --ac {activation_checkpointing}", batch_size=["8", "16"], gpus="2")
    assert (first.batch_size, second.batch_size, first.activation_checkpointing) == (8, 16, "none")
    assert (first.strategy, first.gpus, first.device, first.omp_num_threads) == ("script", 2, "cpu", 1)
    given = {
        "batch_size",
        "activation_checkpointing",
        "strategy",
        "gpus",
        "device",
        "omp_num_threads",
        "placement",
        "env",
    }
    without = [name for name in PLACEHOLDERS if name not in given]
    assert {getattr(first, name) for name in without} == {None}, without
    assert first.world_size == 2
    assert first.global_batch is None
    assert second.arguments == ["--bs", "16", "--ac", "none"]


def test_a_strategy_that_is_named_decides_on_the_number_of_ranks() -> None:
    single, ddp = cases(args="{strategy}", strategy=["single", "ddp"], gpus="2")
    assert (single.world_size, single.arguments, ddp.world_size, ddp.arguments) == (1, ["single"], 2, ["ddp"])


def test_case_ids_differ_by_arguments_and_name_the_script() -> None:
    ids = [case.case_id for case in cases(args=["--lr 1", "--lr 2", ""], gpus="1")]
    assert len(set(ids)) == 3
    assert all(one.startswith("test-script-arguments-py-script-x1-cpu") for one in ids)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batch_size": ["8", "16"]}, "--batch-size has no effect: --args does not contain {batch_size}"),
        ({"strategy": ["fsdp"]}, "--strategy has no effect: --args does not contain {strategy}"),
        ({"precision": ["bf16"], "args": ["--p {precisions}"]}, "--precision has no effect"),
        ({"scaling": ["strong"], "gpus": ["1", "2"]}, "--scaling has no effect: --args does not contain {batch_size}"),
        ({"args": ["--bs {batch_size}"]}, "--batch-size: got 'nothing'; allowed: a whole number from 1, as --args has"),
        ({"args": ["{batch_size}"], "batch_size": ["auto"]}, "--batch-size: got 'auto'; allowed: a whole number"),
        (
            {"args": ["{strategy}"], "strategy": ["script"]},
            "--strategy: got 'script'; allowed: single, dp, ddp, zero1, fsdp",
        ),
        ({"args": ["--bs '3"]}, "--args cannot be split into words: No closing quotation"),
        ({"workload": ["script=nowhere.py"]}, "--script: got 'nowhere.py'; allowed: a Python file that exists"),
        ({"workload": ["module=a..b"]}, "--script: got 'a..b'; allowed: the name of a module"),
        ({"workload": ["mlp"], "args": ["--x"]}, "--args has no effect without a script"),
        (
            {"workload": ["mlp"], "strategy": ["script"]},
            "--strategy: got 'script'; allowed: single, dp, ddp, zero1, fsdp",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_words(axes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_plan(asked({"workload": [HERE], "device": ["cpu"], **axes}, {}), Machine())
    assert message in str(error.value)


@pytest.mark.parametrize("setting", ["samples_per_step", "count_flops"])
def test_a_setting_of_scripts_needs_a_script(setting: str) -> None:
    with pytest.raises(UsageError, match="has no effect without a script"):
        make_plan(
            asked({"workload": ["mlp"], "device": ["cpu"]}, {setting: "on" if setting[0] == "c" else 8}), Machine()
        )


def test_a_script_has_no_profile() -> None:
    wanted = asked({"workload": [HERE], "device": ["cpu"]}, {"profile": "on"})
    with pytest.raises(UsageError, match="--profile is not possible with a script"):
        make_plan(wanted, Machine())


def test_the_command_of_a_case_makes_the_same_case() -> None:
    [case] = cases(args="--bs {batch_size} 'a;b'", batch_size="8", gpus="2", env="A=1")
    plan = make_plan(asked({"workload": [HERE], "device": ["cpu"]}, {"steps": 9}), Machine())
    words = shlex.split(command(case, plan.protocol))
    assert words[:4] == ["bench", "run", "--script", __file__]
    assert words[-4:] == ["--", "--bs", "{batch_size}", "a;b"]
    options = dict(zip(words[4:-4:2], words[5:-4:2], strict=True))
    assert options == {"--gpus": "2", "--device": "cpu", "--batch-size": "8", "--env": "A=1", "--steps": "9"}


def test_scripts_and_workloads_may_be_in_one_plan() -> None:
    plan = make_plan(asked({"workload": [HERE, "mlp"], "device": ["cpu"], "batch_size": ["8"]}, {}), Machine())
    assert [(planned.case.is_script, planned.case.batch_size) for planned in plan.cases] == [(True, None), (False, 8)]


def test_ranks_of_a_script_share_gpus_only_if_allowed() -> None:
    [case] = cases(Machine((A100,)), device="cuda", gpus="1")
    assert (case.device, case.numa_binding) == ("cuda", "off")
    with pytest.raises(UsageError, match="at most 1, the GPUs of this machine"):
        cases(Machine((A100,)), device="cuda", gpus="2")
