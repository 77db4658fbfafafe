"""Real models and kinds of training, measured by bench and by a plain loop that takes turns with it.

    python tests/benchmarks/real_models.py --csv real_models.csv --markdown real_models.md [--only vae,gpt2]

For each entry of the table processes are started (real_models_pair.py), in which both loops train in turns, in as many
rounds as bring the half-width of the ratio's 95 % interval to ``--half-width``, with a ``--limit`` of time for each.
Their losses must be equal. A row is written as soon as it is known. What needs a package that is missing is left out.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agreement import interval

from launch.ports import free_port

HERE = Path(__file__).parent
MODELS = HERE.parent / "real_models"
MOST_S = 240  # beyond the limit: a round may take long, and packages take long to import
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # torchrun sets others
EQUAL = 1e-4  # the largest relative difference of losses


@dataclass(frozen=True)
class Tried:
    """A model: ``of`` is MODULE.CLASS of tests/real_models, or an adapter with its options."""

    about: str
    of: str
    options: Mapping[str, str | int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    batch_size: int = 0  # 0: the workload's own

    @property
    def way(self) -> str:
        """Return which members of a workload it shows."""
        return "adapter" if "." not in self.of else WAYS.get(self.of, "loss")

    def workload(self, configs: Path) -> str:
        """Return what ``bench run --workload`` is given."""
        module, _, kind = self.of.partition(".")
        given = self.given(configs)
        return ":".join([f"{MODELS}/{module}.py:{kind}" if kind else module, *given])

    def given(self, configs: Path) -> list[str]:
        """Return the options as NAME=VALUE."""
        return [f"{name}={str(value).format(configs=configs)}" for name, value in self.options.items()]


def timm(model: str, about: str) -> Tried:
    return Tried(f"{about} (timm)", "timm", {"model": model, "size": 64, "classes": 10}, ("timm",), 4)


def vision(model: str, about: str, batch_size: int = 4) -> Tried:
    return Tried(f"{about} (torchvision)", "torchvision", {"model": model, "size": 64, "classes": 10}, (), batch_size)


def hf(config: str, about: str) -> Tried:
    return Tried(
        f"{about} (transformers)", "hf", {"config": f"{{configs}}/{config}.json", "seq": 64}, ("transformers",)
    )


WAYS = {
    **dict.fromkeys(["gan.Gan", "wgan_gp.WganGp", "clip.Clip", "ema_teacher.EmaTeacher"], "step"),
    **dict.fromkeys(["ppo.Ppo", "sharpness.Sharpness"], "step"),
    **dict.fromkeys(["lstm.Lstm", "nested.Nested", "batch_encoding.Sentences"], "loss, tokens_of"),
    **dict.fromkeys(["detection.Detection", "speech_ctc.SpeechCtc", "graph.Graph"], "loss, collate_fn"),
    "bucketing.Bucketing": "loss, loader",
    "tar_stream.TarStream": "loss, IterableDataset",
    "two_optimizers.TwoOptimizers": "loss, optimizers",
}
TABLE = {
    "resnet10t": timm("resnet10t", "ResNet-10-T"),
    "convnext": timm("convnext_atto", "ConvNeXt Atto"),
    "vit-tiny": timm("vit_tiny_patch16_224", "ViT-Ti/16"),
    "efficientnet": timm("efficientnet_b0", "EfficientNet-B0"),
    "mobilenet": vision("mobilenet_v3_small", "MobileNetV3 small"),
    "regnet": vision("regnet_x_400mf", "RegNetX-400MF"),
    "swin": vision("swin_t", "Swin-T", 1),
    "gpt2": hf("gpt2", "GPT-2"),
    "llama": hf("llama", "Llama with grouped queries"),
    "bert": hf("bert", "BERT, masked words"),
    "distilbert": hf("distilbert", "DistilBERT, masked words"),
    "t5": hf("t5", "T5, sequence to sequence"),
    "vit": hf("vit", "ViT"),
    "mixtral": hf("mixtral", "Mixtral, a mixture of experts"),
    "qwen2-moe": hf("qwen2_moe", "Qwen2-MoE, with a shared expert"),
    "peft-lora": Tried("LoRA on Llama (peft)", "peft_lora.PeftLora", needs=("peft", "transformers")),
    "batch-encoding": Tried(
        "BERT classifies sentences, `BatchEncoding`", "batch_encoding.Sentences", needs=("transformers",)
    ),
    "lora-int8": Tried("LoRA by hand on an int8 base", "lora_int8.LoraInt8"),
    "frozen": Tried("frozen ResNet-18 with a new head", "frozen_backbone.FrozenBackbone"),
    "tied": Tried("language model with tied weights", "tied_weights.TiedWeights"),
    "preferences": Tried("preference optimisation (DPO)", "preferences.Preferences"),
    "two-optimizers": Tried("Muon and AdamW, each with a schedule", "two_optimizers.TwoOptimizers"),
    "detection": Tried("Faster R-CNN, lists of images and boxes", "detection.Detection"),
    "segmentation": Tried("LR-ASPP, segmentation", "segmentation.Segmentation"),
    "gan": Tried("DCGAN", "gan.Gan"),
    "wgan-gp": Tried("WGAN-GP, gradient penalty", "wgan_gp.WganGp"),
    "clip": Tried("contrastive pairs over all ranks (CLIP)", "clip.Clip"),
    "ema-teacher": Tried("teacher that is a moving average (BYOL, DINO)", "ema_teacher.EmaTeacher"),
    "ppo": Tried("PPO, eight updates a step", "ppo.Ppo"),
    "sharpness": Tried("sharpness-aware minimisation (SAM)", "sharpness.Sharpness"),
    "diffusion": Tried("diffusion (DDPM)", "diffusion.Diffusion"),
    "vae": Tried("variational autoencoder", "vae.Vae"),
    "lstm": Tried("LSTM on packed sentences", "lstm.Lstm"),
    "nested": Tried("attention on nested tensors", "nested.Nested"),
    "bucketing": Tried("LSTM with batches of similar length", "bucketing.Bucketing"),
    "tar-stream": Tried("images from a stream of tar files", "tar_stream.TarStream"),
    "ctc": Tried("speech with CTC", "speech_ctc.SpeechCtc"),
    "graph": Tried("graph network", "graph.Graph"),
}
ON_TWO_RANKS = {  # the same on 2 ranks
    "ddp": ("mobilenet", "gpt2", "peft-lora", "gan", "wgan-gp", "clip", "ema-teacher", "graph"),
    "fsdp": ("llama", "mixtral", "tied", "diffusion"),
}
COLUMNS = (
    *("name", "about", "way", "strategy", "ranks", "ratio", "half_width_percent", "rounds", "seconds", "step_ms"),
    *("loss_difference", "fault"),
)


def entries() -> list[tuple[str, str, int]]:
    """Return (name, strategy, ranks) of all measurements."""
    pairs = [(name, strategy) for strategy, names in ON_TWO_RANKS.items() for name in names]
    return [*((name, "single", 1) for name in TABLE), *((name, strategy, 2) for name, strategy in pairs)]


def missing(tried: Tried) -> list[str]:
    """Return the packages that it needs and that are not installed."""
    return [package for package in tried.needs if importlib.util.find_spec(package) is None]


def measured(name: str, strategy: str, ranks: int, configs: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return a row; ``fault`` says why there are no values."""
    tried = TABLE[name]
    row = {"name": name, "about": tried.about, "way": tried.way, "strategy": strategy, "ranks": ranks}
    words = [tried.of, strategy, "--workload", tried.workload(configs)]
    words += [word for given in tried.given(configs) for word in ("--option", given)]
    words += ["--batch-size", str(tried.batch_size)] if tried.batch_size else []
    words += ["--half-width", str(args.half_width), "--limit", str(args.limit)]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(free_port())]
    command = [sys.executable, *(torchrun if ranks > 1 else []), str(HERE / "real_models_pair.py"), *words]
    code, stdout, stderr = run(command, args.limit + MOST_S)
    if code:
        print(stderr[-3000:], file=sys.stderr, flush=True)
        return {**row, "fault": cause(stderr)}
    told = json.loads(stdout.strip().splitlines()[-1])
    rounds = told["rounds"]
    ratio, half = interval([one["ratio"] for one in rounds])
    differs = max(one["differs"] for one in rounds)
    return {
        **row,
        "ratio": round(ratio, 4),
        "half_width_percent": round(100 * half, 2),
        "rounds": len(rounds),
        "seconds": told["seconds"],
        "step_ms": round(statistics.median(one["step_ms"] for one in rounds), 2),
        "loss_difference": f"{differs:.1e}",
        "fault": "" if differs <= EQUAL else "losses differ",
    }


def run(command: list[str], limit_s: float) -> tuple[int, str, str]:
    environment = {**ALONE, **os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, cwd=HERE.parents[1], start_new_session=True, **pipes)
    try:
        stdout, stderr = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 1, "", f"Error: took longer than {limit_s:.0f} s"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, stdout, stderr


def cause(stderr: str) -> str:
    """Return the last line that names an error, before those of torchrun itself."""
    lines = [line.strip() for line in stderr.splitlines() if "Error:" in line and "ChildFailedError" not in line]
    return lines[-1][-300:] if lines else "failed"


def write(file: Path, row: Mapping[str, Any]) -> None:
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    lines = ["| model or training | way | strategy | step | bench / stopwatch | rounds |", "|---|---|---|---|---|---|"]
    for row in rows:
        ranks = "" if int(row["ranks"]) == 1 else f", {row['ranks']} ranks"
        found = row["fault"] or f"{float(row['ratio']):.3f} ± {float(row['half_width_percent']):.1f} %"
        step = f"{row['step_ms']} ms" if row.get("step_ms") else ""
        told = [row["about"], row["way"], f"{row['strategy']}{ranks}", step, found, str(row.get("rounds", ""))]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names, with a comma between them")
    parser.add_argument("--strategy", default="single,ddp,fsdp")
    parser.add_argument("--half-width", type=float, default=2.0, help="per cent")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each")
    parser.add_argument("--csv", type=Path, help="a row for each is appended to it")
    parser.add_argument("--markdown", type=Path, help="the table of the rows")
    args = parser.parse_args()
    only, strategies = set(filter(None, args.only.split(","))), args.strategy.split(",")
    if unknown := only - set(TABLE):
        parser.error(f"--only: got {', '.join(sorted(unknown))}; allowed: {', '.join(TABLE)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_configs(Path(folder))
        for name, strategy, ranks in entries():
            if strategy not in strategies or (only and name not in only):
                continue
            if lacking := missing(TABLE[name]):
                print(f"{name}: left out, as {', '.join(lacking)} is not installed", flush=True)
                continue
            rows.append(row := measured(name, strategy, ranks, Path(folder), args))
            print(" ".join(f"{key}={value}" for key, value in row.items() if key != "about"), flush=True)
            if args.csv:
                write(args.csv, row)
    table = markdown(rows)
    print(table)
    if args.markdown:
        args.markdown.write_text(table + "\n")


def write_configs(folder: Path) -> None:
    """Write the configurations of transformers' models."""
    sys.path.append(str(MODELS))
    from configs import write as write_all

    write_all(folder)


if __name__ == "__main__":
    main()
