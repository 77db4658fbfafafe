"""The built-in workloads: models, their data and losses. They import torch and torchvision, not bench or launch.

Planning needs this table only, and importing it does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One built-in workload.

    ``parameters`` is a literal so that ``bench list`` needs no torch; a test builds the model and checks it.
    ``options`` has the names, defaults and (by their defaults) types of the options that may follow the name after a
    colon; ``minimum`` (1 by default) and ``maximum`` bound them. ``multiples`` are tuples (a, b, …): a must be a
    multiple of b × …, each an option or a number. ``images`` says whether the model takes (batch, channels, height,
    width). ``parallel`` says which of tensor (``tp``) and pipeline parallel (``pp``) can divide it.
    """

    about: str
    target: str
    unit: str
    data: tuple[str, ...]
    batch_size: int
    parameters: int
    options: Mapping[str, int] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)
    maximum: Mapping[str, int] = field(default_factory=dict)
    multiples: tuple[tuple[str, *tuple[str | int, ...]], ...] = ()
    images: bool = False
    parallel: tuple[str, ...] = ()


IMAGES = ("resident", "synthetic", "folder")
TOKENS = ("resident", "synthetic", "text")


def _image(about: str, target: str, batch_size: int, parameters: int, patch: int = 1) -> Entry:
    return Entry(
        about,
        target,
        "samples",
        IMAGES,
        batch_size,
        parameters,
        options={"size": 224, "classes": 1000},
        minimum={"size": 32, "classes": 2},
        multiples=(("size", patch),) if patch > 1 else (),
        images=True,
        parallel=("tp", "pp") if patch > 1 else (),  # A convolutional network has no blocks of one width.
    )


def _gpt(about: str, batch_size: int, parameters: int, **options: int) -> Entry:
    return Entry(
        *(about, "workloads.gpt:GPT", "tokens", TOKENS, batch_size, parameters, options),
        multiples=(("width", "heads"),),
        parallel=("tp", "pp"),
    )


def _llama(about: str, batch_size: int, parameters: int, **options: int) -> Entry:
    return Entry(
        about,
        "workloads.llama:Llama",
        "tokens",
        TOKENS,
        batch_size,
        parameters,
        options,
        minimum={"tied": 0},
        maximum={"tied": 1},
        multiples=(("heads", "kv_heads"), ("width", 2, "heads")),  # Rotary embeddings rotate pairs.
        parallel=("tp", "pp"),
    )


WORKLOADS: dict[str, Entry] = {
    "resnet18": _image(
        "ResNet-18, torchvision's, on square images",
        "workloads.resnet:ResNet",
        **dict(batch_size=32, parameters=11_689_512),
    ),
    "resnet50": _image(
        "ResNet-50, torchvision's, on square images",
        "workloads.resnet:ResNet50",
        **dict(batch_size=64, parameters=25_557_032),
    ),
    "vit-b-16": _image(
        "Vision Transformer, torchvision's ViT-B/16: 12 layers, width 768, patches of 16 x 16",
        "workloads.vit:ViT",
        **dict(batch_size=32, parameters=86_567_656, patch=16),
    ),
    "mnist-cnn": Entry(
        about="a small convolutional network on MNIST's 28 x 28 digits: two convolutions, two linear layers",
        target="workloads.mnist:CNN",
        unit="samples",
        data=("resident", "synthetic", "mnist"),
        batch_size=128,
        parameters=421_642,
        images=True,
    ),
    "gpt": _gpt(
        "decoder-only transformer with the size that its options give, by default that of gpt-nano",
        **dict(batch_size=16, parameters=842_496, layers=4, heads=4, width=128, seq=128, vocab=256),
    ),
    "gpt-nano": _gpt(
        "a byte-level GPT small enough for a CPU: 4 layers, width 128, sequences of 128",
        **dict(batch_size=16, parameters=842_496, layers=4, heads=4, width=128, seq=128, vocab=256),
    ),
    "gpt-124m": _gpt(
        "GPT-2 small: 12 layers, width 768, sequences of 1024",
        **dict(batch_size=8, parameters=124_439_808, layers=12, heads=12, width=768, seq=1024, vocab=50257),
    ),
    "gpt-350m": _gpt(
        "GPT-2 medium: 24 layers, width 1024, sequences of 1024",
        **dict(batch_size=8, parameters=354_823_168, layers=24, heads=16, width=1024, seq=1024, vocab=50257),
    ),
    "llama": _llama(
        "Llama's decoder with the size that its options give, by default that of llama-nano",
        **dict(batch_size=16, parameters=820_352),
        **dict(layers=4, heads=4, kv_heads=2, width=128, hidden=384, seq=128, vocab=256, tied=1),
    ),
    "llama-nano": _llama(
        "a byte-level Llama small enough for a CPU: 4 layers, width 128, sequences of 128",
        **dict(batch_size=16, parameters=820_352),
        **dict(layers=4, heads=4, kv_heads=2, width=128, hidden=384, seq=128, vocab=256, tied=1),
    ),
    "llama-1b": _llama(
        "Llama 3.2 1B: 16 layers, width 2048, 32 heads of queries, 8 of keys and values, sequences of 2048",
        **dict(batch_size=4, parameters=1_235_814_400),
        **dict(layers=16, heads=32, kv_heads=8, width=2048, hidden=8192, seq=2048, vocab=128256, tied=1),
    ),
    "llama-8b": _llama(
        "Llama 3 8B: 32 layers, width 4096, 32 heads of queries, 8 of keys and values, sequences of 8192",
        **dict(batch_size=1, parameters=8_030_261_248),
        **dict(layers=32, heads=32, kv_heads=8, width=4096, hidden=14336, seq=8192, vocab=128256, tied=0),
    ),
    "bert": Entry(
        about="BERT base, pre-training on masked tokens: 12 layers, width 768, sequences of 128",
        target="workloads.bert:BERT",
        unit="tokens",
        data=TOKENS,
        batch_size=8,
        parameters=109_514_298,
        options={"layers": 12, "heads": 12, "width": 768, "seq": 128, "vocab": 30522},
        minimum={"vocab": 257},  # 256 bytes and the mask.
        maximum={"seq": 512},
        multiples=(("width", "heads"),),
        parallel=("tp", "pp"),
    ),
    "dlrm": Entry(
        about="DLRM, for recommendation: 26 embedding tables; widths of tables and MLPs as for Criteo's Kaggle data",
        target="workloads.dlrm:DLRM",
        unit="samples",
        data=("resident", "synthetic", "criteo"),
        batch_size=128,
        parameters=8_795_985,
        options={"tables": 26, "rows": 20000, "width": 16},
        maximum={"tables": 26},
    ),
    "mlp": Entry(
        about="a stack of linear layers with GELU: the smallest workload",
        target="workloads.mlp:MLP",
        unit="samples",
        data=("resident", "synthetic"),
        batch_size=64,
        parameters=265_738,
        options={"layers": 4, "width": 256, "features": 256, "classes": 10},
        minimum={"layers": 2, "classes": 2},
    ),
}


@dataclass(frozen=True)
class Adapter:
    """Workloads from another package: ``options`` describes what may follow the name."""

    about: str
    target: str
    options: str


ADAPTERS = {
    "timm": Adapter(
        "an image classifier of timm; pip install 'stepbench[timm]'",
        "workloads.adapters.images:Timm",
        "model=NAME:size=224:classes=1000",
    ),
    "torchvision": Adapter(
        "an image classifier of torchvision",
        "workloads.adapters.images:Torchvision",
        "model=NAME:size=224:classes=1000",
    ),
    "hf": Adapter(
        "a model of Hugging Face's transformers with random weights; pip install 'stepbench[hf]'",
        "workloads.adapters.transformers:Hf",
        "config=FILE:task=causal-lm|masked-lm|seq2seq|image-classification:seq=128",
    ),
}
