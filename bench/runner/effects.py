"""Which options of a case took effect, according to its ranks: in words, and whether the row remains valid.

Each function checks one thing and says how it knows. An option without effect is a fault, which makes the row
``invalid``. If something else than asked for happened but the figures hold, it is a mark. Pure functions of the ranks'
records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.messages.rank_record import Measurement, Observed, RankRecord, State
from bench.plan.case import Case
from bench.plan.options import FLOAT8
from bench.plan.strategies import REPLICATED
from bench.store.columns import Row

COMPUTED_IN = {
    **{"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"},
    **{"amp-bf16": "bfloat16", "amp-fp16": "float16"},
    **dict.fromkeys(FLOAT8, "float8_e4m3fn"),
}
MIXED = ("amp-bf16", "amp-fp16", *FLOAT8)
REDUCED_IN = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
OF_PRECISION = ("float32_matmul_precision", "allow_tf32", "fp32_precision")
OF_ATTENTION = "_sdp_enabled"
NAMED = 3  # number of ranks or parameters that a message names
BYPASSES_DDP = (
    "the loss bypasses DistributedDataParallel's forward pass, as model.module(x) or a part of the model does, and "
    "gradients are not averaged over ranks; call model(...) itself in loss()"
)


class Found(NamedTuple):
    """The result of one check; empty texts where there is nothing to say."""

    said: str = ""
    fault: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Seen:
    """The records of a launch's ranks. ``observed`` is from the first rank that took one more step, or None."""

    measurements: Sequence[Measurement]
    states: Mapping[int, State]
    observed: Observed | None

    @property
    def state(self) -> State:
        """The state of the first rank."""
        return next(iter(self.states.values()))

    def numbers(self, kind: str, phase: str = "backward") -> int:
        """Return how many numbers of gradients were exchanged."""
        return sum(numbers for _, numbers in self._exchanged(kind, phase).values())

    def calls(self, kind: str, phase: str) -> int:
        """Return how often a collective was called."""
        found = self.observed.collectives if self.observed else {}
        return sum(calls for name, (calls, _) in found.items() if name.startswith(f"{phase} {kind} "))

    def types(self, kind: str) -> list[str]:
        """Return the types in which the backward pass exchanged gradients."""
        return sorted(self._exchanged(kind, "backward"))

    def _exchanged(self, kind: str, phase: str) -> dict[str, list[int]]:
        """Return [calls, numbers] by type.

        Integers are left out: with ddp:find-unused=on they are a map of the used parameters.
        """
        found = self.observed.collectives if self.observed else {}
        begin = f"{phase} {kind} "
        by_type = {name.removeprefix(begin): counts for name, counts in found.items() if name.startswith(begin)}
        return {type_: counts for type_, counts in by_type.items() if not type_.startswith(("int", "uint", "bool"))}


def effects(case: Case, records: Mapping[int, RankRecord]) -> tuple[Row, list[str]]:
    """Return the columns of a launch that say what took effect, and its faults, in words."""
    seen = _seen(records)
    if seen is None:
        return {}, []
    found = [check(case, seen) for check in (CHECKS_OF_SCRIPTS if case.is_script else CHECKS)]
    return {
        "num_threads": min(state.num_threads for state in seen.states.values()),
        "took_effect": "; ".join(one.said for one in found if one.said) or None,
        "not_as_asked": "; ".join(one.mark for one in found if one.mark) or None,
        "attention_kernels": attention_kernels(seen.observed.attention) or None if seen.observed else None,
    }, [one.fault for one in found if one.fault]


def _seen(records: Mapping[int, RankRecord]) -> Seen | None:
    ranks = sorted(records.items())
    states = {rank: record.state for rank, record in ranks if record.state}
    if not states:
        return None
    observed = next((record.observed for _, record in ranks if record.observed), None)
    return Seen([record.measurement for _, record in ranks if record.measurement], states, observed)


def _threads(case: Case, seen: Seen) -> Found:
    by_number: dict[int, list[int]] = defaultdict(list)
    for rank, state in seen.states.items():
        by_number[state.num_threads].append(rank)
    others = {number: by_number[number] for number in sorted(by_number) if number != case.omp_num_threads}
    each = " and ".join(
        str(number) if len(ranks) == len(seen.states) else f"{number} in {_ranks(ranks)}"
        for number, ranks in others.items()
    )
    marks = [f"OpenMP threads: {each}, not {case.omp_num_threads} as asked"] if others else []
    if any(state.dynamic_threads for state in seen.states.values()):
        marks.append("OMP_DYNAMIC lets OpenMP run fewer threads")
    return Found(mark="; ".join(marks))


def _settings(case: Case, seen: Seen) -> Found:
    """Check that the workload has not changed the settings that were pinned before it was imported."""
    changed = {name: values for state in seen.states.values() for name, values in state.settings.items()}
    words = {name: f"{name} is {found} and not {pinned}" for name, (pinned, found) in changed.items()}
    pinned_by = {"deterministic_algorithms": "--deterministic"} if case.deterministic else {}
    if case.attention not in (None, "auto"):
        pinned_by |= {name: f"--attention {case.attention}" for name in words if name.endswith(OF_ATTENTION)}
    if case.precision in ("fp32", "tf32"):  # with other precisions they matter little
        pinned_by |= {name: f"--precision {case.precision}" for name in words if name.endswith(OF_PRECISION)}
    spoilt = [name for name in words if name in pinned_by]
    others = [words[name] for name in words if name not in pinned_by]
    options = " and ".join(dict.fromkeys(pinned_by[name] for name in spoilt))
    what = _listed([words[name] for name in spoilt])
    return Found(
        fault=f"the workload changed what {options} pins: {what}; leave that to the options" if spoilt else "",
        mark=f"the workload changed PyTorch's settings: {_listed(others)}" if others else "",
    )


def _batch(case: Case, seen: Seen) -> Found:
    ways = {state.batch for state in seen.states.values()}
    if "changed" in ways:
        return Found(
            fault="the model changes its batch in place, so that its steps trained on different data; "
            "clone it in loss()"
        )
    if "copied in the window" in ways:
        return Found(
            fault="the model began to change its batch in place inside the window, so that steps differ; "
            "clone it in loss()"
        )
    return Found(mark="the model changes its batch in place: each step gets a copy" if "copied" in ways else "")


def _trained(case: Case, seen: Seen) -> Found:
    if seen.observed is None or seen.observed.gradients != 0:
        return Found()
    return Found(
        fault="no parameter had a gradient after the backward pass: loss() does not train the model that it is given"
    )


def _ddp(case: Case, seen: Seen) -> Found:
    if case.spread.name not in REPLICATED:
        return Found()
    if case.pipeline_ranks > 1:  # all forward passes are in no_sync(), and the last backward pass exchanges
        return _reduced(case, seen, "all-reduce", "gradients exchanged", case.spread.options["hook"])
    forwards = [state.forwards for state in seen.states.values() if state.forwards is not None]
    steps = len(seen.measurements[0].losses)
    if not forwards:  # several models, of which not each may be used in each step
        return _reduced(case, seen, "all-reduce", "gradients exchanged", case.spread.options["hook"])
    said, least = f"gradients exchanged after {min(forwards)} forward passes in {steps} steps", min(forwards)
    if least < steps:
        return Found(said, f"DDP had no effect in {steps - least} of {steps} steps: {BYPASSES_DDP}")
    return _reduced(case, seen, "all-reduce", said, case.spread.options["hook"])


def _zero1(case: Case, seen: Seen) -> Found:
    """Check that ranks broadcast what they have updated; padding of the buffers is broadcast as well."""
    if case.spread.name != "zero1" or seen.observed is None or not seen.observed.gradients or case.world_size == 1:
        return Found()
    numbers = seen.numbers("broadcast", "optimizer")
    if numbers < seen.observed.gradients:
        return Found(fault=f"zero1 had no effect: ranks broadcast {numbers:,} updated numbers")
    return Found(f"{numbers:,} updated numbers broadcast")


def _fsdp(case: Case, seen: Seen) -> Found:
    if case.spread.name != "fsdp" or seen.observed is None:
        return Found()
    if case.world_size == 1:
        return Found("one rank: nothing to shard")
    gathers = [seen.calls("all-gather", phase) for phase in ("forward", "backward")]
    gathers[0] += seen.calls("all-gather", "between")  # before a forward pass of a pipeline
    replicas = int(case.spread.options["replicate"])
    said = f"gathered {gathers[0]} times forward and {gathers[1]} times backward"
    found = _reduced(case, seen, "all-reduce", said, "none") if replicas > 1 else Found(said)
    if found.fault or replicas == case.data_ranks:
        return found
    return _reduced(case, seen, "reduce-scatter", found.said, case.spread.options["reduce"])


def _reduced(case: Case, seen: Seen, kind: str, said: str, asked: str) -> Found:
    """Check that as many numbers were exchanged as there are gradients, in the type that was asked for."""
    if seen.observed is None or not seen.observed.gradients:
        return Found(said)
    numbers, expected = seen.numbers(kind), seen.observed.gradients
    if kind == "all-reduce" and case.spread.name == "fsdp":  # an all-reduce of shards
        expected = expected * int(case.spread.options["replicate"]) // case.world_size
    elif case.spread.name == "fsdp":  # of the rank's parts of layers
        expected //= case.tensor_ranks
    said = f"{said}, {kind} of {numbers:,} numbers for {seen.observed.gradients:,} gradients"
    types = seen.types(kind)
    said += f" in {' and '.join(types)}" if types else ""
    if numbers < expected:
        return Found(
            said, f"{case.strategy} had no effect: {kind} of {numbers:,} numbers in a step of {expected:,} gradients"
        )
    wanted = REDUCED_IN.get(asked)
    if wanted and wanted not in types:
        return Found(said, f"{case.strategy} had no effect: gradients were reduced in {' and '.join(types)}")
    return Found(said)


def _tensor(case: Case, seen: Seen) -> Found:
    """Check that ranks have parts of the parameters, and exchange activations."""
    if case.tensor_ranks == 1 or not seen.state.split:
        return Found()
    divided, every = seen.state.split
    said = f"{divided:,} of {every:,} numbers of the parameters divided over {case.tensor_ranks} ranks"
    if not divided:
        return Found(said, f"tp={case.tensor_ranks} had no effect: no parameter is divided")
    if seen.observed is None:
        return Found(said)
    kinds = ("tensor all-gather", "tensor reduce-scatter", "tensor all-reduce")
    calls = {kind: [seen.calls(kind, phase) for phase in ("forward", "backward")] for kind in kinds}
    if not any(map(any, calls.values())):
        return Found(said, f"tp={case.tensor_ranks} had no effect: ranks exchanged no activations")
    words = (
        f"{kind.removeprefix('tensor ')} {both[0]} times forward and {both[1]} backward"
        for kind, both in calls.items()
        if any(both)
    )
    return Found(f"{said}, activations: {', '.join(words)}")


def _pipeline(case: Case, seen: Seen) -> Found:
    """Check that the first stage sends each micro-batch on, and receives its gradient."""
    if case.pipeline_ranks == 1 or seen.observed is None:
        return Found()
    sent, received = (seen.calls(kind, "between") for kind in ("send", "receive"))
    stages = f"{case.stages} stages" + (f" in {case.pipeline_ranks} ranks" if case.stages_per_rank > 1 else "")
    said = f"{stages}, {sent} sends and {received} receives of the first rank in a step"
    least = case.micro_batches * case.stages_per_rank
    fault = f"pp={case.pipeline_ranks} had no effect: {said}" if min(sent, received) < least else ""
    return Found(said, fault)


def _accumulation(case: Case, seen: Seen) -> Found:
    if (
        case.pipeline_ranks > 1
        or case.grad_accum_steps == 1
        or seen.observed is None
        or not seen.observed.gradients
        or case.data_ranks == 1
    ):
        return Found()
    early = max(seen.numbers(kind, "early backward") for kind in ("all-reduce", "reduce-scatter"))
    if early >= seen.observed.gradients:
        return Found(fault=f"gradients were exchanged before the last of {case.grad_accum_steps} micro-batches as well")
    return Found(f"gradients exchanged once in {case.grad_accum_steps} micro-batches")


def _replicas(case: Case, seen: Seen) -> Found:
    """Check that ranks with the same parameters have equal bits in them."""
    groups: dict[int, list[int]] = defaultdict(list)
    for rank, state in seen.states.items():
        groups[state.shard].append(rank)
    names: dict[int, list[str]] = {}
    for first, *others in groups.values():
        of_first = seen.states[first].checksums
        for rank in others:
            of_rank = seen.states[rank].checksums
            names[rank] = [name for name, value in of_first.items() if of_rank.get(name, value) != value]
    unlike = sorted(rank for rank in names if names[rank])
    if not unlike:
        many = max(map(len, groups.values()))
        return Found(
            f"{len(seen.state.checksums)} parameters equal bit by bit over {many} replicas" if many > 1 else ""
        )
    first = next(ranks[0] for ranks in groups.values() if unlike[0] in ranks)
    return Found(
        fault=f"the replicas are not equal after the window: rank {first} and {_ranks(unlike)} differ in "
        f"{_listed(names[unlike[0]])}; gradients bypassed the strategy, or the workload changes parameters itself"
    )


def _precision(case: Case, seen: Seen) -> Found:
    """Check the type of matrix products and convolutions, and that of the parameters."""
    wanted, found = COMPUTED_IN[str(case.precision)], Counter(seen.observed.matmuls if seen.observed else {})
    total = sum(found.values())
    said = f"{wanted} in {found[wanted]} of {total} matmuls and convolutions" if total else ""
    held, stored = seen.state.types, "bfloat16" if case.precision == "bf16" else "float32"
    numbers = sum(held.values())
    if total and not found[wanted]:
        return Found(
            said,
            f"--precision {case.precision} had no effect: all matmuls ran in {_by_count(found)}, none in {wanted}",
        )
    if numbers and stored not in held:
        return Found(
            said,
            f"--precision {case.precision} had no effect: the parameters are in {_by_count(held)}, not {stored}",
        )
    marks = []
    if total > found[wanted] and case.precision not in MIXED:
        marks.append(f"{total - found[wanted]} of {total} matmuls ran in {_by_count(found - Counter({wanted: total}))}")
    if numbers > held.get(stored, 0):
        marks.append(f"{1 - held[stored] / numbers:.0%} of the parameters are not in {stored}")
    return Found(said, mark="; ".join(marks))


def _checkpointing(case: Case, seen: Seen) -> Found:
    if case.activation_checkpointing == "none" or seen.observed is None:
        return Found()
    layers, again = seen.observed.checkpointed, seen.observed.recomputed
    said = f"{again} of {layers} checkpointed layers recomputed"
    if again:
        return Found(said)
    if not layers:
        return Found(
            fault="--activation-checkpointing had no effect: after activation_checkpoint(model) no module was "
            "recomputed in the backward pass"
        )
    return Found(
        said,
        f"--activation-checkpointing {case.activation_checkpointing} had no effect: none of {layers} layers was "
        "recomputed in the backward pass; the model must call the layers themselves, and not parts of them",
    )


def _compiled(case: Case, seen: Seen) -> Found:
    first = seen.measurements[0]
    if case.compile == "off" or first.graphs is None:
        return Found()
    said = f"{_count(first.graphs, 'graph')} compiled, {_count(first.graph_breaks or 0, 'graph break')}"
    if first.graphs or first.compile_ns == 0:  # reported elsewhere
        return Found(said)
    return Found(said, f"--compile {case.compile} had no effect: no graph was compiled")


def _layout(case: Case, seen: Seen) -> Found:
    if not case.channels_last or seen.observed is None or not seen.observed.convolutions[1]:
        return Found()
    nhwc, all_ = seen.observed.convolutions
    said = f"{nhwc} of {all_} convolutions in NHWC"
    return Found(said, "" if nhwc else f"--channels-last had no effect: none of {all_} convolutions was in NHWC")


def _clipping(case: Case, seen: Seen) -> Found:
    norm = seen.observed.gradient_norm if seen.observed else None
    if norm is None or not case.max_grad_norm:
        return Found()
    clipped = f"clipped to {case.max_grad_norm:g}" if norm > case.max_grad_norm else f"within {case.max_grad_norm:g}"
    return Found(f"gradient norm {norm:.3g}, {clipped}")


def _attention(case: Case, seen: Seen) -> Found:
    """Check that the kernel that was asked for has run."""
    if seen.observed is None:
        return Found()
    asked, said = str(case.attention), attention_kernels(seen.observed.attention)
    if asked == "auto" or set(seen.observed.attention) == {asked}:
        return Found(f"attention {said}" if said else "")
    if not said:
        return Found(fault=f"--attention {asked} had no effect: the model does not call scaled_dot_product_attention")
    what = f"attention ran with {said}"
    if asked in seen.observed.attention:
        return Found(f"attention {said}", mark=f"{what}, and not with {asked} alone")
    return Found(f"attention {said}", f"--attention {asked} had no effect: {what}")


def attention_kernels(calls: Mapping[str, int]) -> str:
    """Return the kernels of attention, each with its number of calls; an empty text if it was not called."""
    return ", ".join(f"{kernel} ({number})" for kernel, number in calls.items())


def _offload(case: Case, seen: Seen) -> Found:
    """Check that activations were copied to the host."""
    if case.activation_offload in (None, "none") or seen.observed is None:
        return Found()
    tensors, size = seen.observed.offloaded
    if not tensors:
        return Found(fault="--activation-offload cpu had no effect: no activation was copied to the host")
    return Found(f"{tensors} activations of {size / 2**20:.1f} MiB waited on the host")


CHECKS: tuple[Callable[[Case, Seen], Found], ...] = (
    *(
        _ddp,
        _zero1,
        _fsdp,
        _tensor,
        _pipeline,
        _accumulation,
        _replicas,
        _trained,
        _precision,
        _checkpointing,
        _compiled,
    ),
    *(_layout, _clipping, _attention, _offload, _settings, _batch, _threads),
)


CHECKS_OF_SCRIPTS: tuple[Callable[[Case, Seen], Found], ...] = (_replicas, _threads)


def _ranks(some: Sequence[int]) -> str:
    return f"rank{'s' * (len(some) > 1)} {_listed(list(map(str, some)))}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")


def _by_count(found: Mapping[str, int]) -> str:
    """Return the types, the most frequent first."""
    return " and ".join(sorted(found, key=lambda name: -found[name]))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
