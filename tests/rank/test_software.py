"""The versions of software that a rank reports."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from bench.rank.software import software


def test_training_packages_are_those_that_were_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "transformers", "peft"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert software()["packages"] == ""
    for name, version in (("transformers", "5.24.0"), ("peft", "0.17"), ("timm", None)):
        module = ModuleType(name)
        module.__dict__["__version__"] = version  # some packages set it to something else
        monkeypatch.setitem(sys.modules, name, module)
    assert software()["packages"] == "peft 0.17;transformers 5.24.0"
