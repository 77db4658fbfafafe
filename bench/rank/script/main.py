"""The entry point of every rank that runs a user's script.

Torch is imported by the script, unless the rank was forked from a process that has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench.messages.counts import Counts
from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import Measurement, RankRecord, ScriptRecord
from bench.messages.sampling import MEASURED, MEASURING, await_sample, tell
from bench.messages.spec import Script, Spec
from bench.rank.code import KNOWN, OURS, ImportedCode
from bench.rank.recorded import give_up, recorded
from bench.rank.script.ended import ScriptError, words
from bench.rank.script.meeting import Meeting, exchange
from bench.rank.script.names import OwnNames, TorchImport, alias, set_up
from bench.rank.script.names import run as run_script
from bench.rank.script.surroundings import Surroundings

if TYPE_CHECKING:
    from bench.rank.script.observer import Observer

THREADS_S = 3.0  # how long threads may take to end, such as one that writes a checkpoint
OBSERVING_SECONDS, OBSERVING_STEPS = 20.0, 10  # limit of the steps after the window
STAGES = {"data_wait": STAGE["data_wait"], "backward": STAGE["backward"], "optimizer": STAGE["optimizer"]}


def run(spec_path: str) -> None:
    """Run the script of ``spec.json`` until its window has been measured, and leave ``rank<N>.json`` beside it."""
    spec = Spec.read(spec_path)
    assert spec.script
    with recorded(spec) as (record, heartbeat):
        heartbeat.enter(STAGE["building"])
        _Rank(spec, spec.script, record, heartbeat).run()


class _Rank(Surroundings):
    """A rank: the surroundings of its observer."""

    def __init__(self, spec: Spec, script: Script, record: RankRecord, heartbeat: Heartbeat) -> None:
        self.spec, self.script, self.record, self.heartbeat = spec, script, record, heartbeat
        self.launch, ranks = Path(spec.folder).name, int(os.environ["WORLD_SIZE"])
        by = exchange(spec.scratch, script.patience_s)
        self.meeting = Meeting(spec.scratch, self.launch, record.rank, ranks, script.patience_s, by)
        self.code = ImportedCode(f"{script.target}:" if script.is_module else f"{script.target}:main", KNOWN - OURS)
        self.names, self.torch = OwnNames(), TorchImport(self._torch_is_there)
        self.observer: Observer | None = None
        self.is_measured = False

    def run(self) -> None:
        """Run the script. Raise ScriptError if it ends before its window."""
        set_up(self.script)
        if not self.script.is_module:
            self.code.add("bench_user_script", self.script.target)
        marker = alias()
        if "torch" in sys.modules:
            self._torch_is_there()
        self.names.hide()
        marker._marked = self._marked
        try:
            with self.torch.watched():
                code = run_script(self.script)
        except BaseException:
            if not self.is_measured:
                raise
            traceback.print_exc()
            print("the script failed after its window: the work of its steps is not counted")
            _finish()
        finally:
            self.names.show()
        if self.is_measured:  # it has no further step to count
            _finish()
        raise ScriptError(words(self.observer, code, self.spec.warmup_steps, self.spec.steps))

    def _torch_is_there(self) -> None:
        """Install the hooks of the observer."""
        hidden = self.names.hidden
        self.names.show()
        from bench.rank.script import ending, observer

        self.ending = ending
        window = observer.Window(
            *(self.spec.warmup_steps, self.spec.steps, self.spec.min_seconds, self.spec.max_seconds),
            count_flops=self.script.count_flops,
            count_work=self.spec.count_work,
        )
        self.observer = observer.Observer(window, self, ending.resident_mib())
        self._note(device=ending.device(), software=ending.software())
        self.observer.install()
        if hidden:
            self.names.hide()

    def _marked(self, samples: int | None) -> None:
        if self.observer:
            self.observer.marked(samples)

    def _note(self, **fields: object) -> None:
        self.record = dataclasses.replace(self.record, **fields)  # type: ignore[arg-type]
        self.record.write(self.spec.folder)

    # -- the observer's surroundings ---------------------------------------------------------------------------------

    def progress(self, done: int, planned: int, step_ns: int) -> None:
        """Write the heartbeat."""
        self.heartbeat.beat(done, planned, time.time_ns())
        if done:
            self.heartbeat.synced(done, step_ns)
        elif self.observer and (said := self.observer.without_steps()):
            self._fail(ScriptError(said))

    def part(self, name: str) -> None:
        """Write which part of a step begins."""
        self.heartbeat.enter(STAGES[name])

    def agree(self, name: str, number: float) -> list[float]:
        """Wait for all ranks, and return the numbers of all. End the process if they do not come."""
        self.heartbeat.enter(STAGE["sync"])
        try:
            return self.meeting.meet(name, number)
        except RuntimeError as error:
            self._fail(error)

    def measuring(self) -> None:
        """Write what is known before the window."""
        self.code.update()
        name, uuids = self.ending.device_facts()
        self._note(device=name, device_uuids=uuids, software=self.ending.software(), code=self.code.sources)
        tell(self.spec.scratch, self.launch, self.record.rank, MEASURING)

    def measured(self, measurement: Measurement, seen: ScriptRecord) -> None:
        """Write the measurement."""
        assert self.observer
        self.code.update()
        self.names.show()
        self.heartbeat.enter(STAGE["ending"])
        if self.script.is_module and (file := getattr(sys.modules.get("__main__"), "__file__", None)):
            self.code.add(f"{self.script.target}", file)
        sources = self.ending.imported(self.spec.watched)
        seen = dataclasses.replace(seen, ignored=self.torch.ignored)
        self._note(measurement=measurement, script=seen, code=self.code.sources, sources=sources)
        tell(self.spec.scratch, self.launch, self.record.rank, MEASURED)
        await_sample(self.spec.scratch, self.launch)
        with contextlib.suppress(Exception):
            self._note(state=self.ending.state(self.observer.seen.replicas()))
        self.is_measured = True
        self._wait_no_longer_than(max(measurement.steps_ns) / 1e9)
        self.names.hide()

    def _wait_no_longer_than(self, slowest_step_s: float) -> None:
        """End the process well after the steps that are counted: a rank that fails in them makes its peers wait."""
        patience = threading.Timer(OBSERVING_SECONDS + OBSERVING_STEPS * slowest_step_s, os._exit, (0,))
        patience.daemon = True
        patience.start()

    def ended(self, counts: Counts | None) -> NoReturn:
        """Wait for the other ranks, and end the process."""
        self.names.show()
        self._note(counts=counts)
        self.agree("end", 0.0)  # the others may still need this rank in the last step
        self.heartbeat.enter(STAGE["done"])
        _finish()

    def _fail(self, error: Exception) -> NoReturn:
        self.names.show()
        give_up(error, self.record, Path(self.spec.folder), self.heartbeat)


def _finish() -> NoReturn:
    """Write what is buffered, give threads some time, and end the process with exit code 0."""
    deadline = time.monotonic() + THREADS_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    with contextlib.suppress(BaseException):
        logging.shutdown()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
