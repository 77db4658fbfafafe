"""The entry point of every rank of ``bench comms``."""

from __future__ import annotations

import dataclasses
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from bench.messages.heartbeat import STAGE
from bench.messages.spec import Spec
from bench.plan.case import Case
from bench.rank.build import device_of
from bench.rank.comms.sweep import Sweep
from bench.rank.recorded import PATIENCE_S, recorded
from bench.rank.script.names import loopback_interface
from bench.rank.software import device_facts, software

KEPT: list[Sweep] = []  # as in ``bench.rank.main``: process groups are not destroyed


def run(spec_path: str) -> None:
    """Measure the collectives of ``spec.json`` and leave ``rank<N>.json`` beside it."""
    spec = Spec.read(spec_path)
    with recorded(spec) as (record, heartbeat):
        heartbeat.enter(STAGE["building"])
        device = _joined(spec)
        name, uuids = device_facts([device])
        record = dataclasses.replace(record, device=name, device_uuids=uuids, software=software())
        record.write(spec.folder)
        sweep = Sweep(spec, record, heartbeat, device)
        KEPT.append(sweep)
        heartbeat.enter(STAGE["sync"])
        sweep.run()
        heartbeat.enter(STAGE["done"])


def _joined(spec: Spec) -> torch.device:
    """Create the process group of all ranks, and return the device of this one; RuntimeError without the backend."""
    device, backend = device_of(spec.case), backend_of(spec.case)
    if not dist.is_backend_available(backend):
        there = [name for name in ("nccl", "gloo", "ucc", "mpi") if dist.is_backend_available(name)]
        raise RuntimeError(f"this torch has no backend {backend}; it has {', '.join(there)} (--backend)")
    if loopback := loopback_interface():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    # The parent process ends a hang, so that this time-out never ends a healthy rank.
    timeout = timedelta(seconds=spec.timeout_s + PATIENCE_S)
    dist.init_process_group(backend, timeout=timeout, device_id=device if backend == "nccl" else None)
    return device


def backend_of(case: Case) -> str:
    """Return the backend that ``--backend`` names, or that goes with the device."""
    comms = case.spec.comms
    assert comms is not None
    if comms.backend != "auto":
        return comms.backend
    return "nccl" if case.on_accelerator and not case.oversubscribe else "gloo"
