"""Checks the user's data and workload files before anything is launched, without torch."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from bench.errors import BenchError, UsageError
from bench.plan.case import Case
from workloads.data import criteo, demo, mnist_idx, paths


def check_inputs(case: Case, code_is_here: bool = True) -> int | None:
    """Return the number of samples in the case's data, None if only torch knows; UsageError if it cannot be read.

    Without ``code_is_here`` the workload's file may be in another revision only.
    """
    spec = case.spec
    if spec.script == "script" and code_is_here and not os.path.isfile(spec.target):
        raise UsageError(option="--script", given=spec.target, allowed="a Python file that exists")
    if spec.script or spec.comms:
        return None
    if spec.entry is None and code_is_here:
        where = spec.target.rpartition(":")[0]
        if where.endswith(".py") and not os.path.isfile(where):
            raise UsageError(option="--workload", given=case.workload, allowed="a Python file that exists")
    kind, _, path = (case.data or "").partition("=")
    if kind == "folder":
        return _images(path)
    if kind == "text":
        return _sequences(path, spec.options.get("seq"))
    if kind == "mnist":
        return _digits(path)
    if kind == "criteo":
        return _clicks(path)
    return None


def _images(path: str) -> int:
    if path == "demo":
        return demo.IMAGES
    if not os.path.isdir(path):
        raise _refused("folder", path, "a folder that exists")
    count = len(paths.images_of(Path(path)))
    if not count:
        suffixes = ", ".join(paths.IMAGE_SUFFIXES)
        raise _refused("folder", path, f"a folder with images as CLASS/FILE, where FILE ends in {suffixes}")
    return count


def absolute_data(data: str | None) -> str:
    """Return the data with its full path, and create missing demo files; BenchError if they cannot be created.

    Empty for a script that decides on its data itself.
    """
    if data is None:
        return ""
    try:
        kind, equals, path = paths.resolve(data).partition("=")
    except OSError as error:
        raise BenchError(
            f"--data {data}: cannot create its files: {error}",
            option="--data",
            given=data,
            hint="Set XDG_CACHE_HOME to a writable folder.",
        ) from None
    return f"{kind}={os.path.realpath(path)}" if equals else data  # Path.resolve raises for circular links.


def _sequences(path: str, seq: object) -> int | None:
    real = absolute_data(f"text={path}").partition("=")[2]
    if not os.path.isfile(real):
        raise _refused("text", path, "one text file that exists")
    if not isinstance(seq, int):
        return None
    size = Path(real).stat().st_size
    if size < seq + 1:
        raise _refused("text", path, f"a file of at least {seq + 1} bytes: one sequence (seq + 1); it has {size}")
    return (size - 1) // seq


def _digits(path: str) -> int:
    if path == "demo":
        return demo.DIGITS
    try:
        return mnist_idx.training_set(path)[0].shape[0]
    except (OSError, ValueError) as error:  # OSError also for a file that is not gzip.
        raise UsageError(f"--data mnist={path}: {error}", option="--data", given=f"mnist={path}") from None


@functools.lru_cache  # Read each file once, however many cases use it.
def _clicks(path: str) -> int:
    if path == "demo":
        return demo.CLICKS
    try:
        return criteo.count(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--data criteo={path}: {error}", option="--data", given=f"criteo={path}") from None


def _refused(kind: str, path: str, allowed: str) -> UsageError:
    return UsageError(option="--data", given=f"{kind}={path}", allowed=allowed)
