"""The parts of ``make gpu``: which commands each has, how long it may take, and what must come out of it.

The most telling part comes first. The limits are for one H100 or H200; what a part leaves of its time is for those
after it. Nothing is run here.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nvidia_smi
from gpu_wheels import FLOAT8, ROOT, TESTS, VERDICTS

AGREES = 0.02  # a ratio of throughput this far from 1 fails, on a GPU
LOSS_AGREES = 0.02  # between strategies and precisions, in the first step
FRACTION = 0.1  # of the device's memory, that the search for a batch size may take: it is to be short

Row = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """Where and how large: the device, how many of it, the folder of the results, and names and batches of models."""

    device: str
    gpus: int
    out: Path
    gpt: str = "gpt-124m"
    image: str = "resnet50"
    llama: str = "llama-1b"
    gpt_batch: int = 8
    image_batch: int = 64
    llama_batch: int = 2
    steps: int = 50
    suffix: str = ""  # of the image model's name, with its options
    patience: float = 1.0  # by which all limits are multiplied

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def precision(self) -> str:
        """What people train in; many processors have no fast bfloat16."""
        return "amp-bf16" if self.on_gpu else "fp32"


def small(device: str, gpus: int, out: Path) -> Setup:
    """Sizes for a machine without a GPU."""
    return Setup(
        device,
        gpus,
        out,
        **{"gpt": "gpt-nano", "image": "resnet18", "llama": "llama-nano", "suffix": ":size=64"},
        **{"gpt_batch": 4, "image_batch": 8, "llama_batch": 4, "steps": 5, "patience": 6.0},
    )


@dataclass(frozen=True)
class Done:
    """A command that has ended, or was ended: ``code`` is None if the limit came first. Texts are what it printed."""

    words: tuple[str, ...]
    code: int | None
    seconds: float
    stdout: str = ""
    beside: str = ""  # what nvidia-smi printed meanwhile

    @property
    def rows(self) -> list[Row]:
        """Of a ``bench run --json`` that came to its end."""
        lines = [line for line in self.stdout.splitlines() if line.startswith("{")]
        return json.loads(lines[-1]).get("launches", []) if lines else []


@dataclass(frozen=True)
class Found:
    """What a part says, a line each, and what of it is wrong."""

    said: list[str]
    wrong: list[str]


@dataclass(frozen=True)
class Part:
    """``allowed`` are the exit codes that are no failure; ``needs`` modules beside those that all parts need."""

    name: str
    about: str
    limit_s: float
    commands: tuple[tuple[str, ...], ...]
    check: Callable[[Sequence[Done]], Found]
    needs: Mapping[str, str]
    allowed: tuple[int, ...] = (0,)
    beside: bool = False  # whether nvidia-smi is to run as well
    gpu_only: bool = False


def parts(setup: Setup) -> list[Part]:
    """All of them, in order."""
    made = (_tests, _agreement, _matrix, _nvml, _compile, _attention, _float8, _saving, _auto, _ab)
    return [make(setup) for make in made]


def deadlines(limits: Sequence[float], patience: float = 1.0) -> list[float]:
    """When each part must have ended, in seconds from the first one's start."""
    return [patience * total for total in itertools.accumulate(limits)]


def run(setup: Setup, **options: object) -> tuple[str, ...]:
    """``bench run`` with axes and settings as keywords; one launch a case unless told otherwise."""
    words: dict[str, object] = {"device": setup.device, "gpus": setup.gpus, "steps": setup.steps, "launches": 1}
    given = itertools.chain.from_iterable(_option(name, value) for name, value in {**words, **options}.items())
    return (sys.executable, "-P", "-m", "bench", "run", *given, "--out", str(setup.out), "--quiet", "--json")


def _option(name: str, value: object) -> Iterator[str]:
    yield from ("--" + name.replace("_", "-"), str(value))


def _tests(setup: Setup) -> Part:
    files = sorted(str(file) for file in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in file.read_text())
    words = (sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-m", "gpu and not slow")
    about = "the tests marked gpu, but for those that take minutes"

    def check(done: Sequence[Done]) -> Found:
        ended = re.findall(r" (PASSED|FAILED|ERROR|SKIPPED)\b.*\[", done[0].stdout)
        counts = {word: ended.count(word) for word in dict.fromkeys(ended)}
        said = [", ".join(f"{count} {word.lower()}" for word, count in counts.items()) or "no test ended"]
        return Found(said, ["no test passed"] if setup.on_gpu and not counts.get("PASSED") else [])

    return Part("tests", about, 70, ((*words, *files),), check, TESTS)


def _agreement(setup: Setup) -> Part:
    """A bare loop and ours, on the same model, batch, precision and ranks."""
    cases = [(setup.gpt, "", "ddp", setup.gpt_batch), (setup.gpt, "", "fsdp", setup.gpt_batch)]
    cases.append((setup.image, setup.suffix, "ddp", setup.image_batch))
    precision = setup.precision
    commands = []
    for model, suffix, strategy, batch in cases:
        # torchrun asks for the host's full name, which takes ten seconds and more where no name server answers
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(setup.gpus))
        ranks = (sys.executable, *(torchrun if setup.gpus > 1 else ()))
        bare = (str(ROOT / "tests" / "benchmarks" / "bare_loop.py"), model, strategy, "--batch-size", str(batch))
        how = ("--warmup", "10", "--steps", str(setup.steps), "--device", setup.device, "--precision", precision)
        options = {"workload": model + suffix, "strategy": strategy, "batch_size": batch, "precision": precision}
        commands += [(*ranks, *bare, *how), run(setup, **options, warmup_steps=10, launches=2)]

    def check(done: Sequence[Done]) -> Found:
        said, wrong = [], []
        for (model, _, strategy, _), bare, ours in zip(cases, done[::2], done[1::2], strict=False):
            figures = [row["samples_per_s"] for row in ours.rows if row["status"] == "ok"]
            if bare.code != 0 or not figures:
                continue  # which is a failure by its exit code
            theirs = json.loads(bare.stdout.strip().splitlines()[-1])["samples_per_s"]
            ratio = statistics.geometric_mean(figures) / theirs
            line = f"{model} {strategy}: ours / bare loop {ratio:.4f} ({theirs:.1f} samples/s by the bare loop)"
            said.append(line)
            if setup.on_gpu and abs(math.log(ratio)) > AGREES:
                wrong.append(line)
        return Found(said, wrong)

    return Part("agreement", f"throughput against a bare loop, {precision}", 75, tuple(commands), check, {})


def _matrix(setup: Setup) -> Part:
    """Three precisions and both ends of checkpointing under every strategy, without the product of all."""
    gpt = {"workload": setup.gpt, "batch_size": setup.gpt_batch}
    image = {"workload": setup.image + setup.suffix, "batch_size": setup.image_batch}
    strategies, precisions = "single,ddp,fsdp", "fp32,tf32,amp-bf16" if setup.on_gpu else "fp32"
    commands = (
        run(setup, **gpt, strategy=strategies, precision=precisions),
        run(setup, **gpt, strategy="ddp,fsdp", precision=setup.precision, activation_checkpointing="selective,full"),
        run(setup, **image, strategy=strategies, precision=setup.precision, activation_checkpointing="none,full"),
    )
    about = "GPT and ResNet by strategy, precision and checkpointing"
    return Part("matrix", about, 55, commands, _rows_agree, {})


def _compile(setup: Setup) -> Part:
    gpt = run(
        setup,
        **{"workload": setup.gpt, "batch_size": setup.gpt_batch, "precision": setup.precision, "compile": "default"},
        strategy="fsdp,ddp",
    )
    image = run(
        setup,
        **{"workload": setup.image + setup.suffix, "batch_size": setup.image_batch, "precision": setup.precision},
        **{"strategy": "single", "compile": "default"},
    )

    def check(done: Sequence[Done]) -> Found:
        rows = [row for one in done for row in one.rows]
        anew = [f"{row['case_id']}: compiled inside the window" for row in rows if row["window_compilations"]]
        found = _rows_agree(done)
        return Found(found.said, [*found.wrong, *anew])

    return Part("compile", "torch.compile, from an empty cache", 40, (gpt, image), check, {})


def _nvml(setup: Setup) -> Part:
    command = run(setup, workload=setup.gpt, strategy="ddp", precision=setup.precision, min_seconds=5)

    def check(done: Sequence[Done]) -> Found:
        if not done[0].rows:
            return Found([], [])
        folder = setup.out / "runs" / done[0].rows[0]["run_id"]
        with (folder / "devices.csv").open(newline="") as stream:
            readings = list(csv.DictReader(stream))
        return Found(*nvidia_smi.compared(readings, nvidia_smi.parse(done[0].beside)))

    about = "NVML's columns against nvidia-smi"
    return Part("nvml", about, 22, (command,), check, {}, beside=True, gpu_only=True)


def _llama(setup: Setup, **options: object) -> tuple[str, ...]:
    """A Llama under FSDP, in few steps."""
    less = {"steps": min(setup.steps, 20), "stragglers": "off", "matmul_peak": "off"}
    common = {"workload": setup.llama, "batch_size": setup.llama_batch, "strategy": "fsdp"}
    return run(setup, **{**common, "precision": setup.precision, **less, **options})


def _attention(setup: Setup) -> Part:
    kernels = "auto,flash,efficient,cudnn,math" if setup.on_gpu else "auto,flash,math"

    def check(done: Sequence[Done]) -> Found:
        found = _rows_agree(done)
        ran = [f"attention {row['attention']}: {row['attention_kernels']}" for one in done for row in one.rows]
        return Found([*found.said, *ran], found.wrong)

    about = f"kernels of attention on {setup.llama} under FSDP"
    return Part("attention", about, 40, (_llama(setup, attention=kernels),), check, {})


def _float8(setup: Setup) -> Part:
    """In bfloat16 and float8, with and without a compiler, which float8 needs to be fast."""
    commands = (
        _llama(setup, precision="amp-bf16,fp8,fp8-rowwise"),
        _llama(setup, precision="fp8,fp8-rowwise", compile="default"),
    )
    about = f"float8 on {setup.llama} under FSDP"
    return Part("float8", about, 50, commands, _rows_agree, FLOAT8, gpu_only=True)


def _saving(setup: Setup) -> Part:
    """Of the GPT, as the Llama's state would fill a disk for long. On the CPU activations cannot be offloaded."""
    gpt = {"workload": setup.gpt, "batch_size": setup.gpt_batch, "strategy": "fsdp", "precision": setup.precision}
    saves = run(setup, **gpt, save_checkpoint="full,dcp,dcp-async")
    commands = (saves, *([_llama(setup, activation_offload="cpu")] if setup.on_gpu else []))

    def check(done: Sequence[Done]) -> Found:
        found = _rows_agree(done)
        rows = [row for row in done[0].rows if row["status"] == "ok"]
        said = [f"{row['save_checkpoint']}: {row['save_blocked_s']} s, {row['goodput']} goodput" for row in rows]
        wrong = [f"{row['case_id']}: {row['save_note']}" for row in rows if not row["save_restored"]]
        return Found([*found.said, *said], [*found.wrong, *wrong])

    return Part(
        "saving", f"saving and loading {setup.gpt}; activations of {setup.llama} on the host", 45, commands, check, {}
    )


def _auto(setup: Setup) -> Part:
    """On a GPU of the memory that the search may take; on the CPU it ends where a small data set does."""
    if setup.on_gpu:
        limit = {"env": f"PYTORCH_CUDA_ALLOC_CONF=per_process_memory_fraction:{FRACTION}"}
        words = run(setup, workload=setup.gpt, strategy="ddp", precision=setup.precision, batch_size="auto", **limit)
    else:
        words = run(setup, workload="mnist-cnn", strategy="ddp", data="mnist=demo", num_workers=0, batch_size="auto")

    def check(done: Sequence[Done]) -> Found:
        rows = [row for row in done[0].rows if row["role"] == "measure"]
        said = [f"{row['case_id']}: batch size {row['batch_size']} of {row['batch_search']}" for row in rows]
        wrong = [] if not setup.on_gpu or any("oom" in line for line in said) else ["no batch ran out of memory"]
        return Found(said, wrong if rows else [])

    return Part("auto", "--batch-size auto", 20, (words,), check, {})


def _ab(setup: Setup) -> Part:
    """Two equal sides as a duet. Five blocks decide little (exit code 3), but a difference must not be found."""
    options = {"workload": "gpt-nano", "strategy": "ddp", "batch_size": 4, "blocks": 5, "device": setup.device}
    given = itertools.chain.from_iterable(_option(name, value) for name, value in options.items())
    more = ("--gpus", str(setup.gpus), "--steps", str(setup.steps), "--out", str(setup.out), "--quiet")
    command = (sys.executable, "-P", "-m", "bench", "ab", "--duet", *given, *more)

    def check(done: Sequence[Done]) -> Found:
        return Found([line for line in done[0].stdout.splitlines() if "blocks" in line][:2], [])

    return Part("ab", "bench ab --duet of two equal sides", 30, (command,), check, VERDICTS, allowed=(0, 3))


def _rows_agree(done: Sequence[Done]) -> Found:
    """Every launch is ok, and of equal models and batches the first loss is the same, whatever else differs."""
    rows = [row for one in done for row in one.rows if row["role"] == "measure"]
    said = [_figures(row) for row in rows]
    wrong = [f"{row['case_id']}: {row['status']}: {row['reason']}" for row in rows if row["status"] != "ok"]
    losses: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        if row["status"] == "ok":
            losses.setdefault((row["workload"], row["global_batch"]), []).append(row["loss_first"])
    for what, values in losses.items():
        if max(values) - min(values) > LOSS_AGREES * max(values):
            wrong.append(f"{what[0]}: first losses from {min(values):.4f} to {max(values):.4f}")
    return Found(said, wrong)


def _figures(row: Row) -> str:
    """A launch in one line; what it does not know is left out."""
    shown = {"samples_per_s": "{:,.1f} samples/s", "step_ms": "{:.2f} ms", "mfu": "MFU {:.1%}"}
    shown |= {"compile_s": "compiled {:.0f} s", "peak_allocated_mib": "{:,.0f} MiB"}
    known = [text.format(row[name]) for name, text in shown.items() if row.get(name) is not None]
    return f"{row['case_id']}: {', '.join(known)}" if known else f"{row['case_id']}: {row['status']}"
