"""Bucketing: the workload's own loader puts sentences of similar length into a batch."""

import torch
from lstm import Lstm
from torch.utils.data import DataLoader


class Bucketing(Lstm):
    def loader(self, rank, world_size, batch_size):
        sentences = self.samples("synthetic")
        by_length = sorted(range(len(sentences)), key=lambda number: (len(sentences[number][0]), number))
        buckets = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
        shuffled = torch.randperm(len(buckets), generator=torch.Generator().manual_seed(0)).tolist()
        own = [buckets[number] for number in shuffled[rank::world_size]]
        return DataLoader(sentences, batch_sampler=own, collate_fn=self.collate_fn)
