"""Models, data and counts against independent ones."""

from __future__ import annotations

import cmath
import functools
import gzip
import io
import itertools
import math
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import default_collate

from bench.rank.describe import describe
from workloads import WORKLOADS
from workloads.base import Workload, load
from workloads.bert import MASK, Masked
from workloads.data import criteo, demo, paths
from workloads.data.datasets import (
    LENGTH,
    ClickLog,
    DigitFiles,
    ImageFolder,
    SyntheticClicks,
    SyntheticDigits,
    SyntheticImages,
    SyntheticTokens,
    SyntheticVectors,
    Text,
    augment,
    decode,
)
from workloads.llama import rotate


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@functools.cache
def built_in(name: str, checkpointing: str = "none"):
    return describe(made(name), checkpointing, "synthetic")


def made(name: str, **options: int) -> Workload:
    entry = WORKLOADS[name]
    return load(entry.target, {**entry.options, **options})


def gpt_parameters(layers: int, width: int, seq: int, vocab: int) -> int:
    """Tied embedding, positions, and in each block 12 d² weights, 9 d biases and 4 d norms; the last norm."""
    return vocab * width + seq * width + layers * (12 * width**2 + 13 * width) + 2 * width


def gpt_flops(layers: int, width: int, seq: int, vocab: int) -> int:
    """Forward: 2 for each weight of a matmul and token, and 4 T² d in a layer for attention; backward twice that."""
    return 3 * (2 * (layers * 12 * width**2 + vocab * width) * seq + 4 * seq**2 * width * layers)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_listed_facts_are_those_of_the_model(name: str) -> None:
    entry, said = WORKLOADS[name], built_in(name)
    assert (entry.parameters, entry.unit, entry.data) == (said.parameters, said.unit, said.data)


def test_gpt_counts_equal_the_formulas() -> None:
    for name in ("gpt-nano", "gpt-124m", "gpt-350m"):
        sizes = {key: value for key, value in WORKLOADS[name].options.items() if key != "heads"}
        said = built_in(name)
        assert said.parameters == gpt_parameters(**sizes)
        assert said.flops_per_sample == gpt_flops(**sizes)
        assert said.tokens_per_sample == sizes["seq"]
    assert built_in("gpt-124m").parameters == 124_439_808  # GPT-2 small
    assert built_in("gpt-350m").parameters == 354_823_168  # GPT-2 medium


def llama_weights(
    layers: int, heads: int, kv_heads: int, width: int, hidden: int, vocab: int, **others: int
) -> tuple[int, int]:
    """Weights of the matmuls (q and out, k and v, three of the MLP) in all layers; and of the head."""
    return layers * (2 * width**2 + 2 * width * (kv_heads * width // heads) + 3 * width * hidden), vocab * width


@pytest.mark.parametrize("name", ["llama", "llama-nano", "llama-1b", "llama-8b"])
def test_llama_counts_equal_the_formulas(name: str) -> None:
    sizes, said = WORKLOADS[name].options, built_in(name)
    blocks, head = llama_weights(**sizes)
    layers, width, seq = sizes["layers"], sizes["width"], sizes["seq"]
    norms = (2 * layers + 1) * width
    assert said.parameters == blocks + head * (1 if sizes["tied"] else 2) + norms
    assert said.flops_per_sample == 3 * (2 * (blocks + head) * seq + 4 * seq**2 * width * layers)
    assert (said.tokens_per_sample, said.layers) == (seq, layers)


def test_llama_counts_equal_the_published_ones() -> None:
    assert built_in("llama-1b").parameters == 1_235_814_400  # meta-llama/Llama-3.2-1B
    assert built_in("llama-8b").parameters == 8_030_261_248  # meta-llama/Meta-Llama-3-8B


def test_bert_counts_equal_the_formulas() -> None:
    layers, width, seq, vocab = (WORKLOADS["bert"].options[name] for name in ("layers", "width", "seq", "vocab"))
    said, masked = built_in("bert"), 19  # 0.15 x 128 = 19.2
    norm = 2 * width
    embeddings = (vocab + 512 + 2) * width + norm
    block = 12 * width**2 + 9 * width + 2 * norm  # biases: 3 d + d + 4 d + d
    head = width**2 + width + norm + vocab  # its matrix is the embedding's
    assert said.parameters == embeddings + layers * block + head == 109_514_298  # bert-base's, masked words only
    encoder = 2 * layers * 12 * width**2 * seq + 4 * seq**2 * width * layers
    assert said.flops_per_sample == 3 * (encoder + 2 * masked * (width**2 + vocab * width))


def test_dlrm_counts_equal_the_formulas() -> None:
    said, bottom, top = built_in("dlrm"), (13, 512, 256, 64, 16), (16 + 27 * 26 // 2, 512, 256, 1)
    weights = sum(a * b for sizes in (bottom, top) for a, b in itertools.pairwise(sizes))
    assert said.parameters == 26 * 20_000 * 16 + weights + sum(bottom[1:]) + sum(top[1:])
    # products: 27 vectors with each other; the first layer's numbers need no gradient
    assert said.flops_per_sample == 3 * 2 * (weights + 27 * 27 * 16) - 2 * 13 * 512


def test_mnist_counts_equal_the_formulas() -> None:
    said = built_in("mnist-cnn")
    assert said.parameters == (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10)
    first, rest = 9 * 32 * 28 * 28, 9 * 32 * 64 * 14 * 14 + 64 * 7 * 7 * 128 + 128 * 10
    assert said.flops_per_sample == 2 * (2 * first + 3 * rest)  # the image needs no gradient


PUBLISHED = {
    # name -> torchvision's own facts, and the multiply-adds of the first convolution
    "resnet18": (torchvision.models.ResNet18_Weights.IMAGENET1K_V1, 7 * 7 * 3 * 64 * 112 * 112, 8),
    "resnet50": (torchvision.models.ResNet50_Weights.IMAGENET1K_V1, 7 * 7 * 3 * 64 * 112 * 112, 16),
    "vit-b-16": (torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1, 16 * 16 * 3 * 768 * 14 * 14, 12),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_equal_torchvisions(name: str) -> None:
    weights, first_convolution, layers = PUBLISHED[name]
    said, published = built_in(name), weights.meta
    assert said.parameters == published["num_params"]
    # GMAC forward; backward twice that, less the gradient of the image
    expected = 3 * 2 * published["_ops"] * 1e9 - 2 * first_convolution
    assert said.flops_per_sample == pytest.approx(expected, rel=1e-3)
    assert said.layers == layers


def test_checkpointing_counts_what_it_recomputes() -> None:
    """Non-reentrant checkpointing stops a layer's second forward pass at the last tensor that is needed."""
    entry = WORKLOADS["gpt-nano"]
    plain, full = built_in("gpt-nano"), built_in("gpt-nano", "full")
    assert plain.hardware_flops_per_sample == plain.flops_per_sample
    width, seq, layers = (entry.options[name] for name in ("width", "seq", "layers"))
    # recomputed a layer: qkv 3 d², out d², up 4 d² and attention; `down` is last and is not
    recomputed = layers * (2 * 8 * width**2 * seq + 4 * seq**2 * width)
    assert full.hardware_flops_per_sample == plain.flops_per_sample + recomputed
    assert full.flops_per_sample == plain.flops_per_sample


SYNTHETIC = {
    "images": lambda: SyntheticImages(32, 10),
    "digits": SyntheticDigits,
    "bytes": lambda: SyntheticTokens(16, 256),
    "tokens": lambda: SyntheticTokens(16, 50257),
    "masked": lambda: Masked(SyntheticTokens(16, 300), 16, 300),
    "clicks": lambda: SyntheticClicks(26, 100),
    "vectors": lambda: SyntheticVectors(8, 10),
}


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_synthetic_items_depend_on_their_index_alone(kind: str) -> None:
    dataset = SYNTHETIC[kind]()
    torch.manual_seed(1)
    first = dataset[7]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    elsewhere = SYNTHETIC[kind]()  # as in another process, with its own pool
    for again in (dataset[7], elsewhere[7]):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], dataset[8][0])
    assert len(dataset) == LENGTH
    assert len(dataset[LENGTH - 1]) == len(first)


def test_synthetic_images_go_the_way_of_real_ones(tmp_path: Path) -> None:
    """As a file of the pool in a folder: a JPEG of twice the size, with as many bytes as a photograph."""
    synthetic = SyntheticImages(96, 10)
    file = tmp_path / "x.jpg"
    file.write_bytes(synthetic._pool[5])
    pixels, label = synthetic[16 + 5]
    assert torch.equal(pixels, decode(file, 96, 16 + 5))
    assert not torch.equal(pixels, synthetic[5][0])  # the same file, with another crop
    assert int(label) == 1  # 21 modulo 10
    with Image.open(file) as image:
        assert (image.format, image.size) == ("JPEG", (192, 192))
    assert len(set(synthetic._pool)) == 16
    demos = [image.stat().st_size for image in paths.images_of(demo.path("folder"))]
    pool = [len(content) for content in SyntheticImages(64, 10)._pool]  # 160 x 160 as well
    assert sum(pool) / 16 == pytest.approx(sum(demos) / 512, rel=0.15)


def test_images_are_what_takes_channels_last() -> None:
    shapes = {name: made(name).samples("synthetic")[0][0].shape for name in WORKLOADS}
    assert {name for name, shape in shapes.items() if len(shape) == 3} == {n for n, e in WORKLOADS.items() if e.images}
    assert shapes["resnet50"] == shapes["vit-b-16"] == (3, 224, 224)
    assert shapes["mnist-cnn"] == (1, 28, 28)


def test_augment_crops_flips_and_normalises() -> None:
    """A white image stays white in every crop: (1 - mean) / std of each channel."""
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


def test_a_text_needs_a_vocabulary_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(bytes(100))
    for name in ("gpt", "llama"):
        with pytest.raises(ValueError, match="bytes of a text need :vocab=256 or more, and not 255"):
            made(name, vocab=255).samples(f"text={tmp_path / 't'}")


def test_masked_tokens_are_hidden_and_asked_for(tmp_path: Path) -> None:
    """Of 2000 x 15 positions 80 % are masks, 10 % other tokens (one in 300 the same by chance) and 10 % unchanged."""
    (tmp_path / "t").write_bytes(bytes(n * 7 % 256 for n in range(200_001)))
    text = Text(str(tmp_path / "t"), 100)
    dataset = Masked(text, 100, 300)
    assert len(dataset) == 2000
    seen: Counter[str] = Counter()
    for index in range(2000):
        tokens, positions, targets = dataset[index]
        source = text[index][0][:100]
        assert len(positions) == len(set(positions.tolist())) == 15
        assert torch.equal(targets, source[positions])
        untouched = torch.ones(100, dtype=torch.bool).index_fill_(0, positions, False)
        assert torch.equal(tokens[untouched], source[untouched])
        masks = tokens[positions] == MASK
        same = tokens[positions] == targets
        seen.update(masks=int(masks.sum()), same=int(same.sum()), other=int((~masks & ~same).sum()))
    # 5 standard deviations of the binomial
    for kind, share in (("masks", 0.8 + 0.1 / 300), ("same", 0.1 + 0.1 / 300), ("other", 0.1 * 298 / 300)):
        assert abs(seen[kind] - 30_000 * share) < 5 * math.sqrt(30_000 * share * (1 - share)), kind


def test_every_sequence_hides_the_same_number_and_at_least_one() -> None:
    counts = {seq: len(made("bert", seq=seq).samples("synthetic")[3][1]) for seq in (1, 3, 10, 128, 512)}
    assert counts == {1: 1, 3: 1, 10: 2, 128: 19, 512: 77}  # 0.15, 0.45, 1.5 (to even), 19.2, 76.8


def idx_files(folder: Path, count: int = 5, *, dot: str = "-", compressed: bool = False) -> None:
    """Write files in which image n is all n, except for its last pixel, 255; its label is n."""
    folder.mkdir(exist_ok=True)
    images = b"".join(bytes([n]) * 783 + b"\xff" for n in range(count))
    parts = {
        f"train-images{dot}idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images,
        f"train-labels{dot}idx1-ubyte": struct.pack(">2i", 2049, count) + bytes(range(count)),
    }
    for name, content in parts.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True])
def test_digits_are_those_of_the_idx_files(tmp_path: Path, dot: str, compressed: bool) -> None:
    idx_files(tmp_path, dot=dot, compressed=compressed)
    dataset = DigitFiles(str(tmp_path))
    pixels, label = dataset[3]
    assert (len(dataset), pixels.shape, pixels.dtype, int(label), label.dtype) == (
        *(5, (1, 28, 28), torch.float32),
        *(3, torch.int64),
    )
    assert pixels[0, 0, 0].item() == pixels[0, 27, 26].item() == pytest.approx((3 / 255 - 0.1307) / 0.3081)
    assert pixels[0, 27, 27].item() == pytest.approx((1 - 0.1307) / 0.3081)


def test_digits_equal_those_that_torchvision_reads(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.parent.mkdir()
    files_of_demo = demo.path("mnist")
    raw.symlink_to(files_of_demo)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):  # it asks for all four
        (files_of_demo / name).write_bytes(b"")
    theirs, ours = torchvision.datasets.MNIST(str(tmp_path)), DigitFiles(str(files_of_demo))
    assert torch.equal(theirs.data, ours.pixels)
    assert torch.equal(theirs.targets, ours.labels.long())


def test_a_compressed_file_that_is_cut_is_refused_when_it_is_read(tmp_path: Path) -> None:
    idx_files(tmp_path, compressed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1]))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz has 3935 bytes; wanted 3936, by its header"):
        DigitFiles(str(tmp_path))  # 16 + 5 x 784 = 3936


def click_line(label: object = 1, numbers: tuple = (1,) * 13, categories: tuple = ("ff",) * 26) -> bytes:
    return "\t".join(map(str, [label, *numbers, *categories])).encode()


def test_clicks_are_parsed() -> None:
    numbers = ("", -2, 0, 1, 99, *[3] * 8)
    categories = ("", "0", "a", "68fd1e64", *["ff"] * 22)
    dense, sparse, label = criteo.parse(click_line(0, numbers, categories) + b"\r\n", 26, 1000)
    assert dense == pytest.approx([0, 0, 0, math.log(2), math.log(100), *[math.log(4)] * 8])
    assert sparse == [0, 0, 10, 0x68FD1E64 % 1000, *[255] * 22]
    assert label == 0.0
    assert criteo.parse(click_line(), 3, 100)[1:] == ([55] * 3, 1.0)  # 0xff = 255


@pytest.mark.parametrize("ending", ["\n", ""])
def test_a_click_log_knows_its_lines(tmp_path: Path, ending: str) -> None:
    lines = [click_line(n % 2, (n,) * 13, (f"{n:x}",) * 26) for n in range(20)]
    (tmp_path / "log").write_bytes(b"\n".join(lines) + ending.encode())
    dataset = ClickLog(str(tmp_path / "log"), 26, 7)
    assert len(dataset) == criteo.count(str(tmp_path / "log")) == 20
    for n in (0, 7, 19):
        dense, sparse, label = dataset[n]
        assert dense.tolist() == pytest.approx([math.log1p(n)] * 13)
        assert (sparse.tolist(), label.item()) == ([n % 7] * 26, n % 2)
        assert (dense.dtype, sparse.dtype, label.dtype) == (torch.float32, torch.int64, torch.float32)


def test_lines_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criteo, "CHUNK_BYTES", 100)  # a line has 108 bytes and a newline
    (tmp_path / "log").write_bytes(b"".join(click_line(1, (n,) * 13) + b"\n" for n in range(9)))
    dataset = ClickLog(str(tmp_path / "log"), 26, 7)
    assert len(dataset) == criteo.count(str(tmp_path / "log")) == 9
    assert [round(math.exp(dataset[n][0][0]) - 1) for n in range(9)] == list(range(9))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1\t2", "2 fields between tabs; wanted 40: a label, 13 whole numbers, 26 hexadecimal ones"),
        (b"", "1 fields between tabs; wanted 40: a label, 13 whole numbers, 26 hexadecimal ones"),
        (click_line("x"), "the label is 'x'; wanted 0 or 1"),
        (click_line(1, (1,) * 12 + ("1.5",)), "'1.5' is not a whole number"),
        (click_line(1, (1,) * 13, ("ff",) * 25 + ("zz",)), "'zz' is not a hexadecimal number"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "log").write_bytes(click_line() + b"\n" + line + b"\n" + click_line() + b"\n")
    dataset = ClickLog(str(tmp_path / "log"), 26, 7)
    assert len(dataset) == 3
    with pytest.raises(ValueError, match="line 2") as error:
        dataset[1]
    assert str(error.value) == f"{tmp_path / 'log'}, line 2: {message}"


def test_the_demo_folder_has_real_jpegs_and_is_made_once() -> None:
    kind, _, path = paths.resolve("folder=demo").partition("=")
    images = paths.images_of(Path(path))
    assert (kind, len(images)) == ("folder", 512)
    assert {image.parent.name for image in images} == {f"class{n}" for n in range(8)}
    assert len({image.read_bytes() for image in images}) > 500
    with Image.open(io.BytesIO(images[0].read_bytes())) as image:
        assert (image.format, image.size) == ("JPEG", (160, 160))
    made = images[0].stat().st_mtime_ns
    assert paths.resolve("folder=demo") == f"folder={path}"
    assert images[0].stat().st_mtime_ns == made


def test_without_a_home_the_demo_is_made_in_a_folder_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user of a container has a home that is not writable, or none: ~ then stays as it is."""
    (tmp_path / "file").touch()
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "shared"))
    for home in (str(tmp_path / "file"), "~"):
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        assert demo.path("text") == tmp_path / "shared" / f"stepbench-{os.getuid()}" / demo.path("text").name
    (folder,) = (tmp_path / "shared").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    assert demo.path("text").parent == folder  # existing files are used


def test_who_has_a_home_needs_no_other_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "shared"))
    for _ in range(2):  # made, and then found
        assert demo.path("text").parent == tmp_path / "cache" / "stepbench"
    assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_what_others_put_where_all_may_write_is_no_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "file").touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    us = os.getuid() + 1
    (shared / f"stepbench-{us}").mkdir()  # by them
    monkeypatch.setattr("os.getuid", lambda: us)
    with pytest.raises(PermissionError, match="can be written to"):
        demo.path("text")


def test_the_demo_text_is_the_standard_library() -> None:
    path = Path(paths.resolve("text=demo").partition("=")[2])
    import argparse

    assert Path(argparse.__file__).read_bytes() in path.read_bytes()
    assert ".".join(map(str, sys.version_info[:3])) in path.name


def test_the_demo_digits_can_be_told_apart() -> None:
    """The nearest neighbour in one half names most pictures of the other half; by chance it would be a tenth."""
    dataset = DigitFiles(paths.resolve("mnist=demo").partition("=")[2])
    pixels, labels = dataset.pixels.float().flatten(1), dataset.labels.long()
    assert len(dataset) == demo.DIGITS == 4096
    assert torch.equal(labels, torch.arange(4096) % 10)
    assert len(set(map(bytes, dataset.pixels.flatten(1).tolist()))) > 4000
    guesses = labels[torch.cdist(pixels[2048:], pixels[:2048]).argmin(1)]
    assert (guesses == labels[2048:]).float().mean() > 0.9


def test_the_demo_clicks_are_of_the_format() -> None:
    path = paths.resolve("criteo=demo").partition("=")[2]
    assert criteo.count(path) == demo.CLICKS == 4096
    dataset = ClickLog(path, 26, 20000)
    items = default_collate([dataset[n] for n in range(512)])
    assert 0.2 < items[2].mean() < 0.3  # a quarter, ± 2.6 standard deviations of 1.9 %
    assert Path(path).read_bytes().startswith(criteo.made_up(0) + criteo.made_up(1))


def test_what_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    for data in ("resident", "synthetic", "folder=x", "mnist=x/demo", "criteo=demo.tsv"):
        assert paths.resolve(data) == data
    assert not (tmp_path / "cache").exists()


def test_digits_have_one_fingerprint_compressed_or_not(tmp_path: Path) -> None:
    idx_files(tmp_path / "plain")
    idx_files(tmp_path / "gz", dot=".", compressed=True)
    idx_files(tmp_path / "more", count=6)
    plain, compressed, more = (paths.fingerprint(f"mnist={tmp_path / name}") for name in ("plain", "gz", "more"))
    assert plain == compressed != more
    assert plain.startswith("mnist:")


def test_clicks_have_a_fingerprint(tmp_path: Path) -> None:
    for name, label in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).write_bytes(click_line(label))
    a, b, c = (paths.fingerprint(f"criteo={tmp_path / name}") for name in "abc")
    assert a == b != c


def test_planning_needs_no_torch() -> None:
    modules = "workloads, workloads.data.paths, workloads.data.demo, workloads.data.mnist_idx, workloads.data.criteo, bench.plan.data_files"
    code = f"import sys, {modules}; assert not {{'torch', 'numpy', 'PIL'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_fingerprints_know_files_and_not_where_they_lie(tmp_path: Path) -> None:
    for name in ("here", "there", "else"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c" / "x.png").write_bytes(b"12" if name == "else" else b"1")
        (tmp_path / f"{name}.txt").write_text("same" if name != "else" else "other")
    folder = [paths.fingerprint(f"folder={tmp_path / name}") for name in ("here", "there", "else")]
    text = [paths.fingerprint(f"text={tmp_path / name}.txt") for name in ("here", "there", "else")]
    for here, there, other in (folder, text):
        assert here == there != other
    assert paths.fingerprint("resident") == "resident"


@pytest.mark.parametrize("name", WORKLOADS)
def test_layers_are_parts_of_the_model_in_order(name: str) -> None:
    workload = made(name)
    with torch.device("meta"):
        model = workload.build()
    places = [list(model.modules()).index(layer) for layer in workload.layers(model)]
    assert places == sorted(set(places))
    assert isinstance(model, nn.Module)
    assert len(places) >= 3


def test_rotary_embeddings_turn_complex_numbers() -> None:
    """Pair j at position t, as a complex number, times exp(i t theta^(-2j/dim)) (Su et al. 2021, equation 14)."""
    x = torch.randn(2, 300, 8, dtype=torch.float64)
    turned = rotate(x.float())
    for t in (0, 1, 5, 299):
        for j in range(4):
            factor = cmath.exp(1j * t * 500_000.0 ** (-2 * j / 8))
            for b in range(2):
                expected = complex(x[b, t, j], x[b, t, j + 4]) * factor
                assert complex(turned[b, t, j], turned[b, t, j + 4]) == pytest.approx(expected, abs=1e-4)


def test_rotation_is_exact_whatever_the_type_of_the_model() -> None:
    """Positions beyond 256 cannot be represented in bfloat16; only the input and the output are rounded."""
    x = torch.randn(1, 2, 1000, 16).bfloat16()
    assert torch.equal(rotate(x), rotate(x.float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rotate(x.float()), rotate(x.float()))
        assert torch.equal(rotate(x), rotate(x.float()).bfloat16())


def plain_llama(weights: dict[str, Tensor], tokens: Tensor, layers: int, heads: int, kv_heads: int) -> Tensor:
    """Compute the logits of one sequence, head by head and position by position, in float64."""

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]

    def turn(x: Tensor) -> Tensor:
        seq, dim = x.shape
        angles = torch.tensor([[t * 500_000.0 ** (-2 * j / dim) for j in range(dim // 2)] for t in range(seq)])
        z = torch.complex(x[:, : dim // 2], x[:, dim // 2 :]) * torch.polar(torch.ones_like(angles), angles).to(
            torch.complex128
        )
        return torch.cat([z.real, z.imag], -1)

    x = weights["tokens.weight"][tokens]
    seq, width = x.shape
    dim = width // heads
    for n in range(layers):
        block = f"blocks.{n}"
        y = norm(x, f"{block}.norm1")
        q, k, v = (y @ weights[f"{block}.attention.{name}.weight"].T for name in "qkv")
        attended = torch.zeros(seq, width, dtype=torch.float64)
        for head in range(heads):
            shared = head * kv_heads // heads
            q_h = turn(q[:, head * dim : (head + 1) * dim])
            k_h = turn(k[:, shared * dim : (shared + 1) * dim])
            for t in range(seq):
                scores = k_h[: t + 1] @ q_h[t] / math.sqrt(dim)
                chances = scores.exp() / scores.exp().sum()
                attended[t, head * dim : (head + 1) * dim] = chances @ v[: t + 1, shared * dim : (shared + 1) * dim]
        x = x + attended @ weights[f"{block}.attention.out.weight"].T
        y = norm(x, f"{block}.norm2")
        gate, up = (y @ weights[f"{block}.{name}.weight"].T for name in ("gate", "up"))
        x = x + (gate / (1 + (-gate).exp()) * up) @ weights[f"{block}.down.weight"].T
    return norm(x, "norm") @ weights["head.weight"].T


@pytest.mark.parametrize(("kv_heads", "tied"), [(1, 0), (2, 1), (4, 0)])
def test_llama_equals_a_plain_one(kv_heads: int, tied: int) -> None:
    torch.manual_seed(0)
    options = dict(layers=2, heads=4, kv_heads=kv_heads, width=32, hidden=48, seq=9, vocab=20, tied=tied)
    model = made("llama", **options).build()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)  # larger than at its beginning, so that attention is uneven
    tokens = torch.randint(0, 20, (2, 9))
    weights = {name: value.double() for name, value in model.state_dict().items()}
    expected = torch.stack([plain_llama(weights, sequence, 2, 4, kv_heads) for sequence in tokens])
    torch.testing.assert_close(model(tokens).double(), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.5


def test_llama_is_drawn_once_and_from_the_global_generator() -> None:
    torch.manual_seed(3)
    model = made("llama-nano").build()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    again = made("llama-nano").build()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    # nothing else was drawn: the generator gave the matrices only, one after the other
    torch.manual_seed(3)
    for name, parameter in again.named_parameters():
        if parameter.dim() == 2:
            scale = 1 / math.sqrt(8) if name.endswith(("out.weight", "down.weight")) else 1  # 2 x 4 layers
            assert torch.equal(parameter, torch.empty_like(parameter).normal_(std=0.02 * scale)), name
        else:
            assert torch.equal(parameter, torch.ones(128)), name
    assert torch.equal(torch.get_rng_state(), state)
    assert model.head.weight is model.tokens.weight
    assert made("llama-nano", tied=0).build().head.weight is not model.tokens.weight
    assert not list(model.buffers())  # DDP would broadcast them


def test_eight_billion_parameters_take_no_memory_on_meta() -> None:
    with torch.device("meta"):
        model = made("llama-8b").build()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_berts_block_equals_torchs() -> None:
    torch.manual_seed(0)
    block = made("bert", layers=1, width=32, heads=4, vocab=300).build().blocks[0].double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).double()
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "up.",
        "linear2.": "down.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    state = block.state_dict()
    for end in ("weight", "bias"):  # theirs has q, k and v of all heads one after the other
        of_heads = state[f"qkv.{end}"].unflatten(0, (4, 3, 8))
        state[f"qkv.{end}"] = torch.cat([of_heads[head, part] for part in range(3) for head in range(4)])
    theirs.load_state_dict({a + end: state[b + end] for a, b in names.items() for end in ("weight", "bias")})
    x = torch.randn(3, 7, 32, dtype=torch.float64)
    torch.testing.assert_close(block(x), theirs(x))


def test_bert_guesses_at_the_masked_positions() -> None:
    """The head on some positions returns what the head on all positions has there."""
    torch.manual_seed(0)
    model = made("bert", layers=1, width=32, heads=4, vocab=300).build().double()
    tokens, positions = torch.randint(0, 300, (2, 10)), torch.tensor([[1, 4], [0, 9]])
    everywhere = model(tokens, torch.arange(10).expand(2, 10))
    torch.testing.assert_close(model(tokens, positions), torch.stack([everywhere[n, positions[n]] for n in range(2)]))
    first = nn.functional.layer_norm(
        model.tokens.weight[tokens] + model.positions.weight[:10] + model.types.weight[0], (32,), eps=1e-12
    )
    x = model.blocks[0](first) @ model.dense.weight.T + model.dense.bias
    x = nn.functional.layer_norm(x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), (32,), eps=1e-12)
    torch.testing.assert_close(everywhere, x @ model.tokens.weight.T + model.head.bias)
    assert model.head.weight is model.tokens.weight


def test_dlrm_multiplies_every_two_vectors() -> None:
    torch.manual_seed(0)
    model = made("dlrm", tables=3, rows=10, width=4).build().double()
    numbers, categories = torch.rand(2, 13, dtype=torch.float64), torch.randint(0, 10, (2, 3))
    logits = model(numbers, categories)
    for n in range(2):
        vectors = [model.bottom(numbers[n])] + [model.tables.tables[t].weight[categories[n, t]] for t in range(3)]
        products = [vectors[i] @ vectors[j] for i in range(4) for j in range(i)]
        torch.testing.assert_close(logits[n], model.head(model.top(torch.cat([vectors[0], torch.stack(products)]))))


TINY: dict[str, dict[str, int]] = {
    "resnet18": {"size": 64, "classes": 10},
    "mnist-cnn": {},
    "gpt": {"layers": 2, "width": 32},
    "llama": {"layers": 2, "width": 32, "hidden": 64, "seq": 16},
    "bert": {"layers": 2, "width": 32, "heads": 2, "seq": 16, "vocab": 300},
    "dlrm": {"rows": 50},
    "mlp": {},
}


@pytest.mark.parametrize("name", TINY)
def test_it_trains_in_every_precision_and_with_checkpointing(name: str) -> None:
    """Loss and gradients equal those in float32, within the precision of the type."""
    workload = made(name, **TINY[name])
    dataset = workload.samples("synthetic")
    batch = default_collate([dataset[n] for n in range(4)])

    def trained(how: str) -> tuple[float, Tensor]:
        torch.manual_seed(0)
        model, given = workload.build().train(), batch
        if how == "checkpointed":
            for layer in workload.layers(model):
                layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        if how == "pure-bf16":
            model.to(torch.bfloat16)
            given = [tensor.bfloat16() if tensor.is_floating_point() else tensor for tensor in batch]
        dtype = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}.get(how)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = workload.loss(model, given)
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(parameter.grad is not None for parameter in model.parameters())
        return loss.item(), torch.cat([parameter.grad.float().flatten() for parameter in model.parameters()])

    loss, gradient = trained("fp32")
    assert trained("checkpointed")[0] == loss
    assert torch.equal(trained("checkpointed")[1], gradient)
    for how, tolerance in (("amp-bf16", 0.02), ("amp-fp16", 0.003), ("pure-bf16", 0.02)):
        other, rounded = trained(how)
        assert other == pytest.approx(loss, rel=tolerance)
        if name != "resnet18":  # its batch norms see four samples, and rounding errors grow chaotically from there
            assert (rounded - gradient).norm() < 8 * tolerance * gradient.norm(), how


@pytest.mark.parametrize("name", ["mnist-cnn", "llama", "bert", "dlrm"])
def test_it_compiles_without_a_break(name: str) -> None:
    torch.compiler.reset()
    workload = made(name, **TINY[name])
    dataset = workload.samples("synthetic")
    batch = default_collate([dataset[n] for n in range(2)])
    model = workload.build()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert workload.loss(compiled, batch).item() == pytest.approx(workload.loss(model, batch).item(), rel=1e-5)
