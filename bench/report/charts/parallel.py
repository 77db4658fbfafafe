"""Draws many charts at once: each takes a fifth of a second of one processor."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from bench.report.charts.chart import Chart
from bench.report.charts.svg import svg

FEW = 8  # are drawn before other processes are up
_charts: Sequence[Chart] = ()


def svgs(charts: Sequence[Chart]) -> list[str]:
    """``svg`` of each, in their order, by as many processes as there are processors."""
    global _charts
    processes = min(len(os.sched_getaffinity(0)), len(charts) // (FEW // 2))
    if len(charts) < FEW or processes < 2:
        return [svg(chart) for chart in charts]
    _charts = charts  # what is forked has them
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), initializer=_begin) as pool:
            return list(pool.map(_svg, range(len(charts))))
    except (OSError, NotImplementedError, BrokenProcessPool):  # no room for semaphores or processes, or one was killed
        return [svg(chart) for chart in charts]


def _begin() -> None:
    """Ctrl-C comes to the process that waits, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _svg(number: int) -> str:
    return svg(_charts[number])
