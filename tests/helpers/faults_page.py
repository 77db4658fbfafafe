"""``docs/faults.md``: each line is what a test has seen."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = """# What becomes of faults

Made by `make faults`: each fault below was injected into real launches of two Gloo ranks. The launches before and after
it are there and right, and nothing is left running. HOST and N stand for what differs from machine to machine. Where a
launch failed, `bench run` ends with exit code 5; where it was interrupted, with 129, 130 or 143.

| fault | status | reason in the row |
|---|---|---|
"""


class Page:
    """Compares each line with the page, or collects it for a new one."""

    def __init__(self, writing: bool) -> None:
        self.writing, self.lines = writing, []

    def __call__(self, about: str, status: str, reason: str) -> None:
        line = f"| {about} | {f'`{status}`' if status else '—'} | {reason or '—'} |"
        if self.writing:
            self.lines.append(line)
        else:
            assert line in PAGE.read_text().splitlines()

    def close(self) -> None:
        if self.lines:
            PAGE.write_text(HEAD + "\n".join(self.lines) + "\n")
