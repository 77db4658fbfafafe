"""A share of a processor for one rank: a cgroup with a quota, as on a machine where something else is limited."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PERIOD_US = 100_000
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
GROUP = "QUOTA_GROUP"  # the variable that names the group's folder

WORKLOAD = f"""
import os
from pathlib import Path

from workloads.gpt import GPT


class Limited(GPT):
    def loss(self, model, batch):
        # Join the group here, as what comes before the first loss need not be slow.
        if os.environ.get("RANK") == "1" and (group := os.environ.get("{GROUP}")):
            (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
        return super().loss(model, batch)
"""


def missing() -> str:
    """Why no group can be made here; an empty text if it can."""
    try:
        with quota(1.0):
            return ""
    except OSError as error:
        return f"no cgroup with a CPU quota can be made here: {error}"


@contextlib.contextmanager
def quota(share: float) -> Iterator[Path]:
    """Make a cgroup whose processes together may use this share of one processor."""
    v1 = (V1 / "cpu.cfs_quota_us").exists()
    folder = (V1 if v1 else V2) / f"stepbench-test-{os.getpid()}"
    folder.mkdir()
    quota_us = int(share * PERIOD_US)
    try:
        if v1:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        yield folder
    finally:
        folder.rmdir()
