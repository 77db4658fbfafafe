"""Which rank failed first, and of what: the elastic agent's own report blames a healthy one as often as not."""

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

# What a healthy rank says when a peer is gone: an effect, never the cause.
VICTIM = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "Connection refused"),
    *("remote process exited", "NCCL communicator was aborted", "ncclRemoteError", "Read error", "Write error"),
    *("Timed out waiting", "Watchdog caught collective operation timeout", OTHER_IS_GONE),
)
# What says that the machine was in the way, not the case, as long as no rank has trained.
MACHINE = (
    *("EADDRINUSE", "address already in use", "Address already in use", "Connection reset", "Connection refused"),
    *("DistNetworkError", "DistStoreError", "Connection closed by peer", "Broken pipe"),
)
ENDED_BY_AGENT = -signal.SIGTERM


@dataclass(frozen=True)
class Evidence:
    """What is known of a launch that did not end well, beside what its launcher said.

    ``oom_kills``: how often the kernel killed meanwhile; ``gone``: ranks that had ended of themselves
    before we ended the launch. ``beats`` and ``peak_rss_mib``: what was last seen of ranks. ``nonsense``: by rank,
    what is wrong with what it has written.
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
        """``rank 1 on node1, step 4``: as far as it is known."""
        record, beat = self.records.get(rank), self.beats.get(rank)
        host = f" on {record.host}" if record else ""
        return f"rank {rank}{host}" + (f", step {beat.done + 1}" if beat and beat.planned else "")


def cause(evidence: Evidence) -> tuple[str, str]:
    """(status, reason) of a launch that did not end well, of the rank that failed first of itself."""
    records, outcome = evidence.records, evidence.outcome
    for rank, what in sorted(evidence.nonsense.items()):
        return "crashed", shorten(f"{evidence.name(rank)}: {what}")
    own = {rank: r.failure for rank, r in records.items() if r.failure and not _is_victim(r.failure)}
    killed = {rank: code for rank, code in _own_codes(evidence).items() if code}
    silent = {rank: code for rank, code in killed.items() if rank not in records or not records[rank].failure}
    others = {rank: code for rank, code in silent.items() if code != -signal.SIGABRT}
    if own or others:  # a runtime that aborts because of another rank's failure is a victim as well
        silent = others
    if silent:  # a rank that could not speak died before those that complain of it
        rank = min(
            silent, key=lambda rank: (evidence.gone.index(rank) if rank in evidence.gone else evidence.ranks, rank)
        )
        return _of_exit_code(rank, silent[rank], evidence)
    gone = [rank for rank, r in records.items() if not r.failure and not r.measurement]
    left = [rank for rank in gone if outcome.ok or outcome.exit_codes.get(rank) == 0]
    if left and not own:
        return "crashed", f"{evidence.name(left[0])}: ended with exit code 0 before it was done"
    vanished = [rank for rank in evidence.gone if rank in gone and rank not in outcome.exit_codes]
    if vanished and not own and outcome.stopped:
        return "crashed", f"{evidence.name(vanished[0])}: its process ended without a word"
    failures = own or {rank: r.failure for rank, r in records.items() if r.failure}
    if failures:
        return _of_failure(*min(failures.items(), key=lambda item: item[1].time_ns), evidence)
    missing = [rank for rank in range(evidence.ranks) if rank not in records]
    if missing:
        return "crashed", _reason(f"rank {missing[0]} never started: {outcome.error}", hint_for(outcome.error))
    return "crashed", _reason(outcome.error or "the ranks ended without a word", hint_for(outcome.error))


def is_the_machines(evidence: Evidence) -> bool:
    """Whether a failure looks like the machine's (a port in use, a reset connection at rendezvous), not the case's."""
    if evidence.trained or evidence.outcome.stopped or evidence.nonsense:
        return False
    spoke = {rank for rank, record in evidence.records.items() if record.failure}
    if any(code and rank not in spoke for rank, code in _own_codes(evidence).items()):
        return False  # it ended itself
    said = [r.failure.message for r in evidence.records.values() if r.failure] or [evidence.outcome.error]
    return all(any(mark in message for mark in MACHINE) for message in said)


def last_peaks(evidence: Evidence) -> Row:
    """The largest peaks of memory that were seen of ranks which did not come to their end."""
    failures = [record.failure for record in evidence.records.values() if record.failure]
    allocated = [f.allocated_mib for f in failures if f.allocated_mib]
    resident = [*(f.rss_mib for f in failures if f.rss_mib), *evidence.peak_rss_mib.values()]
    return {
        "life_peak_allocated_mib": max(allocated, default=None),
        "life_peak_rss_mib": max(resident, default=None),
    }


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted; 0 where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _is_victim(failure: Failure) -> bool:
    return any(mark in failure.message for mark in VICTIM)


def _own_codes(evidence: Evidence) -> dict[int, int]:
    """The exit codes of the ranks that nobody has ended."""
    codes = {rank: code for rank, code in evidence.outcome.exit_codes.items() if code != ENDED_BY_AGENT}
    return {rank: c for rank, c in codes.items() if rank in evidence.gone} if evidence.outcome.stopped else codes


def _of_failure(rank: int, failure: Failure, evidence: Evidence) -> tuple[str, str]:
    worker_killed = "is killed by signal: Killed" in failure.message and evidence.oom_kills
    status = "oom" if worker_killed else failure.kind
    said = f"{evidence.name(rank)}: {summary(failure.message)}"
    peaks = [f"{failure.allocated_mib:,.0f} MiB allocated"] if failure.allocated_mib else []
    peaks += [f"{failure.rss_mib:,.0f} MiB resident"] if failure.rss_mib else []
    peak = f"peak before: {', '.join(peaks)}" if status == "oom" and peaks else ""
    return status, _reason(said, peak, hint_for(failure.message))


def _reason(said: str, *notes: str) -> str:
    """Return one line of at most 300 characters: what was said, cut if it is long, and each note in parentheses."""
    after = "".join(f" ({note})" for note in notes if note)
    return shorten(said, 300 - len(after)) + after


def _of_exit_code(rank: int, code: int, evidence: Evidence) -> tuple[str, str]:
    name = evidence.name(rank)
    if code >= 0:
        return "crashed", f"{name}: exited with code {code}"
    signals = {s.value: s.name for s in signal.Signals}
    if code == -signal.SIGKILL and evidence.oom_kills:
        peak = evidence.peak_rss_mib.get(rank)
        after = f" (peak before: at least {peak:,.0f} MiB resident)" if peak else ""
        return "oom", f"{name}: killed by the kernel, out of host memory{after}"
    return "crashed", f"{name}: killed by {signals.get(-code, f'signal {-code}')}"
