"""The interface of a workload. A user's own class needs these members and no base class."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.utils.data import Dataset

from workloads.checks import Checked

Batch = Any  # Tensors in any nesting; see workloads.batches.


@runtime_checkable
class Workload(Protocol):
    """A model, its loss and its data.

    Optional attributes: ``data``, the kinds of ``--data`` that ``samples`` understands (default ``resident`` and
    ``synthetic``); ``tokens``, the number of tokens in a sample if ``unit`` is ``"tokens"``; ``flops_per_sample``, the
    FLOPs of training on one sample without recomputation, to replace the count; ``max_split``, the most parts of a
    layer under tensor parallel, of which the number of ranks must be a divisor; ``split_sequence`` (default True),
    False if activations between layers cannot be divided along the sequence then.

    Optional methods: ``loader(rank, world_size, batch_size)`` returns this rank's batches in place of ``samples``;
    ``optimizers(model)`` returns optimizers; ``collate_fn(items)`` makes a batch of items; ``batch_size_of(batch)``
    returns the number of samples in a batch, by default the length of its first tensor; ``tokens_of(batch)`` returns
    the tokens that count in it, as without padding; ``split(model)`` returns how tensor parallel divides each module
    with parameters, by its name (one of ``workloads.checks.SPLITS``); ``tie(model)`` shares again the parameters that
    modules share, after each was divided by itself; ``stages(model, count)`` returns the stages of a pipeline, modules
    of which each takes what the one before it returned, and ``inputs(batch)`` what ``loss`` calls the model with, a
    tuple of tensors: the first is for the first stage, the others are given to every stage after its own input.
    """

    unit: str  # "samples" or "tokens": throughput is also given in this unit.
    batch_size: int  # The default for one device.

    def build(self) -> nn.Module:
        """Return the model in float32, initialised from torch's global generator."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    def samples(self, data: str) -> Dataset[Any]:
        """Return a map-style dataset with a length, or an IterableDataset. Item i is always the same for the same i."""

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the parts to shard and to checkpoint one by one, in forward order; may be empty.

        They are modules of ``model``, each listed once, and none is inside another.
        """


class MissingWorkloadError(AttributeError):
    """There is no such file, module or name, as in a revision from before the workload."""


def load(target: str, options: Mapping[str, Any]) -> Checked:
    """Return the workload that ``target`` names: ``package.module:Name`` or ``path/to/file.py:Name``.

    The folder of a file (the current one for a module) is appended to ``sys.path``, so that the modules beside it can
    be imported and none of them shadows an installed package. The workload is checked (``workloads.checks``). Raise
    what the import raises, MissingWorkloadError if there is nothing of that name, and WorkloadError with a message for
    the user if it is not a workload.
    """
    where, _, name = target.rpartition(":")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    if not hasattr(module, name):
        raise MissingWorkloadError(f"{where} has no {name!r}")
    return Checked(target, getattr(module, name)(**options))


def _load_module(name: str) -> Any:
    _append_to_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):  # And not one that the module imports.
            raise MissingWorkloadError(f"there is no module {error.name}") from error
        raise


def _load_file(path: Path) -> Any:
    path = path.resolve()
    name = f"bench_user_{path.stem}"
    _append_to_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise MissingWorkloadError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Needed to pickle and inspect its classes.
    spec.loader.exec_module(module)
    return module


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
