"""Workloads from other packages. Those whose package is not installed are refused with the way to install it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import UsageError
from bench.plan.workload_spec import parse_workload
from bench.rank.describe import describe
from workloads import ADAPTERS
from workloads.adapters import repeated_blocks, without_shared
from workloads.base import load
from workloads.checks import Checked, WorkloadError


def loaded(text: str) -> Checked:
    spec = parse_workload(text)
    return load(spec.target, spec.options)


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install {package}")


def trained(workload: Checked, data: str = "resident") -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model, dataset = workload.build().train(), workload.samples(data)
    loss = workload.loss(model, workload.collate_fn([dataset[0], dataset[1]]))
    loss.backward()
    return model, loss


# -- blocks ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.blocks[0].inner[0].weight  # type: ignore[union-attr, index, assignment]


def test_the_repeated_blocks_of_a_model_are_found() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Sequential(Block(), Block()), Block())
    assert repeated_blocks(model) == [module for module in model.modules() if isinstance(module, Block)]
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_a_block_that_shares_a_parameter_is_left_out() -> None:
    model = Tied()
    assert repeated_blocks(model) == list(model.blocks)[1:]
    assert without_shared([], model) == []


# -- torchvision, which is always there ------------------------------------------------------------------------------

TORCHVISION = {  # model -> (parameters as torchvision documents them, class and number of its blocks)
    "resnet50": (25_557_032, "Bottleneck", 16),
    "mobilenet_v3_small": (2_542_856, "InvertedResidual", 11),
    "convnext_tiny": (28_589_128, "CNBlock", 18),
    "swin_t": (28_288_354, "SwinTransformerBlock", 12),
    "vit_b_16": (86_567_656, "EncoderBlock", 12),
    "densenet121": (7_978_856, "_DenseLayer", 58),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_models_of_torchvision(name: str) -> None:
    parameters, kind, number = TORCHVISION[name]
    workload = loaded(f"torchvision:model={name}")
    with torch.device("meta"):
        model = workload.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    layers = workload.layers(model)
    assert ({type(layer).__name__ for layer in layers}, len(layers)) == ({kind}, number)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "googlenet"])
def test_a_model_of_torchvision_trains(name: str) -> None:
    """googlenet returns the logits of auxiliary classifiers as well."""
    model, loss = trained(loaded(f"torchvision:model={name}:size=64:classes=10"))
    assert 1 < loss.item() < 5  # about log(10)
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 50


def test_flops_of_a_model_of_torchvision() -> None:
    """A training step of ResNet-50 at 224 x 224: 24.30 GFLOP a sample (docs/flops.md)."""
    assert describe(loaded("torchvision:model=resnet50"), "none", "resident", 2).flops_per_sample == pytest.approx(
        24.30e9, rel=1e-3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision", "--workload: got 'torchvision'; allowed: torchvision:model=NAME:size=224:classes=1000"),
        ("torchvision:modle=x", "torchvision: got 'modle'; allowed: the options model, size, classes. Did you mean"),
        ("hf:seq=8", "--workload: got 'hf:seq=8'; allowed: hf:config=FILE"),
    ],
)
def test_what_cannot_be_asked_for(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_workload(text)
    assert str(error.value).startswith(message)


def test_a_model_that_does_not_exist_has_similar_names() -> None:
    with pytest.raises(WorkloadError, match=r"torchvision has no 'resnet51'; similar names: .*resnet50"):
        loaded("torchvision:model=resnet51").build()


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(WorkloadError, match=r"timm is not installed; run pip install 'stepbench\[timm\]'"):
        loaded("timm:model=resnet18").build()


def test_every_adapter_has_a_class_with_its_options() -> None:
    for name, adapter in ADAPTERS.items():
        module, _, kind = adapter.target.partition(":")
        cls = getattr(importlib.import_module(module), kind)
        parameters = list(__import__("inspect").signature(cls).parameters)
        assert parameters == [option.partition("=")[0] for option in adapter.options.split(":")], name


# -- timm and transformers -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers"), [("resnet10t", 4), ("vit_tiny_patch16_224", 12), ("convnext_atto", 12), ("efficientnet_b0", 16)]
)
def test_models_of_timm(name: str, layers: int) -> None:
    needs("timm")
    workload = loaded(f"timm:model={name}:size=64:classes=10")
    model, loss = trained(workload)
    assert 1 < loss.item() < 5
    assert abs(len(workload.layers(model)) - layers) <= 1


SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 100, "architectures": ["GPT2LMHeadModel"]},
    "llama": {**SMALL, "vocab_size": 100, "architectures": ["LlamaForCausalLM"]},
    "bert": {**SMALL, "vocab_size": 100, "architectures": ["BertForMaskedLM"]},
    "vit": {**SMALL, "image_size": 32, "patch_size": 8, "architectures": ["ViTForImageClassification"]},
    "t5": {
        **{"num_layers": 2, "d_model": 64, "num_heads": 2, "d_ff": 128, "d_kv": 32, "vocab_size": 100},
        **{"decoder_start_token_id": 0, "pad_token_id": 0, "architectures": ["T5ForConditionalGeneration"]},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_models_of_transformers(kind: str, tmp_path: Path) -> None:
    needs("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **CONFIGS[kind]}))
    workload = loaded(f"hf:config={tmp_path}/config.json:seq=16")
    model, loss = trained(workload)
    assert 0.3 < loss.item() < 7
    assert len(workload.layers(model)) == (4 if kind == "t5" else 2)
    assert workload.unit == ("samples" if kind == "vit" else "tokens")
    assert describe(workload, "none", "resident", 2).flops_per_sample is not None


@pytest.mark.slow
def test_a_configuration_that_does_not_exist() -> None:
    needs("transformers")
    with pytest.raises(WorkloadError, match=r"config: 'nowhere.json' does not exist"):
        loaded("hf:config=nowhere.json")
