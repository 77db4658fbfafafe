"""Hugging Face's Trainer on a small causal language model, with checkpoints and evaluation now and then."""

import torch
from stopwatch import lap
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Tokens(Dataset):
    def __len__(self):
        return 4000

    def __getitem__(self, index):
        ids = torch.randint(0, 100, (32,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


class Laps(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        lap(args.per_device_train_batch_size * args.gradient_accumulation_steps)


batch_size, accumulation = 8, 2
model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=100, n_positions=32))
arguments = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=batch_size,
    gradient_accumulation_steps=accumulation,
    max_steps=200,
    save_steps=20,
    eval_strategy="steps",
    eval_steps=15,
    use_cpu=True,
    report_to=[],
    disable_tqdm=True,
)
Trainer(
    model,
    arguments,
    train_dataset=Tokens(),
    eval_dataset=torch.utils.data.Subset(Tokens(), range(64)),
    callbacks=[Laps()],
).train()
