"""Real models and kinds of training as workloads, against a stopwatch of their own and a loop without ``bench``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import plain_loop
import pytest
import real_models
from command_line import Run, run_bench

FOLDER = Path(__file__).parents[1] / "real_models"
STEPS, WARMUP = 8, 3
TOLERANCE_MS = 0.5
SLOWER = ("swin", "regnet")  # seconds for a step of these on a slow machine
ALWAYS = [name for name, tried in real_models.TABLE.items() if not tried.needs and name not in SLOWER]
WITH_PACKAGES = [name for name in real_models.TABLE if name not in ALWAYS]
ON_TWO_RANKS = {
    "ddp": ("gan", "wgan-gp", "clip", "ema-teacher", "graph"),
    "fsdp": ("tied", "diffusion", "wgan-gp"),
}


class Measured:
    """One run of several models, each launched once."""

    def __init__(self, folder: Path, names: dict[str, list[str]]) -> None:
        """Take the names of models by strategy."""
        self.folder, self.laps = folder, folder / "laps"
        self.laps.mkdir()
        real_models.write_configs(folder)
        cases = [(name, strategy) for strategy, some in names.items() for name in some]
        (folder / "suite.toml").write_text(
            f"[protocol]\nlaunches = 1\nsteps = {STEPS}\nwarmup_steps = {WARMUP}\n"
            + "".join(self._case(name, strategy) for name, strategy in cases)
        )
        self.run: Run = run_bench(folder, "run", "--suite", "suite.toml", "--quiet", more={"STOPWATCH": str(self.laps)})

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
        return tried.batch_size or plain_loop.workload_of(tried.of, **self.options(name)).batch_size

    def row(self, name: str, strategy: str) -> dict[str, str]:
        [row] = [row for row in self.run.rows() if f"label={name}-{strategy}:" in row["workload"] + ":"]
        assert (row["status"], row["reason"]) == ("ok", ""), self.run.stderr
        return row

    def check_times(self, name: str, strategy: str) -> None:
        """Compare each step with the time between two calls of the workload, on the slowest rank."""
        row = self.row(name, strategy)
        ranks, warmup = int(row["world_size"]), int(row["warmup_steps_done"])
        assert int(row["samples"]) == self.batch_size(name) * ranks * STEPS
        assert float(row["samples_per_s"]) == pytest.approx(int(row["samples"]) / float(row["window_s"]), rel=1e-6)
        ours = [float(step["step_ms"]) for step in self.run.rows("steps.csv") if step["launch_id"] == row["launch_id"]]
        theirs = []
        for rank in range(ranks):
            begun = [int(ns) for ns in (self.laps / f"{name}-{strategy}-{rank}").read_text().split()][warmup:]
            theirs.append([(after - before) / 1e6 for before, after in zip(begun, begun[1:STEPS], strict=False)])
        slowest = [max(times) for times in zip(*theirs, strict=True)]
        assert (len(ours), len(slowest)) == (STEPS, STEPS - 1)  # no call follows the last step at once
        assert statistics.median(abs(a - b) for a, b in zip(slowest, ours, strict=False)) < TOLERANCE_MS

    def check_losses(self, name: str) -> None:
        """Compare the first and the last loss with those of a plain loop."""
        row = self.row(name, "single")
        plain = plain_loop.Plain(real_models.TABLE[name].of, self.options(name), "single", self.batch_size(name))
        losses = plain.train(int(row["warmup_steps_done"]) + STEPS)
        assert float(row["loss_first"]) == pytest.approx(losses[0].item(), rel=1e-4)
        assert float(row["loss_last"]) == pytest.approx(losses[-1].item(), rel=1e-3)
        assert losses[-1].item() != pytest.approx(losses[0].item(), rel=1e-3)


@pytest.fixture(scope="module")
def measured(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    names = {"single": ALWAYS} | {strategy: list(names) for strategy, names in ON_TWO_RANKS.items()}
    return Measured(tmp_path_factory.mktemp("models"), names)


@pytest.mark.parametrize("name", ALWAYS)
def test_step_times_are_those_of_the_workloads_own_stopwatch(measured: Measured, name: str) -> None:
    measured.check_times(name, "single")


@pytest.mark.parametrize("name", ALWAYS)
def test_losses_are_those_of_a_plain_loop(measured: Measured, name: str) -> None:
    measured.check_losses(name)


@pytest.mark.parametrize(("strategy", "name"), [(s, name) for s, names in ON_TWO_RANKS.items() for name in names])
def test_step_times_on_two_ranks(measured: Measured, strategy: str, name: str) -> None:
    measured.check_times(name, strategy)
