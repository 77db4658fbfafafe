"""The ``bench`` command within the process of the tests: a tenth of a second where a process of its own takes a whole."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from command_line import Run, environment, latest

from bench import cli


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        """What stdout says as JSON."""
        return dict(json.loads(self.out))


def bench(cwd: Path, *words: str, stdin: io.StringIO | None = None) -> Done:
    """Run the command in ``cwd``, without a terminal; no bug of ours passes."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["bench", *words]),
        mock.patch.object(sys, "stdin", stdin or io.StringIO()),
        mock.patch.object(cli.interrupts, "install"),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


def run_bench(cwd: Path, *words: str, more: Mapping[str, str] | None = None) -> Run:
    """Run the command as ``command_line.run_bench`` does, for commands that start no ranks."""
    with mock.patch.dict(os.environ, environment(more), clear=True):
        done = bench(cwd, *words)
    return Run(done.code, done.out, done.err, latest(cwd))
