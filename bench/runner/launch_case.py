"""One launch of a case: starts its ranks, watches them and judges their end."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import interrupts
from bench.errors import BenchError, MissingWorkloadError, UsageError
from bench.machine.gpus import Machine
from bench.messages.heartbeat import Beat
from bench.messages.matmul_peak import FILE as MATMUL_FILE
from bench.messages.matmul_peak import MatmulPeak
from bench.messages.rank_record import RankRecord, disagreement
from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.plan.description import Description
from bench.plan.plan import Protocol
from bench.plan.strategies import STRATEGIES
from bench.runner.comms_launched import CommsJudge
from bench.runner.failure_cause import Evidence, cause, is_machine_failure
from bench.runner.launch_request import LaunchRequests
from bench.runner.launch_role import ALONE, Role
from bench.runner.launched import End, Judge, Launched
from bench.runner.node_sampler import NodeSampler, NodeSamples
from bench.runner.rank_site import Site
from bench.runner.watchdog import Watchdog
from bench.untrusted.rank_files import NonsenseError
from launch import LAUNCHERS, Elsewhere, Launcher, LaunchError, Outcome, Prepared, Request
from workloads import WORKLOADS

MATMUL_SECONDS = 120.0  # limit of the launch that times matrix products; they take 3 s, the start may take longer
ATTEMPTS = 2  # if the first one failed because of the machine
# Modules that ranks import: the fork server imports them once. torch._dynamo is imported by the first optimizer.
PRELOAD = (
    *("torch._dynamo", "torch.distributed.fsdp", "torchvision"),
    *("bench.rank.main", "bench.rank.describe", "bench.rank.script.main", "bench.rank.script.ending"),
    *("bench.rank.comms.main", "bench.rank.matmul_peak"),
    *(f"bench.strategies.{name}" for name in STRATEGIES),
    *sorted({entry.target.partition(":")[0] for entry in WORKLOADS.values()}),
)


# Makes a launcher of several nodes of this node's, whose ranks have some variables.
OverNodes = Callable[[Launcher, Mapping[str, str]], Launcher]


def here_alone(launcher: Launcher, variables: Mapping[str, str]) -> Launcher:
    """Return the launcher itself: there is one node."""
    return launcher


class CaseLauncher:
    """Launches cases at one site, one after the other, and describes their workloads."""

    def __init__(
        self,
        machine: Machine,
        variables: Mapping[str, str],
        log: Path,
        protocol: Protocol,
        warn: Callable[[str], None],
        tell: Callable[[Beat], None],
        site: Site | None = None,
        over_nodes: OverNodes = here_alone,
    ) -> None:
        """Prepare a launcher.

        ``variables`` is the environment of every rank, and ``log`` gets the output of the launcher itself. ``tell`` is
        called with the progress of launches. ``over_nodes`` makes the launcher of this node one of several nodes.
        """
        self.machine, self.protocol, self.warn, self.tell, self._log = machine, protocol, warn, tell, log
        self._site = site or Site()
        variables = {**variables, **self._site.variables(variables)}
        self._requests = LaunchRequests(self._site, variables)
        here = make_launcher(protocol.launcher, variables, log, self._site.python, self._site.folder())
        self._launcher = over_nodes(here, variables)

    def close(self) -> None:
        """End the launch servers."""
        self._launcher.close()

    def describe(self, case: Case, new_folder: Callable[[], Path]) -> Description:
        """Return what torch knows of a workload. Raise BenchError if the workload is invalid or cannot be described."""
        for attempt in range(1, ATTEMPTS + 1):
            folder = new_folder()  # the second attempt must not read records of the first
            request = self._requests.describing(case, folder, self.protocol)
            evidence, verdict = self._one_rank(case, request, self.protocol)
            if evidence is None:
                return _description(case, folder)
            words = _words(evidence, verdict)
            failed = any(record.failure for record in evidence.records.values())
            if not failed and (known := Description.found(folder)):  # its process ended while it counted FLOPs
                return dataclasses.replace(known, flops_note=f"the process that counted them ended: {words}")
            if attempt == ATTEMPTS or not is_machine_failure(evidence):
                break
        assert evidence is not None
        log = next(filter(Path.exists, (folder / "rank0.log", folder / "torchrun.log")), self._log)
        kind = UsageError if case.spec.entry is None and failed else BenchError
        if kind is UsageError and any(map(_says_missing, evidence.records.values())):
            kind = MissingWorkloadError
        raise kind(f"--workload {case.workload}: {words}", hint=f"See {log}")

    def matmul_peak(self, case: Case, folder: Path) -> MatmulPeak:
        """Return the fastest matrix products of one rank in the case's precision. Raise BenchError if it fails."""
        protocol = dataclasses.replace(self.protocol, timeout=MATMUL_SECONDS, hang_timeout=MATMUL_SECONDS)
        evidence, verdict = self._one_rank(case, self._requests.multiplying(case, folder, protocol), protocol)
        if evidence is not None:
            raise BenchError(_words(evidence, verdict))
        try:
            return MatmulPeak.read(folder)
        except NonsenseError as error:
            raise BenchError(f"the rank's {folder / MATMUL_FILE} {error}") from None

    def _one_rank(self, case: Case, request: Request, protocol: Protocol) -> tuple[Evidence | None, str]:
        """Launch one rank that trains nothing; return what is known of its failure, if it failed, and the verdict.

        Raise BenchError if it cannot be launched.
        """
        try:
            prepared = self._prepare(request, ALONE)
            spec = self._requests.spec(case, request, prepared.scratch, protocol)
            watchdog = self._watchdog(request, spec, protocol, ALONE)
            outcome = prepared.launch(lambda: ALONE.ends(watchdog))
        except LaunchError as error:
            interrupts.check()
            raise BenchError(str(error)) from None
        interrupts.check()
        watchdog.look(last=True)
        done = outcome.ok or watchdog.done
        return (None if done else _evidence(request, outcome, watchdog, 0)), watchdog.verdict

    def launch(
        self, case: Case, description: Description, folder: Path, protocol: Protocol, role: Role = ALONE
    ) -> Launched:
        """Launch once, and return how it ended."""
        request, spec = self._requests.measuring(case, folder, protocol), None
        try:
            prepared = self._prepare(request, role)
            nodes = prepared.elsewhere.nodes if prepared.elsewhere else {}
            spec = self._requests.spec(
                case, request, prepared.scratch, protocol, role.turns, description.methods, nodes
            )
            end = self._watched(case, prepared, request, spec, role, protocol)
        except LaunchError as error:
            return Launched(role.stopped() or {"status": "crashed", "reason": str(error)})
        finally:
            if spec is not None and spec.compile_cache:
                shutil.rmtree(spec.compile_cache, ignore_errors=True)
            if spec is not None and spec.script is not None:
                shutil.rmtree(spec.script.folder, ignore_errors=True)
            if spec is not None and spec.save_folder:  # if ranks could not
                shutil.rmtree(spec.save_folder, ignore_errors=True)
        kind = CommsJudge if case.is_comms else Judge
        judge = kind(case, description, self._site, self.warn, protocol.samples_per_step, protocol.save_interval)
        launched = judge.launched(end)
        if launched.measured:
            _note_host_memory(launched, end.peaks_mib, case.processes)
            if protocol.max_seconds and "window_steps" in launched.row:
                launched.row["window_cut"] = launched.row["window_steps"] < protocol.steps
            if protocol.launcher == "server" and not all(r.preloaded for r in end.records.values()):
                self.warn(
                    "the fork server has not preloaded the ranks' modules: launches are slower than they could be"
                )
        return launched

    def _watched(
        self, case: Case, prepared: Prepared, request: Request, spec: Spec, role: Role, protocol: Protocol
    ) -> End:
        """Launch and watch until the end, and return it."""
        far = prepared.elsewhere
        watchdog = self._watchdog(request, spec, protocol, role, far)
        near = [rank for rank in range(case.processes) if not (far and rank in far.nodes)]
        alone = role.is_alone and not far  # samples in the window would hold up ranks on other nodes as well
        sampler = NodeSampler(self.machine, case, request.log, Path(spec.scratch), near, alone)
        with sampler:
            requested_at_ns = time.time_ns()
            outcome = prepared.launch(lambda: role.ends(watchdog))
        watchdog.look(last=True)
        samples: dict[int, NodeSamples] = {0: sampler.samples(), **(far.samples() if far else {})}
        for note in [one.note for one in samples.values() if one.note]:
            self.warn(f"{note}; columns of the devices stay empty")
        evidence = _evidence(request, outcome, watchdog, sum(one.oom_kills for one in samples.values()))
        nodes, facts = (far.nodes, far.facts) if far else ({}, {})
        return End(evidence, watchdog.verdict, samples, requested_at_ns, role, nodes, facts)

    def _prepare(self, request: Request, role: Role) -> Prepared:
        return self._launcher.prepare(request, lambda: bool(role.stopped()))

    def _watchdog(
        self, request: Request, spec: Spec, protocol: Protocol, role: Role, elsewhere: Elsewhere | None = None
    ) -> Watchdog:
        scratch, hang_s, timeout_s = Path(spec.scratch), protocol.hang_timeout, protocol.timeout
        turn = role.others_turn
        return Watchdog(request.log, scratch, request.ranks, hang_s, timeout_s, self.tell, turn, elsewhere)


def _words(evidence: Evidence, verdict: str) -> str:
    """Return why a launch of one rank failed; ``verdict``: why it was ended from outside, if it was."""
    reason = verdict or cause(evidence)[1]
    return reason.partition(": ")[2] if reason.startswith("rank 0") else reason


def _says_missing(record: RankRecord) -> bool:
    """Return whether a rank found no workload of that name (``workloads.base``, which is not imported here)."""
    return record.failure is not None and record.failure.message.startswith("MissingWorkloadError: ")


def _description(case: Case, folder: Path) -> Description:
    try:
        return Description.read(folder)
    except NonsenseError as error:
        raise BenchError(f"--workload {case.workload}: its {folder / 'description.json'} {error}") from None


def _evidence(request: Request, outcome: Outcome, watchdog: Watchdog, kills: int) -> Evidence:
    records, nonsense = RankRecord.sound_and_odd(request.log, request.ranks)
    nonsense |= {} if nonsense else disagreement(records)
    for rank in nonsense.keys() & records.keys():
        records[rank] = dataclasses.replace(records[rank], measurement=None)
    for rank, failure in watchdog.last_words.items():
        record = records.get(rank) or RankRecord(rank, rank, socket.gethostname(), 0, True)
        if not record.failure and not record.is_complete:
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


def _note_host_memory(launched: Launched, peaks_mib: Mapping[int, float], ranks: int) -> None:
    """Add the host memory of each rank to its row, and the largest to the row of the launch if all are known."""
    for row in launched.others["ranks.csv"]:
        row["peak_host_mib"] = peaks_mib.get(row["rank"])
    if len(peaks_mib) == ranks:
        launched.row["peak_host_mib"] = max(peaks_mib.values())


def make_launcher(
    name: str, variables: Mapping[str, str], log: Path, python: str = sys.executable, cwd: Path | None = None
) -> Launcher:
    """Return the launcher of LAUNCHERS that ``--launcher`` names."""
    module, _, class_name = LAUNCHERS[name][1].partition(":")
    launcher: Launcher = getattr(importlib.import_module(module), class_name)(
        variables, PRELOAD, log, python=python, cwd=cwd
    )
    return launcher
