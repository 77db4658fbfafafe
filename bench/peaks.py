"""Dense peak arithmetic rates of devices: what MFU is measured against.

Only devices whose figure the vendor publishes, by the exact name that CUDA gives them: an unknown one has no peak.
"""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """TFLOP/s. ``fp32`` is without tensor cores, as TF32 is off; ``bf16`` is dense, half of the sparse figure."""

    fp32: float | None
    bf16: float | None
    source: str


_A100 = Peak(19.5, 312, "NVIDIA A100 datasheet, dense")
_H100_SXM = Peak(67, 989, "NVIDIA H100 SXM datasheet, dense")
_H100_PCIE = Peak(51, 756, "NVIDIA H100 PCIe datasheet, dense")

PEAKS: dict[str, Peak] = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": _H100_PCIE,
    "NVIDIA H100 NVL": Peak(60, 835, "NVIDIA H100 NVL datasheet, dense"),
    "NVIDIA H200": Peak(67, 989, "NVIDIA H200 SXM datasheet, dense"),
    "NVIDIA H20": Peak(None, 148, "NVIDIA H20 datasheet, dense"),
    "NVIDIA GH200 480GB": Peak(67, 989, "NVIDIA GH200 datasheet, dense"),
    "NVIDIA B200": Peak(None, 2250, "NVIDIA DGX B200 datasheet, dense"),
    "NVIDIA L4": Peak(30.3, 121, "NVIDIA L4 datasheet, dense"),
    "NVIDIA L40S": Peak(91.6, 362, "NVIDIA L40S datasheet, dense"),
    "NVIDIA A10": Peak(31.2, 125, "NVIDIA A10 datasheet, dense"),
    "NVIDIA A30": Peak(10.3, 165, "NVIDIA A30 datasheet, dense"),
    "NVIDIA A40": Peak(37.4, 149.7, "NVIDIA A40 datasheet, dense"),
    "NVIDIA RTX A6000": Peak(38.7, 154.85, "NVIDIA RTX A6000 datasheet, dense"),
    "Tesla T4": Peak(8.1, None, "NVIDIA T4 datasheet"),
    "Tesla V100-SXM2-16GB": Peak(15.7, None, "NVIDIA V100 datasheet"),
    "Tesla V100-SXM2-32GB": Peak(15.7, None, "NVIDIA V100 datasheet"),
}


def peak_tflops(device: str, precision: str) -> tuple[float, str] | None:
    """(dense peak in TFLOP/s, its source) for a device and a value of ``--precision``; None where unknown."""
    peak = PEAKS.get(device)
    if peak is None:
        return None
    rate = peak.fp32 if precision == "fp32" else peak.bf16
    return None if rate is None else (rate, peak.source)
