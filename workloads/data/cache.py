"""The user's cache: files that can be made again, such as demo data."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def caches() -> list[Path]:
    """Return the user's cache, and a temporary folder in case it is not writable, as in many containers."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folders = [Path(home, "stepbench")] if os.path.isabs(home) else []  # "~" stays if the user has no home folder
    return [*folders, Path(tempfile.gettempdir(), f"stepbench-{os.getuid()}")]


def is_ours(cache: Path) -> bool:
    """Return whether a cache belongs to this user; in a shared folder it may belong to another one."""
    return cache.stat().st_uid == os.getuid() or not cache.parent.stat().st_mode & stat.S_IWOTH


def writable() -> Path:
    """Return the first cache that is writable; make it if it is missing."""
    for cache in caches():
        with contextlib.suppress(OSError):
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_ours(cache) and os.access(cache, os.W_OK):
                return cache
    raise PermissionError(f"none of {', '.join(map(str, caches()))} can be written to")
