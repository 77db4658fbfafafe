"""Models of Hugging Face's transformers from a local configuration, with random weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workloads.adapters import package, repeated_blocks, without_shared
from workloads.base import Batch
from workloads.checks import WorkloadError

# Value of :task= -> the class of transformers, and how the names of its architectures end.
TASKS = {
    "causal-lm": ("AutoModelForCausalLM", ("ForCausalLM", "LMHeadModel")),
    "masked-lm": ("AutoModelForMaskedLM", ("ForMaskedLM", "ForPreTraining")),
    "seq2seq": ("AutoModelForSeq2SeqLM", ("ForConditionalGeneration",)),
    "image-classification": ("AutoModelForImageClassification", ("ForImageClassification",)),
}
SAMPLES = 4096
MASKED, IGNORED = 0.15, -100  # share of masked tokens (Devlin et al. 2018), and the label of all others


class Hf:
    """A model of transformers: ``hf:config=FILE`` (or a folder with ``config.json``), ``:task``, ``:seq``."""

    batch_size = 8

    def __init__(self, config: str, task: str = "", seq: int = 128) -> None:
        transformers = package("transformers", "hf")
        if not os.path.exists(config):
            raise WorkloadError(f"config: {config!r} does not exist; give a config.json, or a folder with one")
        self.config = transformers.AutoConfig.from_pretrained(config, local_files_only=True)
        self.task, self.seq = task or _task_of(self.config), seq
        if self.task not in TASKS:
            raise WorkloadError(f"task: got {self.task!r}; allowed: {', '.join(TASKS)}")
        self.unit = "samples" if self.task == "image-classification" else "tokens"
        self.tokens = seq

    def build(self) -> nn.Module:
        """Return the model in float32."""
        transformers = package("transformers", "hf")
        self.config.use_cache = False
        model: nn.Module = getattr(transformers, TASKS[self.task][0]).from_config(self.config)
        return model.float()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss that the model computes itself."""
        loss: Tensor = model(**batch).loss
        return loss.float()

    def samples(self, data: str) -> Dataset[dict[str, Tensor]]:
        """Return made-up samples: dictionaries as the model takes them."""
        return _Made(self.config, self.task, self.seq)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks that the model must not be split inside of, else those that it repeats."""
        names = getattr(model, "_no_split_modules", None) or ()
        kinds = Counter(type(module) for module in model.modules() if type(module).__name__ in names)
        blocks = [module for module in model.modules() if kinds[type(module)] > 1]
        inside = {id(part) for block in blocks for part in block.modules() if part is not block}
        outermost = [block for block in blocks if id(block) not in inside]
        return without_shared(outermost, model) or repeated_blocks(model)


def _task_of(config: Any) -> str:
    for architecture in getattr(config, "architectures", None) or ():
        for task, (_, endings) in TASKS.items():
            if architecture.endswith(endings):
                return task
    return "causal-lm"


class _Made(Dataset[dict[str, Tensor]]):
    """Every item is a function of its index alone."""

    def __init__(self, config: Any, task: str, seq: int) -> None:
        self.config, self.task, self.seq = config, task, seq

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        if self.task == "image-classification":
            size, channels = self.config.image_size, getattr(self.config, "num_channels", 3)
            label = torch.randint(0, self.config.num_labels, (), generator=generator)
            return {"pixel_values": torch.randn(channels, size, size, generator=generator), "labels": label}
        tokens = torch.randint(0, self.config.vocab_size, (self.seq,), generator=generator)
        labels = tokens.clone()
        if self.task == "masked-lm":
            labels[torch.rand(self.seq, generator=generator) > MASKED] = IGNORED
            labels[0] = tokens[0]  # at least one
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
