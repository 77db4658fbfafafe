"""The result of a launch: from its ranks' records to its row, and the rows of the other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import interrupts
from bench.machine.peaks import peak_tflops
from bench.messages.rank_record import Measurement, RankRecord
from bench.plan.case import Case
from bench.plan.code_key import Code, code_key
from bench.plan.description import Description
from bench.plan.options import arithmetic
from bench.plan.placement import per_node
from bench.runner.bubble import bubble
from bench.runner.communication import communication
from bench.runner.effects import effects
from bench.runner.failure_cause import Evidence, cause, is_machine_failure, last_peaks
from bench.runner.gpu_sampler import device_metrics, device_rows, foreign_processes, of_ranks
from bench.runner.launch_role import Role
from bench.runner.metrics import (
    bursts_ns,
    efficiency,
    faults,
    launch_metrics,
    rank_rows,
    ranks_by_device,
    step_rows,
    window_of,
)
from bench.runner.node_sampler import NodeSamples
from bench.runner.own_time import own_times
from bench.runner.rank_site import Site
from bench.runner.saving import saving
from bench.runner.script_steps import metrics, script_steps, united, verdict
from bench.runner.step_counts import count_rows, counted
from bench.store.columns import Row


@dataclass
class Launched:
    """The result of a launch: columns of its row, and the rows of the other files by file.

    ``bursts_ns`` has the bursts of a duet, each on its slowest rank; ``code`` is what ranks imported of the user's
    files. ``machine_failure`` says that it failed because of the machine, before anything was trained. ``precision`` is
    that of the computation, of a script as it was seen; None if unknown.
    """

    row: Row
    others: dict[str, list[Row]] = field(default_factory=dict)
    machine_failure: bool = False
    bursts_ns: list[int] = field(default_factory=list)
    code: Code = frozenset()
    precision: str | None = None

    @property
    def measured(self) -> bool:
        """Whether every rank has measured its window."""
        return self.row["status"] in ("ok", "invalid")


@dataclass(frozen=True)
class End:
    """A launch that has ended.

    ``evidence`` is what is known of it; ``verdict`` says why it was ended from outside, or is empty; ``samples`` has
    what each node sampled since ``requested_at_ns`` of this node's wall clock, without nodes that sent nothing.
    ``nodes`` has the node of each rank that is not on this one, which is node 0, and ``node_facts`` the columns about
    other nodes.
    """

    evidence: Evidence
    verdict: str
    samples: Mapping[int, NodeSamples]
    requested_at_ns: int
    role: Role
    nodes: Mapping[int, int] = field(default_factory=dict)
    node_facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> Mapping[int, RankRecord]:
        """The records of its ranks."""
        return self.evidence.records

    @property
    def peaks_mib(self) -> dict[int, float]:
        """The largest host memory of each rank in MiB, as far as it is known."""
        return {rank: mib for one in self.samples.values() for rank, mib in one.peaks_mib.items()}

    def ranks_by_device(self) -> dict[int, dict[str, list[int]]]:
        """Return the UUID of each GPU that ranks computed on, and their process ids, by node."""
        on: dict[int, dict[int, RankRecord]] = {node: {} for node in (0, *self.nodes.values())}
        for rank, record in self.records.items():
            on[self.nodes.get(rank, 0)][rank] = record
        return {node: ranks_by_device(records) for node, records in on.items()}


@dataclass(frozen=True)
class Judge:
    """Makes rows from launches of one case."""

    case: Case
    description: Description
    site: Site
    warn: Callable[[str], None]
    samples_per_step: int | None = None  # of a script
    save_interval: int = 1

    def launched(self, end: End) -> Launched:
        """Return the rows of a launch that has ended."""
        records, evidence = end.records, end.evidence
        ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
        measured = len(ranks) == self.case.processes  # then the launch is complete, however its processes end
        row = {**rank_facts(records), "sources": self._sources(records)}
        row |= self._measured(end, str(row.get("device_name", ""))) if measured else self._failed(end)
        samples, columns = self._devices(end, row)
        others = {"ranks.csv": rank_rows(records, evidence.outcome.exit_codes), "devices.csv": samples}
        others["ranks.csv"] = [with_node(end.role.own(one), end.nodes) for one in others["ranks.csv"]]
        if any(one.clock_set for one in end.samples.values()):
            row["startup_s"] = None
        row |= {**nodes_columns(self.case.processes, end.nodes), **end.node_facts}
        row |= {"command": None} if end.nodes else {}  # one command line does not make it again
        if measured:
            others["steps.csv"] = self._steps(ranks, records)
        if measured:
            row |= counted(records) | communication(records, row.get("critical_rank") or 0)
            others["counts.csv"] = count_rows(records)
        fault = not measured and not end.verdict and is_machine_failure(evidence)
        bursts = bursts_ns(ranks) if measured else []
        own = {**end.role.own(row), **columns}
        return Launched(own, others, fault, bursts, imported(records), self._precision(records))

    def _precision(self, records: Mapping[int, RankRecord]) -> str | None:
        """Return the precision of the computation; None if it is not known, as of some scripts."""
        seen = (record.script.precision for _, record in sorted(records.items()) if record.script)
        return self.case.precision or next(seen, None)

    def _failed(self, end: End) -> Row:
        """Return why a rank has no measurement, and the last peaks of memory."""
        # A signal to all processes of a session or job ends ranks before this process has ended the launch.
        ended = end.evidence.outcome.stopped or interrupts.pending()
        stopped = end.role.stopped(end.records) if ended else {}
        if stopped:
            why = stopped
        elif end.verdict and not end.evidence.outcome.lost:
            why = {"status": "timeout", "reason": end.verdict}
        else:
            why = dict(zip(("status", "reason"), cause(end.evidence), strict=True))
        return {**why, **last_peaks(end.evidence)}

    def _steps(self, ranks: list[Measurement], records: Mapping[int, RankRecord]) -> list[Row]:
        rows = step_rows(ranks)
        if self.case.is_script:
            apart = united([record.script.apart for record in records.values() if record.script])
            for row, reason in zip(rows, apart, strict=True):
                row["apart"] = reason or None
        return rows

    def _measured_script(self, end: End, device_name: str) -> Row:
        """Return the metrics of a script's ordinary steps, and whether they are valid."""
        records = end.records
        steps = script_steps(records, self.samples_per_step, self.case.batch_size)
        scripts = [record.script for record in records.values() if record.script]
        devices = len({uuid for r in records.values() for uuid in r.device_uuids}) or self.case.devices
        precision = self._precision(records)
        peak = peak_tflops(device_name, precision and arithmetic(precision))
        row = metrics(steps, scripts, end.requested_at_ns, devices, peak)
        effect, without_effect = effects(self.case, records)
        marks = "; ".join(filter(None, [effect.pop("not_as_asked", None), *steps.marks])) or None
        found = verdict([*steps.faults, *without_effect])
        return {**row, **effect, "not_as_asked": marks, **found, "code_key": _code_key(records)}

    def _measured(self, end: End, device_name: str) -> Row:
        """Return metrics, and whether they are valid."""
        if self.case.is_script:
            return self._measured_script(end, device_name)
        case, records = self.case, end.records
        ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
        devices = len({uuid for r in records.values() for uuid in r.device_uuids}) or case.devices
        tokens, own = self.description.tokens_per_sample, own_times(records)
        row = launch_metrics(ranks, end.requested_at_ns, tokens, devices, own, case.model_ranks)
        row |= bubble(case, ranks) | saving(case, records, row["step_mean_ms"], self.save_interval)
        if row.get("save_note"):
            self.warn(f"--save-checkpoint: {row['save_note']}")
        row |= efficiency(row, self.description, self._peak(device_name))
        if row["flops_note"] != self.description.flops_note:
            self.warn(f"mfu or hfu of {case.workload} would be 0 or above 1, and stays empty: see flops_note")
        assert case.rank_batch is not None
        columns, without_effect = effects(case, records)
        expected = None if self.description.own_loader else case.rank_batch * case.micro_batches
        found = [*faults(ranks, expected, real=not self.case.fake_ranks), *without_effect, *unlike_code(records)]
        # Ranks of a failed launch may not have imported everything.
        return {**row, **columns, **verdict(found), "code_key": _code_key(records)}

    def _devices(self, end: End, row: Row) -> tuple[list[Row], Row]:
        """Return NVML's readings of the ranks' GPUs, one row of devices.csv each, and the columns of the launch.

        In a duet both sides are in the readings and in the columns.
        """
        window = window_of(end.records) if row.get("samples") is not None else None
        on = end.ranks_by_device()
        by_node = {node: of_ranks(one.devices, on[node]) for node, one in end.samples.items()}
        samples = [sample for of_node in by_node.values() for sample in of_node]
        gpus = [uuid for of_node in on.values() for uuid in of_node]
        readings = device_rows(samples, end.requested_at_ns, window)
        if not gpus:
            return readings, {}
        # Process ids are compared within a node: another one may have the same.
        foreign = _any_of(
            [foreign_processes(by_node.get(node, []), end.role.with_others(pids)) for node, pids in on.items()]
        )
        if window is None:
            return readings, {"foreign_processes": foreign}
        columns = device_metrics(samples, gpus, window, row["samples"])
        return readings, end.role.own_of_devices({**columns, "foreign_processes": foreign})

    def _peak(self, device: str) -> tuple[float, str] | None:
        peak = peak_tflops(device, arithmetic(str(self.case.precision)))
        if peak is None:
            self.warn(f"no peak arithmetic rate is known for device {device}: mfu and hfu stay empty")
        return peak

    def _sources(self, records: Mapping[int, RankRecord]) -> str | None:
        """Return the files of the user's repository that the ranks have imported, if there is a repository."""
        files = dict.fromkeys(file for record in records.values() for file in record.sources)
        return self.site.listed(files) or None


def nodes_columns(ranks: int, elsewhere: Mapping[int, int]) -> Row:
    """Return on how many nodes the ranks are, and how many on each; ``elsewhere`` has those that are not on node 0."""
    others = Counter(elsewhere.values())
    on_each = [ranks - len(elsewhere), *(others[node] for node in sorted(others))]
    return {"nodes": len(on_each), "nproc_per_node": per_node(on_each)}


def _any_of(known: Sequence[bool | None]) -> bool | None:
    """Return whether any of these is true; None if none is, and one is unknown."""
    return True if True in known else None if None in known else False


def with_node(row: Row, nodes: Mapping[int, int]) -> Row:
    """Return the columns of a rank with its node; ``nodes`` has those that are not on node 0."""
    return {**row, "node": nodes.get(row["rank"], 0)}


def rank_facts(records: Mapping[int, RankRecord]) -> Row:
    """Return columns of the ranks' software and devices; none if no rank came far enough to report them."""
    told = [r for _, r in sorted(records.items()) if r.software]
    if not told:
        return {}
    names = dict.fromkeys(r.device for r in told)
    uuids = ";".join(uuid for r in told for uuid in r.device_uuids)
    return {**told[0].software, "device_name": ";".join(names), "device_uuids": uuids}


def _code_key(records: Mapping[int, RankRecord]) -> str | None:
    packages = next((r.software.get("packages", "") for _, r in sorted(records.items()) if r.software), "")
    return code_key(imported(records), packages)


def unlike_code(records: Mapping[int, RankRecord]) -> list[str]:
    """Return in words which module of the user differs between ranks, as it may over several nodes."""
    found: dict[str, dict[str, int]] = {}
    for rank, record in sorted(records.items()):
        for source in record.code:
            found.setdefault(source.module, {}).setdefault(source.digest, rank)
    unlike = {module: [*ranks.values()] for module, ranks in found.items() if len(ranks) > 1}
    return [
        f"ranks trained different code: {module} of rank {a} is not that of rank {b}"
        for module, (a, b, *_) in unlike.items()
    ]


def imported(records: Mapping[int, RankRecord]) -> Code:
    """Return what the ranks of a launch have imported of the user's files."""
    return frozenset(source for record in records.values() for source in record.code)
