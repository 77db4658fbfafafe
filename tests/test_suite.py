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
DEFAULTS = Protocol(
    warmup_steps=5,
    steps=30,
    min_seconds=0.0,
    launches=3,
    timeout=600.0,
    hang_timeout=60.0,
    launcher="server",
    order_seed=0,
    budget=None,
)


def plan(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> Plan:
    wanted = asked({name: [text] for name, text in axes.items()}, {}, oversubscribe=oversubscribe)
    return make_plan(wanted, machine)


def with_env(*variables: str) -> list[str]:
    """What ``--env`` given once for each variable makes of the default case."""
    return [planned.case.env for planned in make_plan(asked({"env": variables}, {}), LAPTOP).cases]


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


CPU = "has no effect on the CPU; add --device cuda, or leave it out."
IMAGES = "has no effect without images; add a workload that has them, or leave it out."


@pytest.mark.parametrize(
    ("machine", "axes", "message"),
    [
        (LAPTOP, {"cudnn_benchmark": "on"}, f"--cudnn-benchmark {CPU}"),
        (LAPTOP, {"cudnn_benchmark": "on,off"}, f"--cudnn-benchmark {CPU}"),
        (NODE, {"device": "cpu", "cudnn_benchmark": "off", "deterministic": "on"}, f"--cudnn-benchmark {CPU}"),
        (LAPTOP, {"numa_binding": "off"}, f"--numa-binding {CPU}"),
        (LAPTOP, {"numa_binding": "node,socket"}, f"--numa-binding {CPU}"),
        (LAPTOP, {"pin_memory": "off"}, f"--pin-memory {RESIDENT}"),  # neither the CPU has an effect
        (LAPTOP, {"workload": "gpt-nano", "channels_last": "on"}, f"--channels-last {IMAGES}"),
        (NODE, {"workload": "mlp,dlrm,bert", "channels_last": "off"}, f"--channels-last {IMAGES}"),
    ],
)
def test_explicit_axis_without_any_effect_says_what_to_add(
    machine: Machine, axes: dict[str, str], message: str
) -> None:
    assert message_of(machine, **axes) == message


def test_axes_of_gpus_are_empty_on_the_cpu_and_only_there() -> None:
    found = cases(NODE, device="cpu,cuda", cudnn_benchmark="on,off", numa_binding="off,node")
    assert [(case.device, case.cudnn_benchmark, case.numa_binding) for case in found] == [
        ("cpu", None, None),
        ("cuda", True, "off"),
        ("cuda", True, "node"),
        ("cuda", False, "off"),
        ("cuda", False, "node"),
    ]
    [default] = cases(NODE)
    assert (default.cudnn_benchmark, default.numa_binding) == (True, "off")


def test_deterministic_turns_the_choice_of_kernels_off_where_there_is_one() -> None:
    found = cases(NODE, device="cpu,cuda", deterministic="off,on")
    assert [(case.device, case.deterministic, case.cudnn_benchmark) for case in found] == [
        ("cpu", False, None),
        ("cpu", True, None),
        ("cuda", False, True),
        ("cuda", True, False),
    ]
    both = cases(NODE, deterministic="off,on", cudnn_benchmark="on,off")
    assert [(case.deterministic, case.cudnn_benchmark) for case in both] == [
        (False, True),
        (False, False),
        (True, False),
    ]


def test_channels_last_is_empty_for_built_in_workloads_without_images() -> None:
    found = cases(workload="gpt-nano,dlrm,resnet18,mnist-cnn,vit-b-16,net:Net", channels_last="off,on")
    assert [(case.workload, case.channels_last) for case in found] == [
        ("gpt-nano", None),
        ("dlrm", None),
        *[("resnet18", False), ("resnet18", True)],
        *[("mnist-cnn", False), ("mnist-cnn", True)],
        *[("vit-b-16", False), ("vit-b-16", True)],
        *[("net:Net", False), ("net:Net", True)],  # who knows
    ]


@pytest.mark.parametrize(
    ("reduce", "kept"),
    [
        # what gradients are reduced in without being asked: float32, but for parameters in bfloat16
        ("own", []),
        ("fp32", ["bf16"]),
        ("bf16", ["fp32", "tf32", "amp-bf16", "amp-fp16"]),
    ],
)
def test_reducing_in_the_type_that_is_natural_is_no_option(reduce: str, kept: list[str]) -> None:
    precisions = ["fp32", "tf32", "amp-bf16", "amp-fp16", "bf16"]
    found = cases(strategy=f"fsdp:reduce={reduce}:reshard=off", precision=",".join(precisions))
    assert {case.precision: case.strategy for case in found} == {
        precision: f"fsdp:reshard=off:reduce={reduce}" if precision in kept else "fsdp:reshard=off"
        for precision in precisions
    }


def test_types_to_reduce_in_that_come_to_the_same_are_one_case() -> None:
    found = cases(strategy="fsdp,fsdp:reduce=fp32,fsdp:reduce=bf16,fsdp:reduce=own", precision="fp32,bf16")
    assert [(case.strategy, case.precision) for case in found] == [
        ("fsdp", "fp32"),
        ("fsdp", "bf16"),
        ("fsdp:reduce=fp32", "bf16"),
        ("fsdp:reduce=bf16", "fp32"),
    ]


# -- the product ------------------------------------------------------------------------------------------------


def test_single_collapses_to_one_device_and_equal_cases_to_one() -> None:
    found = [(case.strategy, case.gpus) for case in cases(device="cpu", strategy="single,ddp", gpus="1,2,4")]
    assert found == [("single", 1), ("ddp", 1), ("ddp", 2), ("ddp", 4)]


@pytest.mark.parametrize(
    ("axes", "name", "values"),
    [
        ({"strategy": "fsdp:reshard=on,fsdp,fsdp:replicate=1:offload=off"}, "strategy", ["fsdp"]),
        ({"strategy": "ddp:hook=fp16:bucket-mb=25,ddp:hook=fp16,ddp"}, "strategy", ["ddp:hook=fp16", "ddp"]),
        ({"strategy": "fsdp:reduce=bf16:reshard=02,fsdp:reshard=2:reduce=bf16"}, "strategy", ["fsdp:reshard=2:reduce=bf16"]),
        ({"activation_checkpointing": "every=1,full,every=02,every=2"}, "activation_checkpointing", ["full", "every=2"]),
        ({"max_grad_norm": "0,0.0,-0,1,1.0,1e0"}, "max_grad_norm", [0.0, 1.0]),
        ({"grad_accum_steps": "1,2,02"}, "grad_accum_steps", [1, 2]),
        ({"env": "A=1|1|2"}, "env", ["A=1", "A=2"]),
    ],
)  # fmt: skip
def test_one_value_written_in_two_ways_is_one_case(axes: dict[str, str], name: str, values: list[object]) -> None:
    assert [getattr(case, name) for case in cases(**axes)] == values


EVERYTHING = {
    "strategy": "single,dp,ddp,ddp:bucket-mb=1:hook=fp16,ddp:hook=fp16,fsdp,fsdp:reshard=off,fsdp:reduce=fp32,fsdp:reduce=bf16",
    "device": "cpu,cuda",
    "precision": "fp32,tf32,amp-fp16,bf16",
    "activation_checkpointing": "none,full,every=2,every=1",
    "compile": "off,default",
    "grad_accum_steps": "1,2",
    "max_grad_norm": "0,1",
    "optimizer": "adamw,sgd",
    "channels_last": "off,on",
    "env": "A=b-c|b_c",
}  # fmt: skip


def test_no_two_cases_have_one_id() -> None:
    found = cases(NODE, **EVERYTHING)
    # a device: 9 strategies x 4 precisions, less reduce=fp32 with the three that do so anyway and reduce=bf16 with the
    # fourth: 32; x 3 x 2 x 2 x 2 x 2 x 2 x 2
    assert len(found) == 2 * 32 * 3 * 64
    assert len({case.case_id for case in found}) == len(found)


def test_no_two_cases_of_a_gpu_have_one_id() -> None:
    axes = {"deterministic": "on,off", "cudnn_benchmark": "on,off", "numa_binding": "off,node,socket"}
    loader = {"data": "resident,synthetic", "num_workers": "0,2,3", "pin_memory": "on,off", "prefetch_factor": "2,3"}
    found = cases(NODE, True, workload="resnet18,mlp", strategy="dp,ddp", gpus="1,2,4", **axes, **loader)
    # loader: 1 resident, 2 without workers, 2 x 2 x 2 with; kernels: 3
    assert len(found) == 2 * 2 * 3 * (1 + 2 + 8) * 3 * 3
    assert len({case.case_id for case in found}) == len(found)


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


def test_accumulation_needs_more_samples_for_a_global_batch() -> None:
    found = plan(data="folder=demo", batch_size="64", grad_accum_steps="4,5").cases
    assert [planned.skip for planned in found] == [
        None,  # 64 x 2 x 4 = 512
        "512 samples do not fill one global batch of 640; give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data",
    ]


def test_what_the_compiler_lacks_is_known_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.suite.compiler_lacks", lambda: "a miracle")
    found = plan(compile="off,default,max-autotune").cases
    assert [planned.skip for planned in found] == [None, *["torch.compile needs a miracle"] * 2]


# -- environment variables --------------------------------------------------------------------------------------


def test_environment_variables_are_an_axis_each_and_make_a_product() -> None:
    assert with_env("B=x", "A=1|2") == ["A=1 B=x", "A=2 B=x"]
    assert with_env("A=1|2", "B=x|y") == ["A=1 B=x", "A=1 B=y", "A=2 B=x", "A=2 B=y"]
    assert with_env("A=a,b") == ["A=a,b"]  # a comma is of the value
    assert with_env("A=it's|") == ["'A=it'\"'\"'s'", "A="]


def test_environment_is_the_same_in_any_order() -> None:
    assert with_env("A=1", "B=2") == with_env("B=2", "A=1") == ["A=1 B=2"]


def test_environment_varies_fastest() -> None:
    found = make_plan(asked({"seed": ["0,1"], "env": ["A=x|y"]}, {}), LAPTOP).cases
    assert [(planned.case.seed, planned.case.env) for planned in found] == [
        *[(0, "A=x"), (0, "A=y")],
        *[(1, "A=x"), (1, "A=y")],
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (["A=1", "A=2"], "--env: A is given twice; give its values in one: A=V1|V2."),
        ([""], "--env: got ''; allowed: NAME=VALUE, or NAME=V1|V2 for an axis."),
        (["A"], "--env: got 'A'; allowed: NAME=VALUE, or NAME=V1|V2 for an axis."),
        (["WORLD_SIZE=2"], "--env: got 'WORLD_SIZE=2'; allowed: NAME=VALUE, or NAME=V1|V2 for an axis. WORLD_SIZE cannot be set so: the launcher sets it."),
    ],
)  # fmt: skip
def test_environment_that_cannot_be(variables: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        with_env(*variables)
    assert str(error.value) == message


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


def test_data_parallel_is_one_rank_on_all_gpus() -> None:
    [case] = cases(NODE, strategy="dp")
    assert (case.gpus, case.world_size, case.devices, case.batch_size, case.rank_batch) == (2, 1, 2, 32, 64)
    found = cases(NODE, strategy="single,dp", gpus="1,2")
    assert [(case.strategy, case.gpus) for case in found] == [("single", 1), ("dp", 1), ("dp", 2)]
    [shared] = cases(NODE, oversubscribe=True, strategy="dp", gpus="4")
    assert (shared.gpus, shared.oversubscribe) == (4, True)
    assert message_of(NODE, strategy="dp", gpus="3") == (
        "--gpus 3: this machine has 2; ask for at most 2, or add --device cpu (ranks on the CPU) "
        "or --oversubscribe (ranks share a GPU over Gloo, and the rows say so)."
    )


def test_data_parallel_without_gpus_is_a_case_with_a_reason() -> None:
    [planned] = plan(strategy="dp").cases
    assert (planned.case.device, planned.case.gpus) == ("cpu", 2)
    assert planned.skip == "nn.DataParallel copies a model to GPUs and has no form for the CPU; use ddp"


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
    "workload, strategy, gpus, device, precision, activation_checkpointing, compile, batch_size, grad_accum_steps, "
    "max_grad_norm, optimizer, data, num_workers, pin_memory, prefetch_factor, persistent_workers, omp_num_threads, seed, "
    "channels_last, deterministic, cudnn_benchmark, numa_binding, env, scaling, machine"
)
SETTING_NAMES = "warmup_steps, steps, min_seconds, launches, timeout, hang_timeout, launcher, order_seed, budget"


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
            "mine.toml: matrix[0].strategy: no strategy 'fdsp'; allowed: single, dp, ddp, fsdp. Did you mean 'fsdp' or 'dp'?",
        ),
        (
            "[[matrix]]\ngpus = 0",
            "mine.toml: matrix[0].gpus: got 0; allowed: a whole number from 1, all, 1..N, 1..all.",
        ),
        (
            "[[matrix]]\ngpus = 1.5",
            "mine.toml: matrix[0].gpus: got 1.5; allowed: a whole number from 1, all, 1..N, 1..all.",
        ),
        (
            "[[matrix]]\ngpus = [[1]]",
            "mine.toml: matrix[0].gpus: got [1]; allowed: a whole number from 1, all, 1..N, 1..all.",
        ),
        (
            "[[matrix]]\ngpus = []",
            "mine.toml: matrix[0].gpus: got an empty list; allowed: a whole number from 1, all, 1..N, 1..all.",
        ),
        ("[[matrix]]\npin_memory = 1", "mine.toml: matrix[0].pin_memory: got 1; allowed: on, off."),
        ("[[matrix]]\nchannels_last = 1", "mine.toml: matrix[0].channels_last: got 1; allowed: on, off."),
        ("[[matrix]]\nmax_grad_norm = nan", "mine.toml: matrix[0].max_grad_norm: got nan; allowed: a number from 0."),
        ("[[matrix]]\nmax_grad_norm = -inf", "mine.toml: matrix[0].max_grad_norm: got -inf; allowed: a number from 0."),
        ("[[matrix]]\ncompile = true", "mine.toml: matrix[0].compile: got True; allowed: off, default, max-autotune."),
        (
            '[[matrix]]\nstrategy = ["ddp", "fsdp:reshard=1"]',
            "mine.toml: matrix[0].strategy: strategy fsdp: reshard got '1'; allowed: on, off, a whole number from 2.",
        ),
        (
            '[[matrix]]\nactivation_checkpointing = "every=0"',
            "mine.toml: matrix[0].activation_checkpointing: got 'every=0'; allowed: none, full, selective, every=N. Did you mean 'every=N'?",
        ),
        (
            '[[matrix]]\nenv = ["A=1", "A=2"]',
            "mine.toml: matrix[0].env: A is given twice; give its values in one: A=V1|V2.",
        ),
        (
            "[[matrix]]\nenv = []",
            "mine.toml: matrix[0].env: got an empty list; allowed: NAME=VALUE, or NAME=V1|V2 for an axis.",
        ),
        ("[[matrix]]\nenv = 3", "mine.toml: matrix[0].env: got 3; allowed: NAME=VALUE, or NAME=V1|V2 for an axis."),
        (
            "[[matrix]]\nenv = true",
            "mine.toml: matrix[0].env: got True; allowed: NAME=VALUE, or NAME=V1|V2 for an axis.",
        ),
        (
            '[[matrix]]\nenv = {A = "1"}',
            "mine.toml: matrix[0].env: got {'A': '1'}; allowed: NAME=VALUE, or NAME=V1|V2 for an axis.",
        ),
        (
            '[[matrix]]\nenv = [["A=1"]]',
            "mine.toml: matrix[0].env: got ['A=1']; allowed: NAME=VALUE, or NAME=V1|V2 for an axis.",
        ),
        (
            '[[matrix]]\nenv = "TMPDIR=/x"',
            "mine.toml: matrix[0].env: got 'TMPDIR=/x'; allowed: NAME=VALUE, or NAME=V1|V2 for an axis. TMPDIR cannot be set so: the launcher sets it.",
        ),
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
    assert str(error.value).startswith(f"--suite {tmp_path}: no such suite or file; built in: ci, ")


@pytest.mark.parametrize("name", ["", "x" * 300, "nul\0"])
def test_what_is_no_name_of_a_file_is_no_suite(name: str) -> None:
    with pytest.raises(UsageError) as error:
        read_suite(name)
    assert str(error.value) == f"--suite {name}: no such suite or file; built in: {', '.join(suites())}."


def test_toml_that_is_nested_too_deeply(suite: Any) -> None:
    with pytest.raises(UsageError) as error:
        read_suite(suite(f"a = {'[' * 10_000}{']' * 10_000}\n"))
    assert str(error.value) == "mine.toml: cannot read it: its lists or tables are nested too deeply"


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


def test_a_command_has_nothing_of_the_rest_of_the_run() -> None:
    [case] = cases()
    protocol = dataclasses.replace(DEFAULTS, launches=None, order_seed=7, budget=60.0)
    assert command(case, protocol) == command(case, DEFAULTS)


# -- the command that gives a case again ------------------------------------------------------------------------


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
        {"max_grad_norm": "1e22", "env": "A=1"},
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
    with pytest.raises(UsageError, match=r"^--prefetch-factor has no effect without DataLoader workers;"):
        make_plan(asked(axes, {}, read_suite(suite(LOADED))), LAPTOP)


@pytest.mark.parametrize("settings", [{}, {"steps": "5"}])
def test_a_suite_alone_is_checked_whole(suite: Any, settings: dict[str, str]) -> None:
    file = suite(LOADED.replace("[1, 2]", "0"))
    with pytest.raises(UsageError, match=r"^--prefetch-factor has no effect without DataLoader workers;"):
        make_plan(asked({}, settings, read_suite(file)), LAPTOP)


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
