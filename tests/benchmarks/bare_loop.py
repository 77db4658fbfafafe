"""A training script as one writes it by hand, without stepbench: samples ÷ one outer wall clock.

    torchrun --nproc-per-node 2 bare_loop.py gpt-nano ddp --batch-size 4 --warmup 10 --steps 60

Without torchrun it is the only rank. Prints one JSON line from rank 0. The models repeat stepbench's built-in ones on purpose: nothing is imported from it.
"""

import argparse
import contextlib
import json
import os
import time

import torch
import torch.distributed as dist
import torchvision
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

NANO = {"layers": 4, "heads": 4, "width": 128, "seq": 128, "vocab": 256}
SMALL = {"layers": 12, "heads": 12, "width": 768, "seq": 1024, "vocab": 50257}  # GPT-2 small


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.attn(self.ln1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, layers, heads, width, seq, vocab):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(seq, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.02)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return self.head(self.ln(x))


class SlowData(torch.utils.data.Dataset):
    """Each sample takes 5 ms to make: the loader is what the step waits for."""

    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        time.sleep(0.005)
        return torch.zeros(64), torch.tensor(index % 10)


def gpt(sizes, batch_size, device):
    model = GPT(**sizes)
    tokens = torch.randint(0, sizes["vocab"], (batch_size, sizes["seq"] + 1), device=device)

    def loss(model, batch):
        return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1).float(), batch[0][:, 1:].flatten())

    return model, list(model.h), loss, forever((tokens,))


def resnet(model, size, batch_size, device):
    layers = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    images = torch.randn(batch_size, 3, size, size, device=device)
    labels = torch.randint(0, 1000, (batch_size,), device=device)
    return model, layers, classify, forever((images, labels))


def slow_loader(batch_size, device):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    sampler = torch.utils.data.DistributedSampler(SlowData())
    loader = torch.utils.data.DataLoader(SlowData(), batch_size, sampler=sampler, num_workers=2)
    batches = ([t.to(device) for t in batch] for batch in loader)
    return model, [], classify, batches


def classify(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def forever(batch):
    while True:
        yield batch


ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
BUILD = {
    "gpt-nano": lambda *where: gpt(NANO, *where),
    "gpt-124m": lambda *where: gpt(SMALL, *where),
    "resnet18": lambda *where: resnet(torchvision.models.resnet18(), 64, *where),
    "resnet50": lambda *where: resnet(torchvision.models.resnet50(), 224, *where),
    "slow-loader": slow_loader,
}


def prepare(name, strategy, batch_size, device, precision="fp32"):
    """The loop of a script that has made its process group: a function of how many steps it trains."""
    torch.manual_seed(0)
    model, layers, loss_of, batches = BUILD[name](batch_size, device)
    model.to(device)
    amp = precision == "amp-bf16"
    if strategy == "ddp":
        model = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    else:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if amp else MixedPrecisionPolicy()
        for layer in layers:
            fully_shard(layer, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def train(steps):
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16) if amp and strategy == "ddp" else contextlib.nullcontext():
                loss = loss_of(model, next(batches))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def timed(train, steps):
    """Seconds by one outer clock, from when all ranks are ready."""
    dist.barrier()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    train(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=list(BUILD))
    parser.add_argument("strategy", choices=["ddp", "fsdp"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--precision", choices=["fp32", "amp-bf16"], default="fp32")
    args = parser.parse_args()

    os.environ.update({**ALONE, **os.environ})
    cuda = torch.cuda.is_available() if args.device == "auto" else args.device == "cuda"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
    dist.init_process_group("nccl" if cuda else "gloo")
    train = prepare(args.model, args.strategy, args.batch_size, device, args.precision)
    train(args.warmup)
    seconds = timed(train, args.steps)
    if dist.get_rank() == 0:
        samples = args.steps * args.batch_size * dist.get_world_size()
        print(json.dumps({"samples_per_s": samples / seconds}), flush=True)
    dist.destroy_process_group()
    os._exit(0)  # torch 2.15 sometimes aborts in the interpreter's teardown after FSDP over Gloo


if __name__ == "__main__":
    main()
