"""Warnings if a case does not fit the machine: its threads, its DataLoader workers, its model."""

from __future__ import annotations

import math

from bench.machine.preflight import THREAD_VARIABLES, Look, counted, listed
from bench.plan.case import Case
from bench.plan.optimizers import OPTIMIZERS, parse_optimizer
from bench.plan.placement import placed

SHM_MIB_A_WORKER = 64.0  # a Docker container has this much in all by default


def case_warnings(case: Case, look: Look, parameters: int | None = None) -> list[str]:
    """Return warnings of a case's threads, of processors and /dev/shm for them and for workers, and of memory.

    Workers count as a processor each. They rest while their queues are full, but if they mostly rest, fewer would do.
    ``parameters`` of the model, where they are known, give the least memory that it needs.
    """
    found = [_variables_warning(case, look), _threads_warning(case, look), _shm_warning(case, look)]
    parameters = parameters or known_parameters(case)
    found += [_memory_warning(case, look, parameters)] if parameters else []
    return [warning for warning in found if warning]


def ranks_here(case: Case, look: Look) -> int:
    """Return how many ranks of a case are on the machine of a look; none if they cannot be placed."""
    if not look.places:
        return case.processes
    try:
        on_each = placed(case.processes, look.places, even=case.placement == "even")
    except ValueError:
        return 0
    return on_each[look.node] if look.node < len(on_each) else 0


def known_parameters(case: Case) -> int | None:
    """Return the number of parameters of a built-in workload with default options, else None."""
    spec = case.spec
    return spec.entry.parameters if spec.entry and dict(spec.options) == dict(spec.entry.options) else None


def state_mib(case: Case, parameters: int) -> float:
    """Return the MiB of parameters, gradients and optimizer state of one rank, without activations.

    An optimizer keeps numbers for each parameter, of its type: float32, under ``bf16`` bfloat16. Nothing is counted
    for a workload's own. ``fsdp`` shards all of it over the ranks of a replica, ``zero1`` the optimizer's numbers;
    tensor parallel divides all but norms over the ranks of a group, and a pipeline has about as much in each stage.
    """
    state = OPTIMIZERS[parse_optimizer(case.optimizer)[0]].state if case.optimizer else 0
    shards = case.world_size if case.spread.name == "zero1" else case.mesh["shard"]
    copies = (
        (2 + state) / shards
        if case.spread.name == "fsdp"
        else 2 + state / shards
        if case.spread.name == "zero1"
        else 2 + state
    )
    return parameters / case.model_ranks * copies * (2 if case.precision == "bf16" else 4) / 2**20


def _memory_warning(case: Case, look: Look, parameters: int) -> str:
    state = state_mib(case, parameters)
    if case.on_accelerator and case.spread.options.get("offload") != "cpu":
        sizes = [gpu.memory_mib for gpu in look.gpus]
        ranks = math.ceil(ranks_here(case, look) / len(sizes)) if sizes else 1
        needed, there, where = ranks * state, min(sizes, default=math.inf), "a GPU"
    else:
        available = look.memory_available_mib
        needed, there, where = ranks_here(case, look) * state, math.inf if available is None else available, "the host"
    if needed <= there:
        return ""
    return (
        f"parameters, gradients and optimizer state take {needed:,.0f} MiB on {where}, which has {there:,.0f} MiB "
        "available: a launch runs out of memory; use --strategy fsdp, --precision bf16, fewer ranks or a smaller model"
    )


def _variables_warning(case: Case, look: Look) -> str:
    """Return a warning of variables of the shell or ``--env`` that override ``--omp-num-threads``."""
    set_ = {name: value for name, value in {**look.variables, **case.environment}.items() if name in THREAD_VARIABLES}
    asked = case.omp_num_threads
    said = []
    mkl, limit = (_number(set_.get(name, "")) for name in ("MKL_NUM_THREADS", "OMP_THREAD_LIMIT"))
    if mkl and mkl != asked:
        said.append(f"MKL_NUM_THREADS={mkl} overrides it if PyTorch uses MKL")
    if limit and limit < asked:
        said.append(f"OMP_THREAD_LIMIT={limit} allows no more")
    if asked > 1 and set_.get("OMP_DYNAMIC", "").strip().lower() in ("true", "1"):
        said.append("OMP_DYNAMIC lets OpenMP run fewer where the processors are busy")
    if not said:
        return ""
    return f"--omp-num-threads {asked} may have no effect: {listed(said)}; unset the variables that you do not need"


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() and len(text) < 10 else None


def _threads_warning(case: Case, look: Look) -> str:
    processors, workers = look.usable_processors, case.num_workers or 0
    threads = ranks_here(case, look) * (case.omp_num_threads + workers)
    if processors is None or threads <= processors:
        return ""
    each = counted(case.omp_num_threads, "OMP thread")
    if workers:
        each = f"({each} + {counted(workers, 'worker')})"
    quota = f" (a CPU quota of {look.cpu_quota:g})" if processors != look.processors else ""
    fewer = {
        "--omp-num-threads": case.omp_num_threads > 1,
        "--num-workers": workers,
        "--gpus": ranks_here(case, look) > 1,
    }
    return (
        f"{counted(ranks_here(case, look), 'rank')} x {each} = {threads} threads on {counted(processors, 'processor')}"
        f"{quota}: they take turns, so steps are slower and uneven; lower "
        f"{listed([option for option, helps in fewer.items() if helps], 'or')}"
    )


def _shm_warning(case: Case, look: Look) -> str:
    workers = ranks_here(case, look) * (case.num_workers or 0)
    needed = workers * SHM_MIB_A_WORKER
    if look.shm_free_mib is None or look.shm_free_mib >= needed:
        return ""
    return (
        f"{look.shm_free_mib:,.0f} MiB are free in /dev/shm for the batches of {counted(workers, 'DataLoader worker')}"
        ": a worker without space is killed by a bus error, and the launch fails; make it "
        f"{needed:,.0f} MiB or more (docker run --shm-size), or lower --num-workers"
    )
