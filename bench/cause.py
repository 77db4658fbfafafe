"""Which rank failed first, and of what: the elastic agent's own report blames a healthy one as often as not."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from bench.errors import shorten
from bench.messages import Failure, RankRecord
from launch import Outcome

# What a healthy rank says when a peer is gone: an effect, never the cause.
VICTIM = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed"),
    *("remote process exited", "NCCL communicator was aborted", "ncclRemoteError", "Read error", "Write error"),
)
ENDED_BY_AGENT = -signal.SIGTERM


def cause(
    records: Mapping[int, RankRecord], outcome: Outcome, ranks: int, timeout_s: float, oom_kills: int
) -> tuple[str, str]:
    """(status, reason) of a launch that did not end well. ``oom_kills``: how often the kernel killed meanwhile."""
    if outcome.timed_out:
        return "timeout", f"still running after {timeout_s:g} s (--timeout)"
    own = {rank: r.failure for rank, r in records.items() if r.failure and not _is_victim(r.failure)}
    killed = {rank: code for rank, code in outcome.exit_codes.items() if code and code != ENDED_BY_AGENT}
    silent = {rank: code for rank, code in killed.items() if rank not in records or not records[rank].failure}
    if own:  # a runtime that aborts because of another rank's failure is a victim as well
        silent = {rank: code for rank, code in silent.items() if code != -signal.SIGABRT}
    if silent:  # a rank that could not speak died before those that complain of it
        rank, code = min(silent.items())
        return _of_exit_code(rank, code, records.get(rank), oom_kills)
    failures = own or {rank: r.failure for rank, r in records.items() if r.failure}
    if failures:
        rank, failure = min(failures.items(), key=lambda item: item[1].time_ns)
        worker_killed = "is killed by signal: Killed" in failure.message and oom_kills
        return "oom" if worker_killed else failure.kind, shorten(f"rank {rank}: {last_line(failure.message)}")
    missing = [rank for rank in range(ranks) if rank not in records]
    if missing:
        return "crashed", shorten(f"rank {missing[0]} never started: {outcome.error}")
    return "crashed", shorten(outcome.error or "the ranks ended without a word")


def last_line(text: str) -> str:
    """The last line that says something, of an exception's message: its type if all else is empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return text
    kind = lines[0].partition(":")[0]
    return lines[0] if len(lines) == 1 else f"{kind}: {lines[-1]}"


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted; 0 where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _is_victim(failure: Failure) -> bool:
    return any(mark in failure.message for mark in VICTIM)


def _of_exit_code(rank: int, code: int, record: RankRecord | None, oom_kills: int) -> tuple[str, str]:
    host = f" on {record.host}" if record else ""
    if code >= 0:
        return "crashed", f"rank {rank}{host} exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code == -signal.SIGKILL and oom_kills:
        return "oom", f"rank {rank}{host} was killed by the kernel: out of host memory"
    return "crashed", f"rank {rank}{host} was killed by {name}"
