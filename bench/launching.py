"""One launch: what the ranks are told, who watches them, and what its end means for the rows."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import interrupts
from bench.case import Case
from bench.cause import Evidence, cause, is_the_machines, last_peaks, oom_kills
from bench.checked import NonsenseError
from bench.code import Code, code_key
from bench.devices import Machine
from bench.effects import effects
from bench.errors import BenchError, ResultsError, UsageError
from bench.host_memory import HostMemory
from bench.inputs import absolute_data
from bench.messages import Beat, Description, RankRecord, Spec, disagreement
from bench.metrics import (
    bursts_ns,
    efficiency,
    faults,
    launch_metrics,
    rank_rows,
    ranks_by_device,
    step_rows,
    window_of,
)
from bench.part import Part, ends, stopped
from bench.peaks import peak_tflops
from bench.record import Row
from bench.sampler import Sampler, device_metrics, device_rows, foreign_processes
from bench.site import Site
from bench.strategies import STRATEGIES
from bench.suite import Protocol
from bench.watchdog import Watchdog
from launch import LAUNCHERS, Launcher, LaunchError, Outcome, Request
from workloads import WORKLOADS

RANK_ENTRY, DESCRIBE_ENTRY = "bench.rank.main:run", "bench.rank.describe:run"
OF_BOTH_SIDES = ("startup_s", "device_used_mib")  # in a duet a side waits for the other, and both are on a device
OF_THE_DEVICE = ("throttled_share", "throttle_reasons", "sm_clock_min_mhz", "temperature_max_c", "foreign_processes")
ATTEMPTS = 2  # where the first failed by the machine's fault
# What a rank would import: the fork server does it once. torch._dynamo is imported by the first optimizer.
PRELOAD = (
    *("torch._dynamo", "torch.distributed.fsdp", "torchvision"),
    *("bench.rank.main", "bench.rank.describe"),
    *(f"bench.strategies.{name}" for name in STRATEGIES),
    *sorted({entry.target.partition(":")[0] for entry in WORKLOADS.values()}),
)


@dataclass
class Launched:
    """What became of a launch: columns of its row, and the rows of the other files, by file.

    ``bursts_ns`` has the bursts of a duet, each on its slowest rank; ``code`` what ranks imported of the user's files.
    """

    row: Row
    others: dict[str, list[Row]] = field(default_factory=dict)
    machines_fault: bool = False
    bursts_ns: list[int] = field(default_factory=list)
    code: Code = frozenset()

    @property
    def measured(self) -> bool:
        return self.row["status"] in ("ok", "invalid")


class Launching:
    """Starts, watches and judges launches, one after the other."""

    def __init__(
        self,
        machine: Machine,
        variables: Mapping[str, str],
        log: Path,
        protocol: Protocol,
        warn: Callable[[str], None],
        tell: Callable[[Beat], None],
        site: Site | None = None,
    ) -> None:
        self.machine, self.protocol, self.warn, self.tell, self._log = machine, protocol, warn, tell, log
        self._site = site or Site()
        self._variables = {**variables, **self._site.variables(variables)}
        self._launcher = make_launcher(protocol.launcher, self._variables, log, self._site.python, self._site.folder())

    def close(self) -> None:
        self._launcher.close()

    def describe(self, case: Case, new_folder: Callable[[], Path]) -> Description:
        """What only torch can know of a workload; BenchError if it is none, or if nothing can be told of it."""
        for attempt in range(1, ATTEMPTS + 1):
            folder = new_folder()  # no record of a first attempt may be taken for one of the second
            try:
                request, spec = self._request(case, folder, DESCRIBE_ENTRY, 1, self.protocol)
                watchdog = self._watchdog(request, spec, self.protocol, None)
                outcome = self._launcher.launch(request, functools.partial(ends, watchdog))
            except LaunchError as error:
                interrupts.check()
                raise BenchError(str(error)) from None
            interrupts.check()
            watchdog.look(last=True)
            if outcome.ok or watchdog.done:
                return self._description(case, folder)
            evidence = self._evidence(request, outcome, watchdog, 0)
            reason = watchdog.verdict or cause(evidence)[1]
            words = reason.partition(": ")[2] if reason.startswith("rank 0") else reason
            failed = any(record.failure for record in evidence.records.values())
            if not failed and (known := Description.found(folder)):  # its process ended while it counted
                return dataclasses.replace(known, flops_note=f"what counts them ended: {words}")
            if attempt == ATTEMPTS or not is_the_machines(evidence):
                break
        log = next(filter(Path.exists, (folder / "rank0.log", folder / "torchrun.log")), self._log)
        message = f"--workload {case.workload}: {words} (see {log})"
        raise (UsageError if case.spec.entry is None and failed else BenchError)(message)

    @staticmethod
    def _description(case: Case, folder: Path) -> Description:
        try:
            return Description.read(folder)
        except NonsenseError as error:
            raise BenchError(f"--workload {case.workload}: its {folder / 'description.json'} {error}") from None

    def launch(
        self, case: Case, description: Description, folder: Path, protocol: Protocol, part: Part | None = None
    ) -> Launched:
        """Launch once, and say how it ended; with a part as one side of a duet."""
        spec: Spec | None = None
        try:
            request, spec = self._request(case, folder, RANK_ENTRY, case.world_size, protocol, part)
            watchdog, kills_before = self._watchdog(request, spec, protocol, part), oom_kills()
            gpus = self.machine.gpus if case.on_accelerator and self.machine.driver else ()
            processes = case.world_size * (1 + (case.num_workers or 0))
            host = HostMemory(request.log, Path(spec.scratch), case.world_size, processes, alone=part is None)
            with Sampler(gpus) as sampler, host:
                requested_at_ns = time.time_ns()
                outcome = self._launcher.launch(request, functools.partial(ends, watchdog, part))
            watchdog.look(last=True)
            evidence = self._evidence(request, outcome, watchdog, oom_kills() - kills_before)
            judged = self._judged(case, description, evidence, watchdog.verdict, requested_at_ns, sampler, part)
            if judged.measured:
                _note_host_memory(judged, host.peaks_mib(), case.world_size)
                if protocol.max_seconds:
                    judged.row["window_cut"] = judged.row["window_steps"] < protocol.steps
            return judged
        except LaunchError as error:
            return Launched(stopped(part) or {"status": "crashed", "reason": str(error)})
        finally:
            if spec is not None and spec.compile_cache:
                shutil.rmtree(spec.compile_cache, ignore_errors=True)

    def _judged(
        self,
        case: Case,
        description: Description,
        evidence: Evidence,
        verdict: str,
        requested_at_ns: int,
        sampler: Sampler,
        part: Part | None,
    ) -> Launched:
        """The rows of a launch that has ended."""
        records = evidence.records
        ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
        measured = len(ranks) == case.world_size  # then the launch is done, however its processes end
        row = {**self._rank_facts(records), "sources": self._sources(records)}
        if measured:
            row |= self._measured(case, description, records, requested_at_ns, str(row["device_name"]))
            row["code_key"] = code_key(imported(records))  # of one that failed, not all that it would have imported
        elif evidence.outcome.stopped and (why := stopped(part, records)):
            row |= why
        elif verdict:
            row |= {"status": "timeout", "reason": verdict}
        else:
            row |= dict(zip(("status", "reason"), cause(evidence), strict=True))
        if not measured:
            row |= last_peaks(evidence)
        samples, columns = self._devices(sampler, records, row, requested_at_ns, part)
        others = {"ranks.csv": rank_rows(records, evidence.outcome.exit_codes), "devices.csv": samples}
        for one in (row, *others["ranks.csv"]) if part else ():
            for name in OF_BOTH_SIDES:
                one.pop(name, None)
        if measured:
            others["steps.csv"] = step_rows(ranks)
        machines_fault = not measured and not verdict and is_the_machines(evidence)
        bursts = bursts_ns(ranks) if measured else []
        return Launched({**row, **columns}, others, machines_fault, bursts, imported(records))

    def _measured(
        self,
        case: Case,
        description: Description,
        records: Mapping[int, RankRecord],
        requested_at_ns: int,
        device_name: str,
    ) -> Row:
        """Metrics, and whether they hold."""
        ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
        devices = len({uuid for r in records.values() for uuid in r.device_uuids}) or case.devices
        metrics = launch_metrics(ranks, requested_at_ns, description.tokens_per_sample, devices)
        metrics |= efficiency(metrics, description, self._peak(device_name, case))
        if metrics["flops_note"] != description.flops_note:
            self.warn(f"mfu or hfu of {case.workload} would be 0 or above 1, and stays empty: see flops_note")
        assert case.rank_batch is not None
        columns, without_effect = effects(case, records)
        found = [*faults(ranks, case.rank_batch * case.grad_accum_steps), *without_effect]
        verdict = {"status": "invalid", "reason": "; ".join(found)} if found else {"status": "ok", "reason": None}
        if self.protocol.launcher == "server" and not all(r.preloaded for r in records.values()):
            self.warn("the fork server has not preloaded the ranks' modules: launches are slower than they could be")
        return {**metrics, **columns, **verdict}

    def _request(
        self, case: Case, folder: Path, entry: str, ranks: int, protocol: Protocol, part: Part | None = None
    ) -> tuple[Request, Spec]:
        spec, variables = case.spec, case.environment
        if "PYTHONPATH" in variables:  # takes the place of the one that lends our packages
            variables |= self._site.variables(variables)
        request = Request(
            entry=entry,
            argument=str((folder / "spec.json").resolve()),
            ranks=ranks,
            timeout_s=protocol.timeout,
            log=folder.resolve(),
            environment={**variables, "OMP_NUM_THREADS": str(case.omp_num_threads)},
            numa_binding=case.numa_binding if entry == RANK_ENTRY and case.numa_binding != "off" else None,
            measures=entry == RANK_ENTRY,
        )
        scratch = str(self._launcher.scratch(request, lambda: bool(stopped(part))))
        own_cache = "TORCHINDUCTOR_CACHE_DIR" in {**self._variables, **case.environment}
        message = Spec(
            case=case,
            target=self._site.target(absolute_target(spec.target)),
            options=spec.options,
            data=absolute_data(case.data),
            warmup_steps=protocol.warmup_steps,
            steps=protocol.steps,
            min_seconds=protocol.min_seconds,
            max_seconds=protocol.max_seconds,
            timeout_s=protocol.timeout,
            folder=str(folder.resolve()),
            scratch=scratch,
            compile_cache="" if own_cache else f"{scratch}/inductor-{folder.name}",
            watched=self._site.watched,
            turns=part.turns if part else None,
        )
        try:
            message.write()
        except OSError as error:
            raise ResultsError(f"cannot write {folder}: {error.strerror}") from None
        return request, message

    def _watchdog(self, request: Request, spec: Spec, protocol: Protocol, part: Part | None) -> Watchdog:
        scratch, hang_s = Path(spec.scratch), protocol.hang_timeout
        others_turn = part.others_turn if part else lambda: False
        return Watchdog(request.log, scratch, request.ranks, hang_s, protocol.timeout, self.tell, others_turn)

    def _evidence(self, request: Request, outcome: Outcome, watchdog: Watchdog, kills: int) -> Evidence:
        records, nonsense = RankRecord.sound_and_odd(request.log, request.ranks)
        nonsense |= {} if nonsense else disagreement(records)
        for rank in nonsense.keys() & records.keys():
            records[rank] = dataclasses.replace(records[rank], measurement=None)
        for rank, failure in watchdog.last_words.items():
            record = records.get(rank) or RankRecord(rank, rank, socket.gethostname(), 0, True)
            if not record.failure and not record.measurement:
                records[rank] = dataclasses.replace(record, failure=failure)
        return Evidence(
            records=records,
            outcome=outcome,
            ranks=request.ranks,
            oom_kills=kills,
            gone=tuple(watchdog.gone),
            beats=watchdog.beats,
            peak_rss_mib=watchdog.peak_rss_mib,
            nonsense={**watchdog.nonsense, **nonsense},
        )

    def _devices(
        self,
        sampler: Sampler,
        records: Mapping[int, RankRecord],
        row: Row,
        requested_at_ns: int,
        part: Part | None,
    ) -> tuple[list[Row], Row]:
        """What NVML saw of the ranks' GPUs: a row of devices.csv a reading, and the columns of the launch.

        In a duet the readings are of both sides, and so are the columns: those that are no side's alone.
        """
        samples, note = sampler.stop()
        if note:
            self.warn(f"{note}; columns of the devices stay empty")
        on = ranks_by_device(records)
        window = window_of(records) if row.get("samples") is not None else None
        samples = [sample for sample in samples if sample.uuid in on or not on]
        readings = device_rows(samples, requested_at_ns, window) if samples else []
        if not on:
            return readings, {}
        if part and part.other:
            others = ranks_by_device(RankRecord.read_all(part.other.folder, part.other.turns.ranks))
            on = {uuid: [*pids, *others.get(uuid, [])] for uuid, pids in on.items()}
        if window is None:
            return readings, {"foreign_processes": foreign_processes(samples, on)}
        columns = device_metrics(samples, on, window, row["samples"])
        return readings, {name: columns[name] for name in OF_THE_DEVICE} if part else columns

    def _peak(self, device: str, case: Case) -> tuple[float, str] | None:
        peak = peak_tflops(device, case.precision)
        if peak is None:
            self.warn(f"no peak arithmetic rate is known for device {device}: mfu and hfu stay empty")
        return peak

    def _sources(self, records: Mapping[int, RankRecord]) -> str | None:
        """What the ranks have imported of the user's repository, where there is one to look at."""
        files = dict.fromkeys(file for record in records.values() for file in record.sources)
        return self._site.listed(files) or None

    @staticmethod
    def _rank_facts(records: Mapping[int, RankRecord]) -> Row:
        told = [r for _, r in sorted(records.items()) if r.software]
        if not told:
            return {}
        names = dict.fromkeys(r.device for r in told)
        facts = {
            "device_name": ";".join(names),
            "device_uuids": ";".join(uuid for r in told for uuid in r.device_uuids),
        }
        return {**told[0].software, **facts}


def _note_host_memory(launched: Launched, peaks_mib: Mapping[int, float], ranks: int) -> None:
    """Of each rank in its own row, and in that of the launch the largest, where all are known."""
    for row in launched.others["ranks.csv"]:
        row["peak_host_mib"] = peaks_mib.get(row["rank"])
    if len(peaks_mib) == ranks:
        launched.row["peak_host_mib"] = max(peaks_mib.values())


def imported(records: Mapping[int, RankRecord]) -> Code:
    """What the ranks of a launch have imported of the user's files."""
    return frozenset(source for record in records.values() for source in record.code)


def make_launcher(
    name: str, variables: Mapping[str, str], log: Path, python: str = sys.executable, cwd: Path | None = None
) -> Launcher:
    """The launcher of LAUNCHERS that ``--launcher`` names."""
    module, _, class_name = LAUNCHERS[name][1].partition(":")
    launcher: Launcher = getattr(importlib.import_module(module), class_name)(
        variables, PRELOAD, log, python=python, cwd=cwd
    )
    return launcher


def absolute_target(target: str) -> str:
    """A user's file by its full path, as a rank may not share our folder; all else as it is."""
    where, _, name = target.rpartition(":")
    return f"{os.path.realpath(where)}:{name}" if where.endswith(".py") else target
