"""Peaks against the vendors' datasheets, which print the sparse figure: dense is half of it."""

from __future__ import annotations

import pytest

from bench.peaks import PEAKS, peak_tflops


@pytest.mark.parametrize(
    ("device", "fp32", "sparse_bf16"),
    [
        ("NVIDIA A100-SXM4-80GB", 19.5, 624),
        ("NVIDIA A100 80GB PCIe", 19.5, 624),
        ("NVIDIA H100 80GB HBM3", 67, 1979),
        ("NVIDIA H100 PCIe", 51, 1513),
        ("NVIDIA H100 NVL", 60, 1671),
        ("NVIDIA H200", 67, 1979),
        ("NVIDIA A10", 31.2, 250),
        ("NVIDIA A30", 10.3, 330),
        ("NVIDIA A40", 37.4, 299.4),
        ("NVIDIA RTX A6000", 38.7, 309.7),
    ],
)
def test_peak_is_the_datasheets(device: str, fp32: float, sparse_bf16: float) -> None:
    known = peak_tflops(device, "fp32"), peak_tflops(device, "amp-bf16")
    assert known[0] is not None
    assert known[1] is not None
    assert known[0][0] == fp32
    assert known[1][0] == pytest.approx(sparse_bf16 / 2, rel=0.002)  # datasheets round
    assert known[0][1] == known[1][1] == PEAKS[device].source


def test_whole_answer() -> None:
    assert peak_tflops("NVIDIA H200", "amp-bf16") == (989, "NVIDIA H200 SXM datasheet, dense")
    assert peak_tflops("NVIDIA L40S", "amp-bf16") == (362, "NVIDIA L40S datasheet, dense")  # printed beside the sparse


@pytest.mark.parametrize("device", ["cpu", "", "NVIDIA H200 NVL", "nvidia h200", "NVIDIA H2000"])
def test_unknown_device_has_no_peak(device: str) -> None:
    assert peak_tflops(device, "fp32") is None
    assert peak_tflops(device, "amp-bf16") is None


def test_unpublished_or_absent_rate_is_no_peak() -> None:
    assert peak_tflops("Tesla T4", "amp-bf16") is None  # Turing has no bfloat16
    assert peak_tflops("Tesla T4", "fp32") == (8.1, "NVIDIA T4 datasheet")
    assert peak_tflops("NVIDIA B200", "fp32") is None


def test_tensor_cores_are_faster_than_fp32_on_every_device() -> None:
    for device, peak in PEAKS.items():
        if peak.fp32 is not None and peak.bf16 is not None:
            assert peak.bf16 > peak.fp32, device
