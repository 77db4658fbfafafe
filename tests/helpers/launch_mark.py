"""The mark ``launch``: tests that start ranks or the ``bench`` command have it, and a test without it cannot.

The tests with this mark run two at a time. They look at processes of the machine by what marks these as their own.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

_running: pytest.Item | None = None


@pytest.fixture(scope="session")
def launching() -> None:
    """Asked for by every fixture that starts ranks or the command: a test that uses such a fixture has the mark."""


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


def launches(command: Sequence[str]) -> bool:
    """Return whether a command is ``bench``, or the guard of a launch: of a launch server or of torchrun."""
    return Path(command[0]).name == "bench" or bool({"launch.guard", "bench"}.intersection(_modules(command)))


def _modules(command: Sequence[str]) -> list[str]:
    return [command[i + 1] for i, word in enumerate(command[:-1]) if word == "-m"]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Fail a test that starts such a command without the mark; Python calls this with each of its audit events."""
    if event != "subprocess.Popen" or _running is None or _running.get_closest_marker("launch"):
        return
    command = arguments[1]
    if launches(list(map(str, [command] if isinstance(command, str) else command))):
        pytest.fail(f"{_running.nodeid} starts ranks or the bench command: mark it with @pytest.mark.launch")


sys.addaudithook(_audit)
