"""Limits of this process by cgroups: v1 (one hierarchy per controller), v2 (one for all), or both mounted."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**62  # cgroup v1 writes 2**63 minus a page for "no limit".


def cpu_quota(membership: str, root: Path = CGROUPS) -> float | None:
    """Return how many processors this process may keep busy, by its tightest cgroup; None without a limit.

    ``membership``: the text of /proc/self/cgroup. ``root``: where the hierarchies are mounted.
    """
    quotas = []
    for folder in _groups("cpu", membership, root):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() for word in words):  # Neither "max" nor -1.
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_limit(membership: str, root: Path = CGROUPS) -> tuple[float, float] | None:
    """Return (limit, memory left) in MiB, each by the tightest cgroup of this process; None without a limit.

    The arguments are those of ``cpu_quota``. Cached files count as memory left, as in the kernel's MemAvailable: the
    kernel drops them when memory is needed.
    """
    found = []
    for folder in _groups("memory", membership, root):
        files = ("memory.max", "memory.high", "memory.limit_in_bytes")  # Above "high" a group is throttled, not killed.
        limits = [int(word) for file in files for word in _words(folder / file) if word.isdecimal()]
        limit = min(limits, default=UNLIMITED)
        if limit < UNLIMITED:
            used = int((_words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes") or ["0"])[0])
            left = limit - max(used - _cached_files(folder), 0)
            found.append((limit / 2**20, max(left, 0) / 2**20))
    return (min(limit for limit, _ in found), min(left for _, left in found)) if found else None


def _cached_files(group: Path) -> int:
    """Return the bytes of cached files of a group and those below it: ``total_*`` in v1, the only values in v2."""
    words = _words(group / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    return sum(int(stat.get(f"total_{name}", stat.get(name, "0"))) for name in ("active_file", "inactive_file"))


def _groups(controller: str, membership: str, root: Path) -> list[Path]:
    """Return the folders of the process's group and of all groups above it: the limit of each of them applies.

    In a container the path may be that on the host while the container's own group is mounted as root. Then only the
    root has files, and the other folders do not exist.
    """
    folders = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        bases = (root / controller, root / controllers) if controllers else (root,)  # No controllers: v2.
        parts = PurePosixPath(path).parts[1:]
        if ".." in parts:  # The group is above the mounted root.
            parts = ()
        folders += [base.joinpath(*parts[:depth]) for base in bases for depth in range(len(parts) + 1)]
    return folders


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
