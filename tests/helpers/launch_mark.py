"""The mark ``launch``: tests that start Python processes have it, and a test without it cannot start one.

The tests with this mark run one after the other: they look at all processes of the machine and measure times.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

PROGRAMS = Path(sys.executable).parent

_running: pytest.Item | None = None


@pytest.fixture(scope="session")
def launching() -> None:
    """Asked for by every fixture that starts Python processes: a test that uses such a fixture has the mark."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "launching" in getattr(item, "fixturenames", ()):
            item.add_marker("launch")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    global _running
    _running = item
    try:
        return (yield)
    finally:
        _running = None


def starts_python(program: str) -> bool:
    """Return whether a program is an interpreter or one that is installed beside ours: bench, torchrun."""
    path = Path(program)
    return path.name.startswith("python") or path.parent == PROGRAMS


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "subprocess.Popen" or _running is None or _running.get_closest_marker("launch"):
        return
    if starts_python(str(arguments[0])):
        pytest.fail(f"{_running.nodeid} starts a Python process: mark it with @pytest.mark.launch")


sys.addaudithook(_audit)
