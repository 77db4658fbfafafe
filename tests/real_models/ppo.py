"""PPO: a batch is a rollout, on which the policy is updated several times, mini-batch by mini-batch."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

OBSERVATION, ACTIONS = 32, 6


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(OBSERVATION, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh())
        self.policy, self.value = nn.Linear(256, ACTIONS), nn.Linear(256, 1)

    def forward(self, observations):
        features = self.body(observations)
        return F.log_softmax(self.policy(features), 1), self.value(features).squeeze(1)


def clipped(model, observations, actions, rewards, old, old_value):
    logs, value = model(observations)
    ratio = (logs.gather(1, actions[:, None]).squeeze(1) - old).exp()
    advantage = rewards - old_value
    gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    entropy = -(logs.exp() * logs).sum(1).mean()
    return 0.5 * F.mse_loss(value, rewards) - gain - 0.01 * entropy


def minibatches(model, batch):
    """Yield mini-batches of the rollout in two epochs, with what the policy was at its begin."""
    observations, actions, rewards = batch
    with torch.no_grad():
        logs, value = model(observations)
        old = logs.gather(1, actions[:, None]).squeeze(1)
    for _ in range(2):
        for rows in torch.randperm(len(rewards), device=rewards.device).chunk(4):
            yield observations[rows], actions[rows], rewards[rows], old[rows], value[rows]


class Ppo:
    unit, batch_size = "samples", 256

    def build(self):
        return ActorCritic()

    def step(self, model, batch, ctx):
        for minibatch in minibatches(model, batch):
            with ctx.autocast():
                loss = clipped(model, *minibatch)
            ctx.backward(loss)
            ctx.update()
        return loss

    def samples(self, data):
        return Items(
            lambda g: (
                torch.randn(OBSERVATION, generator=g),
                torch.randint(0, ACTIONS, (), generator=g),
                torch.randn((), generator=g),
            )
        )

    def layers(self, model):
        return []


def plain(model, optimizers, batch):
    """Train a step without ``ctx``."""
    (optimizer,) = optimizers
    for minibatch in minibatches(model, batch):
        loss = clipped(model, *minibatch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss
