"""Which rank of a failed launch failed first, and why: elastic's own report often names a healthy rank."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import shorten
from bench.messages.heartbeat import Beat
from bench.messages.rank_record import OTHER_IS_GONE, Failure, RankRecord
from bench.runner.error_summary import hint_for, summary
from bench.store.columns import Row
from launch import Outcome

# Messages of a healthy rank whose peer has ended: an effect, never the cause.
VICTIM = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "Connection refused"),
    *("remote process exited", "NCCL communicator was aborted", "ncclRemoteError", "Read error", "Write error"),
    *("Timed out waiting", "Watchdog caught collective operation timeout", OTHER_IS_GONE),
)
# Messages that mean a failure of the machine rather than the case, as long as no rank has trained.
MACHINE = (
    *("EADDRINUSE", "address already in use", "Address already in use", "Connection reset", "Connection refused"),
    *("DistNetworkError", "DistStoreError", "Connection closed by peer", "Broken pipe"),
)
ENDED_BY_AGENT = -signal.SIGTERM


@dataclass(frozen=True)
class Evidence:
    """What is known of a failed launch, beside what its launcher reported.

    ``oom_kills`` is how many processes the kernel killed for lack of memory meanwhile; ``gone`` has the ranks that
    ended before the launch was ended from outside, in order. ``beats`` and ``peak_rss_mib`` have the last values of
    each rank. ``nonsense`` says by rank what is wrong with the files that it wrote.
    """

    records: Mapping[int, RankRecord]
    outcome: Outcome
    ranks: int
    oom_kills: int = 0
    gone: Sequence[int] = ()
    beats: Mapping[int, Beat] = field(default_factory=dict)
    peak_rss_mib: Mapping[int, float] = field(default_factory=dict)
    nonsense: Mapping[int, str] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether a rank has begun its first step."""
        return any(beat.planned for beat in self.beats.values())

    def name(self, rank: int) -> str:
        """Return ``rank 1 on node1, step 4``, as far as it is known."""
        record, beat = self.records.get(rank), self.beats.get(rank)
        host = f" on {record.host}" if record else ""
        return f"rank {rank}{host}" + (f", step {beat.done + 1}" if beat and beat.planned else "")


def cause(evidence: Evidence) -> tuple[str, str]:
    """Return (status, reason) of a failed launch: those of the rank whose failure was the first cause."""
    records, outcome = evidence.records, evidence.outcome
    if outcome.lost:  # what ranks say of each other follows from it
        return "crashed", outcome.lost
    for rank, what in sorted(evidence.nonsense.items()):
        return "crashed", shorten(f"{evidence.name(rank)}: {what}")
    own = {rank: r.failure for rank, r in records.items() if r.failure and not _is_victim(r.failure)}
    killed = {rank: code for rank, code in _own_codes(evidence).items() if code}
    silent = {rank: code for rank, code in killed.items() if rank not in records or not records[rank].failure}
    others = {rank: code for rank, code in silent.items() if code != -signal.SIGABRT}
    if own or others:  # an abort because of another rank's failure is an effect as well
        silent = others
    if silent:  # a rank that was killed ended before those that report an error because of it
        rank = min(
            silent, key=lambda rank: (evidence.gone.index(rank) if rank in evidence.gone else evidence.ranks, rank)
        )
        return _exit_code_reason(rank, silent[rank], evidence)
    gone = [rank for rank, r in records.items() if not r.failure and not r.is_complete]
    left = [rank for rank in gone if outcome.ok or outcome.exit_codes.get(rank) == 0]
    if left and not own:
        return "crashed", f"{evidence.name(left[0])}: ended with exit code 0 before it was done"
    vanished = [rank for rank in evidence.gone if rank in gone and rank not in outcome.exit_codes]
    if vanished and not own and outcome.stopped:
        return "crashed", f"{evidence.name(vanished[0])}: its process ended without an error message"
    failures = own or {rank: r.failure for rank, r in records.items() if r.failure}
    if failures:
        return _failure_reason(*min(failures.items(), key=lambda item: item[1].time_ns), evidence)
    missing = [rank for rank in range(evidence.ranks) if rank not in records]
    if missing:
        return "crashed", _reason(f"rank {missing[0]} never started: {outcome.error}", hint_for(outcome.error))
    return "crashed", _reason(outcome.error or "the ranks ended without an error message", hint_for(outcome.error))


def is_machine_failure(evidence: Evidence) -> bool:
    """Return whether a failure is likely the machine's, as a port in use or a connection reset at rendezvous."""
    if evidence.trained or evidence.outcome.stopped or evidence.nonsense:
        return False
    spoke = {rank for rank, record in evidence.records.items() if record.failure}
    if any(code and rank not in spoke for rank, code in _own_codes(evidence).items()):
        return False  # it ended by itself
    said = [r.failure.message for r in evidence.records.values() if r.failure] or [evidence.outcome.error]
    return all(any(mark in message for mark in MACHINE) for message in said)


def last_peaks(evidence: Evidence) -> Row:
    """Return the largest peaks of memory of the ranks that did not finish."""
    failures = [record.failure for record in evidence.records.values() if record.failure]
    allocated = [f.allocated_mib for f in failures if f.allocated_mib]
    resident = [*(f.rss_mib for f in failures if f.rss_mib), *evidence.peak_rss_mib.values()]
    return {
        "life_peak_allocated_mib": max(allocated, default=None),
        "life_peak_rss_mib": max(resident, default=None),
    }


def oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 if unknown."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _is_victim(failure: Failure) -> bool:
    return any(mark in failure.message for mark in VICTIM)


def _own_codes(evidence: Evidence) -> dict[int, int]:
    """Return the exit codes of the ranks that were not ended from outside."""
    codes = {rank: code for rank, code in evidence.outcome.exit_codes.items() if code != ENDED_BY_AGENT}
    return {rank: c for rank, c in codes.items() if rank in evidence.gone} if evidence.outcome.stopped else codes


def _failure_reason(rank: int, failure: Failure, evidence: Evidence) -> tuple[str, str]:
    worker_killed = "is killed by signal: Killed" in failure.message and evidence.oom_kills
    status = "oom" if worker_killed else failure.kind
    said = f"{evidence.name(rank)}: {summary(failure.message)}"
    peaks = [f"{failure.allocated_mib:,.0f} MiB allocated"] if failure.allocated_mib else []
    peaks += [f"{failure.rss_mib:,.0f} MiB resident"] if failure.rss_mib else []
    peak = f"peak before: {', '.join(peaks)}" if status == "oom" and peaks else ""
    return status, _reason(said, peak, hint_for(failure.message))


def _reason(said: str, *notes: str) -> str:
    """Return one line of at most 300 characters: ``said``, shortened if necessary, and each note in parentheses."""
    after = "".join(f" ({note})" for note in notes if note)
    return shorten(said, 300 - len(after)) + after


def _exit_code_reason(rank: int, code: int, evidence: Evidence) -> tuple[str, str]:
    name = evidence.name(rank)
    if code >= 0:
        return "crashed", f"{name}: exited with code {code}"
    signals = {s.value: s.name for s in signal.Signals}
    if code == -signal.SIGKILL and evidence.oom_kills:
        peak = evidence.peak_rss_mib.get(rank)
        after = f" (peak before: at least {peak:,.0f} MiB resident)" if peak else ""
        return "oom", f"{name}: killed by the kernel, out of host memory{after}"
    return "crashed", f"{name}: killed by {signals.get(-code, f'signal {-code}')}"
