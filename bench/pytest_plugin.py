"""A plugin of pytest: the fixture ``bench_lock`` compares the work of a training step with a lock.

    def test_step_is_as_cheap_as_it_was(bench_lock):
        bench_lock("mine.py:Net", strategy="fsdp", gpus=2)

The lock is ``bench.lock`` in pytest's root folder; ``pytest --bench-lock-update`` writes it. Neither torch nor pandas
is imported before a test uses the fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILE = "bench.lock"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes locks."""
    group = parser.getgroup("stepbench", "the work of a training step (stepbench)")
    group.addoption(
        "--bench-lock-update",
        action="store_true",
        help="Write the counted work of each case to the lock instead of comparing it.",
    )


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
        with contextlib.chdir(pytestconfig.rootpath):
            result = lock(file=file, check=not writes, any_torch=any_torch and not writes, **given)
        if result.exit_code:
            hint = "if this is meant: pytest --bench-lock-update"
            pytest.fail(f"the step is not what {file} says\n{result.text}\n{hint}", pytrace=False)

    return check
