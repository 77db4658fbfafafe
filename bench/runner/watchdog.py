"""Watches the progress, processes and logs of a launch from outside, and decides whether it has to be ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.messages.heartbeat import Beat, Heartbeat
from bench.messages.rank_record import PIPELINE_PARTS, Failure, RankRecord
from bench.runner import stack_traces
from bench.untrusted.rank_files import NonsenseError
from launch import Elsewhere

SLOWEST_STEPS = 10  # a launch may make no progress for this many times its slowest step so far
STARTUP = 5  # before its first step a launch may take this many times the limit: it loads and places a model
FAILED_PATIENCE_S = 3.0  # how long the other ranks may take to notice that a rank has failed
DONE_PATIENCE_S = 5.0  # how long the processes may take to end after their ranks have measured everything
LOG_LIMIT = 16 << 20  # kept from the beginning of a log, in bytes
LOG_TAIL = 1 << 20  # kept from its end
CUT = b"\n[stepbench: this log grew too long; %d bytes were cut out here]\n"
ORDER = (
    "starting",
    "building",
    "sync",
    "turn",
    *PIPELINE_PARTS,
    "ending",
    "saving",
    "done",
    "failed",
)  # at the same step, ranks in an earlier stage are behind those in a later one
WORDS = {
    "starting": "starting",
    "building": "building the model",
    "data_wait": "waiting for a batch",
    "copy": "copying a batch",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "bubble": "waiting for another stage of the pipeline",
    "optimizer": "in the optimizer",
    "sync": "waiting for the device or for other ranks",
    "turn": "waiting for the other side of the duet",
    "ending": "ending",
    "saving": "saving its state",
}


class Watchdog:
    """Watches one launch. ``verdict`` says why it had to be ended; it is empty if the ranks will say so themselves.

    ``beats`` and ``peak_rss_mib`` have the last values of each rank, ``last_words`` the failures that ranks reported,
    even if they could not write a record, ``gone`` the ranks whose process has ended, and ``nonsense`` what is wrong
    with files that ranks have written; the launch is ended if that is still so at the next look. ``others_turn``
    returns whether the other side of a duet is running: ranks may wait that long, and this time does not count towards
    time-outs. ``elsewhere`` tells of the processes of ranks on other nodes.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        ranks: int,
        hang_s: float,
        timeout_s: float,
        tell: Callable[[Beat], None],
        others_turn: Callable[[], bool] = lambda: False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.folder, self.scratch, self.ranks, self.tell, self.others_turn = folder, scratch, ranks, tell, others_turn
        self.hang_s, self.timeout_s = hang_s, timeout_s
        self.elsewhere = elsewhere
        self.verdict = ""
        self.beats: dict[int, Beat] = {}
        self.peak_rss_mib: dict[int, float] = {}
        self.gone: list[int] = []  # in the order in which they ended
        self._pids: dict[int, int] = {}
        self._hosts: dict[int, str] = {}
        self._begun = self._moved = self._looked = time.monotonic()
        self._slowest_s = 0.0
        self.last_words: dict[int, Failure] = {}
        self.nonsense: dict[int, str] = {}
        self._nonsense_before: dict[int, str] = {}
        self._failed_since: float | None = None
        self._done_since: float | None = None
        self._lost: dict[Path, int] = {}

    def __call__(self) -> bool:
        """Look once, and return whether the launch has to be ended."""
        self.look()
        now = time.monotonic()
        if self.nonsense.keys() & self._nonsense_before.keys():
            return True
        if self._done_since is not None:
            return now - self._done_since > DONE_PATIENCE_S
        if self._failed_since is not None:
            return now - self._failed_since > FAILED_PATIENCE_S
        if now - self._begun > self.timeout_s:
            self.verdict = f"still running after {self.timeout_s:g} s (--timeout)"
        elif now - self._moved > self.limit_s:
            self.verdict = f"no progress for {now - self._moved:.0f} s (--hang-timeout {self.hang_s:g})"
        if self.verdict:
            self.verdict = f"{self.verdict}: {self._where()}"
        return bool(self.verdict)

    def _cut_logs(self) -> None:
        for log in self.folder.glob("*.log"):
            self._lost[log] = cut(log, self._lost.get(log, 0))

    @property
    def limit_s(self) -> float:
        """How long the launch may now go without progress."""
        if not self._all_stepped:
            return STARTUP * self.hang_s
        if any(beat.stage == "saving" for beat in self.beats.values()):
            return self.timeout_s  # a disk may be slow
        slowest_s = max(self._slowest_s, *(beat.step_ns / 1e9 for beat in self.beats.values()))
        # A host may have enqueued all steps of a window, and wait for its device.
        queued = max((beat.done - beat.synced for beat in self.beats.values() if beat.stage == "sync"), default=0)
        return max(self.hang_s, (SLOWEST_STEPS + queued) * slowest_s)

    @property
    def _all_stepped(self) -> bool:
        return len(self.beats) == self.ranks and all(beat.synced for beat in self.beats.values())

    @property
    def waiting(self) -> bool:
        """Whether all ranks wait for the other side of a duet."""
        return self._all_in("turn")

    @property
    def ending(self) -> bool:
        """Whether all ranks have measured everything."""
        return self._all_in("ending", "saving", "done")

    @property
    def done(self) -> bool:
        """Whether all ranks have written all their records."""
        return self._all_in("done")

    def _all_in(self, *stages: str) -> bool:
        return len(self.beats) == self.ranks and all(beat.stage in stages for beat in self.beats.values())

    def look(self, last: bool = False) -> None:
        """Note the progress and memory of ranks, and keep their logs short. ``last`` says that the launch has ended."""
        now = time.monotonic()
        self._cut_logs()
        self._nonsense_before, self.nonsense = self.nonsense, {}
        for rank in range(self.ranks):
            self._read_pid(rank)
            beat = self._beat(rank)
            if beat is None:
                continue
            before = self.beats.get(rank, Beat())
            if before[:2] != beat[:2] or before.synced != beat.synced or (not beat.synced and before != beat):
                if self._all_stepped:
                    self._slowest_s = max(self._slowest_s, now - self._moved)
                self._moved = now
            if not last and rank not in self.gone and not self._alive(rank):
                self.gone.append(rank)
                beat = self._beat(rank) or beat  # its last message came before its end
            self.beats[rank] = beat
            if beat.stage == "failed" or (rank in self.gone and beat.stage != "done"):
                self._failed_since = self._failed_since or now
        if self.done:
            self._done_since = self._done_since or now
        if self.waiting and self.others_turn():
            self._moved = now
            self._begun += now - self._looked
        self._looked = now
        if 0 in self.beats:
            self.tell(self.beats[0])

    def _read_pid(self, rank: int) -> None:
        if rank not in self._pids:
            try:
                if record := RankRecord.read(self.folder, rank):
                    self._pids[rank], self._hosts[rank] = record.pid, record.host
            except NonsenseError as error:
                self.nonsense[rank] = f"its record rank{rank}.json {error}"

    def _beat(self, rank: int) -> Beat | None:
        try:
            beat = Heartbeat.read(self.scratch, self.folder.name, rank)
            said = beat and beat.stage == "failed" and Heartbeat.last_words(self.scratch, self.folder.name, rank)
            if said:
                self.last_words[rank] = said
            return beat
        except NonsenseError as error:
            self.nonsense[rank] = f"its heartbeat {error}"
            return None

    def _alive(self, rank: int) -> bool:
        """Return whether the rank's process exists, and note its peak memory. True before its id is known."""
        pid = self._pids.get(rank)
        if pid is None:
            return True
        status = self._status(rank)
        if "VmHWM" in status:
            self.peak_rss_mib[rank] = int(status["VmHWM"].split()[0]) / 1024
        return status.get("State", "?")[0] not in "ZX"

    def _status(self, rank: int) -> Mapping[str, str]:
        """Return the status of the rank's process, on whichever node it is."""
        if self.elsewhere and rank in self.elsewhere.nodes:
            return self.elsewhere.status(rank)
        return stack_traces.status(self._pids[rank])

    def _where(self) -> str:
        """Return where the ranks are, in words, those behind first. Their stacks are then in their logs."""
        stopped = [rank for rank in self._pids if self._status(rank).get("State", "")[:1] in ("T", "t")]
        far = self.elsewhere.nodes if self.elsewhere else {}
        near = {rank: pid for rank, pid in self._pids.items() if rank not in far}
        places = stack_traces.take(near, {rank: self.folder / f"rank{rank}.log" for rank in near})
        places |= self.elsewhere.places() if self.elsewhere else {}
        return where(self.ranks, self.beats, places, stopped, self._hosts)


def where(
    ranks: int, beats: Mapping[int, Beat], places: Mapping[int, str], stopped: list[int], hosts: Mapping[int, str]
) -> str:
    """Return which ranks are behind the others, for which the others wait, and where they are."""
    absent = [rank for rank in range(ranks) if rank not in beats]
    if absent:
        return f"{_names(absent, ranks, hosts)} never started"
    progress = {rank: (beat.done, ORDER.index(beat.stage)) for rank, beat in beats.items()}
    least = min(progress.values())
    behind = stopped or [rank for rank in progress if progress[rank] == least]
    beat, place = beats[behind[0]], places.get(behind[0], "")
    said = f"{_names(behind, ranks, hosts)} {'is' if len(behind) == 1 else 'are'} "
    said += "stopped by a signal, " if stopped else ""
    said += WORDS.get(beat.stage, beat.stage)
    said += f", step {beat.done + 1}" if beat.planned else ""
    said += f" ({place})" if place else ""
    others = sorted({WORDS.get(beats[r].stage, beats[r].stage) for r in beats if r not in behind})
    return f"{said}; the others are {' or '.join(others)}" if others else said


def _names(some: list[int], ranks: int, hosts: Mapping[int, str]) -> str:
    if len(some) == ranks > 1:
        return "all ranks"
    shown = ", ".join(map(str, some[:4])) + (f" and {len(some) - 4} more" if len(some) > 4 else "")
    host = f" on {hosts[some[0]]}" if len(some) == 1 and some[0] in hosts else ""
    return f"rank{'s' if len(some) > 1 else ''} {shown}{host}"


def cut(log: Path, lost_before: int = 0) -> int:
    """Remove the middle of a log that has grown too long, and note this in it. A rank may go on writing meanwhile.

    ``lost_before`` and the result are the bytes that the log has lost in all.
    """
    with contextlib.suppress(OSError):
        size = log.stat().st_size
        if size <= LOG_LIMIT + 2 * LOG_TAIL:
            return lost_before
        with log.open("r+b") as stream:
            stream.seek(size - LOG_TAIL)
            tail = stream.read()
            stream.truncate(LOG_LIMIT)
        lost = lost_before + size - LOG_LIMIT - LOG_TAIL
        with log.open("ab") as stream:  # like the ranks do: each write goes to the present end
            stream.write(CUT % lost + tail)
        return lost
    return lost_before
