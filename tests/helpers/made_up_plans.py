"""Plans of what options say, on machines that are made up."""

from __future__ import annotations

import dataclasses

import pytest

from bench.errors import UsageError
from bench.machine.gpus import Gpu, Machine
from bench.plan.case import Case
from bench.plan.make_case import make_case
from bench.plan.options import AXES
from bench.plan.plan import Plan, Protocol, asked, make_plan

LAPTOP = Machine()
H100 = Gpu("GPU-0", "NVIDIA H100 80GB HBM3", 81559.0, (9, 0))
A100 = Gpu("GPU-a", "NVIDIA A100-SXM4-80GB", 81920.0, (8, 0))
NODE = Machine((H100, dataclasses.replace(H100, uuid="GPU-1")), "550.54")
DEFAULTS = Protocol(
    warmup_steps=5,
    steps=30,
    min_seconds=0.0,
    max_seconds=0.0,
    launches=3,
    timeout=600.0,
    hang_timeout=60.0,
    launcher="server",
    order_seed=0,
    budget=None,
)
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


def plan(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> Plan:
    wanted = asked({name: [text] for name, text in axes.items()}, {}, oversubscribe=oversubscribe)
    return make_plan(wanted, machine)


def cases(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> list[Case]:
    return [planned.case for planned in plan(machine, oversubscribe, **axes).cases]


def refusal(machine: Machine = LAPTOP, oversubscribe: bool = False, **axes: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        plan(machine, oversubscribe, **axes)
    return raised.value


def case(**axes: object) -> Case:
    """A case of two ranks of mlp on the CPU, on a machine of eight GPUs."""
    values = {name: option.default for name, option in AXES.items()} | {"workload": "mlp", "gpus": 2, "device": "cpu"}
    return make_case({**values, **axes}, Machine((A100,) * 8))
