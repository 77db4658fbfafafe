"""A throw-away Slurm on this machine: Debian's packages, files of its own, nodes that are names of this host. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from launch.ports import free_port

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=10
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=4 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
PartitionName=small Nodes=n1 MaxNodes=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n[1-{nodes}] PriorityTier=10 MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why there can be no Slurm here, in words; an empty text if there can."""
    lacking = [command for command in COMMANDS if not shutil.which(command)]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "a Slurm of its own needs root"


@contextlib.contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[dict[str, str]]:
    """Run a cluster for the body, and yield the variables that its commands need."""
    for name in ("state", "spool", "munge", "run", "log"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge").chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    first = free_port()
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(folder=folder, host=host, port=free_port(), nodes=nodes, first=first, last=first + nodes - 1)
    )
    variables = {**os.environ, "SLURM_CONF": str(config)}
    try:
        munge = [f"--key-file={key}", f"--socket={folder}/munge/socket", f"--pid-file={folder}/run/munged.pid"]
        munge += [f"--log-file={folder}/log/munged.log", f"--seed-file={folder}/munge/seed"]
        _run(variables, "munged", "--force", *munge)
        _run(variables, "slurmctld", "-i", "-f", str(config))
        for node in range(1, nodes + 1):
            _run(variables, "slurmd", "-N", f"n{node}", "-f", str(config))
        deadline = time.monotonic() + 90
        while len(set(_run(variables, "sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())) < nodes:
            if time.monotonic() > deadline:
                raise TimeoutError("".join(file.read_text()[-800:] for file in (folder / "log").iterdir()))
            time.sleep(0.1)
        yield variables
    finally:
        for file in sorted((folder / "run").glob("*.pid"), reverse=True):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), 15)
        time.sleep(0.5)


def _run(variables: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=variables, check=True, capture_output=True, text=True, timeout=60).stdout
