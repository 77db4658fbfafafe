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
from torch.profiler import ProfilerActivity, profile

from bench.messages.heartbeat import Heartbeat
from bench.messages.spec import Spec
from bench.rank.build import build, place
from bench.rank.main import KEPT
from bench.rank.measure import _Run


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
    """Train as a spec says, by the loop that is measured; rank 0 leaves what the optimizer first saw and all losses."""
    given = json.loads(argument)
    spec = Spec.read(given["spec"])
    training = build(spec, place(spec))
    gradients: dict[str, np.ndarray] = {}
    before = _parameters(training.model)

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        scale = getattr(optimizer, "grad_scale", None)  # set where the fused kernel unscales
        for name, parameter in training.model.named_parameters() if not gradients else ():
            assert parameter.grad is not None, name
            whole = _whole(parameter.grad) / (1 if scale is None else scale.item())
            gradients[name.removeprefix("module.")] = whole

    training.optimizer.register_step_pre_hook(keep)
    run = _Run(training, spec, Heartbeat(spec.scratch, "test", int(os.environ["RANK"])))
    run._window(spec.steps)
    (losses,) = run.losses
    if training.distributed:
        dist.all_reduce(losses)
        losses /= dist.get_world_size()
    after = _parameters(training.model)
    if int(os.environ["RANK"]) == 0:
        np.savez(given["out"], losses=losses.numpy(), **gradients)
        np.savez(given["parameters"], **{f"{k} before": v for k, v in before.items()}, **after)
    training.batches.close()
    KEPT.append(training)


def _parameters(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name.removeprefix("module."): _whole(parameter) for name, parameter in model.named_parameters()}


def _whole(tensor: torch.Tensor) -> np.ndarray:
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().float().numpy().copy()


def communicate(argument: str) -> None:
    """Train three steps; rank 0 leaves which collectives were called in the last, and how often."""
    given = json.loads(argument)
    spec = Spec.read(given["spec"])
    training = build(spec, place(spec))
    run = _Run(training, spec, Heartbeat(spec.scratch, "test", int(os.environ["RANK"])))
    run._window(2)  # DDP rebuilds its buckets in the second
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run._window(1)
    counts = {event.key: event.count for event in profiler.key_averages() if event.key.startswith("c10d::")}
    if int(os.environ["RANK"]) == 0:
        Path(given["out"]).write_text(json.dumps(counts))
    KEPT.append(training)
