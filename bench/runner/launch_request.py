"""Requests for a launcher, and the specs of its ranks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ResultsError
from bench.messages.spec import Script, Spec, Turns
from bench.plan.case import Case
from bench.plan.data_files import absolute_data
from bench.plan.plan import Protocol
from bench.runner.rank_site import Site
from bench.runner.script_folder import make_folder
from launch import Request

RANK_ENTRY, DESCRIBE_ENTRY = "bench.rank.main:run", "bench.rank.describe:run"
MATMUL_ENTRY = "bench.rank.matmul_peak:run"
SCRIPT_ENTRY, COMMS_ENTRY = "bench.rank.script.main:run", "bench.rank.comms.main:run"


@dataclass(frozen=True)
class LaunchRequests:
    """Makes requests for ranks at one site. ``variables`` are part of every rank's environment."""

    site: Site
    variables: Mapping[str, str]

    def measuring(self, case: Case, folder: Path, protocol: Protocol) -> Request:
        """Return the request of a launch that trains the case; its records go to ``folder``."""
        binding = case.numa_binding if case.numa_binding != "off" else None
        entry = SCRIPT_ENTRY if case.is_script else COMMS_ENTRY if case.is_comms else RANK_ENTRY
        return self._request(
            entry, case, folder, protocol, ranks=case.processes, numa_binding=binding, even=case.placement == "even"
        )

    def describing(self, case: Case, folder: Path, protocol: Protocol) -> Request:
        """Return the request of a launch of one rank that describes the case's workload."""
        return self._request(DESCRIBE_ENTRY, case, folder, protocol, ranks=1, measures=False)

    def multiplying(self, case: Case, folder: Path, protocol: Protocol) -> Request:
        """Return the request of a launch of one rank that times matrix products in the case's precision."""
        return self._request(MATMUL_ENTRY, case, folder, protocol, ranks=1, measures=False)

    def spec(
        self,
        case: Case,
        request: Request,
        scratch: Path,
        protocol: Protocol,
        turns: Turns | None = None,
        methods: Mapping[str, list[str]] | None = None,
        elsewhere: Mapping[int, int] | None = None,
    ) -> Spec:
        """Write the spec of a request's ranks as a file, and return it. Raise ResultsError if it cannot be written.

        ``methods`` of the models are those that the loss calls. ``elsewhere`` has the node of each rank that is not on
        this one.
        """
        workload, folder = case.spec, request.log
        own_cache = "TORCHINDUCTOR_CACHE_DIR" in {**self.variables, **case.environment}
        spec = Spec(
            case=case,
            target="" if not case.is_workload else self.site.target(absolute_target(workload.target)),
            options=workload.options,
            data=absolute_data(case.data),
            warmup_steps=protocol.warmup_steps,
            steps=protocol.steps,
            min_seconds=protocol.min_seconds,
            max_seconds=protocol.max_seconds,
            timeout_s=protocol.timeout,
            folder=str(folder),
            scratch=str(scratch),
            compile_cache="" if own_cache else f"{scratch}/inductor-{folder.name}",
            watched=self.site.watched,
            turns=turns,
            script=self._script(case, protocol, folder) if case.is_script else None,
            methods=dict(methods or {}),
            nodes=[(elsewhere or {}).get(rank, 0) for rank in range(request.ranks)],
            count_work=protocol.count_work,
            profile=protocol.profile,
            save_folder=_save_folder(protocol, folder) if case.saves and request.measures else "",
            stragglers=protocol.stragglers,
        )
        try:
            if spec.script:
                run = folder.resolve().parents[1]  # it may be in the folder of the user
                make_folder(Path(spec.script.home), Path(spec.script.folder), without=[run, run.parent])
            spec.write()
        except OSError as error:
            raise ResultsError(f"cannot write {folder}: {error.strerror}") from None
        return spec

    def _script(self, case: Case, protocol: Protocol, folder: Path) -> Script:
        target = case.spec.target
        is_module = case.spec.script == "module"
        return Script(
            target=target if is_module else str(self.site.moved(target)),
            is_module=is_module,
            arguments=case.arguments,
            home=str(self.site.folder() or Path.cwd()),
            folder=str(folder.resolve() / "cwd"),
            patience_s=protocol.hang_timeout,
            hides_gpus=not case.on_accelerator,
            count_flops=protocol.count_flops,
        )

    def _request(
        self,
        entry: str,
        case: Case,
        folder: Path,
        protocol: Protocol,
        *,
        ranks: int,
        numa_binding: str | None = None,
        measures: bool = True,
        even: bool = False,
    ) -> Request:
        variables = case.environment
        if "PYTHONPATH" in variables:  # keep the entry that makes this project's packages importable
            variables |= self.site.variables(variables)
        return Request(
            entry=entry,
            argument=str((folder / "spec.json").resolve()),
            ranks=ranks,
            timeout_s=protocol.timeout,
            log=folder.resolve(),
            environment={**variables, "OMP_NUM_THREADS": str(case.omp_num_threads)},
            numa_binding=numa_binding,
            measures=measures,
            even=even,
        )


def _save_folder(protocol: Protocol, folder: Path) -> str:
    """Return a folder for the state of a launch, which does not exist yet."""
    return f"{protocol.save_dir}/stepbench-{uuid.uuid4().hex}" if protocol.save_dir else f"{folder.resolve()}/saved"


def absolute_target(target: str) -> str:
    """Return a user's file with its full path, as ranks may run in another folder; other targets as they are."""
    where, _, name = target.rpartition(":")
    return f"{os.path.realpath(where)}:{name}" if where.endswith(".py") else target
