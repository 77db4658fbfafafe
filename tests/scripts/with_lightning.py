"""A Lightning module with validation, under its own Trainer."""

import lightning
import torch
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

    def on_train_batch_end(self, outputs, batch, index):
        lap(len(batch[0]))


def loader(samples):
    return DataLoader(TensorDataset(torch.randn(samples, 64), torch.randint(0, 10, (samples,))), batch_size=16)


trainer = lightning.Trainer(
    max_epochs=50,
    accelerator="cpu",
    val_check_interval=20,
    logger=False,
    enable_progress_bar=False,
    devices=int(__import__("os").environ.get("WORLD_SIZE", "1")),
)
trainer.fit(Model(), loader(4096), loader(64))
