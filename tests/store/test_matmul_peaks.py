"""Measured peaks: their arithmetic, and the files in which they are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bench.messages.matmul_peak import MatmulPeak, Product
from bench.store.matmul_peaks import all_stored, machine_facts, rate_facts, store, stored
from bench.untrusted.rank_files import NonsenseError

HOST = {
    **{"cpu_model": "A processor", "cpu_cores": 2, "cpu_threads": 4, "cpus_allowed": 4, "cpu_quota": None},
    **{"driver": "570.1", "ram_gib": 8.0, "hostname": "here"},
    "settings": json.dumps({"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "1", "MKL_DYNAMIC": "false"}),
    "hardware": json.dumps({"smt": "on", "gpu_ecc": "on", "kernel": "6.8", "cpu_governor": None}),
}
ON_CPU = machine_facts(HOST, "cpu", "2.14.0")
FACTS = rate_facts(ON_CPU, "fp32", 2)
PEAK = MatmulPeak("cpu", "fp32", 2, "2.14.0", [Product(100, 200, 50, 5, 1e-3), Product(1000, 1000, 1000, 5, 0.5)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stepbench" / "matmul-peaks"


def test_a_product_has_two_flops_a_multiply_add() -> None:
    # 2 x 4096 x 2048 x 1024 = 17,179,869,184 FLOPs in 10 ms
    assert Product(4096, 2048, 1024, 5, 0.01).tflops == pytest.approx(1.7179869184)


def test_the_peak_is_the_fastest_shape() -> None:
    # 2 x 100 x 200 x 50 / 1 ms = 0.002 TFLOP/s; 2 x 10^9 / 0.5 s = 0.004
    assert PEAK.tflops == pytest.approx(0.004)
    assert PEAK.best == Product(1000, 1000, 1000, 5, 0.5)


def test_what_a_rate_depends_on() -> None:
    """Not the machine's name, its memory, or GPUs of a case on the CPU; facts that are not known are left out."""
    assert ON_CPU == {
        **{"cpu_model": "A processor", "cpu_cores": "2", "cpu_threads": "4", "cpus_allowed": "4", "driver": "570.1"},
        **{"smt": "on", "MKL_DYNAMIC": "false", "device": "cpu", "torch": "2.14.0"},
    }
    assert machine_facts(HOST, "A GPU", "2.14.0") == {**ON_CPU, "device": "A GPU", "gpu_ecc": "on"}
    assert rate_facts(ON_CPU, "bf16", 2) == {**ON_CPU, "type": "bf16", "threads": "2"}
    assert rate_facts(ON_CPU, "bf16", None)["threads"] == ""


def test_a_stored_peak_is_found_again_by_the_same_facts(cache: Path) -> None:
    assert stored(FACTS) is None
    store(PEAK, FACTS)
    found = stored(FACTS)
    assert found is not None
    assert (found.peak, found.facts) == (PEAK, FACTS)
    assert found.measured_at.endswith("+00:00")
    for other in ({"threads": "1"}, {"type": "tf32"}, {"torch": "2.14.1"}, {"smt": "off"}, {"MKL_DYNAMIC": "true"}):
        assert stored({**FACTS, **other}) is None


def test_a_peak_that_was_measured_again_replaces_the_earlier_one(cache: Path) -> None:
    store(PEAK, FACTS)
    faster = dataclasses.replace(PEAK, products=[Product(1000, 1000, 1000, 5, 0.25)])
    store(faster, FACTS)
    found = stored(FACTS)
    assert found is not None
    assert found.peak == faster
    assert len(list(cache.iterdir())) == 1


def test_all_peaks_of_a_machine_are_listed_by_type_and_threads(cache: Path) -> None:
    for kind, threads in (("fp32", 2), ("bf16", 2), ("fp32", 1)):
        store(dataclasses.replace(PEAK, type=kind, threads=threads), rate_facts(ON_CPU, kind, threads))
    store(dataclasses.replace(PEAK, device="A GPU"), rate_facts(machine_facts(HOST, "A GPU", "2.14.0"), "fp32", None))
    assert [(one.peak.type, one.peak.threads) for one in all_stored(ON_CPU)] == [("bf16", 2), ("fp32", 1), ("fp32", 2)]
    assert all_stored(machine_facts(HOST, "cpu", "2.13.0")) == []


def altered(content: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**content, **changes})


def test_a_damaged_or_foreign_file_counts_as_missing(cache: Path) -> None:
    store(PEAK, FACTS)
    (file,) = cache.iterdir()
    whole = file.read_text()
    content = json.loads(whole)
    peak = content["peak"]
    product = peak["products"][0]
    for text in (
        *("", "{", "[1]", "null", whole[:-9]),
        altered(content, peak={**peak, "products": []}),
        altered(content, peak={**peak, "products": [{**product, "median_s": 0.0}]}),
        altered(content, peak={**peak, "products": [{**product, "median_s": "soon"}]}),
        altered(content, peak={**peak, "more": 1}),
        altered(content, facts={**FACTS, "cpu_model": "Another processor"}),  # copied from another machine
        altered(content, measured_at=3),
    ):
        file.write_text(text)
        assert stored(FACTS) is None, text
        assert all_stored(ON_CPU) == []
    file.unlink()
    file.symlink_to("/dev/zero")
    assert stored(FACTS) is None
    file.unlink()
    file.write_text(whole)
    assert stored(FACTS) is not None


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert stored(FACTS) is None
    assert all_stored(ON_CPU) == []
    with pytest.raises(OSError, match="can be written to"):
        store(PEAK, FACTS)


def test_what_a_rank_leaves_is_checked(tmp_path: Path) -> None:
    with pytest.raises(NonsenseError, match="is missing"):
        MatmulPeak.read(tmp_path)
    PEAK.write(tmp_path)
    assert MatmulPeak.read(tmp_path) == PEAK
    dataclasses.replace(PEAK, products=[]).write(tmp_path)
    with pytest.raises(NonsenseError, match="has no time of a product"):
        MatmulPeak.read(tmp_path)
