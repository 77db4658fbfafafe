"""Facts about what surrounds this process: a container, its limits, and the place of the node in Slurm's network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bench.machine.cgroups import CGROUPS, memory_limit
from bench.machine.kernel_files import text_of

APPTAINER = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")  # The image, under the present name and the old one.
PODMAN_LINE = re.compile(r'^(image|imageid)="(.*)"$', re.MULTILINE)


def container_facts(
    environment: Mapping[str, str], root: Path = Path("/"), cgroups: Path = CGROUPS
) -> dict[str, str | None]:
    """Return the facts by name; None for those that are unknown.

    ``environment``: the variables of this process. ``root``: the root of the file system. ``cgroups``: where the
    hierarchies of cgroups are mounted.
    """
    kind, image = _container(environment, root)
    limit = memory_limit(text_of(root / "proc/self/cgroup") or "", cgroups)
    return {
        "container": kind,
        "container_image": image,
        "slurm_topology": environment.get("SLURM_TOPOLOGY_ADDR"),
        "cgroup_memory_mib": f"{limit[0]:.0f}" if limit else None,
    }


def _container(environment: Mapping[str, str], root: Path) -> tuple[str | None, str | None]:
    """Return (kind of container, its image) by the marks that each kind leaves; None for what no mark tells."""
    for name in APPTAINER:
        if environment.get(name):
            return "apptainer", environment[name]
    if (root / "run/.containerenv").exists():
        said = dict(PODMAN_LINE.findall(text_of(root / "run/.containerenv") or ""))
        return "podman", " ".join(said[name] for name in ("image", "imageid") if said.get(name)) or None
    if (root / ".dockerenv").exists():
        return "docker", None
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes", None
    return environment.get("container"), None  # As systemd-nspawn and LXC set it.
