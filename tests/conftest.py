"""Fixtures of many tests."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import in_process
import pytest
from command_line import Run, run_bench
from faults_page import Page

from bench.runner.launch_case import PRELOAD
from launch.server_launcher import ServerLauncher

pytest_plugins = ["launch_mark"]
TESTS = Path(__file__).parent

# Peaks that are measured beside other tests are no peaks: they must not come into the cache of whoever runs the tests.
os.environ["XDG_CACHE_HOME"] = str(TESTS.parent / ".pytest_cache" / "cache")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers, and output that is piped follows it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write docs/faults.md from what the tests see")
    parser.addoption("--write-goldens", action="store_true", help="write tests/data/golden/ from what the tests see")


def pytest_collection() -> None:
    gc.disable()  # to look for garbage while all tests are imported would take half as long as the imports


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture
def bench(launching: None, tmp_path: Path) -> Any:
    """Run the command as a user does, in a folder of its own; ``--out`` is ``results`` there."""

    def run(*words: str, cwd: Path = tmp_path, environment: dict[str, str] | None = None, timeout: float = 280) -> Run:
        return run_bench(cwd, *words, more=environment, timeout=timeout)

    return run


@pytest.fixture
def bench_here(tmp_path: Path) -> Any:
    """Run the command as ``bench`` does, in the process of the test, where it may start no ranks."""
    return functools.partial(in_process.run_bench, tmp_path)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a suite file where the test runs; its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("mine.toml").write_text(text)
        return "mine.toml"

    return write


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file of tests/data/golden; with ``--write-goldens`` write it."""

    def compare(name: str, text: str) -> None:
        file = TESTS / "data" / "golden" / name
        if request.config.getoption("--write-goldens"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, newline="")
        assert text == file.read_bytes().decode()

    return compare


@pytest.fixture(scope="session")
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """Compare a line of docs/faults.md with what a test has seen; with ``--write-faults`` write it."""
    page = Page(request.config.getoption("--write-faults"))
    yield page
    page.close()


@pytest.fixture(scope="session")
def launcher(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerLauncher]:
    """A warm launcher whose ranks can import the modules of this folder; its servers last, as nothing is timed."""
    path = os.pathsep.join(filter(None, [str(TESTS / "helpers"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    launcher = ServerLauncher(environment, PRELOAD, tmp_path_factory.mktemp("launcher") / "launcher.log", 40)
    yield launcher
    launcher.close()
