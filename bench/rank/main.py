"""The entry point of every rank that trains a workload."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import RankRecord
from bench.messages.sampling import MEASURED, await_sample, tell
from bench.messages.saved import Saved
from bench.messages.spec import Spec
from bench.messages.step_profile import BY_PROFILE, StepProfile
from bench.rank.build import Training, build, place
from bench.rank.code import ImportedCode
from bench.rank.extra_step import take_step
from bench.rank.measure import measure
from bench.rank.memory import resident_mib
from bench.rank.observe import observe
from bench.rank.own_time import has_own_steps, own_times_ns
from bench.rank.profiling.method import ENDED_EARLY, profile_of
from bench.rank.recorded import PATIENCE_S, recorded
from bench.rank.saving.phase import CUT, save_and_load
from bench.rank.software import device_facts, imported, software
from bench.rank.state import state_of
from bench.rank.work.device import with_kernels

# Trainings are kept until the process ends: destroying a Gloo process group joins threads with the GIL held while one
# of them may wait for the GIL to free a tensor (2.11), or aborts the process (2.15). A rank ends by os._exit.
KEPT: list[Training] = []
OBSERVING_SECONDS, OBSERVING_STEPS = 20.0, 10  # limit of the step after the window
PROFILING_SECONDS, PROFILING_STEPS = 60.0, 50  # limit of the steps for --profile
OWN_SECONDS, OWN_STEPS = 20.0, 200  # limit of the steps for --stragglers


def run(spec_path: str) -> None:
    """Train as ``spec.json`` says and leave ``rank<N>.json`` beside it."""
    spec = Spec.read(spec_path)
    rss_at_start = resident_mib()
    with recorded(spec) as (record, heartbeat):
        heartbeat.enter(STAGE["building"])
        devices = place(spec)
        device, uuids = device_facts(devices)
        record = dataclasses.replace(record, device=device, device_uuids=uuids, software=software())
        record.write(spec.folder)  # known even if the model does not fit
        code = ImportedCode(spec.target)
        training = build(spec, devices, code.update)
        code.update()
        record = dataclasses.replace(record, code=code.sources, software=software())
        record.write(spec.folder)  # known even if the launch fails
        measurement = measure(training, spec, heartbeat, rss_at_start)
        heartbeat.enter(STAGE["ending"])
        KEPT.append(training)
        code.update()
        sources = imported(spec.watched)
        record = dataclasses.replace(record, measurement=measurement, sources=sources, code=code.sources)
        record.write(spec.folder)  # kept even if the step after the window fails
        tell(spec.scratch, launch := Path(spec.folder).name, record.rank, MEASURED)
        await_sample(spec.scratch, launch)
        slowest_step_s = max(measurement.steps_ns) / 1e9
        record = add_observations(training, record, spec, slowest_step_s)
        if spec.stragglers and has_own_steps(training, in_duet=spec.turns is not None):
            record = add_own_times(training, record, spec, heartbeat, slowest_step_s)
        if spec.profile != "off":
            record = add_profile(training, record, spec, heartbeat, slowest_step_s)
        if spec.save_folder:
            add_saving(training, record, spec, heartbeat, slowest_step_s)
        heartbeat.enter(STAGE["done"])  # the launch is complete, even if this process fails now
        training.batches.close()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let the body take so long. If a rank fails in a step after the window, its peers wait for it, with NCCL forever.

    Then each peer ends itself with exit code 0; all that it measured is recorded.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def add_profile(
    training: Training, record: RankRecord, spec: Spec, heartbeat: Heartbeat, slowest_step_s: float
) -> RankRecord:
    """Return the record with how much of a step waits for communication."""
    record = dataclasses.replace(record, profile=StepProfile(BY_PROFILE, note=ENDED_EARLY))
    record.write(spec.folder)
    moved = _beats(record, heartbeat, slowest_step_s)
    with patience(PROFILING_SECONDS + PROFILING_STEPS * slowest_step_s):
        profile = profile_of(training, spec.profile, moved, spec.folder, record.rank)
    record = dataclasses.replace(record, profile=profile)
    record.write(spec.folder)
    return record


def add_saving(training: Training, record: RankRecord, spec: Spec, heartbeat: Heartbeat, slowest_step_s: float) -> None:
    """Add to the record what it costs to save and load the state. Nothing is trained after it, as loading may fail."""
    so_far = Saved(note=CUT)

    def keep(saved: Saved) -> None:
        nonlocal so_far
        so_far = saved
        dataclasses.replace(record, saved=saved).write(spec.folder)

    keep(so_far)
    heartbeat.enter(STAGE["saving"])
    beat, wait_s = _beats(record, heartbeat, slowest_step_s), spec.timeout_s + PATIENCE_S
    with patience(spec.timeout_s):
        try:
            keep(save_and_load(training, Path(spec.save_folder), beat, keep, wait_s))
        except Exception as error:
            traceback.print_exc()
            keep(dataclasses.replace(so_far, note=f"saving failed: {type(error).__name__}"))


def add_own_times(
    training: Training, record: RankRecord, spec: Spec, heartbeat: Heartbeat, slowest_step_s: float
) -> RankRecord:
    """Return the record with this rank's own time in a few more steps, if they succeed."""
    assert record.measurement is not None
    window_ns, steps = record.measurement.window_ns, len(record.measurement.steps_ns)
    with patience(OWN_SECONDS + OWN_STEPS * slowest_step_s):
        try:
            own_ns = own_times_ns(training, window_ns, steps, _beats(record, heartbeat, slowest_step_s))
            record = dataclasses.replace(record, own_ns=own_ns)
            record.write(spec.folder)
        except Exception:
            traceback.print_exc()
            print("the steps for --stragglers failed: the rank's own time is not known")
    return record


def _beats(record: RankRecord, heartbeat: Heartbeat, slowest_step_s: float) -> Callable[[], None]:
    """Return a function to call after each step that follows the window, so that the watchdog sees it."""
    assert record.measurement is not None
    done = count(record.measurement.warmup_steps + len(record.measurement.steps_ns) + 1)
    return lambda: heartbeat.synced(next(done), round(slowest_step_s * 1e9))


def add_observations(training: Training, record: RankRecord, spec: Spec, slowest_step_s: float) -> RankRecord:
    """Return the record with this rank's state and its observations of one more step, as far as they are known."""
    with patience(OBSERVING_SECONDS + OBSERVING_STEPS * slowest_step_s):
        try:
            record = dataclasses.replace(record, state=state_of(training))
            record.write(spec.folder)
            observed, counts = observe(training, spec.count_work)
            record = dataclasses.replace(record, observed=observed, counts=counts)
            record.write(spec.folder)  # known even if the profiler fails
            if counts and training.case.on_accelerator:
                counts = with_kernels(counts, lambda: take_step(training, lambda _: None), training.device)
                record = dataclasses.replace(record, counts=counts)
                record.write(spec.folder)
        except Exception:
            traceback.print_exc()
            print("the step after the window failed: not everything that took effect is known")
    return record
