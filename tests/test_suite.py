"""From options and suite files to the plan, and from a case back to its command."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from plain import PLAIN

from bench.case import Case
from bench.devices import Gpu, Machine
from bench.errors import UsageError
from bench.options import AXES, SETTINGS
from bench.suite import Asked, Plan, Protocol, asked, command, make_plan, read_suite, suites

LAPTOP = Machine()
H100 = Gpu("GPU-0", "NVIDIA H100 80GB HBM3", 81559.0, (9, 0))
NODE = Machine((H100, dataclasses.replace(H100, uuid="GPU-1")), "550.54")
DEFAULTS = Protocol(warmup_steps=5, steps=30, min_seconds=0.0, launches=3, timeout=600.0, launcher="server")


def plan(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> Plan:
    wanted = asked({name: [text] for name, text in axes.items()}, {}, oversubscribe=oversubscribe)
    return make_plan(wanted, machine)


def cases(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> list[Case]:
    return [planned.case for planned in plan(machine, oversubscribe, **axes).cases]


def message_of(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> str:
    with pytest.raises(UsageError) as error:
        plan(machine, oversubscribe, **axes)
    return str(error.value)


# -- the defaults of a machine ----------------------------------------------------------------------------------


def test_without_gpus_the_default_is_two_ranks_on_the_cpu() -> None:
    assert cases() == [PLAIN]
    assert plan().protocol == DEFAULTS


def test_with_gpus_the_default_is_all_of_them() -> None:
    [case] = cases(NODE)
    assert (case.device, case.gpus, case.oversubscribe) == ("cuda", 2, False)


def test_device_cpu_leaves_the_gpus_alone() -> None:
    [case] = cases(NODE, device="cpu", gpus="4")
    assert (case.device, case.gpus) == ("cpu", 4)


# -- axes without effect ----------------------------------------------------------------------------------------


def loader_of(case: Case) -> tuple[object, ...]:
    return case.num_workers, case.pin_memory, case.prefetch_factor, case.persistent_workers


@pytest.mark.parametrize(
    ("machine", "axes", "loader"),
    [
        (NODE, {"data": "resident"}, (None, None, None, None)),
        (NODE, {"data": "synthetic"}, (2, True, 2, True)),
        (NODE, {"data": "synthetic", "num_workers": "0"}, (0, True, None, None)),
        (LAPTOP, {"data": "synthetic"}, (2, None, 2, True)),
        (LAPTOP, {"data": "synthetic", "num_workers": "0"}, (0, None, None, None)),
    ],
)
def test_loader_axes_without_effect_are_none(machine: Machine, axes: dict[str, str], loader: tuple[object]) -> None:
    [case] = cases(machine, **axes)
    assert loader_of(case) == loader


def test_loader_axis_with_effect_on_some_cases_is_emptied_in_the_others() -> None:
    found = cases(data="resident,synthetic", num_workers="0,4")
    # resident is one case, whatever the workers
    assert [(case.data, case.num_workers) for case in found] == [("resident", None), ("synthetic", 0), ("synthetic", 4)]


RESIDENT = "has no effect with --data resident, which needs no DataLoader; add --data synthetic (or files)."


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"num_workers": "4"}, f"--num-workers {RESIDENT}"),
        ({"persistent_workers": "off"}, f"--persistent-workers {RESIDENT}"),
        (
            {"data": "synthetic", "pin_memory": "on"},
            "--pin-memory has no effect on the CPU; add --device cuda, or leave it out.",
        ),
        (
            {"data": "synthetic", "num_workers": "0", "prefetch_factor": "4"},
            "--prefetch-factor has no effect without DataLoader workers; add --num-workers 1 or more.",
        ),
        (
            {"data": "synthetic", "num_workers": "0", "persistent_workers": "off"},
            "--persistent-workers has no effect without DataLoader workers; add --num-workers 1 or more.",
        ),
    ],
)
def test_explicit_loader_axis_without_any_effect_says_what_to_add(axes: dict[str, str], message: str) -> None:
    assert message_of(**axes) == message


# -- the product ------------------------------------------------------------------------------------------------


def test_single_collapses_to_one_device_and_equal_cases_to_one() -> None:
    found = [(case.strategy, case.gpus) for case in cases(device="cpu", strategy="single,ddp", gpus="1,2,4")]
    assert found == [("single", 1), ("ddp", 1), ("ddp", 2), ("ddp", 4)]


def test_the_last_axis_varies_fastest() -> None:
    found = [(case.workload, case.strategy, case.seed) for case in cases(workload="mlp,gpt", seed="1,0")]
    assert found == [("mlp", "ddp", 1), ("mlp", "ddp", 0), ("gpt", "ddp", 1), ("gpt", "ddp", 0)]


def test_batch_size_is_the_workloads_own_unless_given() -> None:
    found = cases(workload="mlp,gpt-124m,net:Net")
    assert [case.batch_size for case in found] == [64, 8, None]
    assert [case.batch_size for case in cases(workload="mlp", batch_size="5,6")] == [5, 6]


def test_repeated_option_and_comma_list_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "a,b").write_bytes(b"x" * 500)
    axes = {"workload": ["mlp,gpt", "gpt-nano"], "data": [f"text={tmp_path}/a,b,resident", "synthetic"]}
    [matrix] = asked(axes, {}).matrices
    assert matrix["workload"] == ["mlp", "gpt", "gpt-nano"]
    assert matrix["data"] == [f"text={tmp_path}/a,b", "resident", "synthetic"]


def test_case_that_cannot_run_stays_in_the_plan_with_its_reason() -> None:
    found = plan(workload="mlp,resnet18", data="folder=demo").cases
    assert [(planned.case.workload, planned.skip, planned.samples) for planned in found] == [
        ("mlp", "mlp cannot read folder; it takes resident, synthetic", 512),  # 8 classes x 64 images
        ("resnet18", None, 512),
    ]


# -- devices ----------------------------------------------------------------------------------------------------


def test_gpus_on_a_machine_without() -> None:
    message = "this machine has no GPU; add --device cpu for ranks on the CPU."
    assert message_of(gpus="2") == message
    assert message_of(gpus="2", oversubscribe=True) == message
    assert message_of(gpus="2", device="cuda") == message


def test_more_gpus_than_there_are() -> None:
    assert message_of(NODE, gpus="1,3") == (
        "--gpus 3: this machine has 2; ask for at most 2, or add --device cpu (ranks on the CPU) "
        "or --oversubscribe (ranks share a GPU over Gloo, and the rows say so)."
    )


def test_single_needs_one_gpu_whatever_was_asked() -> None:
    [case] = cases(NODE, strategy="single", gpus="8")
    assert (case.gpus, case.device) == (1, "cuda")


def test_oversubscribe_marks_only_cases_that_share() -> None:
    found = cases(NODE, oversubscribe=True, gpus="2,4")
    assert [(case.gpus, case.oversubscribe) for case in found] == [(2, False), (4, True)]
    [on_cpu] = cases(NODE, oversubscribe=True, gpus="4", device="cpu")
    assert not on_cpu.oversubscribe


# -- suites -----------------------------------------------------------------------------------------------------

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


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("mine.toml").write_text(text)
        return "mine.toml"

    return write


def test_suite_file_is_read(suite: Any) -> None:
    assert read_suite(suite(SUITE)) == Asked(
        matrices=(
            {"workload": ["gpt-nano"], "strategy": ["ddp", "fsdp"], "gpus": [2]},
            {"workload": ["mlp:layers=3"], "data": ["synthetic"], "pin_memory": [True, False]},
        ),
        settings={"steps": 20, "timeout": 120.0},
    )


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
    wanted = asked({"strategy": ["single"], "seed": ["1,2"]}, {"steps": "7", "launches": "1"}, suite(SUITE), True)
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
    )


AXIS_NAMES = (
    "workload, strategy, gpus, device, precision, activation_checkpointing, batch_size, data, num_workers, pin_memory, "
    "prefetch_factor, persistent_workers, omp_num_threads, seed"
)
SETTING_NAMES = "warmup_steps, steps, min_seconds, launches, timeout, launcher"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[matrx]", "mine.toml: unknown key 'matrx'; allowed: protocol, matrix. Did you mean 'matrix'?"),
        ("", "mine.toml: matrix: got []; allowed: one [[matrix]] table or more."),
        ("matrix = 3", "mine.toml: matrix: got 3; allowed: one [[matrix]] table or more."),
        ("[matrix]\nseed = 1", "mine.toml: matrix: got {'seed': 1}; allowed: one [[matrix]] table or more."),
        ("protocol = 3\n[[matrix]]", "mine.toml: protocol: got 3; allowed: a [protocol] table."),
        (
            "[protocol]\nstep = 3\n[[matrix]]",
            f"mine.toml: protocol: unknown key 'step'; allowed: {SETTING_NAMES}. Did you mean 'steps'?",
        ),
        (
            "[protocol]\nsteps = 1\n[[matrix]]",
            "mine.toml: protocol.steps: got 1; allowed: a whole number from 2.",
        ),
        (
            '[protocol]\ntimeout = "soon"\n[[matrix]]',
            "mine.toml: protocol.timeout: got 'soon'; allowed: seconds from 1.",
        ),
        (
            "[[matrix]]\n[[matrix]]\nstrateg = 3",
            f"mine.toml: matrix[1]: unknown key 'strateg'; allowed: {AXIS_NAMES}. Did you mean 'strategy'?",
        ),
        (
            '[[matrix]]\nstrategy = ["ddp", "fdsp"]',
            "mine.toml: matrix[0].strategy: got 'fdsp'; allowed: single, ddp, fsdp. Did you mean 'fsdp'?",
        ),
        ("[[matrix]]\ngpus = 0", "mine.toml: matrix[0].gpus: got 0; allowed: a whole number from 1."),
        ("[[matrix]]\ngpus = 1.5", "mine.toml: matrix[0].gpus: got 1.5; allowed: a whole number from 1."),
        ("[[matrix]]\ngpus = [[1]]", "mine.toml: matrix[0].gpus: got [1]; allowed: a whole number from 1."),
        (
            "[[matrix]]\ngpus = []",
            "mine.toml: matrix[0].gpus: got an empty list; allowed: a whole number from 1.",
        ),
        ("[[matrix]]\npin_memory = 1", "mine.toml: matrix[0].pin_memory: got 1; allowed: on, off."),
    ],
)
def test_message_names_file_key_what_was_given_and_what_is_allowed(suite: Any, text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_suite(suite(text))
    assert str(error.value) == message


def test_broken_toml_says_where(suite: Any) -> None:
    text = "[protocol]\nsteps 3\n"
    with pytest.raises(tomllib.TOMLDecodeError, match="line 2") as reason:
        tomllib.loads(text)
    with pytest.raises(UsageError) as error:
        read_suite(suite(text))
    assert str(error.value) == f"mine.toml: not a TOML file: {reason.value}"


def test_missing_suite_names_the_built_in_ones() -> None:
    with pytest.raises(UsageError) as error:
        read_suite("quik")
    known = ", ".join(suites())
    assert str(error.value) == f"--suite quik: no such suite or file; built in: {known}. Did you mean 'quick'?"


def test_folder_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_suite(str(tmp_path))
    assert str(error.value).startswith(f"--suite {tmp_path}: no such suite or file; built in: quick")


@pytest.mark.parametrize("name", suites())
def test_built_in_suite_says_what_it_answers_and_runs_on_the_cpu(name: str) -> None:
    assert suites()[name].count("?") >= 1
    made = make_plan(read_suite(name), LAPTOP)
    assert made.cases
    assert [planned.skip for planned in made.cases if planned.skip] == []


# -- the command that gives a case again ------------------------------------------------------------------------


def parsed(line: str) -> Asked:
    """A command line, understood by hand: pairs of flag and value after ``bench run``."""
    words = shlex.split(line)
    assert words[:2] == ["bench", "run"]
    shares = words[-1] == "--oversubscribe"
    pairs = words[2 : -1 if shares else None]
    given = {flag[2:].replace("-", "_"): value for flag, value in zip(pairs[::2], pairs[1::2], strict=True)}
    axes: Mapping[str, list[str]] = {name: [value] for name, value in given.items() if name in AXES}
    settings = {name: value for name, value in given.items() if name in SETTINGS}
    assert len(axes) + len(settings) == len(given)
    return asked(axes, settings, oversubscribe=shares)


def test_command_of_the_default_case() -> None:
    [case] = cases()
    assert command(case, DEFAULTS) == (
        "bench run --workload resnet18 --strategy ddp --gpus 2 --device cpu --batch-size 32"
    )


def test_command_is_quoted_for_the_shell_and_parses_back(tmp_path: Path) -> None:
    text = tmp_path / "it's; my $HOME, really"
    text.write_bytes(b"x" * 10_000)
    protocol = Protocol(warmup_steps=0, steps=2, min_seconds=0.25, launches=1, timeout=90.5, launcher="torchrun")
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
        "--min-seconds 0.25 --launches 1 --timeout 90.5 --launcher torchrun --oversubscribe"
    )
    again = make_plan(parsed(line), NODE)
    assert ([planned.case for planned in again.cases], again.protocol) == ([case], protocol)


@pytest.mark.parametrize("machine", [LAPTOP, NODE])
@pytest.mark.parametrize(
    "axes",
    [
        {},
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
    seen = make_plan(asked({"num_workers": ["4"]}, {}, suite=str(file)), LAPTOP).cases
    assert [planned.case.num_workers for planned in seen] == [None, 4]
