"""The marks of the tests themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch_mark import starts_python


def test_a_test_without_the_mark_cannot_start_python() -> None:
    """This test has no mark, and so the check of ``launch_mark`` is seen at work."""
    with pytest.raises(
        pytest.fail.Exception, match=r"test_marks\.py::test_a_test_.* mark it with @pytest\.mark\.launch"
    ):
        subprocess.run([sys.executable, "-c", ""])


@pytest.mark.usefixtures("bench")
def test_a_test_with_a_fixture_that_starts_processes_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("launch")


@pytest.mark.parametrize(
    ("program", "starts"),
    [
        (sys.executable, True),
        ("/elsewhere/bin/python3.12", True),
        (f"{sys.prefix}/bin/bench", True),
        ("git", False),
        ("/usr/bin/chromium", False),
    ],
)
def test_programs_that_the_mark_is_about(program: str, starts: bool) -> None:
    assert starts_python(program) == starts
