"""A bare loop and ours in the same processes, taking turns as the sides of a duet do: one round of agreement.py.

    torchrun --nproc-per-node 2 agreement_pair.py gpt-nano ddp --batch-size 4 --passes 24

Three sides train in short bursts: ``bare`` is the bare loop with its own model and optimizer, ``ours`` is our loop with
the model that bench builds, and ``same`` is the bare loop with that same model and optimizer. Two models lie in memory
in two ways, by which processes differ by some per cent; ``ours`` and ``same`` share one, so that their ratio is that of
the loops alone. The order is turned round in each next pass, so that whatever the machine does slowly it does to all.
A burst has one step that is not timed, as another side has left its data in the caches. Python's collector is on in the
bare loop's bursts and off in ours, as it is when each is alone.

Prints one JSON line from rank 0: the time of every burst on its slowest rank, in the order of the passes.
"""

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable

import bare_loop
import torch
import torch.distributed as dist

from bench.machine.gpus import this_machine
from bench.messages.heartbeat import Heartbeat
from bench.messages.spec import Spec
from bench.plan.make_case import make_case
from bench.plan.options import AXES
from bench.rank.build import Training, build, place
from bench.rank.measure import _Run

WARMUP = 5
LEAST_STEPS = 2

Train = Callable[[int], int]  # trains so many steps, and says how many nanoseconds they took


def spec_of(workload: str, strategy: str, batch_size: int, folder: str) -> Spec:
    machine = this_machine()
    axes = {name: option.default for name, option in AXES.items()}
    axes |= {"workload": workload, "strategy": strategy, "batch_size": batch_size}
    axes |= {"gpus": int(os.environ["WORLD_SIZE"]), "device": "cuda" if machine.gpus else "cpu"}
    case = make_case(axes, machine)
    target, options = case.spec.target, case.spec.options
    return Spec(case, target, options, "resident", WARMUP, LEAST_STEPS, 0.0, 600.0, folder, folder)


def ours(training: Training, spec: Spec) -> Train:
    """Return what bench.rank.measure does around a window, with all that it writes down on the way."""
    heartbeat = Heartbeat(spec.scratch, "agreement", dist.get_rank())
    run = _Run(training, spec, heartbeat)
    run._window(WARMUP)
    run._collect_garbage()

    def train(steps: int) -> int:
        gc.freeze()
        gc.disable()
        run._window(1)
        return run._window(steps).ns

    return train


def bare(name: str, strategy: str, batch_size: int, device: torch.device) -> Train:
    return timed(bare_loop.prepare(name, strategy, batch_size, device))


def same(training: Training) -> Train:
    """Return the bare loop with the model, the optimizer and the data of ours."""
    batch = next(training.batches)

    def loop(steps: int) -> None:
        for _ in range(steps):
            loss = training.workload.loss(training.model, batch)
            loss.backward()
            training.optimizers.optimizers[0].step()
            training.optimizers.optimizers[0].zero_grad(set_to_none=True)

    return timed(loop)


def timed(loop: Callable[[int], object]) -> Train:
    """Warm a loop up, and time it by one outer clock, with Python's collector on."""
    loop(WARMUP)

    def train(steps: int) -> int:
        gc.unfreeze()
        gc.enable()
        loop(1)
        return round(bare_loop.timed(loop, steps) * 1e9)

    return train


def slowest(values: list[int], device: torch.device) -> list[int]:
    """The largest of each over all ranks."""
    largest = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return [round(value) for value in largest.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=["gpt-nano", "resnet18"])
    parser.add_argument("strategy", choices=["ddp", "fsdp"])
    parser.add_argument("--workload", required=True, help="ours, of the same model")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--passes", type=int, default=24)
    parser.add_argument("--burst-seconds", type=float, default=0.4)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(args.workload, args.strategy, args.batch_size, folder)
        devices = place(spec)  # makes the process group as well
        training = build(spec, devices)
        sides = {
            "bare": bare(args.model, args.strategy, args.batch_size, devices[0]),
            "ours": ours(training, spec),
            "same": same(training),
        }
        [step_ns] = slowest([max(train(LEAST_STEPS) for train in sides.values()) // LEAST_STEPS], devices[0])
        steps = max(LEAST_STEPS, round(args.burst_seconds * 1e9 / step_ns))
        took: dict[str, list[int]] = {name: [] for name in sides}
        began = time.monotonic()
        for number in range(args.passes):
            for name in sides if number % 2 == 0 else reversed(sides):
                took[name].append(sides[name](steps))
        seconds = time.monotonic() - began
        told = {name: slowest(values, devices[0]) for name, values in took.items()}
    if dist.get_rank() == 0:
        samples = steps * args.batch_size * dist.get_world_size()
        print(json.dumps({**told, "samples": samples, "seconds": round(seconds, 1)}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
