"""What an item of synthetic data costs over one of real data: medians of per-round ratios, interleaved.

    python tests/benchmarks/data_cost.py --rounds 7 --items 512

Each dataset is read item by item in this process, the demo's files from the page cache. A round is real, synthetic,
synthetic, real. Nothing is asserted.
"""

import argparse
import math
import statistics
import time

import torch

from bench.plan.workload_spec import parse_workload
from workloads.base import load
from workloads.data import paths

# Images of 64 and 80 pixels are cut from 160 x 160 on both sides; for 224 the synthetic ones are as large as ImageNet's.
PAIRS = {
    "resnet18:size=64": "folder=demo",
    "resnet18:size=80": "folder=demo",
    "gpt-nano": "text=demo",
    "gpt-124m": "text=demo",
    "bert": "text=demo",
    "mnist-cnn": "mnist=demo",
    "dlrm": "criteo=demo",
}


def seconds_an_item(dataset: torch.utils.data.Dataset, order: list[int]) -> float:
    start = time.perf_counter()
    for index in order:
        dataset[index]
    return (time.perf_counter() - start) / len(order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=512)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a DataLoader's worker
    print(f"{'workload':18} {'real data':12} {'real µs':>9} {'synthetic µs':>12} {'synthetic ÷ real':>17}  range")
    for workload, data in PAIRS.items():
        spec = parse_workload(workload)
        made = load(spec.target, spec.options)
        real, synthetic = made.samples(paths.resolve(data)), made.samples("synthetic")
        generator = torch.Generator().manual_seed(0)
        order = torch.randint(0, len(real), (args.items,), generator=generator).tolist()
        times = {real: [], synthetic: []}
        ratios = []
        for dataset in times:
            seconds_an_item(dataset, order)  # the pool is made, the files are read
        for _ in range(args.rounds):
            a, b, c, d = (seconds_an_item(dataset, order) for dataset in (real, synthetic, synthetic, real))
            times[real] += [a, d]
            times[synthetic] += [b, c]
            ratios.append(math.sqrt(b * c / (a * d)))
        of_real, of_synthetic = (statistics.median(seconds) * 1e6 for seconds in times.values())
        print(
            f"{workload:18} {data:12} {of_real:9.1f} {of_synthetic:12.1f} {statistics.median(ratios):17.3f}  "
            f"{min(ratios):.3f}-{max(ratios):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
