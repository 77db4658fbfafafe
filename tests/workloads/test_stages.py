"""The stages of a model, called one after the other, are the model; and what is no stage of it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from workloads.bert import BERT
from workloads.checks import Checked, WorkloadError
from workloads.gpt import GPT
from workloads.llama import Llama
from workloads.stages import stages_of
from workloads.vit import ViT

MODELS = {
    "gpt": GPT(layers=5, heads=2, width=16, seq=8),
    "llama": Llama(layers=5, heads=2, kv_heads=1, width=16, hidden=24, seq=8),
    "bert": BERT(layers=5, heads=2, width=16, seq=8, vocab=257),
    "vit": ViT(size=32, classes=5),
}


def batch_of(workload: Any) -> Any:
    dataset = workload.samples("synthetic")
    return [
        torch.stack([torch.as_tensor(item[at]) for item in (dataset[0], dataset[1])]) for at in range(len(dataset[0]))
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_stages_are_the_model(name: str, count: int) -> None:
    workload = Checked(name, MODELS[name])
    torch.manual_seed(0)
    model = workload.build()
    first, *others = workload.inputs(batch_of(workload))
    expected = model(first, *others)
    received: Tensor = first
    for stage in workload.stages(model, count):
        received = stage(received, *others)
    torch.testing.assert_close(received, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_stage_has_parameters_of_the_model_under_their_names(name: str) -> None:
    model = Checked(name, MODELS[name]).build()
    whole = {key: id(value) for key, value in model.named_parameters(remove_duplicate=False)}
    stages = MODELS[name].stages(model, 3)
    assert all(whole[key] == id(value) for stage in stages for key, value in stage.named_parameters())
    blocks = [len(MODELS[name].layers(stage)) for stage in stages]
    assert blocks == ([4, 4, 4] if name == "vit" else [1, 2, 2])
    assert len(MODELS[name].layers(model)) == sum(blocks)  # and the model has all as before


def test_vit_is_torchvisions() -> None:
    torch.manual_seed(0)
    ours = ViT(size=32, classes=5).build().double()  # fp32 is rounded another way on each kind of processor
    torch.manual_seed(0)
    theirs = torchvision.models.vit_b_16(image_size=32, num_classes=5).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    nn.init.normal_(theirs.heads[0].weight)  # it is zero, and so would all logits be
    ours.heads[0].weight = theirs.heads[0].weight
    mine, others = dict(ours.named_parameters()), dict(theirs.named_parameters())
    renamed = {".self_attention.qkv.": ".self_attention.in_proj_", ".self_attention.out.": ".self_attention.out_proj."}
    assert len(mine) == len(others)
    for name, value in mine.items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        other = others[name]
        if "in_proj" in name:  # q, k and v of all heads, one after the other; ours has those of a head side by side
            other = torch.cat([part[head] for head in range(12) for part in other.view(3, 12, 64, *other.shape[1:])])
        assert torch.equal(value, other), name
    torch.testing.assert_close(ours(images), theirs(images))


class Wrong(GPT):
    def __init__(self, given: Any) -> None:
        super().__init__(layers=2, heads=2, width=16, seq=8)
        self.given = given

    def stages(self, model: nn.Module, count: int) -> Any:
        return self.given(model)

    def inputs(self, batch: Any) -> Any:
        return batch[0][:, :-1]


def halves(model: nn.Module) -> list[nn.Module]:
    return stages_of(model, 2, "blocks", first=["tokens", "positions"], last=["norm", "head"])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda model: model, "stages() returned a value of type Decoder; allowed: a list of modules"),
        (lambda model: [model], "stages() returned 1 modules; allowed: 2, one for each stage"),
        (lambda model: [halves(model)[0], nn.Linear(1, 1)], "a stage with a parameter 'weight' of its own"),
        (lambda model: [halves(model)[0], nn.Identity()], "no stage with 'blocks.1.norm1.weight'"),
    ],
)
def test_other_stages_are_refused(given: Any, reason: str) -> None:
    workload = Checked("mine.py:Wrong", Wrong(given))
    with pytest.raises(WorkloadError) as raised:
        workload.stages(workload.build(), 2)
    assert reason in str(raised.value)


def test_inputs_are_a_tuple_of_tensors() -> None:
    with pytest.raises(
        WorkloadError, match="inputs\\(\\) returned a value of type Tensor; allowed: a tuple of tensors"
    ):
        Checked("mine.py:Wrong", Wrong(halves)).inputs([torch.zeros(2, 9)])
