"""Real models and kinds of training as workloads, against a stopwatch of their own and a loop without ``bench``."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import plain_loop
import pytest
import real_models
import torch
from command_line import Run, environment, run_bench

FOLDER = Path(__file__).parents[1] / "real_models"
stopwatch = plain_loop.module_of("stopwatch")
STEPS, SLOW_STEPS, WARMUP = 8, 16, 3
TOLERANCE_MS = 0.5
Names = dict[str, list[str]]  # models by strategy

ALWAYS: Names = {
    "single": [
        *("lora-int8", "tied", "two-optimizers", "gan", "ppo", "lstm", "nested", "bucketing", "tar-stream"),
    ],
    "ddp": ["clip"],
    "fsdp": ["diffusion"],
}
SLOW: Names = {
    "single": [name for name in real_models.TABLE if name not in ALWAYS["single"]],
    "ddp": ["mobilenet", "gpt2", "peft-lora", "gan", "wgan-gp", "graph", "ema-teacher"],
    "fsdp": ["llama", "mixtral", "tied"],
}


class Measured:
    """One run of several models, each launched once."""

    def __init__(self, folder: Path, names: Names, steps: int) -> None:
        self.folder, self.laps, self.steps = folder, folder / "laps", steps
        self.laps.mkdir()
        real_models.write_configs(folder)
        cases = [self._case(name, strategy) for strategy, some in names.items() for name in some if not lacks(name)]
        protocol = f"[protocol]\nlaunches = 1\nsteps = {steps}\nwarmup_steps = {WARMUP}\n"
        (folder / "suite.toml").write_text(protocol + "".join(cases))
        words = ("run", "--suite", "suite.toml", "--quiet")
        self.run: Run = run_bench(folder, *words, more={"STOPWATCH": str(self.laps)}, timeout=900)

    def _case(self, name: str, strategy: str) -> str:
        tried = real_models.TABLE[name]
        words = [f"of={tried.of}", f"label={name}-{strategy}", *tried.given(self.folder)]
        lines = [f'workload = "{":".join([f"{FOLDER}/stopwatch.py:Watched", *words])}"', f'strategy = "{strategy}"']
        lines += ["gpus = 2", 'device = "cpu"', f"batch_size = {self.batch_size(name)}"]
        return "\n".join(["[[matrix]]", *lines, ""])

    def options(self, name: str) -> dict[str, Any]:
        pairs = (word.split("=") for word in real_models.TABLE[name].given(self.folder))
        return {key: int(value) if value.isdigit() else value for key, value in pairs}

    def batch_size(self, name: str) -> int:
        tried = real_models.TABLE[name]
        return tried.batch_size or int(plain_loop.workload_of(tried.of, **self.options(name)).batch_size)

    def row(self, name: str, strategy: str) -> dict[str, str]:
        [row] = [row for row in self.run.rows() if f"label={name}-{strategy}:" in row["workload"] + ":"]
        assert (row["status"], row["reason"]) == ("ok", ""), self.run.stderr
        return row

    def check_times(self, name: str, strategy: str) -> None:
        """Compare the times between the calls of the workload, which begin the forward passes, on each rank."""
        row = self.row(name, strategy)
        ranks, warmup = int(row["world_size"]), int(row["warmup_steps_done"])
        assert ranks == (1 if strategy == "single" else 2)
        assert int(row["samples"]) == self.batch_size(name) * ranks * self.steps
        assert float(row["samples_per_s"]) == pytest.approx(int(row["samples"]) / float(row["window_s"]), rel=1e-6)
        assert self.run.folder
        records = sorted((self.run.folder / "logs" / row["launch_id"]).glob("rank?.json"))
        measurements = [json.loads(record.read_text())["measurement"] for record in records]
        assert len(measurements) == ranks
        steps = [float(step["step_ms"]) for step in self.run.rows("steps.csv") if step["launch_id"] == row["launch_id"]]
        longest = [max(of_ranks) / 1e6 for of_ranks in zip(*(m["steps_ns"] for m in measurements), strict=True)]
        assert steps == pytest.approx(longest, rel=1e-6)
        for rank, measurement in enumerate(measurements):
            theirs = stopwatch.times(self.laps / f"{name}-{strategy}-{rank}")[warmup : warmup + self.steps]
            ours = calls(measurement)
            assert (len(ours), len(theirs)) == (self.steps, self.steps)
            between = zip(itertools.pairwise(theirs), itertools.pairwise(ours), strict=True)
            assert statistics.median(abs((b - a) - (d - c)) / 1e6 for (a, b), (c, d) in between) < TOLERANCE_MS

    def check_losses(self, name: str) -> None:
        """Compare the first and the last loss with those of a plain loop."""
        row = self.row(name, "single")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # several wait for each other where other tests run
        plain = plain_loop.Plain(real_models.TABLE[name].of, self.options(name), "single", self.batch_size(name))
        losses = [loss.item() for loss in plain.train(int(row["warmup_steps_done"]) + self.steps)]
        torch.set_num_threads(threads)
        assert float(row["loss_first"]) == pytest.approx(losses[0], rel=1e-4)
        assert float(row["loss_last"]) == pytest.approx(losses[-1], rel=1e-3)
        assert losses[-1] != pytest.approx(losses[0], rel=1e-3)


def calls(measurement: dict[str, Any]) -> list[int]:
    """Return when each step called the workload, as the record of its rank has it: after data and copy."""
    steps, parts = measurement["steps_ns"], measurement["parts_ns"]
    begun = itertools.accumulate(steps[:-1], initial=0)
    return [sum(spans) for spans in zip(begun, parts["data_wait"], parts["copy"], strict=True)]


def lacks(name: str) -> list[str]:
    return real_models.missing(real_models.TABLE[name])


def pairs(names: Names) -> list[tuple[str, str]]:
    return [(name, strategy) for strategy, some in names.items() for name in some]


def skip_without_packages(name: str) -> None:
    if lacking := " ".join(lacks(name)):
        pytest.skip(f"not installed: pip install {lacking}")


def test_the_plain_loop_has_nothing_of_bench() -> None:
    program = "import sys, plain_loop; print([name for name in sys.modules if name.partition('.')[0] == 'bench'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(plain_loop.__file__).parent,
        env=environment({"PYTHONPATH": str(FOLDER.parents[1])}),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_each_model_is_measured_and_each_file_is_used() -> None:
    assert {name for names in (ALWAYS, SLOW) for name in names["single"]} == set(real_models.TABLE)
    files = {file.stem for file in FOLDER.glob("*.py")} - {"items", "find", "stopwatch", "configs"}
    assert files == {tried.of.partition(".")[0] for tried in real_models.TABLE.values() if "." in tried.of}


@pytest.fixture(scope="module")
def measured(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured(tmp_path_factory.mktemp("models"), ALWAYS, STEPS)


@pytest.mark.parametrize(("name", "strategy"), pairs(ALWAYS))
def test_step_times_are_those_of_the_models_own_stopwatch(measured: Measured, name: str, strategy: str) -> None:
    measured.check_times(name, strategy)


@pytest.mark.parametrize("name", ALWAYS["single"])
def test_losses_are_those_of_a_plain_loop(measured: Measured, name: str) -> None:
    measured.check_losses(name)


@pytest.fixture(scope="module")
def measured_slowly(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured(tmp_path_factory.mktemp("models"), SLOW, SLOW_STEPS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "strategy"), pairs(SLOW))
def test_step_times_of_slower_models_and_those_of_packages(measured_slowly: Measured, name: str, strategy: str) -> None:
    skip_without_packages(name)
    measured_slowly.check_times(name, strategy)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SLOW["single"])
def test_losses_of_slower_models_and_those_of_packages(measured_slowly: Measured, name: str) -> None:
    skip_without_packages(name)
    measured_slowly.check_losses(name)
