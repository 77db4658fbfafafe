"""Invalid values that a workload returns are refused, in words, when it is described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from bench.rank.describe import describe
from workloads import WORKLOADS
from workloads.base import load
from workloads.checks import Checked, WorkloadError, collated


class Sound:
    unit, batch_size = "samples", 4

    def build(self) -> Any:
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))

    def loss(self, model: nn.Module, batch: Any) -> Any:
        return model(batch[0]).mean()

    def samples(self, data: str) -> Any:
        return TensorDataset(torch.ones(5, 3))

    def layers(self, model: Any) -> Any:
        return model


def changed(**members: Any) -> Checked:
    return Checked("mine.py:Net", type("Net", (Sound,), members)())


def test_a_sound_workload_is_left_as_it_is() -> None:
    workload = changed(data=["resident"], flops=7)
    said = describe(workload, "none", "resident")
    assert (said.data, said.batch_size, said.layers, said.parameters) == (("resident",), 4, 2, 3 * 3 + 3 + 3 + 1)
    assert workload.flops == 7  # the workload's own members remain available
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'tokens'"):
        _ = workload.tokens


def test_every_built_in_workload_is_sound() -> None:
    for name, entry in WORKLOADS.items():
        assert isinstance(load(entry.target, entry.options), Checked), name


BATCH = "mine.py:Net: batch_size is {}; allowed: a whole number from 1 to 1073741824"
TOKENS = "mine.py:Net: tokens is {}; allowed: a whole number from 1 to 1099511627776"
KINDS = "mine.py:Net: data is {}; allowed: a tuple of at least one of 'resident', 'synthetic', 'folder', "
UNIT = "mine.py:Net: unit is {}; allowed: 'samples', 'tokens'"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"batch_size": 0}, BATCH.format("0")),
        ({"batch_size": -3}, BATCH.format("-3")),
        ({"batch_size": "8"}, BATCH.format("'8'")),
        ({"batch_size": 1.5}, BATCH.format("1.5")),
        ({"batch_size": 8.0}, BATCH.format("8.0")),
        ({"batch_size": True}, BATCH.format("True")),
        ({"batch_size": None}, BATCH.format("None")),
        ({"batch_size": float("nan")}, BATCH.format("nan")),
        ({"batch_size": 2**63}, BATCH.format(2**63)),
        ({"batch_size": 10**5000}, BATCH.format("a value of type int")),
        ({"batch_size": torch.ones(3)}, BATCH.format("a value of type Tensor")),
        ({"unit": "images"}, UNIT.format("'images'")),
        ({"unit": None}, UNIT.format("None")),
        ({"unit": ["tokens"]}, UNIT.format("['tokens']")),
        ({"unit": "tokens"}, "mine.py:Net: a workload in tokens needs 'tokens', the tokens in a sample"),
        ({"unit": "tokens", "tokens": float("nan")}, TOKENS.format("nan")),
        ({"unit": "tokens", "tokens": -1}, TOKENS.format("-1")),
        ({"unit": "tokens", "tokens": "128"}, TOKENS.format("'128'")),
        ({"unit": "tokens", "tokens": 128.0}, TOKENS.format("128.0")),
        ({"unit": "tokens", "tokens": 2**64}, TOKENS.format(2**64)),
        ({"data": "synthetic"}, KINDS.format("'synthetic'")),
        ({"data": ()}, KINDS.format("()")),
        ({"data": ("resident", "s3")}, KINDS.format("('resident', 's3')")),
        ({"data": [1]}, KINDS.format("[1]")),
        ({"data": None}, KINDS.format("None")),
        ({"loss": None}, "mine.py:Net: loss is None; allowed: a method"),
        ({"samples": []}, "mine.py:Net: samples is []; allowed: a method"),
    ],
)
def test_an_attribute_that_is_not_allowed(members: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError) as error:
        changed(**members)
    assert str(error.value).startswith(message)


MODEL = "mine.py:Net: build() returned {}; allowed: a torch.nn.Module"
DATASET = (
    "mine.py:Net: samples('resident') returned {}; allowed: a map-style dataset (__len__, and __getitem__ by index) or "
    "an IterableDataset"
)
NO_SAMPLES = "mine.py:Net: samples('resident') has no samples; allowed: a dataset with a length from 1"
LAYERS = "mine.py:Net: layers() returned {}; allowed: a list of modules of the model"
LOSS = "mine.py:Net: loss() returned {}; allowed: a tensor without dimensions"
SHAPED = "mine.py:Net: loss() returned a {}; allowed: a tensor of floating point without dimensions, as .mean() gives"
ITEM = "mine.py:Net: the items of samples() are {}; allowed: a batch with at least one tensor, in any nesting"


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("build", lambda *_: None, MODEL.format("None")),
        ("build", lambda *_: nn.Linear, MODEL.format("a value of type type")),
        ("build", lambda *_: [nn.Linear(1, 1)], MODEL.format("a value of type list")),
        ("samples", lambda *_: None, DATASET.format("None")),
        ("samples", lambda *_: "resident", DATASET.format("'resident'")),
        ("samples", lambda *_: iter([]), DATASET.format("a value of type list_iterator")),
        ("samples", lambda *_: {"x": 1}, DATASET.format("a value of type dict")),
        ("samples", lambda *_: torch.ones(4, 3), DATASET.format("a value of type Tensor")),
        ("samples", lambda *_: [], NO_SAMPLES),
        ("samples", lambda *_: TensorDataset(torch.ones(0, 3)), NO_SAMPLES),
        ("samples", lambda *_: ["text"], ITEM.format("['text']")),
        ("samples", lambda *_: [()], ITEM.format("()")),
        ("samples", lambda *_: [{"x": None}], ITEM.format("a value of type dict")),
        ("batch_size_of", lambda *_: 0, "mine.py:Net: batch_size_of() returned 0; allowed: a whole number from 1"),
        ("tokens_of", lambda *_: 1.5, "mine.py:Net: tokens_of() returned 1.5; allowed: a whole number from 0"),
        (
            "collate_fn",
            lambda *_: "x",
            "mine.py:Net: collate_fn() returned 'x'; allowed: a batch with at least one tensor",
        ),
        ("layers", lambda *_: None, LAYERS.format("None")),
        ("layers", lambda *_: "h", LAYERS.format("'h'")),
        ("layers", lambda *_: nn.ModuleDict({"h": nn.Linear(1, 1)}), LAYERS.format("a value of type ModuleDict")),
        ("layers", lambda *_: [nn.Linear(1, 1), None], LAYERS.format("a value of type list")),
        ("layers", lambda _, model: model[0], LAYERS.format("a value of type Linear")),
        ("loss", lambda *_: 1.5, LOSS.format("1.5")),
        ("loss", lambda *_: None, LOSS.format("None")),
        ("loss", lambda _, model, batch: (model(batch[0]).mean(),), LOSS.format("a value of type tuple")),
        ("loss", lambda _, model, batch: model(batch[0]), SHAPED.format("float32 tensor of shape (4, 1)")),
        ("loss", lambda _, model, batch: model(batch[0]).mean(0), SHAPED.format("float32 tensor of shape (1,)")),
        ("loss", lambda *_: torch.tensor(1), SHAPED.format("int64 tensor of shape ()")),
    ],
)
def test_what_a_method_must_not_give(method: str, given: Callable[..., Any], message: str) -> None:
    with pytest.raises(WorkloadError) as error:
        describe(changed(**{method: given}), "none", "resident")
    assert str(error.value).startswith(message)


def test_a_method_that_raises_is_no_refusal() -> None:
    """Only returned values are checked: data of another kind may be missing here."""

    def fails(*_: Any) -> Any:
        raise OSError("not on this machine")

    assert describe(changed(samples=fails), "none", "resident").flops_per_sample is None


def test_few_samples_and_numbers_make_a_batch() -> None:
    first, second = collated(changed(), [(torch.ones(3), 7)], 4)  # type: ignore[arg-type]
    assert (tuple(first.shape), second.tolist()) == ((4, 3), [7, 7, 7, 7])


def test_load_gives_words_for_a_file(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "class Net:\n    unit = 'samples'\n    batch_size = 0\n    build = loss = samples = layers = print\n"
    )
    with pytest.raises(WorkloadError, match="batch_size is 0; allowed: a whole number from 1 to 1073741824"):
        load(f"{file}:Net", {})
