"""What the ranks of tests run; each entry takes one string and leaves files."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile

from bench.messages.heartbeat import Heartbeat
from bench.messages.saved import Saved
from bench.messages.spec import Spec
from bench.rank.build import Training, build, pin_numerics, place
from bench.rank.main import KEPT
from bench.rank.measure import _Run
from bench.rank.saving.phase import save_and_load
from bench.rank.tensor_parallel import layout_of


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
        "collects": gc.isenabled(),
        "objects": [len(gc.get_objects()), gc.get_freeze_count()],
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
    """Train the cases of a JSON list of specs, each by the loop that is measured, and leave ``seen.npz`` of each."""
    _one_after_the_other(argument, _train)


def _train(spec: Spec) -> None:
    """Rank 0 leaves all losses and norms of gradients.

    It also leaves, of the first step, the gradients and the parameters before and after it.
    """
    training = build(spec, _placed(spec))
    seen = {f"{name} before": value for name, value in _of_all_stages(training, _parameters(training)).items()}

    norms: list[float] = []

    def keep_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
        scale = getattr(optimizer, "grad_scale", None)  # set where the fused kernel unscales
        own = {}
        for model in training.models:
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None, name
                whole = _whole(parameter.grad, parameter) / (1 if scale is None else scale.item())
                own[name.removeprefix("module.")] = whole
        found = _of_all_stages(training, own)
        norms.append(float(np.sqrt(sum(np.square(whole, dtype=np.float64).sum() for whole in found.values()))))
        if "losses" not in seen:
            seen.update(found)

    training.optimizers.optimizers[0].register_step_pre_hook(keep_gradients)
    run = _Run(training, spec, Heartbeat(spec.scratch, "test", int(os.environ["RANK"])))
    run._window(1)
    seen |= {f"{name} after": value for name, value in _of_all_stages(training, _parameters(training)).items()}
    seen["losses"] = np.empty(0)
    run._window(spec.steps - 1)
    losses = torch.cat(run.losses)
    if training.distributed:
        dist.all_reduce(losses)  # of a pipeline the ranks with the last stage have one, and the others 0
        losses /= dist.get_world_size() // spec.case.pipeline_ranks
    training.batches.close()
    KEPT.append(training)
    if int(os.environ["RANK"]) == 0:
        np.savez(Path(spec.folder, "seen.npz"), **{**seen, "losses": losses.numpy(), "norms": np.array(norms)})


def save(argument: str) -> None:
    """Train the cases of a JSON list of specs, save and load them, and train on; leave ``saved.json`` of each."""
    _one_after_the_other(argument, _save)


def _save(spec: Spec) -> None:
    """Rank 0 leaves what each rank saw, all losses, and the bytes of the tensors that all ranks have."""
    training = build(spec, _placed(spec))
    run = _Run(training, spec, Heartbeat(spec.scratch, "test", int(os.environ["RANK"])))
    run._window(spec.steps)
    saved = save_and_load(training, Path(spec.folder, "saved"), lambda: None) if spec.case.saves else Saved()
    run._window(spec.steps)
    losses = torch.cat(run.losses)
    ranks: list[object] = [dataclasses.asdict(saved)]
    if training.distributed:
        dist.all_reduce(losses)
        ranks = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, dataclasses.asdict(saved))
    training.batches.close()
    KEPT.append(training)
    if int(os.environ["RANK"]) == 0:
        said = {"losses": losses.tolist(), "ranks": ranks, "left": Path(spec.folder, "saved").exists()}
        Path(spec.folder, "saved.json").write_text(json.dumps(said))


def _one_after_the_other(argument: str, do: Callable[[Spec], None]) -> None:
    """Do something for each spec of a JSON list. The first that fails ends the process, and its folder says why."""
    for path in json.loads(argument):
        spec = Spec.read(path)
        try:
            do(spec)
        except BaseException:
            Path(spec.folder, f"error{os.environ['RANK']}.txt").write_text(traceback.format_exc())
            raise


def _placed(spec: Spec) -> list[torch.device]:
    """Return the devices of a case; the cases after the first share the first one's process group."""
    if not dist.is_initialized():
        return place(spec)
    assert dist.get_world_size() == spec.case.world_size
    pin_numerics(spec.case)
    return [torch.device("cpu")]


def _parameters(training: Training) -> dict[str, np.ndarray]:
    named = (pair for model in training.models for pair in model.named_parameters())
    return {name.removeprefix("module."): _whole(p, p) for name, p in named}


def _of_all_stages(training: Training, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the ranks of a pipeline have together, by the names of the whole model; else ``own``.

    A parameter that several stages have must be the same in all of them.
    """
    if training.pipeline is None:
        return own
    every: list[dict[str, np.ndarray]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, own)
    model = training.workload.build()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    first = {name: names[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    found: dict[str, np.ndarray] = {}
    for name, value in (pair for of_rank in every for pair in of_rank.items()):
        np.testing.assert_array_equal(found.setdefault(first[name], value), value, err_msg=name)
    return {name: found[name] for name in names.values()}


def _whole(tensor: torch.Tensor, parameter: torch.Tensor) -> np.ndarray:
    """Return a parameter or its gradient with the parts of all ranks."""
    layout = layout_of(parameter)
    tensor = tensor.detach() if layout is None else layout.whole(tensor.detach())
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().float().numpy().copy()


def communicate(argument: str) -> None:
    """Train the cases of a JSON list of specs for three steps each, and leave ``collectives.json`` of each."""
    _one_after_the_other(argument, _communicate)


def _communicate(spec: Spec) -> None:
    """Rank 0 leaves how often each collective was called in the third step, and in one after they were removed."""
    training = build(spec, _placed(spec))
    run = _Run(training, spec, Heartbeat(spec.scratch, "test", int(os.environ["RANK"])))
    run._window(2)  # DDP rebuilds its buckets in the second
    found = {"third": _collectives(run)}
    assert training.strategy.remove_collectives(training.model, spec.case)
    run._window(1)
    found["without"] = _collectives(run)
    KEPT.append(training)
    if int(os.environ["RANK"]) == 0:
        Path(spec.folder, "collectives.json").write_text(json.dumps(found))


def _collectives(run: _Run) -> dict[str, int]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run._window(1)
    return {event.key: event.count for event in profiler.key_averages() if event.key.startswith("c10d::")}
