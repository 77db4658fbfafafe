"""Which rank of a failed launch failed first, and why."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import pytest

from bench.messages.heartbeat import Beat
from bench.messages.rank_record import Failure, RankRecord
from bench.runner.failure_cause import Evidence, cause, is_machine_failure
from launch import Outcome

VICTIM = "RuntimeError: [gloo/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"


def record(rank: int, message: str | None = None, time_ns: int = 100, kind: str = "crashed") -> RankRecord:
    failure = None if message is None else Failure(kind, message, time_ns)
    return RankRecord(rank=rank, local_rank=rank, host="node1", pid=10 + rank, preloaded=True, failure=failure)


def evidence(
    *records: RankRecord,
    codes: dict[int, int] | None = None,
    ranks: int = 2,
    error: str = "it failed",
    oom_kills: int = 0,
    steps: dict[int, int] | None = None,
    peak_rss_mib: dict[int, float] | None = None,
) -> Evidence:
    beats = {rank: Beat(done, 10, 1, done, 1, "forward") for rank, done in (steps or {}).items()}
    outcome = Outcome(codes or {}, error)
    return Evidence({r.rank: r for r in records}, outcome, ranks, oom_kills, (), beats, peak_rss_mib or {})


def why(*records: RankRecord, **more: Any) -> tuple[str, str]:
    return cause(evidence(*records, **more))


def test_silent_killed_rank_beats_those_that_complain() -> None:
    records = record(0, VICTIM, 50), record(1), record(2, VICTIM, 60)
    assert why(*records, codes={0: 1, 1: -9, 2: 1}, ranks=3) == ("crashed", "rank 1 on node1: killed by SIGKILL")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-signal.SIGABRT, "killed by SIGABRT"),
        (-40, "killed by signal 40"),  # a real-time signal has no name
        (3, "exited with code 3"),
    ],
)
def test_silent_rank_is_known_by_its_exit_code(code: int, reason: str) -> None:
    assert why(record(0, VICTIM), record(1), codes={0: 1, 1: code}) == ("crashed", f"rank 1 on node1: {reason}")


def test_rank_that_died_before_its_first_record_has_no_host() -> None:
    assert why(record(0, VICTIM), codes={0: 1, 1: -11}) == ("crashed", "rank 1: killed by SIGSEGV")


def test_rank_that_the_agent_ended_is_not_to_blame() -> None:
    # rank 1 fails, and the agent sends SIGTERM to rank 0
    records = record(0), record(1, "ValueError: bad weather")
    assert why(*records, codes={0: -15, 1: 1}) == ("crashed", "rank 1 on node1: ValueError: bad weather")


def test_kill_by_the_kernel_is_out_of_memory() -> None:
    records = record(0, VICTIM), record(1)
    reason = "rank 1 on node1: killed by the kernel, out of host memory"
    assert why(*records, codes={0: 1, 1: -9}, oom_kills=1) == ("oom", reason)


def test_other_signals_are_no_matter_of_memory() -> None:
    records = record(0, VICTIM), record(1)
    assert why(*records, codes={1: -11}, oom_kills=1) == ("crashed", "rank 1 on node1: killed by SIGSEGV")


@pytest.mark.parametrize(
    "words",
    [
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Socket closed",
        "NCCL communicator was aborted on rank 0",
        "ncclRemoteError: A call failed possibly due to a network error",
    ],
)
def test_victim_is_never_blamed_where_there_is_a_failure(words: str) -> None:
    victim = record(0, f"RuntimeError: {words}", time_ns=1)  # although it failed first
    assert why(victim, record(1, "ValueError: no", 2), codes={0: 1, 1: 1}) == (
        "crashed",
        "rank 1 on node1: ValueError: no",
    )


def test_earliest_failure_wins() -> None:
    records = record(0, "ValueError: late", 300), record(1, "KeyError: 'early'", 200), record(2, "OSError: later", 400)
    assert why(*records, codes={0: 1, 1: 1, 2: 1}, ranks=3) == ("crashed", "rank 1 on node1: KeyError: 'early'")


def test_earliest_victim_is_told_where_there_is_nothing_else() -> None:
    records = record(0, "RuntimeError: Broken pipe", 300), record(1, "RuntimeError: Socket closed", 200)
    assert why(*records, codes={0: 1, 1: 1}) == ("crashed", "rank 1 on node1: RuntimeError: Socket closed")


def test_rank_that_ran_out_of_device_memory() -> None:
    failed = record(1, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", kind="oom")
    assert why(record(0, VICTIM), failed, codes={0: 1, 1: 1}) == (
        "oom",
        "rank 1 on node1: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    )


@pytest.mark.parametrize(("oom_kills", "status"), [(1, "oom"), (0, "crashed")])
def test_loader_worker_killed_by_the_kernel(oom_kills: int, status: str) -> None:
    words = "RuntimeError: DataLoader worker (pid 77) is killed by signal: Killed. "
    assert why(record(0, words), record(1), codes={0: 1, 1: -15}, oom_kills=oom_kills) == (
        status,
        "rank 0 on node1: RuntimeError: DataLoader worker (pid 77) is killed by signal: Killed.",
    )


def test_rank_that_never_started() -> None:
    assert why(record(0), error="no port\nleft") == ("crashed", "rank 1 never started: no port left")


def test_last_word_of_the_launcher_where_the_ranks_said_nothing() -> None:
    assert why(record(0), record(1), error="it broke") == ("crashed", "it broke")
    assert why(record(0), record(1), codes={0: -15}, error="") == (
        "crashed",
        "the ranks ended without an error message",
    )


def test_long_words_are_shortened_to_one_line() -> None:
    status, reason = why(record(0, "ValueError: " + "x" * 400), record(1))
    # 300 characters: "rank 0 on node1: ValueError: " are 29, the ellipsis is 1
    assert (status, reason) == ("crashed", "rank 0 on node1: ValueError: " + "x" * 270 + "…")


def test_hint_for_a_known_cause_follows_the_reason() -> None:
    long = "RuntimeError: " + "x" * 400 + " Too many open files"
    reason = why(record(0, long), record(1))[1]
    hint = " (hint: raise the limit with ulimit -n, or lower --num-workers)"
    assert reason.endswith("x…" + hint)
    assert len(reason) == 300
    assert why(record(0), error="[Errno 98] Address already in use")[1] == (
        "rank 1 never started: [Errno 98] Address already in use (hint: another process uses the port; end it, or run again)"
    )


def test_rank_that_its_runtime_aborted_is_a_victim_of_a_real_failure() -> None:
    out_of_memory = record(0, "OutOfMemoryError: CUDA out of memory", kind="oom")
    seen = why(out_of_memory, record(1), codes={0: 1, 1: -signal.SIGABRT})
    assert seen == ("oom", "rank 0 on node1: OutOfMemoryError: CUDA out of memory")


def test_step_is_told_where_a_rank_has_begun_one() -> None:
    records = record(0, VICTIM, 50), record(1)
    assert why(*records, codes={0: 1, 1: -9}, steps={1: 3})[1] == "rank 1 on node1, step 4: killed by SIGKILL"
    assert why(record(1, "ValueError: no"), steps={1: 0})[1] == "rank 1 on node1, step 1: ValueError: no"


def test_rank_that_left_without_a_word_is_to_blame_for_those_that_miss_it() -> None:
    reason = "rank 1 on node1: ended with exit code 0 before it was done"
    assert why(record(0, VICTIM), record(1), codes={0: 1, 1: 0}) == ("crashed", reason)
    assert why(record(0), record(1), error="")[1] == reason.replace("rank 1", "rank 0")  # all ended with exit code 0


def test_healthy_rank_that_the_agent_ended_did_not_leave() -> None:
    # rank 0 lost its connection, and the agent ended rank 1, whose exit code is unknown
    assert why(record(0, VICTIM), record(1), codes={0: 1}) == (
        "crashed",
        "rank 0 on node1: RuntimeError: [gloo/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242",
    )


def test_peer_that_waited_in_vain_is_a_victim() -> None:
    waited = record(0, "RuntimeError: Timed out waiting 5000ms for recv operation to complete", 1)
    assert why(waited, record(1, "ValueError: no", 2), codes={0: 1, 1: 1})[1] == "rank 1 on node1: ValueError: no"


def test_peaks_are_told_where_memory_ran_out() -> None:
    failure = Failure("oom", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", 1, 140_123.4, 2_345.6)
    failed = dataclasses.replace(record(1), failure=failure)
    assert why(record(0, VICTIM), failed, codes={0: 1, 1: 1}) == (
        "oom",
        "rank 1 on node1: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB "
        "(peak before: 140,123 MiB allocated, 2,346 MiB resident)",
    )
    killed = why(record(0, VICTIM), record(1), codes={0: 1, 1: -9}, oom_kills=1, peak_rss_mib={1: 1500.2})
    assert killed == (
        "oom",
        "rank 1 on node1: killed by the kernel, out of host memory (peak before: at least 1,500 MiB resident)",
    )


IN_USE = "DistNetworkError: The server socket has failed to listen (code: -98, name: EADDRINUSE)"
RESET = "RuntimeError: [gloo/tcp/pair.cc:534] Connection reset by peer"


@pytest.mark.parametrize(
    ("told", "the_machines"),
    [
        (evidence(error=IN_USE), True),
        (evidence(record(0, RESET), record(1, RESET), codes={0: 1, 1: 1}), True),
        (evidence(record(0, RESET), record(1), codes={0: 1, 1: -15}), True),  # ended by the agent
        (evidence(record(0, RESET), record(1, RESET), codes={0: 1}, steps={0: 0}), False),  # a rank had begun to train
        (evidence(record(0, RESET), record(1, "ValueError: no"), codes={0: 1, 1: 1}), False),
        (evidence(record(0, RESET), record(1), codes={0: 1, 1: -11}), False),
        (evidence(record(0, RESET), record(1), codes={0: 1, 1: 3}), False),  # rank 1 ended by itself
        (evidence(record(0), record(1), error="torchrun ended with exit code 1"), False),
    ],
)
def test_only_failures_of_the_machine_are_tried_again(told: Evidence, the_machines: bool) -> None:
    assert is_machine_failure(told) is the_machines


def test_what_we_ended_ourselves_is_not_to_blame() -> None:
    """Rank 0 failed; rank 1 was stopped by a signal and did not end, so that the watchdog killed it."""
    failed, stopped = record(0, "ValueError: no"), record(1)
    outcome = Outcome({0: 1, 1: -9}, "rank 0 ended with exit code 1", stopped=True)
    told = Evidence({0: failed, 1: stopped}, outcome, 2, gone=(0,))
    assert cause(told) == ("crashed", "rank 0 on node1: ValueError: no")
    told = Evidence({0: record(0), 1: stopped}, outcome, 2, gone=(0,))
    assert cause(told) == ("crashed", "rank 0 on node1: exited with code 1")


def test_rank_that_was_aborted_is_a_victim_of_one_that_was_killed() -> None:
    records = record(0), record(1), record(2)
    seen = why(*records, codes={0: -6, 1: -15, 2: -9}, ranks=3)
    assert seen == ("crashed", "rank 2 on node1: killed by SIGKILL")


def test_the_first_to_go_is_to_blame() -> None:
    records = {rank: record(rank) for rank in range(2)}
    told = Evidence(records, Outcome({0: -11, 1: -9}, "it failed"), 2, gone=(1, 0))
    assert cause(told) == ("crashed", "rank 1 on node1: killed by SIGKILL")


def test_rank_that_vanished_beside_one_that_would_not_end() -> None:
    """torchrun was ended before it could report any exit code."""
    records = {0: record(0, VICTIM), 1: record(1), 2: record(2)}
    told = Evidence(records, Outcome({}, stopped=True), 3, gone=(2, 0))
    assert cause(told) == ("crashed", "rank 2 on node1: its process ended without an error message")
