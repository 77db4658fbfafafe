"""The ``bench`` command: one file for each subcommand, which parses options and prints results.

Only this package turns errors into messages and exit codes. It imports all of ``bench`` except ``rank`` and
``strategies``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import signal
import sys
import traceback
from pathlib import Path

import bench
from bench import interrupts
from bench.cli.console import say, silence_stdout
from bench.errors import EXIT_BUG, EXIT_FAILED, BenchError, Interrupted, UsageError
from bench.untrusted.text import printable

# Errors of files and folders that the user can correct.
FILE_ERRORS = {
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
}


def main() -> None:
    """Run the command of ``sys.argv``, and exit with its exit code."""
    interrupts.install()
    if isinstance(sys.stdout, io.TextIOWrapper):  # The locale may lack some of our characters.
        sys.stdout.reconfigure(errors="replace")
    try:
        _check_own_packages()
        from bench.cli.app import make

        code = make(*sys.argv[1:2])(standalone_mode=False)
    except BenchError as error:
        say(f"bench: {error}")
        code = error.exit_code
    except Interrupted as interrupt:
        code = interrupt.exit_code
    except BrokenPipeError:  # The reader of our output is gone.
        silence_stdout()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _report_os_error(error)
    except Exception as error:
        code = _report_error(error)
    sys.exit(code or 0)


def _report_os_error(error: OSError) -> int:
    """Print the message of an error of a named file or folder, and return the exit code."""
    if error.errno not in FILE_ERRORS or error.filename is None:
        return _report_error(error)
    say(f"bench: {os.fsdecode(error.filename)}: {error.strerror}")
    return EXIT_FAILED


def _report_error(error: Exception) -> int:
    """Print a usage error from click, or any other error as a bug with its traceback; return the exit code."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(message)  # type: ignore[attr-defined]
        error.show()
        return int(error.exit_code)
    with contextlib.suppress(OSError):
        say(traceback.format_exc().rstrip("\n"))
        say("bench: this is a bug in stepbench; please report it with the lines above")
    return EXIT_BUG


def _check_own_packages() -> None:
    """Raise UsageError if PYTHONPATH has another package named ``launch`` or ``workloads`` before ours."""
    home = Path(str(bench.__file__)).parent.parent
    for package in ("launch", "workloads"):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise UsageError(
                f"stepbench is not completely installed: {package!r} is missing", hint=f"Run pip install {home}."
            )
        where = Path(str(spec.origin))
        if where.parent.parent != home:
            raise UsageError(
                f"{where} hides stepbench's own {package!r}",
                hint="Remove its folder from PYTHONPATH; --workload file.py:Name needs no PYTHONPATH.",
            )
