"""Speech recognition with CTC: sound and text of different lengths, aligned by the loss."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

MELS, LETTERS = 40, 28


class Recogniser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(MELS, 96, 5, stride=2, padding=2)
        self.gru, self.head = nn.GRU(96, 96, batch_first=True, bidirectional=True), nn.Linear(192, LETTERS + 1)

    def forward(self, sound):
        features = F.relu(self.convolution(sound.transpose(1, 2))).transpose(1, 2)
        return F.log_softmax(self.head(self.gru(features)[0]), -1)


def spoken(g):
    frames, letters = (int(torch.randint(*ends, (), generator=g)) for ends in ((60, 120), (5, 20)))
    return torch.randn(frames, MELS, generator=g), torch.randint(1, LETTERS + 1, (letters,), generator=g)


class SpeechCtc:
    unit, batch_size = "samples", 8

    def build(self):
        return Recogniser()

    def loss(self, model, batch):
        logs = model(batch["sound"])
        return F.ctc_loss(logs.transpose(0, 1), batch["letters"], batch["frames"] // 2, batch["lengths"])

    def samples(self, data):
        return Items(spoken)

    def collate_fn(self, items):
        sounds, letters = zip(*items, strict=True)
        return {
            "sound": pad_sequence(sounds, batch_first=True),
            "letters": pad_sequence(letters, batch_first=True),
            "frames": torch.tensor([len(sound) for sound in sounds]),
            "lengths": torch.tensor([len(text) for text in letters]),
        }

    def layers(self, model):
        return []
