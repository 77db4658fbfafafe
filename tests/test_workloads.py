"""Models, data and counts against independent ones."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from bench.rank.describe import describe
from workloads import WORKLOADS, files
from workloads.base import load
from workloads.data import LENGTH, ImageFolder, SyntheticImages, SyntheticTokens, SyntheticVectors, Text, augment


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def built_in(name: str, checkpointing: str = "none"):
    entry = WORKLOADS[name]
    return describe(load(entry.target, entry.options), checkpointing, "synthetic")


def gpt_parameters(layers: int, width: int, seq: int, vocab: int) -> int:
    """Tied embedding, positions, and a block's 12 d² weights, 9 d biases and 4 d norms; the last norm."""
    return vocab * width + seq * width + layers * (12 * width**2 + 13 * width) + 2 * width


def gpt_flops(layers: int, width: int, seq: int, vocab: int) -> int:
    """Forward: 2 a weight of every matmul and token, and 4 T² d a layer for full attention; backward twice that."""
    return 3 * (2 * (layers * 12 * width**2 + vocab * width) * seq + 4 * seq**2 * width * layers)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_listed_facts_are_those_of_the_model(name: str) -> None:
    entry, said = WORKLOADS[name], built_in(name)
    assert (entry.parameters, entry.unit, entry.data) == (said.parameters, said.unit, said.data)


def test_gpt_counts_equal_the_formulas() -> None:
    for name in ("gpt-nano", "gpt-124m"):
        sizes = {key: value for key, value in WORKLOADS[name].options.items() if key != "heads"}
        said = built_in(name)
        assert said.parameters == gpt_parameters(**sizes)
        assert said.flops_per_sample == gpt_flops(**sizes)
        assert said.tokens_per_sample == sizes["seq"]
    assert built_in("gpt-124m").parameters == 124_439_808  # GPT-2 small


def test_resnet_counts_equal_torchvisions() -> None:
    published = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta
    said = built_in("resnet18")
    assert said.parameters == published["num_params"]
    # GMAC forward; backward twice that, less the gradient of the image: 7 x 7 x 3 x 64 MAC at 112 x 112 places
    expected = 3 * 2 * published["_ops"] * 1e9 - 2 * 7 * 7 * 3 * 64 * 112 * 112
    assert said.flops_per_sample == pytest.approx(expected, rel=1e-3)
    assert said.layers == 8


def test_checkpointing_counts_what_it_recomputes() -> None:
    """Non-reentrant checkpointing stops a layer's second forward pass at the last tensor that its backward needs."""
    entry = WORKLOADS["gpt-nano"]
    plain, full = built_in("gpt-nano"), built_in("gpt-nano", "full")
    assert plain.hardware_flops_per_sample == plain.flops_per_sample
    width, seq, layers = (entry.options[name] for name in ("width", "seq", "layers"))
    # recomputed a layer: qkv 3 d², out d², up 4 d² and attention; `down` is last and is not
    recomputed = layers * (2 * 8 * width**2 * seq + 4 * seq**2 * width)
    assert full.hardware_flops_per_sample == plain.flops_per_sample + recomputed
    assert full.flops_per_sample == plain.flops_per_sample


@pytest.mark.parametrize(
    "dataset",
    [SyntheticImages(32, 10), SyntheticTokens(16, 256), SyntheticVectors(8, 10)],
    ids=lambda d: type(d).__name__,
)
def test_synthetic_items_depend_on_their_index_alone(dataset: torch.utils.data.Dataset) -> None:
    torch.manual_seed(1)
    first = dataset[7]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = dataset[7], dataset[8]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert len(dataset) == LENGTH


def test_augment_crops_flips_and_normalises() -> None:
    """A white image stays white whatever is cut from it: (1 - mean) / std of each channel."""
    import random

    out = augment(torch.full((3, 40, 60), 255, dtype=torch.uint8), 32, random.Random(0))
    assert out.shape == (3, 32, 32)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert torch.allclose(out.mean((1, 2)), torch.tensor(expected), atol=1e-4)
    ramp = torch.arange(60, dtype=torch.uint8).expand(3, 40, 60)
    left_to_right = [bool(augment(ramp, 32, random.Random(n))[0].diff(dim=1).mean() > 0) for n in range(64)]
    assert 16 < sum(left_to_right) < 48  # half of them flipped: 32 ± 4 standard deviations of 4


def test_an_image_folder_is_decoded_and_labelled_in_order(tmp_path: Path) -> None:
    for name, colour in (("b", (255, 0, 0)), ("a", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 50), colour).save(tmp_path / name / "x.jpg", quality=95)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    dataset = ImageFolder(str(tmp_path), 32, 10)
    assert [int(label) for _, label in (dataset[0], dataset[1])] == [0, 1]
    blue, red = dataset[0][0].mean((1, 2)), dataset[1][0].mean((1, 2))
    assert blue.argmax() == 2
    assert red.argmax() == 0
    with pytest.raises(ValueError, match="has 2 classes, the model 1; add :classes=2"):
        ImageFolder(str(tmp_path), 32, 1)


def test_text_is_the_files_bytes(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(bytes(range(100)))
    dataset = Text(str(tmp_path / "t"), 16)
    assert len(dataset) == 6  # 16 x 6 + 1 target <= 100
    assert dataset[5][0].tolist() == list(range(80, 97))
    assert dataset[0][0].dtype == torch.int64


def test_the_demo_folder_has_real_jpegs_and_is_made_once() -> None:
    kind, _, path = files.resolve("folder=demo").partition("=")
    images = files.images_of(Path(path))
    assert (kind, len(images)) == ("folder", 512)
    assert {image.parent.name for image in images} == {f"class{n}" for n in range(8)}
    assert len({image.read_bytes() for image in images}) > 500
    with Image.open(io.BytesIO(images[0].read_bytes())) as image:
        assert (image.format, image.size) == ("JPEG", (160, 160))
    made = images[0].stat().st_mtime_ns
    assert files.resolve("folder=demo") == f"folder={path}"
    assert images[0].stat().st_mtime_ns == made


def test_the_demo_text_is_the_standard_library() -> None:
    path = Path(files.resolve("text=demo").partition("=")[2])
    import argparse

    assert Path(argparse.__file__).read_bytes() in path.read_bytes()
    assert ".".join(map(str, sys.version_info[:3])) in path.name


def test_fingerprints_know_files_and_not_where_they_lie(tmp_path: Path) -> None:
    for name in ("here", "there", "else"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c" / "x.png").write_bytes(b"12" if name == "else" else b"1")
        (tmp_path / f"{name}.txt").write_text("same" if name != "else" else "other")
    folder = [files.fingerprint(f"folder={tmp_path / name}") for name in ("here", "there", "else")]
    text = [files.fingerprint(f"text={tmp_path / name}.txt") for name in ("here", "there", "else")]
    for here, there, other in (folder, text):
        assert here == there != other
    assert files.fingerprint("resident") == "resident"


def test_layers_are_parts_of_the_model_in_order() -> None:
    for entry in WORKLOADS.values():
        workload = load(entry.target, entry.options)
        with torch.device("meta"):
            model = workload.build()
        places = [list(model.modules()).index(layer) for layer in workload.layers(model)]
        assert places == sorted(places)
        assert isinstance(model, nn.Module)
        assert len(places) >= 4
