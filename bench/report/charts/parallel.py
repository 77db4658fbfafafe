"""Draws charts in parallel processes, as each takes about 0.2 s."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from bench.report.charts.chart import Chart
from bench.report.charts.svg import svg

FEW = 8  # Charts that are drawn faster than processes start.
_charts: Sequence[Chart] = ()


def svgs(charts: Sequence[Chart]) -> list[str]:
    """Return ``svg`` of each chart, drawn by at most one process for each processor."""
    global _charts
    processes = min(len(os.sched_getaffinity(0)), len(charts) // (FEW // 2))
    if len(charts) < FEW or processes < 2:
        return [svg(chart) for chart in charts]
    _charts = charts  # The forked processes inherit them.
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), initializer=_begin) as pool:
            return list(pool.map(_svg, range(len(charts))))
    except (OSError, NotImplementedError, BrokenProcessPool):  # No semaphores or processes left, or one was killed.
        return [svg(chart) for chart in charts]


def _begin() -> None:
    """Leave Ctrl-C to the parent, which ends this process, and restore the default for other signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _svg(number: int) -> str:
    return svg(_charts[number])
