"""The versions of software that a rank reports."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from bench.rank.software import nccl_plugins, software


def test_training_packages_are_those_that_were_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "transformers", "peft", "torchao"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert software()["packages"] == ""
    for name, version in (("transformers", "5.24.0"), ("peft", "0.17"), ("timm", None)):
        module = ModuleType(name)
        module.__dict__["__version__"] = version  # some packages set it to something else
        monkeypatch.setitem(sys.modules, name, module)
    assert software()["packages"] == "peft 0.17;transformers 5.24.0"


def test_the_plugins_of_nccl_are_those_that_the_process_has_mapped() -> None:
    maps = "7f01-7f02 r-xp 0 fd:00 1  /usr/lib/libnccl.so.2\n" + "".join(
        f"7f03-7f04 {how} 0 fd:00 2  /opt/amazon/lib/{name}\n"
        for how in ("r-xp", "r--p")
        for name in ("libnccl-net-ofi.so", "libnccl-tuner.so.1", "libnccl-network.txt")
    )
    assert nccl_plugins(maps) == "libnccl-net-ofi.so, libnccl-tuner.so"
    assert nccl_plugins("7f03-7f04 r-xp 0 fd:00 2  /usr/lib/libnccl.so.2\n") == ""
