"""From suite files to the plan."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_plans import DEFAULTS, LAPTOP, NODE

from bench.errors import UsageError
from bench.plan.plan import Asked, asked, make_plan
from bench.plan.suite_file import read_suite, suites

SUITE = """# Is it fast?
[protocol]
steps = 20
timeout = 120

[[matrix]]
workload = "gpt-nano"
strategy = ["ddp", "fsdp"]
gpus = 2

[[matrix]]
workload = "mlp:layers=3"
data = "synthetic"
pin_memory = [true, "off"]
"""


def test_suite_file_is_read(suite: Any) -> None:
    assert read_suite(suite(SUITE)) == Asked(
        matrices=(
            {"workload": ["gpt-nano"], "strategy": ["ddp", "fsdp"], "gpus": [2]},
            {"workload": ["mlp:layers=3"], "data": ["synthetic"], "pin_memory": [True, False]},
        ),
        settings={"steps": 20, "timeout": 120.0},
        typed=("workload", "strategy", "gpus", "data", "pin_memory"),
    )


NEW_AXES = """
[[matrix]]
strategy = ["fsdp:reshard=off:replicate=01", "ddp:hook=fp16"]
precision = "bf16"
activation_checkpointing = ["selective", "every=3"]
compile = ["default", false]
grad_accum_steps = [1, 4]
max_grad_norm = [0, 1, 0.5]
optimizer = "sgd"
channels_last = [true, "off"]
deterministic = false
cudnn_benchmark = ["on", false]
numa_binding = "node"
env = ["B=2|x y", "A=1"]

[[matrix]]
env = "A=1|2"
"""


def test_suite_file_names_every_axis(suite: Any) -> None:
    assert read_suite(suite(NEW_AXES)).matrices == (
        {
            "strategy": ["fsdp:reshard=off", "ddp:hook=fp16"],
            "precision": ["bf16"],
            "activation_checkpointing": ["selective", "every=3"],
            "compile": ["default", "off"],
            "grad_accum_steps": [1, 4],
            "max_grad_norm": [0.0, 1.0, 0.5],
            "optimizer": ["sgd"],
            "channels_last": [True, False],
            "deterministic": [False],
            "cudnn_benchmark": [True, False],
            "numa_binding": ["node"],
            "env": ["A=1 B=2", "A=1 'B=x y'"],
        },
        {"env": ["A=1", "A=2"]},
    )


def test_environment_on_the_command_line_takes_the_place_of_the_suites(suite: Any) -> None:
    file = suite('[[matrix]]\nworkload = "mlp"\nenv = ["A=1|2", "B=3"]\n[[matrix]]\nworkload = "gpt"\n')
    seen = make_plan(asked({"env": ["C=4", "A=5"]}, {}, base=read_suite(file)), LAPTOP).cases
    assert [(planned.case.workload, planned.case.env) for planned in seen] == [("mlp", "A=5 C=4"), ("gpt", "A=5 C=4")]


def test_matrices_are_joined_in_order_and_settings_fill_the_protocol(suite: Any) -> None:
    made = make_plan(read_suite(suite(SUITE)), NODE)
    assert [(p.case.workload, p.case.strategy, p.case.pin_memory) for p in made.cases] == [
        ("gpt-nano", "ddp", None),
        ("gpt-nano", "fsdp", None),
        ("mlp:layers=3", "ddp", True),
        ("mlp:layers=3", "ddp", False),
    ]
    assert made.protocol == dataclasses.replace(DEFAULTS, steps=20, timeout=120.0)


def test_equal_cases_of_two_matrices_are_one(suite: Any) -> None:
    text = '[[matrix]]\nworkload = "mlp"\n[[matrix]]\nworkload = ["mlp:layers=4", "gpt"]\n'  # 4 is the default
    assert [p.case.workload for p in make_plan(read_suite(suite(text)), LAPTOP).cases] == ["mlp", "gpt"]


def test_command_line_overrides_axes_and_settings_of_the_suite(suite: Any) -> None:
    wanted = asked(
        {"strategy": ["single"], "seed": ["1,2"]}, {"steps": "7", "launches": "1"}, read_suite(suite(SUITE)), True
    )
    assert wanted == Asked(
        matrices=(
            {"workload": ["gpt-nano"], "strategy": ["single"], "gpus": [2], "seed": [1, 2]},
            {
                "workload": ["mlp:layers=3"],
                "strategy": ["single"],
                "data": ["synthetic"],
                "pin_memory": [True, False],
                "seed": [1, 2],
            },
        ),
        settings={"steps": 7, "timeout": 120.0, "launches": 1},
        oversubscribe=True,
        typed=("strategy", "seed"),
    )


AXIS_NAMES = (
    "workload, args, strategy, gpus, device, precision, activation_checkpointing, activation_offload, attention, compile, compile_scope, batch_size, grad_accum_steps, "
    "max_grad_norm, optimizer, lr_scheduler, init, data, num_workers, pin_memory, prefetch_factor, persistent_workers, omp_num_threads, seed, "
    "channels_last, deterministic, cudnn_benchmark, numa_binding, placement, save_checkpoint, env, scaling, machine, script, as_module"
)
SETTING_NAMES = "warmup_steps, steps, min_seconds, max_seconds, launches, timeout, hang_timeout, launcher, samples_per_step, count_flops, count_work, profile, stragglers, save_dir, save_interval, matmul_peak, order_seed, budget"


@pytest.mark.parametrize(
    ("text", "option", "given", "allowed", "hint"),
    [
        ("[matrx]", "mine.toml", "'matrx'", "the keys protocol, matrix", "Did you mean 'matrix'?"),
        ("", "mine.toml: matrix", "[]", "one [[matrix]] table or more", None),
        ("matrix = 3", "mine.toml: matrix", "3", "one [[matrix]] table or more", None),
        ("[matrix]\nseed = 1", "mine.toml: matrix", "{'seed': 1}", "one [[matrix]] table or more", None),
        ("protocol = 3\n[[matrix]]", "mine.toml: protocol", "3", "a [protocol] table", None),
        ("[protocol]\nstep = 3\n[[matrix]]", "mine.toml: protocol", "'step'", f"the keys {SETTING_NAMES}", "Did you mean 'steps'?"),
        ("[protocol]\nsteps = 1\n[[matrix]]", "mine.toml: protocol.steps", "1", "a whole number from 2", None),
        ('[protocol]\ntimeout = "soon"\n[[matrix]]', "mine.toml: protocol.timeout", "'soon'", "seconds from 1", None),
        ("[[matrix]]\n[[matrix]]\nstrateg = 3", "mine.toml: matrix[1]", "'strateg'", f"the keys {AXIS_NAMES}", "Did you mean 'strategy'?"),
        ('[[matrix]]\nstrategy = ["ddp", "fdsp"]', "mine.toml: matrix[0].strategy", "'fdsp'", "single, dp, ddp, zero1, fsdp", "Did you mean 'fsdp' or 'dp'?"),
        ("[[matrix]]\ngpus = 0", "mine.toml: matrix[0].gpus", "0", "a whole number from 1, all, 1..N, 1..all", None),
        ("[[matrix]]\ngpus = 1.5", "mine.toml: matrix[0].gpus", "1.5", "a whole number from 1, all, 1..N, 1..all", None),
        ("[[matrix]]\ngpus = [[1]]", "mine.toml: matrix[0].gpus", "[1]", "a whole number from 1, all, 1..N, 1..all", None),
        ("[[matrix]]\ngpus = []", "mine.toml: matrix[0].gpus", "[]", "a whole number from 1, all, 1..N, 1..all", None),
        ("[[matrix]]\npin_memory = 1", "mine.toml: matrix[0].pin_memory", "1", "on, off", None),
        ("[[matrix]]\nchannels_last = 1", "mine.toml: matrix[0].channels_last", "1", "on, off", None),
        ("[[matrix]]\nmax_grad_norm = nan", "mine.toml: matrix[0].max_grad_norm", "nan", "a number from 0", None),
        ("[[matrix]]\nmax_grad_norm = -inf", "mine.toml: matrix[0].max_grad_norm", "-inf", "a number from 0", None),
        ("[[matrix]]\ncompile = true", "mine.toml: matrix[0].compile", "True", "off, default, max-autotune", None),
        ('[[matrix]]\nstrategy = ["ddp", "fsdp:reshard=1"]', "mine.toml: matrix[0].strategy: fsdp:reshard", "'1'", "on, off, a whole number from 2", None),
        ('[[matrix]]\nactivation_checkpointing = "every=0"', "mine.toml: matrix[0].activation_checkpointing", "'every=0'", "none, full, selective, every=N", "Did you mean 'every=N'?"),
        ('[[matrix]]\nenv = ["A=1", "A=2"]', "mine.toml: matrix[0].env", "['A=1', 'A=2']", None, "Give its values together: A=V1|V2."),
        ("[[matrix]]\nenv = []", "mine.toml: matrix[0].env", "[]", "NAME=VALUE, or NAME=V1|V2 for an axis", None),
        ("[[matrix]]\nenv = 3", "mine.toml: matrix[0].env", "3", "NAME=VALUE, or NAME=V1|V2 for an axis", None),
        ("[[matrix]]\nenv = true", "mine.toml: matrix[0].env", "True", "NAME=VALUE, or NAME=V1|V2 for an axis", None),
        ('[[matrix]]\nenv = {A = "1"}', "mine.toml: matrix[0].env", "{'A': '1'}", "NAME=VALUE, or NAME=V1|V2 for an axis", None),
        ('[[matrix]]\nenv = [["A=1"]]', "mine.toml: matrix[0].env", "['A=1']", "NAME=VALUE, or NAME=V1|V2 for an axis", None),
        ('[[matrix]]\nenv = "TMPDIR=/x"', "mine.toml: matrix[0].env", "'TMPDIR=/x'", "NAME=VALUE, or NAME=V1|V2 for an axis", "TMPDIR cannot be set here: the launcher sets it."),
    ],
)  # fmt: skip
def test_an_error_names_file_key_what_was_given_and_what_is_allowed(
    suite: Any, text: str, option: str, given: str, allowed: str | None, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        read_suite(suite(text))
    error = raised.value
    assert (error.option, repr(error.given), error.allowed, error.hint) == (option, given, allowed, hint)


def test_broken_toml_says_where(suite: Any) -> None:
    text = "[protocol]\nsteps 3\n"
    with pytest.raises(tomllib.TOMLDecodeError, match="line 2") as reason:
        tomllib.loads(text)
    with pytest.raises(UsageError) as error:
        read_suite(suite(text))
    assert str(error.value) == f"mine.toml: not a TOML file: {reason.value}"


def test_missing_suite_names_the_built_in_ones() -> None:
    with pytest.raises(UsageError) as raised:
        read_suite("quik")
    assert (raised.value.option, raised.value.given) == ("--suite", "quik")
    assert str(raised.value.allowed).split(", ")[:-1] == list(suites())
    assert raised.value.hint == "Did you mean 'quick'?"


def test_folder_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        read_suite(str(tmp_path))
    assert (raised.value.option, raised.value.given) == ("--suite", str(tmp_path))


@pytest.mark.parametrize("name", ["", "x" * 300, "nul\0"])
def test_what_is_no_name_of_a_file_is_no_suite(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_suite(name)
    assert (raised.value.option, raised.value.given, raised.value.hint) == ("--suite", name, None)


def test_toml_that_is_nested_too_deeply(suite: Any) -> None:
    with pytest.raises(UsageError, match="nested too deeply") as raised:
        read_suite(suite(f"a = {'[' * 10_000}{']' * 10_000}\n"))
    assert (raised.value.option, raised.value.given) == ("--suite", "mine.toml")


@pytest.mark.parametrize("name", suites())
def test_built_in_suite_says_what_it_answers(name: str) -> None:
    assert suites()[name].count("?") >= 1


# -- the budget -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suite_says", "given", "protocol"),
    [
        ("", {}, (3, None)),
        ("", {"budget": "30m"}, (None, 1800.0)),  # the default of launches is no limit then
        ("", {"budget": "90s", "launches": "5"}, (5, 90.0)),
        ("launches = 3", {"budget": "30m"}, (None, 1800.0)),  # it takes the place of the suite's number
        ('budget = "1h"', {}, (None, 3600.0)),
        ('budget = "1h"\nlaunches = 4', {}, (4, 3600.0)),
        ('budget = "1h"\nlaunches = 4', {"budget": "2h"}, (4, 7200.0)),
        ("budget = 60", {"launches": "2"}, (2, 60.0)),
    ],
)
def test_launches_beside_a_budget(
    suite: Any, suite_says: str, given: dict[str, str], protocol: tuple[int | None, float | None]
) -> None:
    base = read_suite(suite(f"[protocol]\n{suite_says}\n[[matrix]]\n"))
    made = make_plan(asked({}, given, base), LAPTOP).protocol
    assert (made.launches, made.budget) == protocol


def test_a_suite_may_train_scripts(suite: Callable[[str], str]) -> None:
    asked = read_suite(suite('[[matrix]]\nscript = ["a.py", "b.py"]\nargs = "--bs {batch_size}"\nbatch_size = [8, 16]'))
    assert asked.matrices == (
        {"workload": ["script=a.py", "script=b.py"], "args": ["--bs {batch_size}"], "batch_size": [8, 16]},
    )
    of_module = read_suite(suite('[[matrix]]\nscript = "package.train"\nas_module = true'))
    assert of_module.matrices == ({"workload": ["module=package.train"]},)


@pytest.mark.parametrize(
    "text", ['script = "a.py"\nworkload = "mlp"', "as_module = true", 'script = "a"\nas_module = "yes"', "script = []"]
)
def test_a_script_of_a_suite_that_cannot_be(suite: Callable[[str], str], text: str) -> None:
    with pytest.raises(UsageError, match=r"mine.toml: matrix\[0\]"):
        read_suite(suite(f"[[matrix]]\n{text}"))
