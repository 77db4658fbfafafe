"""Muon for the matrices and AdamW for the rest, each with a schedule."""

import torch
from tied_weights import TiedWeights
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR


class TwoOptimizers(TiedWeights):
    def optimizers(self, model):
        matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name]
        others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embedding" in name]
        muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1)
        adamw = torch.optim.AdamW(others, lr=3e-4)
        return [(muon, CosineAnnealingLR(muon, 1000)), (adamw, LinearLR(adamw, 0.1, 1.0, 100))]
