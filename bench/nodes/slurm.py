"""Runs as jobs of Slurm: the batch script, and what becomes of it after it was submitted."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import interrupts
from bench.errors import BenchError, UsageError
from bench.machine.slurm_log import LOG
from bench.nodes.options import DEFAULT_PORT, TOKEN

POLL_S = 1.0
COMMAND_S = 60.0  # for a command of Slurm to answer
PORTS = 1000  # jobs that share a node take different ones
SILENT_S = 600.0  # for Slurm to answer at all, while a job is followed
OPTION = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
OURS = (
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "output",
    "error",
    "open-mode",
    "array",
    "wrap",
    "parsable",
    "signal",
    "requeue",
)
GPUS = ("gres", "gpus", "gpus-per-node", "gpus-per-task")  # by any of which a user may ask for GPUs
# All other states, such as SIGNALING and REQUEUED, are on the way to one of these.
ENDED = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"),
    *("DEADLINE", "REVOKED"),
)
NEVER = (
    "BadConstraints",
    "PartitionNodeLimit",
    "AssocGrpGRES",
    "QOSMaxGRESPerUser",
    "PartitionTimeLimit",
    "InvalidQOS",
)


@dataclass(frozen=True)
class Job:
    """A job to be written: ``words`` are the options of ``bench run``, without ``--out``.

    ``kept`` are those that a run needs again when it is resumed. ``out``: a folder that all nodes see; results go to
    its ``slurm/JOB``. ``options``: of sbatch, by name. ``setup``: a script that each node's shell reads first.
    ``modules`` are loaded. ``wrapper``: words before the command, such as those of a container. ``notice_s``: seconds
    before the time limit at which the run ends well.
    """

    words: Sequence[str]
    nodes: int
    gpus_per_node: int
    out: Path
    kept: Sequence[str] = ()
    bench: Sequence[str] = ("bench",)
    options: Mapping[str, str] = field(default_factory=dict)
    modules: Sequence[str] = ()
    setup: str = ""
    container: str = ""
    wrapper: Sequence[str] = ()
    requeue: bool = False
    notice_s: int = 120


def options_of(given: Sequence[str]) -> dict[str, str]:
    """Return sbatch's options of texts ``name=value`` or ``name``; UsageError for what is not allowed."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        name = name.removeprefix("--")
        if not OPTION.fullmatch(name) or not _is_one_line(value):
            raise UsageError(
                option="--slurm-option", given=text, allowed="NAME=VALUE of sbatch's long options, in one line"
            )
        if name in OURS:
            raise UsageError(
                f"--slurm-option {name}: stepbench sets it", option="--slurm-option", given=text, hint="Leave it out."
            )
        found[name] = value
    return found


def script(job: Job, of: str = "") -> str:
    """Return the batch script. Every value of the user is quoted; UsageError for one with several lines.

    ``of``: number of an earlier job with whose run it goes on; without it the job has a run of its own.
    """
    texts = [str(job.out), job.setup, job.container, *job.words, *job.kept, *job.bench, *job.modules, *job.wrapper]
    for text in texts:
        if not _is_one_line(text):
            raise UsageError(option="--scheduler slurm", given=text, allowed="values in one line")
    if "\\" in str(job.out):  # which sbatch does not take in the name of a log, however it is quoted
        raise UsageError(option="--out", given=str(job.out), allowed="a folder without a backslash in its path")
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}{'=' + _for_sbatch(value) if value else ''}" for name, value in _head(job).items()]
    lines += ["set -euo pipefail"]
    lines += [f"module load {shlex.quote(module)}" for module in job.modules]
    lines += [f". {shlex.quote(job.setup)}"] if job.setup else []
    folder = shlex.quote(f"{job.out}/slurm")
    # Node 0 is the first one, at the address by which Slurm reaches it. The token is made in the job: no file has it.
    lines += [
        f"export {TOKEN}=$(head -c 16 /dev/urandom | base64)",
        f'export {LOG}={folder}/"$SLURM_JOB_ID.log"',
        'read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
        r"""first=$(scontrol --oneliner show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')""",
        f"port=$(({DEFAULT_PORT} + SLURM_JOB_ID % {PORTS}))",
        f"out={folder}/{of}" if of else f'out={folder}/"$SLURM_JOB_ID"',
        f"run=({shlex.join(job.words)})",
    ]
    # A job that Slurm starts again goes on with the run that it had begun.
    again = "" if of else '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && '
    lines.append(f'if {again}[ -d "$out/runs" ]; then run=(--resume latest); fi')
    lines += ENDS_AND_REQUEUES.format(_srun(job)).splitlines() if job.requeue else [f"exec {_srun(job)}"]
    return "\n".join(lines) + "\n"


# Slurm starts a job again that was preempted or whose node failed, and ends its shell. After the signal ahead of the
# time limit the shell goes on, and has to ask for it, but not for ever if the limit is too short for a launch.
ENDS_AND_REQUEUES = """\
ended() {{ tail -qn +2 "$out"/runs/*/launches.csv 2>/dev/null | grep -cv ,interrupted, || true; }}
before=$(ended)
code=0
{} || code=$?
if [ "$code" = 143 ]; then
  if [ "$(ended)" -gt "$before" ]; then scontrol requeue "$SLURM_JOB_ID"
  else echo "no launch ended within the time limit: not requeued; to go on: sbatch --time=LONGER $out.sh" >&2; fi
fi
exit "$code\""""


def _head(job: Job) -> dict[str, str]:
    """Return the options of sbatch, those of the user among them."""
    gpus = {"gpus-per-node": str(job.gpus_per_node)} if job.gpus_per_node and not set(GPUS) & set(job.options) else {}
    # sbatch replaces %j and the like in the name of a log.
    log = str(job.out / "slurm").replace("%", "%%") + "/%j.log"
    return {
        **{"job-name": "stepbench", "exclusive": ""},
        **gpus,
        **job.options,
        **{"nodes": str(job.nodes), "ntasks-per-node": "1", "output": log, "open-mode": "append"},
        **{"signal": f"TERM@{job.notice_s}", "requeue" if job.requeue else "no-requeue": ""},
    }


def _srun(job: Job) -> str:
    """Return the command that starts one task on each node; Slurm's variables say which it is."""
    container = [f"--container-image={job.container}"] if job.container else []
    options = ["--export=ALL", "--kill-on-bad-exit=0", "--cpu-bind=none"]
    before = shlex.join(["srun", *options, *container, "--", *job.wrapper, *job.bench, "run"])
    kept = "".join(f" {shlex.quote(word)}" for word in job.kept)
    return f'{before} "${{run[@]}}"{kept} --out "$out" --rdzv-endpoint "$first:$port"'


def _for_sbatch(value: str) -> str:
    """Quote a value for a line of ``#SBATCH``, which sbatch itself reads: it knows quotes, comments and backslashes."""
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./\[\]-]*", value, re.ASCII):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _is_one_line(text: str) -> bool:
    return text.isprintable()


# -- the job -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The state of a job, and Slurm's reason for it. ``code``: its exit code, None while it has not ended."""

    name: str
    reason: str
    code: int | None

    @property
    def words(self) -> str:
        """The state in words."""
        reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
        hint = ": it will never start; cancel it, and ask for something else" if self.reason in NEVER else ""
        if (self.name, self.code) == ("FAILED", 143):
            hint = ": SIGTERM ended the run, as Slurm sends it ahead of the time limit"
        return f"{self.name.lower()}{reason}{hint}"


def submit(job: Job) -> str:
    """Submit a job, and return its number. Raise BenchError with what sbatch says.

    Write a script beside its log, ``JOB.sh``, which goes on with its run in another job.
    """
    folder = job.out / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    number = _slurm("sbatch", "--parsable", text=script(job)).strip().partition(";")[0]
    (folder / f"{number}.sh").write_text(script(job, of=number))
    return number


def state(number: str) -> State:
    """Return the state of a job. Raise BenchError if Slurm does not know it (any more)."""
    return parsed(_slurm("scontrol", "--oneliner", "show", "job", number))


def parsed(line: str) -> State:
    """Return the state that the first line of ``scontrol -o show job`` tells."""
    found = dict(re.findall(r"(?:^|\s)(JobState|Reason|ExitCode)=(\S*)", line.strip().split("\n", 1)[0]))
    name = found.get("JobState", "")
    code, _, signal = found.get("ExitCode", "0:0").partition(":")
    ended = name in ENDED
    number = int(code) or (128 + int(signal or 0) if int(signal or 0) in interrupts.NUMBERS else 0)
    if ended and not number and name != "COMPLETED":
        number = BenchError.exit_code  # it never ran, was killed, or a node failed, before the run had a code
    return State(name, found.get("Reason", ""), number if ended else None)


def cancel(number: str) -> None:
    """End a job: the run gets SIGTERM, and ends as after Ctrl-C."""
    _slurm("scancel", number)


def follow(number: str, log: Path, show: Callable[[str], None], say: Callable[[str], None]) -> int:
    """Show the job's states and its log as it grows, until it has ended. Return its exit code."""
    before, shown, heard_at = "", 0, time.monotonic()
    while True:
        try:
            now = state(number)
            heard_at = time.monotonic()
        except BenchError:  # a controller that is busy or restarts
            if not before or time.monotonic() - heard_at > SILENT_S:
                raise
            time.sleep(10 * POLL_S)
            continue
        if now.words != before:
            say(f"job {number}: {now.words}")
            before = now.words
        shown = _show_new(log, shown, show)
        if now.code is not None:
            return now.code
        time.sleep(POLL_S)


def _show_new(log: Path, shown: int, show: Callable[[str], None]) -> int:
    """Show what the log has beyond ``shown`` bytes, in whole lines, and return how many have been shown."""
    try:
        with log.open("rb") as stream:
            stream.seek(shown)
            new = stream.read()
    except OSError:
        return shown
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        show(line)
    return shown + len(whole)


def _slurm(*words: str, text: str | None = None) -> str:
    if not shutil.which(words[0]):
        raise BenchError(f"there is no command {words[0]} here", hint="Submit from a login node of the cluster.")
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{words[0]} does not answer within {COMMAND_S:g} s") from None
    if done.returncode:
        raise BenchError(f"{words[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout
