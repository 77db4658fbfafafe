"""The plugin of pytest, in test suites of a user."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment

FILES = {
    "mine.py": """
import torch
from flags import LOGS
from torch import nn


class Net:
    unit, batch_size = "samples", 4

    def build(self):
        return nn.Linear(8, 8)

    def loss(self, model, batch):
        loss = model(batch).square().mean()
        if LOGS:
            self.last = loss.item()
        return loss

    def samples(self, data):
        return [torch.full((8,), float(number)) for number in range(16)]

    def layers(self, model):
        return []
""",
    "flags.py": "LOGS = False\n",
    "pytest.ini": "[pytest]\n",
    "tests/test_mine.py": """
def test_step_is_as_cheap_as_it_was(bench_lock):
    bench_lock("mine.py:Net", strategy="ddp", gpus=2)


def test_nothing():
    import sys

    assert not {"torch", "pandas"} & set(sys.modules)
""",
}


def run(folder: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    # pytest-benchmark measures nothing in a worker of pytest-xdist, which this process may be.
    variables = {name: value for name, value in environment().items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=250)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.launch
def test_a_step_that_does_more_fails_a_test_of_the_user(launching: None, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    code, told = run(tmp_path)
    assert (code, "there is no lock bench.lock" in told, "1 failed, 1 passed" in told) == (1, True, True), told
    code, told = run(tmp_path, "--bench-lock-update")
    assert code == 0, told
    assert "2 passed" in told
    assert "mine-py-net-ddp-x2-cpu" in (tmp_path / "bench.lock").read_text()
    (tmp_path / "flags.py").write_text("LOGS = True\n")
    code, told = run(tmp_path, "tests/test_mine.py")
    assert code == 1
    assert re.search(r"the step is not what bench.lock says\nmore +mine-py-net-ddp-x2-cpu\S+\n", told), told
    assert "+1 wait for item in forward" in told
    assert "if this is meant: pytest --bench-lock-update" in told


def test_the_plugin_imports_neither_torch_nor_pandas() -> None:
    code = "import bench.pytest_plugin, sys; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


SPEED = """
import pytest


@pytest.mark.benchmark(group="nets")
def test_speed(bench_case):
    run = bench_case("mine.py:Net", strategy="ddp", gpus=2, launches=2, steps=5, count_work=False)
    print("ROWS", *(row.samples_per_s for row in run.rows))


def test_other(bench_case):
    bench_case("mine.py:Gone")


def test_several(bench_case):
    bench_case("mine.py:Net", gpus=[1, 2], launches=1, steps=5)
"""


@pytest.mark.slow
@pytest.mark.launch
def test_launches_are_rounds_of_pytest_benchmark(launching: None, tmp_path: Path) -> None:
    for name in ("mine.py", "flags.py", "pytest.ini"):
        (tmp_path / name).write_text(FILES[name])
    (tmp_path / "test_speed.py").write_text(SPEED)
    code, told = run(tmp_path, "-s", "--benchmark-json", "speed.json", "--benchmark-only")
    assert (code, "2 failed, 1 passed" in told) == (1, True), told
    assert "bench_case measures one case a test" in told
    assert re.search(r"^--workload mine.py:Gone: ", told, re.MULTILINE)
    assert "Traceback" not in told
    [one] = json.loads((tmp_path / "speed.json").read_text())["benchmarks"]
    assert (one["name"], one["group"], one["stats"]["rounds"]) == ("test_speed", "nets", 2)
    rates = [float(word) for word in re.search(r"ROWS (\S+) (\S+)", told).groups()]  # type: ignore[union-attr]
    assert sorted(one["stats"]["data"]) == pytest.approx(sorted(8 / rate for rate in rates))
    assert one["extra_info"]["world_size"] == 2
    code, told = run(tmp_path, "--benchmark-disable", "test_speed.py::test_speed", "-s")
    assert code == 0, told
    assert len(re.search(r"ROWS (.*)", told)[1].split()) == 1  # type: ignore[index]
