"""A plugin of pytest: ``bench_lock`` compares the work of a training step with a lock, ``bench_case`` times it.

    def test_step_is_as_cheap_as_it_was(bench_lock):
        bench_lock("mine.py:Net", strategy="fsdp", gpus=2)

    def test_speed(bench_case):
        bench_case("mine.py:Net", strategy="fsdp", gpus=2)

The lock is ``bench.lock`` in pytest's root folder; ``pytest --bench-lock-update`` writes it. The launches of
``bench_case`` are rounds of pytest-benchmark, which must be installed. Neither torch nor pandas is imported before a
test uses a fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.api.runs import Run

FILE = "bench.lock"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes locks."""
    group = parser.getgroup("stepbench", "the work of a training step (stepbench)")
    group.addoption(
        "--bench-lock-update",
        action="store_true",
        help="Write the counted work of each case to the lock instead of comparing it.",
    )


@contextlib.contextmanager
def _at_root(config: pytest.Config) -> Iterator[None]:
    """Work in pytest's root folder; what is wrong with a request fails the test in words."""
    from bench.errors import BenchError

    with contextlib.chdir(config.rootpath):
        try:
            yield
        except BenchError as error:
            pytest.fail(str(error), pytrace=False)


@pytest.fixture
def bench_lock(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Return a function that counts a case and fails the test if its step does more work than the lock says.

    It takes a workload, or ``script=FILE`` with ``args``, and the axes of ``bench run`` as keywords; by default on the
    CPU. ``file`` is another lock than ``bench.lock``, relative to pytest's root folder, as workloads are.
    """

    def check(workload: str | None = None, *, file: str | Path = FILE, any_torch: bool = False, **options: Any) -> None:
        from bench.api.locks import lock

        writes = bool(pytestconfig.getoption("--bench-lock-update"))
        given = {"device": "cpu", **({"workload": workload} if workload else {}), **options}
        with _at_root(pytestconfig):
            result = lock(file=file, check=not writes, any_torch=any_torch and not writes, **given)
        if result.exit_code:
            hint = "if this is meant: pytest --bench-lock-update"
            pytest.fail(f"the step is not what {file} says\n{result.text}\n{hint}", pytrace=False)

    return check


class LaunchTimer:
    """A timer of pytest-benchmark that tells the seconds it was set to."""

    def __init__(self) -> None:
        """Start at 0."""
        self.__name__ = "launches"
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now

    def set(self, seconds: float) -> None:
        """Set the seconds."""
        self.now = seconds


@pytest.fixture
def bench_timer(request: pytest.FixtureRequest) -> LaunchTimer:
    """Make the test's ``benchmark`` read its times from the timer that is returned; it must not exist yet."""
    timer, marker = LaunchTimer(), request.node.get_closest_marker("benchmark")
    own = marker.kwargs if marker else {}
    request.node.add_marker(pytest.mark.benchmark(**{**own, "timer": timer}), append=False)
    return timer


@pytest.fixture
def bench_case(
    pytestconfig: pytest.Config, tmp_path: Path, bench_timer: LaunchTimer, benchmark: Any
) -> Callable[..., Run]:
    """Return a function that measures one case and hands its launches to pytest-benchmark, each as a round.

    It takes a workload, or ``script=FILE`` with ``args``, and the other keywords of ``bench.run``, relative to pytest's
    root folder; by default on the CPU, with the results in the test's ``tmp_path``. It returns the run, and fails the
    test if a launch failed. A round lasts as long as the launch's mean step. Where pytest-benchmark is disabled, one
    launch shows that the case works.
    """

    def measure(workload: str | None = None, *, out: str | Path = tmp_path, **options: Any) -> Run:
        from bench.api.runs import run
        from bench.export.pytest_benchmark import extra_info, measured, step_s

        given = {"device": "cpu", **({"workload": workload} if workload else {}), **options}
        if benchmark.disabled:
            given = {name: value for name, value in given.items() if name != "budget"} | {"launches": 1}
        with _at_root(pytestconfig):
            made = run(out=out, **given)
        rows = [row for row in made.rows if measured(row)]
        failed = next((row for row in made.rows if row.status != "ok"), None)
        if failed or not rows:
            words = f"{failed.status}: {failed.reason}" if failed else "no launch has a throughput and a global batch"
            pytest.fail(f"{made.rows[0].case_id if made.rows else workload}: {words}", pytrace=False)
        if len({row.case_id for row in rows}) > 1:
            pytest.fail("bench_case measures one case a test; use pytest.mark.parametrize for several", pytrace=False)
        benchmark.extra_info.update(extra_info(rows))
        times = iter([step_s(row) for row in rows])
        benchmark.pedantic(lambda: bench_timer.set(next(times)), setup=lambda: bench_timer.set(0.0), rounds=len(rows))
        return made

    return measure
