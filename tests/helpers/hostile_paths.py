"""Paths that are not what they should be, and the command run in this process with a limit in time."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import cli

HANG_S = 60


class Ended(NamedTuple):
    code: int
    said: str


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> Ended:
    """``bench`` with these words; a command that hangs is ended, and fails the test."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
    monkeypatch.setattr("bench.interrupts.install", lambda: None)  # handlers would outlast the test
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANG_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    out.flush()
    return Ended(int(end.value.code or 0), out.buffer.getvalue().decode() + err.getvalue())  # type: ignore[attr-defined]


def _hangs(*_: object) -> None:
    raise BaseException("the command hangs")


@contextlib.contextmanager
def bad_paths(folder: Path) -> Iterator[dict[str, str]]:
    """What a path may be by mistake, by a name for people."""
    (folder / "folder").mkdir()
    (folder / "file").write_text("no such content\n")
    os.mkfifo(folder / "fifo")
    os.symlink("nowhere", folder / "broken")
    os.symlink("loop", folder / "loop")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    latin = os.fsdecode(b"\xe9t\xe9")
    (folder / latin).write_bytes(b"\xff\xfe\0")
    try:
        yield {
            "a folder": str(folder / "folder"),
            "a file": str(folder / "file"),
            "below a file": str(folder / "file" / "x"),
            "a FIFO": str(folder / "fifo"),
            "a socket": str(folder / "socket"),
            "a device": "/dev/full",
            "a broken link": str(folder / "broken"),
            "a loop": str(folder / "loop"),
            "no name": "",
            "too long": "x" * 300,
            "a path too long": "/".join(["x" * 200] * 30),
            "not UTF-8": str(folder / latin),
            "missing": str(folder / "missing"),
            "hostile": str(folder / "\x1b[31m\n::error::x"),
        }
    finally:
        server.close()
