"""The hardware and its settings, as far as they can be read without root: one table of facts, and their reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bench.machine.container import container_facts
from bench.machine.gpu_hardware import gpu_hardware
from bench.machine.gpus import Machine
from bench.machine.host_hardware import host_hardware
from bench.machine.network_hardware import network_hardware


class Fact(NamedTuple):
    """A fact in the column ``hardware``. ``in_env_key``: whether other values are another kind of machine."""

    in_env_key: bool
    about: str


# In env_key is what changes speed; neither what differs between machines of one kind, such as names and counts of
# errors, nor versions, which change with updates.
FACTS = {
    "cpu_governor": Fact(True, "frequency governor of the processors, such as `performance`"),
    "cpu_turbo": Fact(True, "whether processors may run above their base frequency"),
    "smt": Fact(True, "whether threads share cores (hyper-threading)"),
    "cpu_idle_driver": Fact(False, "driver of the processors' idle states (C-states)"),
    "max_cstate": Fact(False, "deepest idle state that this driver may use"),
    "transparent_hugepages": Fact(True, "`always`, `madvise` or `never`"),
    "numa_nodes": Fact(False, "NUMA nodes that are online, such as `0-1`"),
    "numa_balancing": Fact(True, "whether the kernel moves memory between NUMA nodes"),
    "iommu": Fact(False, "how the IOMMU translates, such as `DMA-FQ` or `identity`; `off` if no device has one"),
    "kernel": Fact(False, "version of the kernel"),
    "kernel_parameters": Fact(False, "parameters of the kernel's command line that change speed; others are left out"),
    "mitigations": Fact(True, "vulnerabilities of processors that the kernel mitigates, and by what"),
    "network_cards": Fact(False, "network cards that are up: driver, speed, and firmware by `ethtool`"),
    "rdma_devices": Fact(False, "RDMA devices: link layer and rate of active ports, firmware"),
    "gpudirect_module": Fact(False, "loaded module of GPUDirect RDMA, such as `nvidia_peermem`"),
    "container": Fact(False, "`docker`, `podman`, `apptainer` or another container; empty if nothing tells of one"),
    "container_image": Fact(False, "its image, as far as a file or a variable names it"),
    "slurm_topology": Fact(False, "switches and name of the node, as in SLURM_TOPOLOGY_ADDR"),
    "cgroup_memory_mib": Fact(False, "memory that cgroups allow, in MiB; empty without a limit"),
    "gpu_power_limit_w": Fact(True, "power limit that the driver enforces, in W"),
    "gpu_max_clocks_mhz": Fact(True, "highest clocks, in MHz; locked clocks (`nvidia-smi -lgc`) cannot be read"),
    "gpu_application_clocks_mhz": Fact(True, "clocks that applications get (`nvidia-smi -ac`), in MHz"),
    "gpu_ecc": Fact(True, "whether memory is checked by ECC"),
    "gpu_ecc_errors": Fact(False, "errors that ECC found in the life of the GPU"),
    "gpu_persistence": Fact(False, "whether the driver stays loaded without users"),
    "gpu_mig": Fact(True, "whether MIG divides the GPU"),
    "gpu_pcie_generation": Fact(True, "highest PCIe generation of the GPU in its slot"),
    "gpu_pcie_width": Fact(True, "PCIe lanes in use"),
    "gpu_nvlinks": Fact(True, "active NVLinks of a GPU"),
    "gpu_numa_nodes": Fact(False, "NUMA nodes of the GPUs"),
    "gpu_topology": Fact(False, "paths between pairs of GPUs, in the words of `nvidia-smi topo -m`"),
}
OF_GPUS = tuple(name for name in FACTS if name.startswith("gpu_"))


def hardware(machine: Machine, environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the facts of this machine by name; None for those that cannot be read, and none of GPUs without GPUs.

    ``environment``: the variables of this process.
    """
    return {
        **host_hardware(),
        **network_hardware(),
        **container_facts(environment),
        **gpu_hardware([gpu.uuid for gpu in machine.gpus]),
    }
