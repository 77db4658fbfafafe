"""Facts about the hardware, from folders with the texts that kernels write, and from an NVML made by hand."""

from __future__ import annotations

import stat
from pathlib import Path

import fake_nvml
import pytest

from bench.machine.container import container_facts
from bench.machine.gpu_hardware import gpu_hardware
from bench.machine.gpus import Gpu, Machine
from bench.machine.hardware import FACTS, OF_GPUS, hardware
from bench.machine.host_hardware import host_hardware
from bench.machine.network_hardware import network_hardware


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_every_fact_is_in_the_table_and_the_table_has_no_others() -> None:
    assert list(hardware(Machine(), {})) == [name for name in FACTS if name not in OF_GPUS]
    assert set(gpu_hardware(["GPU-a"])) == set(OF_GPUS)


# -- the host -------------------------------------------------------------------------------------------------------

INTEL = {
    "devices/system/cpu/cpufreq/policy0/scaling_governor": "performance",
    "devices/system/cpu/cpufreq/policy1/scaling_governor": "powersave",
    "devices/system/cpu/cpufreq/policy2/scaling_governor": "performance",
    "devices/system/cpu/intel_pstate/no_turbo": "1",
    "devices/system/cpu/smt/active": "1",
    "devices/system/cpu/cpuidle/current_driver": "intel_idle",
    "module/intel_idle/parameters/max_cstate": "9",
    "module/processor/parameters/max_cstate": "8",
    "kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    "devices/system/node/online": "0-1",
    "kernel/iommu_groups/0/type": "DMA-FQ",
    "kernel/iommu_groups/1/type": "identity",
    "devices/system/cpu/vulnerabilities/meltdown": "Not affected",
    "devices/system/cpu/vulnerabilities/mds": "Vulnerable: Clear CPU buffers attempted, no microcode",
    "devices/system/cpu/vulnerabilities/spectre_v2": "Mitigation: Retpolines; STIBP: disabled; RSB filling",
    "devices/system/cpu/vulnerabilities/spec_store_bypass": "Mitigation: Speculative Store Bypass disabled via prctl",
}
PROC = {
    "sys/kernel/numa_balancing": "1",
    "sys/kernel/osrelease": "6.8.0-31-generic",
    "cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=1-2 iommu=pt ds=nocloud;token=secret mitigations=auto -- mem=9",
}


def test_facts_of_the_host(tmp_path: Path) -> None:
    write(tmp_path / "sys", INTEL)
    write(tmp_path / "proc", PROC)
    assert host_hardware(tmp_path / "sys", tmp_path / "proc") == {
        "cpu_governor": "performance, powersave",
        "cpu_turbo": "off",
        "smt": "on",
        "cpu_idle_driver": "intel_idle",
        "max_cstate": "9",
        "transparent_hugepages": "madvise",
        "numa_nodes": "0-1",
        "numa_balancing": "on",
        "iommu": "DMA-FQ, identity",
        "kernel": "6.8.0-31-generic",
        "kernel_parameters": "iommu=pt mitigations=auto",
        "mitigations": "spec_store_bypass: Speculative Store Bypass disabled via prctl; spectre_v2: Retpolines",
    }


def test_what_the_kernel_does_not_tell_is_unknown(tmp_path: Path) -> None:
    assert set(host_hardware(tmp_path, tmp_path).values()) == {None}
    assert set(network_hardware(tmp_path).values()) == {None}


@pytest.mark.parametrize(
    ("files", "fact", "value"),
    [
        ({"devices/system/cpu/cpufreq/boost": "1"}, "cpu_turbo", "on"),  # acpi-cpufreq, amd-pstate
        ({"devices/system/cpu/intel_pstate/no_turbo": "0"}, "cpu_turbo", "on"),
        ({"devices/system/cpu/smt/active": "0"}, "smt", "off"),
        ({"devices/system/cpu/cpuidle/current_driver": "haltpoll"}, "max_cstate", None),
        ({"devices/system/cpu/vulnerabilities/mds": "Not affected"}, "mitigations", "none"),
        ({"kernel/iommu_groups/0/devices/x": ""}, "iommu", "on"),  # kernels before 5.11 tell no type
    ],
)
def test_other_ways_of_telling(tmp_path: Path, files: dict[str, str], fact: str, value: str | None) -> None:
    write(tmp_path, {**files, "module/intel_idle/parameters/max_cstate": "9"})
    assert host_hardware(tmp_path, tmp_path)[fact] == value


def test_a_host_without_groups_has_no_iommu(tmp_path: Path) -> None:
    (tmp_path / "kernel/iommu_groups").mkdir(parents=True)
    assert host_hardware(tmp_path, tmp_path)["iommu"] == "off"


# -- network --------------------------------------------------------------------------------------------------------


def card(sys: Path, name: str, driver: str, speed: str, state: str = "up") -> None:
    write(sys, {f"class/net/{name}/operstate": state, f"class/net/{name}/speed": speed})
    (sys / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    (sys / "class/net" / name / "device").mkdir()
    (sys / "class/net" / name / "device/driver").symlink_to(sys / "drivers" / driver)


def test_network_cards_in_use_with_their_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ethtool = tmp_path / "bin/ethtool"
    said = '[ "$2" = eth0 ] && printf "driver: mlx5_core\\nfirmware-version: 20.31.1014 (MT_23)\\n"'
    write(tmp_path / "bin", {"ethtool": f"#!/bin/sh\n{said}"})
    ethtool.chmod(ethtool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(ethtool.parent))
    sys = tmp_path / "sys"
    card(sys, "eth0", "mlx5_core", "100000")
    card(sys, "eth1", "virtio_net", "-1")
    card(sys, "eth2", "ice", "25000", state="down")
    write(sys, {"class/net/lo/operstate": "unknown", "class/net/docker0/operstate": "up"})
    assert network_hardware(sys)["network_cards"] == (
        "eth0: mlx5_core, 100000 Mbit/s, firmware 20.31.1014 (MT_23); eth1: virtio_net"
    )


def test_rdma_devices_and_gpudirect(tmp_path: Path) -> None:
    device = "class/infiniband/mlx5_0"
    files = {"fw_ver": "28.39.1002", "ports/1/state": "4: ACTIVE", "ports/1/rate": "400 Gb/sec (4X NDR)"}
    write(tmp_path, {f"{device}/{name}": text for name, text in files.items()})
    write(tmp_path, {f"{device}/ports/1/link_layer": "InfiniBand", f"{device}/ports/2/state": "1: DOWN"})
    assert network_hardware(tmp_path) == {
        "network_cards": "none",
        "rdma_devices": "mlx5_0: InfiniBand 400 Gb/sec (4X NDR), firmware 28.39.1002",
        "gpudirect_module": None,
    }
    (tmp_path / "module/nvidia_peermem").mkdir(parents=True)
    assert network_hardware(tmp_path)["gpudirect_module"] == "nvidia_peermem"
    (tmp_path / "module/nvidia_peermem").rmdir()
    assert network_hardware(tmp_path)["gpudirect_module"] == "none"


# -- containers -----------------------------------------------------------------------------------------------------

CONTAINERENV = 'engine="podman-4.9"\nname="x"\nimage="ghcr.io/us/train:1"\nimageid="0f3c"'


@pytest.mark.parametrize(
    ("files", "variables", "kind", "image"),
    [
        ({}, {}, None, None),
        ({".dockerenv": ""}, {}, "docker", None),
        ({"run/.containerenv": CONTAINERENV}, {"container": "podman"}, "podman", "ghcr.io/us/train:1 0f3c"),
        ({"run/.containerenv": ""}, {}, "podman", None),  # empty without root
        ({}, {"APPTAINER_CONTAINER": "/images/train.sif"}, "apptainer", "/images/train.sif"),
        ({".dockerenv": ""}, {"SINGULARITY_CONTAINER": "/images/old.sif"}, "apptainer", "/images/old.sif"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes", None),
        ({}, {"container": "lxc"}, "lxc", None),
    ],
)
def test_marks_of_containers(
    tmp_path: Path, files: dict[str, str], variables: dict[str, str], kind: str | None, image: str | None
) -> None:
    write(tmp_path, files)
    found = container_facts(variables, tmp_path, tmp_path / "cgroup")
    assert (found["container"], found["container_image"]) == (kind, image)


def test_limit_of_memory_and_place_in_slurms_network(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/job", "cgroup/job/memory.max": str(64 * 2**30)})
    found = container_facts({"SLURM_TOPOLOGY_ADDR": "s0.s1.n7"}, tmp_path, tmp_path / "cgroup")
    assert (found["cgroup_memory_mib"], found["slurm_topology"]) == ("65536", "s0.s1.n7")


# -- GPUs -----------------------------------------------------------------------------------------------------------

H100 = {
    "limit_milliwatts": 700_000,
    "max_clocks": {fake_nvml.NVML_CLOCK_SM: 1980, fake_nvml.NVML_CLOCK_MEM: 2619},
    "application_clocks": {fake_nvml.NVML_CLOCK_SM: 1755, fake_nvml.NVML_CLOCK_MEM: 2619},
    "ecc": 1,
    "ecc_errors": {0: 3, 1: 0},  # corrected, uncorrected
    "persistence": 1,
    "mig": 0,
    "pcie_generation": 5,
    "pcie_width": 16,
    "nvlinks": {**dict.fromkeys(range(17), 1), 17: 0},
    "pci": (0, 0x65, 0),
    "ancestors": {"GPU-b": 40, "GPU-c": 50},
}


def test_facts_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"bus/pci/devices/0000:65:00.0/numa_node": "0", "bus/pci/devices/0001:ca:00.0/numa_node": "-1"})
    slower = {**H100, "limit_milliwatts": 350_000, "pcie_width": 8, "pci": (1, 0xCA, 0), "ancestors": {"GPU-c": 50}}
    library = fake_nvml.Library(
        fake_nvml.Device("GPU-a", facts=H100),
        fake_nvml.Device("GPU-b", facts=slower),
        fake_nvml.Device("GPU-c", facts=H100),
    ).load(monkeypatch)
    assert gpu_hardware(["GPU-a", "GPU-b", "GPU-c"], tmp_path) == {
        "gpu_power_limit_w": "350, 700",
        "gpu_max_clocks_mhz": "SM 1980 / memory 2619",
        "gpu_application_clocks_mhz": "SM 1755 / memory 2619",
        "gpu_ecc": "on",
        "gpu_ecc_errors": "3 corrected / 0 not",
        "gpu_persistence": "on",
        "gpu_mig": "off",
        "gpu_pcie_generation": "5",
        "gpu_pcie_width": "16, 8",
        "gpu_nvlinks": "17",
        "gpu_numa_nodes": "0",
        "gpu_topology": "NODE x1, SYS x2",
    }
    assert library.open == 0


def test_what_a_gpu_or_its_driver_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GeForce has no ECC and no NVLink, and an old driver lacks functions."""
    facts = {"limit_milliwatts": 450_500, "pcie_width": 16}
    fake_nvml.Library(
        fake_nvml.Device("GPU-a", facts=facts),
        fake_nvml.Device("GPU-b", handle=fake_nvml.LOST),
        lacks=("nvmlDeviceGetPersistenceMode", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetTopologyCommonAncestor"),
    ).load(monkeypatch)
    found = gpu_hardware(["GPU-a", "GPU-b", "GPU-gone"], tmp_path)
    assert {name: value for name, value in found.items() if value} == {
        "gpu_power_limit_w": "450.5",
        "gpu_pcie_width": "16",
    }
    assert set(found) == set(OF_GPUS)


def test_gpus_without_a_working_nvml_have_unknown_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml.Library().load(monkeypatch)
    library.init = fake_nvml.DRIVER_NOT_LOADED
    assert gpu_hardware(["GPU-a"]) == dict.fromkeys(gpu_hardware(["GPU-a"]))
    assert gpu_hardware([]) == {}


def test_facts_of_gpus_are_those_of_visible_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**H100, "limit_milliwatts": 300_000}
    fake_nvml.Library(fake_nvml.Device("GPU-a", facts=H100), fake_nvml.Device("GPU-b", facts=other)).load(monkeypatch)
    visible = Machine((Gpu("GPU-b", "NVIDIA H100 80GB HBM3", 81_559.0, (9, 0)),), "550.54.15")
    assert hardware(visible, {})["gpu_power_limit_w"] == "300"
