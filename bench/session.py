"""Runs a plan: describes the workloads, launches every case round by round, and turns each end into a row."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench import environment
from bench.case import Case
from bench.cause import cause, oom_kills
from bench.devices import Machine
from bench.errors import BenchError, Interrupted, UsageError
from bench.messages import Description, Heartbeat, RankRecord, Spec
from bench.metrics import efficiency, faults, launch_metrics, rank_rows, ranks_by_device, step_rows, window_of
from bench.options import AXES, SETTINGS
from bench.peaks import peak_tflops
from bench.record import SCHEMA, Row
from bench.rules import Facts, refusal
from bench.sampler import Sampler, device_metrics, device_rows, foreign_processes
from bench.store import Store
from bench.strategies import STRATEGIES
from bench.suite import Plan, Planned, command
from launch import LAUNCHERS, Launcher, LaunchError, Outcome, Request
from workloads import WORKLOADS, files

RANK_ENTRY, DESCRIBE_ENTRY = "bench.rank.main:run", "bench.rank.describe:run"
# What a rank would import: the fork server does it once. torch._dynamo is imported by the first optimizer.
PRELOAD = (
    *("torch._dynamo", "torch.distributed.fsdp", "torchvision"),
    *("bench.rank.main", "bench.rank.describe"),
    *(f"bench.strategies.{name}" for name in STRATEGIES),
    *sorted({entry.target.partition(":")[0] for entry in WORKLOADS.values()}),
)


class Observer(Protocol):
    """Who watches a run; ``bench.report.progress`` has those for people."""

    def note(self, message: str) -> None: ...
    def launch_begins(self, case: Case, number: int, of: int) -> None: ...
    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None: ...
    def launch_ends(self, row: Row) -> None: ...


class Session:
    """One run. ``rows`` holds what was recorded so far, in order."""

    def __init__(self, plan: Plan, machine: Machine, out: Path, observer: Observer) -> None:
        self.plan, self.machine, self.observer = plan, machine, observer
        self.store = Store(out)
        self.rows: list[Row] = []
        self._environment = rank_environment()
        self._host = environment.host_facts(machine, self._environment)
        self._launcher = self._make_launcher()
        self._descriptions: dict[tuple[str, str], Description] = {}
        self._order = 0
        self._warned: set[str] = set()

    def run(self) -> list[Row]:
        """Every launch of every case; a case that ran out of memory once is not launched again."""
        if self.machine.note:
            self._warn(self.machine.note)
        try:
            ready = self._prepare()
            rounds = self.plan.protocol.launches
            out_of_memory: set[Case] = set()
            for block in range(rounds):
                for case in ready:
                    if case in out_of_memory:
                        self._record(self._blank(case, "skipped", "it ran out of memory in an earlier launch", block))
                        continue
                    row = self._launch(case, block, rounds * len(ready))
                    if row["status"] == "oom":
                        out_of_memory.add(case)
        finally:
            self._launcher.close()
        return self.rows

    # -- before the first launch ---------------------------------------------------------------------------------

    def _prepare(self) -> list[Case]:
        """The cases to launch, with what only torch knows filled in; the others become rows now."""
        # a set: a batch size may be given, and be the workload's own as well
        complete = tuple(dict.fromkeys(self._complete(planned) for planned in self.plan.cases))
        self.store.plan(plan_json(dataclasses.replace(self.plan, cases=complete)))
        for planned in complete:
            if planned.skip is not None:
                self._record(self._blank(planned.case, "skipped", planned.skip))
        return [planned.case for planned in complete if planned.skip is None]

    def _complete(self, planned: Planned) -> Planned:
        if planned.skip is not None:
            return planned
        case, description = planned.case, self._describe(planned.case)
        if case.batch_size is None:
            case = dataclasses.replace(case, batch_size=description.batch_size)
        facts = Facts(self.machine, planned.samples, description, environment.compiler_lacks(), environment.numactl())
        return Planned(case, refusal(case, facts), planned.samples)

    def _describe(self, case: Case) -> Description:
        key = (case.workload, case.activation_checkpointing)
        if key not in self._descriptions:
            self.observer.note(f"looking at {case.workload} on the meta device")
            self._descriptions[key] = self._ask_torch(case, f"describe-{len(self._descriptions)}")
        return self._descriptions[key]

    def _ask_torch(self, case: Case, name: str) -> Description:
        try:
            request, _ = self._request(case, self.store.launch_folder(name), DESCRIBE_ENTRY, ranks=1)
            outcome = self._launcher.launch(request)
        except LaunchError as error:
            raise BenchError(str(error)) from None
        if outcome.ok:
            return Description.read(request.log)
        _, reason = self._cause(request, outcome, 0)
        message = f"--workload {case.workload}: {reason.removeprefix('rank 0: ')} (see {request.log}/rank0.log)"
        raise (UsageError if case.spec.entry is None else BenchError)(message)

    # -- one launch ----------------------------------------------------------------------------------------------

    def _launch(self, case: Case, block: int, of: int) -> Row:
        launch_id = f"{self._order:04}-{case.case_id}"[:120]
        self.observer.launch_begins(case, self._order + 1, of)
        kills_before = oom_kills()
        started = datetime.now(UTC)
        row = {**self._blank(case, "interrupted", "the run was stopped", block), "launch_id": launch_id}
        row |= {"order": self._order, "started_at": started.isoformat(timespec="milliseconds")}
        self._order += 1
        spec: Spec | None = None
        try:
            folder = self.store.launch_folder(launch_id)
            request, spec = self._request(case, folder, RANK_ENTRY, ranks=case.world_size)
            with Sampler(self.machine.gpus if case.device == "cuda" and self.machine.driver else ()) as sampler:
                requested_at_ns = time.time_ns()
                outcome = self._launcher.launch(request, self._watch(Path(spec.scratch), folder.name))
            records = RankRecord.read_all(folder, case.world_size)
            row |= self._result(case, request, outcome, records, requested_at_ns, oom_kills() - kills_before)
            row |= self._devices(sampler, launch_id, records, row, requested_at_ns)
        except Interrupted:
            self._record(row)
            raise
        except LaunchError as error:
            row |= {"status": "crashed", "reason": str(error)}
            self._record(row)
        else:
            self._record(row, records, outcome)
        finally:
            if spec is not None and spec.compile_cache:
                shutil.rmtree(spec.compile_cache, ignore_errors=True)
        return row

    def _request(self, case: Case, folder: Path, entry: str, ranks: int) -> tuple[Request, Spec]:
        protocol, spec = self.plan.protocol, case.spec
        request = Request(
            entry=entry,
            argument=str((folder / "spec.json").resolve()),
            ranks=ranks,
            timeout_s=protocol.timeout,
            log=folder.resolve(),
            environment={**case.environment, "OMP_NUM_THREADS": str(case.omp_num_threads)},
            numa_binding=case.numa_binding if entry == RANK_ENTRY and case.numa_binding != "off" else None,
        )
        scratch = str(self._launcher.scratch(request))
        own_cache = "TORCHINDUCTOR_CACHE_DIR" in {**self._environment, **case.environment}
        message = Spec(
            case=case,
            target=absolute_target(spec.target),
            options=spec.options,
            data=absolute_data(case.data),
            warmup_steps=protocol.warmup_steps,
            steps=protocol.steps,
            min_seconds=protocol.min_seconds,
            timeout_s=protocol.timeout,
            folder=str(folder.resolve()),
            scratch=scratch,
            compile_cache="" if own_cache else f"{scratch}/inductor-{folder.name}",
        )
        message.write()
        return request, message

    def _result(
        self,
        case: Case,
        request: Request,
        outcome: Outcome,
        records: Mapping[int, RankRecord],
        requested_at_ns: int,
        kills: int,
    ) -> Row:
        """Status, metrics and what the ranks say of their software."""
        seen = self._rank_facts(records)
        ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
        if not outcome.ok or len(ranks) != case.world_size:
            status, reason = self._cause(request, outcome, kills)
            return {**seen, "status": status, "reason": reason}
        description = self._descriptions[case.workload, case.activation_checkpointing]
        devices = len({uuid for r in records.values() for uuid in r.device_uuids}) or case.devices
        metrics = launch_metrics(ranks, requested_at_ns, description.tokens_per_sample, devices)
        metrics |= efficiency(metrics, description, self._peak(str(seen["device_name"]), case))
        assert case.rank_batch is not None
        found = faults(ranks, metrics, case.rank_batch * case.grad_accum_steps)
        verdict = {"status": "invalid", "reason": "; ".join(found)} if found else {"status": "ok", "reason": None}
        if self.plan.protocol.launcher == "server" and not all(r.preloaded for r in records.values()):
            self._warn("the fork server has not preloaded the ranks' modules: launches are slower than they could be")
        return {**seen, **metrics, **verdict}

    def _devices(
        self, sampler: Sampler, launch_id: str, records: Mapping[int, RankRecord], row: Row, requested_at_ns: int
    ) -> Row:
        """What NVML saw of the ranks' GPUs: a row of devices.csv a reading, and the columns of the launch."""
        samples, note = sampler.stop()
        if note:
            self._warn(f"{note}; columns of the devices stay empty")
        on = ranks_by_device(records)
        window = window_of(records) if row.get("samples") is not None else None
        samples = [sample for sample in samples if sample.uuid in on or not on]
        if samples:
            identity = {"run_id": self.store.run_id, "launch_id": launch_id}
            readings = device_rows(samples, requested_at_ns, window)
            self.store.append("devices.csv", [{**identity, **reading} for reading in readings])
        if not on:
            return {}
        if window is None:
            return {"foreign_processes": foreign_processes(samples, on)}
        return device_metrics(samples, on, window, row["samples"])

    def _peak(self, device: str, case: Case) -> tuple[float, str] | None:
        peak = peak_tflops(device, case.precision)
        if peak is None:
            self._warn(f"no peak arithmetic rate is known for device {device}: mfu and hfu stay empty")
        return peak

    def _rank_facts(self, records: Mapping[int, RankRecord]) -> Row:
        told = [r for _, r in sorted(records.items()) if r.software]
        if not told:
            return {}
        names = dict.fromkeys(r.device for r in told)
        facts = {
            "device_name": ";".join(names),
            "device_uuids": ";".join(uuid for r in told for uuid in r.device_uuids),
        }
        return {**told[0].software, **facts}

    def _cause(self, request: Request, outcome: Outcome, kills: int) -> tuple[str, str]:
        records = RankRecord.read_all(request.log, request.ranks)
        return cause(records, outcome, request.ranks, request.timeout_s, kills)

    def _watch(self, scratch: Path, launch: str) -> Callable[[], None]:
        def look() -> None:
            beat = Heartbeat.read(scratch, launch, 0)
            if beat:
                self.observer.progress(*beat)

        return look

    # -- rows ----------------------------------------------------------------------------------------------------

    def _blank(self, case: Case, status: str, reason: str, block: int | None = None) -> Row:
        """All that is known of a launch before it is one."""
        protocol = self.plan.protocol
        description = self._descriptions.get((case.workload, case.activation_checkpointing))
        known = {
            "parameters": description.parameters if description else None,
            "tokens_per_sample": description.tokens_per_sample if description else None,
            "work_key": environment.work_key(case, files.fingerprint(absolute_data(case.data))),
        }
        settings = {**self._environment, **case.environment, "OMP_NUM_THREADS": str(case.omp_num_threads)}
        return {
            "schema": SCHEMA,
            "run_id": self.store.run_id,
            "case_id": case.case_id,
            "role": "measure",
            "block": block,
            "status": status,
            "reason": reason,
            **{name: getattr(case, name) for name in AXES},
            **{name: getattr(protocol, name) for name in SETTINGS},
            "oversubscribe": case.oversubscribe,
            "world_size": case.world_size,
            "global_batch": case.global_batch,
            **known,
            **self._host,
            "settings": environment.settings(settings, always=case.environment),
            "command": command(case, protocol),
        }

    def _record(
        self, row: Row, records: Mapping[int, RankRecord] | None = None, outcome: Outcome | None = None
    ) -> None:
        if row.get("torch"):  # else no rank came far enough to say what it runs on
            row["env_key"] = environment.env_key(row)
        self.store.append("launches.csv", [row])
        self.rows.append(row)
        identity = {"run_id": row["run_id"], "launch_id": row.get("launch_id")}
        if records and outcome:
            ranks = [r.measurement for _, r in sorted(records.items()) if r.measurement]
            if row["status"] in ("ok", "invalid"):
                self.store.append("steps.csv", [{**identity, **step} for step in step_rows(ranks)])
            self.store.append("ranks.csv", [{**identity, **rank} for rank in rank_rows(records, outcome.exit_codes)])
        self.observer.launch_ends(row)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self.observer.note(f"warning: {message}")

    def _make_launcher(self) -> Launcher:
        module, _, name = LAUNCHERS[self.plan.protocol.launcher][1].partition(":")
        make = getattr(importlib.import_module(module), name)
        launcher: Launcher = make(self._environment, PRELOAD, self.store.folder / "logs" / "launcher.log")
        return launcher


def rank_environment() -> dict[str, str]:
    """The environment of every rank, less what a case decides: nothing of the user's folder may shadow our modules."""
    return {**os.environ, "PYTHONSAFEPATH": "1"}


def absolute_target(target: str) -> str:
    """A user's file by its full path, as a rank may not share our folder; all else as it is."""
    where, _, name = target.rpartition(":")
    return f"{Path(where).resolve()}:{name}" if where.endswith(".py") else target


def absolute_data(data: str) -> str:
    """Data with its full path; the demo's files are made if they are not there yet."""
    kind, equals, path = files.resolve(data).partition("=")
    return f"{kind}={Path(path).resolve()}" if equals else data


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as ``plan.json`` and ``--dry-run --json`` show it."""
    return {
        "protocol": dataclasses.asdict(plan.protocol),
        "cases": [
            {
                "case_id": planned.case.case_id,
                **dataclasses.asdict(planned.case),
                "world_size": planned.case.world_size,
                "skip": planned.skip,
            }
            for planned in plan.cases
        ],
    }
