"""The marks of the tests themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch_mark import launches


def test_a_test_without_the_mark_cannot_start_the_command() -> None:
    """This test has no mark, and so the check of ``launch_mark`` is seen at work."""
    with pytest.raises(
        pytest.fail.Exception, match=r"test_marks\.py::test_a_test_.* mark it with @pytest\.mark\.launch"
    ):
        subprocess.run([sys.executable, "-m", "bench", "--help"])


@pytest.mark.usefixtures("bench")
def test_a_test_with_a_fixture_that_starts_the_command_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("launch")


@pytest.mark.parametrize(
    ("command", "launching"),
    [
        ("python -P -m launch.guard /tmp/x -- python -P -c serve", True),
        ("python -m bench report", True),
        ("/some/where/bin/bench run", True),
        ("python -c pass bench", False),
        ("git -C bench status", False),
    ],
)
def test_commands_that_the_mark_is_about(command: str, launching: bool) -> None:
    assert launches(command.split()) == launching
