"""The table of constraints: which cases cannot run, and why. Each such case becomes a row with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.optimizers import parse_optimizer
from bench.plan.options import AXES, FLOAT8, LOADER_AXES
from bench.plan.strategies import PIPELINE_SCHEDULES, REPLICATED, STRATEGIES

if TYPE_CHECKING:
    from bench.plan.description import Description

VOLTA, AMPERE, ADA, HOPPER = (7, 0), (8, 0), (8, 9), (9, 0)  # Compute capabilities.


@dataclass(frozen=True)
class Facts:
    """What a rule may use in addition to the case.

    ``samples``: number of samples in the data, None if not known yet. ``compiler_lacks``: what torch.compile needs and
    this machine does not have, in words; empty if nothing is missing. ``numactl``: whether that command is installed.
    ``torchao``: whether that package is.
    """

    machine: Machine
    samples: int | None = None
    description: Description | None = None
    compiler_lacks: str = ""
    numactl: bool = True
    torchao: bool = True


@dataclass(frozen=True)
class Rule:
    """A constraint: ``broken`` returns whether a case violates it, ``reason`` why such a case cannot run."""

    broken: Callable[[Case, Facts], bool]
    reason: Callable[[Case, Facts], str]


def _kinds(case: Case, facts: Facts) -> tuple[str, ...]:
    if facts.description:
        return facts.description.data
    return case.spec.entry.data if case.spec.entry else ()


def _has_gpu_before(facts: Facts, capability: tuple[int, int]) -> bool:
    return any(gpu.capability < capability for gpu in facts.machine.gpus)


def _option(case: Case, strategy: str, option: str) -> str:
    """Return the value of a strategy's option; an empty text for other strategies. ``zero1`` has those of ``ddp``."""
    name = "ddp" if case.spread.name in REPLICATED else case.spread.name
    return case.spread.options[option] if name == strategy else ""


def _data_ranks(case: Case) -> int:
    """Return the number of ranks with different samples; of ranks that cannot be divided so, all but the rest."""
    return case.gpus // case.model_ranks


def _shards(case: Case) -> int:
    """Return the number of ranks over which FSDP shards one replica."""
    return _data_ranks(case) // int(case.spread.options["replicate"])


def _binds(case: Case) -> bool:
    return case.numa_binding not in (None, "off")


def _layers(facts: Facts) -> int | None:
    """Return the number of layers that the workload names; None if not known."""
    return facts.description.layers if facts.description else None


def _checkpoints_itself(facts: Facts) -> bool:
    return bool(facts.description and facts.description.own_checkpointing)


def _models(facts: Facts, kind: str) -> str:
    """Return the names of some parts of the models that a loss uses by themselves."""
    names: list[str] = getattr(facts.description, kind)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _offloads(case: Case) -> bool:
    return case.activation_offload == "cpu"


def _every(case: Case) -> int:
    return int(str(case.activation_checkpointing).partition("every=")[2] or 1)


def _is_tensor(case: Case) -> bool:
    """Return whether ranks share layers."""
    return case.tensor_ranks > 1


def _is_pipeline(case: Case) -> bool:
    """Return whether ranks have different layers."""
    return case.pipeline_ranks > 1


def _is_divided(case: Case) -> bool:
    """Return whether a rank has a part of the model that others of its samples have not."""
    return case.model_ranks > 1


def _of_model(case: Case) -> str:
    """Return the options by which ranks have parts of one model, as they are written."""
    return ":".join(f"{name}={n}" for name, n in (("tp", case.tensor_ranks), ("pp", case.pipeline_ranks)) if n > 1)


def _unshown_options(case: Case) -> list[str]:
    """Return the options beside tp or pp that differ from their default and are not shown equal with them."""
    name, given = case.spread.name, case.spread.options
    defaults = {option: choice.default for option, choice in STRATEGIES[name].options.items()}
    shown = SHOWN_WITH_PIPELINE if _is_pipeline(case) else SHOWN_WITH_TENSOR
    return [
        f"{option}={value}"
        for option, value in given.items()
        if value != defaults[option] and option not in shown and (option, value) != ("reshard", "off")
    ]


def _schedule(case: Case) -> str:
    """Return the schedule of a pipeline; an empty text for strategies without one."""
    return case.spread.options.get("schedule", "")


def _rounds(case: Case) -> int:
    """Return in how many rounds the interleaved schedule takes the micro-batches (torch's ScheduleInterleaved1F1B)."""
    return max(1, case.micro_batches // case.pipeline_ranks)


def _most_split(facts: Facts) -> int:
    """Return ``max_split`` of the workload; 0 if it has none, or is not known."""
    return (facts.description.max_split if facts.description else None) or 0


def _lacks(case: Case, facts: Facts, way: str) -> bool:
    """Return whether the workload is known not to say how ``tp`` or ``pp`` divides it."""
    if facts.description:
        return not (_most_split(facts) if way == "tp" else facts.description.has_stages)
    return case.spec.entry is not None and way not in case.spec.entry.parallel


def _own_of(facts: Facts) -> list[str]:
    """Return the optional members of a workload, and methods of its model, that tp and pp do not know."""
    found = facts.description
    if found is None:
        return []
    own = {
        "optimizers(model)": found.own_optimizer,
        "loader(rank, world_size, batch_size)": found.own_loader,
        "activation_checkpoint(model)": found.own_checkpointing,
        "step(model, batch, ctx)": found.own_step,
        "methods that its loss calls": bool(found.methods),
    }
    return [name for name, has in own.items() if has]


DATA = (
    Rule(
        lambda case, facts: bool(_kinds(case, facts)) and case.data_kind not in _kinds(case, facts),
        lambda case, facts: f"{case.workload} cannot read {case.data_kind}; it takes {', '.join(_kinds(case, facts))}",
    ),
    Rule(
        lambda case, facts: (
            facts.samples is not None and case.global_batch is not None and facts.samples < case.global_batch
        ),
        lambda case, facts: (
            f"{facts.samples} samples do not fill one global batch of {case.global_batch}; "
            "give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data"
        ),
    ),
)

STRATEGY = (
    Rule(
        lambda case, facts: case.fake_ranks and case.spread.name not in ("ddp", "fsdp"),
        lambda case, facts: (
            "a script makes its process group itself, so that it has no fake ranks"
            if case.is_script
            else f"{case.strategy} has no process group, and fake ranks are one; use ddp or fsdp"
        ),
    ),
    Rule(
        lambda case, facts: case.fake_ranks and case.compile != "off",
        lambda case, facts: "collectives inside of compiled code cannot be counted; use real ranks with --compile",
    ),
    Rule(
        lambda case, facts: case.spread.name == "dp" and case.device == "cpu",
        lambda case, facts: "nn.DataParallel copies a model to GPUs and does not support the CPU; use ddp",
    ),
    Rule(
        lambda case, facts: case.oversubscribe and case.spread.name == "fsdp",
        lambda case, facts: (
            "ranks that share a GPU talk over Gloo, for which PyTorch documents no all-gather or reduce-scatter "
            "of CUDA tensors; use ddp"
        ),
    ),
    Rule(
        lambda case, facts: _option(case, "fsdp", "offload") == "cpu" and case.device == "cpu",
        lambda case, facts: (
            "fsdp:offload=cpu moves parameters from a GPU to the host; on the CPU they are there already"
        ),
    ),
    Rule(
        lambda case, facts: (
            case.spread.name == "fsdp"
            and (_data_ranks(case) % (n := int(case.spread.options["replicate"])) > 0 or 1 < n == _data_ranks(case))
        ),
        lambda case, facts: (
            f"fsdp:replicate={case.spread.options['replicate']} does not split {_data_ranks(case)} "
            f"{'data ' * _is_divided(case)}ranks into replicas of two or more; "
            f"give a smaller divisor of {f'--gpus / {case.model_ranks}' if _is_divided(case) else '--gpus'}, or use ddp"
        ),
    ),
    Rule(
        lambda case, facts: (
            (n := _option(case, "fsdp", "reshard")).isdecimal()
            and (_shards(case) % int(n) > 0 or int(n) >= _shards(case))
        ),
        lambda case, facts: (
            f"fsdp:reshard={case.spread.options['reshard']} is no proper divisor of the {_shards(case)} ranks that a "
            "replica is sharded over; reshard=on frees all, reshard=off nothing"
        ),
    ),
    Rule(
        lambda case, facts: _option(case, "ddp", "static-graph") == "on" and case.micro_batches > 1,
        lambda case, facts: (
            "under no_sync, DDP's static graph leaves out the all-reduce or fails (pytorch/pytorch#187732); "
            f"use {case.spread.name}:static-graph=off"
        ),
    ),
    Rule(
        lambda case, facts: (
            _option(case, "ddp", "static-graph") == "on" and _option(case, "ddp", "find-unused") == "on"
        ),
        lambda case, facts: (
            f"DDP's static graph finds unused parameters itself; use {case.spread.name}:find-unused=off"
        ),
    ),
)

ELEMENTWISE_SHOWN = ("adamw", "sgd")
SHOWN_WITH_TENSOR = ("tp", "loss-parallel", "replicate", "bucket-mb", "bucket-view")
SHOWN_WITH_PIPELINE = ("pp", "schedule", "bucket-mb", "bucket-view")
NOT_SHOWN = "which has not been shown to train the same as single"
# Tensor and pipeline parallel: what tests/end_to_end/test_tensor_parallel.py and test_pipeline.py there have not shown
# equal to `single` is refused.
MODEL_PARALLEL = (
    Rule(
        lambda case, facts: case.spread.options.get("loss-parallel") == "on" and not _is_tensor(case),
        lambda case, facts: (
            f"{case.spread.name}:loss-parallel=on divides the logits over the ranks of tensor parallel, and there is "
            "none; give tp=2 or more as well"
        ),
    ),
    Rule(
        lambda case, facts: _is_tensor(case) and _is_pipeline(case),
        lambda case, facts: f"{case.strategy} has tp and pp together, {NOT_SHOWN}; use one of them",
    ),
    Rule(
        lambda case, facts: case.gpus % case.model_ranks > 0,
        lambda case, facts: (
            f"{_of_model(case)} does not divide {case.gpus} ranks into groups; give a --gpus that it divides"
        ),
    ),
    Rule(
        lambda case, facts: _is_divided(case) and case.spread.name == "fsdp" and _data_ranks(case) == 1,
        lambda case, facts: (
            f"{_of_model(case)} leaves one data rank of {case.gpus}, and fsdp nothing to shard; use "
            f"ddp:{_of_model(case)}, or more --gpus"
        ),
    ),
    Rule(
        lambda case, facts: _is_divided(case) and bool(_unshown_options(case)),
        lambda case, facts: (
            f"{case.strategy} has {' and '.join(_unshown_options(case))} with {_of_model(case)}, {NOT_SHOWN}"
        ),
    ),
    Rule(
        lambda case, facts: _is_divided(case) and (case.fake_ranks or case.oversubscribe),
        lambda case, facts: (
            f"{_of_model(case)} runs on {'fake ranks' if case.fake_ranks else 'ranks that share a GPU'}, {NOT_SHOWN}"
        ),
    ),
    Rule(
        lambda case, facts: _is_tensor(case) and _lacks(case, facts, "tp"),
        lambda case, facts: (
            f"{case.workload} lacks split(model) and max_split, which say how tensor parallel divides its layers; "
            "docs/workloads.md has what they are"
        ),
    ),
    Rule(
        lambda case, facts: _is_tensor(case) and _most_split(facts) % case.tensor_ranks > 0,
        lambda case, facts: (
            f"tp={case.tensor_ranks} does not divide max_split of {case.workload}, which is {_most_split(facts)}: "
            "a rank has whole heads and equal parts of all else"
        ),
    ),
    Rule(
        lambda case, facts: _is_pipeline(case) and _lacks(case, facts, "pp"),
        lambda case, facts: (
            f"{case.workload} lacks stages(model, count) and inputs(batch), which say how pipeline parallel divides "
            "its model; docs/workloads.md has what they are"
        ),
    ),
    Rule(
        lambda case, facts: _is_pipeline(case) and case.stages > (_layers(facts) or math.inf),
        lambda case, facts: (
            f"{case.strategy} has {case.stages} stages, and {case.workload} only {_layers(facts)} layers"
        ),
    ),
    Rule(
        lambda case, facts: not _is_pipeline(case) and _schedule(case) not in ("", next(iter(PIPELINE_SCHEDULES))),
        lambda case, facts: (
            f"schedule={_schedule(case)} orders the micro-batches of a pipeline, and there is none; give pp=2 or more"
        ),
    ),
    Rule(
        lambda case, facts: _is_pipeline(case) and case.stages_per_rank > 1 and case.spread.name in REPLICATED,
        lambda case, facts: (
            f"with schedule={_schedule(case)} DistributedDataParallel's reducer fails an internal assertion (torch "
            f"2.14); use fsdp, or {' or '.join(name for name, number in PIPELINE_SCHEDULES.items() if number == 1)}"
        ),
    ),
    Rule(
        lambda case, facts: _is_pipeline(case) and _schedule(case) == "1f1b" and case.micro_batches < case.stages,
        lambda case, facts: (
            f"schedule=1f1b needs as many micro-batches as stages; give --grad-accum-steps {case.stages} or more, or "
            "schedule=gpipe"
        ),
    ),
    Rule(
        lambda case, facts: (
            _is_pipeline(case) and _schedule(case) == "interleaved" and case.micro_batches % _rounds(case) > 0
        ),
        lambda case, facts: (
            f"schedule=interleaved takes {case.micro_batches} micro-batches in {_rounds(case)} rounds, which does not "
            f"divide them; give --grad-accum-steps {_rounds(case) * case.pipeline_ranks}"
        ),
    ),
    Rule(
        lambda case, facts: _is_divided(case) and bool(_own_of(facts)),
        lambda case, facts: (
            f"{case.workload} has its own {' and '.join(_own_of(facts))} under {_of_model(case)}, {NOT_SHOWN}"
        ),
    ),
    Rule(
        # Tried with torch 2.14: gpt and bert trained the same as single under ddp:tp=2. Under fsdp:tp=2 "Mixing fake
        # modes" ended gpt and llama where the whole model was compiled, and a llama whose layers were compiled one by
        # one had other losses from the fifth step on. The other error ended a llama with checkpointing under ddp:tp=2.
        lambda case, facts: _is_tensor(case) and case.compile != "off",
        lambda case, facts: (
            f'torch.compile fails with some models under {_of_model(case)} (torch 2.14, DTensor: "Mixing fake modes '
            "NYI\", \"'Tensor' object has no attribute '_local_tensor'\"), and trains others in another way; "
            "give --compile off, or a strategy without tp"
        ),
    ),
    Rule(
        lambda case, facts: _is_pipeline(case) and case.compile != "off",
        lambda case, facts: f"--compile compiles around what ranks exchange under {_of_model(case)}, {NOT_SHOWN}",
    ),
    Rule(
        lambda case, facts: _is_divided(case) and case.precision == "amp-fp16",
        lambda case, facts: (
            "GradScaler looks for infinities in the gradients that a rank has, so that ranks with different parts of "
            f"the model would skip different steps; use amp-bf16 with {_of_model(case)}"
        ),
    ),
    Rule(
        lambda case, facts: _is_divided(case) and bool(case.channels_last),
        lambda case, facts: f"--channels-last on is used with {_of_model(case)}, {NOT_SHOWN}",
    ),
    Rule(
        lambda case, facts: _is_divided(case) and case.init == "meta",
        lambda case, facts: (
            f"--init meta fills parts of a model under {_of_model(case)}, {NOT_SHOWN}; use --init cpu or device"
        ),
    ),
    Rule(
        lambda case, facts: (
            _is_divided(case)
            and case.optimizer is not None
            and parse_optimizer(case.optimizer)[0] not in ELEMENTWISE_SHOWN
        ),
        lambda case, facts: (
            f"--optimizer {case.optimizer} would see a part of the model under {_of_model(case)}, {NOT_SHOWN}; "
            f"use {' or '.join(ELEMENTWISE_SHOWN)}"
        ),
    ),
)

MODEL = (
    Rule(
        lambda case, facts: bool(facts.description and facts.description.modules) and case.spread.name != "single",
        lambda case, facts: (
            f"the loss of {case.workload} calls {_models(facts, 'modules')} by itself, around the work of "
            f"{case.strategy}; call the model, or write a method of the model that does this and call the method"
        ),
    ),
    Rule(
        lambda case, facts: (
            bool(facts.description and facts.description.read_parameters) and case.spread.name == "fsdp"
        ),
        lambda case, facts: (
            f"the loss of {case.workload} reads {_models(facts, 'read_parameters')} by itself, and under fsdp a rank "
            "has a part of it; return it from the model, or write a method of the model that uses it"
        ),
    ),
    Rule(
        lambda case, facts: case.init == "meta" and case.spread.name != "fsdp",
        lambda case, facts: (
            f"--init meta spares ranks the whole model, and under {case.spread.name} each has it; give cpu or device"
        ),
    ),
    Rule(
        lambda case, facts: case.init == "meta" and bool(facts.description and not facts.description.on_meta),
        lambda case, facts: f"{case.workload} cannot be built on the meta device; give --init cpu or device",
    ),
    Rule(
        lambda case, facts: case.init == "device" and case.device == "cpu",
        lambda case, facts: "on the CPU --init device is the same as --init cpu",
    ),
)

BINDING = (
    Rule(
        lambda case, facts: _binds(case) and not facts.numactl,
        lambda case, facts: "NUMA binding needs the command numactl, which this machine does not have; install it",
    ),
    Rule(
        lambda case, facts: _binds(case) and case.oversubscribe,
        lambda case, facts: (
            "NUMA binding assigns rank N to GPU N, and with --oversubscribe there are more ranks than GPUs"
        ),
    ),
    Rule(
        lambda case, facts: _binds(case) and case.spread.name == "dp" and case.gpus > 1,
        lambda case, facts: "NUMA binding would place the one process of dp near its first GPU and far from the others",
    ),
)

PRECISION = (
    Rule(
        lambda case, facts: _option(case, "fsdp", "offload") == "cpu" and case.precision == "amp-fp16",
        lambda case, facts: (
            "GradScaler copies its scale to the host asynchronously, so offloaded gradients may be divided by an old "
            "scale; use amp-bf16"
        ),
    ),
    Rule(
        lambda case, facts: case.precision == "tf32" and case.device == "cpu",
        lambda case, facts: "TF32 is a mode of NVIDIA's tensor cores; the CPU has none",
    ),
    Rule(
        lambda case, facts: case.device == "cuda" and case.precision == "tf32" and _has_gpu_before(facts, AMPERE),
        lambda case, facts: "TF32 needs compute capability 8.0 (Ampere) or newer",
    ),
    Rule(
        lambda case, facts: (
            case.device == "cuda" and case.precision in ("amp-bf16", "bf16") and _has_gpu_before(facts, AMPERE)
        ),
        lambda case, facts: "bfloat16 needs compute capability 8.0 (Ampere) or newer",
    ),
)

FLOAT8_RULES = (
    Rule(
        lambda case, facts: case.precision in FLOAT8 and case.device == "cpu",
        lambda case, facts: f"--precision {case.precision} needs a GPU that multiplies float8; the CPU does not",
    ),
    Rule(
        lambda case, facts: case.precision == "fp8" and _has_gpu_before(facts, ADA),
        lambda case, facts: "the matrix products of float8 need compute capability 8.9 (Ada) or newer",
    ),
    Rule(
        lambda case, facts: case.precision == "fp8-rowwise" and _has_gpu_before(facts, HOPPER),
        lambda case, facts: (
            "the matrix products of float8 with a scale for each row need compute capability 9.0 (Hopper) or newer"
        ),
    ),
    Rule(
        lambda case, facts: case.precision in FLOAT8 and not facts.torchao,
        lambda case, facts: (
            f"--precision {case.precision} needs torchao, which is not installed; pip install 'stepbench[fp8]'"
        ),
    ),
    Rule(
        lambda case, facts: case.precision in FLOAT8 and _layers(facts) == 0,
        lambda case, facts: (
            f"{case.workload} names no layers, whose Linear modules --precision {case.precision} makes float8: its "
            "layers() is empty"
        ),
    ),
    Rule(
        lambda case, facts: (
            case.precision in FLOAT8 and (_is_divided(case) or (case.spread.name == "dp" and case.gpus > 1))
        ),
        lambda case, facts: (
            f"--precision {case.precision} is used with {_of_model(case) or case.spread.name}, {NOT_SHOWN}"
        ),
    ),
)

OF_GPUS, HALF = ("efficient", "cudnn"), ("flash", "cudnn")  # Kernels of attention on GPUs, and of 16 bits there.
ATTENTION = (
    Rule(
        lambda case, facts: case.attention in OF_GPUS and case.device == "cpu",
        lambda case, facts: f"the CPU has no {case.attention} kernel of attention; give auto, flash or math",
    ),
    Rule(
        lambda case, facts: case.attention in HALF and case.device == "cuda" and case.precision in ("fp32", "tf32"),
        lambda case, facts: (
            f"on a GPU the {case.attention} kernel of attention takes float16 and bfloat16 only; give another "
            "--precision, or efficient or math"
        ),
    ),
    Rule(
        lambda case, facts: case.attention in HALF and case.device == "cuda" and _has_gpu_before(facts, AMPERE),
        lambda case, facts: f"the {case.attention} kernel of attention needs compute capability 8.0 (Ampere) or newer",
    ),
)

ACTIVATION_OFFLOAD = (
    Rule(
        lambda case, facts: _offloads(case) and case.device == "cpu",
        lambda case, facts: (
            "--activation-offload cpu moves activations from a GPU to the host; on the CPU they are there already"
        ),
    ),
    Rule(
        lambda case, facts: _offloads(case) and case.spread.name == "dp" and case.gpus > 1,
        lambda case, facts: (
            "the replicas of nn.DataParallel compute in threads of their own, which do not offload activations; use ddp"
        ),
    ),
    Rule(
        lambda case, facts: _offloads(case) and _is_divided(case),
        lambda case, facts: f"--activation-offload cpu is used with {_of_model(case)}, {NOT_SHOWN}",
    ),
    Rule(
        lambda case, facts: _offloads(case) and bool(facts.description and facts.description.own_step),
        lambda case, facts: (
            f"{case.workload} has its own step(model, batch, ctx) under --activation-offload cpu, {NOT_SHOWN}"
        ),
    ),
)

SAVING = (
    Rule(
        lambda case, facts: case.saves and case.fake_ranks,
        lambda case, facts: "fake ranks have no state that could be saved",
    ),
    Rule(
        lambda case, facts: case.saves and case.spread.name == "zero1" and case.save_checkpoint != "full",
        lambda case, facts: (
            "ZeroRedundancyOptimizer gives its state as a whole only, once it is gathered; use --save-checkpoint full"
        ),
    ),
)

CHECKPOINTING = (
    Rule(
        lambda case, facts: _checkpoints_itself(facts) and case.activation_checkpointing not in ("none", "full"),
        lambda case, facts: (
            f"{case.workload} has its own activation_checkpoint(model), which --activation-checkpointing full calls; "
            "give none or full"
        ),
    ),
    Rule(
        lambda case, facts: (
            case.activation_checkpointing != "none" and _layers(facts) == 0 and not _checkpoints_itself(facts)
        ),
        lambda case, facts: f"{case.workload} names no layers to checkpoint: its layers() is empty",
    ),
    Rule(
        lambda case, facts: _every(case) > (_layers(facts) or math.inf),
        lambda case, facts: f"every={_every(case)} reaches none of the {_layers(facts)} layers of {case.workload}",
    ),
)

COMPILE = (
    Rule(
        lambda case, facts: case.compile_scope == "block" and case.spread.name != "fsdp" and _layers(facts) == 0,
        lambda case, facts: f"{case.workload} names no layers to compile by themselves: its layers() is empty",
    ),
    Rule(
        lambda case, facts: case.compile != "off" and case.spread.name == "dp" and case.gpus > 1,
        lambda case, facts: (
            "under nn.DataParallel on several GPUs torch.compile falls back to eager (pytorch/pytorch#94636); use ddp"
        ),
    ),
    Rule(
        lambda case, facts: case.compile != "off" and bool(facts.compiler_lacks),
        lambda case, facts: f"torch.compile needs {facts.compiler_lacks}",
    ),
    Rule(
        lambda case, facts: case.compile != "off" and case.device == "cuda" and _has_gpu_before(facts, VOLTA),
        lambda case, facts: "torch.compile's Triton needs compute capability 7.0 (Volta) or newer",
    ),
    Rule(
        lambda case, facts: case.compile != "off" and _option(case, "ddp", "static-graph") == "on",
        lambda case, facts: (
            "torch.compile's DDP support does not include static graphs (torchdynamo#1237); "
            f"use {case.spread.name}:static-graph=off"
        ),
    ),
)


def _sets_loader(case: Case) -> bool:
    """Return whether the case has a value of the DataLoader's axes that is not the default."""
    return any(getattr(case, name) not in (None, AXES[name].default) for name in LOADER_AXES)


OPTIMIZER = (
    Rule(
        lambda case, facts: bool(facts.description and facts.description.own_loader) and _sets_loader(case),
        lambda case, facts: (
            f"{case.workload} has its own loader(rank, world_size, batch_size), so --num-workers and the like have no "
            "effect"
        ),
    ),
    Rule(
        lambda case, facts: (
            bool(facts.description and facts.description.own_optimizer)
            and (case.optimizer, case.lr_scheduler) not in ((None, None), ("adamw", "none"))
        ),
        lambda case, facts: (
            f"{case.workload} has its own optimizers(model), so --optimizer and --lr-scheduler have no effect"
        ),
    ),
    Rule(
        lambda case, facts: bool(facts.description and facts.description.own_optimizer) and case.spread.name == "zero1",
        lambda case, facts: (
            f"{case.workload} has its own optimizers(model), whose state zero1 cannot shard; use ddp or fsdp"
        ),
    ),
    Rule(
        lambda case, facts: case.optimizer == "sgd:fused" and case.spread.name == "fsdp",
        lambda case, facts: "DTensor, and so FSDP, has no fused SGD; use sgd",
    ),
    Rule(
        lambda case, facts: str(case.optimizer).startswith("adafactor") and case.spread.name == "fsdp",
        lambda case, facts: (
            "Adafactor multiplies in place what DTensor, and so FSDP, would have to place anew (torch 2.14); use ddp"
        ),
    ),
)

COMMS = (
    Rule(
        lambda case, facts: case.gpus < 2,
        lambda case, facts: "a collective needs two ranks; give --gpus 2 or more",
    ),
    Rule(
        lambda case, facts: case.fake_ranks,
        lambda case, facts: "fake ranks do not communicate, so that there is nothing to time",
    ),
)

RULES = (
    *(*OPTIMIZER, *DATA, *STRATEGY, *MODEL_PARALLEL, *MODEL, *BINDING, *PRECISION, *FLOAT8_RULES, *ATTENTION),
    *(*CHECKPOINTING, *ACTIVATION_OFFLOAD, *COMPILE, *SAVING),
)


def refusal(case: Case, facts: Facts) -> str | None:
    """Return the reason of the first rule that the case breaks; None if the case can run."""
    rules = RULES if case.is_workload else (*COMMS, *BINDING) if case.is_comms else BINDING
    return next((rule.reason(case, facts) for rule in rules if rule.broken(case, facts)), None)
