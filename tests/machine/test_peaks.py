"""Peaks against the vendors' documents, which often print the sparse figure: dense is half of it."""

from __future__ import annotations

import pytest

from bench.machine.peaks import PEAKS, peak_tflops
from bench.plan.options import PRECISIONS, arithmetic


def peak_of(device: str, precision: str) -> tuple[float, str] | None:
    return peak_tflops(device, arithmetic(precision))


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
    known = peak_of(device, "fp32"), peak_of(device, "amp-bf16")
    assert known[0] is not None
    assert known[1] is not None
    assert known[0][0] == fp32
    assert known[1][0] == pytest.approx(sparse_bf16 / 2, rel=0.002)  # datasheets round
    assert known[0][1] == known[1][1] == PEAKS[device].source


@pytest.mark.parametrize(
    ("device", "sparse_tf32"),
    [
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H20", 148),  # published dense as well: 74
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA L4", 120),
        ("NVIDIA L40S", 366),
        ("NVIDIA A10", 125),
        ("NVIDIA A30", 165),
        ("NVIDIA A40", 149.6),
        ("NVIDIA RTX A6000", 154.8),
    ],
)
def test_peak_of_tf32_is_the_datasheets(device: str, sparse_tf32: float) -> None:
    known = peak_of(device, "tf32")
    assert known is not None
    assert known[0] == pytest.approx(sparse_tf32 / 2, rel=0.007)  # A30: 82 printed, 165 sparse
    assert known[1] == PEAKS[device].source


# As the documents print them: both figures of a pair, or the one with sparsity alone.
@pytest.mark.parametrize(
    ("device", "precision", "dense", "sparse"),
    [
        ("NVIDIA L40", "tf32", 90.5, 181),
        ("NVIDIA L40", "bf16", 181.05, 362.1),
        ("NVIDIA L40", "fp8", 362, 724),
        ("NVIDIA L40S", "fp8", 733, 1466),
        ("NVIDIA H100 80GB HBM3", "fp8", None, 3958),
        ("NVIDIA H200", "fp8", None, 3958),
        ("NVIDIA GH200 144G HBM3e", "tf32", None, 989),
        ("NVIDIA GH200 144G HBM3e", "bf16", None, 1979),
        ("NVIDIA GH200 480GB", "fp8", 1979, 3958),
        ("NVIDIA B200", "fp8", 4500, 9000),
        ("NVIDIA B300 SXM6 AC", "fp8", 4500, 9000),
        ("NVIDIA RTX 6000 Ada Generation", "bf16", 364, 728),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "bf16", 503.8, 1007.6),
        ("NVIDIA GeForce RTX 3090", "amp-fp16", 71, 142),
        ("NVIDIA GeForce RTX 4090", "amp-fp16", 165.2, 330.4),
        ("NVIDIA GeForce RTX 4090", "amp-bf16", 165.2, 330.4),
        ("NVIDIA GeForce RTX 4090", "fp8", 330.3, 660.6),
        ("NVIDIA GeForce RTX 5090", "bf16", 209.5, 419),
        ("NVIDIA GeForce RTX 5090", "fp8", 419, 838),
    ],
)
def test_peak_of_a_pair_is_the_dense_one(device: str, precision: str, dense: float | None, sparse: float) -> None:
    known = peak_of(device, precision)
    assert known is not None
    assert known[0] == pytest.approx(dense or sparse / 2, rel=0 if dense else 0.001)
    assert known[0] == pytest.approx(sparse / 2, rel=0.001)


@pytest.mark.parametrize(
    ("device", "rates"),
    [  # where documents have no sparse figures
        ("NVIDIA GB200", {"bf16": 2450, "fp8": 4900}),
        ("NVIDIA GB300", {"bf16": 2450, "fp8": 4900}),
        ("NVIDIA L40", {"fp32": 90.5, "tf32": 90.5, "fp16": 181.05, "bf16": 181.05, "fp8": 362}),
        ("NVIDIA GeForce RTX 3090", {"fp32": 35.6, "fp16": 71, "bf16": 71}),
        ("NVIDIA GeForce RTX 4090", {"fp32": 82.6, "fp16": 165.2, "bf16": 165.2, "fp8": 330.3}),
        ("Quadro RTX 5000", {"fp32": 11.2, "fp16": 89.2}),
        ("Tesla V100-PCIE-16GB", {"fp32": 14, "fp16": 112}),
        ("Tesla V100-PCIE-32GB", {"fp32": 14, "fp16": 112}),
        ("Tesla V100S-PCIE-32GB", {"fp32": 16.4, "fp16": 130}),
        ("AMD Instinct MI250X", {"bf16": 383 / 2}),  # the figure is of both dies, and each is a device
        ("AMD Instinct MI300X", {"fp32": 163.4, "tf32": 653.7, "fp16": 1307.4, "bf16": 1307.4, "fp8": 2614.9}),
        ("AMD Instinct MI325X", {"bf16": 1307.4}),
        ("AMD Instinct MI355X", {"bf16": 2500}),
        ("GAUDI2", {"bf16": 432}),
        ("GAUDI3", {"bf16": 1835, "fp8": 1835}),
    ],
)
def test_what_was_not_read_is_empty(device: str, rates: dict[str, float]) -> None:
    kinds = ("fp32", "tf32", "fp16", "bf16", "fp8")
    assert {kind: found[0] for kind in kinds if (found := peak_of(device, kind))} == rates


def test_a_name_of_several_products_has_no_peak() -> None:
    assert peak_of("AMD Instinct MI250X/MI250", "bf16") is None  # 191.5 and 181 TFLOP/s


H200, T4, V100 = "NVIDIA H200 SXM datasheet, dense", "NVIDIA T4 datasheet", "NVIDIA V100 datasheet"


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H200", "fp32", (67, H200)),
        ("NVIDIA H200", "tf32", (494.5, H200)),
        ("NVIDIA H200", "amp-bf16", (989, H200)),
        ("NVIDIA H200", "amp-fp16", (989, H200)),
        ("NVIDIA H200", "bf16", (989, H200)),
        # before Ampere: neither TF32 nor bfloat16
        ("Tesla T4", "fp32", (8.1, T4)),
        ("Tesla T4", "tf32", None),
        ("Tesla T4", "amp-bf16", None),
        ("Tesla T4", "amp-fp16", (65, T4)),
        ("Tesla T4", "bf16", None),
        ("Tesla V100-SXM2-32GB", "fp32", (15.7, V100)),
        ("Tesla V100-SXM2-32GB", "tf32", None),
        ("Tesla V100-SXM2-32GB", "amp-fp16", (125, V100)),
        ("Tesla V100-SXM2-32GB", "bf16", None),
        ("NVIDIA B200", "tf32", None),
        ("NVIDIA B200", "bf16", (2250, "NVIDIA DGX B200 datasheet, dense")),
        # 4500 with sparsity
        ("NVIDIA B300 SXM6 AC", "bf16", (2250, "NVIDIA NeMo RL, nemo_rl/utils/flops_tracker.py, dense")),
        ("NVIDIA B300 SXM6 AC", "tf32", None),
        ("NVIDIA GB200", "fp16", None),
        ("NVIDIA H200", "fp8", (1979, H200)),
        ("NVIDIA H200", "fp8-rowwise", (1979, H200)),
        ("Tesla T4", "fp8", None),
        ("NVIDIA H20", "fp32", None),
        ("NVIDIA H20", "tf32", (74, "NVIDIA H20 datasheet, dense")),
    ],
)
def test_precision_chooses_the_rate(device: str, precision: str, peak: tuple[float, str] | None) -> None:
    assert peak_of(device, precision) == peak


def test_every_precision_is_answered_for_every_device() -> None:
    for device, peak in PEAKS.items():
        rates = {precision: peak_of(device, precision) for precision in PRECISIONS}
        assert rates["amp-bf16"] == rates["bf16"], device
        assert rates["fp8"] == rates["fp8-rowwise"], device
        known = {precision: rate[0] for precision, rate in rates.items() if rate}
        assert all(rate[1] == peak.source for rate in rates.values() if rate)
        if "tf32" in known:  # Ampere and later: half of the rate of the 16-bit types, which are alike
            assert known["amp-fp16"] == known["amp-bf16"], device
            assert known["tf32"] == pytest.approx(known["amp-bf16"] / 2, rel=0.012), device  # L40S: 183 of 362
            assert known["tf32"] >= known.get("fp32", 0), device


def test_whole_answer() -> None:
    assert peak_of("NVIDIA H200", "amp-bf16") == (989, "NVIDIA H200 SXM datasheet, dense")
    assert peak_of("NVIDIA L40S", "amp-bf16") == (362, "NVIDIA L40S datasheet, dense")  # printed beside the sparse


@pytest.mark.parametrize("device", ["cpu", "", "NVIDIA H200 NVL", "nvidia h200", "NVIDIA H2000"])
def test_unknown_device_has_no_peak(device: str) -> None:
    assert peak_of(device, "fp32") is None
    assert peak_of(device, "amp-bf16") is None
    assert [peak_of(device, precision) for precision in PRECISIONS] == [None] * 7


def test_unpublished_or_absent_rate_is_no_peak() -> None:
    assert peak_of("Tesla T4", "amp-bf16") is None  # Turing has no bfloat16
    assert peak_of("Tesla T4", "fp32") == (8.1, "NVIDIA T4 datasheet")
    assert peak_of("NVIDIA B200", "fp32") is None


def test_tensor_cores_are_faster_than_fp32_on_every_device() -> None:
    for device, peak in PEAKS.items():
        if peak.fp32 is not None and peak.bf16 is not None:
            assert peak.bf16 > peak.fp32, device
