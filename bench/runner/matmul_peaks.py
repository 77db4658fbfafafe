"""Measured peaks: how fast one rank multiplies matrices here, and the share of that which launches reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from bench.errors import BenchError, Interrupted
from bench.machine.gpus import Machine, device_names
from bench.messages.matmul_peak import MatmulPeak
from bench.plan.case import Case
from bench.plan.options import AXES, arithmetic
from bench.runner.launch_case import CaseLauncher
from bench.runner.metrics import achieved
from bench.runner.row_recorder import Notes
from bench.store.columns import Row
from bench.store.matmul_peaks import machine_facts, rate_facts, store, stored
from bench.store.node_facts import others


class MatmulPeaks:
    """The peaks of a session: stored ones, and those that it measures. ``seconds`` is how long it measured so far."""

    def __init__(
        self,
        launcher: CaseLauncher,
        machine: Machine,
        host: Row,
        torch: str,
        new_folder: Callable[[], Path],
        notes: Notes,
        mode: str,
    ) -> None:
        """Prepare.

        ``host`` has the columns of this host, ``torch`` is the version of the ranks. ``new_folder`` makes a folder for
        what a measuring rank writes. ``mode`` is one of MATMUL_PEAK.
        """
        self._launcher, self._machine, self._host, self._torch = launcher, machine, host, torch
        self._new_folder, self._notes, self._mode = new_folder, notes, mode
        self._found: dict[tuple[bool, str, int | None], MatmulPeak | str] = {}
        self.seconds = 0.0

    def of(self, case: Case, precision: str | None) -> MatmulPeak | str:
        """Return the peak of the case's device, threads and precision, or why there is none (empty if switched off).

        It is measured if it is not known yet, so this must not be called while ranks run. It never raises: no launch is
        to be lost because of it.
        """
        if self._mode == "off" or case.fake_ranks or case.is_comms:
            return ""
        if precision is None:
            return "no matmul peak, as the precision is not known"
        kind, threads = arithmetic(precision), None if case.on_accelerator else case.omp_num_threads
        key = case.on_accelerator, kind, threads
        if key not in self._found:
            try:
                self._found[key] = self._stored_or_measured(case, kind, threads)
            except Interrupted:  # the caller sees to it, once its launch is recorded
                return "no matmul peak, as the run was stopped"
            except BenchError as error:
                self._found[key] = f"no matmul peak: {error.message}"
                self._notes.warn(f"{self._found[key]}: mfu_achievable stays empty")
        return self._found[key]

    def columns(self, case: Case, row: Row, precision: str | None) -> Row:
        """Return the columns of a launch that has ended with these columns; none if its FLOPs are not known."""
        if row.get("tflops_per_device") is None:
            return {}
        found = self.of(case, precision)
        peak = None if isinstance(found, str) else found
        why = _unlike(row, peak) if peak else str(found)
        columns = achieved(row, None if why or peak is None else peak.tflops, why)
        if "mfu_achievable would be" in (columns["flops_note"] or ""):
            self._notes.warn("mfu_achievable would be above 1, and stays empty: see flops_note")
        return columns

    def _stored_or_measured(self, case: Case, kind: str, threads: int | None) -> MatmulPeak:
        device = device_names(self._machine) if case.on_accelerator else "cpu"
        facts = rate_facts(machine_facts(self._host, device, self._torch), kind, threads)
        known = stored(facts) if self._mode != "again" else None
        if known and not known.peak.disturbed:
            return known.peak
        self._notes.note(f"measuring the fastest matrix products in {kind}{_of_threads(threads)}, for mfu_achievable")
        began = monotonic()
        try:
            peak = self._launcher.matmul_peak(_multiplying(case, kind), self._new_folder())
        finally:
            self.seconds += monotonic() - began
        if peak.disturbed:
            what = f"other programs ran while the matmul peak of {kind}{_of_threads(threads)} was measured"
            self._notes.warn(f"{what}, so it may be too low; the next run measures it again")
        if known and known.peak.tflops > peak.tflops:  # none is too high
            peak = dataclasses.replace(known.peak, waited=peak.waited)
        try:
            store(peak, facts)
        except OSError as error:
            self._notes.warn(f"the matmul peak cannot be stored, and is measured again by the next run: {error}")
        return peak


def _multiplying(case: Case, kind: str) -> Case:
    """Return a case with one rank that multiplies matrices of a type, with the device and threads of ``case``.

    It has a built-in workload, which is not loaded, and none of the case's own variables: the peak is the machine's.
    """
    own = {"workload": AXES["workload"].default, "strategy": "single", "gpus": 1, "env": "", "args": ""}
    return dataclasses.replace(case, **own, precision=kind, deterministic=False)  # type: ignore[arg-type]


def _of_threads(threads: int | None) -> str:
    return "" if threads is None else f" with {threads} thread{'s' if threads > 1 else ''}"


def _unlike(row: Row, peak: MatmulPeak) -> str:
    """Return why a peak is not that of a launch's devices; an empty text if it is."""
    if row.get("device_name") != peak.device:
        return f"no matmul peak of {row.get('device_name')}: it was measured on {peak.device}"
    processors = {row.get("cpu_model"), *(facts.get("cpu_model") for facts in others(row))}
    if peak.device == "cpu" and len(processors) > 1:
        return "no matmul peak, as the processors of the nodes differ"
    return ""
