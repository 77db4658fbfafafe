"""What is trained: models, their data and losses. Torch and torchvision only; nothing of bench or launch.

This table is all that planning needs to know, and importing it does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One built-in workload.

    ``parameters`` is a literal so that ``bench list`` needs no torch; a test builds the model and checks it.
    ``options`` are the names, defaults and (by their defaults) types of what may follow the name after a colon;
    ``minimum`` bounds them (1 where not named), ``multiples`` are pairs (a, b) where a must be a multiple of b.
    """

    about: str
    target: str
    unit: str
    data: tuple[str, ...]
    batch_size: int
    parameters: int
    options: Mapping[str, int] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)
    multiples: tuple[tuple[str, str], ...] = ()


IMAGES = ("resident", "synthetic", "folder")
TOKENS = ("resident", "synthetic", "text")


def _gpt(about: str, batch_size: int, parameters: int, **options: int) -> Entry:
    return Entry(
        about, "workloads.gpt:GPT", "tokens", TOKENS, batch_size, parameters, options, multiples=(("width", "heads"),)
    )


WORKLOADS: dict[str, Entry] = {
    "resnet18": Entry(
        about="ResNet-18, torchvision's, on square images",
        target="workloads.resnet:ResNet",
        unit="samples",
        data=IMAGES,
        batch_size=32,
        parameters=11_689_512,
        options={"size": 224, "classes": 1000},
        minimum={"size": 32, "classes": 2},
    ),
    "gpt": _gpt(
        "decoder-only transformer, to be sized by its options; as gpt-nano without them",
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
    "mlp": Entry(
        about="a stack of linear layers with GELU: the smallest thing that trains",
        target="workloads.mlp:MLP",
        unit="samples",
        data=("resident", "synthetic"),
        batch_size=64,
        parameters=265_738,
        options={"layers": 4, "width": 256, "features": 256, "classes": 10},
        minimum={"layers": 2, "classes": 2},
    ),
}
