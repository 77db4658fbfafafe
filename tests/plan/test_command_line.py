"""From a case back to its command."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_up_plans import DEFAULTS, EVERYTHING, LAPTOP, NODE, cases

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import Asked, Protocol, asked, command, make_plan
from bench.plan.suite_file import read_suite


def parsed(line: str) -> Asked:
    """A command line, understood by hand: pairs of flag and value after ``bench run``."""
    words = shlex.split(line)
    assert words[:2] == ["bench", "run"]
    shares = words[-1] == "--oversubscribe"
    pairs = words[2 : -1 if shares else None]
    given: dict[str, list[str]] = {}
    for flag, value in zip(pairs[::2], pairs[1::2], strict=True):
        given.setdefault(flag[2:].replace("-", "_"), []).append(value)
    assert [name for name, values in given.items() if len(values) > 1 and name != "env"] == []
    axes: Mapping[str, list[str]] = {name: values for name, values in given.items() if name in AXES}
    settings = {name: values[0] for name, values in given.items() if name in SETTINGS}
    assert len(axes) + len(settings) == len(given)
    return asked(axes, settings, oversubscribe=shares)


def test_a_command_has_nothing_of_the_rest_of_the_run() -> None:
    [case] = cases()
    protocol = dataclasses.replace(DEFAULTS, launches=None, order_seed=7, budget=60.0)
    assert command(case, protocol) == command(case, DEFAULTS)


def test_command_of_the_default_case() -> None:
    [case] = cases()
    assert command(case, DEFAULTS) == (
        "bench run --workload resnet18 --strategy ddp --gpus 2 --device cpu --batch-size 32"
    )


def test_command_is_quoted_for_the_shell_and_parses_back(tmp_path: Path) -> None:
    text = tmp_path / "it's; my $HOME, really"
    text.write_bytes(b"x" * 10_000)
    protocol = Protocol(
        **{**dataclasses.asdict(DEFAULTS), "warmup_steps": 0, "steps": 2, "min_seconds": 0.25, "launches": 1},
    )
    protocol = dataclasses.replace(protocol, timeout=90.5, hang_timeout=7.0, launcher="torchrun")
    [case] = cases(
        NODE,
        oversubscribe=True,
        workload="gpt-nano:layers=2",
        gpus="4",
        precision="amp-bf16",
        activation_checkpointing="full",
        batch_size="3",
        data=f"text={text}",
        num_workers="1",
        pin_memory="off",
        prefetch_factor="5",
        persistent_workers="off",
        omp_num_threads="2",
        seed="9",
    )
    line = command(case, protocol)
    quoted = "'text=" + str(text).replace("'", "'\"'\"'") + "'"
    assert line == (
        "bench run --workload gpt-nano:layers=2 --strategy ddp --gpus 4 --device cuda --precision amp-bf16 "
        f"--activation-checkpointing full --batch-size 3 --data {quoted} --num-workers 1 --pin-memory off "
        "--prefetch-factor 5 --persistent-workers off --omp-num-threads 2 --seed 9 --warmup-steps 0 --steps 2 "
        "--min-seconds 0.25 --launches 1 --timeout 90.5 --hang-timeout 7 --launcher torchrun --oversubscribe"
    )
    again = make_plan(parsed(line), NODE)
    assert ([planned.case for planned in again.cases], again.protocol) == ([case], protocol)


def test_command_has_every_axis_that_is_not_at_its_default() -> None:
    [found] = cases(
        NODE,
        strategy="fsdp:reduce=fp32:reshard=off",
        precision="bf16",
        activation_checkpointing="every=2",
        compile="max-autotune",
        batch_size="8",
        grad_accum_steps="4",
        max_grad_norm="0.5",
        optimizer="sgd",
        channels_last="on",
        deterministic="on",
        numa_binding="core-complex",
    )
    case = dataclasses.replace(found, env="A= 'B=a b' NCCL_ALGO=Ring")
    line = command(case, DEFAULTS)
    assert line == (
        "bench run --workload resnet18 --strategy fsdp:reshard=off:reduce=fp32 --gpus 2 --device cuda --precision bf16 "
        "--activation-checkpointing every=2 --compile max-autotune --batch-size 8 --grad-accum-steps 4 "
        "--max-grad-norm 0.5 --optimizer sgd --channels-last on --deterministic on --cudnn-benchmark off "
        "--numa-binding core-complex --env A= --env 'B=a b' --env NCCL_ALGO=Ring"
    )
    assert [planned.case for planned in make_plan(parsed(line), NODE).cases] == [case]


@pytest.mark.parametrize(
    "variables",
    [
        ["A=1"],
        ["A="],
        ["B=x=y", "A=="],
        ["A= a  b "],
        ['A=it\'s "so"; $HOME `x` \\ #&*~'],
        ["A=a,b"],
        ["A=--gpus"],
        ["A=é→"],
    ],
)
def test_command_gives_every_variable_back(variables: list[str]) -> None:
    [planned] = make_plan(asked({"env": variables}, {}), LAPTOP).cases
    line = command(planned.case, DEFAULTS)
    given = [word for variable in sorted(variables) for word in ("--env", variable)]
    assert shlex.split(line)[-len(given) :] == given
    assert [again.case for again in make_plan(parsed(line), LAPTOP).cases] == [planned.case]
    assert planned.case.environment == dict(variable.split("=", 1) for variable in variables)


def test_every_case_of_a_product_is_given_again_by_its_command() -> None:
    for case in cases(NODE, **{**EVERYTHING, "compile": "off", "optimizer": "adamw", "env": "A=b"}):
        assert [again.case for again in make_plan(parsed(command(case, DEFAULTS)), NODE).cases] == [case]


@pytest.mark.parametrize("machine", [LAPTOP, NODE])
@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"device": "cpu", "strategy": "dp"},
        {"device": "cpu", "deterministic": "on", "workload": "gpt-nano"},
        {"device": "cpu", "strategy": "ddp:bucket-mb=100:static-graph=on", "precision": "amp-fp16"},
        {"activation_checkpointing": "every=1", "max_grad_norm": "1e-7", "grad_accum_steps": "3"},
        {"max_grad_norm": "1e-22", "env": "A=1"},
        {"workload": "net:Net", "channels_last": "on", "deterministic": "on", "compile": "default"},
        {"strategy": "single", "gpus": "2", "device": "cpu"},
        {"data": "synthetic", "num_workers": "0"},
        {"workload": "net:Net:depth=3:wide=on"},
        {"workload": "mlp", "batch_size": "64", "seed": "0"},
    ],
)
def test_command_parses_back_to_the_same_case_on_the_same_machine(machine: Machine, axes: dict[str, str]) -> None:
    [case] = cases(machine, **axes)
    again = make_plan(parsed(command(case, DEFAULTS)), machine)
    assert ([planned.case for planned in again.cases], again.protocol) == ([case], DEFAULTS)


def test_loader_option_over_a_suite_needs_effect_in_one_matrix_only(suite: Any) -> None:
    file = suite('[[matrix]]\nworkload = "mlp"\n[[matrix]]\nworkload = "mlp"\ndata = "synthetic"\n')
    seen = make_plan(asked({"num_workers": ["4"]}, {}, base=read_suite(str(file))), LAPTOP).cases
    assert [planned.case.num_workers for planned in seen] == [None, 4]


LOADED = """
[[matrix]]
workload = "resnet18"
data = "folder=demo"
num_workers = [1, 2]
prefetch_factor = 4
"""


@pytest.mark.parametrize(
    ("axes", "loaders"),
    [
        ({"num_workers": "0"}, [("folder=demo", 0, None)]),
        ({"data": "resident"}, [("resident", None, None)]),
        ({"seed": "1"}, [("folder=demo", 1, 4), ("folder=demo", 2, 4)]),
    ],
)
def test_the_suites_own_axes_may_have_no_effect_any_more(
    suite: Any, axes: dict[str, str], loaders: list[tuple[object, ...]]
) -> None:
    wanted = asked({name: [text] for name, text in axes.items()}, {}, read_suite(suite(LOADED)))
    found = [planned.case for planned in make_plan(wanted, LAPTOP).cases]
    assert [(case.data, case.num_workers, case.prefetch_factor) for case in found] == loaders


def test_what_was_typed_must_have_an_effect_over_a_suite_too(suite: Any) -> None:
    axes = {"num_workers": ["0"], "prefetch_factor": ["2"]}
    with pytest.raises(UsageError) as raised:
        make_plan(asked(axes, {}, read_suite(suite(LOADED))), LAPTOP)
    assert (raised.value.option, raised.value.hint) == ("--prefetch-factor", "Add --num-workers 1 or more.")


@pytest.mark.parametrize("settings", [{}, {"steps": "5"}])
def test_a_suite_alone_is_checked_whole(suite: Any, settings: dict[str, str]) -> None:
    file = suite(LOADED.replace("[1, 2]", "0"))
    with pytest.raises(UsageError) as raised:
        make_plan(asked({}, settings, read_suite(file)), LAPTOP)
    assert (raised.value.option, raised.value.hint) == ("--prefetch-factor", "Add --num-workers 1 or more.")


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("scaling", {"gpus": "2", "device": "cpu"}),
        ("tuning", {"num_workers": "0"}),
        ("tuning", {"data": "resident"}),
        ("memory", {"workload": "gpt-nano", "data": "resident", "device": "cpu"}),
    ],
)
def test_options_go_over_the_axes_of_built_in_suites(name: str, axes: dict[str, str]) -> None:
    made = make_plan(asked({axis: [text] for axis, text in axes.items()}, {}, read_suite(name)), LAPTOP)
    assert [planned.skip for planned in made.cases] == [None] * len(made.cases) != []


def test_compression_to_the_type_that_gradients_have_is_left_out() -> None:
    found = cases(strategy="ddp,ddp:hook=bf16,ddp:hook=fp16", precision="fp32,bf16")
    assert [(case.strategy, case.precision) for case in found] == [
        ("ddp", "fp32"),
        ("ddp", "bf16"),
        ("ddp:hook=bf16", "fp32"),
        ("ddp:hook=fp16", "fp32"),
        ("ddp:hook=fp16", "bf16"),
    ]
