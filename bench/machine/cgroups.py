"""What a cgroup leaves to this process: v1 (a hierarchy a controller), v2 (one for all), or v1 with an empty v2."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**62  # cgroup v1 has no word for it, but 2**63 less a page of the kernel's


def cpu_quota(membership: str, root: Path = CGROUPS) -> float | None:
    """Processors that this process may keep busy, by the tightest of its cgroups; None without a limit.

    ``membership`` is the text of /proc/self/cgroup, ``root`` where the hierarchies are mounted.
    """
    quotas = []
    for folder in _groups("cpu", membership, root):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() for word in words):  # not "max", and not -1
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_limit(membership: str, root: Path = CGROUPS) -> tuple[float, float] | None:
    """(limit, what is left below it) in MiB, each by the tightest of this process's cgroups; None without a limit.

    Arguments as of ``cpu_quota``. Cached files count as left, for the kernel drops them when memory is wanted, and as
    it counts them in its own MemAvailable.
    """
    found = []
    for folder in _groups("memory", membership, root):
        files = ("memory.max", "memory.high", "memory.limit_in_bytes")  # above "high" a group is slowed, not killed
        limits = [int(word) for file in files for word in _words(folder / file) if word.isdecimal()]
        limit = min(limits, default=UNLIMITED)
        if limit < UNLIMITED:
            used = int((_words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes") or ["0"])[0])
            left = limit - max(used - _cached_files(folder), 0)
            found.append((limit / 2**20, max(left, 0) / 2**20))
    return (min(limit for limit, _ in found), min(left for _, left in found)) if found else None


def _cached_files(group: Path) -> int:
    """Bytes, of the group and those below it: v1 calls that total_, v2 has no other."""
    words = _words(group / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    return sum(int(stat.get(f"total_{name}", stat.get(name, "0"))) for name in ("active_file", "inactive_file"))


def _groups(controller: str, membership: str, root: Path) -> list[Path]:
    """The folders of the process's group and all above it: a limit of any of them holds.

    In a container the path may be the host's while the container's own group is mounted as root: then only that is
    there, and the others are folders without files.
    """
    folders = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        bases = (root / controller, root / controllers) if controllers else (root,)  # no controllers: v2
        parts = PurePosixPath(path).parts[1:]
        if ".." in parts:  # it lies above what is mounted
            parts = ()
        folders += [base.joinpath(*parts[:depth]) for base in bases for depth in range(len(parts) + 1)]
    return folders


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
