"""What a person is told while launches go on. No torch, no launches: the clock is set by hand."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from plain_case import PLAIN
from rich.console import Console

from bench.report import progress
from bench.report.format import FILE_WIDTH, wide_console
from bench.report.progress import OnTerminal, Plain, Quiet, observer
from bench.store.columns import LaunchRow

SKIPPED = LaunchRow(status="skipped", case_id="mlp", reason="no GPU")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    said = io.StringIO()
    return Console(file=said, force_terminal=terminal, width=200, color_system=None), said


def test_a_warning_is_said_once_however_many_give_it() -> None:
    where, said = console()
    watcher = Plain(where)
    for message in ("looking at mlp", "warning: no GPU", "warning: no GPU", "looking at mlp", "warning: another"):
        watcher.note(message)
    assert said.getvalue().splitlines() == ["looking at mlp", "warning: no GPU", "looking at mlp", "warning: another"]


def test_a_quiet_run_is_told_its_warnings_alone() -> None:
    where, said = console()
    watcher = observer(where, quiet=True)
    assert type(watcher) is Quiet
    for message in ("looking at mlp", "warning: no GPU", "warning: no GPU"):
        watcher.note(message)
    watcher.launch_ends(SKIPPED)
    assert said.getvalue() == "warning: no GPU\n"


def test_a_line_a_launch_with_its_figures_or_its_reason() -> None:
    """A probe is none of the launches that are counted, and has the case that it is of."""
    where, said = console()
    watcher = observer(where, quiet=False)
    assert type(watcher) is Plain
    ok = LaunchRow(launch_id="1", role="measure", status="ok", samples_per_s=1234.5, step_ms=8.25)
    watcher.launch_begins(PLAIN, 1, 3, False)
    watcher.launch_ends(ok.but(side="B", launch_s=4.0))
    watcher.launch_begins(PLAIN, 2, 3, True)
    watcher.launch_ends(ok.but(status="oom", reason="rank 0 ran out of memory", side=None, launch_s=2.54))
    watcher.launch_ends(ok.but(role="probe", case_id="mlp-b64", side=None, launch_s=1.0))
    watcher.launch_ends(SKIPPED)
    assert said.getvalue().splitlines() == [
        f"[1/3] {PLAIN.case_id} B  ok  1,234 samples/s  step p50 8.25 ms  (4.0 s)",
        f"[2/3+] {PLAIN.case_id}  oom  rank 0 ran out of memory  (2.5 s)",
        "[probe] mlp-b64  ok  1,234 samples/s  step p50 8.25 ms  (1.0 s)",
        "skipped: mlp: no GPU",
    ]


def test_time_left_is_at_the_pace_of_the_launches_so_far(clock: Callable[[float], None]) -> None:
    watcher = Plain(console()[0])
    clock(10.0)
    watcher.launch_begins(PLAIN, 1, 5, False)
    assert watcher.time_left() == ""
    clock(40.0)
    watcher.launch_begins(PLAIN, 2, 5, False)
    assert watcher.time_left() == "about 2:00 left"  # four more of 30 s
    clock(50.0)
    assert watcher.time_left() == "about 1:50 left"
    watcher.launch_begins(PLAIN, 2, 5, True)
    assert watcher.time_left() == "about 2:40 left of this round"  # now four of 40 s
    clock(400.0)
    assert watcher.time_left() == "about 0:00 left of this round"


def test_the_live_line_has_the_pace_since_the_first_step_that_was_seen() -> None:
    where, said = console(terminal=True)
    watcher = OnTerminal(where)
    watcher.launch_begins(PLAIN, 1, 1, False)
    watcher.progress(0, 30, 0)
    watcher.progress(5, 30, 10**9)
    watcher.progress(15, 30, 3 * 10**9)
    watcher.close()  # which draws it once more
    assert PLAIN.global_batch == 64
    assert f"[1/1] {PLAIN.case_id}  step 15/30  320 samples/s" in said.getvalue()  # 10 steps in 2 s


def test_a_log_is_no_terminal_though_colours_are_forced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Many a CI sets FORCE_COLOR; a line that lives would leave a hundred copies in its log."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it.
    with (tmp_path / "log").open("w") as log:
        where = Console(file=log)
        assert where.is_terminal
        assert type(observer(where, quiet=False)) is Plain
        monkeypatch.setattr("sys.stdout", log)
        assert wide_console().width == FILE_WIDTH


def test_a_terminal_that_has_gone_stops_nothing() -> None:
    """As after `bench ab … & disown` and a logout: each write ends with EIO, or with EPIPE after a `tee` that died."""

    class Terminal(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

    for kind in (Quiet, Plain, OnTerminal):
        terminal = Terminal()
        watcher = kind(Console(file=terminal, force_terminal=True))
        watcher.note("warning: it is there")
        assert "it is there" in terminal.getvalue()
        terminal.gone = True
        watcher.note("warning: no GPU")
        watcher.note("2 of 3 cases may differ")
        watcher.launch_begins(PLAIN, 1, 2, False)
        watcher.progress(5, 30, 10**9)
        watcher.launch_ends(SKIPPED)
        watcher.close()
