"""A graph network: a batch is one large graph of several, and messages are summed by index_add."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

FEATURES, WIDTH = 16, 96


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.update = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, nodes, edges):
        sources, targets = edges
        return nodes + self.update(nodes.index_add(0, targets, nodes[sources]))


class GraphNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, 1)
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, nodes, edges, graph_of, graphs):
        x = self.first(nodes)
        for layer in self.layers:
            x = layer(x, edges)
        return self.head(x.new_zeros(graphs, WIDTH).index_add(0, graph_of, x)).squeeze(1)


def graph(g):
    nodes = int(torch.randint(8, 30, (), generator=g))
    edges = torch.randint(0, nodes, (2, 3 * nodes), generator=g)
    return torch.randn(nodes, FEATURES, generator=g), edges, torch.randn((), generator=g)


class Graph:
    unit, batch_size = "samples", 64

    def build(self):
        return GraphNetwork()

    def loss(self, model, batch):
        return F.mse_loss(model(batch["nodes"], batch["edges"], batch["graph_of"], len(batch["y"])), batch["y"])

    def samples(self, data):
        return Items(graph)

    def collate_fn(self, items):
        nodes, edges, y = zip(*items, strict=True)
        sizes = torch.tensor([len(one) for one in nodes])
        first = sizes.cumsum(0) - sizes
        return {
            "nodes": torch.cat(nodes),
            "edges": torch.cat([one + start for one, start in zip(edges, first, strict=True)], 1),
            "graph_of": torch.repeat_interleave(torch.arange(len(items)), sizes),
            "y": torch.stack(y),
        }

    def batch_size_of(self, batch):
        return len(batch["y"])

    def layers(self, model):
        return list(model.layers)
