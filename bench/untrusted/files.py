"""Reads and writes files that users name or edit; none of them can block stepbench or cause a traceback."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from bench.errors import ResultsError

SPECIAL_FILES = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def read_bytes(file: Path) -> bytes:
    """Return the content of a regular file.

    ResultsError if it cannot be read, and for a FIFO, a device or a socket, which might block or never end.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            check_regular(file, os.fstat(descriptor))
            return stream.read()
    except OSError as error:
        raise ResultsError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:  # A zero byte in the name.
        raise ResultsError(f"cannot read {file}: a file name cannot contain a zero byte") from None


def check_regular(file: Path, found: os.stat_result) -> None:
    """Raise ResultsError for a FIFO, a device or a socket."""
    if what := SPECIAL_FILES.get(stat.S_IFMT(found.st_mode)):
        raise ResultsError(f"cannot read {file}: it is {what}", given=str(file), allowed="a regular file")


def read_text(file: Path) -> str:
    """Return the content of a regular file as text; ResultsError also for invalid UTF-8."""
    content = read_bytes(file)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ResultsError(f"{file}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8") from None


def read_json(file: Path) -> Any:
    """Return the value in a JSON file; ResultsError, with line and column, if it is not JSON."""
    try:
        return json.loads(read_text(file).removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise ResultsError(f"{file}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ResultsError(f"{file}: its lists or objects are nested too deeply") from None
    except ValueError:  # A number of thousands of digits.
        raise ResultsError(f"{file}: a number in it has too many digits") from None


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file; OSError if it cannot be written. Does not wait for a reader of a FIFO.

    A regular file is replaced at once, so that it is whole whenever this process is killed. Only if its folder does not
    allow that, as for a file that is mounted into a container, it is written in place.
    """
    target = Path(os.path.realpath(file))  # The target of a link is written, as a shell's > does.
    try:
        mode = target.stat().st_mode
    except OSError:
        mode = None
    if target.is_symlink() or (mode is not None and not stat.S_ISREG(mode)):  # A link here is part of a loop.
        _write_in_place(file, content)
        return
    try:
        _replace(target, content, mode)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EBUSY):
            raise
        _write_in_place(file, content)


def _replace(target: Path, content: bytes, mode: int | None) -> None:
    """Write another file beside the target, with the target's permissions, and rename it."""
    partial = target.with_name(f".stepbench-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            stream.write(content)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write_in_place(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    with open(descriptor, "wb") as stream:
        os.set_blocking(descriptor, True)
        stream.write(content)
