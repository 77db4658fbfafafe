"""What the ranks of tests run; each entry takes one string and leaves files."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from bench.messages import Spec
from bench.rank.build import build
from bench.rank.main import KEPT


def facts(folder: str) -> None:
    """Leave this rank's process id and what it has loaded."""
    said = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "omp": os.environ["OMP_NUM_THREADS"],
        "threads": torch.get_num_threads(),
        "cuda_initialized": torch.cuda.is_initialized(),
        "preloaded": "bench.rank.main" in sys.modules,
        "stdin": os.readlink("/proc/self/fd/0"),
        "tmp": os.environ["TMPDIR"],
    }
    Path(folder, f"facts{os.environ['RANK']}.json").write_text(json.dumps(said))


def die(code: str) -> None:
    """Rank 1 ends by a signal (a negative code) or an exit; the others wait for it in a collective."""
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        if int(code) < 0:
            os.kill(os.getpid(), -int(code))
        os._exit(int(code))
    dist.barrier()


def hang(folder: str) -> None:
    """Never end, and leave a child that has left the session and ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(folder, f"child{os.environ['RANK']}").write_text(str(os.getpid()))
        time.sleep(1000)
    Path(folder, f"rank{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(1000)


def train(argument: str) -> None:
    """Train as a spec says; rank 0 leaves the mean loss of each step and the gradients of the first."""
    given = json.loads(argument)
    spec = Spec.read(given["spec"])
    training = build(spec)
    losses, gradients = [], {}
    for step in range(given["steps"]):
        loss = training.loss(training.to_device(next(training.batches)))
        loss.backward()
        if step == 0:
            for name, parameter in training.model.named_parameters():
                gradient = parameter.grad
                assert gradient is not None, name
                whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
                gradients[name.removeprefix("module.")] = whole.detach().float().numpy().copy()
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        mean = loss.detach().clone()
        if training.distributed:
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        losses.append(mean.item())
    if int(os.environ["RANK"]) == 0:
        np.savez(given["out"], losses=np.array(losses), **gradients)
    training.batches.close()
    KEPT.append(training)
