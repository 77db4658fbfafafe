"""Saving and loading the state of one rank, in this process."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_plans import case
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from bench.messages.saved import Saved
from bench.messages.spec import Spec
from bench.rank.build import Training, build
from bench.rank.optimizers import state_of
from bench.rank.saving import phase, ways
from bench.rank.saving.state import TrainingState

WAYS = ("full", "dcp", "dcp-async")
PARAMETERS = 16 * 16 + 16 + 16 * 1 + 1
MINE = """
import torch
from torch import nn

class Net:
    unit, batch_size = "samples", 4

    def build(self):
        return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16, affine=False), nn.Linear(16, 1))

    def loss(self, model, batch):
        return model(batch[0]).square().mean()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.randn(16, 16))

    def layers(self, model):
        return []
"""


def trained(folder: Path, steps: int = 2, **axes: object) -> Training:
    (folder / "mine.py").write_text(MINE)
    target = f"{folder}/mine.py:Net"
    asked = case(**{"workload": target, "strategy": "single", "gpus": 1, "batch_size": 4, **axes})
    spec = Spec(asked, target, {}, "resident", 5, 5, 0.0, 60.0, str(folder), str(folder))
    training = build(spec, [torch.device("cpu")])
    for _ in range(steps):
        step(training)
    return training


def step(training: Training) -> float:
    loss = training.loss(training.to_device(next(training.batches)))
    training.backward(loss)
    training.update()
    return loss.item()


def saved(training: Training, folder: Path, beat: Callable[[], None] = lambda: None) -> Saved:
    return phase.save_and_load(training, folder / "saved", beat)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors of a file that torch.load has read."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors(one)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("axes", [{}, {"optimizer": "sgd"}, {"precision": "bf16"}], ids=["adamw", "sgd", "bf16"])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, way: str, axes: dict[str, object]) -> None:
    training, beats = trained(tmp_path, save_checkpoint=way, **axes), []
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    seen = saved(training, tmp_path, lambda: beats.append(1))
    assert (seen.note, seen.unlike, len(seen.saves)) == ("", [], phase.SAVES)
    assert seen.load_ns is not None
    assert len(beats) >= phase.SAVES + 1
    assert not (tmp_path / "saved").exists()
    after = [parameter.detach() for parameter in training.model.parameters()]
    trained_meanwhile = sum(one.steps for one in seen.saves)
    equal = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert all(equal) or trained_meanwhile > 0
    assert all(bool(one.isfinite().all()) for one in after)


def test_training_goes_on_as_if_nothing_had_been_saved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, other = trained(tmp_path / "a"), trained(tmp_path / "b", save_checkpoint="full")
    saved(other, tmp_path)
    assert [step(other) for _ in range(3)] == [step(plain) for _ in range(3)]


# AdamW keeps two moments of each parameter, and for each of the four tensors a step; SGD one momentum. Batch norm has
# two running statistics of 16 features, and a counter of 8 bytes.
@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({}, 12 * PARAMETERS + 4 * 4 + 2 * 16 * 4 + 8),
        ({"optimizer": "sgd"}, 8 * PARAMETERS + 2 * 16 * 4 + 8),
        ({"precision": "bf16"}, 6 * PARAMETERS + 4 * 4 + 2 * 16 * 2 + 8),
    ],
    ids=["adamw", "sgd", "bf16"],
)
def test_the_state_has_as_many_bytes_as_the_formula_says(
    tmp_path: Path, axes: dict[str, object], expected: int
) -> None:
    training = trained(tmp_path, **axes)
    state = TrainingState(training)
    assert state.bytes() == expected
    peers = phase.Peers(False)
    for way in ("full", "dcp"):
        folder = tmp_path / way
        folder.mkdir()
        ways.WAYS[way](state, peers).save(folder)
    of_file = torch.load(tmp_path / "full" / "all.pt", weights_only=True)
    assert sum(one.numel() * one.element_size() for one in tensors(of_file)) == expected
    known = FileSystemReader(tmp_path / "dcp").read_metadata().state_dict_metadata.values()
    sizes = [one.size.numel() * one.properties.dtype.itemsize for one in known if hasattr(one, "size")]
    assert sum(sizes) == expected


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_loads_nothing_is_noticed(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways.WAYS[way], "load", lambda self, folder: None)
    seen = saved(trained(tmp_path, save_checkpoint=way), tmp_path)
    assert seen.unlike == ["model 0.weight", "model 0.bias", "model 1.running_mean"]
    assert len(seen.saves) == phase.SAVES


def test_a_moment_that_is_not_loaded_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = ways.Full.load

    def forgetful(self: ways.Full, folder: Path) -> None:
        load(self, folder)
        self._state._optimizers[0].state[next(self._state._training.model.parameters())]["exp_avg"].zero_()

    monkeypatch.setattr(ways.Full, "load", forgetful)
    seen = saved(trained(tmp_path, save_checkpoint="full"), tmp_path)
    assert seen.unlike == ["optimizer 0: exp_avg of parameter 0"]


@pytest.mark.parametrize("way", WAYS)
def test_the_order_in_which_parameters_were_first_updated_is_none_of_the_state(tmp_path: Path, way: str) -> None:
    training = trained(tmp_path, save_checkpoint=way)
    optimizer = training.optimizers.optimizers[0]
    parameters = optimizer.param_groups[0]["params"]
    optimizer.state[parameters[0]] = optimizer.state.pop(parameters[0])  # as if the others had been updated before it
    assert list(optimizer.state)[-1] is parameters[0]
    kept = [id(one) for one in state_of(optimizer)]
    assert kept == [id(optimizer.state[parameter]) for parameter in parameters]
    assert saved(training, tmp_path).unlike == []


@pytest.mark.parametrize("way", WAYS)
def test_what_is_loaded_was_read_when_the_time_was_taken(tmp_path: Path, way: str) -> None:
    """Tensors that are mapped are read where they are first used."""
    training = trained(tmp_path, save_checkpoint=way)
    assert saved(training, tmp_path).unlike == []
    assert str(tmp_path / "saved") not in Path("/proc/self/maps").read_text()


def test_steps_alone_are_timed_where_steps_beside_a_save_are(tmp_path: Path) -> None:
    for way in WAYS:
        folder = tmp_path / way
        folder.mkdir()
        seen = saved(trained(folder, save_checkpoint=way), folder)
        assert (seen.alone_ns is not None) == (way == "dcp-async")
        assert seen.alone_ns is None or seen.alone_ns > 0


def test_each_save_is_kept_before_the_next(tmp_path: Path) -> None:
    kept: list[Saved] = []
    phase.save_and_load(trained(tmp_path, save_checkpoint="dcp"), tmp_path / "saved", keep=kept.append)
    assert [len(one.saves) for one in kept] == [1, 2, 3]
    assert {one.note for one in kept} == {phase.CUT}


def test_a_state_that_does_not_fit_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 4_500_000_000))
    monkeypatch.setattr(TrainingState, "bytes", lambda self: 4_500_100_000)
    seen = saved(trained(tmp_path, save_checkpoint="full"), tmp_path)
    assert seen == Saved(note=f"the state has 4,500.1 MB, and {tmp_path} has 4,500.0 MB free")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "saved").write_text("")
    seen = saved(trained(tmp_path, save_checkpoint="dcp"), tmp_path)
    assert seen == Saved(note=f"cannot save in {tmp_path}/saved: File exists")


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_is_full(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    seen = saved(trained(tmp_path, save_checkpoint=way), tmp_path)
    assert (seen.saves, seen.note) == ([], "saving failed: OSError: [Errno 28] No space left on device")


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_broken(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> list[Path]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        for file in files:
            file.write_bytes(b"")
        return files

    monkeypatch.setattr(phase, "_files", broken)
    seen = saved(trained(tmp_path, save_checkpoint=way), tmp_path)
    assert seen.note.startswith("loading failed: ")
    assert (len(seen.saves), seen.load_ns, seen.unlike) == (phase.SAVES, None, [])


def test_no_further_save_begins_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "SECONDS", 0.0)
    seen = saved(trained(tmp_path, save_checkpoint="full"), tmp_path)
    assert (len(seen.saves), seen.unlike, seen.note) == (1, [], "")
