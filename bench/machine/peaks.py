"""Dense peak arithmetic rates of devices, by which MFU is computed.

The table has devices whose rates could be read in the vendor's document or a quotation of it, by the exact names that
drivers report; others have no peak, nor has a type whose rate was not read. Names that stand for several products, such
as ``AMD Instinct MI250X/MI250``, have none either.
"""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """Peak rates in TFLOP/s: ``fp32`` without tensor cores, the others dense with tensor cores.

    Products of 16 and 8 bits are summed in float32, as PyTorch does.
    """

    fp32: float | None
    tf32: float | None
    fp16: float | None
    bf16: float | None
    source: str
    fp8: float | None = None


def _ampere(fp32: float | None, tf32: float | None, half: float, source: str, fp8: float | None = None) -> Peak:
    """Return the peak of a GPU from Ampere on, where float16 and bfloat16 have the same rate."""
    return Peak(fp32, tf32, half, half, f"NVIDIA {source} datasheet, dense", fp8)


def _only_bf16(bf16: float, source: str, fp8: float | None = None) -> Peak:
    """Return the peak of a device whose source has bfloat16, and perhaps FP8."""
    return Peak(None, None, None, bf16, source, fp8)


_A100 = _ampere(19.5, 156, 312, "A100")
_GH200 = _ampere(67, 494.5, 989, "GH200", 1979)
_V100 = Peak(15.7, None, 125, None, "NVIDIA V100 datasheet")
_V100_PCIE = Peak(14, None, 112, None, "NVIDIA V100 datasheet")
# NVIDIA's own table for MFU, without sparsity. Data sheets of the GB200 say 5 PFLOP/s with sparsity, which is 2 % more.
_EXEMPLAR = "NVIDIA Exemplar Performance, https://github.com/NVIDIA/exemplar-performance, dense"
_AMD = "AMD ROCm documentation, MI300 microarchitecture, https://rocm.docs.amd.com/en/latest/conceptual/gpu-arch/mi300.html"
_ADA = "NVIDIA Ada architecture whitepaper, appendix A, as quoted by others, dense"
_RTX = "NVIDIA RTX Blackwell architecture whitepaper, table 3, as quoted by others, dense"
_RTX_PRO = "NVIDIA RTX PRO Blackwell architecture whitepaper, table 4, as quoted by others, dense"
_GAUDI = "Intel, Gaudi 3 at Hot Chips 2024"
_TORCHTITAN = "torchtitan, torchtitan/tools/utils.py, after AMD, dense"

PEAKS: dict[str, Peak] = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _ampere(67, 494.5, 989, "H100 SXM", 1979),
    "NVIDIA H100 PCIe": _ampere(51, 378, 756, "H100 PCIe"),
    "NVIDIA H100 NVL": _ampere(60, 417.5, 835, "H100 NVL"),
    "NVIDIA H200": _ampere(67, 494.5, 989, "H200 SXM", 1979),
    "NVIDIA H20": _ampere(None, 74, 148, "H20"),
    "NVIDIA GH200 480GB": _GH200,
    "NVIDIA GH200 144G HBM3e": _GH200,
    "NVIDIA B200": _ampere(None, None, 2250, "DGX B200", 4500),
    "NVIDIA GB200": _only_bf16(2450, _EXEMPLAR, 4900),
    "NVIDIA B300 SXM6 AC": Peak(None, None, 2250, 2250, "NVIDIA NeMo RL, nemo_rl/utils/flops_tracker.py, dense", 4500),
    "NVIDIA GB300": _only_bf16(2450, _EXEMPLAR, 4900),
    "NVIDIA L4": _ampere(30.3, 60, 121, "L4"),
    "NVIDIA L40": _ampere(90.5, 90.5, 181.05, "L40", 362),
    "NVIDIA L40S": _ampere(91.6, 183, 362, "L40S", 733),
    "NVIDIA A10": _ampere(31.2, 62.5, 125, "A10"),
    "NVIDIA A30": _ampere(10.3, 82, 165, "A30"),
    "NVIDIA A40": _ampere(37.4, 74.8, 149.7, "A40"),
    "NVIDIA RTX A6000": _ampere(38.7, 77.4, 154.85, "RTX A6000"),
    "NVIDIA RTX 6000 Ada Generation": _only_bf16(364, _RTX_PRO),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": _only_bf16(503.8, _RTX_PRO),
    "NVIDIA GeForce RTX 3090": Peak(
        35.6, None, 71, 71, "NVIDIA GA102 architecture whitepaper, as quoted by others, dense"
    ),
    "NVIDIA GeForce RTX 4090": Peak(82.6, None, 165.2, 165.2, _ADA, 330.3),
    "NVIDIA GeForce RTX 5090": _only_bf16(209.5, _RTX, 419),
    "Quadro RTX 5000": Peak(11.2, None, 89.2, None, "NVIDIA Quadro RTX 5000 datasheet"),
    "Tesla T4": Peak(8.1, None, 65, None, "NVIDIA T4 datasheet"),
    "Tesla V100-SXM2-16GB": _V100,
    "Tesla V100-SXM2-32GB": _V100,
    "Tesla V100-PCIE-16GB": _V100_PCIE,
    "Tesla V100-PCIE-32GB": _V100_PCIE,
    "Tesla V100S-PCIE-32GB": Peak(16.4, None, 130, None, "NVIDIA V100 datasheet"),
    "AMD Instinct MI250X": _only_bf16(191.5, f"{_TORCHTITAN}, one of its two dies"),
    "AMD Instinct MI300X": Peak(163.4, 653.7, 1307.4, 1307.4, _AMD, 2614.9),
    "AMD Instinct MI325X": _only_bf16(1307.4, "nanochat, nanochat/common.py, dense"),
    "AMD Instinct MI355X": _only_bf16(2500, _TORCHTITAN),
    "GAUDI2": _only_bf16(432, _GAUDI),
    "GAUDI3": _only_bf16(1835, _GAUDI, 1835),
}


def peak_tflops(device: str, kind: str | None) -> tuple[float, str] | None:
    """Return (dense peak in TFLOP/s, its source) of a device for a ``kind`` of Peak's rates; None if unknown."""
    peak = PEAKS.get(device)
    rate = getattr(peak, kind) if peak and kind else None
    return None if peak is None or rate is None else (rate, peak.source)
