"""The progress of a run on stderr: a live line on a terminal, one line for each launch elsewhere."""

from __future__ import annotations

import contextlib
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.plan.case import Case
from bench.report.format import is_terminal, number
from bench.store.columns import LaunchRow
from bench.untrusted.text import printable

REFRESH_A_SECOND = 2  # Updates; more of them would slow down the ranks.


class Quiet:
    """An observer of a run that prints warnings only, each once: several launches may give the same one.

    Errors of the console are ignored, because a closed terminal must not end a measurement.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._warned: set[str] = set()

    def note(self, message: str) -> None:
        """Print a message if it is a new warning."""
        if message.startswith("warning") and message not in self._warned:
            self._warned.add(message)
            self._print(Text(message, "yellow"))

    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Note the start of launch ``number`` of ``of``; with ``or_more``, further rounds may follow."""

    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None:
        """Note the steps that a launch had done at ``time_ns``, the wall clock of a rank in ns."""

    def launch_ends(self, row: LaunchRow) -> None:
        """Note the result of a launch."""

    def close(self) -> None:
        """Stop the output."""

    def _print(self, text: Text) -> None:
        text.plain = printable(text.plain)
        with contextlib.suppress(OSError):
            self.console.print(text, soft_wrap=True)


class Plain(Quiet):
    """An observer that prints a line when a launch ends.

    ``[3/8+]`` is the third of eight launches up to the end of the round; further rounds may follow.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._head, self._began = "", time.monotonic()
        self._run_began: float | None = None
        self._number, self._of, self._or_more = 0, 0, False

    def note(self, message: str) -> None:
        """Print a message; a warning only once."""
        if message.startswith("warning"):
            super().note(message)
        else:
            self._print(Text(message, "dim"))

    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Remember the launch and when it began."""
        self._began = time.monotonic()
        self._run_began = self._run_began or self._began
        self._number, self._of, self._or_more = number, of, or_more
        self._head = f"[{number}/{of}{'+' if or_more else ''}] {case.case_id}"

    def launch_ends(self, row: LaunchRow) -> None:
        """Print a line with the status of the launch, and its throughput or the reason why it failed."""
        if row.launch_id is None:
            self._print(Text(f"{row.status}: {row.case_id}: {row.reason}"))
            return
        if row.status == "ok" and row.samples_per_s is None:
            result = "ok"  # of collectives, which are in a table of their own
        elif row.status == "ok":
            result = f"ok  {number(row.samples_per_s or 0)} samples/s  step p50 {number(row.step_ms or 0)} ms"
        else:
            result = f"{row.status}  {row.reason}"
        head = f"[probe] {row.case_id}" if row.role == "probe" else self._head
        side = f" {row.side}" if row.side else ""
        self._print(Text(f"{head}{side}  {result}  ({row.launch_s:.1f} s)"))

    def time_left(self) -> str:
        """Return the expected time left by the pace of the launches so far; an empty text during the first one."""
        done = self._number - 1
        if not done or self._run_began is None:
            return ""
        seconds = (self._began - self._run_began) / done * (self._of - done) - (time.monotonic() - self._began)
        of_what = " of this round" if self._or_more else ""
        return f"about {max(0, seconds) // 60:.0f}:{max(0, seconds) % 60:02.0f} left{of_what}"


class OnTerminal(Plain):
    """An observer that also shows a live line below: launch, step, throughput so far, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=REFRESH_A_SECOND, transient=True)
        self._global_batch = 0
        self._first: tuple[int, int] | None = None

    def launch_begins(self, case: Case, number: int, of: int, or_more: bool) -> None:
        """Show that a launch is starting."""
        super().launch_begins(case, number, of, or_more)
        self._global_batch, self._first = case.global_batch or 0, None
        with contextlib.suppress(OSError):
            self._live.start()
        self._live.update(Text(f"{self._head}  starting  {self.time_left()}"))

    def progress(self, steps_done: int, steps_planned: int, time_ns: int) -> None:
        """Show the step and the throughput of the launch."""
        if not steps_done:
            return
        self._first = self._first or (steps_done, time_ns)
        steps, seconds = steps_done - self._first[0], (time_ns - self._first[1]) / 1e9
        pace = f"  {number(steps * self._global_batch / seconds)} samples/s" if steps and seconds else ""
        self._live.update(Text(f"{self._head}  step {steps_done}/{steps_planned}{pace}  {self.time_left()}"))

    def close(self) -> None:
        """Remove the live line."""
        with contextlib.suppress(OSError):
            self._live.stop()


def observer(console: Console, quiet: bool) -> Quiet:
    """Return the observer for a terminal, for a file or a pipe, or for ``--quiet``."""
    if quiet:
        return Quiet(console)
    return OnTerminal(console) if is_terminal(console) else Plain(console)
