"""``bench run --dry-run``: what it says before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_process import bench as in_process

MINE = """
import torch


class Small:
    unit, batch_size = "samples", 6

    def build(self):
        return torch.nn.Linear(4, 1)

    def loss(self, model, batch):
        return model(batch[0]).mean()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.randn(64, 4))

    def layers(self, model):
        return []
"""


def test_eight_ranks_on_few_processors_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    done = in_process(tmp_path, "run", "--dry-run", "--device", "cpu", "--gpus", "8", "--json")
    [case] = done.told["cases"]
    assert [warning.partition(":")[0] for warning in case["warnings"]] == [
        "8 ranks x 1 OMP thread = 8 threads on 2 processors"
    ]
    shown = in_process(tmp_path, "run", "--dry-run", "--device", "cpu", "--gpus", "4,8", "--strategy", "ddp,fsdp")
    told = shown.err.splitlines()
    assert [line.partition(" x ")[0].rpartition(": ")[2] for line in told] == ["4 ranks", "8 ranks"]  # not one for all
    assert [line.startswith(f"warning: 2 cases (resnet18-ddp-x{n}-") for line, n in zip(told, (4, 8), strict=True)] == [
        True,
        True,
    ]


def test_without_a_gpu_what_works_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    done = in_process(tmp_path, "run", "--gpus", "8", "--dry-run")
    assert done.code == 2
    assert "this machine has no GPU. Add --device cpu --gpus 2" in done.err
    assert "--workload gpt-nano or resnet18:size=64" in done.err
    works = in_process(tmp_path, *("run", "--device", "cpu", "--gpus", "2", "--workload", "gpt-nano", "--dry-run"))
    assert (works.code, "warning" in works.err) == (0, False)


@pytest.mark.slow
@pytest.mark.launch
def test_a_workload_of_ones_own_is_looked_at(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    where = ("--device", "cpu", "--gpus", "1", "--strategy", "single")
    wrong = bench("run", "--dry-run", "--workload", "mine.py:Smal", *where)
    assert (wrong.code, wrong.stdout) == (2, "")
    assert "mine.py has no 'Smal'" in wrong.stderr
    assert "/bench-dry-run-" not in wrong.stderr  # a log that is gone by then
    both = json.loads(bench("run", "--dry-run", "--json", "--workload", "mine.py:Smal,mine.py:Small", *where).stdout)
    assert ["no 'Smal'" in (case["skip"] or "") for case in both["cases"]] == [True, False]
    ran = bench("run", "--workload", "mine.py:Small", "--launches", "1", "--steps", "2", *where)
    assert ran.code == 0, ran.stderr
    [row] = ran.rows()
    assert row["case_id"] == both["cases"][1]["case_id"]  # the batch size of the class is in it
    assert "-b6-" in row["case_id"]
    assert not list(tmp_path.glob("bench-dry-run-*"))
