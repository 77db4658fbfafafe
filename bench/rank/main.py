"""The entry point of every rank that trains a workload."""

from __future__ import annotations

import dataclasses
import os
import threading
import traceback
from pathlib import Path

from bench.messages.heartbeat import STAGE
from bench.messages.rank_record import RankRecord
from bench.messages.sampling import MEASURED, await_sample, tell
from bench.messages.spec import Spec
from bench.rank.build import Training, build, place
from bench.rank.code import ImportedCode
from bench.rank.extra_step import take_step
from bench.rank.measure import measure
from bench.rank.memory import resident_mib
from bench.rank.observe import observe
from bench.rank.recorded import recorded
from bench.rank.software import device_facts, imported, software
from bench.rank.state import state_of
from bench.rank.work.device import with_kernels

# Trainings are kept until the process ends: destroying a Gloo process group joins threads with the GIL held while one
# of them may wait for the GIL to free a tensor (2.11), or aborts the process (2.15). A rank ends by os._exit.
KEPT: list[Training] = []
OBSERVING_SECONDS, OBSERVING_STEPS = 20.0, 10  # limit of the step after the window


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
        add_observations(training, record, spec, max(measurement.steps_ns) / 1e9)
        heartbeat.enter(STAGE["done"])  # the launch is complete, even if this process fails now
        training.batches.close()


def add_observations(training: Training, record: RankRecord, spec: Spec, slowest_step_s: float) -> None:
    """Add this rank's state and its observations of one more step to the record.

    If a rank fails in that step, its peers wait for it, with NCCL forever. After some multiple of its slowest step each
    peer ends itself with exit code 0; all that it measured is recorded.
    """
    patience = threading.Timer(OBSERVING_SECONDS + OBSERVING_STEPS * slowest_step_s, os._exit, (0,))
    patience.daemon = True
    patience.start()
    try:
        record = dataclasses.replace(record, state=state_of(training))
        record.write(spec.folder)
        observed, counts = observe(training, spec.count_work)
        record = dataclasses.replace(record, observed=observed, counts=counts)
        record.write(spec.folder)  # known even if the profiler fails
        if counts and training.case.on_accelerator:
            counts = with_kernels(counts, lambda: take_step(training, lambda _: None), training.device)
            dataclasses.replace(record, counts=counts).write(spec.folder)
    except Exception:
        traceback.print_exc()
        print("the step after the window failed: not everything that took effect is known")
    finally:
        patience.cancel()
