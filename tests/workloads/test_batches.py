"""Batches of any nesting."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from workloads.batches import collate, first_length, map_tensors, tensors_of


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Item:
    image: Tensor
    boxes: list[Tensor]
    name: str
    mask: Tensor | None = None


class Encoding(UserDict[str, Any]):
    """As Hugging Face's BatchEncoding: a dictionary that torch's pytree does not know."""

    def __init__(self, data: dict[str, Any], kind: str) -> None:
        super().__init__(data)
        self.kind = kind


BATCHES = [
    (torch.ones(2), torch.zeros(2)),
    [torch.ones(2), "text", None, 3],
    {"x": torch.ones(2), "more": {"y": (torch.zeros(2), {"z": torch.ones(2)})}},
    OrderedDict(b=torch.ones(2), a=torch.zeros(2)),
    Pair(torch.ones(2), [torch.zeros(2)]),
    Item(torch.ones(2), [torch.zeros(2)], "an image"),
    torch.ones(2),
]


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: type(batch).__name__)
def test_tensors_are_replaced_and_all_else_is_as_it_was(batch: Any) -> None:
    doubled = map_tensors(lambda tensor: tensor * 2, batch)
    assert type(doubled) is type(batch)
    assert [tensor.tolist() for tensor in tensors_of(doubled)] == [(t * 2).tolist() for t in tensors_of(batch)]
    assert len(list(tensors_of(batch))) == str(batch).count("tensor(")
    assert first_length(batch) == 2
    assert repr(map_tensors(lambda tensor: tensor, batch)) == repr(batch)


def test_a_dictionary_of_a_library_keeps_its_class_and_attributes() -> None:
    batch = Encoding({"ids": torch.ones(2, 5), "text": ["a", "b"]}, "words")
    doubled = map_tensors(lambda tensor: tensor * 2, batch)
    assert (type(doubled), doubled.kind, doubled["text"]) == (Encoding, "words", ["a", "b"])
    assert doubled["ids"].sum() == 20
    assert batch["ids"].sum() == 10


def test_items_become_one_batch() -> None:
    items = [Item(torch.full((3,), float(n)), [torch.ones(1)], f"item {n}") for n in range(4)]
    batch = collate([Pair(item, {"label": n, "nothing": None}) for n, item in enumerate(items)])
    assert batch.x.image.tolist() == [[float(n)] * 3 for n in range(4)]
    assert batch.x.boxes[0].shape == (4, 1)
    assert (batch.x.name, batch.x.mask) == ([f"item {n}" for n in range(4)], None)
    assert batch.y["label"].tolist() == [0, 1, 2, 3]
    assert batch.y["nothing"] is None


def test_the_length_of_a_batch_is_that_of_its_first_tensor_with_dimensions() -> None:
    assert first_length({"scale": torch.tensor(1.0), "x": torch.ones(7, 2)}) == 7
    assert first_length(["text"]) is None
