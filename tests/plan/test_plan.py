"""From options to the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_plans import DEFAULTS, EVERYTHING, LAPTOP, NODE, cases, plan, refusal
from plain_case import PLAIN

from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.plan import asked, make_plan


def with_env(*variables: str) -> list[str]:
    """What ``--env`` given once for each variable makes of the default case."""
    return [planned.case.env for planned in make_plan(asked({"env": variables}, {}), LAPTOP).cases]


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


RESIDENT = "Add --data synthetic (or files)."
WORKERS = "Add --num-workers 1 or more."
CPU = "Add --device cuda, or leave {} out."
IMAGES = "Choose a workload that has images, or leave {} out."


@pytest.mark.parametrize(
    ("machine", "axes", "option", "hint"),
    [
        (LAPTOP, {"num_workers": "4"}, "--num-workers", RESIDENT),
        (LAPTOP, {"persistent_workers": "off"}, "--persistent-workers", RESIDENT),
        (LAPTOP, {"data": "synthetic", "pin_memory": "on"}, "--pin-memory", CPU),
        (LAPTOP, {"data": "synthetic", "num_workers": "0", "prefetch_factor": "4"}, "--prefetch-factor", WORKERS),
        (
            *(LAPTOP, {"data": "synthetic", "num_workers": "0", "persistent_workers": "off"}),
            *("--persistent-workers", WORKERS),
        ),
        (LAPTOP, {"cudnn_benchmark": "on"}, "--cudnn-benchmark", CPU),
        (LAPTOP, {"cudnn_benchmark": "on,off"}, "--cudnn-benchmark", CPU),
        (NODE, {"device": "cpu", "cudnn_benchmark": "off", "deterministic": "on"}, "--cudnn-benchmark", CPU),
        (LAPTOP, {"numa_binding": "off"}, "--numa-binding", CPU),
        (LAPTOP, {"numa_binding": "node,socket"}, "--numa-binding", CPU),
        (LAPTOP, {"pin_memory": "off"}, "--pin-memory", RESIDENT),  # It has no effect on the CPU either.
        (LAPTOP, {"workload": "gpt-nano", "channels_last": "on"}, "--channels-last", IMAGES),
        (NODE, {"workload": "mlp,dlrm,bert", "channels_last": "off"}, "--channels-last", IMAGES),
    ],
)
def test_explicit_axis_without_any_effect_says_what_to_add(
    machine: Machine, axes: dict[str, str], option: str, hint: str
) -> None:
    error = refusal(machine, **axes)
    assert (error.option, error.hint) == (option, hint.format(option))


def test_even_placement_needs_several_nodes_and_several_ranks() -> None:
    assert refusal(LAPTOP, placement="pack,even").hint == "Add --nnodes, or leave --placement out."
    found = cases(Machine(nodes=2), placement="pack,even", gpus="1,4", device="cpu")
    assert [(case.gpus, case.placement) for case in found] == [(1, "pack"), (4, "pack"), (4, "even")]
    assert cases(LAPTOP, placement="pack") == cases(LAPTOP)


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
    monkeypatch.setattr("bench.plan.plan.compiler_lacks", lambda: "a miracle")
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
    ("variables", "given", "hint"),
    [
        (["A=1", "A=2"], ["A=1", "A=2"], "Give its values together: A=V1|V2."),
        ([""], "", None),
        (["A"], "A", None),
        (["WORLD_SIZE=2"], "WORLD_SIZE=2", "WORLD_SIZE cannot be set here: the launcher sets it."),
    ],
)
def test_environment_that_cannot_be(variables: list[str], given: object, hint: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        with_env(*variables)
    assert (raised.value.option, raised.value.given, raised.value.hint) == ("--env", given, hint)


NO_GPU = (
    "Add --device cpu --gpus 2 for ranks on its processors, and take a workload that a processor can train, such as "
    "--workload gpt-nano or resnet18:size=64."
)


# -- devices ----------------------------------------------------------------------------------------------------


def test_gpus_on_a_machine_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    for error in (refusal(gpus="2"), refusal(gpus="2", oversubscribe=True), refusal(gpus="2", device="cuda")):
        assert (error.option, error.hint) == ("--device", NO_GPU)


def test_more_gpus_than_there_are() -> None:
    error = refusal(NODE, gpus="1,3")
    assert (error.option, error.given, error.allowed) == ("--gpus", 3, "at most 2, the GPUs of this machine")
    assert "--device cpu" in str(error.hint)
    assert "--oversubscribe" in str(error.hint)


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
    assert refusal(NODE, strategy="dp", gpus="3").given == 3


def test_data_parallel_without_gpus_is_a_case_with_a_reason() -> None:
    [planned] = plan(strategy="dp").cases
    assert (planned.case.device, planned.case.gpus) == ("cpu", 2)
    assert planned.skip == "nn.DataParallel copies a model to GPUs and does not support the CPU; use ddp"


def test_oversubscribe_marks_only_cases_that_share() -> None:
    found = cases(NODE, oversubscribe=True, gpus="2,4")
    assert [(case.gpus, case.oversubscribe) for case in found] == [(2, False), (4, True)]
    [on_cpu] = cases(NODE, oversubscribe=True, gpus="4", device="cpu")
    assert not on_cpu.oversubscribe
