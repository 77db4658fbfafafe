"""Finds the workloads of this folder, and those of adapters, without ``bench``."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from workloads import ADAPTERS

HERE = Path(__file__).parent


def module_of(name: str) -> ModuleType:
    """Return the module ``name`` of this folder; an installed package of that name does no harm."""
    if str(HERE) not in sys.path:
        sys.path.append(str(HERE))
    spec = importlib.util.spec_from_file_location(f"real_model_{name}", HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workload_of(name: str, **options: Any) -> Any:
    """Return the workload ``module.Class`` of this folder, or that of an adapter such as ``timm``."""
    if name in ADAPTERS:
        module, _, kind = ADAPTERS[name].target.partition(":")
        return getattr(importlib.import_module(module), kind)(**options)
    module, _, kind = name.partition(".")
    return getattr(module_of(module), kind)(**options)
