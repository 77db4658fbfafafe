"""Checks that a workload keeps the promises of ``workloads.base.Workload``, with a message for each violation."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, IterableDataset

from workloads.batches import collate, first_length, tensors_of
from workloads.data.paths import KINDS

DATA_KINDS = ("resident", "synthetic", *KINDS)
UNITS = ("samples", "tokens")
MOST_SAMPLES, MOST_TOKENS = 2**30, 2**40  # Limits of a batch and of a sample; the product fits into 64 bits.
MOST_FLOPS = 1e30
METHODS = ("build", "loss", "samples", "layers")
OF_BATCHES = ("collate_fn", "batch_size_of", "tokens_of", "loader")
OPTIONAL = (*OF_BATCHES, "optimizers", "step", "activation_checkpoint")
# What a module may be under tensor parallel, by split_sequence.
SPLITS = {
    True: ("column", "row", "embedding", "positions", "norm", "head"),
    False: ("column", "row", "embedding", "head", "whole"),
}
OPTIMIZERS = "write optimizers(model), or choose one with --optimizer"
SCHEDULERS = "optimizers(model) may return schedulers, or choose one with --lr-scheduler"
STEPS = "a step is loss(model, batch), its backward pass and the optimizer, or step(model, batch, ctx)"
COLLATING = "a method that puts items together is named collate_fn"
SAMPLING = "--batch-size and --seed say which samples a batch has"
LOADING = "return a dataset from samples(), or write loader(rank, world_size, batch_size)"
# Members for training or loading that are never called: name -> what is used instead.
NOT_CALLED = {
    **{"optimizer": OPTIMIZERS, "configure_optimizers": OPTIMIZERS},
    **{"make_optimizer": OPTIMIZERS, "build_optimizer": OPTIMIZERS, "create_optimizer": OPTIMIZERS},
    **{"get_optimizer": OPTIMIZERS, "optimizer_step": OPTIMIZERS},
    **{"scheduler": SCHEDULERS, "lr_scheduler": SCHEDULERS, "make_scheduler": SCHEDULERS},
    **{"build_scheduler": SCHEDULERS, "create_scheduler": SCHEDULERS, "get_scheduler": SCHEDULERS},
    **{"train_step": STEPS, "training_step": STEPS, "forward_backward": STEPS, "backward": STEPS},
    **{"collate": COLLATING, "sampler": SAMPLING, "batch_sampler": SAMPLING},
    **{"data_loader": LOADING, "dataloader": LOADING},
    **{"train_loader": LOADING, "train_dataloader": LOADING},
}


class WorkloadError(TypeError):
    """A workload is invalid. The message says what was given and what is allowed."""


def check_members(target: str, workload: Any) -> None:
    """Raise WorkloadError unless the workload has all members, and its attributes have allowed values."""
    instead = {"samples": "loader", "loss": "step"}
    methods = [method for method in METHODS if not _has(workload, instead.get(method, ""))]
    missing = [member for member in ("unit", "batch_size", *methods) if not hasattr(workload, member)]
    if missing:
        raise WorkloadError(f"{target} is not a workload: it lacks {', '.join(missing)}")
    for method in methods:
        if not callable(given := getattr(workload, method)):
            raise _refused(f"{target}: {method}", given, "a method")
    for method in OPTIONAL:
        given = getattr(workload, method, None)
        if not callable(given) and not isinstance(given, (int, float, str, type(None))):
            raise _refused(f"{target}: {method}", given, "a method")
    if workload.unit not in UNITS:
        raise _refused(f"{target}: unit", workload.unit, "'samples', 'tokens'")
    _check_whole(f"{target}: batch_size", workload.batch_size, MOST_SAMPLES)
    if workload.unit == "tokens" and not _has(workload, "tokens_of"):
        if not hasattr(workload, "tokens"):
            needs = "'tokens', the tokens in a sample, or tokens_of(batch)"
            raise WorkloadError(f"{target}: a workload in tokens needs {needs}")
        _check_whole(f"{target}: tokens", workload.tokens, MOST_TOKENS)
    _check_flops(f"{target}: flops_per_sample", getattr(workload, "flops_per_sample", None))
    _check_split(target, workload)
    _check_kinds(f"{target}: data", getattr(workload, "data", DATA_KINDS))
    _check_unused(target, workload)


def _check_split(target: str, workload: Any) -> None:
    if _splits(workload):
        _check_whole(f"{target}: max_split", workload.max_split, MOST_SAMPLES)
        if not isinstance(given := getattr(workload, "split_sequence", True), bool):
            raise _refused(f"{target}: split_sequence", given, "True, False")


def _check_unused(target: str, workload: Any) -> None:
    """Refuse a method, an optimizer or a scheduler that seems to be used but is not.

    Values of other types (``self.step = 0``) are allowed.
    """
    for name, instead in NOT_CALLED.items():
        member = getattr(workload, name, None)
        if callable(member) or isinstance(member, (Optimizer, LRScheduler)):
            kind = "a method" if callable(member) else "an attribute"
            raise WorkloadError(f"{target} has {kind} {name}, which bench does not use: {instead}; remove or rename it")


def _check_layers(target: str, layers: Sequence[nn.Module], model: nn.Module) -> None:
    """Refuse layers that are not modules of the model, listed twice, or inside one another.

    They would be left out of sharding and checkpointing, or sharded and checkpointed twice.
    """
    names = {id(part): name or "the whole model" for name, part in model.named_modules()}
    place: dict[int, int] = {}
    for number, layer in enumerate(layers):
        if id(layer) not in names:
            raise WorkloadError(
                f"{target}: layers() names a {type(layer).__name__} (item {number}) that is not a module of the "
                "model it was given; return modules of that model, as list(model.blocks) does"
            )
        if id(layer) in place:
            twice = f"{names[id(layer)]} twice (items {place[id(layer)]} and {number})"
            raise WorkloadError(f"{target}: layers() names {twice}; name it once")
        place[id(layer)] = number
    for layer in layers:
        for part in layer.modules():
            if part is not layer and id(part) in place:
                raise WorkloadError(
                    f"{target}: layers() names {names[id(part)]}, which is inside {names[id(layer)]}, which is "
                    "named as well; name one of the two"
                )


def _check_whole(name: str, given: object, most: int) -> None:
    if type(given) is not int or not 1 <= given <= most:
        raise _refused(name, given, f"a whole number from 1 to {most}")


def _check_flops(name: str, given: object) -> None:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if given is not None and not (number and 0 < given <= MOST_FLOPS):  # type: ignore[operator]
        raise _refused(name, given, f"a number above 0, the FLOPs of training on one sample, at most {MOST_FLOPS:g}")


def _check_kinds(name: str, given: object) -> None:
    known = isinstance(given, (tuple, list)) and given and all(kind in DATA_KINDS for kind in given)
    if not known:
        raise _refused(name, given, f"a tuple of at least one of {', '.join(map(repr, DATA_KINDS))}")


class Checked:
    """A workload whose methods return valid values or raise WorkloadError. Everything else is the workload's own."""

    def __init__(self, target: str, workload: Any) -> None:
        check_members(target, workload)
        self._target, self._workload = target, workload

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_workload"], name)

    @property
    def has_step(self) -> bool:
        """Whether the workload has a step of its own."""
        return _has(self._workload, "step")

    def step(self, model: Any, batch: Any, ctx: Any) -> Tensor:
        """Train a step or a micro-batch of it, and return a loss to record."""
        loss = self._workload.step(model, batch, ctx)
        if not isinstance(loss, Tensor) or loss.dim():
            raise _refused(f"{self._target}: step() returned", loss, "a loss to record, a tensor without dimensions")
        return loss

    def build(self) -> Any:
        """Return the model; with a step of its own possibly several by name."""
        model = self._workload.build()
        several = isinstance(model, dict) and all(isinstance(one, nn.Module) for one in model.values())
        if not isinstance(model, nn.Module) and not (model and several and self.has_step):
            allowed = "a torch.nn.Module" + (", or a dictionary of them" if self.has_step else "")
            raise _refused(f"{self._target}: build() returned", model, allowed)
        return model

    def layers(self, model: Any) -> Sequence[nn.Module]:
        """Return the layers of the model, or of all models."""
        given = self._workload.layers(model)
        layers = list(given) if hasattr(given, "__iter__") else [given]
        for layer in layers:
            if not isinstance(layer, nn.Module) or layer is given:
                raise _refused(f"{self._target}: layers() returned", given, "a list of modules of the model")
        _check_layers(self._target, layers, nn.ModuleDict(model) if isinstance(model, dict) else model)
        return layers

    @property
    def has_checkpointing(self) -> bool:
        """Whether the workload says itself how activations are recomputed."""
        return _has(self._workload, "activation_checkpoint")

    def activation_checkpoint(self, model: Any) -> None:
        """Make the model, or all models, recompute activations."""
        given = self._workload.activation_checkpoint(model)
        if given is not None and given is not model:
            allowed = "None, as the model that it is given is to recompute its activations"
            raise _refused(f"{self._target}: activation_checkpoint() returned", given, allowed)

    @property
    def has_split(self) -> bool:
        """Whether the workload says how tensor parallel divides the modules of its model."""
        return _splits(self._workload)

    @property
    def split_sequence(self) -> bool:
        """Whether tensor parallel divides activations between layers along the sequence."""
        return bool(getattr(self._workload, "split_sequence", True))

    def split(self, model: nn.Module) -> dict[str, str]:
        """Return which of SPLITS each module is, by its name; every module with parameters of its own has one."""
        given, kinds = self._workload.split(model), SPLITS[self.split_sequence]
        name = f"{self._target}: split() returned"
        if not isinstance(given, dict):
            raise _refused(name, given, "a dictionary from names of modules to kinds")
        known = dict(model.named_modules())
        for part, kind in given.items():
            if part not in known:
                allowed = "names of its modules, such as 'blocks.0.up'"
                raise WorkloadError(f"{name} {part!r}, which is no module of the model; allowed: {allowed}")
            if kind not in kinds:
                raise _refused(f"{self._target}: split() of {part!r} is", kind, ", ".join(map(repr, kinds)))
        own = [part for part, module in known.items() if next(module.parameters(recurse=False), None) is not None]
        if left := [part for part in own if part not in given]:
            allowed = ", ".join(map(repr, kinds))
            raise WorkloadError(f"{name} nothing for {left[0]!r}, which has parameters; allowed: {allowed}")
        return given

    def tie(self, model: nn.Module) -> None:
        """Share again the parameters that modules share, after each was divided by itself."""
        if _has(self._workload, "tie"):
            self._workload.tie(model)

    @property
    def has_stages(self) -> bool:
        """Whether the workload says how pipeline parallel divides its model."""
        return _has(self._workload, "stages") and _has(self._workload, "inputs")

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as ``count`` modules, of which each takes what the one before it returned."""
        given = self._workload.stages(model, count)
        name = f"{self._target}: stages() returned"
        if not isinstance(given, (list, tuple)) or not all(isinstance(stage, nn.Module) for stage in given):
            raise _refused(name, given, "a list of modules")
        if len(given) != count:
            raise WorkloadError(f"{name} {len(given)} modules; allowed: {count}, one for each stage")
        whole = {id(parameter): parameter_name for parameter_name, parameter in model.named_parameters()}
        for stage in given:
            for parameter_name, parameter in stage.named_parameters():
                if id(parameter) not in whole:
                    allowed = "the parameters of the model itself, as workloads.stages.stages_of keeps them"
                    raise WorkloadError(f"{name} a stage with a parameter {parameter_name!r} of its own; {allowed}")
        kept = {id(parameter) for stage in given for parameter in stage.parameters()}
        if left := [parameter_name for key, parameter_name in whole.items() if key not in kept]:
            raise WorkloadError(f"{name} no stage with {left[0]!r}; allowed: stages that have all parameters together")
        return list(given)

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with: a tensor for the first stage, and tensors that each stage gets."""
        given = self._workload.inputs(batch)
        if not isinstance(given, tuple) or not given or not all(isinstance(one, Tensor) for one in given):
            raise _refused(f"{self._target}: inputs() returned", given, "a tuple of tensors, at least of one")
        return given

    def samples(self, data: str) -> Dataset[Any]:
        """Return the dataset."""
        dataset: Any = self._workload.samples(data)
        name = f"{self._target}: samples({data!r})"
        if isinstance(dataset, IterableDataset):
            return dataset
        methods = all(hasattr(dataset, method) for method in ("__len__", "__getitem__"))
        if not methods or isinstance(dataset, (str, bytes, dict, Tensor)):
            allowed = "a map-style dataset (__len__, and __getitem__ by index) or an IterableDataset"
            raise _refused(f"{name} returned", dataset, allowed)
        if len(dataset) < 1:
            raise WorkloadError(f"{name} has no samples; allowed: a dataset with a length from 1")
        return dataset  # type: ignore[no-any-return]

    @property
    def has_loader(self) -> bool:
        """Whether the workload makes its batches itself."""
        return _has(self._workload, "loader")

    def loader(self, rank: int, world_size: int, batch_size: int | None) -> Iterable[Any]:
        """Return this rank's batches of about ``batch_size`` samples, which may be iterated again and again."""
        given: Any = self._workload.loader(rank, world_size, batch_size)
        if (
            not hasattr(given, "__iter__")
            or hasattr(given, "__next__")
            or isinstance(given, (str, bytes, dict, Tensor))
        ):
            allowed = "a DataLoader, or another iterable that begins anew each time"
            raise _refused(f"{self._target}: loader() returned", given, allowed)
        return given  # type: ignore[no-any-return]

    def collate_fn(self, items: Sequence[Any]) -> Any:
        """Return the items as a batch."""
        own = _has(self._workload, "collate_fn")
        batch = self._workload.collate_fn(items) if own else collate(items)
        if not any(True for _ in tensors_of(batch)):
            name = f"{self._target}: {'collate_fn() returned' if own else 'the items of samples() are'}"
            raise _refused(name, batch, "a batch with at least one tensor, in any nesting")
        return batch

    def batch_size_of(self, batch: Any) -> int:
        """Return the number of samples in a batch."""
        own = _has(self._workload, "batch_size_of")
        size = self._workload.batch_size_of(batch) if own else first_length(batch)
        if type(size) is not int or size < 1:
            name = f"{self._target}: batch_size_of() returned" if own else f"{self._target}: the length of the batch is"
            raise _refused(name, size, "a whole number from 1; write batch_size_of(batch)")
        return size

    def tokens_of(self, batch: Any) -> int:
        """Return the number of tokens that count in a batch."""
        tokens = self._workload.tokens_of(batch)
        if isinstance(tokens, Tensor) and tokens.numel() == 1:
            tokens = tokens.item()
        if type(tokens) is not int or tokens < 0:
            raise _refused(f"{self._target}: tokens_of() returned", tokens, "a whole number from 0")
        return tokens

    @property
    def has_optimizers(self) -> bool:
        """Whether the workload decides on its optimizers."""
        return _has(self._workload, "optimizers")

    def optimizers(self, model: nn.Module) -> list[tuple[Any, Any]]:
        """Return the workload's optimizers, each with its scheduler or None."""
        given = self._workload.optimizers(model)
        several = isinstance(given, (list, tuple)) and not _is_pair(given)
        pairs = [one if _is_pair(one) else (one, None) for one in (given if several else [given])]
        for optimizer, scheduler in pairs:
            members = ("param_groups", "step", "zero_grad")
            if not all(hasattr(optimizer, name) for name in members) or not hasattr(scheduler or optimizer, "step"):
                allowed = "an optimizer, a pair (optimizer, scheduler), or a list of these"
                raise _refused(f"{self._target}: optimizers() returned", given, allowed)
            for one in () if self.has_step else filter(None, (optimizer, scheduler)):
                if argument := _needed(one.step):
                    raise WorkloadError(
                        f"{self._target}: optimizers() returned {type(one).__name__}, whose step() needs {argument!r}; "
                        "allowed: those whose step() needs nothing, or write step(model, batch, ctx)"
                    )
        if not pairs:
            raise WorkloadError(f"{self._target}: optimizers() returned an empty list; allowed: one optimizer or more")
        return pairs

    @property
    def counts_tokens(self) -> bool:
        """Whether the workload says how many tokens each batch has."""
        return _has(self._workload, "tokens_of")

    @property
    def has_own_batches(self) -> bool:
        """Whether the workload says itself how items become a batch, or what a batch has."""
        return any(_has(self._workload, method) for method in OF_BATCHES)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        loss = self._workload.loss(model, batch)
        if not isinstance(loss, Tensor):
            raise _refused(f"{self._target}: loss() returned", loss, "a tensor without dimensions")
        if loss.dim() or not loss.is_floating_point():
            kind = f"{str(loss.dtype).removeprefix('torch.')} tensor of shape {tuple(loss.shape)}"
            allowed = "a tensor of floating point without dimensions, as .mean() gives"
            raise WorkloadError(f"{self._target}: loss() returned a {kind}; allowed: {allowed}")
        return loss


def _has(workload: Any, method: str) -> bool:
    """Return whether a workload has an optional method; a plain value of that name is something else of its own."""
    return callable(getattr(workload, method, None))


def _splits(workload: Any) -> bool:
    """Return whether a workload says how its layers are divided; a ``split`` alone may be of its data."""
    return _has(workload, "split") and hasattr(workload, "max_split")


def _needed(method: Any) -> str:
    """Return the name of the first argument that a method must be given; empty if there is none, or if unknown."""
    try:
        arguments = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return ""
    of_values = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = (one.name for one in arguments if one.default is one.empty and one.kind in of_values)
    return next((name for name in needed if name != "self"), "")  # a scheduler wraps its optimizer's step


def _is_pair(given: object) -> bool:
    """Return whether this is an optimizer with its scheduler, and not two optimizers."""
    return isinstance(given, tuple) and len(given) == 2 and not hasattr(given[1], "zero_grad")


def collated(workload: Any, dataset: Dataset[Any], size: int) -> Any:
    """Return the first ``size`` samples as one batch, repeated if there are fewer.

    Raise WorkloadError if it has no tensor.
    """
    if isinstance(dataset, IterableDataset):
        items = list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(dataset)), size))
        return workload.collate_fn(items)
    length = len(dataset)  # type: ignore[arg-type]
    return workload.collate_fn([dataset[index % length] for index in range(size)])


def _refused(name: str, given: object, allowed: str) -> WorkloadError:
    """Return an error about the value of ``name``, which is shown only if it is plain and short."""
    verb = "" if name.endswith((" returned", " is", " are")) else " is"
    return WorkloadError(f"{name}{verb} {_words(given)}; allowed: {allowed}")


def _words(given: object) -> str:
    parts = given if isinstance(given, (tuple, list)) else [given]
    if all(one is None or isinstance(one, (str, int, float)) for one in parts):
        with contextlib.suppress(ValueError):  # Python does not write numbers of thousands of digits
            if len(text := repr(given)) <= 80:
                return text
    return f"a value of type {type(given).__name__}"
