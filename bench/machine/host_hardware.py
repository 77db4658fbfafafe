"""Facts about processors, memory and kernel of this machine, from /sys and /proc."""

from __future__ import annotations

from pathlib import Path

from bench.machine.kernel_files import PROC, SYS, distinct, on_off, text_of

# Modules whose parameter max_cstate holds, by idle driver. Other drivers have no such limit.
LIMITS_IDLE = {"intel_idle": "intel_idle", "acpi_idle": "processor"}
# Names, or beginnings of names, of kernel parameters that change speed. Others may hold passwords or name disks.
PARAMETERS = (
    *("mitigations", "spectre", "spec_", "l1tf", "mds", "nopti", "pti", "retbleed", "tsx", "nosmt", "srbds"),
    *("isolcpus", "nohz", "rcu_nocb", "irqaffinity", "nr_cpus", "maxcpus", "idle", "cpuidle", "cpufreq", "processor."),
    *("intel_idle", "intel_pstate", "amd_pstate", "iommu", "intel_iommu", "amd_iommu", "pci", "numa", "mem"),
    *("transparent_hugepage", "hugepage", "default_hugepage", "clocksource", "tsc", "preempt", "nvidia"),
)


def host_hardware(sys: Path = SYS, proc: Path = PROC) -> dict[str, str | None]:
    """Return the facts by name; None for those that cannot be read. ``sys``, ``proc``: where the kernel's files are."""
    cpu = sys / "devices/system/cpu"
    driver = text_of(cpu / "cpuidle/current_driver")
    return {
        "cpu_governor": distinct(map(text_of, (cpu / "cpufreq").glob("policy*/scaling_governor"))),
        "cpu_turbo": _turbo(cpu),
        "smt": on_off(text_of(cpu / "smt/active")),
        "cpu_idle_driver": driver,
        "max_cstate": text_of(sys / "module" / LIMITS_IDLE.get(driver or "", "") / "parameters/max_cstate"),
        "transparent_hugepages": _chosen(text_of(sys / "kernel/mm/transparent_hugepage/enabled")),
        "numa_nodes": text_of(sys / "devices/system/node/online"),
        "numa_balancing": on_off(text_of(proc / "sys/kernel/numa_balancing")),
        "iommu": _iommu(sys / "kernel/iommu_groups"),
        "kernel": text_of(proc / "sys/kernel/osrelease"),
        "kernel_parameters": _parameters(text_of(proc / "cmdline")),
        "mitigations": _mitigations(cpu / "vulnerabilities"),
    }


def _turbo(cpu: Path) -> str | None:
    """Return whether processors may run above their base frequency: drivers say so in one of two files."""
    forbidden = text_of(cpu / "intel_pstate/no_turbo")
    if forbidden in ("0", "1"):
        return "on" if forbidden == "0" else "off"
    return on_off(text_of(cpu / "cpufreq/boost"))


def _chosen(text: str | None) -> str | None:
    """Return the word in brackets of a text such as ``always [madvise] never``."""
    return next((word[1:-1] for word in (text or "").split() if word.startswith("[") and word.endswith("]")), None)


def _iommu(groups: Path) -> str | None:
    """Return how the IOMMU translates for devices, such as ``DMA-FQ`` or ``identity``; ``off`` without any group."""
    if not groups.is_dir():
        return None
    found = sorted(groups.glob("*"))
    return (distinct(text_of(group / "type") for group in found) or "on") if found else "off"


def _parameters(command_line: str | None) -> str | None:
    """Return the parameters of the kernel's command line that are in PARAMETERS; ``none`` if it has none of them."""
    if command_line is None:
        return None
    ours = command_line.partition(" -- ")[0].split()  # What follows goes to the first process.
    return " ".join(word for word in ours if word.startswith(PARAMETERS)) or "none"


def _mitigations(vulnerabilities: Path) -> str | None:
    """Return each vulnerability that the kernel mitigates and by what, ``none`` if there is none.

    A file says for instance ``Mitigation: Retpolines; STIBP: disabled``, ``Not affected`` or ``Vulnerable``. Details
    after the first semicolon are left out, as their wording differs between kernels.
    """
    if not vulnerabilities.is_dir():
        return None
    found = []
    for file in sorted(vulnerabilities.iterdir()):
        status, _, by = (text_of(file) or "").partition(": ")
        if status == "Mitigation":
            found.append(f"{file.name}: {by.partition(';')[0]}")
    return "; ".join(found) or "none"
