"""A script's surroundings: names, arguments and variables."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import bench.plan.case
from bench.messages.spec import Script
from bench.rank.script.names import OwnNames, TorchImport, alias, run


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    before = dict(sys.modules)
    yield
    sys.modules.clear()
    sys.modules.update(before)


@pytest.mark.usefixtures("restored")
def test_our_names_mean_the_scripts_modules_and_then_ours_again() -> None:
    ours, theirs = sys.modules["bench"], ModuleType("bench")
    names = OwnNames()
    names.hide()
    assert not {name.partition(".")[0] for name in sys.modules} & {"bench", "launch", "workloads"}
    sys.modules["bench"] = theirs
    names.show()
    assert sys.modules["bench"] is ours
    assert sys.modules["bench.plan.case"] is bench.plan.case
    names.hide()
    assert sys.modules["bench"] is theirs
    assert "bench.plan.case" not in sys.modules
    names.show()
    names.show()
    assert sys.modules["bench"] is ours


def script(folder: Path, text: str, *arguments: str) -> Script:
    (folder / "train.py").write_text(text)
    return Script(str(folder / "train.py"), False, list(arguments), str(folder), str(folder), 1.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('what went wrong')", 1),
        ("assert __name__ == '__main__' and __file__.endswith('train.py')", 0),
        ("import argparse; argparse.ArgumentParser().parse_args(['--no'])", 2),
    ],
)
@pytest.mark.usefixtures("restored")
def test_the_exit_code_of_a_script(tmp_path: Path, text: str, code: int) -> None:
    assert run(script(tmp_path, text)) == code


@pytest.mark.usefixtures("restored")
def test_variables_that_torch_has_read_already_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    text = """
import os
os.environ["OMP_NUM_THREADS"] = "2"
os.environ["MKL_NUM_THREADS"] = "3"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["NCCL_DEBUG"] = "INFO"
import json, torch.nn
os.environ["OMP_NUM_THREADS"] = "4"
import torch
"""
    imports = TorchImport(lambda: pytest.fail("torch was there"))
    with imports.watched():
        run(script(tmp_path, text))
    assert imports.ignored == ["OMP_NUM_THREADS=2"]
    assert os.environ["OMP_NUM_THREADS"] == "4"


@pytest.mark.usefixtures("restored")
def test_a_script_that_is_the_first_to_import_torch_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    noticed: list[bool] = []
    del sys.modules["torch"]
    imports = TorchImport(lambda: noticed.append(True))
    sys.modules["torch"] = torch
    with imports.watched():
        run(script(tmp_path, "import os; os.environ['OMP_NUM_THREADS'] = '2'\nimport torch\nimport torch"))
    assert (noticed, imports.ignored) == ([True], [])


@pytest.mark.usefixtures("restored")
def test_the_marker_does_nothing_outside_of_a_measurement() -> None:
    assert alias().step() is None
    assert alias().step(samples=8) is None
    assert alias() is alias()
