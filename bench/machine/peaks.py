"""Dense peak arithmetic rates of devices, by which MFU is computed.

The table has devices whose rates the vendor publishes, by the exact names that CUDA reports; others have no peak.
"""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """Peak rates in TFLOP/s: ``fp32`` without tensor cores, the others dense with tensor cores."""

    fp32: float | None
    tf32: float | None
    fp16: float | None
    bf16: float | None
    source: str


def _ampere(fp32: float | None, tf32: float | None, half: float, source: str) -> Peak:
    """Return the peak of a GPU from Ampere on, where float16 and bfloat16 have the same rate."""
    return Peak(fp32, tf32, half, half, f"NVIDIA {source} datasheet, dense")


_A100 = _ampere(19.5, 156, 312, "A100")
_V100 = Peak(15.7, None, 125, None, "NVIDIA V100 datasheet")

PEAKS: dict[str, Peak] = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _ampere(67, 494.5, 989, "H100 SXM"),
    "NVIDIA H100 PCIe": _ampere(51, 378, 756, "H100 PCIe"),
    "NVIDIA H100 NVL": _ampere(60, 417.5, 835, "H100 NVL"),
    "NVIDIA H200": _ampere(67, 494.5, 989, "H200 SXM"),
    "NVIDIA H20": _ampere(None, 74, 148, "H20"),
    "NVIDIA GH200 480GB": _ampere(67, 494.5, 989, "GH200"),
    "NVIDIA B200": _ampere(None, None, 2250, "DGX B200"),
    "NVIDIA B300 SXM6 AC": Peak(None, None, 2250, 2250, "NVIDIA NeMo RL, nemo_rl/utils/flops_tracker.py, dense"),
    "NVIDIA L4": _ampere(30.3, 60, 121, "L4"),
    "NVIDIA L40S": _ampere(91.6, 183, 362, "L40S"),
    "NVIDIA A10": _ampere(31.2, 62.5, 125, "A10"),
    "NVIDIA A30": _ampere(10.3, 82, 165, "A30"),
    "NVIDIA A40": _ampere(37.4, 74.8, 149.7, "A40"),
    "NVIDIA RTX A6000": _ampere(38.7, 77.4, 154.85, "RTX A6000"),
    "Tesla T4": Peak(8.1, None, 65, None, "NVIDIA T4 datasheet"),
    "Tesla V100-SXM2-16GB": _V100,
    "Tesla V100-SXM2-32GB": _V100,
}


def peak_tflops(device: str, precision: str | None) -> tuple[float, str] | None:
    """Return (dense peak in TFLOP/s, its source) of a device at a value of ``--precision``; None if unknown."""
    peak = PEAKS.get(device)
    rate = getattr(peak, precision.removeprefix("amp-")) if peak and precision else None
    return None if peak is None or rate is None else (rate, peak.source)
