"""The ``bench`` command: one file a subcommand, which parses and prints. The only place that turns errors into messages
and exit codes. Imports all of ``bench`` but ``rank`` and ``strategies``."""

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

FILE_ERRORS = {
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
}


def main() -> None:
    """Run the command; the process ends with the exit code that the design gives to what happened."""
    interrupts.install()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale without our dashes loses those, and no result
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
    except BrokenPipeError:  # whoever read our output has gone
        silence_stdout()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _report_os_error(error)
    except Exception as error:
        code = _report_error(error)
    sys.exit(code or 0)


def _report_os_error(error: OSError) -> int:
    """What is wrong with a file or folder that has a name, and that nothing nearer to it has put into words."""
    if error.errno not in FILE_ERRORS or error.filename is None:
        return _report_error(error)
    say(f"bench: {os.fsdecode(error.filename)}: {error.strerror}")
    return EXIT_FAILED


def _report_error(error: Exception) -> int:
    """click's own usage errors have a message and a code; anything else is a bug of ours."""
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
    """A PYTHONPATH that puts another ``launch`` or ``workloads`` before ours would break everything: say so now."""
    home = Path(str(bench.__file__)).parent.parent
    for package in ("launch", "workloads"):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise UsageError(f"stepbench is not installed here, and {package!r} is a part of it: pip install {home}")
        where = Path(str(spec.origin))
        if where.parent.parent != home:
            raise UsageError(
                f"{where} hides stepbench's own {package!r}; take its folder out of PYTHONPATH "
                "(a user's workload is named by --workload file.py:Name, its siblings import without it)"
            )
